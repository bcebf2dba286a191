/** A thread locks or tries a lock, or unlocks one, mostly one that its process has. */
import { Status } from "../../../src/core/base/errors.ts";
import { encodeText } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { ask } from "../conversation.ts";
import { LOCKS } from "../oracle/locks.ts";
import { keyOf } from "../oracle/sent-frames.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

export function lock(world: World, thread: Thread): void {
  const { random, order } = world;
  const has = LOCKS.filter((name) => order.locks.ownerOf(name) === thread.process.rank);
  if (has.length > 0 && !random.oneIn(6)) unlock(world, thread, random.below(2), random.pick(has));
  else if (random.oneIn(8)) unlock(world, thread, 0, random.pick(LOCKS));
  else take(world, thread, random.oneIn(4), random.pick(LOCKS));
}

/** `op` 1: what it guards is still not well. */
function unlock(world: World, thread: Thread, op: number, name: string): void {
  const frame = { kind: Kind.UNLOCK, op, body: encodeText(name) };
  ask(world, thread, frame, { what: "unlock", statuses: [Status.NOT_OWNER], judged: true });
}

function take(world: World, thread: Thread, tryOnly: boolean, name: string): void {
  const { report, order } = world;
  const { process, channel } = thread;
  const refusals = tryOnly ? [Status.BUSY, Status.AGAIN] : [Status.BUSY];
  ask(
    world,
    thread,
    { kind: Kind.LOCK, op: tryOnly ? 1 : 0, body: encodeText(name) },
    {
      ...{ what: tryOnly ? "trylock" : "lock", statuses: [Status.OWNER_DIED, ...refusals] },
      ...{ endsByLoss: true, cancelable: !tryOnly, judged: true },
      answered: ({ status }) => {
        if (!tryOnly && (status === Status.OK || status === Status.OWNER_DIED)) report.locked += 1;
        if (status === Status.OWNER_DIED) report.inherited += 1;
      },
      waits: () => {
        const tag = thread.request?.tag as number;
        return order.locks.queues(keyOf(process.node.number, channel.index, tag));
      },
    },
  );
}
