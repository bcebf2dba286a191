/**
 * Locks by name. A lock belongs to a process, is robust (POSIX: PTHREAD_MUTEX_ROBUST) and is granted first come, first
 * served.
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
 * Invariants: a leased lock has no owner and no mark here; each lease is ended by one RETURN, by the LEAVE of the last
 * process of its node, or by the eviction of the node; after a loss no lease is given.
 */
import { Status } from "../base/errors.ts";
import { LEASE_PAUSE, LEASE_STREAK, LOCKS_MAX } from "../base/limits.ts";
import { checkName } from "../base/names.ts";
import type { SavedSession } from "../messages/saved-session.ts";
import type { LockState, LockWaiter, Requester, SessionState, WaitQueue } from "../messages/session-state.ts";
import type { Effects } from "./effects.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import type { WaitQueues } from "./wait-queues.ts";

export class Locks {
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  readonly #effects: Effects;
  readonly #byName = new Map<string, LockState>();

  constructor(members: Membership, replies: Replies, waits: WaitQueues, effects: Effects) {
    this.#members = members;
    this.#replies = replies;
    this.#waits = waits;
    this.#effects = effects;
  }

  lock(name: string, tryOnly: boolean, from: Requester): void {
    if (!this.#members.admits(from)) return;
    const lock = this.#open(name, from);
    if (lock === null) return;
    // Recursive locking is refused: the process would deadlock with itself.
    if (lock.owner === from.rank || lock.waiters.some(({ rank }) => rank === from.rank)) {
      this.#replies.status(from, Status.BUSY);
    } else if (lock.lease >= 0) {
      // Also an attempt waits until the node has said whether the lock is free.
      if (this.#enqueue(lock, from, tryOnly)) this.#effects.onRecall(name, lock.lease);
    } else if (lock.owner < 0) {
      this.#grant(lock, from);
    } else if (tryOnly) {
      this.#replies.status(from, Status.AGAIN);
    } else {
      this.#enqueue(lock, from, false);
    }
  }

  #enqueue(lock: LockState, from: Requester, tryOnly: boolean): boolean {
    const waiter: LockWaiter = { ...from, tryOnly };
    return this.#waits.enqueue(lock, waiter);
  }

  /**
   * Unlocks. Unlocking stays possible after a loss, so that survivors can hand on their locks. `keepsMark`: the data
   * was not made consistent, so the next owner gets OWNER_DIED, too.
   */
  unlock(name: string, keepsMark: boolean, from: Requester): void {
    const lock = this.#byName.get(name);
    if (!this.#members.mayIssue(from.rank, from.node)) {
      this.#replies.status(from, Status.LEFT);
    } else if (lock === undefined || lock.owner !== from.rank) {
      this.#replies.status(from, Status.NOT_OWNER);
    } else {
      if (!keepsMark) lock.died = -1;
      this.#passOn(lock);
      this.#leaseIfUseful(lock);
      this.#replies.ok(from.node, from.tag);
    }
  }

  named(name: string): Readonly<LockState> | undefined {
    return this.#byName.get(name);
  }

  /** Whether the lock is there, and no process has it, waits for it, or has ended while it had it. */
  isFree(name: string): boolean {
    const lock = this.#byName.get(name);
    return lock !== undefined && isFree(lock);
  }

  /** Passes on the locks of a process that goes: it may leave the data inconsistent, even if it ends normally. */
  passOnLocksOf(rank: number): void {
    for (const lock of this.#byName.values()) {
      if (lock.owner !== rank) continue;
      lock.died = rank;
      this.#passOn(lock);
    }
  }

  // --- Leases ------------------------------------------------------------------------------------------------------

  #leaseIfUseful(lock: LockState): void {
    const { phase, direct, lostRank } = this.#members;
    if (!isFree(lock) || lock.streak < LEASE_STREAK || phase !== "running" || direct || lostRank >= 0) return;
    lock.lease = lock.lastNode;
    this.#effects.onLease(lock.name, lock.lease);
  }

  /**
   * Ends the lease of `node`, if it has one. `owner`: the rank that has the lock by its cell, or -1. One that is not in
   * the session, or not on the node, has ended: it may have left the data inconsistent. `wasAsked`: the server wants the
   * lock not to be leased for a while.
   */
  giveBack(name: string, node: number, { owner, wasAsked }: { owner: number; wasAsked: boolean }): void {
    const lock = this.#byName.get(name);
    if (lock === undefined || lock.lease !== node) return;
    if (owner >= 0 && this.#members.mayIssue(owner, node)) {
      lock.lease = -1;
      lock.owner = owner;
      lock.lastNode = node;
      lock.streak = wasAsked ? -LEASE_PAUSE : 1;
      this.#waits.end(lock, Status.BUSY, 0, owner);
      this.#refuseAttempts(lock);
    } else {
      this.#endLease(lock, owner, wasAsked ? -LEASE_PAUSE : 0);
    }
  }

  /** Ends all leases of the node. `died`: the rank after which their next owners get OWNER_DIED, or -1. */
  endLeasesOf(node: number, died: number): void {
    for (const lock of this.#byName.values()) if (lock.lease === node) this.#endLease(lock, died);
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
    for (const { name, lease } of this.#byName.values()) if (lease >= 0) this.#effects.onRecall(name, lease);
  }

  /** The nodes that have leases. */
  lessees(): Set<number> {
    const nodes = new Set<number>();
    for (const { lease } of this.#byName.values()) if (lease >= 0) nodes.add(lease);
    return nodes;
  }

  #endLease(lock: LockState, died: number, streak = 0): void {
    lock.lease = -1;
    lock.streak = streak;
    if (died >= 0) lock.died = died;
    this.#passOn(lock);
    this.#refuseAttempts(lock);
  }

  /** Answers the attempts among the waiters of a lock that is not leased any more: a process has it. */
  #refuseAttempts(lock: LockState): void {
    const attempts = lock.waiters.filter(({ tryOnly }) => tryOnly);
    for (const { node, tag } of attempts) {
      this.#waits.cancel(node, tag);
      this.#replies.status({ node, tag }, Status.AGAIN);
    }
  }

  // -----------------------------------------------------------------------------------------------------------------

  /** The lock of that name, created if needed; null: the request was refused and answered. */
  #open(name: string, from: Requester): LockState | null {
    let lock = this.#byName.get(name);
    if (lock !== undefined) return lock;
    const isValid = checkName("lock", name) === null;
    if (!isValid || this.#byName.size >= LOCKS_MAX) {
      this.#replies.status(from, isValid ? Status.LIMIT : Status.INVALID);
      return null;
    }
    lock = newLock(name, -1);
    this.#byName.set(name, lock);
    return lock;
  }

  #grant(lock: LockState, to: Requester): void {
    const { died } = lock;
    lock.owner = to.rank;
    const continues = lock.lastNode === to.node || lock.streak < 0;
    lock.streak = continues ? Math.min(lock.streak + 1, LEASE_STREAK) : 1;
    lock.lastNode = to.node;
    this.#replies.status(to, died < 0 ? Status.OK : Status.OWNER_DIED, Math.max(died, 0));
  }

  #passOn(lock: LockState): void {
    lock.owner = -1;
    const next = this.#waits.dequeue(lock);
    if (next !== undefined) this.#grant(lock, next);
  }

  all(): IterableIterator<LockState> {
    return this.#byName.values();
  }

  queues(): Iterable<WaitQueue> {
    return this.#byName.values();
  }

  /**
   * The locks as a later session begins with them. None of their owners is in it, so the next ones get OWNER_DIED. Of a
   * leased lock the owner is not known: it is taken for some process of the node.
   */
  saved(): SavedSession["locks"] {
    return [...this.#byName.values()].map(({ name, owner, died, lease }) => {
      if (lease >= 0) return { name, died: this.#members.present().find(({ node }) => node === lease)?.rank ?? 0 };
      return { name, died: owner < 0 ? died : owner };
    });
  }

  save(): Pick<SessionState, "locks"> {
    return { locks: [...this.#byName.values()] };
  }

  load(state: Pick<SessionState, "locks">): void {
    for (const lock of state.locks) this.#byName.set(lock.name, lock);
  }
}

/** A free lock. `died`: the rank of a dead owner, or -1. */
export const newLock = (name: string, died: number): LockState => ({
  ...{ name, owner: -1, died, waiters: [] },
  ...{ lease: -1, lastNode: -1, streak: 0 },
});

const isFree = ({ owner, died, lease, waiters }: LockState): boolean =>
  owner < 0 && died < 0 && lease < 0 && waiters.length === 0;
