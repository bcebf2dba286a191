/** An atomic operation: the process gets the value before its place. */
import { Status } from "../../../src/core/base/errors.ts";
import type { Frame } from "../../../src/core/wire/frame.ts";
import { AtomicOp, Kind } from "../../../src/core/wire/kinds.ts";
import type { Random } from "../../support/core-random.ts";
import { checkOldValue, placeWrite } from "../checks/places.ts";
import { ask } from "../conversation.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

export function atomic(world: World, thread: Thread): void {
  const length = world.random.pick([1, 2, 4, 8, 16]);
  const offset = world.offset(length);
  const seen = thread.process.node.memory.subarray(offset, offset + length);
  ask(world, thread, atomicFrame(world.random, offset, seen), {
    what: "atomic",
    answered: ({ status, tag, view }) => {
      if (status === Status.OK) checkOldValue(placeWrite(world, thread, "atomic", tag, view), view);
    },
  });
}

/** Any operation; its comparison, if it is one, often holds. */
export function atomicFrame(random: Random, offset: number, seen: Uint8Array): Frame {
  const body = random.bytes(32);
  if (random.oneIn(2)) body.set(seen, 16);
  return { kind: Kind.ATOMIC, op: random.pick(Object.values(AtomicOp)), length: seen.length, offset, body };
}
