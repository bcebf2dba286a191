/**
 * SessionHandle: one process's place in one session, which the session object, its locks, semaphores, holes and waits
 * share. It owns whether the process has left, and the two ways to the arbiter: libdsm, which blocks, and the channel,
 * which does not.
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
  /** Processes of the session when this one left: libdsm's handle may be another session's some time after that. */
  #lastProcesses = 0;
  /** Calls on other threads that still use the session. */
  readonly #calls = new Set<Promise<void>>();

  constructor(library: Library, info: JoinInfo, channel: Channel) {
    this.library = library;
    this.info = info;
    this.#channel = channel;
  }

  /** Whether the session is in direct mode, which of an elastic one may end. */
  get direct(): boolean {
    const { direct, directMayEnd, pointer } = this.info;
    if (this.#left || !directMayEnd) return direct;
    return this.library.symbols.isDirect(pointer) === 1;
  }

  /** Under `release` stores are published by the next synchronising operation. */
  get #keepsStores(): boolean {
    return this.info.order === "release" && !this.direct;
  }

  get left(): boolean {
    return this.#left;
  }

  /** Of an elastic session: the processes that were there when this one last joined or passed a barrier. */
  get processes(): number {
    return this.#left ? this.#lastProcesses : this.library.symbols.processes(this.info.pointer);
  }

  /** Of an elastic session: a barrier was passed on the channel, with so many processes. libdsm did not see it. */
  passedBarrier(processes: number): void {
    if (!this.#left) this.library.check(this.library.symbols.setProcesses(this.info.pointer, processes));
  }

  /** For a call of libdsm. Throws DSM_LEFT. */
  get pointer(): SessionPointer {
    this.check();
    return this.info.pointer;
  }

  /** Returns when every store made before has its place in the order. Throws DSM_LEFT, DSM_UNREACHABLE. */
  fence(): void {
    this.library.check(this.library.symbols.fence(this.pointer));
  }

  /**
   * The channel, for a synchronising operation: under `release` the stores of this process are published first, and are
   * in place when this returns. Throws DSM_LEFT, DSM_UNREACHABLE.
   */
  synchronise(): Channel {
    this.check();
    if (this.#keepsStores) this.fence();
    return this.#channel;
  }

  /**
   * For the end of a wait. Stores made meanwhile under `release` are on private copies of pages that lack what others
   * published before the wait ended: the copies are given up, and the stores are published.
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

  /** Runs a call on another thread. The session is not closed before it is over. */
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
