/**
 * ThreadState: what the threads of a process share of one session: whether the process has left, and whose turn each lock
 * is. A lock of the session belongs to the process, so its threads must take turns for it before they ask for it. The
 * state lies in a SharedArrayBuffer, which travels in a ThreadHandle from thread to thread.
 *
 * A turn is a word with the number of the thread that has it, 0 if it is free. Its place comes from a hash of the lock's
 * name, as in a hash table with linear probing from which nothing is removed.
 */
import { DsmError, Status } from "../core/base/errors.ts";
import { LOCKS_MAX } from "../core/base/limits.ts";
import { fnv1a64 } from "../core/base/names.ts";
import { hasLeft, lockOutcome } from "./outcomes.ts";
import { deferred } from "./runtime.ts";

/** Twice as many places as a session has locks, so that probing stays short. */
const PLACES = 2 * LOCKS_MAX;
const WORDS_BEGIN = PLACES * BigUint64Array.BYTES_PER_ELEMENT;
const STATE_SIZE = WORDS_BEGIN + (PLACES + 3) * Int32Array.BYTES_PER_ELEMENT;
/** Words behind the turns: 1 when the process has left, its last number of processes, the number of the newest thread. */
const LEFT = PLACES;
const PROCESSES = PLACES + 1;
const THREADS = PLACES + 2;
/** The longest delay of a timer. */
const TIMER_MAX_MS = 0x7fffffff;

/**
 * What a thread gives to another one of its process, by `postMessage()` or in `workerData`, for `attach()`. It means
 * nothing to other processes.
 */
export interface ThreadHandle {
  /** Name of the session. */
  readonly session: string;
  /** The process that has joined. */
  readonly pid: number;
  /** Address of libdsm's own record of the session. */
  readonly pointer: bigint;
  /** Where libdsm is. */
  readonly library: string;
  /** What the threads share beside the map. */
  readonly state: SharedArrayBuffer;
}

/** What may end a wait before it is over. */
interface Stop {
  /** Throws the reason if it is set. */
  check(): void;
  /** Has `cancel` called when it is set, until end(). */
  begin(cancel: () => void): void;
  end(cancel: () => void): void;
}

/** isState returns whether the value is the memory of a ThreadState. */
export const isState = (value: unknown): value is SharedArrayBuffer =>
  value instanceof SharedArrayBuffer && value.byteLength === STATE_SIZE;

export class ThreadState {
  readonly memory: SharedArrayBuffer;
  readonly #session: string;
  readonly #keys: BigUint64Array<SharedArrayBuffer>;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #thread: number;
  readonly #places = new Map<string, number>();
  /** Locks for whose turn a promise of this thread waits. */
  readonly #waiting = new Set<string>();
  /** Locks whose turn this thread has, and whose UNLOCK is under way. */
  readonly #unlocking = new Set<string>();

  /** A further thread gives the `memory` of the first. */
  constructor(session: string, memory = new SharedArrayBuffer(STATE_SIZE)) {
    this.#session = session;
    this.memory = memory;
    this.#keys = new BigUint64Array(memory, 0, PLACES);
    this.#words = new Int32Array(memory, WORDS_BEGIN);
    this.#thread = Atomics.add(this.#words, THREADS, 1) + 1;
  }

  /** Whether the process has left the session. */
  get left(): boolean {
    return Atomics.load(this.#words, LEFT) !== 0;
  }

  /** The processes of the session when this one left. */
  get lastProcesses(): number {
    return Atomics.load(this.#words, PROCESSES);
  }

  /** The process leaves: threads that wait for a turn get DSM_LEFT, and so do those that are about to wait. */
  leave(processes: number): void {
    Atomics.store(this.#words, PROCESSES, processes);
    Atomics.store(this.#words, LEFT, 1);
    for (let place = 0; place < PLACES; place += 1) {
      // A thread that has read the word before, and waits only now, finds another value there.
      if (Atomics.exchange(this.#words, place, 0) !== 0) Atomics.notify(this.#words, place);
    }
  }

  /** Locks whose turn this thread has. */
  get locks(): readonly string[] {
    return [...this.#places.keys()].filter((lock) => this.#has(lock));
  }

  /** Takes the turn for a lock if no thread has it. Throws DSM_BUSY if this thread has it, or waits for it, and DSM_LEFT. */
  tryTurn(lock: string): boolean {
    if (this.left) throw hasLeft(this.#session);
    // Requests of one thread keep their order: this one comes after the UNLOCK.
    if (this.#has(lock) && this.#unlocking.delete(lock)) return true;
    if (this.#has(lock) || this.#waiting.has(lock)) lockOutcome({ status: Status.BUSY, text: "" }, lock);
    return this.#take(this.#place(lock));
  }

  /**
   * Waits for the turn for a lock, blocking the thread. Returns what is left of `timeoutMs`. Throws DSM_TIMEOUT, and as
   * tryTurn().
   */
  turnSync(lock: string, timeoutMs: number | undefined): number | undefined {
    if (this.tryTurn(lock)) return timeoutMs;
    const place = this.#place(lock);
    const begin = performance.now();
    for (;;) {
      const owner = Atomics.load(this.#words, place);
      const outcome = owner === 0 ? "ok" : Atomics.wait(this.#words, place, owner, remaining(timeoutMs, begin));
      if (this.left) throw hasLeft(this.#session);
      if (this.#take(place)) return remaining(timeoutMs, begin);
      if (outcome === "timed-out") lockOutcome({ status: Status.TIMEOUT, text: "" }, lock, timeoutMs);
    }
  }

  /** Like turnSync() after tryTurn() was false, but leaves the event loop free. `stop` ends it by its reason. */
  async turn(lock: string, timeoutMs: number | undefined, stop: Stop): Promise<number | undefined> {
    const place = this.#place(lock);
    const begin = performance.now();
    const stopped = deferred<void>();
    stop.begin(stopped.resolve);
    // What waits in Atomics alone does not keep a program running.
    const running = setInterval(() => {}, TIMER_MAX_MS);
    this.#waiting.add(lock);
    try {
      for (;;) {
        const owner = Atomics.load(this.#words, place);
        const wait = owner === 0 ? null : Atomics.waitAsync(this.#words, place, owner, remaining(timeoutMs, begin));
        const outcome = wait?.async ? await Promise.race([wait.value, stopped.promise]) : wait?.value;
        if (this.left) throw hasLeft(this.#session);
        stop.check();
        if (this.#take(place)) return remaining(timeoutMs, begin);
        if (outcome === "timed-out") lockOutcome({ status: Status.TIMEOUT, text: "" }, lock, timeoutMs);
      }
    } finally {
      this.#waiting.delete(lock);
      clearInterval(running);
      stop.end(stopped.resolve);
    }
  }

  /** An UNLOCK is sent: until it is answered this thread keeps the turn. */
  beginUnlock(lock: string): void {
    if (this.#has(lock)) this.#unlocking.add(lock);
  }

  /** Whether this thread has sent an UNLOCK that is not answered. */
  isUnlocking(lock: string): boolean {
    return this.#unlocking.has(lock);
  }

  /** The UNLOCK was answered. Any thread may unlock, so the turn may be another one's. */
  endUnlock(lock: string, isUnlocked: boolean): void {
    const isWanted = this.#unlocking.delete(lock) || !this.#has(lock);
    if (isUnlocked && isWanted) this.giveTurn(lock);
  }

  /** Ends the turn for a lock that this process does not have. All threads that wait for it look again. */
  giveTurn(lock: string): void {
    const place = this.#place(lock);
    Atomics.store(this.#words, place, 0);
    Atomics.notify(this.#words, place);
  }

  #has(lock: string): boolean {
    return Atomics.load(this.#words, this.#place(lock)) === this.#thread;
  }

  #take(place: number): boolean {
    return Atomics.compareExchange(this.#words, place, 0, this.#thread) === 0;
  }

  /** The place of a lock's turn. Two names of one hash share it, and so exclude each other. */
  #place(lock: string): number {
    const known = this.#places.get(lock);
    if (known !== undefined) return known;
    const key = BigInt(`0x${fnv1a64(lock)}`) || 1n;
    const first = Number(key % BigInt(PLACES));
    for (let step = 0; step < PLACES; step += 1) {
      const place = (first + step) % PLACES;
      const there = Atomics.compareExchange(this.#keys, place, 0n, key);
      if (there !== 0n && there !== key) continue;
      this.#places.set(lock, place);
      return place;
    }
    throw new DsmError("DSM_LIMIT", `this process has used ${PLACES} names of locks, the limit`);
  }
}

/** Milliseconds that are left of a time limit, 0 at least. */
function remaining(timeoutMs: number | undefined, begin: number): number | undefined {
  return timeoutMs === undefined ? undefined : Math.max(0, Math.ceil(timeoutMs - (performance.now() - begin)));
}
