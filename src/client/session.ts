import { DsmError } from "../core/errors.ts";
import { isAlignment } from "../core/heap.ts";
import { ALIGN_MAX } from "../core/limits.ts";
import type { OnLoss } from "../core/loss.ts";
import { checkName } from "../core/names.ts";
import type { Order } from "../core/order.ts";
import type { Fields, StructType } from "../core/struct.ts";
import { Channel } from "./channel.ts";
import { invalid, type JoinOptions, readConfig } from "./config.ts";
import { serveReadSync } from "./fs.ts";
import { Hole } from "./hole.ts";
import { Lock } from "./lock.ts";
import { checkReply, Membership } from "./membership.ts";
import { loadLibrary } from "./native.ts";
import { Semaphore } from "./semaphore.ts";
import { openStruct, type SharedFields } from "./struct.ts";
import {
  checkTimeout,
  type IntegerArray,
  notify,
  replyTo,
  type WaitOptions,
  type WaitOutcome,
  waitFor,
  waitForSync,
} from "./waiting.ts";

/** A typed array's or DataView's constructor. */
export interface ViewType<View extends ArrayBufferView<ArrayBuffer>> {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): View;
  /** Of the constructor, such as "Float64Array". */
  readonly name: string;
  /** DataView has none: its elements are bytes. */
  readonly BYTES_PER_ELEMENT?: number;
}

/** How a block is to lie. */
export interface AllocOptions {
  /** The block begins at a multiple of so many bytes: a power of two up to 4096. Default: 16. */
  align?: number | undefined;
}

const ALIGN_DEFAULT = 16;

type AnyView = ArrayBufferView<ArrayBuffer>;
type AnyViewType = ViewType<AnyView>;

/** A part of the map, in bytes. */
export interface Range {
  /** First byte. */
  offset: number;
  /** Bytes. */
  length: number;
}

/** Where readSync() reads from and to. */
export interface ReadOptions {
  /** First byte of the view to read to. */
  offset?: number;
  /** Most bytes to read. */
  length?: number;
  /** First byte of the file to read, or null: where the file is. */
  position?: number | bigint | null;
}

/**
 * Joins a session, creating it if it is not there, and waits until all its processes have joined. The event loop stays
 * free meanwhile.
 *
 * Rejects with a DsmError: DSM_INVALID (an option or variable is wrong), DSM_MISMATCH (others have given other numbers
 * of processes, another size or another order), DSM_FULL (one process too many), DSM_TIMEOUT (the others did not come),
 * DSM_UNREACHABLE (no daemon, server or arbiter), DSM_REFUSED, DSM_VERSION, DSM_NO_MEMORY, DSM_LIMIT, DSM_SYSTEM
 * (among others: libdsm or the dsm program is not there).
 */
export async function join(options: JoinOptions = {}): Promise<Session> {
  const config = readConfig(options, process.env);
  const library = loadLibrary();
  const facts = await library.open(config);
  let channel: Channel;
  try {
    channel = await Channel.open(facts.attachment);
  } catch (error) {
    // Why it cannot go on says more than why it cannot leave either.
    await library.closeLater(facts.pointer).catch(() => {});
    throw error;
  }
  const session = new Session(new Membership(library, facts, channel));
  if (!facts.direct || facts.changes) serveReadSync(session);
  return session;
}

/**
 * This process's place in a session, and the memory it shares.
 *
 * Store through any view over `buffer`. `Atomics.*` on integer views are atomic across nodes. (`Atomics.wait` and
 * `Atomics.notify` need a SharedArrayBuffer and do not work here: use `waitFor()` and `notify()`.) What others see, and
 * when, depends on the session's `order`:
 *
 * - "sequential": all processes see all stores, in one order; a store returns when it is in place.
 * - "release": what a process stores it sees at once, and others see it after its next synchronising operation: a
 *   barrier, waiting for or posting a semaphore, `Atomics.*`, `waitFor()`, `notify()`, `fence()`, `alloc()`, `named()`,
 *   `free()`, leaving. Each publishes all that the process has changed since the last one, then does its work, so
 *   whoever synchronises with it finds the stores in place. While much is published the program is blocked, also by the
 *   promise forms. What is stored while a wait is under way is published when it ends. Do not put what is used with
 *   `Atomics` beside arrays: on a page (of 4096 bytes) to which this process has stored more than 16 times since its last
 *   synchronising operation, or that lies in an array it is filling, an atomic operation is an ordinary one, unless some
 *   process has executed one on that page before.
 *
 * In direct mode (`direct`) processes share the memory as threads do, and the hardware orders it, whatever `order` says.
 * In an elastic session do as if there were no direct mode: it may end at any time.
 *
 * Unless in direct mode, system calls cannot write to the map: they fail with EFAULT. Use `readSync()` of the session,
 * which is also what `fs.readSync()` does with a view of the map (but not a `readSync` imported by that name). Writing
 * from the map to a file works as ever.
 *
 * `using` and `await using` leave at the end of the scope. After leaving, every call fails with DSM_LEFT, and views
 * over the buffer still show the last state; a store to them ends the program with a message. That lasts until this
 * program joins a session at the same address, 512 sessions of one daemon later at the earliest: the view then shows
 * that one.
 *
 * A process that ends without leaving is lost: barriers and waits of all others then fail with DSM_LOST, unless the
 * session was joined with `onLoss: "continue"`.
 */
export class Session {
  /** Number of this process in the session, 0 to `processes - 1`. */
  readonly rank: number;
  /** Name of this process's node. */
  readonly node: string;
  /** Name of the session. */
  readonly name: string;
  /** How strictly stores are ordered. */
  readonly order: Order;
  /** What happens when a process dies without leaving. */
  readonly onLoss: OnLoss;
  /** Bytes in the map: whole pages of 4096. */
  readonly size: number;
  /** Where the map is, the same in every process of the session. */
  readonly address: bigint;
  /** The shared memory itself. */
  readonly buffer: ArrayBuffer;
  readonly #membership: Membership;
  #inBarrier = false;

  /** @internal Use `join()`. */
  constructor(membership: Membership) {
    const { rank, node, name, order, onLoss, size, address, buffer } = membership.facts;
    this.rank = rank;
    this.node = node;
    this.name = name;
    this.order = order;
    this.onLoss = onLoss;
    this.size = size;
    this.address = address;
    this.buffer = buffer;
    this.#membership = membership;
  }

  /**
   * Whether all processes are on one node and share its memory directly: a store costs what a store costs. In an elastic
   * session that ends, by itself and at any time, when a process of another node joins.
   */
  get direct(): boolean {
    return this.#membership.direct;
  }

  /** @internal Whether direct mode may end, or has ended. */
  get changes(): boolean {
    return this.#membership.facts.changes;
  }

  /**
   * Processes in the session. Of an elastic one: those that were there when this process joined, or in the last barrier
   * it passed.
   */
  get processes(): number {
    return this.#membership.processes;
  }

  /**
   * A view over the shared memory from `byteOffset` on: `length` elements (bytes for a DataView), or up to the end.
   * Fails with DSM_INVALID when it does not fit or is not aligned to its elements, DSM_LEFT after leaving.
   */
  view(type: typeof DataView, byteOffset?: number, length?: number): DataView<ArrayBuffer>;
  view<View extends AnyView>(type: ViewType<View>, byteOffset?: number, length?: number): View;
  view(type: AnyViewType, byteOffset = 0, length?: number): AnyView {
    this.#membership.check();
    const elementSize = type.BYTES_PER_ELEMENT ?? 1;
    checkOffset(byteOffset, this.size);
    if (byteOffset % elementSize !== 0) {
      throw invalid(`a ${type.name} cannot begin at byte ${byteOffset}; give a multiple of ${elementSize}`);
    }
    const room = (this.size - byteOffset) / elementSize;
    const elements = length ?? room;
    if (!Number.isSafeInteger(elements) || elements < 0 || elements > room) {
      throw invalid(
        `a ${type.name} of ${elements} elements at byte ${byteOffset} is not in the map of ${this.size} bytes`,
      );
    }
    return new type(this.buffer, byteOffset, elements);
  }

  /**
   * Resolves when every process that has not left is in the barrier. Fails with DSM_BUSY while this process is in one
   * already, DSM_TIMEOUT after `timeoutMs`, DSM_LOST when a process died without leaving, DSM_LEFT after leaving,
   * DSM_UNREACHABLE.
   *
   * When it times out or is aborted, this process is out of the barrier again, as if it had not called. (If the barrier
   * was passed at the same moment, the promise resolves: the others have gone on.)
   */
  async barrier(options: WaitOptions = {}): Promise<void> {
    this.#membership.check();
    this.#checkBarrier();
    this.#inBarrier = true;
    try {
      const reply = await replyTo(this.#membership, (channel) => channel.barrier(), options, null);
      checkReply(reply, barrierTimedOut(options.timeoutMs));
      if (!this.#membership.left) this.#membership.library.setProcesses(this.#membership.pointer, reply.value);
    } finally {
      this.#inBarrier = false;
    }
  }

  /** Like barrier(), but blocks the whole program, timers and promises included. */
  barrierSync(options: Pick<WaitOptions, "timeoutMs"> = {}): void {
    const timeoutMs = checkTimeout(options.timeoutMs);
    const { library, pointer } = this.#membership;
    this.#checkBarrier();
    try {
      library.barrier(pointer, timeoutMs);
    } catch (error) {
      if (error instanceof DsmError && error.code === "DSM_TIMEOUT") {
        throw new DsmError("DSM_TIMEOUT", barrierTimedOut(timeoutMs));
      }
      throw error;
    }
  }

  #checkBarrier(): void {
    if (this.#inBarrier) throw new DsmError("DSM_BUSY", "this process is in a barrier already");
  }

  /**
   * The semaphore of that name (1 to 63 bytes, no "/"). It begins to exist at its first use by any process, with the
   * value `initial` (0 to 2147483647) given there; later values are ignored. At most 4096 in a session. Fails with
   * DSM_INVALID, DSM_LEFT after leaving.
   */
  semaphore(name: string, initial = 1): Semaphore {
    this.#membership.check();
    return new Semaphore(this.#membership, name, initial);
  }

  /**
   * The lock of that name (1 to 63 bytes, no "/"). It begins to exist at its first use by any process; at most 4096 in a
   * session. Fails with DSM_INVALID, DSM_LEFT after leaving.
   */
  lock(name: string): Lock {
    this.#membership.check();
    return new Lock(this.#membership, name);
  }

  /**
   * Makes a part of the map a hole: a view over `buffer`, or bytes. At most 64 at once, not overlapping. Fails with
   * DSM_INVALID (empty, not in the map, overlapping), DSM_LIMIT, DSM_NO_MEMORY, DSM_LEFT after leaving.
   */
  hole(where: ArrayBufferView | Range): Hole {
    this.#membership.check();
    const { offset, length } = ArrayBuffer.isView(where) ? this.#rangeOf(where) : where;
    checkOffset(offset, this.size);
    if (!Number.isSafeInteger(length) || length < 1) throw invalid(`a hole of ${length} bytes; give it 1 or more`);
    if (length > this.size - offset) {
      throw invalid(`a hole of ${length} bytes at byte ${offset} is not in the map of ${this.size} bytes`);
    }
    return new Hole(this.#membership, offset, length);
  }

  /**
   * Like fs.readSync(), which cannot read into the shared memory (EFAULT): reads from a file, pipe or socket to the bytes
   * of `view`, a view over `buffer`, from its byte `offset` on (0 if left out), at most `length` bytes (up to the view's
   * end if left out). `position` is the file's byte to begin at; left out or null: where the file is, which then moves on.
   * Blocks. Returns the bytes read, 0 at the end of the file; of a pipe at most 65,536.
   *
   * What was read is published like stores. Fails with DSM_INVALID, DSM_LEFT after leaving, and DSM_SYSTEM with the
   * system's name for the reason (EBADF, EISDIR; EIO also when the session's arbiter is gone).
   */
  readSync(descriptor: number, view: ArrayBufferView, options: ReadOptions = {}): number {
    this.#membership.check();
    const whole = this.#rangeOf(view);
    const { offset = 0, length = whole.length - offset, position = null } = options;
    if (!Number.isInteger(descriptor) || descriptor < 0 || descriptor > 0x7fffffff) {
      throw invalid(`${descriptor} is not a file descriptor`);
    }
    if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0) {
      throw invalid(`${length} bytes at byte ${offset} cannot be read to; give whole numbers, 0 or more`);
    }
    if (length > whole.length - offset) {
      throw invalid(`${length} bytes at byte ${offset} are not in the view of ${whole.length} bytes`);
    }
    if (position !== null && (position < 0 || (typeof position === "number" && !Number.isSafeInteger(position)))) {
      throw invalid(`a file has no position ${position}`);
    }
    const address = this.address + BigInt(whole.offset + offset);
    return this.#membership.library.read(descriptor, address, length, position);
  }

  #rangeOf(view: ArrayBufferView): Range {
    if (view.buffer !== this.buffer) throw invalid("the view is not over this session's buffer");
    return { offset: view.byteOffset, length: view.byteLength };
  }

  /**
   * A view over a new block of the map, zeroed: `length` elements, or bytes. A program uses blocks or lays out the map
   * by itself, not both. Blocks the program for the time of one round trip.
   *
   * Fails with DSM_NO_MEMORY (no gap is large enough), DSM_INVALID (no elements, a bad alignment), DSM_LEFT after leaving.
   */
  alloc(bytes: number, options?: AllocOptions): Uint8Array<ArrayBuffer>;
  alloc(type: typeof DataView, bytes: number, options?: AllocOptions): DataView<ArrayBuffer>;
  alloc<View extends AnyView>(type: ViewType<View>, length: number, options?: AllocOptions): View;
  alloc(first: number | AnyViewType, second?: number | AllocOptions, third?: AllocOptions): AnyView {
    const [type, length, options] =
      typeof first === "number"
        ? ([Uint8Array, first, second as AllocOptions | undefined] as const)
        : ([first, second as number, third] as const);
    const { library, pointer } = this.#membership;
    const align = options?.align ?? ALIGN_DEFAULT;
    if (!Number.isSafeInteger(align) || !isAlignment(align)) {
      throw invalid(`align is ${align}; give a power of two from 1 to ${ALIGN_MAX}`);
    }
    const elementSize = type.BYTES_PER_ELEMENT ?? 1;
    if (align < elementSize) throw invalid(`align is ${align}; a ${type.name} needs ${elementSize} or more`);
    return this.#viewAt(type, library.alloc(pointer, this.#blockSize(type, length), align), length);
  }

  /** Gives a block back, which any process may have allocated, by a view that begins where it begins. DSM_INVALID: none does. */
  free(view: ArrayBufferView): void {
    const { library, pointer } = this.#membership;
    library.free(pointer, this.address + BigInt(this.#rangeOf(view).offset));
  }

  /**
   * A view over the block of that name (1 to 63 bytes, no "/"), aligned to 64 bytes: the same block in every process,
   * made at first use and zeroed then. Blocks the program for the time of one round trip.
   *
   * Fails with DSM_MISMATCH (it exists with another number of bytes), DSM_NO_MEMORY, DSM_INVALID, DSM_LEFT after leaving.
   */
  named(name: string, bytes: number): Uint8Array<ArrayBuffer>;
  named(name: string, type: typeof DataView, bytes: number): DataView<ArrayBuffer>;
  named<View extends AnyView>(name: string, type: ViewType<View>, length: number): View;
  named(name: string, first: number | AnyViewType, second?: number): AnyView {
    const [type, length] = typeof first === "number" ? [Uint8Array, first] : [first, second as number];
    const { library, pointer } = this.#membership;
    const wrong = checkName("block", name);
    if (wrong !== null) throw invalid(wrong);
    return this.#viewAt(type, library.named(pointer, name, this.#blockSize(type, length)), length);
  }

  /**
   * An object over the block of that name (1 to 56 bytes, no "/") whose properties are the shared memory:
   *
   * ```ts
   * const shared = session.struct("state", { turn: i32, sum: f64, grid: f32.array(512, 512), name: utf8(32), lock: mutex });
   * shared.sum += chunk; // a load and a store, as of a variable
   * shared.grid[i * 512 + j] = 1; // arrays are typed arrays
   * shared.$atomic.turn.add(1); // one step for all
   * await shared.lock.use(() => (shared.name = "Ada"));
   * ```
   *
   * The same in every process, made at first use and zeroed then, with the layout of the C struct of the same fields:
   * `dsm header` prints that. An assignment to a number or bool is one store; what does not fit is converted as by a typed
   * array. Blocks the program for the time of two round trips and an atomic operation.
   *
   * Fails with DSM_MISMATCH (other processes have given other fields), and as `named()` does.
   */
  struct<F extends Fields>(name: string, fields: F | StructType<F>): SharedFields<F> {
    return openStruct(this, name, fields);
  }

  #blockSize({ BYTES_PER_ELEMENT = 1 }: AnyViewType, length: number): number {
    if (!Number.isSafeInteger(length) || length < 1) throw invalid(`a block of ${length} elements; give it 1 or more`);
    const size = length * BYTES_PER_ELEMENT;
    if (size <= this.size) return size;
    throw new DsmError("DSM_NO_MEMORY", `a block of ${size} bytes is not possible in a map of ${this.size} bytes`);
  }

  #viewAt(type: AnyViewType, address: bigint, length: number): AnyView {
    return new type(this.buffer, Number(address - this.address), length);
  }

  /**
   * Sleeps while element `index` of a view over `buffer` is `expected`: "not-equal" at once if it is not, "ok" when
   * `notify()` woke it, "timed-out" after `timeoutMs`. Comparing and going to sleep are one step of the order, so a
   * notification after a change of the value is never missed. "ok" does not say that the value has changed: look again.
   *
   * When it is aborted, the promise rejects with the signal's reason. (If it was woken at the same moment, the wake-up is
   * passed on to the next who sleeps there.) Fails with DSM_INVALID (not an integer array over `buffer`, no such index),
   * DSM_LOST when a process died without leaving, DSM_LEFT after leaving, DSM_LIMIT, DSM_UNREACHABLE.
   */
  async waitFor<View extends IntegerArray>(
    view: View,
    index: number,
    expected: View[number],
    options: WaitOptions = {},
  ): Promise<WaitOutcome> {
    return waitFor(this.#membership, view, index, expected, options);
  }

  /** Like waitFor(), but blocks the whole program, timers and promises included. */
  waitForSync<View extends IntegerArray>(
    view: View,
    index: number,
    expected: View[number],
    options: Pick<WaitOptions, "timeoutMs"> = {},
  ): WaitOutcome {
    return waitForSync(this.#membership, view, index, expected, options);
  }

  /**
   * Wakes those who sleep at element `index`, on any node: at most `count` of them, first come first served. Returns how
   * many. Blocks the program for the time of one round trip. Fails with DSM_INVALID, DSM_LEFT after leaving.
   */
  notify(view: IntegerArray, index: number, count = Number.POSITIVE_INFINITY): number {
    return notify(this.#membership, view, index, count);
  }

  /** Returns when every store this process made before has its place in the order. DSM_LEFT after leaving. */
  fence(): void {
    this.#membership.library.fence(this.#membership.pointer);
  }

  /**
   * Leaves the session, after publishing what this process has stored; others go on without it. Holes being filled are waited for, open ones are dropped.
   * Barriers, waits and posts of this process that are under way reject with DSM_LEFT. A second time: DSM_LEFT.
   */
  async leave(): Promise<void> {
    await this.#membership.leave();
  }

  /** Like leave(), but blocks the program. DSM_BUSY while fill() of a hole is under way. */
  leaveSync(): void {
    this.#membership.leaveSync();
  }

  /** Leaves, unless that was done before. That the arbiter has ended is no error here: there is nothing to leave. */
  [Symbol.dispose](): void {
    try {
      if (!this.#membership.left) this.leaveSync();
    } catch (error) {
      if (!isUnreachable(error)) throw error;
    }
  }

  /** Like dispose, but leaves the event loop free. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      if (!this.#membership.left) await this.leave();
    } catch (error) {
      if (!isUnreachable(error)) throw error;
    }
  }
}

const barrierTimedOut = (timeoutMs: number | undefined): string =>
  `other processes were not in the barrier within ${timeoutMs} ms`;

/** At the end of a scope it would hide the error that says what could not be done. */
const isUnreachable = (error: unknown): boolean => error instanceof DsmError && error.code === "DSM_UNREACHABLE";

function checkOffset(offset: number, size: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && offset <= size) return;
  throw invalid(`byte ${offset} is not in the map of ${size} bytes`);
}
