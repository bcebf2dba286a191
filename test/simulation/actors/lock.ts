/** A thread locks or tries a lock, or unlocks one, mostly one that its process has. */
import { Status } from "../../../src/core/base/errors.ts";
import { ReplyAt } from "../../../src/core/wire/at.ts";
import { CELL_ARBITER } from "../../../src/core/wire/cell-layout.ts";
import { encodeText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { ask } from "../conversation.ts";
import { LOCKS, MUTEX } from "../oracle/locks.ts";
import { keyOf } from "../oracle/sent-frames.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";
import { checkGuarded, mayGiveBack, RULES, storeGuarded } from "./guarded.ts";
import { cellOf, giveByCell, WaitingByCell } from "./lock-cell.ts";

export function lock(world: World, thread: Thread): void {
  const { random, order, plan } = world;
  if (byCell(world, thread)) return;
  const { rank } = thread.process;
  const names = plan.objects ? [MUTEX, MUTEX, ...LOCKS] : LOCKS;
  const has = names.filter((name) => order.locks.ownerOf(name) === rank || order.locks.cellOwnerOf(name) === rank);
  if (has.length > 0 && !random.oneIn(6)) unlock(world, thread, random.below(2), random.pick(has));
  else if (random.oneIn(8)) unlock(world, thread, 0, random.pick(names));
  else if (!plan.cells || random.oneIn(4)) take(world, thread, random.oneIn(4), random.pick(names), false);
}

/** What libdsm does by itself with a lock whose cell it knows. False: nothing. */
function byCell(world: World, thread: Thread): boolean {
  const { random, order, plan } = world;
  const { node, rank, state } = thread.process;
  if (node.knownCells.size === 0 || node.lost || state !== "running") return false;
  if (random.oneIn(plan.cells ? 30 : 6)) return false;
  world.direct.settle();
  const known = [...node.knownCells.keys()];
  const own = known.filter((name) => order.locks.cellOwnerOf(name) === rank);
  if (own.length > 0 && !random.oneIn(3)) {
    const name = random.pick(own);
    if (
      plan.leases &&
      node !== world.direct.decider &&
      world.guarded.get(name)?.by !== thread.process &&
      random.oneIn(2)
    ) {
      storeGuarded(world, thread, name);
      if (!RULES.waitsForStore()) giveByCell(world, thread, name);
    } else if (!mayGiveBack(world, thread.process, name)) return false;
    else if (!giveByCell(world, thread, name)) unlock(world, thread, 0, name);
  } else {
    const name = random.pick(known);
    // Requests take time: with too many of them no cell would be given for long.
    const isTaken = node.cells.load(cellOf(node, name) as number) === CELL_ARBITER;
    if (!isTaken || !plan.cells || random.oneIn(8)) awaitByCell(world, thread, name, true);
    else if (random.oneIn(2)) return false;
  }
  return true;
}

/** `mayReturn`: a request may send it back to the cell once. */
function awaitByCell(world: World, thread: Thread, name: string, mayReturn: boolean): void {
  const at = cellOf(thread.process.node, name) as number;
  thread.cell = new WaitingByCell(world, thread, name, at, () => take(world, thread, false, name, mayReturn));
  thread.cell.step();
}

/** `op` 1: what it guards is still not well. */
function unlock(world: World, thread: Thread, op: number, name: string): void {
  if (!mayGiveBack(world, thread.process, name)) return;
  const isShort = world.random.below(2);
  const frame = { kind: Kind.UNLOCK, op, aux: isShort, body: encodeText(name) };
  ask(world, thread, frame, { what: "unlock", statuses: [Status.NOT_OWNER], judged: true });
}

/** `usesCell`: its process looks at the cell again when it is told to. */
function take(world: World, thread: Thread, tryOnly: boolean, name: string, usesCell: boolean): void {
  const { report, order } = world;
  const { process, channel } = thread;
  // The mutex's place may be freed.
  const refusal = name === MUTEX ? Status.INVALID : Status.BUSY;
  const refusals = tryOnly || usesCell ? [refusal, Status.AGAIN] : [refusal];
  ask(
    world,
    thread,
    { kind: Kind.LOCK, op: tryOnly ? 1 : 0, aux: usesCell ? 1 : 0, body: encodeText(name) },
    {
      ...{ what: tryOnly ? "trylock" : "lock", statuses: [Status.OWNER_DIED, ...refusals] },
      ...{ endsByLoss: true, cancelable: !tryOnly, judged: true },
      answered: ({ status, view }) => {
        const value = getUint64(view, ReplyAt.value);
        if (status === Status.OK && value > 0) process.node.knownCells.set(name, value - 1);
        if (!tryOnly && (status === Status.OK || status === Status.OWNER_DIED)) report.locked += 1;
        if (status === Status.OWNER_DIED) report.inherited += 1;
        if (status === Status.OK || status === Status.OWNER_DIED) checkGuarded(world, process, name);
        if (status !== Status.AGAIN || tryOnly) return;
        report.sentBack += 1;
        if (process.state === "running") awaitByCell(world, thread, name, false);
      },
      waits: () => {
        const tag = thread.request?.tag as number;
        return order.locks.queues(keyOf(process.node.number, channel.index, tag));
      },
    },
  );
}
