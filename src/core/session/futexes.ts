/**
 * Futexes: sleeping on a value of the map, as futex(2) does.
 *
 * Invariant: no wake-up is lost. The comparison and the beginning of the sleep are one entry. A process that changes
 * the value and then wakes comes either before it, so that the comparison sees the change, or after it, so that the
 * wake finds the sleeper.
 */
import { Status } from "../base/errors.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import type { FutexQueue, Requester, SessionState, WaitQueue } from "../messages/session-state.ts";
import { FutexWaitAt, HEADER_SIZE } from "../wire/at.ts";
import { getUint64 } from "../wire/frame.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import type { WaitQueues } from "./wait-queues.ts";

export class Futexes {
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  readonly #memory: MapBytes;
  /** By place in the map. */
  readonly #byOffset = new Map<number, FutexQueue>();

  constructor(members: Membership, replies: Replies, waits: WaitQueues, memory: MapBytes) {
    this.#members = members;
    this.#replies = replies;
    this.#waits = waits;
    this.#memory = memory;
  }

  /** Applies the FUTEX_WAIT at `at`. */
  sleep(view: DataView, at: number, from: Requester): void {
    if (!this.#members.admits(from)) return;
    if (view.getUint8(at + FutexWaitAt.isCompared) === 0 && !this.equalsMap(view, at)) {
      this.#replies.status(from, Status.AGAIN);
      return;
    }
    const offset = getUint64(view, at + FutexWaitAt.mapOffset);
    const queue = this.#byOffset.get(offset) ?? { offset, waiters: [] };
    if (this.#waits.enqueue(queue, from)) this.#byOffset.set(offset, queue);
  }

  /** Whether the map holds the value that the FUTEX_WAIT at `at` expects. */
  equalsMap(view: DataView, at: number): boolean {
    const width = view.getUint32(at + FutexWaitAt.width, true);
    return this.#memory.equals(getUint64(view, at + FutexWaitAt.mapOffset), width, view, at + HEADER_SIZE);
  }

  wake(offset: number, count: number, node: number, tag: number): void {
    const queue = this.#byOffset.get(offset);
    let woken = 0;
    for (let next: Requester | undefined; queue !== undefined && woken < count; woken += 1) {
      next = this.#waits.dequeue(queue);
      if (next === undefined) break;
      this.#replies.ok(next.node, next.tag);
    }
    if (queue !== undefined) this.settle(queue);
    this.#replies.ok(node, tag, woken);
  }

  /** Deletes the queue if it is one of these, and no request waits in it. */
  settle(queue: WaitQueue | FutexQueue): void {
    if (queue.waiters.length > 0 || !("offset" in queue)) return;
    if (this.#byOffset.get(queue.offset) === queue) this.#byOffset.delete(queue.offset);
  }

  queues(): IterableIterator<FutexQueue> {
    return this.#byOffset.values();
  }

  save(): Pick<SessionState, "sleepers"> {
    return { sleepers: [...this.#byOffset.values()] };
  }

  load(state: SessionState): void {
    for (const queue of state.sleepers) this.#byOffset.set(queue.offset, queue);
  }
}
