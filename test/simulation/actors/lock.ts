/** A thread locks or tries a lock, or unlocks one, mostly one that its process has. */
import { Status } from "../../../src/core/base/errors.ts";
import { ReplyAt } from "../../../src/core/wire/at.ts";
import { CELL_FREE, CELL_OWNED } from "../../../src/core/wire/cell-layout.ts";
import { encodeText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { ask } from "../conversation.ts";
import { LOCKS } from "../oracle/locks.ts";
import { keyOf } from "../oracle/sent-frames.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

export function lock(world: World, thread: Thread): void {
  const { random, order } = world;
  if (byCell(world, thread)) return;
  const has = LOCKS.filter((name) => order.locks.ownerOf(name) === thread.process.rank);
  if (has.length > 0 && !random.oneIn(6)) unlock(world, thread, random.below(2), random.pick(has));
  else if (random.oneIn(8)) unlock(world, thread, 0, random.pick(LOCKS));
  else take(world, thread, random.oneIn(4), random.pick(LOCKS));
}

/** What libdsm does by itself with a lock whose cell it knows. False: nothing. */
function byCell(world: World, thread: Thread): boolean {
  const { process } = thread;
  const { random, order, report } = world;
  const { node, rank } = process;
  if (process.node.knownCells.size === 0 || process.state !== "running") return false;
  world.direct.settle();
  const own = LOCKS.filter((name) => order.locks.cellOwnerOf(name) === rank);
  if (own.length > 0 && !random.oneIn(3)) {
    const name = random.pick(own);
    const isGiven = node.swapCell(process.node.knownCells.get(name) as number, CELL_OWNED + rank, CELL_FREE);
    if (isGiven) order.locks.giveCell(name);
    else if (node === world.direct.decider)
      throw new Violation(`the arbiter has taken the cell of lock ${name} and has not said who has the lock`);
    // A RETURN is under way.
    else unlock(world, thread, 0, name);
    return true;
  }
  const [name, cell] = random.pick([...process.node.knownCells]);
  if (!node.swapCell(cell, CELL_FREE, CELL_OWNED + rank)) return false;
  order.locks.takeCell(name, rank, node.number);
  report.cells += 1;
  if (order.locks.isLeased(name)) report.leased += 1;
  return true;
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
      answered: ({ status, view }) => {
        const value = getUint64(view, ReplyAt.value);
        if (status === Status.OK && value > 0) process.node.knownCells.set(name, value - 1);
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
