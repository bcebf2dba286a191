/**
 * Locks by name. A lock belongs to a process, is robust (POSIX: PTHREAD_MUTEX_ROBUST) and is granted first come, first
 * served.
 *
 *     free ──lock──▶ owned ──unlock, no waiter──▶ free
 *                      └──unlock, or the owner leaves or is lost──▶ owned by the first waiter
 *
 * A process that goes while it owns a lock leaves a mark: the next owners get OWNER_DIED, until one unlocks the lock as
 * consistent.
 */
import { Status } from "../base/errors.ts";
import { LOCKS_MAX } from "../base/limits.ts";
import { checkName } from "../base/names.ts";
import type { LockState, Requester, SessionState, WaitQueue } from "../messages/session-state.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import type { WaitQueues } from "./wait-queues.ts";

export class Locks {
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  readonly #byName = new Map<string, LockState>();

  constructor(members: Membership, replies: Replies, waits: WaitQueues) {
    this.#members = members;
    this.#replies = replies;
    this.#waits = waits;
  }

  lock(name: string, tryOnly: boolean, from: Requester): void {
    if (!this.#members.admits(from)) return;
    const lock = this.#open(name, from);
    if (lock === null) return;
    // Recursive locking is refused: the process would deadlock with itself.
    if (lock.owner === from.rank || lock.waiters.some(({ rank }) => rank === from.rank)) {
      this.#replies.status(from, Status.BUSY);
    } else if (lock.owner < 0) {
      this.#grant(lock, from);
    } else if (tryOnly) {
      this.#replies.status(from, Status.AGAIN);
    } else {
      this.#waits.enqueue(lock, from);
    }
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
      this.#replies.ok(from.node, from.tag);
    }
  }

  named(name: string): Readonly<LockState> | undefined {
    return this.#byName.get(name);
  }

  /** Whether the lock is there, and no process has it, waits for it, or has ended while it had it. */
  isFree(name: string): boolean {
    const lock = this.#byName.get(name);
    return lock !== undefined && lock.owner < 0 && lock.died < 0 && lock.waiters.length === 0;
  }

  /** Passes on the locks of a process that goes: it may leave the data inconsistent, even if it ends normally. */
  passOnLocksOf(rank: number): void {
    for (const lock of this.#byName.values()) {
      if (lock.owner !== rank) continue;
      lock.died = rank;
      this.#passOn(lock);
    }
  }

  /** The lock of that name, created if needed; null: the request was refused and answered. */
  #open(name: string, from: Requester): LockState | null {
    let lock = this.#byName.get(name);
    if (lock !== undefined) return lock;
    const isValid = checkName("lock", name) === null;
    if (!isValid || this.#byName.size >= LOCKS_MAX) {
      this.#replies.status(from, isValid ? Status.LIMIT : Status.INVALID);
      return null;
    }
    lock = { name, owner: -1, died: -1, waiters: [] };
    this.#byName.set(name, lock);
    return lock;
  }

  #grant(lock: LockState, to: Requester): void {
    const { died } = lock;
    lock.owner = to.rank;
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

  save(): Pick<SessionState, "locks"> {
    return { locks: [...this.#byName.values()] };
  }

  load(state: Pick<SessionState, "locks">): void {
    for (const lock of state.locks) this.#byName.set(lock.name, lock);
  }
}
