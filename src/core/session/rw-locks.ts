/**
 * RwLocks: reader-writer locks in the map. Either one process has such a lock for writing, or any number has it for reading.
 *
 *     free ──RW_LOCK──▶ read by some ──the last RW_UNLOCK──▶ free, or passed on
 *       └─────RW_LOCK──▶ written by one ──RW_UNLOCK──▶ free, or passed on to the first writer, or to all readers before it
 *
 * Requests are granted first come, first served: once a writer waits, later readers wait behind it, so neither starves. Only
 * a process that reads already gets further reads at once, because it would wait for itself if the same thread reads again;
 * but no more than OVERTAKES_MAX, so that threads that take turns in reading do not keep a writer waiting for ever.
 *
 * A reader that ends is struck out, and no process hears of it: it has changed nothing. A writer that ends leaves a mark: all
 * that lock it get OWNER_DIED, until a writer unlocks it as consistent.
 *
 * Invariants: never a writer and a reader, never two writers; while requests wait, the first of them cannot be granted. A
 * lock that no process has or waits for, and that has no mark, is not kept.
 */
import { Status } from "../base/errors.ts";
import { OVERTAKES_MAX, READERS_MAX, RW_LOCKS_MAX } from "../base/limits.ts";
import type { SavedSession } from "../messages/saved-session.ts";
import type { Requester, RwLockState, RwWaiter, SessionState, WaitQueue } from "../messages/session-state.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import type { WaitQueues } from "./wait-queues.ts";

export class RwLocks {
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  /** By place in the map. */
  readonly #byOffset = new Map<number, RwLockState>();
  /** Processes that read, of all locks. */
  #readers = 0;

  constructor(members: Membership, replies: Replies, waits: WaitQueues) {
    this.#members = members;
    this.#replies = replies;
    this.#waits = waits;
  }

  lock(offset: number, isWriter: boolean, tryOnly: boolean, from: Requester): void {
    if (!this.#members.admits(from)) return;
    const lock = this.#byOffset.get(offset) ?? newRwLock(offset, -1);
    const isNew = !this.#byOffset.has(offset);
    const overtakes = lock.waiters.length > 0;
    const mayOvertake = !isWriter && this.#reads(lock, from.rank) && lock.overtakes < OVERTAKES_MAX;
    if ((isNew && this.#byOffset.size >= RW_LOCKS_MAX) || (!isWriter && !this.#mayRead(lock, from.rank))) {
      this.#replies.status(from, Status.LIMIT);
      return;
    }
    this.#byOffset.set(offset, lock);
    if ((!overtakes || mayOvertake) && isGrantable(lock, isWriter)) {
      if (overtakes) lock.overtakes += 1;
      this.#grant(lock, { ...from, isWriter });
    } else if (tryOnly) this.#replies.status(from, Status.AGAIN);
    else this.#waits.enqueue(lock, { ...from, isWriter });
    this.settle(lock);
  }

  #reads({ readers }: RwLockState, rank: number): boolean {
    return readers.some((reader) => reader.rank === rank);
  }

  /** Whether there is room for that reader, or it needs none. Readers that have waited are granted beyond the limit. */
  #mayRead(lock: RwLockState, rank: number): boolean {
    return this.#reads(lock, rank) || this.#readers < READERS_MAX;
  }

  /** Unlocks; stays possible after a loss. `keepsMark`: the data was not made consistent. */
  unlock(offset: number, keepsMark: boolean, from: Requester): void {
    const lock = this.#byOffset.get(offset);
    const reader = lock?.readers.find(({ rank }) => rank === from.rank);
    if (!this.#members.mayIssue(from.rank, from.node)) {
      this.#replies.status(from, Status.LEFT);
    } else if (lock !== undefined && lock.writer === from.rank) {
      lock.writer = -1;
      if (!keepsMark) lock.died = -1;
      this.#replies.ok(from.node, from.tag);
      this.settle(lock);
    } else if (lock !== undefined && reader !== undefined) {
      reader.reads -= 1;
      if (reader.reads === 0) this.#strikeOut(lock, from.rank);
      this.#replies.ok(from.node, from.tag);
      this.settle(lock);
    } else {
      this.#replies.status(from, Status.NOT_OWNER);
    }
  }

  #strikeOut(lock: RwLockState, rank: number): void {
    const left = lock.readers.filter((reader) => reader.rank !== rank);
    this.#readers -= lock.readers.length - left.length;
    lock.readers = left;
  }

  /** Ends what a process that goes has: it may leave half-written data, even if it ends normally. */
  passOnLocksOf(rank: number): void {
    for (const lock of this.#byOffset.values()) {
      this.#strikeOut(lock, rank);
      if (lock.writer === rank) {
        lock.writer = -1;
        lock.died = rank;
      }
      this.settle(lock);
    }
  }

  #grant(lock: RwLockState, { isWriter, ...to }: RwWaiter): void {
    const { died } = lock;
    if (isWriter) {
      lock.writer = to.rank;
      lock.overtakes = 0;
    } else {
      const reader = lock.readers.find(({ rank }) => rank === to.rank);
      if (reader === undefined) {
        lock.readers.push({ rank: to.rank, reads: 1 });
        this.#readers += 1;
      } else {
        reader.reads += 1;
      }
    }
    this.#replies.status(to, died < 0 ? Status.OK : Status.OWNER_DIED, Math.max(died, 0));
  }

  /**
   * Grants what can be granted, and forgets the lock if it is in its first state. Follows each change of a lock, also one of
   * its queue.
   */
  settle(queue: WaitQueue): void {
    if (!this.#has(queue)) return;
    for (
      let next = queue.waiters[0];
      next !== undefined && isGrantable(queue, next.isWriter);
      next = queue.waiters[0]
    ) {
      this.#waits.dequeue(queue);
      this.#grant(queue, next);
    }
    const { offset, writer, readers, died, waiters } = queue;
    if (waiters.length === 0) queue.overtakes = 0;
    if (writer < 0 && readers.length === 0 && died < 0 && waiters.length === 0) this.#byOffset.delete(offset);
  }

  #has(queue: WaitQueue | RwLockState): queue is RwLockState {
    return "offset" in queue && this.#byOffset.get(queue.offset) === queue;
  }

  /** The lock gets its first state again, unless a process has it or waits for it: false then. */
  initialize(offset: number): boolean {
    const lock = this.#byOffset.get(offset);
    if (lock === undefined) return true;
    if (lock.writer >= 0 || lock.readers.length > 0 || lock.waiters.length > 0) return false;
    return this.#byOffset.delete(offset);
  }

  /** That part of the map was freed: its locks get their first state again, and requests for them end with INVALID. */
  reset(from: number, to: number): void {
    for (const lock of this.#byOffset.values()) {
      if (lock.offset < from || lock.offset >= to) continue;
      this.#waits.end(lock, Status.INVALID, 0);
      this.#readers -= lock.readers.length;
      this.#byOffset.delete(lock.offset);
    }
  }

  queues(): IterableIterator<RwLockState> {
    return this.#byOffset.values();
  }

  /** The locks as a later session begins with them: those that a process wrote under. */
  saved(): SavedSession["rwLocks"] {
    return [...this.#byOffset.values()]
      .map(({ offset, writer, died }) => ({ offset, died: writer < 0 ? died : writer }))
      .filter(({ died }) => died >= 0);
  }

  save(): Pick<SessionState, "rwLocks"> {
    return { rwLocks: [...this.#byOffset.values()] };
  }

  load(state: Pick<SessionState, "rwLocks">): void {
    for (const lock of state.rwLocks) {
      this.#byOffset.set(lock.offset, lock);
      this.#readers += lock.readers.length;
    }
  }
}

/** A lock that no process has. `died`: the rank of a dead writer, or -1. */
export const newRwLock = (offset: number, died: number): RwLockState => ({
  ...{ offset, writer: -1, readers: [], died, overtakes: 0, waiters: [] },
});

const isGrantable = ({ writer, readers }: RwLockState, isWriter: boolean): boolean =>
  writer < 0 && (!isWriter || readers.length === 0);
