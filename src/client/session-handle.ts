/**
 * SessionHandle: a session as one thread of this process uses it, shared by the session object, its locks, semaphores,
 * holes and waits. It owns the flag that the thread has left, and both connections to the arbiter: libdsm, which blocks,
 * and the channel, which does not.
 *
 *     joined, attached ──leave(), leaveSync()──▶ left: every call throws DSM_LEFT
 *
 * The thread that joined leaves for the process, and so for all its threads. A thread that has attached leaves alone.
 */
import { DsmError, Status } from "../core/base/errors.ts";
import type { Channel } from "./channel.ts";
import type { JoinInfo } from "./join-info.ts";
import type { Library } from "./library.ts";
import { ObjectUse } from "./object-use.ts";
import { hasDetached, hasLeft } from "./outcomes.ts";
import type { SessionPointer } from "./symbols.ts";
import type { ThreadState } from "./thread-state.ts";

/** Results that are given in a row without a turn of the event loop. */
const TURNS_AT_ONCE = 64;

export class SessionHandle {
  readonly library: Library;
  readonly info: JoinInfo;
  /** What it shares with the process's other threads. */
  readonly threads: ThreadState;
  /** Whether another thread joined, and this one leaves alone. */
  readonly #isAttached: boolean;
  readonly #channel: Channel;
  #left = false;
  /** Calls on other threads that still use the session. */
  readonly #calls = new Set<Promise<void>>();
  /** Waits of this thread that are under way, until each is over and what it took is given back or used. */
  readonly #waits = new Set<Promise<unknown>>();
  /** What ends those waits when an attached thread leaves. */
  readonly cancels = new Set<() => void>();
  #isLeaving = false;
  /** What this thread asks for or has of objects in the map. */
  readonly objects = new ObjectUse();
  #turns = 0;

  constructor(library: Library, info: JoinInfo, channel: Channel, threads: ThreadState, isAttached: boolean) {
    this.library = library;
    this.info = info;
    this.#channel = channel;
    this.threads = threads;
    this.#isAttached = isAttached;
  }

  /** Whether the session is in direct mode, which may end in an elastic session. */
  get direct(): boolean {
    const { direct, directMayEnd, pointer } = this.info;
    if (this.left || !directMayEnd) return direct;
    return this.library.symbols.isDirect(pointer) === 1;
  }

  /** Whether stores are private until the next synchronising operation, as under `release`. */
  get #keepsStores(): boolean {
    return this.info.order === "release" && !this.direct;
  }

  /** Whether this thread has left, or its process. */
  get left(): boolean {
    return this.#left || this.threads.left;
  }

  /** The processes of the session; in an elastic session their number at this one's join or last barrier. */
  get processes(): number {
    // Once it has left, libdsm may reuse its handle for another session.
    return this.threads.left ? this.threads.lastProcesses : this.library.symbols.processes(this.info.pointer);
  }

  /** Whether this thread may leave while its process goes on. */
  get mayLeaveAlone(): boolean {
    return this.#isAttached;
  }

  /** Whether this attached thread has begun to leave: waits end, and give back what they have got. */
  get isLeaving(): boolean {
    return this.#isLeaving;
  }

  /**
   * Records the number of processes in a barrier passed on the channel, which libdsm does not see (elastic
   * sessions).
   */
  passedBarrier(processes: number): void {
    if (!this.left) this.library.check(this.library.symbols.setProcesses(this.info.pointer, processes));
  }

  /** The pointer for a call of libdsm. Throws DSM_LEFT. */
  get pointer(): SessionPointer {
    this.check();
    return this.info.pointer;
  }

  /** Returns when every earlier store is ordered. Throws DSM_LEFT, DSM_UNREACHABLE. */
  fence(): void {
    this.check();
    this.#fence();
  }

  #fence(): void {
    this.library.check(this.library.symbols.fence(this.info.pointer));
  }

  /**
   * Returns the channel for a synchronising operation. Under `release` it first publishes the stores of this process,
   * and returns when they are applied. Throws DSM_LEFT, DSM_UNREACHABLE. A thread that is leaving still gets it, to give
   * back what it was granted.
   */
  synchronise(): Channel {
    if (this.left) throw this.#hasLeft();
    if (this.#keepsStores) this.#fence();
    return this.#channel;
  }

  /**
   * Ends a wait under `release`. Stores made during the wait are on private copies of pages, which lack what other
   * processes published before the wait ended: catchUp publishes the stores and discards the copies.
   */
  catchUp(): void {
    if (this.#keepsStores && !this.left) this.#fence();
  }

  /**
   * The result of a promise form that needed no request. Every so often it comes a turn of the event loop later: a
   * program that awaits nothing else would keep its timers and its input waiting.
   */
  turn<Value>(value: Value): Promise<Value> {
    this.#turns = (this.#turns + 1) % TURNS_AT_ONCE;
    return this.#turns === 0 ? new Promise((resolve) => setImmediate(resolve, value)) : Promise.resolve(value);
  }

  check(): void {
    if (this.left || this.#isLeaving) throw this.#hasLeft();
  }

  #hasLeft(): DsmError {
    const { name } = this.info;
    return this.threads.left || !this.#isAttached ? hasLeft(name) : hasDetached(name);
  }

  /** Runs a call on another thread. Leaving waits for its end. */
  call(start: (pointer: SessionPointer) => Promise<void>): Promise<void> {
    const call = start(this.pointer).finally(() => this.#calls.delete(call));
    this.#calls.add(call);
    return call;
  }

  /** Runs a wait. An attached thread that leaves cancels it, and waits for its end. */
  wait<Value>(start: () => Promise<Value>): Promise<Value> {
    this.check();
    const wait = start().finally(() => this.#waits.delete(wait));
    this.#waits.add(wait);
    return wait;
  }

  async leave(): Promise<void> {
    this.check();
    if (this.#isAttached) {
      this.#isLeaving = true;
      for (const cancel of [...this.cancels]) cancel();
      await Promise.allSettled([...this.#waits, ...this.#calls]);
      this.#detach();
      return;
    }
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
    if (this.#isAttached) {
      if (this.#waits.size > 0) {
        throw new DsmError("DSM_BUSY", "this thread waits for something; end that before leaveSync(), or call leave()");
      }
      this.#detach();
      return;
    }
    this.#setLeft();
    try {
      this.library.check(this.library.symbols.close(this.info.pointer));
    } finally {
      this.#channel.close(this.#hasLeft());
    }
  }

  /** For the process, before libdsm does: a thread that finds its connection ended then knows why. */
  #setLeft(): void {
    this.#left = true;
    this.threads.leave(this.library.symbols.processes(this.info.pointer));
  }

  /** Locks that this thread still has are unlocked; what "owner-died" says of one its next owner hears, too. */
  #detach(): void {
    const { library, info, threads } = this;
    for (const lock of threads.left ? [] : threads.locks) {
      library.symbols.unlockInconsistent(info.pointer, lock);
      threads.giveTurn(lock);
    }
    if (!threads.left) this.#unlockObjects();
    this.#left = true;
    this.#channel.close(this.#hasLeft());
  }

  #unlockObjects(): void {
    const { objectCheck, mutexUnlockInconsistent, rwUnlock, rwUnlockInconsistent } = this.library.symbols;
    const { mutexes, rwlocks, reads } = this.objects;
    const addressOf = (offset: number): number => Number(this.info.address) + offset;
    const has = (offset: number): boolean => objectCheck(addressOf(offset)) === Status.BUSY;
    for (const offset of mutexes) if (has(offset)) mutexUnlockInconsistent(addressOf(offset));
    for (const offset of rwlocks) if (has(offset)) rwUnlockInconsistent(addressOf(offset));
    for (const offset of reads.all) rwUnlock(addressOf(offset));
  }
}
