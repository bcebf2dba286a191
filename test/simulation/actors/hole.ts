/** A hole in a page: its process sees its own bytes there, and its node's around it, until the hole is filled. */
import { Status } from "../../../src/core/base/errors.ts";
import type { Frame } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { ask } from "../conversation.ts";
import { PAGE } from "../plan.ts";
import type { Hole, Process, Thread } from "../process.ts";
import type { World } from "../world.ts";

export function hole(world: World, thread: Thread): void {
  const { process } = thread;
  // The edges of a hole are not private in direct mode.
  if (process.direct) return;
  const open = process.holes.filter(({ state }) => state === "open");
  if (open.length > 0 && world.random.oneIn(2)) fill(world, thread, world.random.pick(open));
  else if (process.lent !== "yes") lend(world, thread);
  else dig(world, thread);
}

const frameOf = (kind: Frame["kind"], { from, to }: Hole): Frame => {
  const page = from - (from % PAGE);
  return { kind, offset: page, aux: from - page, length: to - from };
};

function fill(world: World, thread: Thread, filled: Hole): void {
  const { process } = thread;
  filled.state = "filling";
  ask(world, thread, frameOf(Kind.UNSHADOW, filled), {
    what: "unshadow",
    answered: ({ status }) => {
      if (status === Status.OK) process.holes = process.holes.filter((other) => other !== filled);
    },
  });
}

/** The arbiter gets the memory in which it shows the page. */
function lend(world: World, thread: Thread): void {
  const { process } = thread;
  const answered = ({ status }: { status: Status }): void => {
    if (status === Status.OK) process.lent = "yes";
  };
  if (process.lent === "no") ask(world, thread, { kind: Kind.MEMORY }, { what: "memory", answered });
  process.lent = "asked";
}

function dig(world: World, thread: Thread): void {
  const { random } = world;
  const { process } = thread;
  const from = world.offset(32);
  const to = Math.min(from + random.between(1, 32), from - (from % PAGE) + PAGE);
  if (process.holes.some((other) => other.from < to && from < other.to)) return;
  const dug: Hole = { from, to, mark: random.below(256), state: "digging" };
  process.holes.push(dug);
  ask(world, thread, frameOf(Kind.SHADOW, dug), {
    what: "shadow",
    answered: ({ status }) => {
      if (status === Status.OK) show(process, dug);
    },
  });
}

function show({ shadow }: Process, dug: Hole): void {
  dug.state = "open";
  shadow.fill(dug.mark, dug.from, dug.to);
}
