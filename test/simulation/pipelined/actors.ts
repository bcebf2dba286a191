/** The actors of the order `pipelined`: what processes ask for beside storing into their ring. */
import { Status } from "../../../src/core/base/errors.ts";
import { ReplyAt } from "../../../src/core/wire/at.ts";
import { type Frame, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind, PublishOp } from "../../../src/core/wire/kinds.ts";
import { countMasked, publication, storeOf } from "../../support/core-frames.ts";
import type { Random } from "../../support/core-random.ts";
import { atomicFrame } from "../actors/atomic.ts";
import { passGate } from "./gate.ts";
import { ask, type Process, type Runs, SIZE, type World } from "./world.ts";

/** Some bytes of the map, as the process sees them. */
interface Seen {
  offset: number;
  bytes: Uint8Array;
}

type Actor = (world: World, process: Process, seen: Seen) => void;

/** Each as likely as the others. */
const ACTORS: readonly Actor[] = [fence, fence, atomic, atomic, publish, sleep, wake, allocate, free, hole, leave];

export function act(world: World, process: Process): void {
  const { random, plan } = world;
  if (world.gate.owner === process || (plan.gated && !random.oneIn(6))) {
    passGate(world, process);
    return;
  }
  const width = random.pick([1, 2, 4, 8]);
  const offset = someOffset(random, width);
  const bytes = process.place.node.memory.slice(offset, offset + width);
  random.pick(ACTORS)(world, process, { offset, bytes });
}

function someOffset(random: Random, length: number): number {
  const offset = random.pick([random.below(24), 56 + random.below(16), SIZE / 2 - 8 + random.below(16)]);
  return Math.min(offset, SIZE - length);
}

/** Some bytes of neighbouring words, as a publication has them. */
function maskedRun(random: Random): Runs[number] {
  const masks = random.bytes(random.pick([1, 2, 5, 16]));
  for (let whole = random.below(masks.length + 1); whole > 0; whole -= 1) masks[random.below(masks.length)] = 0xff;
  if (countMasked(masks) === 0) masks[0] = 0x81;
  const offset = someOffset(random, 8 * masks.length + 8);
  return [offset - (offset % 8), random.bytes(countMasked(masks)), masks, random.oneIn(3)];
}

/** What a process stores; or, under `release`, publishes. */
export function someRuns({ random, plan }: World): Runs {
  if (plan.publishes && random.oneIn(2)) return Array.from({ length: random.between(1, 3) }, () => maskedRun(random));
  if (plan.heavy && !random.oneIn(3)) {
    return [[0, new Uint8Array(random.between((SIZE * 7) / 8, SIZE)).fill(random.below(256))]];
  }
  return Array.from({ length: random.pick([1, 1, 1, 2, 3]) }, () => {
    const length = random.pick([1, 2, 4, 8, 8, 3, 16, 64, 100, 200, 1000]);
    return [someOffset(random, length), random.bytes(length)] as const;
  });
}

/** A store that does not go through the ring. */
export function store(world: World, process: Process, runs: Runs, answered: () => void): void {
  ask(world, process, storeOf(runs), { answered });
}

function fence(world: World, process: Process): void {
  ask(
    world,
    process,
    { kind: Kind.FENCE },
    {
      answered: () => {
        world.report.fences += 1;
      },
    },
  );
}

function atomic(world: World, process: Process, { offset, bytes }: Seen): void {
  ask(world, process, atomicFrame(world.random, offset, bytes), {
    answered: (_status, view) => world.order.checkOldValue(view),
  });
}

function publish(world: World, process: Process): void {
  const parts: Frame[] = [];
  for (let more = world.random.below(3); more >= 0; more -= 1) {
    parts.push(publication(someRuns(world), { op: more > 0 ? PublishOp.PART : PublishOp.FINAL }));
  }
  ask(world, process, parts.shift() as Frame, { parts });
}

function sleep(world: World, process: Process, { offset, bytes }: Seen): void {
  const body = new Uint8Array(8);
  body.set(world.random.oneIn(4) ? world.random.bytes(bytes.length) : bytes);
  ask(world, process, { kind: Kind.FUTEX_WAIT, offset, length: bytes.length, body }, { sleeps: true });
}

function wake(world: World, process: Process, { offset }: Seen): void {
  ask(world, process, { kind: Kind.FUTEX_WAKE, offset, aux: 0xffffffff });
}

function allocate(world: World, process: Process): void {
  const { random, blocks } = world;
  const frame = { kind: Kind.ALLOC, offset: random.pick([8, 24, 100]), aux: random.pick([1, 8, 64]) };
  ask(world, process, frame, {
    answered: (status, view) => {
      if (status === Status.OK) blocks.push(getUint64(view, ReplyAt.value));
    },
  });
}

function free(world: World, process: Process): void {
  ask(world, process, { kind: Kind.FREE, offset: world.random.pick(world.blocks) });
}

/** A page that a hole covers in part is seen as a copy, until it is filled. */
function hole(world: World, process: Process): void {
  const { random, plan } = world;
  const open = process.hole;
  if (!plan.holes) return;
  if (open !== null) {
    process.hole = null;
    ask(world, process, { kind: Kind.UNSHADOW, offset: 0, length: open.to - open.from, aux: open.from });
    return;
  }
  if (!process.lent) {
    process.lent = true;
    ask(world, process, { kind: Kind.MEMORY });
    return;
  }
  const from = random.below(80);
  const to = from + random.between(1, 60);
  ask(
    world,
    process,
    { kind: Kind.SHADOW, offset: 0, length: to - from, aux: from },
    {
      answered: () => {
        process.hole = { from, to };
      },
    },
  );
}

function leave(world: World, process: Process): void {
  if (!world.random.oneIn(12) || process.steps !== null || process.hole !== null) return;
  if (world.gate.owner === process) return;
  process.state = "going";
  ask(
    world,
    process,
    { kind: Kind.LEAVE },
    {
      answered: () => {
        process.state = "left";
      },
    },
  );
}
