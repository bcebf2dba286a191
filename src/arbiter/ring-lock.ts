/**
 * The lock of a node's ring, between its processes and us. A process holds it for the length of one store, in a signal
 * handler with every signal blocked; we hold it while we apply what came from the server.
 */
import { RING } from "../core/protocol.ts";
import type { RingLock } from "../core/ring.ts";
import { startTime } from "./map-file.ts";

const LOCK = RING.lock[0] / 4;
/** Attempts before we give the processor away: an owner that runs is done long before. */
const SPINS = 2000;
const PAUSE_MS = 1;

export class FileRingLock implements RingLock {
  readonly #words: Int32Array;
  /** When each process began, which tells it from a later one with its number. */
  readonly #began = new Map<number, string>();

  /** `header`: the ring's. */
  constructor(header: Uint8Array) {
    this.#words = new Int32Array(header.buffer, header.byteOffset, header.byteLength / 4);
  }

  admit(pid: number): boolean {
    const began = startTime(pid);
    if (began === null) return false;
    this.#began.set(pid, began);
    return true;
  }

  acquire(): boolean {
    for (;;) {
      for (let i = 0; i < SPINS; i += 1) {
        if (Atomics.compareExchange(this.#words, LOCK, 0, process.pid) === 0) return false;
      }
      const owner = Atomics.load(this.#words, LOCK);
      const isDead = owner !== 0 && startTime(owner) !== this.#began.get(owner);
      if (isDead && Atomics.compareExchange(this.#words, LOCK, owner, process.pid) === owner) return true;
      Bun.sleepSync(PAUSE_MS);
    }
  }

  release(): void {
    Atomics.store(this.#words, LOCK, 0);
  }
}
