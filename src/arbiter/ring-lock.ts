/**
 * The lock of a node's ring, between its processes and us. A process holds it for the length of one store, in a signal
 * handler with every signal blocked; we hold it while we apply what came from the server.
 */
import { RING, RING_ARBITER } from "../core/protocol.ts";
import type { RingLock } from "../core/ring.ts";
import type { FileLocks } from "../link/file-lock.ts";

const LOCK = RING.lock[0] / 4;
/** Attempts before we give the processor away: an owner that runs is done long before. */
const SPINS = 2000;
const PAUSE_MS = 1;
/** RING_ARBITER as the words have it. */
const ARBITER = RING_ARBITER | 0;

export class FileRingLock implements RingLock {
  readonly #words: Int32Array;
  readonly #files: FileLocks;
  readonly #map: number;

  /** `header`: the ring's. `map`: a descriptor of the map's file, where each process has its own byte locked. */
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
      // No thread of an owner without its lock will ever store again: it has ended, or was replaced by exec().
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
