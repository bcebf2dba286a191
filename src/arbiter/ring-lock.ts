/**
 * The lock of a node's ring, between its processes and us. A process holds it for the length of one store, in a signal
 * handler with every signal blocked; we hold it while we apply what came from the server.
 */

import type { RingLock } from "../core/replica/store-ring.ts";
import { RING } from "../core/wire/ring-layout.ts";
import { mapsFile, startTime } from "./map-file.ts";

const LOCK = RING.lock[0] / 4;
/** Attempts before we give the processor away: an owner that runs is done long before. */
const SPINS = 2000;
const PAUSE_MS = 1;
/** So many pauses between two looks at what the owner has mapped, which is slow. */
const PAUSES_TO_LOOK = 64;

export class FileRingLock implements RingLock {
  readonly #words: Int32Array;
  readonly #mapPath: string;
  /** When each process began, which tells it from a later one with its number. */
  readonly #began = new Map<number, string>();

  /** `header`: the ring's. */
  constructor(header: Uint8Array, mapPath: string) {
    this.#words = new Int32Array(header.buffer, header.byteOffset, header.byteLength / 4);
    this.#mapPath = mapPath;
  }

  admit(pid: number): boolean {
    const began = startTime(pid);
    if (began === null) return false;
    this.#began.set(pid, began);
    return true;
  }

  acquire(): boolean {
    for (let pauses = 0; ; pauses += 1) {
      for (let i = 0; i < SPINS; i += 1) {
        if (Atomics.compareExchange(this.#words, LOCK, 0, process.pid) === 0) return false;
      }
      const owner = Atomics.load(this.#words, LOCK);
      if (owner !== 0 && this.#isGone(owner, pauses % PAUSES_TO_LOOK === PAUSES_TO_LOOK - 1)) {
        if (Atomics.compareExchange(this.#words, LOCK, owner, process.pid) === owner) return true;
      }
      Bun.sleepSync(PAUSE_MS);
    }
  }

  /** Whether no thread of the owner will ever store again: it has ended, or was replaced by exec(). */
  #isGone(owner: number, closely: boolean): boolean {
    const began = startTime(owner);
    return began === null || began !== this.#began.get(owner) || (closely && !mapsFile(owner, this.#mapPath));
  }

  release(): void {
    Atomics.store(this.#words, LOCK, 0);
  }
}
