/**
 * Synchronisation: everything that processes wait for once the session runs: the barrier, semaphores, locks, sleepers, and
 * the objects in the map. It leads requests to the resource they name, and ends the waits of processes that go.
 */
import { Status } from "../base/errors.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import type { SavedSession } from "../messages/saved-session.ts";
import type { LockWaiter, ProcessState, Requester, SessionState, WaitQueue } from "../messages/session-state.ts";
import {
  ArriveAt,
  BarrierAt,
  CancelAt,
  CondSignalAt,
  CondWaitAt,
  FutexWakeAt,
  LockAt,
  ObjectInitAt,
  ReturnAt,
  RwLockAt,
  RwUnlockAt,
  SemaphoreAt,
  SemValueAt,
  UnlockAt,
} from "../wire/at.ts";
import { getUint64 } from "../wire/frame.ts";
import { Kind, ObjectKind } from "../wire/kinds.ts";
import { nameAt } from "../wire/name-at.ts";
import { Barrier } from "./barrier.ts";
import { Conditions } from "./conditions.ts";
import { CountedBarriers } from "./counted-barriers.ts";
import type { Effects } from "./effects.ts";
import { Futexes } from "./futexes.ts";
import { Locks, newLock } from "./locks.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import { newRwLock, RwLocks } from "./rw-locks.ts";
import { Semaphores } from "./semaphores.ts";
import { WaitQueues } from "./wait-queues.ts";

/** A resource with queues in which requests wait. */
interface Queues {
  queues(): Iterable<WaitQueue>;
  /** Waits of the queue, which may be another resource's, were ended or taken back. */
  settle?(queue: WaitQueue): void;
}

export class Synchronisation {
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  readonly barrier: Barrier;
  readonly semaphores: Semaphores;
  readonly locks: Locks;
  readonly futexes: Futexes;
  readonly conditions: Conditions;
  readonly rwLocks: RwLocks;
  readonly countedBarriers: CountedBarriers;

  constructor(memory: MapBytes, members: Membership, replies: Replies, effects: Effects) {
    const waits = new WaitQueues(replies);
    this.#replies = replies;
    this.#waits = waits;
    this.barrier = new Barrier(members, replies);
    this.semaphores = new Semaphores(memory.size, members, replies, waits);
    this.locks = new Locks(memory.size, members, replies, waits, effects);
    this.futexes = new Futexes(members, replies, waits, memory);
    this.conditions = new Conditions(members, replies, waits, this.locks);
    this.rwLocks = new RwLocks(members, replies, waits);
    this.countedBarriers = new CountedBarriers(members, replies, waits);
  }

  /** Applies the entry at `at`. Returns whether it is one of synchronisation. */
  apply(kind: number, view: DataView, at: number, from: Requester): boolean {
    switch (kind) {
      case Kind.BARRIER: {
        const passed = getUint64(view, at + BarrierAt.passed);
        if (passed > 0) this.barrier.notePassed(passed);
        else this.barrier.arrive(from);
        return true;
      }
      case Kind.SEM_WAIT: {
        const initial = view.getUint32(at + SemaphoreAt.initial, true);
        this.semaphores.wait(nameAt(view, at), initial, view.getUint8(at + SemaphoreAt.tryOnly) === 1, from);
        return true;
      }
      case Kind.SEM_POST: {
        const initial = view.getUint32(at + SemaphoreAt.initial, true);
        this.semaphores.post(nameAt(view, at), initial, getUint64(view, at + SemaphoreAt.increment), from);
        return true;
      }
      case Kind.SEM_VALUE:
        this.semaphores.set(nameAt(view, at), getUint64(view, at + SemValueAt.value));
        return true;
      case Kind.SEM_CANCEL:
        this.#cancel(from, view.getUint8(at + CancelAt.isSentBack) === 1);
        return true;
      case Kind.LOCK:
        this.locks.lock(nameAt(view, at), view.getUint8(at + LockAt.tryOnly) === 1, from);
        return true;
      case Kind.UNLOCK:
        this.locks.unlock(nameAt(view, at), view.getUint8(at + UnlockAt.keepsMark) === 1, from);
        return true;
      case Kind.RETURN:
        this.locks.giveBack(nameAt(view, at), from.node, {
          owner: view.getUint8(at + ReturnAt.isOwned) === 1 ? from.rank : -1,
          wasAsked: view.getUint32(at + ReturnAt.wasAsked, true) === 1,
        });
        return true;
      case Kind.FUTEX_WAIT:
        this.futexes.sleep(view, at, from);
        return true;
      case Kind.FUTEX_WAKE: {
        const count = view.getUint32(at + FutexWakeAt.count, true);
        this.futexes.wake(getUint64(view, at + FutexWakeAt.mapOffset), count, from.node, from.tag);
        return true;
      }
      default:
        return this.#applyToObject(kind, view, at, from);
    }
  }

  /** The same for objects that have no name. */
  #applyToObject(kind: number, view: DataView, at: number, from: Requester): boolean {
    const offset = getUint64(view, at + CondWaitAt.mapOffset);
    switch (kind) {
      case Kind.COND_WAIT:
        this.conditions.wait(offset, nameAt(view, at), from);
        return true;
      case Kind.COND_SIGNAL:
        this.conditions.signal(offset, view.getUint32(at + CondSignalAt.count, true), from);
        return true;
      case Kind.RW_LOCK: {
        const isWriter = view.getUint32(at + RwLockAt.isWriter, true) === 1;
        this.rwLocks.lock(offset, isWriter, view.getUint8(at + RwLockAt.tryOnly) === 1, from);
        return true;
      }
      case Kind.RW_UNLOCK:
        this.rwLocks.unlock(offset, view.getUint8(at + RwUnlockAt.keepsMark) === 1, from);
        return true;
      case Kind.ARRIVE:
        this.countedBarriers.arrive(offset, view.getUint32(at + ArriveAt.count, true), from);
        return true;
      default:
        return false;
    }
  }

  /** Gives the object that the OBJECT_INIT at `at` names its first state. */
  initialize(view: DataView, at: number): Status {
    const offset = getUint64(view, at + ObjectInitAt.mapOffset);
    const isDone = this.#initialize(
      view.getUint8(at + ObjectInitAt.objectKind) as ObjectKind,
      offset,
      view.getUint32(at + ObjectInitAt.initial, true),
    );
    return isDone === null ? Status.LIMIT : isDone ? Status.OK : Status.BUSY;
  }

  #initialize(object: ObjectKind, offset: number, value: number): boolean | null {
    switch (object) {
      case ObjectKind.MUTEX:
        return this.locks.initialize(offset);
      case ObjectKind.SEMAPHORE:
        return this.semaphores.initialize(offset, value);
      case ObjectKind.RW_LOCK:
        return this.rwLocks.initialize(offset);
      case ObjectKind.CONDITION:
        return !this.conditions.isInUse(offset);
      case ObjectKind.BARRIER:
        return !this.countedBarriers.isInUse(offset);
    }
  }

  /** That part of the map was freed: its objects get their first state. */
  reset(from: number, to: number): void {
    for (const objects of [this.conditions, this.locks, this.semaphores, this.rwLocks, this.countedBarriers])
      objects.reset(from, to);
  }

  // --- The end of waits --------------------------------------------------------------------------------------------

  /** Cancelling a request that was already granted has no effect. */
  #cancel(from: Requester, isSentBack: boolean): void {
    const { node, tag } = from;
    const queue = this.#waits.queueOf(node, tag);
    if (queue === undefined) {
      this.barrier.cancel(node, tag);
      return;
    }
    if (this.locks.isComingBack(queue, node, tag) || this.conditions.cancel(queue, from)) return;
    if (this.countedBarriers.cancel(queue, from)) return;
    this.#waits.remove(queue, node, tag);
    this.#replies.status(from, isSentBack ? Status.AGAIN : Status.TIMEOUT);
    this.#settle(queue);
  }

  /**
   * Answers the requests of a process that leaves and that still wait, on other channels. Returns those that had been
   * signalled: passOnSignalsOf() must follow.
   */
  endWaitsOf(process: ProcessState): LockWaiter[] {
    this.barrier.drop(process);
    const signalled = [...this.locks.queues()].flatMap((queue) =>
      this.#waits.end(queue, Status.LEFT, 0, process.rank).filter(({ condition }) => condition >= 0),
    );
    this.#endWaits(Status.LEFT, 0, process.rank);
    return signalled;
  }

  /** What those requests were signalled for goes to others that wait. */
  passOnSignalsOf(ended: readonly LockWaiter[]): void {
    this.conditions.passOnSignalsOf(ended);
  }

  /** Ends all waits with LOST: a lost process will never arrive or post. */
  failAll(lostRank: number): void {
    this.barrier.failAll();
    this.#endWaits(Status.LOST, lostRank);
  }

  #endWaits(status: Status, aux: number, rank?: number): void {
    for (const { queue, owner } of [...this.#queues()]) {
      this.#waits.end(queue, status, aux, rank);
      owner.settle?.(queue);
    }
  }

  #settle(queue: WaitQueue): void {
    for (const owner of this.#owners) owner.settle?.(queue);
  }

  get #owners(): readonly Queues[] {
    return [this.semaphores, this.locks, this.futexes, this.conditions, this.rwLocks, this.countedBarriers];
  }

  *#queues(): Generator<{ queue: WaitQueue; owner: Queues }> {
    for (const owner of this.#owners) for (const queue of owner.queues()) yield { queue, owner };
  }

  // --- The state ---------------------------------------------------------------------------------------------------

  get #resources(): readonly { load(state: SessionState): void; save(): Partial<SessionState> }[] {
    const { barrier, semaphores, locks, futexes, conditions, rwLocks, countedBarriers } = this;
    return [barrier, semaphores, locks, futexes, conditions, rwLocks, countedBarriers];
  }

  save(): Partial<SessionState> {
    return Object.assign({}, ...this.#resources.map((resource) => resource.save()));
  }

  load(state: SessionState): void {
    for (const resource of this.#resources) resource.load(state);
    for (const { queue } of this.#queues()) this.#waits.load(queue);
  }

  /** What a later session begins with. */
  saved(): Pick<SavedSession, "semaphores" | "locks" | "rwLocks"> {
    return {
      semaphores: [...this.semaphores.all()].map(({ name, value }) => ({ name, value })),
      locks: this.locks.saved(),
      rwLocks: this.rwLocks.saved(),
    };
  }

  /** Begins with what an earlier session has saved. */
  adopt({ semaphores, locks, rwLocks }: Pick<SavedSession, "semaphores" | "locks" | "rwLocks">): void {
    this.semaphores.load({ semaphores: semaphores.map((semaphore) => ({ ...semaphore, waiters: [] })) });
    this.locks.load({ locks: locks.map(({ name, died }) => newLock(name, died)) });
    this.rwLocks.load({ rwLocks: rwLocks.map(({ offset, died }) => newRwLock(offset, died)) });
  }
}
