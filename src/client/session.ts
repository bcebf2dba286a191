import type { Order } from "../core/base/consistency.ts";
import { DsmError } from "../core/base/errors.ts";
import type { OnLoss } from "../core/base/loss-policy.ts";
import type { Fields, StructType } from "../core/layout/struct.ts";
import { type AllocOptions, alloc, free, named } from "./blocks.ts";
import { Hole } from "./hole.ts";
import { Lock } from "./lock.ts";
import { MapBarrier } from "./map-barrier.ts";
import { MapCond, MapMutex } from "./map-mutex.ts";
import type { ObjectPlace } from "./map-place.ts";
import { MapRwlock } from "./map-rwlock.ts";
import { MapSemaphore } from "./map-semaphore.ts";
import { openStruct } from "./open-struct.ts";
import { checkBarrier, checkBarrierReply, inBarrier, type WaitOutcome } from "./outcomes.ts";
import { Semaphore } from "./semaphore.ts";
import type { SessionHandle } from "./session-handle.ts";
import { promised } from "./stack.ts";
import type { SharedFields } from "./struct-types.ts";
import type { ThreadHandle } from "./thread-state.ts";
import {
  type AnyView,
  type AnyViewType,
  holeRange,
  type Range,
  type ReadOptions,
  readRange,
  type ViewType,
  viewOf,
} from "./views.ts";
import { type IntegerArray, notify, replyTo, timeoutOf, type WaitOptions, waitFor, waitForSync } from "./waiting.ts";

/**
 * Session: a session that this process has joined, and its shared memory.
 *
 * Store through any view over `buffer`. `Atomics.*` on integer views are atomic across nodes. (`Atomics.wait` and
 * `Atomics.notify` need a SharedArrayBuffer and do not work here: use `waitFor()` and `notify()`.) The `order` of the
 * session decides when other processes see a store:
 *
 * - "sequential": all processes see all stores, in one total order; a store returns when it is applied.
 * - "release": a process sees its own stores at once; other processes see them after its next synchronising operation: a
 *   barrier, waiting for or posting a semaphore, taking or giving back a lock, `Atomics.*`, `waitFor()`, `notify()`, `fence()`,
 *   `alloc()`, `named()`, `free()`, leaving; some of those made while it has a lock they may see before. Each operation first
 *   publishes all changes since the last one, so a process that synchronises with it sees these stores. Publishing much data
 *   blocks the thread, also in the promise forms. Stores made during a wait are published when it ends. Do not put values that
 *   are used with `Atomics` beside arrays: on a page (of 4096 bytes) to which this process has stored more than 16 times since
 *   its last synchronising operation, or that lies in an array that it is filling or fills again, an atomic operation acts on
 *   the private copy only, unless some process has executed one on that page before.
 *
 * In direct mode (`direct`) processes share the memory as threads do, and the hardware orders it, whatever `order`
 * says. Write programs for elastic sessions as if there were no direct mode: it may end at any time.
 *
 * Unless in direct mode, system calls cannot write to the map: they fail with EFAULT. Use `readSync()` of the session,
 * which is also what `fs.readSync()` does with a view of the map (but not a `readSync` imported by that name). Writing
 * from the map to a file works as usual.
 *
 * `buffer` cannot be given to a worker: `postMessage()` of it, or of a view, sends a copy that is shared with no one, and
 * transferring it fails. Give the worker `handle()`, and let it call `attach()`.
 *
 * `using` and `await using` leave at the end of the scope. After leaving, every call fails with DSM_LEFT, and views
 * over the buffer still show the last state; a store to them terminates the program with a message. That lasts until
 * this program joins a session at the same address, 512 sessions of one daemon later at the earliest: the view then
 * shows that session.
 *
 * A process that ends without leaving is lost: barriers and waits of all others then fail with DSM_LOST, unless the
 * session was joined with `onLoss: "continue"`.
 */
export class Session {
  /** Number of this process in the session, 0 to `processes - 1`. */
  readonly rank: number;
  /** Name of the node of this process. */
  readonly node: string;
  /** Name of the session. */
  readonly name: string;
  /** The consistency model. */
  readonly order: Order;
  /** The policy for a process that dies without leaving. */
  readonly onLoss: OnLoss;
  /** Bytes in the map: whole pages of 4096. */
  readonly size: number;
  /** Address of the map, the same in every process of the session. */
  readonly address: bigint;
  /** The shared memory itself. A message to a worker would copy it: see `handle()`. */
  readonly buffer: ArrayBuffer;
  readonly #handle: SessionHandle;
  #inBarrier = false;

  /** @internal Use `join()`. */
  constructor(handle: SessionHandle) {
    const { rank, node, name, order, onLoss, size, address, buffer } = handle.info;
    this.rank = rank;
    this.node = node;
    this.name = name;
    this.order = order;
    this.onLoss = onLoss;
    this.size = size;
    this.address = address;
    this.buffer = buffer;
    this.#handle = handle;
  }

  /** @internal What console.log() shows: the facts, without the bytes. */
  [Symbol.for("nodejs.util.inspect.custom")](): Record<string, unknown> {
    const { name, rank, processes, node, order, onLoss, size, address, direct } = this;
    return { name, rank, processes, node, order, onLoss, size, address, direct };
  }

  /**
   * Whether all processes are on one node and share its memory directly: stores do not trap. In an elastic session
   * direct mode ends automatically, at any time, when a process of another node joins.
   */
  get direct(): boolean {
    return this.#handle.direct;
  }

  /** @internal Whether direct mode may end, or has ended. */
  get directMayEnd(): boolean {
    return this.#handle.info.directMayEnd;
  }

  /**
   * Processes in the session. In an elastic session: their number in the last barrier this process passed, or when it
   * joined.
   */
  get processes(): number {
    return this.#handle.processes;
  }

  /**
   * A view over the shared memory from `byteOffset` on: `length` elements (bytes for a DataView), or up to the end.
   * Fails with DSM_INVALID when it does not fit or is not aligned to its elements, DSM_LEFT after leaving.
   */
  view(type: typeof DataView, byteOffset?: number, length?: number): DataView<ArrayBuffer>;
  view<View extends AnyView>(type: ViewType<View>, byteOffset?: number, length?: number): View;
  view(type: AnyViewType, byteOffset = 0, length?: number): AnyView {
    this.#handle.check();
    return viewOf(type, this.buffer, byteOffset, length);
  }

  /**
   * Resolves when every process that has not left is in the barrier. Fails with DSM_BUSY while this process is in one
   * already, DSM_TIMEOUT after `timeoutMs`, DSM_LOST when a process died without leaving, DSM_LEFT after leaving,
   * DSM_UNREACHABLE.
   *
   * When it times out or is aborted, this process is out of the barrier again, as if it had not called. (If the barrier
   * was passed at the same moment, the promise resolves: the others have gone on.)
   */
  barrier(options: WaitOptions = {}): Promise<void> {
    return promised(() => this.#barrier(options));
  }

  async #barrier(options: WaitOptions): Promise<void> {
    this.#handle.check();
    if (this.#inBarrier) throw inBarrier();
    this.#inBarrier = true;
    try {
      const reply = await replyTo(this.#handle, (channel) => channel.barrier(), options, null);
      checkBarrierReply(reply, options.timeoutMs);
      this.#handle.passedBarrier(reply.value);
    } finally {
      this.#inBarrier = false;
    }
  }

  /** Like barrier(), but blocks the whole thread, timers and promises included. */
  barrierSync(options: Pick<WaitOptions, "timeoutMs"> = {}): void {
    const timeoutMs = timeoutOf(options);
    const { library, pointer } = this.#handle;
    if (this.#inBarrier) throw inBarrier();
    const { barrier, barrierTimed } = library.symbols;
    const status = timeoutMs === undefined ? barrier(pointer) : barrierTimed(pointer, timeoutMs);
    checkBarrier(library.outcome(status));
  }

  /**
   * The semaphore of that name (1 to 63 bytes, no "/"). It begins to exist at its first use by any process, with the
   * value `initial` (0 to 2147483647) given there; later values are ignored. At most 4096 in a session. Fails with
   * DSM_INVALID, DSM_LEFT after leaving.
   */
  semaphore(name: string, initial = 1): Semaphore {
    this.#handle.check();
    return new Semaphore(this.#handle, name, initial);
  }

  /**
   * The lock of that name (1 to 63 bytes, no "/"). It begins to exist at its first use by any process; at most 4096 in
   * a session. Fails with DSM_INVALID, DSM_LEFT after leaving.
   */
  lock(name: string): Lock {
    this.#handle.check();
    return new Lock(this.#handle, name);
  }

  /**
   * The mutex that lies in the map at that byte, a multiple of 64, or where that view of 64 bytes or more begins: the same
   * for all that name the place. Zero bytes are a free one. Structs have it as a field: `dsmMutex`. Fails with DSM_INVALID
   * (not aligned, not in the map), DSM_LEFT after leaving.
   */
  mutexAt(where: ObjectPlace): MapMutex {
    return new MapMutex(this.#handle, where);
  }

  /** The reader-writer lock there, as `mutexAt()`; in a struct `dsmRwlock`. */
  rwlockAt(where: ObjectPlace): MapRwlock {
    return new MapRwlock(this.#handle, where);
  }

  /** The condition variable there, as `mutexAt()`; in a struct `dsmCond`. */
  condAt(where: ObjectPlace): MapCond {
    return new MapCond(this.#handle, where);
  }

  /** The semaphore there, as `mutexAt()`, 0 at first; in a struct `dsmSemaphore`. */
  semaphoreAt(where: ObjectPlace): MapSemaphore {
    return new MapSemaphore(this.#handle, where);
  }

  /** The barrier there, as `mutexAt()`, of as many as there are processes at first; in a struct `dsmBarrier`. */
  barrierAt(where: ObjectPlace): MapBarrier {
    return new MapBarrier(this.#handle, where);
  }

  /**
   * Makes a part of the map a hole: a view over `buffer`, or bytes. At most 64 at once, not overlapping. Fails with
   * DSM_INVALID (empty, not in the map, overlapping), DSM_LIMIT, DSM_NO_MEMORY, DSM_LEFT after leaving.
   */
  hole(where: ArrayBufferView | Range): Hole {
    this.#handle.check();
    const { offset, length } = holeRange(where, this.buffer);
    return new Hole(this.#handle, offset, length);
  }

  /**
   * Like fs.readSync(), which cannot read into the shared memory (EFAULT): reads from a file, pipe or socket to the
   * bytes of `view`, a view over `buffer`, from its byte `offset` on (0 if left out), at most `length` bytes (up to the
   * view's end if left out). `position` is the file's byte to begin at; left out or null: where the file is, which then
   * moves on. Blocks. Returns the bytes read, 0 at the end of the file; of a pipe at most 65,536.
   *
   * What was read is published like stores. Fails with DSM_INVALID, DSM_LEFT after leaving, and DSM_SYSTEM with the
   * system's name for the reason (EBADF, EISDIR; EIO also when the session's arbiter is gone).
   */
  readSync(descriptor: number, view: ArrayBufferView, options: ReadOptions = {}): number {
    this.#handle.check();
    const { offset, length } = readRange(descriptor, view, options, this.buffer);
    return this.#handle.library.read(descriptor, this.address + BigInt(offset), length, options.position ?? null);
  }

  /**
   * A view over a new block of the map, zeroed: `length` elements, or bytes. A program uses blocks or lays out the map
   * by itself, not both. Blocks the thread for the time of one round trip.
   *
   * Fails with DSM_NO_MEMORY (no gap is large enough), DSM_INVALID (no elements, a bad alignment), DSM_LEFT after
   * leaving.
   */
  alloc(bytes: number, options?: AllocOptions): Uint8Array<ArrayBuffer>;
  alloc(type: typeof DataView, bytes: number, options?: AllocOptions): DataView<ArrayBuffer>;
  alloc<View extends AnyView>(type: ViewType<View>, length: number, options?: AllocOptions): View;
  alloc(first: number | AnyViewType, second?: number | AllocOptions, third?: AllocOptions): AnyView {
    const [type, length, options] =
      typeof first === "number"
        ? ([Uint8Array, first, second as AllocOptions | undefined] as const)
        : ([first, second as number, third] as const);
    return alloc(this.#handle, type, length, options);
  }

  /**
   * Gives a block back, which any process may have allocated, by a view that begins where it begins. DSM_INVALID: none
   * does.
   */
  free(view: ArrayBufferView): void {
    free(this.#handle, view);
  }

  /**
   * A view over the block of that name (1 to 63 bytes, no "/"), aligned to 64 bytes: the same block in every process,
   * made at first use and zeroed then. Blocks the thread for the time of one round trip.
   *
   * Fails with DSM_MISMATCH (it exists with another number of bytes), DSM_NO_MEMORY, DSM_INVALID, DSM_LEFT after
   * leaving.
   */
  named(name: string, bytes: number): Uint8Array<ArrayBuffer>;
  named(name: string, type: typeof DataView, bytes: number): DataView<ArrayBuffer>;
  named<View extends AnyView>(name: string, type: ViewType<View>, length: number): View;
  named(name: string, first: number | AnyViewType, second?: number): AnyView {
    const [type, length] = typeof first === "number" ? [Uint8Array, first] : [first, second as number];
    return named(this.#handle, name, type, length);
  }

  /**
   * An object over the block of that name (1 to 56 bytes, no "/") whose properties are the shared memory:
   *
   * ```ts const shared = session.struct("state", { turn: i32, sum: f64, grid: f32.array(512, 512), name: utf8(32),
   * lock: mutex }); shared.sum += chunk; // a load and a store, as of a variable shared.grid[i * 512 + j] = 1; //
   * arrays are typed arrays shared.$atomic.turn.add(1); // one step for all await shared.lock.use(() => (shared.name =
   * "Ada")); ```
   *
   * The same in every process, made at first use and zeroed then, with the layout of the C struct of the same fields:
   * `dsm header` prints that. An assignment to a number or bool is one store; what does not fit is converted as by a
   * typed array. Blocks the thread for the time of two round trips and an atomic operation.
   *
   * Fails with DSM_MISMATCH (other processes have given other fields), and as `named()` does.
   */
  struct<F extends Fields>(name: string, fields: F | StructType<F>): SharedFields<F> {
    return openStruct(this, name, fields);
  }

  /**
   * Sleeps while element `index` of a view over `buffer` is `expected`: "not-equal" at once if it is not, "ok" when
   * `notify()` woke it, "timed-out" after `timeoutMs`. Comparing and going to sleep are one step of the order, so a
   * notification after a change of the value is never missed. "ok" does not say that the value has changed: look again.
   *
   * When it is aborted, the promise rejects with the signal's reason. (If it was woken at the same moment, the wake-up
   * goes to the next sleeper there.) Fails with DSM_INVALID (not an integer array over `buffer`, no such
   * index), DSM_LOST when a process died without leaving, DSM_LEFT after leaving, DSM_LIMIT, DSM_UNREACHABLE.
   */
  waitFor<View extends IntegerArray>(
    view: View,
    index: number,
    expected: View[number],
    options: WaitOptions = {},
  ): Promise<WaitOutcome> {
    return promised(() => waitFor(this.#handle, view, index, expected, options));
  }

  /** Like waitFor(), but blocks the whole thread, timers and promises included. */
  waitForSync<View extends IntegerArray>(
    view: View,
    index: number,
    expected: View[number],
    options: Pick<WaitOptions, "timeoutMs"> = {},
  ): WaitOutcome {
    return waitForSync(this.#handle, view, index, expected, options);
  }

  /**
   * Wakes processes that sleep at element `index`, on any node: at most `count` of them, first come, first served.
   * Returns how many. Blocks the thread for the time of one round trip. Fails with DSM_INVALID, DSM_LEFT after
   * leaving.
   */
  notify(view: IntegerArray, index: number, count = Number.POSITIVE_INFINITY): number {
    return notify(this.#handle, view, index, count);
  }

  /** Returns when every earlier store of this process is ordered. DSM_LEFT after leaving. */
  fence(): void {
    this.#handle.fence();
  }

  /**
   * What a worker thread of this process needs for `attach()`: a small object for `postMessage()` or `workerData`. DSM_LEFT
   * after leaving.
   */
  handle(): ThreadHandle {
    const { library, pointer, threads } = this.#handle;
    return {
      ...{ session: this.name, pid: process.pid, pointer: BigInt(pointer as bigint) },
      ...{ library: library.path, state: threads.memory },
    };
  }

  /**
   * Leaves the session, after publishing what this process has stored; others go on without it. Holes being filled are
   * waited for, open ones are dropped. Barriers, waits and posts of this process that are under way reject with
   * DSM_LEFT, those of its other threads too. A second time: DSM_LEFT. In a thread that has attached: see `attach()`.
   */
  leave(): Promise<void> {
    return promised(() => this.#handle.leave());
  }

  /** Like leave(), but blocks the thread. DSM_BUSY while fill() of a hole is in progress. */
  leaveSync(): void {
    this.#handle.leaveSync();
  }

  /** Leaves, unless it was left before. If the arbiter has ended, this is not an error: there is nothing to leave. */
  [Symbol.dispose](): void {
    try {
      if (!this.#handle.left) this.leaveSync();
    } catch (error) {
      if (!isUnreachable(error)) throw error;
    }
  }

  /** Like dispose, but leaves the event loop free. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.#handle.left) await this.leave();
    } catch (error) {
      if (!isUnreachable(error)) throw error;
    }
  }
}

/** At the end of a scope it would hide the error that says what could not be done. */
const isUnreachable = (error: unknown): boolean => error instanceof DsmError && error.code === "DSM_UNREACHABLE";
