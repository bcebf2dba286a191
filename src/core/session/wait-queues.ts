/**
 * WaitQueues: the queues in which requests wait, and the queue of each request, so that it can be cancelled by its tag.
 *
 * Invariant: a request is in at most one queue, and `#queueOf` knows it.
 */
import { Status } from "../base/errors.ts";
import { WAITING_MAX } from "../base/limits.ts";
import type { Requester, WaitQueue } from "../messages/session-state.ts";
import { requestKey } from "../wire/request-key.ts";
import type { Replies } from "./replies.ts";

export class WaitQueues {
  readonly #replies: Replies;
  /** By requestKey(). */
  readonly #queueOf = new Map<number, WaitQueue<Requester>>();

  constructor(replies: Replies) {
    this.#replies = replies;
  }

  /**
   * Appends the request to the queue. False: it is answered instead, with BUSY (a request with that tag waits already)
   * or LIMIT: every WELCOME carries all waiting requests, so their number is limited to what fits there.
   */
  enqueue<Waiter extends Requester>(queue: WaitQueue<Waiter>, from: Waiter): boolean {
    const key = requestKey(from.node, from.tag);
    const isKnown = this.#queueOf.has(key);
    if (isKnown || this.#queueOf.size >= WAITING_MAX) {
      this.#replies.status(from, isKnown ? Status.BUSY : Status.LIMIT);
      return false;
    }
    queue.waiters.push(from);
    this.#queueOf.set(key, queue);
    return true;
  }

  /** Removes the first request from the queue. */
  dequeue<Waiter extends Requester>(queue: WaitQueue<Waiter>): Waiter | undefined {
    const next = queue.waiters.shift();
    if (next !== undefined) this.#queueOf.delete(requestKey(next.node, next.tag));
    return next;
  }

  /** The queue in which the request waits; undefined: it does not wait. */
  queueOf(node: number, tag: number): WaitQueue | undefined {
    return this.#queueOf.get(requestKey(node, tag));
  }

  /** Removes the request from the queue. Returns it as it waited. */
  remove<Waiter extends Requester>(queue: WaitQueue<Waiter>, node: number, tag: number): Waiter | undefined {
    return this.#remove(queue, (waiter) => waiter.node === node && waiter.tag === tag)[0];
  }

  /**
   * Ends, with `status`, all requests of the queue that `rank` made, or all if `rank` is left out. Returns them as they
   * waited.
   */
  end<Waiter extends Requester>(queue: WaitQueue<Waiter>, status: Status, aux: number, rank?: number): Waiter[] {
    const ended = this.#remove(queue, (waiter) => rank === undefined || waiter.rank === rank);
    for (const waiter of ended) this.#replies.status(waiter, status, aux);
    return ended;
  }

  #remove<Waiter extends Requester>(queue: WaitQueue<Waiter>, matches: (waiter: Requester) => boolean): Waiter[] {
    const removed = queue.waiters.filter(matches);
    if (removed.length === 0) return removed;
    queue.waiters = queue.waiters.filter((waiter) => !matches(waiter));
    for (const { node, tag } of removed) this.#queueOf.delete(requestKey(node, tag));
    return removed;
  }

  /** Registers the requests of a queue that was loaded. */
  load(queue: WaitQueue): void {
    for (const { node, tag } of queue.waiters) this.#queueOf.set(requestKey(node, tag), queue);
  }
}
