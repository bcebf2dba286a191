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
 * What changes `ordered`: the first store that is pending on a byte leaves there what the map held before; an entry of
 * another node, and one of this node that has a later one behind it, what the entry says. The value of a byte without a
 * store pending means nothing. Which bytes have one is known by PendingLines; for each of its lines 64 bytes are kept here.
 *
 * The caller of add(), and of a method that changes the map, holds the ring's lock or has no processes that store.
 */
import { Fifo } from "../base/fifo.ts";
import { MapBytes } from "../memory/map-bytes.ts";
import type { AtomicOp } from "../wire/kinds.ts";
import { runLength, runOffset, runSize } from "../wire/runs.ts";
import { LineCopy } from "./line-copy.ts";
import { LINE, PendingLines } from "./pending-lines.ts";

const WORD = 8;
/** Words of 4 bytes. */
const LINE_WORDS = LINE / 4;
/** Fewer lines are copied word by word: creating a subarray costs more. */
const BULK_LINES_MIN = 4;
const NOTHING = -1;

interface Source {
  view: DataView | null;
  bytes: Uint8Array;
}

const NO_SOURCE: Source = { view: null, bytes: new Uint8Array(0) };

const lineOf = (offset: number): number => Math.floor(offset / LINE);

export class StoreBufferMap extends MapBytes {
  readonly #pending = new PendingLines();
  /** By slot of #pending: the log's value, also as words of 4 bytes. */
  #ordered = new Uint8Array(0);
  #orderedWords = new Uint32Array(0);
  /** Bytes of the runs of each closed entry, and of the open one. */
  readonly #sizes = new Fifo<number>();
  #openSize = 0;
  readonly #copy = new LineCopy();
  readonly #scratch = new DataView(new ArrayBuffer(WORD));
  /** What #bytesOf() was called for last. */
  #source: Source = NO_SOURCE;
  /** Bytes of the entry that settle() is applying, or NOTHING. */
  #settles = NOTHING;
  /** Whether it leaves anything below later stores. */
  #keepsSettled = false;

  /** Lines of 64 bytes in which stores are pending. */
  get pendingLines(): number {
    return this.#pending.size;
  }

  /**
   * Records a store that is already visible in the map, or will be before the lock is released. It belongs to the entry
   * that closeEntry() ends. `old` has at `oldAt` the bytes that the map held before.
   */
  add(offset: number, length: number, old: Uint8Array, oldAt: number): void {
    this.#openSize += length;
    const end = offset + length;
    for (let at = offset; at < end; ) {
      const next = this.#copy.load(at, end, old, oldAt + at - offset);
      const first = lineOf(at);
      for (let line = first; line * LINE < next; line += 1) {
        const from = Math.max(0, at - line * LINE);
        const to = Math.min(LINE, next - line * LINE);
        const slot = this.#pending.mark(line, from, to);
        if (this.#pending.hasFresh) this.#keepFresh(slot, from, to, (line - first) * LINE);
      }
      at = next;
    }
  }

  /** Keeps what the map held in the bytes of a line on which no store was pending; the line is at `copied` of the copy. */
  #keepFresh(slot: number, from: number, to: number, copied: number): void {
    if (slot * LINE >= this.#ordered.length) this.#grow();
    const { freshLow, freshHigh } = this.#pending;
    if ((freshLow & freshHigh) === -1) {
      const ordered = this.#orderedWords;
      const { words } = this.#copy;
      for (let i = 0; i < LINE_WORDS; i += 1) ordered[slot * LINE_WORDS + i] = words[(copied >>> 2) + i] as number;
      return;
    }
    for (let at = from & -WORD; at < to; at += WORD) {
      const bits = (at < 32 ? freshLow >>> at : freshHigh >>> (at - 32)) & 0xff;
      if (bits !== 0) this.#keep(slot * LINE + at, bits, copied + at);
    }
  }

  /** Keeps as the log's value the bytes for which there are bits, of the word at `copied` of the copy. */
  #keep(place: number, bits: number, copied: number): void {
    if (bits === 0xff) {
      this.#orderedWords[place >>> 2] = this.#copy.words[copied >>> 2] as number;
      this.#orderedWords[(place >>> 2) + 1] = this.#copy.words[(copied >>> 2) + 1] as number;
      return;
    }
    for (let byte = 0; byte < WORD; byte += 1) {
      if (((bits >>> byte) & 1) !== 0) this.#ordered[place + byte] = this.#copy.bytes[copied + byte] as number;
    }
  }

  /** As add(), for aligned words of 4 bytes below 2^32: their previous values are at `at` of `old`, each word read once. */
  addWords(offset: number, length: number, old: Uint32Array, at: number): void {
    this.#openSize += length;
    const pending = this.#pending;
    const { words } = this.#copy;
    const end = offset + length;
    // Whole lines with neighbouring slots: from `first` of `old`, into the slots from `slot` on, `count` of them.
    let first = 0;
    let slot = 0;
    let count = 0;
    for (let start = offset - (offset & (LINE - 1)); start < end; start += LINE) {
      const from = Math.max(offset - start, 0);
      const to = Math.min(end - start, LINE);
      const next = pending.mark(start >>> 6, from, to);
      const line = at + ((start - offset) >> 2);
      if (!pending.hasFresh) continue;
      if ((pending.freshLow & pending.freshHigh) !== -1) {
        for (let i = from >>> 2; i < to >>> 2; i += 1) words[i] = old[line + i] as number;
        this.#keepFresh(next, from, to, 0);
      } else if (count > 0 && next === slot + count && line === first + count * LINE_WORDS) {
        count += 1;
      } else {
        if (count > 0) this.#keepLines(slot, count, old, first);
        first = line;
        slot = next;
        count = 1;
      }
    }
    if (count > 0) this.#keepLines(slot, count, old, first);
  }

  /** Keeps as the log's value whole lines at `from` of `words`, in slots from `slot` on. */
  #keepLines(slot: number, count: number, words: Uint32Array, from: number): void {
    while (slot + count > this.#ordered.length / LINE) this.#grow();
    const to = slot * LINE_WORDS;
    const length = count * LINE_WORDS;
    if (count >= BULK_LINES_MIN) this.#orderedWords.set(words.subarray(from, from + length), to);
    else for (let i = 0; i < length; i += 1) this.#orderedWords[to + i] = words[from + i] as number;
  }

  #grow(): void {
    const ordered = new Uint8Array(this.#pending.capacity * LINE);
    ordered.set(this.#ordered);
    this.#ordered = ordered;
    this.#orderedWords = new Uint32Array(ordered.buffer);
  }

  /** Closes the open entry: all stores added since the last call come back as one entry. */
  closeEntry(): void {
    this.#pending.closeEntry();
    this.#sizes.push(this.#openSize);
    this.#openSize = 0;
  }

  /**
   * Applies the oldest entry of this node, which has come back. The map already holds its stores, or later ones.
   * `apply` calls store() or publish() with its runs.
   */
  settle(apply: () => void): void {
    this.#settles = this.#sizes.shift() ?? NOTHING;
    this.#keepsSettled = this.#pending.anyStays;
    try {
      if (this.#settles !== NOTHING) apply();
    } finally {
      this.#settles = NOTHING;
    }
    this.#pending.removeOldest();
  }

  /** Completes a store that a dead process has put into the ring but perhaps not into the map. */
  redo(offset: number, source: DataView, from: number, length: number): void {
    super.store(offset, source, from, length);
  }

  override store(offset: number, source: DataView, from: number, length: number): void {
    if (this.#settles !== NOTHING) {
      if (this.#keepsSettled) this.#settleRun(offset, source, from, length);
    } else if (this.#pending.size === 0) super.store(offset, source, from, length);
    else this.#storeAround(offset, source, from, length);
  }

  override publish(source: DataView, from: number, end: number): number {
    if (this.#settles === NOTHING) return super.publish(source, from, end);
    if (this.#keepsSettled) super.publish(source, from, end);
    return this.#settles;
  }

  /** The bytes of `source`, made once for all runs of a publication. */
  #bytesOf(source: DataView): Uint8Array {
    if (this.#source.view !== source) {
      this.#source = { view: source, bytes: new Uint8Array(source.buffer, source.byteOffset, source.byteLength) };
    }
    return this.#source.bytes;
  }

  /** A run of this node: the map has it. In lines with later stores pending it is the log's value now. */
  #settleRun(offset: number, source: DataView, from: number, length: number): void {
    if (length === WORD && (offset & (WORD - 1)) === 0) {
      this.#settleWord(offset, source, from);
      return;
    }
    const pending = this.#pending;
    const copy = this.#copy;
    const end = offset + length;
    // The copy has the bytes from `at` on before `next`.
    let at = offset;
    let next = offset;
    for (let line = lineOf(offset); line * LINE < end; line += 1) {
      const slot = pending.find(line);
      if (slot < 0 || !pending.stays(slot)) continue;
      const start = line * LINE;
      const first = Math.max(start, offset);
      if (first >= next) {
        at = first;
        next = copy.load(first, end, this.#bytesOf(source), from + first - offset);
      }
      const to = Math.min(LINE, end - start);
      const copied = start - lineOf(at) * LINE;
      for (let word = (first - start) & -WORD; word < to; word += WORD) {
        this.#keep(slot * LINE + word, bitsOfWord(word, first - start, to), copied + word);
      }
    }
  }

  /** As #settleRun(), for an aligned word, as most runs are. */
  #settleWord(offset: number, source: DataView, from: number): void {
    const line = lineOf(offset);
    const slot = this.#pending.find(line);
    if (slot < 0 || !this.#pending.stays(slot)) return;
    const place = slot * LINE_WORDS + ((offset - line * LINE) >>> 2);
    this.#orderedWords[place] = source.getInt32(from, true);
    this.#orderedWords[place + 1] = source.getInt32(from + 4, true);
  }

  /**
   * Applies a store of another node, and skips the bytes that have a later store pending. Each aligned word of the map
   * is written by one store, so that no reader sees half of it.
   */
  #storeAround(offset: number, source: DataView, from: number, length: number): void {
    const pending = this.#pending;
    const end = offset + length;
    // Where the bytes begin that go into the map unchanged.
    let plain = offset;
    for (let line = lineOf(offset); line * LINE < end; line += 1) {
      const slot = pending.find(line);
      if (slot < 0) continue;
      const start = line * LINE;
      const first = Math.max(0, offset - start);
      const to = Math.min(LINE, end - start);
      this.#copy.load(start + first, start + to, this.#bytesOf(source), from + start + first - offset);
      for (let word = first & -WORD; word < to; word += WORD) {
        const stored = bitsOfWord(word, first, to);
        const skipped = stored & pending.bitsOf(slot, word >>> 3);
        if (skipped === 0) continue;
        const before = start + Math.max(first, word);
        if (plain < before) super.store(plain, source, from + plain - offset, before - plain);
        this.#keep(slot * LINE + word, skipped, word);
        if (skipped !== stored) this.#mix(start + word, stored & ~skipped, word);
        plain = start + Math.min(word + WORD, to);
      }
    }
    if (plain < end) super.store(plain, source, from + plain - offset, end - plain);
  }

  /** Writes the bytes for which there are bits of the word at `copied` of the copy into the aligned word of the map. */
  #mix(word: number, bits: number, copied: number): void {
    const scratch = this.#scratch;
    scratch.setBigUint64(0, this.view.getBigUint64(word, true), true);
    for (let byte = 0; byte < WORD; byte += 1) {
      if (((bits >>> byte) & 1) !== 0) scratch.setUint8(byte, this.#copy.bytes[copied + byte] as number);
    }
    this.view.setBigUint64(word, scratch.getBigUint64(0, true), true);
  }

  protected override goThrough(source: DataView, from: number, end: number): boolean {
    if (this.#settles !== NOTHING) return false;
    if (this.#pending.size === 0) return true;
    for (let run = from; run < end; run += runSize(source, run)) {
      if (this.#pending.has(runOffset(source, run), runLength(source, run))) return false;
    }
    return true;
  }

  protected override storeMaskedWord(offset: number, mask: number, source: DataView, from: number): number {
    const line = lineOf(offset);
    const slot = this.#pending.find(line);
    const at = offset - line * LINE;
    const skipped = slot < 0 ? 0 : this.#pending.bitsOf(slot, at >>> 3) & mask;
    if (skipped === 0) return super.storeMaskedWord(offset, mask, source, from);
    const scratch = this.#scratch;
    scratch.setBigUint64(0, this.view.getBigUint64(offset, true), true);
    let next = from;
    for (let byte = 0; byte < WORD; byte += 1) {
      if (((mask >>> byte) & 1) === 0) continue;
      const value = source.getUint8(next);
      if (((skipped >>> byte) & 1) === 0) scratch.setUint8(byte, value);
      else this.#ordered[slot * LINE + at + byte] = value;
      next += 1;
    }
    if (skipped !== mask) this.view.setBigUint64(offset, scratch.getBigUint64(0, true), true);
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
    if (!this.#pending.has(offset, width)) {
      super.atomic(op, width, offset, source, from, old, oldAt);
      return;
    }
    const place = new MapBytes(this.ordered(offset, width));
    place.atomic(op, width, 0, source, from, old, oldAt);
    this.#storeAround(offset, place.view, 0, width);
  }

  override equals(offset: number, length: number, source: DataView, from: number): boolean {
    if (!this.#pending.has(offset, length)) return super.equals(offset, length, source, from);
    return new MapBytes(this.ordered(offset, length)).equals(0, length, source, from);
  }

  override zero(offset: number, length: number): void {
    const end = offset + length;
    let at = offset;
    for (const line of this.#pending.between(lineOf(offset), lineOf(end - 1) + 1)) {
      const first = Math.max(at, line * LINE);
      const next = Math.min(end, (line + 1) * LINE);
      super.zero(at, first - at);
      this.#storeAround(first, ZEROS, 0, next - first);
      at = next;
    }
    super.zero(at, end - at);
  }

  /** A copy of the bytes as the log has them. */
  ordered(offset: number, length: number): Uint8Array {
    const pending = this.#pending;
    const end = offset + length;
    const copy = new Uint8Array(this.bytes.subarray(offset, end));
    for (const line of pending.between(lineOf(offset), lineOf(end - 1) + 1)) {
      const slot = pending.find(line);
      const next = Math.min(end, (line + 1) * LINE);
      for (let at = Math.max(offset, line * LINE); at < next; at += 1) {
        const byte = at - line * LINE;
        if (((pending.bitsOf(slot, byte >>> 3) >>> (byte & 7)) & 1) !== 0) {
          copy[at - offset] = this.#ordered[slot * LINE + byte] as number;
        }
      }
    }
    return copy;
  }
}

/** A bit for each byte of the word at `word` that is not before `from` nor from `to` on. */
const bitsOfWord = (word: number, from: number, to: number): number =>
  (0xff << Math.max(from - word, 0)) & (0xff >>> Math.max(word + WORD - to, 0));

const ZEROS = new DataView(new ArrayBuffer(LINE));
