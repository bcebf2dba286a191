/**
 * CountedBarriers: barriers in the map. Such a barrier opens when as many requests have arrived as they say; it does not
 * matter which processes, or threads, they are of.
 *
 *     no request waits ──ARRIVE──▶ fewer than `count` wait ──ARRIVE, the last──▶ all are answered, none waits
 *
 * Invariants: all that wait have given the same number, and fewer wait than that. An arrival that is taken back, or whose
 * process has gone, does not count. Each opening ends the waits of exactly `count` arrivals; the next arrival is the first
 * of the next phase. A barrier at which none waits is not kept: it has no other state.
 */
import { Status } from "../base/errors.ts";
import type { CountedBarrierState, Requester, SessionState, WaitQueue } from "../messages/session-state.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import type { WaitQueues } from "./wait-queues.ts";

export class CountedBarriers {
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  /** By place in the map. */
  readonly #byOffset = new Map<number, CountedBarrierState>();

  constructor(members: Membership, replies: Replies, waits: WaitQueues) {
    this.#members = members;
    this.#replies = replies;
    this.#waits = waits;
  }

  arrive(offset: number, count: number, from: Requester): void {
    if (!this.#members.admits(from)) return;
    const barrier = this.#byOffset.get(offset) ?? { offset, count, waiters: [] };
    if (barrier.count !== count) {
      this.#replies.status(from, Status.MISMATCH, 0, barrier.count);
    } else if (barrier.waiters.length + 1 < count) {
      if (this.#waits.enqueue(barrier, from)) this.#byOffset.set(offset, barrier);
    } else {
      this.#waits.end(barrier, Status.OK, 0);
      this.settle(barrier);
      this.#replies.ok(from.node, from.tag, 1);
    }
  }

  /** Takes back the arrival if it is one of these. Returns whether it is. */
  cancel(queue: WaitQueue, { node, tag }: Requester): boolean {
    if (!this.#has(queue)) return false;
    const missing = queue.count - queue.waiters.length;
    this.#waits.remove(queue, node, tag);
    this.settle(queue);
    this.#replies.status({ node, tag }, Status.TIMEOUT, 0, missing);
    return true;
  }

  #has(queue: WaitQueue | CountedBarrierState): queue is CountedBarrierState {
    return "offset" in queue && this.#byOffset.get(queue.offset) === queue;
  }

  isInUse(offset: number): boolean {
    return this.#byOffset.has(offset);
  }

  /** That part of the map was freed: waits at its barriers end with INVALID. */
  reset(from: number, to: number): void {
    for (const barrier of this.#byOffset.values()) {
      if (barrier.offset < from || barrier.offset >= to) continue;
      this.#waits.end(barrier, Status.INVALID, 0);
      this.settle(barrier);
    }
  }

  /** Forgets the barrier if it is one of these, and no request waits at it. */
  settle(queue: WaitQueue): void {
    if (queue.waiters.length === 0 && this.#has(queue)) this.#byOffset.delete(queue.offset);
  }

  queues(): IterableIterator<CountedBarrierState> {
    return this.#byOffset.values();
  }

  save(): Pick<SessionState, "countedBarriers"> {
    return { countedBarriers: [...this.#byOffset.values()] };
  }

  load(state: SessionState): void {
    for (const barrier of state.countedBarriers) this.#byOffset.set(barrier.offset, barrier);
  }
}
