/**
 * MapSnapshot: the bytes of a map at one point of the log, as frames of kind MAP, while the session goes on changing
 * them.
 *
 * Invariant: next() returns the bytes at the moment the snapshot was begun. A page that changes before it was returned
 * is first copied (copy on write), so a snapshot costs the pages written to while it is taken, at most the map's size.
 * Pages of zeros are left out: the receiver begins with zeros.
 */

import { PAGE_SIZE } from "../base/limits.ts";
import { At, HEADER_SIZE, MapAt } from "../wire/at.ts";
import { setUint64 } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import { PUBLISH_PART_MAX, RUN_HEADER_SIZE, writeRun } from "../wire/runs.ts";
import { isZero, type MapBytes } from "./map-bytes.ts";

/** Pages examined for one frame, so that a map of zeros does not hold up the sender. */
const PAGES_AT_ONCE_MAX = 4096;

export const MapOp = { LAST: 0, MORE: 1 } as const;

export class MapSnapshot {
  readonly #memory: MapBytes;
  readonly #seq: number;
  readonly #pages: number;
  /** Pages below this one have been returned. */
  #page = 0;
  readonly #kept = new Map<number, Uint8Array>();
  #done = false;

  /** Begins a snapshot of `memory` as it is now, after entry `seq`. The caller must take all of it, or call end(). */
  constructor(memory: MapBytes, seq: number) {
    this.#memory = memory;
    this.#seq = seq;
    this.#pages = memory.size / PAGE_SIZE;
    memory.watchers.add(this);
  }

  /** Bytes of the pages that were copied because they have changed since. */
  get keptBytes(): number {
    return this.#kept.size * PAGE_SIZE;
  }

  get done(): boolean {
    return this.#done;
  }

  /** Called before these bytes change. */
  beforeWrite(offset: number, length: number): void {
    const last = Math.floor((offset + length - 1) / PAGE_SIZE);
    for (let page = Math.max(Math.floor(offset / PAGE_SIZE), this.#page); page <= last; page += 1) {
      if (!this.#kept.has(page))
        this.#kept.set(page, this.#memory.bytes.slice(page * PAGE_SIZE, (page + 1) * PAGE_SIZE));
    }
  }

  /** Returns the next frame, with at most PUBLISH_PART_MAX bytes of runs, maybe none; null after the last. */
  next(): Uint8Array | null {
    if (this.#done) return null;
    const frame = new Uint8Array(HEADER_SIZE + PUBLISH_PART_MAX);
    const view = new DataView(frame.buffer);
    const end = Math.min(this.#pages, this.#page + PAGES_AT_ONCE_MAX);
    let at = HEADER_SIZE;
    while (this.#page < end && at + RUN_HEADER_SIZE + PAGE_SIZE <= frame.length) {
      const page = this.#page;
      const offset = page * PAGE_SIZE;
      const bytes = this.#kept.get(page) ?? this.#memory.bytes.subarray(offset, offset + PAGE_SIZE);
      if (!isZero(bytes)) at = writeRun(view, at, offset, bytes);
      this.#kept.delete(page);
      this.#page += 1;
    }
    this.#done = this.#page === this.#pages;
    if (this.#done) this.end();
    view.setUint32(At.size, at, true);
    frame[4] = Kind.MAP;
    frame[5] = this.#done ? MapOp.LAST : MapOp.MORE;
    setUint64(view, MapAt.seq, this.#seq);
    view.setUint32(MapAt.runsLength, at - HEADER_SIZE, true);
    return frame.subarray(0, at);
  }

  /** Ends the snapshot: the rest is not needed. */
  end(): void {
    this.#done = true;
    this.#memory.watchers.delete(this);
    this.#kept.clear();
  }
}
