/** Semaphores by name. A wait or a post creates the semaphore; it stays until the session ends. */
import { Status } from "../base/errors.ts";
import { SEMAPHORE_VALUE_MAX, SEMAPHORES_MAX } from "../base/limits.ts";
import { checkName } from "../base/names.ts";
import type { Requester, SemaphoreState, SessionState, WaitQueue } from "../messages/session-state.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import type { WaitQueues } from "./wait-queues.ts";

export class Semaphores {
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  readonly #byName = new Map<string, SemaphoreState>();

  constructor(members: Membership, replies: Replies, waits: WaitQueues) {
    this.#members = members;
    this.#replies = replies;
    this.#waits = waits;
  }

  wait(name: string, initial: number, tryOnly: boolean, from: Requester): void {
    if (!this.#members.admits(from)) return;
    const semaphore = this.#open(name, initial, from);
    if (semaphore === null) return;
    if (semaphore.value > 0) {
      semaphore.value -= 1;
      this.#replies.ok(from.node, from.tag);
    } else if (tryOnly) {
      this.#replies.status(from, Status.AGAIN);
    } else {
      this.#waits.enqueue(semaphore, from);
    }
  }

  /** Posts. Posting stays possible after a loss, so that survivors can release what they hold. */
  post(name: string, initial: number, increment: number, from: Requester): void {
    if (!this.#members.admits(from, true)) return;
    const semaphore = this.#open(name, initial, from);
    if (semaphore === null) return;
    const next = increment > 0 ? this.#waits.dequeue(semaphore) : undefined;
    if (next !== undefined) {
      this.#replies.ok(next.node, next.tag);
    } else if (semaphore.value + increment > SEMAPHORE_VALUE_MAX) {
      this.#replies.status(from, Status.OVERFLOW);
      return;
    } else {
      semaphore.value += increment;
    }
    this.#replies.ok(from.node, from.tag);
  }

  /** Processes have made `value` of it without requests, in direct mode. */
  set(name: string, value: number): void {
    const semaphore = this.#byName.get(name);
    if (semaphore === undefined) return;
    semaphore.value = value;
    while (semaphore.value > 0) {
      const next = this.#waits.dequeue(semaphore);
      if (next === undefined) return;
      semaphore.value -= 1;
      this.#replies.ok(next.node, next.tag);
    }
  }

  waitersOf(name: string): readonly Requester[] {
    return this.#byName.get(name)?.waiters ?? [];
  }

  /** The value of the semaphore if it is there and no process waits for it, else -1. */
  idleValueOf(name: string): number {
    const semaphore = this.#byName.get(name);
    return semaphore === undefined || semaphore.waiters.length > 0 ? -1 : semaphore.value;
  }

  /** The semaphore of that name, created if needed; null: the request was refused and answered. */
  #open(name: string, initial: number, from: Requester): SemaphoreState | null {
    let semaphore = this.#byName.get(name);
    if (semaphore !== undefined) return semaphore;
    const isValid = checkName("semaphore", name) === null;
    if (!isValid || this.#byName.size >= SEMAPHORES_MAX) {
      this.#replies.status(from, isValid ? Status.LIMIT : Status.INVALID);
      return null;
    }
    semaphore = { name, value: initial, waiters: [] };
    this.#byName.set(name, semaphore);
    return semaphore;
  }

  all(): IterableIterator<SemaphoreState> {
    return this.#byName.values();
  }

  queues(): Iterable<WaitQueue> {
    return this.#byName.values();
  }

  save(): Pick<SessionState, "semaphores"> {
    return { semaphores: [...this.#byName.values()] };
  }

  load(state: Pick<SessionState, "semaphores">): void {
    for (const semaphore of state.semaphores) this.#byName.set(semaphore.name, semaphore);
  }
}
