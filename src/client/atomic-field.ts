/**
 * AtomicField: the atomic operations of one integer field of a struct, and the page marks that make them atomic under
 * the order `release`.
 */
import type { Order } from "../core/base/consistency.ts";
import type { Lock } from "./lock.ts";
import type { MapBarrier } from "./map-barrier.ts";
import type { MapCond, MapMutex } from "./map-mutex.ts";
import type { ObjectPlace } from "./map-place.ts";
import type { MapRwlock } from "./map-rwlock.ts";
import type { MapSemaphore } from "./map-semaphore.ts";
import type { WaitOutcome } from "./outcomes.ts";
import type { IntegerArray, WaitOptions } from "./waiting.ts";

/** The part of a session that a struct needs. */
export interface StructHost {
  readonly order: Order;
  /** Whether the session is in direct mode now, and whether that mode may end or has ended. */
  readonly direct: boolean;
  readonly directMayEnd: boolean;
  fence(): void;
  lock(name: string): Lock;
  mutexAt(where: ObjectPlace): MapMutex;
  rwlockAt(where: ObjectPlace): MapRwlock;
  condAt(where: ObjectPlace): MapCond;
  semaphoreAt(where: ObjectPlace): MapSemaphore;
  barrierAt(where: ObjectPlace): MapBarrier;
  waitFor<View extends IntegerArray>(
    view: View,
    index: number,
    expected: View[number],
    options?: WaitOptions,
  ): Promise<WaitOutcome>;
  waitForSync<View extends IntegerArray>(
    view: View,
    index: number,
    expected: View[number],
    options?: Pick<WaitOptions, "timeoutMs">,
  ): WaitOutcome;
  notify(view: IntegerArray, index: number, count?: number): number;
}

/**
 * Marks pages as used by atomic operations. Under `release` a page that this process stores to is a private copy until
 * the next synchronising operation, and an atomic operation there would only change the copy. A page on which an atomic
 * operation was executed before is never copied. So markPages executes one on each page, after a fence, when no page is
 * a private copy.
 */
export function markPages(session: StructHost, u8: Uint8Array<ArrayBuffer>, pages: ReadonlyMap<number, number>): void {
  for (const at of pages.values()) {
    session.fence();
    Atomics.add(u8, at, 0);
  }
}

/** LaterMarks marks the pages of a session whose direct mode may end, as soon as it has ended. */
export class LaterMarks {
  readonly #session: StructHost;
  readonly #u8: Uint8Array<ArrayBuffer>;
  readonly #pages: ReadonlyMap<number, number>;
  #made = false;

  constructor(session: StructHost, u8: Uint8Array<ArrayBuffer>, pages: ReadonlyMap<number, number>) {
    this.#session = session;
    this.#u8 = u8;
    this.#pages = pages;
  }

  make(): void {
    if (this.#made || this.#session.direct) return;
    this.#made = true;
    markPages(this.#session, this.#u8, this.#pages);
  }
}

/**
 * The atomic operations of one integer field, as those of `Atomics`: each is one step for all processes of the session,
 * on any node. All but `load` are synchronising operations under the order `release`.
 */
export class AtomicField<Value extends number | bigint> {
  readonly #session: StructHost;
  /** Any integer array; the types of `Atomics` require a specific one. */
  readonly #view: Int32Array;
  readonly #index: number;
  readonly #later: LaterMarks | null;

  /** @internal Use `$atomic`. */
  constructor(session: StructHost, view: IntegerArray, index: number, later: LaterMarks | null) {
    this.#session = session;
    this.#view = view as Int32Array;
    this.#index = index;
    this.#later = later;
  }

  /** The view, for an operation. */
  get #marked(): Int32Array {
    this.#later?.make();
    return this.#view;
  }

  /** Returns the value. */
  load(): Value {
    return Atomics.load(this.#view, this.#index) as Value;
  }

  /** Stores `value` and returns it. */
  store(value: Value): Value {
    return Atomics.store(this.#marked, this.#index, value as number) as Value;
  }

  /** Adds `value`, and returns the previous value. */
  add(value: Value): Value {
    return Atomics.add(this.#marked, this.#index, value as number) as Value;
  }

  /** Subtracts `value`, and returns the previous value. */
  sub(value: Value): Value {
    return Atomics.sub(this.#marked, this.#index, value as number) as Value;
  }

  /** Keeps the bits that are set in `value`, and returns the previous value. */
  and(value: Value): Value {
    return Atomics.and(this.#marked, this.#index, value as number) as Value;
  }

  /** Sets the bits that are set in `value`, and returns the previous value. */
  or(value: Value): Value {
    return Atomics.or(this.#marked, this.#index, value as number) as Value;
  }

  /** Flips the bits that are set in `value`, and returns the previous value. */
  xor(value: Value): Value {
    return Atomics.xor(this.#marked, this.#index, value as number) as Value;
  }

  /** Stores `value`, and returns the previous value. */
  exchange(value: Value): Value {
    return Atomics.exchange(this.#marked, this.#index, value as number) as Value;
  }

  /** Stores `replacement` if the value is `expected`. Returns the previous value: `expected` if it was stored. */
  compareExchange(expected: Value, replacement: Value): Value {
    return Atomics.compareExchange(this.#marked, this.#index, expected as number, replacement as number) as Value;
  }

  /** Sleeps while the value is `expected`, as `session.waitFor()` does. */
  waitFor(expected: Value, options: WaitOptions = {}): Promise<WaitOutcome> {
    return this.#session.waitFor(this.#view, this.#index, expected as number, options);
  }

  /** Like waitFor(), but blocks the whole program, timers and promises included. */
  waitForSync(expected: Value, options: Pick<WaitOptions, "timeoutMs"> = {}): WaitOutcome {
    return this.#session.waitForSync(this.#view, this.#index, expected as number, options);
  }

  /**
   * Wakes at most `count` sleepers on this field, on any node, and returns their number, as `session.notify()`
   * does.
   */
  notify(count = Number.POSITIVE_INFINITY): number {
    return this.#session.notify(this.#view, this.#index, count);
  }
}
