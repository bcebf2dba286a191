/**
 * StoreBufferMap: the map of a node whose own stores run ahead of the log (`pipelined`, `release`).
 *
 * A process puts a store into the node's ring and into the map at once; the store gets its place in the log later.
 * Until then the node keeps here, beside the map, the value that the log gives those bytes. Invariants, for every byte
 * of the map:
 *
 * - no store of this node pending on it: the map holds the log's value;
 * - some pending: the map holds the value of the newest of them, and `ordered` the log's value.
 *
 * So an entry of another node never overwrites a byte that has a later store of this node pending, and the byte follows
 * the log again with the entry of the last one. It is the store buffer of x86-TSO (Owens, Sarkar and Sewell, TPHOLs
 * 2009), one for the node: all processes of the node see the node's stores first.
 *
 * The caller of add(), and of a method that changes the map, holds the ring's lock or has no processes that store.
 */
import { Fifo } from "../base/fifo.ts";
import { MapBytes } from "../memory/map-bytes.ts";
import type { AtomicOp } from "../wire/kinds.ts";
import { LineSlots } from "./line-slots.ts";
import { ringCorrupt } from "./store-ring.ts";

const LINE = 64;
const WORDS = LINE / 8;

/** An entry of this node that has not come back. */
interface Queued {
  /** Bytes of its runs. */
  bytes: number;
  /** Slots of the lines that it changes. */
  slots: number[];
  /** The values that it leaves in bytes that a later entry also changes: place and value alternate. */
  under: number[];
}

export class StoreBufferMap extends MapBytes {
  /** Lines in which at least one byte has a store pending. */
  readonly #lines = new LineSlots();
  /** By slot and byte: the log's value, also as words of 4 bytes. */
  #ordered = new Uint8Array(0);
  #orderedWords = new Uint32Array(0);
  /**
   * Entries are numbered as they are queued. The newest entry that changes a byte is the larger of #newest of the byte
   * and #newestWhole of its 8-byte word, for words changed as a whole. #newestAny, by slot and word: the newest that
   * changes any byte of it.
   */
  #newest = new Float64Array(0);
  #newestWhole = new Float64Array(0);
  #newestAny = new Float64Array(0);
  /** By slot: the newest entry that changes any byte of the line. */
  #newestOfLine = new Float64Array(0);
  /** A byte has stores pending while the newest entry that changes it has a higher number than #settled. */
  #settled = 0;
  #open = 1;
  /** The closed entries behind #settled, and the open one. */
  readonly #queued = new Fifo<Queued>();
  #last: Queued = { bytes: 0, slots: [], under: [] };
  readonly #scratch = new DataView(new ArrayBuffer(16));
  /** The entry that settle() is applying. */
  #settles: Queued | null = null;

  /** Lines of 64 bytes in which stores are pending. */
  get pendingLines(): number {
    return this.#lines.size;
  }

  /**
   * Records a store that is already visible in the map, or will be before the lock is released. It belongs to the entry
   * that closeEntry() ends. `old` has at `oldAt` the bytes that the map held before.
   */
  add(offset: number, length: number, old: DataView, oldAt: number): void {
    this.#last.bytes += length;
    const end = offset + length;
    for (let from = offset; from < end; ) {
      const line = Math.floor(from / LINE);
      const next = Math.min(end, (line + 1) * LINE);
      this.#addBytes(this.#touch(line) * LINE + (from % LINE), next - from, old, oldAt + from - offset);
      from = next;
    }
  }

  /** As add(), for an aligned word of 8 bytes below 2^32: `low` and `high` are its previous value. */
  addWord(offset: number, low: number, high: number): void {
    this.#last.bytes += 8;
    const place = this.#touch(offset >>> 6) * LINE + (offset & 63);
    const word = place >>> 3;
    if (this.#newestWhole[word] === this.#open) return;
    if ((this.#newestAny[word] as number) <= this.#settled) {
      this.#orderedWords[2 * word] = low;
      this.#orderedWords[2 * word + 1] = high;
    } else {
      this.#scratch.setUint32(0, low, true);
      this.#scratch.setUint32(4, high, true);
      this.#addBytes(place, 8, this.#scratch, 0);
    }
    this.#newestWhole[word] = this.#open;
    this.#newestAny[word] = this.#open;
  }

  #addBytes(place: number, length: number, old: DataView, oldAt: number): void {
    const open = this.#open;
    for (let i = 0; i < length; i += 1) {
      const at = place + i;
      const newest = this.#newestAt(at);
      if (newest !== open) {
        const value = old.getUint8(oldAt + i);
        if (newest <= this.#settled) this.#ordered[at] = value;
        else (this.#queued.at(newest - this.#settled - 1) as Queued).under.push(at, value);
        this.#newest[at] = open;
      }
      this.#newestAny[at >>> 3] = open;
    }
  }

  /** Closes the open entry: all stores added since the last call come back as one entry. */
  closeEntry(): void {
    this.#open += 1;
    this.#queued.push(this.#last);
    this.#last = { bytes: 0, slots: [], under: [] };
  }

  /**
   * Applies the oldest entry of this node, which has come back. The map already holds its stores, or later ones.
   * `apply` may call store() or publish() with it.
   */
  settle(apply: () => void): void {
    const entry = this.#queued.shift();
    if (entry === undefined) throw ringCorrupt();
    const { slots, under } = entry;
    this.#settles = entry;
    try {
      apply();
    } finally {
      this.#settles = null;
    }
    for (let i = 0; i < under.length; i += 2) this.#ordered[under[i] as number] = under[i + 1] as number;
    this.#settled += 1;
    for (const slot of slots) {
      if (this.#newestOfLine[slot] === this.#settled) this.#lines.release(slot);
    }
  }

  #newestAt(place: number): number {
    return Math.max(this.#newest[place] as number, this.#newestWhole[place >>> 3] as number);
  }

  #isPendingAt(place: number): boolean {
    return this.#newestAt(place) > this.#settled;
  }

  /** Returns the line's slot, for a store of the open entry. */
  #touch(line: number): number {
    let slot = this.#lines.find(line);
    if (slot < 0) {
      slot = this.#lines.take(line);
      if (slot >= this.#newestOfLine.length) this.#grow();
    }
    if (this.#newestOfLine[slot] !== this.#open) {
      this.#newestOfLine[slot] = this.#open;
      this.#last.slots.push(slot);
    }
    return slot;
  }

  #grow(): void {
    const room = Math.max(64, 2 * this.#newestOfLine.length);
    const grown = <T extends Uint8Array | Float64Array>(to: T, from: T): T => {
      to.set(from);
      return to;
    };
    this.#ordered = grown(new Uint8Array(room * LINE), this.#ordered);
    this.#orderedWords = new Uint32Array(this.#ordered.buffer);
    this.#newest = grown(new Float64Array(room * LINE), this.#newest);
    this.#newestWhole = grown(new Float64Array(room * WORDS), this.#newestWhole);
    this.#newestAny = grown(new Float64Array(room * WORDS), this.#newestAny);
    this.#newestOfLine = grown(new Float64Array(room), this.#newestOfLine);
  }

  /** Completes a store that a dead process has put into the ring but perhaps not into the map. */
  redo(offset: number, source: DataView, from: number, length: number): void {
    super.store(offset, source, from, length);
  }

  override store(offset: number, source: DataView, from: number, length: number): void {
    if (this.#settles !== null) return;
    if (this.#lines.size === 0) super.store(offset, source, from, length);
    else this.#storeLines(offset, source, from, length);
  }

  override publish(source: DataView, from: number, end: number): number {
    return this.#settles?.bytes ?? super.publish(source, from, end);
  }

  /** Applies a store of another node line by line, and skips the bytes that have a later store pending. */
  #storeLines(offset: number, source: DataView, from: number, length: number): void {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const line = Math.floor(at / LINE);
      const next = Math.min(end, (line + 1) * LINE);
      const slot = this.#lines.find(line);
      if (slot < 0) super.store(at, source, from + at - offset, next - at);
      else this.#storeAround(slot, at, source, from + at - offset, next - at);
      at = next;
    }
  }

  /**
   * Applies a store within one line. Each aligned word of the map is written by one store, so that no reader sees half
   * of it.
   */
  #storeAround(slot: number, offset: number, source: DataView, from: number, length: number): void {
    const scratch = this.#scratch;
    const end = offset + length;
    for (let word = offset - (offset % 8); word < end; word += 8) {
      scratch.setBigUint64(0, this.view.getBigUint64(word, true), true);
      for (let at = Math.max(word, offset); at < Math.min(word + 8, end); at += 1) {
        const value = source.getUint8(from + at - offset);
        const place = slot * LINE + (at % LINE);
        if (!this.#isPendingAt(place)) scratch.setUint8(at - word, value);
        else this.#ordered[place] = value;
      }
      this.view.setBigUint64(word, scratch.getBigUint64(0, true), true);
    }
  }

  protected override get isPlain(): boolean {
    return this.#lines.size === 0;
  }

  protected override storeMaskedWord(offset: number, mask: number, source: DataView, from: number): number {
    const slot = this.#lines.find(Math.floor(offset / LINE));
    if (slot < 0) return super.storeMaskedWord(offset, mask, source, from);
    const scratch = this.#scratch;
    scratch.setBigUint64(0, this.view.getBigUint64(offset, true), true);
    let next = from;
    for (let byte = 0; byte < 8; byte += 1) {
      if (((mask >> byte) & 1) === 0) continue;
      const place = slot * LINE + ((offset + byte) % LINE);
      if (!this.#isPendingAt(place)) scratch.setUint8(byte, source.getUint8(next));
      else this.#ordered[place] = source.getUint8(next);
      next += 1;
    }
    this.view.setBigUint64(offset, scratch.getBigUint64(0, true), true);
    return next;
  }

  override atomic(
    op: AtomicOp,
    width: number,
    offset: number,
    source: DataView,
    from: number,
    old: DataView,
    oldAt: number,
  ): void {
    if (!this.#isPending(offset, width)) {
      super.atomic(op, width, offset, source, from, old, oldAt);
      return;
    }
    const place = new MapBytes(this.ordered(offset, width));
    place.atomic(op, width, 0, source, from, old, oldAt);
    this.#storeLines(offset, place.view, 0, width);
  }

  override equals(offset: number, length: number, source: DataView, from: number): boolean {
    if (!this.#isPending(offset, length)) return super.equals(offset, length, source, from);
    return new MapBytes(this.ordered(offset, length)).equals(0, length, source, from);
  }

  override zero(offset: number, length: number): void {
    const end = offset + length;
    const lines = [...this.#lines.entries()]
      .map(([line]) => line)
      .filter((line) => line * LINE < end && (line + 1) * LINE > offset);
    lines.sort((a, b) => a - b);
    const zeros = new DataView(new ArrayBuffer(LINE));
    let at = offset;
    for (const line of lines) {
      const first = Math.max(at, line * LINE);
      const next = Math.min(end, (line + 1) * LINE);
      super.zero(at, first - at);
      this.#storeLines(first, zeros, 0, next - first);
      at = next;
    }
    super.zero(at, end - at);
  }

  #isPending(offset: number, length: number): boolean {
    if (this.#lines.size === 0) return false;
    for (let line = Math.floor(offset / LINE); line * LINE < offset + length; line += 1) {
      if (this.#lines.has(line)) return true;
    }
    return false;
  }

  /** A copy of the bytes as the log has them. */
  ordered(offset: number, length: number): Uint8Array {
    const copy = new Uint8Array(this.bytes.subarray(offset, offset + length));
    const restore = (line: number, slot: number): void => {
      const first = Math.max(offset, line * LINE);
      const end = Math.min(offset + length, (line + 1) * LINE);
      for (let at = first; at < end; at += 1) {
        const place = slot * LINE + (at % LINE);
        if (this.#isPendingAt(place)) copy[at - offset] = this.#ordered[place] as number;
      }
    };
    if (this.#lines.size * LINE < length) {
      for (const [line, slot] of this.#lines.entries()) restore(line, slot);
    } else {
      for (let line = Math.floor(offset / LINE); line * LINE < offset + length; line += 1) {
        const slot = this.#lines.find(line);
        if (slot >= 0) restore(line, slot);
      }
    }
    return copy;
  }
}
