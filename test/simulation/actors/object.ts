/** A thread uses the objects that lie in the map. */
import { Status } from "../../../src/core/base/errors.ts";
import { ReplyAt } from "../../../src/core/wire/at.ts";
import { encodeText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind, ObjectKind } from "../../../src/core/wire/kinds.ts";
import { ask } from "../conversation.ts";
import { CONDITIONS } from "../oracle/conditions.ts";
import { BARRIER_AT } from "../oracle/counted-barriers.ts";
import { MUTEX_AT } from "../oracle/locks.ts";
import { RW_LOCK_AT } from "../oracle/rw-locks.ts";
import { keyOf } from "../oracle/sent-frames.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";
import { attach } from "./attach.ts";
import { block } from "./block.ts";
import { lock } from "./lock.ts";

const ALL = 0xffff_ffff;

export function object(world: World, thread: Thread): void {
  const choice = world.random.below(100);
  const { rank } = thread.process;
  // Who has something mostly gives it back soon, or all wait for each other.
  if (choice < 6) attach(world, thread);
  else if (world.order.rwLocks.has(rank) && choice < 60) rwLock(world, thread);
  else if (choice < 35) lock(world, thread);
  else if (choice < 65) condition(world, thread);
  else if (choice < 80) rwLock(world, thread);
  else if (choice < 95) arrive(world, thread);
  else if (choice < 97) initialize(world, thread);
  else block(world, thread);
}

/** The key of what the thread asks for. */
const requestOf = ({ process, channel, request }: Thread): number =>
  keyOf(process.node.number, channel.index, request?.tag as number);

/** Waits for a condition, mostly with its lock, or signals it. */
function condition(world: World, thread: Thread): void {
  const { random, order } = world;
  const { rank } = thread.process;
  const has = CONDITIONS.filter(
    ([, mutex]) => order.locks.ownerOf(mutex) === rank || order.locks.cellOwnerOf(mutex) === rank,
  );
  const [offset, mutex] = random.pick(has.length > 0 && !random.oneIn(6) ? has : CONDITIONS);
  if (has.length === 0 ? !random.oneIn(10) : random.oneIn(3)) signal(world, thread, offset);
  else waitFor(world, thread, offset, mutex);
}

function waitFor(world: World, thread: Thread, offset: number, mutex: string): void {
  const { order, report } = world;
  ask(
    world,
    thread,
    { kind: Kind.COND_WAIT, offset, body: encodeText(mutex) },
    {
      ...{ what: "wait for a condition", statuses: [Status.NOT_OWNER, Status.OWNER_DIED, Status.INVALID] },
      ...{ endsByLoss: true, cancelable: true, judged: true },
      answered: ({ status }) => {
        if (status === Status.OK || status === Status.OWNER_DIED) report.signalled += 1;
      },
      waits: () => order.conditions.waits(requestOf(thread)) || order.locks.queues(requestOf(thread)),
    },
  );
}

function signal(world: World, thread: Thread, offset: number): void {
  const aux = world.random.pick([1, 1, 2, ALL]);
  ask(world, thread, { kind: Kind.COND_SIGNAL, offset, aux }, { what: "signal", judged: true });
}

function rwLock(world: World, thread: Thread): void {
  const { random, order, report } = world;
  const offset = RW_LOCK_AT;
  if (order.rwLocks.has(thread.process.rank) ? !random.oneIn(5) : random.oneIn(20)) {
    const frame = { kind: Kind.RW_UNLOCK, offset, op: random.below(2) };
    ask(world, thread, frame, { what: "rwunlock", statuses: [Status.NOT_OWNER], judged: true });
    return;
  }
  const [tryOnly, aux] = [random.oneIn(5), random.oneIn(3) ? 1 : 0];
  ask(
    world,
    thread,
    { kind: Kind.RW_LOCK, offset, op: tryOnly ? 1 : 0, aux },
    {
      ...{ what: aux === 1 ? "wrlock" : "rdlock" },
      statuses: [Status.OWNER_DIED, Status.INVALID, ...(tryOnly ? [Status.AGAIN] : [])],
      ...{ endsByLoss: true, cancelable: !tryOnly, judged: true },
      answered: ({ status }) => {
        if (status === Status.OWNER_DIED) report.halfWritten += 1;
        if (status === Status.OK) report[aux === 1 ? "written" : "read"] += 1;
      },
      waits: () => order.rwLocks.queues(requestOf(thread)),
    },
  );
}

function arrive(world: World, thread: Thread): void {
  const { random, order, report } = world;
  const aux = random.pick([1, 2, 2, 2, 2, 2, 3]);
  ask(
    world,
    thread,
    { kind: Kind.ARRIVE, offset: BARRIER_AT, aux },
    {
      ...{ what: "arrival", statuses: [Status.MISMATCH, Status.INVALID] },
      ...{ endsByLoss: true, cancelable: true, judged: true },
      answered: ({ status, view }) => {
        if (status === Status.OK && aux > 1 && getUint64(view, ReplyAt.value) === 1) report.opened += 1;
      },
      waits: () => order.countedBarriers.waits(requestOf(thread)),
    },
  );
}

function initialize(world: World, thread: Thread): void {
  const [op, offset] = world.random.pick([
    [ObjectKind.MUTEX, MUTEX_AT],
    [ObjectKind.CONDITION, CONDITIONS[0]?.[0] as number],
    [ObjectKind.RW_LOCK, RW_LOCK_AT],
    [ObjectKind.BARRIER, BARRIER_AT],
  ] as const);
  const frame = { kind: Kind.OBJECT_INIT, op, offset };
  ask(world, thread, frame, { what: "init", statuses: [Status.BUSY], judged: true });
}
