/**
 * Semaphores by name, and those in the map, whose names are their places. A wait or a post creates one with a name, and it
 * stays until the session ends. One in the map begins with the value 0, or with that which initialize() gives it.
 */
import { Status } from "../base/errors.ts";
import { SEMAPHORE_VALUE_MAX, SEMAPHORES_MAX } from "../base/limits.ts";
import { checkResourceName, isObjectName, objectName } from "../base/names.ts";
import type { Requester, SemaphoreState, SessionState, WaitQueue } from "../messages/session-state.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";
import { ResourceTable } from "./resource-table.ts";
import type { WaitQueues } from "./wait-queues.ts";

const isIdle = ({ value, waiters }: SemaphoreState): boolean => value === 0 && waiters.length === 0;

export class Semaphores {
  readonly #mapSize: number;
  readonly #members: Membership;
  readonly #replies: Replies;
  readonly #waits: WaitQueues;
  readonly #table = new ResourceTable<SemaphoreState>(
    SEMAPHORES_MAX,
    (name) => ({ name, value: 0, waiters: [] }),
    isIdle,
  );

  constructor(mapSize: number, members: Membership, replies: Replies, waits: WaitQueues) {
    this.#mapSize = mapSize;
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
    const isKnown = this.#table.get(name) !== undefined;
    if (!isKnown && !this.#isObject(name)) return;
    const semaphore = this.#table.open(name, true) as SemaphoreState;
    semaphore.value = value;
    for (let next: Requester | undefined; semaphore.value > 0; semaphore.value -= 1) {
      next = this.#waits.dequeue(semaphore);
      if (next === undefined) break;
      this.#replies.ok(next.node, next.tag);
    }
  }

  /** The semaphore in the map gets that value, unless a process waits for it: false then; null: too many are in use. */
  initialize(offset: number, value: number): boolean | null {
    const name = objectName("semaphore", offset);
    if (this.waitersOf(name).length > 0) return false;
    const semaphore = this.#table.open(name, false);
    if (semaphore === null) return null;
    semaphore.value = value;
    return true;
  }

  /** That part of the map was freed: its semaphores get the value 0, and requests for them end with INVALID. */
  reset(from: number, to: number): void {
    for (const semaphore of this.#table.within(from, to)) {
      this.#waits.end(semaphore, Status.INVALID, 0);
      this.#table.forget(semaphore.name);
    }
  }

  waitersOf(name: string): readonly Requester[] {
    return this.#table.get(name)?.waiters ?? [];
  }

  /** The value of the semaphore if it is there and no process waits for it, else -1. */
  idleValueOf(name: string): number {
    const semaphore = this.#table.get(name);
    if (semaphore === undefined) return this.#isObject(name) ? 0 : -1;
    return semaphore.waiters.length > 0 ? -1 : semaphore.value;
  }

  #isObject(name: string): boolean {
    return isObjectName(name) && checkResourceName("semaphore", name, this.#mapSize) === null;
  }

  /** The semaphore of that name, created if needed; null: the request was refused and answered. */
  #open(name: string, initial: number, from: Requester): SemaphoreState | null {
    let semaphore = this.#table.get(name);
    const isObject = isObjectName(name);
    const isNew = semaphore === undefined;
    const isValid =
      (!isNew || checkResourceName("semaphore", name, this.#mapSize) === null) && !(isObject && initial > 0);
    semaphore = (isValid ? this.#table.open(name, false) : null) ?? undefined;
    if (semaphore === undefined) {
      this.#replies.status(from, isValid ? Status.LIMIT : Status.INVALID);
      return null;
    }
    if (isNew) semaphore.value = initial;
    return semaphore;
  }

  /** Semaphores that have names of programs, and objects that are in use. */
  all(): Iterable<SemaphoreState> {
    return this.#table.inUse();
  }

  queues(): Iterable<WaitQueue> {
    return this.#table.inUse();
  }

  save(): Pick<SessionState, "semaphores"> {
    return { semaphores: this.#table.save() };
  }

  load(state: Pick<SessionState, "semaphores">): void {
    this.#table.load(state.semaphores, () => false);
  }
}
