/**
 * SessionHandle: the state of this process in one session, shared by the session object, its locks, semaphores, holes
 * and waits. It owns the flag that the process has left, and both connections to the arbiter: libdsm, which blocks, and
 * the channel, which does not.
 *
 *     joined ──leave(), leaveSync()──▶ left: every call throws DSM_LEFT
 */
import { DsmError } from "../core/base/errors.ts";
import type { Channel } from "./channel.ts";
import type { JoinInfo } from "./join-info.ts";
import type { Library } from "./library.ts";
import type { SessionPointer } from "./symbols.ts";

export class SessionHandle {
  readonly library: Library;
  readonly info: JoinInfo;
  readonly #channel: Channel;
  #left = false;
  /** Processes of the session when this one left: libdsm may later reuse its handle for another session. */
  #lastProcesses = 0;
  /** Calls on other threads that still use the session. */
  readonly #calls = new Set<Promise<void>>();

  constructor(library: Library, info: JoinInfo, channel: Channel) {
    this.library = library;
    this.info = info;
    this.#channel = channel;
  }

  /** Whether the session is in direct mode, which may end in an elastic session. */
  get direct(): boolean {
    const { direct, directMayEnd, pointer } = this.info;
    if (this.#left || !directMayEnd) return direct;
    return this.library.symbols.isDirect(pointer) === 1;
  }

  /** Whether stores are private until the next synchronising operation, as under `release`. */
  get #keepsStores(): boolean {
    return this.info.order === "release" && !this.direct;
  }

  get left(): boolean {
    return this.#left;
  }

  /** The processes of the session; in an elastic session their number at this one's join or last barrier. */
  get processes(): number {
    return this.#left ? this.#lastProcesses : this.library.symbols.processes(this.info.pointer);
  }

  /**
   * Records the number of processes in a barrier passed on the channel, which libdsm does not see (elastic
   * sessions).
   */
  passedBarrier(processes: number): void {
    if (!this.#left) this.library.check(this.library.symbols.setProcesses(this.info.pointer, processes));
  }

  /** The pointer for a call of libdsm. Throws DSM_LEFT. */
  get pointer(): SessionPointer {
    this.check();
    return this.info.pointer;
  }

  /** Returns when every earlier store is ordered. Throws DSM_LEFT, DSM_UNREACHABLE. */
  fence(): void {
    this.library.check(this.library.symbols.fence(this.pointer));
  }

  /**
   * Returns the channel for a synchronising operation. Under `release` it first publishes the stores of this process,
   * and returns when they are applied. Throws DSM_LEFT, DSM_UNREACHABLE.
   */
  synchronise(): Channel {
    this.check();
    if (this.#keepsStores) this.fence();
    return this.#channel;
  }

  /**
   * Ends a wait under `release`. Stores made during the wait are on private copies of pages, which lack what other
   * processes published before the wait ended: catchUp publishes the stores and discards the copies.
   */
  catchUp(): void {
    if (this.#keepsStores && !this.#left) this.fence();
  }

  check(): void {
    if (this.#left) throw this.#hasLeft();
  }

  #hasLeft(): DsmError {
    return new DsmError("DSM_LEFT", `this process has left session "${this.info.name}"`);
  }

  /** Runs a call on another thread. Leaving waits for its end. */
  call(start: (pointer: SessionPointer) => Promise<void>): Promise<void> {
    const call = start(this.pointer).finally(() => this.#calls.delete(call));
    this.#calls.add(call);
    return call;
  }

  #setLeft(): void {
    this.#lastProcesses = this.processes;
    this.#left = true;
  }

  async leave(): Promise<void> {
    this.check();
    this.#setLeft();
    await Promise.allSettled(this.#calls);
    try {
      await this.library.closeAsync(this.info.pointer);
    } finally {
      this.#channel.close(this.#hasLeft());
    }
  }

  leaveSync(): void {
    this.check();
    if (this.#calls.size > 0) {
      throw new DsmError("DSM_BUSY", "a hole is being filled; await its fill() before leaveSync(), or call leave()");
    }
    this.#setLeft();
    try {
      this.library.check(this.library.symbols.close(this.info.pointer));
    } finally {
      this.#channel.close(this.#hasLeft());
    }
  }
}
