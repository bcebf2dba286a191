/**
 * Conditions: condition variables in the map. A waiter names its mutex, gives it up and waits, as one entry; it goes on with
 * the mutex again.
 *
 *     has the mutex ──COND_WAIT──▶ in the queue of the condition ──COND_SIGNAL, SEM_CANCEL──▶ in the queue of the mutex
 *           ▲                                                                                          │
 *           └─────────────────────────── OK, TIMEOUT or OWNER_DIED: it has the mutex ──────────────────┘
 *
 * A signal moves waiters, it does not wake them (wait morphing): each is answered once, when it has its mutex.
 *
 * Invariants: giving the mutex up and beginning to wait are one entry, so no signal is lost between them. A signal goes to a
 * request that waits: not to one that was taken back before it, nor to a process that has gone. If a process goes that was
 * signalled and has not got its mutex yet, the next waiter is signalled in its place. A condition without waiters is not
 * kept: it has no other state.
 */
import { Status } from "../base/errors.ts";
import type {
  ConditionState,
  ConditionWaiter,
  LockWaiter,
  Requester,
  SessionState,
  WaitQueue,
} from "../messages/session-state.ts";
import type { Locks } from "./locks.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import type { WaitQueues } from "./wait-queues.ts";

export class Conditions {
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  readonly #locks: Locks;
  /** By place in the map. */
  readonly #byOffset = new Map<number, ConditionState>();

  constructor(members: Membership, replies: Replies, waits: WaitQueues, locks: Locks) {
    this.#members = members;
    this.#replies = replies;
    this.#waits = waits;
    this.#locks = locks;
  }

  wait(offset: number, mutex: string, from: Requester): void {
    const refusal = this.#members.refusal(from);
    if (refusal === Status.LEFT) {
      this.#replies.status(from, refusal);
    } else if (!this.#locks.isOwner(mutex, from.rank)) {
      this.#replies.status(from, Status.NOT_OWNER);
    } else if (refusal === Status.LOST) {
      // A wait that ends with LOST never has the mutex, however early the loss was.
      this.#giveUp(mutex);
      this.#replies.status(from, refusal, this.#members.lostRank);
    } else {
      const condition = this.#byOffset.get(offset) ?? { offset, waiters: [] };
      if (!this.#waits.enqueue(condition, { ...from, mutex })) return;
      this.#byOffset.set(offset, condition);
      this.#giveUp(mutex);
    }
  }

  /** Who waits has not said that the data is consistent again after a death. */
  #giveUp(mutex: string): void {
    this.#locks.release(mutex, true);
  }

  /** Signalling stays possible after a loss. */
  signal(offset: number, count: number, from: Requester): void {
    if (this.#members.admits(from, true)) this.#replies.ok(from.node, from.tag, this.#signal(offset, count));
  }

  #signal(offset: number, count: number): number {
    const condition = this.#byOffset.get(offset);
    if (condition === undefined) return 0;
    let moved = 0;
    for (let next: ConditionWaiter | undefined; moved < count; moved += 1) {
      next = this.#waits.dequeue(condition);
      if (next === undefined) break;
      this.#comeBack(offset, next, Status.OK);
    }
    this.settle(condition);
    return moved;
  }

  #comeBack(offset: number, { mutex, ...from }: ConditionWaiter, outcome: Status): void {
    this.#locks.comeBack(mutex, { ...from, tryOnly: false, condition: offset, outcome });
  }

  /** Takes back the wait if it is one of these: it goes on with TIMEOUT once it has its mutex. Returns whether it is. */
  cancel(queue: WaitQueue, { node, tag }: Requester): boolean {
    if (!this.#has(queue)) return false;
    const waiter = this.#waits.remove(queue, node, tag);
    if (waiter !== undefined) this.#comeBack(queue.offset, waiter, Status.TIMEOUT);
    this.settle(queue);
    return true;
  }

  /** These requests for mutexes ended with their process. Their signals are passed on. */
  passOnSignalsOf(ended: readonly LockWaiter[]): void {
    for (const { condition, outcome } of ended) if (condition >= 0 && outcome === Status.OK) this.#signal(condition, 1);
  }

  /** The mutexes with which the first `count` waiters of the condition go on. */
  mutexesOf(offset: number, count: number): string[] {
    return [
      ...new Set(
        this.#byOffset
          .get(offset)
          ?.waiters.slice(0, count)
          .map(({ mutex }) => mutex),
      ),
    ];
  }

  /** The mutex with which the request goes on if it waits for a condition, else null. */
  mutexOf(node: number, tag: number): string | null {
    const queue = this.#waits.queueOf(node, tag);
    if (queue === undefined || !this.#has(queue)) return null;
    return queue.waiters.find((waiter) => waiter.node === node && waiter.tag === tag)?.mutex ?? null;
  }

  #has(queue: WaitQueue | ConditionState): queue is ConditionState {
    return "offset" in queue && this.#byOffset.get(queue.offset) === queue;
  }

  isInUse(offset: number): boolean {
    return this.#byOffset.has(offset);
  }

  /** That part of the map was freed: waits for its conditions end with INVALID. */
  reset(from: number, to: number): void {
    for (const condition of this.#byOffset.values()) {
      if (condition.offset < from || condition.offset >= to) continue;
      this.#waits.end(condition, Status.INVALID, 0);
      this.settle(condition);
    }
  }

  /** Forgets the condition if it is one of these, and no request waits for it. */
  settle(queue: WaitQueue): void {
    if (queue.waiters.length === 0 && this.#has(queue)) this.#byOffset.delete(queue.offset);
  }

  queues(): IterableIterator<ConditionState> {
    return this.#byOffset.values();
  }

  save(): Pick<SessionState, "conditions"> {
    return { conditions: [...this.#byOffset.values()] };
  }

  load(state: SessionState): void {
    for (const condition of state.conditions) this.#byOffset.set(condition.offset, condition);
  }
}
