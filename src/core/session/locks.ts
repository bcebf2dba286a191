/**
 * Locks by name, and mutexes in the map, whose names are their places. A lock belongs to a process, is robust (POSIX:
 * PTHREAD_MUTEX_ROBUST) and is granted first come, first served.
 *
 *     free ──lock──▶ owned ──unlock, no waiter──▶ free
 *                      └──unlock, or the owner leaves or is lost──▶ owned by the first waiter
 *
 * A process that goes while it owns a lock leaves a mark: the next owners get OWNER_DIED, until one unlocks the lock as
 * consistent.
 *
 * A lock that LEASE_STREAK processes of one node in a row have had, and that is free, is leased to that node (Gray and
 * Cheriton, "Leases", SOSP 1989): from then on its processes take it and give it back without an entry, and only the
 * node's arbiter knows which of them has it. So one that alternates between nodes is not leased. One that the server has
 * asked for, to begin a snapshot, is not leased again before LEASE_PAUSE grants.
 *
 *     free ──unlock, not the first on this node──▶ leased ──RETURN by the node──▶ owned, or free
 *                                                     │  ▲
 *                                                     └──┘ lock, from any node: waits, and the lease is recalled
 *
 * A waiter of a condition comes back into the queue of its mutex (conditions.ts). It goes on with the mutex or not at all, so
 * no SEM_CANCEL takes it back.
 *
 * Invariants: a leased lock has no owner and no mark here; each lease is ended by one RETURN, by the LEAVE of the last
 * process of its node, or by the eviction of the node; after a loss no lease is given. At most OBJECT_LEASES_MAX mutexes in
 * the map are leased.
 */
import { Status } from "../base/errors.ts";
import { LEASE_PAUSE, LEASE_STREAK, LOCKS_MAX, OBJECT_LEASES_MAX } from "../base/limits.ts";
import { checkResourceName, isObjectName, objectName } from "../base/names.ts";
import type { SavedSession } from "../messages/saved-session.ts";
import type { LockState, LockWaiter, Requester, SessionState, WaitQueue } from "../messages/session-state.ts";
import { NO_TAG } from "../wire/kinds.ts";
import type { Effects } from "./effects.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import { ResourceTable } from "./resource-table.ts";
import type { WaitQueues } from "./wait-queues.ts";

/** So many leases are recalled at once where there are as many as there may be. */
const RECALLED_AT_ONCE = 64;

export class Locks {
  readonly #mapSize: number;
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  readonly #effects: Effects;
  /** How many leases have ended so far, and how many had when some were recalled to make room last. */
  #leaseEnds = 0;
  #recalledAt = -1;
  readonly #table = new ResourceTable<LockState>(LOCKS_MAX, (name) => newLock(name, -1), isFree);

  constructor(mapSize: number, members: Membership, replies: Replies, waits: WaitQueues, effects: Effects) {
    this.#mapSize = mapSize;
    this.#members = members;
    this.#replies = replies;
    this.#waits = waits;
    this.#effects = effects;
  }

  lock(name: string, tryOnly: boolean, from: Requester): void {
    if (!this.#members.admits(from)) return;
    const lock = this.#open(name, from);
    if (lock === null) return;
    if (this.#wouldBeTwice(lock, from.rank)) {
      this.#replies.status(from, Status.BUSY);
    } else if (lock.lease >= 0) {
      // Also an attempt waits until the node has said whether the lock is free.
      if (this.#enqueue(lock, asked(from, tryOnly))) this.#effects.onRecall(name, lock.lease);
    } else if (lock.owner < 0) {
      this.#grant(lock, asked(from, false));
    } else if (tryOnly) {
      this.#replies.status(from, Status.AGAIN);
    } else {
      this.#enqueue(lock, asked(from, false));
    }
  }

  /**
   * Whether the process has the lock, or waits for it: recursive locking is refused. Of a mutex in the map the process itself
   * knows which of its threads has it, so another thread may wait.
   */
  #wouldBeTwice({ name, owner, waiters }: LockState, rank: number): boolean {
    return !isObjectName(name) && (owner === rank || waiters.some((waiter) => waiter.rank === rank));
  }

  #enqueue(lock: LockState, waiter: LockWaiter): boolean {
    return this.#waits.enqueue(lock, waiter);
  }

  /**
   * Unlocks. Unlocking stays possible after a loss, so that survivors can hand on their locks. `keepsMark`: the data
   * was not made consistent, so the next owner gets OWNER_DIED, too.
   */
  unlock(name: string, keepsMark: boolean, from: Requester): void {
    if (!this.#members.mayIssue(from.rank, from.node)) {
      this.#replies.status(from, Status.LEFT);
    } else if (!this.isOwner(name, from.rank)) {
      this.#replies.status(from, Status.NOT_OWNER);
    } else {
      this.release(name, keepsMark);
      this.#replies.ok(from.node, from.tag);
    }
  }

  /** Whether the process has the lock. */
  isOwner(name: string, rank: number): boolean {
    return this.#table.get(name)?.owner === rank;
  }

  /** Unlocks a lock that a process has. */
  release(name: string, keepsMark: boolean): void {
    const lock = this.#table.get(name);
    if (lock === undefined) return;
    if (!keepsMark) lock.died = -1;
    this.#passOn(lock);
    this.#leaseIfUseful(lock);
  }

  /** The waiter of a condition goes on with the lock, now or when it is its turn. */
  comeBack(name: string, waiter: LockWaiter): void {
    const lock = this.#table.open(name, true) as LockState;
    if (lock.owner < 0 && lock.lease < 0) this.#grant(lock, waiter);
    else if (this.#enqueue(lock, waiter) && lock.lease >= 0) this.#effects.onRecall(name, lock.lease);
  }

  named(name: string): Readonly<LockState> | undefined {
    return this.#table.get(name);
  }

  /** Whether the lock is there, and no process has it, waits for it, or has ended while it had it. */
  isFree(name: string): boolean {
    const lock = this.#table.get(name);
    return lock !== undefined && isFree(lock);
  }

  /** Passes on the locks of a process that goes: it may leave the data inconsistent, even if it ends normally. */
  passOnLocksOf(rank: number): void {
    for (const lock of this.#table.inUse()) {
      if (lock.owner !== rank) continue;
      lock.died = rank;
      this.#passOn(lock);
    }
  }

  // --- Objects -----------------------------------------------------------------------------------------------------

  /** The mutex gets its first state again, unless a process is known to have it or to wait for it: false then. */
  initialize(offset: number): boolean {
    const lock = this.#table.get(objectName("mutex", offset));
    if (lock === undefined) return true;
    if (lock.owner >= 0 || lock.waiters.length > 0) return false;
    this.#reset(lock);
    return true;
  }

  /** That part of the map was freed: its mutexes get their first state again, and requests for them end with INVALID. */
  reset(from: number, to: number): void {
    for (const lock of this.#table.within(from, to)) {
      this.#waits.end(lock, Status.INVALID, 0);
      this.#reset(lock);
    }
  }

  #reset(lock: LockState): void {
    if (lock.lease >= 0) {
      // Until it is given back, processes of the node may take it by its cell.
      lock.isReset = true;
      this.#effects.onRecall(lock.name, lock.lease);
    } else {
      this.#table.forget(lock.name);
    }
  }

  // --- Leases ------------------------------------------------------------------------------------------------------

  #leaseIfUseful(lock: LockState): void {
    const { phase, direct, lostRank } = this.#members;
    if (!isFree(lock) || lock.streak < LEASE_STREAK || phase !== "running" || direct || lostRank >= 0) return;
    if (isObjectName(lock.name) && !this.#hasRoomForLease()) return;
    lock.lease = lock.lastNode;
    this.#table.setLent(lock, true);
    this.#effects.onLease(lock.name, lock.lease);
  }

  /** Whether a further object may be leased. If not, the oldest leases are recalled to make room, some at a time. */
  #hasRoomForLease(): boolean {
    const { lent } = this.#table;
    if (lent < OBJECT_LEASES_MAX) return true;
    // None has come back since they were recalled last.
    if (this.#recalledAt === this.#leaseEnds) return false;
    this.#recalledAt = this.#leaseEnds;
    let left = RECALLED_AT_ONCE;
    for (const { name, lease } of this.#table.allLent()) {
      this.#effects.onRecall(name, lease);
      left -= 1;
      if (left === 0) break;
    }
    return false;
  }

  /**
   * Ends the lease of `node`, if it has one. `owner`: the rank that has the lock by its cell, or -1. One that is not in
   * the session, or not on the node, has ended: it may have left the data inconsistent. `wasAsked`: the server wants the
   * lock not to be leased for a while.
   */
  giveBack(name: string, node: number, { owner, wasAsked }: { owner: number; wasAsked: boolean }): void {
    const lock = this.#table.get(name);
    if (lock === undefined || lock.lease !== node) return;
    const pause = wasAsked ? -LEASE_PAUSE : 0;
    if (lock.isReset) {
      this.#endLease(lock, -1, pause);
    } else if (owner >= 0 && this.#members.mayIssue(owner, node)) {
      this.#takeBack(lock);
      lock.owner = owner;
      lock.lastNode = node;
      lock.streak = wasAsked ? -LEASE_PAUSE : 1;
      if (!isObjectName(name))
        this.#refuse(lock, Status.BUSY, (waiter) => waiter.rank === owner && waiter.condition < 0);
      this.#refuseAttempts(lock);
    } else {
      this.#endLease(lock, owner, pause);
    }
  }

  /** Ends all leases of the node. `died`: the rank after which their next owners get OWNER_DIED, or -1. */
  endLeasesOf(node: number, died: number): void {
    for (const lock of [...this.#table.inUse()])
      if (lock.lease === node) this.#endLease(lock, lock.isReset ? -1 : died);
  }

  /**
   * Ends the leases that cannot go on without a process that has left its node, or was lost. The arbiter has given back
   * what processes had: what is still leased to a node without processes is free. An evicted node has given back nothing.
   */
  endLeasesAfter({ rank, node }: Requester, isLost: boolean, isEvicted: boolean): void {
    if (isEvicted) this.endLeasesOf(node, rank);
    else if (this.#members.present().every((other) => other.node !== node)) this.endLeasesOf(node, -1);
    // By its cell a process would not hear of the loss.
    if (isLost) this.recallAll();
  }

  /** Recalls all leases. */
  recallAll(): void {
    for (const { name, lease } of this.#table.inUse()) if (lease >= 0) this.#effects.onRecall(name, lease);
  }

  /** The nodes that have leases. */
  lessees(): Set<number> {
    const nodes = new Set<number>();
    for (const { lease } of this.#table.inUse()) if (lease >= 0) nodes.add(lease);
    return nodes;
  }

  #takeBack(lock: LockState): void {
    lock.lease = -1;
    this.#leaseEnds += 1;
    this.#table.setLent(lock, false);
  }

  #endLease(lock: LockState, died: number, streak = 0): void {
    this.#takeBack(lock);
    lock.streak = streak;
    lock.isReset = false;
    if (died >= 0) lock.died = died;
    this.#passOn(lock);
    this.#refuseAttempts(lock);
  }

  /** Answers the attempts among the waiters of a lock that is not leased any more: a process has it. */
  #refuseAttempts(lock: LockState): void {
    this.#refuse(lock, Status.AGAIN, ({ tryOnly }) => tryOnly);
  }

  #refuse(lock: LockState, status: Status, matches: (waiter: LockWaiter) => boolean): void {
    for (const { node, tag } of lock.waiters.filter(matches)) {
      this.#waits.remove(lock, node, tag);
      this.#replies.status({ node, tag }, status);
    }
  }

  // -----------------------------------------------------------------------------------------------------------------

  /** The lock of that name, created if needed; null: the request was refused and answered. */
  #open(name: string, from: Requester): LockState | null {
    const isValid = this.#table.get(name) !== undefined || checkResourceName("lock", name, this.#mapSize) === null;
    // What a process has done by a cell cannot be refused.
    const lock = isValid ? this.#table.open(name, from.tag === NO_TAG) : null;
    if (lock === null) this.#replies.status(from, isValid ? Status.LIMIT : Status.INVALID);
    return lock;
  }

  #grant(lock: LockState, to: LockWaiter): void {
    const { died } = lock;
    lock.owner = to.rank;
    const continues = lock.lastNode === to.node || lock.streak < 0;
    lock.streak = continues ? Math.min(lock.streak + 1, LEASE_STREAK) : 1;
    lock.lastNode = to.node;
    this.#replies.status(to, died < 0 ? (to.outcome as Status) : Status.OWNER_DIED, Math.max(died, 0));
  }

  #passOn(lock: LockState): void {
    lock.owner = -1;
    const next = this.#waits.dequeue(lock);
    if (next !== undefined) this.#grant(lock, next);
  }

  /** Locks that have names of programs, and objects that are in use. */
  all(): Iterable<LockState> {
    return this.#table.inUse();
  }

  queues(): Iterable<WaitQueue<LockWaiter>> {
    return this.#table.inUse();
  }

  /** Whether the request is one that comes back from a condition: it goes on with the lock. */
  isComingBack(queue: WaitQueue, node: number, tag: number): boolean {
    if (!this.#table.has(queue)) return false;
    return queue.waiters.some((waiter) => waiter.node === node && waiter.tag === tag && waiter.condition >= 0);
  }

  /**
   * The locks as a later session begins with them. None of their owners is in it, so the next ones get OWNER_DIED. Of a
   * leased lock the owner is not known: it is taken for some process of the node.
   */
  saved(): SavedSession["locks"] {
    return [...this.#table.inUse()].map(({ name, owner, died, lease, isReset }) => {
      if (isReset) return { name, died: -1 };
      if (lease >= 0) return { name, died: this.#members.present().find(({ node }) => node === lease)?.rank ?? 0 };
      return { name, died: owner < 0 ? died : owner };
    });
  }

  save(): Pick<SessionState, "locks"> {
    return { locks: this.#table.save() };
  }

  load(state: Pick<SessionState, "locks">): void {
    this.#table.load(state.locks, ({ lease }) => lease >= 0);
  }
}

/** A free lock. `died`: the rank of a dead owner, or -1. */
export const newLock = (name: string, died: number): LockState => ({
  ...{ name, owner: -1, died, waiters: [] },
  ...{ lease: -1, lastNode: -1, streak: 0, isReset: false },
});

/** A request for a lock. */
const asked = (from: Requester, tryOnly: boolean): LockWaiter => ({
  ...from,
  ...{ tryOnly, condition: -1, outcome: Status.OK },
});

const isFree = ({ owner, died, lease, waiters }: LockState): boolean =>
  owner < 0 && died < 0 && lease < 0 && waiters.length === 0;
