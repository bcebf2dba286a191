import { DsmError } from "../core/errors.ts";
import { Channel } from "./channel.ts";
import { invalid, type JoinOptions, readConfig } from "./config.ts";
import { Hole } from "./hole.ts";
import { checkReply, Membership } from "./membership.ts";
import { loadLibrary } from "./native.ts";
import { Semaphore } from "./semaphore.ts";

/** A typed array's or DataView's constructor. */
export interface ViewType<View extends ArrayBufferView<ArrayBuffer>> {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): View;
  readonly name: string;
  /** DataView has none: its elements are bytes. */
  readonly BYTES_PER_ELEMENT?: number;
}

/** A part of the map, in bytes. */
export interface Range {
  offset: number;
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
 * of processes or another size), DSM_FULL (one process too many), DSM_TIMEOUT (the others did not come),
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
  return new Session(new Membership(library, facts, channel));
}

/**
 * This process's place in a session, and the memory it shares.
 *
 * Store through any view over `buffer`; all processes see all stores, in one order. `Atomics.*` on integer views are
 * atomic across nodes. (`Atomics.wait` and `Atomics.notify` need a SharedArrayBuffer and do not work here: wait with a
 * semaphore or a barrier.)
 *
 * System calls cannot write to the map: `fs.readSync()` into a view of it fails with EFAULT. Read into memory of your own
 * and `set()` it. Writing from the map to a file works as ever.
 *
 * `using` and `await using` leave at the end of the scope. After leaving, every call fails with DSM_LEFT, and views
 * over the buffer still show the last state; a store to them ends the program with a message. That lasts until this
 * program joins a session at the same address, 512 sessions of one daemon later at the earliest: the view then shows
 * that one.
 *
 * A process that ends without leaving is lost: barriers and waits of all others then fail with DSM_LOST.
 */
export class Session {
  /** Number of this process in the session, 0 to `processes - 1`. */
  readonly rank: number;
  /** Processes in the session. */
  readonly processes: number;
  /** Name of this process's node. */
  readonly node: string;
  /** Name of the session. */
  readonly name: string;
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
    const { rank, processes, node, name, size, address, buffer } = membership.facts;
    this.rank = rank;
    this.processes = processes;
    this.node = node;
    this.name = name;
    this.size = size;
    this.address = address;
    this.buffer = buffer;
    this.#membership = membership;
  }

  /**
   * A view over the shared memory from `byteOffset` on: `length` elements (bytes for a DataView), or up to the end.
   * Fails with DSM_INVALID when it does not fit or is not aligned to its elements, DSM_LEFT after leaving.
   */
  view(type: typeof DataView, byteOffset?: number, length?: number): DataView<ArrayBuffer>;
  view<View extends ArrayBufferView<ArrayBuffer>>(type: ViewType<View>, byteOffset?: number, length?: number): View;
  view(type: ViewType<ArrayBufferView<ArrayBuffer>>, byteOffset = 0, length?: number): ArrayBufferView<ArrayBuffer> {
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
   * already, DSM_LOST when a process died without leaving, DSM_LEFT after leaving, DSM_UNREACHABLE.
   */
  async barrier(): Promise<void> {
    const { channel } = this.#membership;
    this.#checkBarrier();
    this.#inBarrier = true;
    try {
      checkReply(await channel.barrier().reply, "the barrier failed");
    } finally {
      this.#inBarrier = false;
    }
  }

  /** Like barrier(), but blocks the whole program, timers and promises included. */
  barrierSync(): void {
    const { library, pointer } = this.#membership;
    this.#checkBarrier();
    library.barrier(pointer);
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

  /** Returns when every store this process made before has its place in the order. DSM_LEFT after leaving. */
  fence(): void {
    this.#membership.library.fence(this.#membership.pointer);
  }

  /**
   * Leaves the session; others go on without this process. Holes being filled are waited for, open ones are dropped.
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

/** At the end of a scope it would hide the error that says what could not be done. */
const isUnreachable = (error: unknown): boolean => error instanceof DsmError && error.code === "DSM_UNREACHABLE";

function checkOffset(offset: number, size: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && offset <= size) return;
  throw invalid(`byte ${offset} is not in the map of ${size} bytes`);
}
