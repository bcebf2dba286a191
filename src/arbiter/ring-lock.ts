/**
 * FileRingLock: the lock of a node's ring, shared by its processes and the arbiter. A process holds it for the length
 * of one store, in a signal handler with every signal blocked; the arbiter holds it while it applies entries from the
 * server.
 */

import type { RingLock } from "../core/replica/store-ring.ts";
import { RING, RING_ARBITER } from "../core/wire/ring-layout.ts";
import type { FileLocks } from "../transport/file-lock.ts";

const LOCK = RING.lock[0] / 4;
/** Attempts before the arbiter yields the processor: a running owner releases the lock long before. */
const SPINS = 2000;
const PAUSE_MS = 1;
/** RING_ARBITER as a signed word. */
const ARBITER = RING_ARBITER | 0;

export class FileRingLock implements RingLock {
  readonly #words: Int32Array;
  readonly #files: FileLocks;
  readonly #map: number;

  /** `header`: the ring's. `map`: a descriptor of the map's file, in which each process keeps its own byte locked. */
  constructor(header: Uint8Array, files: FileLocks, map: number) {
    this.#words = new Int32Array(header.buffer, header.byteOffset, header.byteLength / 4);
    this.#files = files;
    this.#map = map;
  }

  acquire(): boolean {
    for (;;) {
      for (let i = 0; i < SPINS; i += 1) {
        if (Atomics.compareExchange(this.#words, LOCK, 0, ARBITER) === 0) return false;
      }
      // An owner whose file lock is gone will never store again: the process has ended, or called exec().
      const owner = Atomics.load(this.#words, LOCK);
      if (owner !== 0 && !this.#files.isHeld(this.#map, owner >>> 0)) {
        if (Atomics.compareExchange(this.#words, LOCK, owner, ARBITER) === owner) return true;
      }
      Bun.sleepSync(PAUSE_MS);
    }
  }

  release(): void {
    Atomics.store(this.#words, LOCK, 0);
  }
}
