/**
 * PendingLines: which bytes of the map have stores of this node pending, by lines of 64 bytes.
 *
 * A mark is what one entry changes in one line: a bit for each byte. Marks lie in the order in which their entries were
 * queued, which is the order in which the entries come back; those of one line are linked from older to newer.
 *
 *     oldest entry            next one          open entry
 *     [ mark | mark | mark ]  [ mark | mark ]   [ mark ] ... take more marks
 *          '------------------------^ next of the same line
 *
 * Invariants: an entry has at most one mark in a line; a line has a slot while it has a mark; `bits` of a line is the
 * union of its marks.
 *
 * A store costs a few operations on words for each line, however many of its bytes it changes. So does an entry that
 * comes back: of its bits those go that no newer mark of the line has. It reads newer marks until all are found or
 * there are no more: over all entries at most 64 times the number of marks, mostly one.
 *
 * Memory for each line: 12 bytes, 12 in LineSlots, and the 64 of StoreBufferMap; for each mark 16. Twice that at most,
 * because arrays grow by doubling; they never shrink. What is pending is in the ring, where a run of up to 8 bytes takes
 * at least 24 and touches at most two lines: so there are at most 2 * RING_SIZE / 24 = 87,381 lines and marks.
 */
import { Fifo } from "../base/fifo.ts";
import { LineSlots } from "./line-slots.ts";
import { ringCorrupt } from "./store-ring.ts";

export const LINE = 64;
const MARKS_MIN = 64;
/** Number of the first mark, chosen so that numbers soon wrap in every session. */
const MARKS_START = 2 ** 31 - 1000;

/** Bits 0 to `count` - 1; none for a negative count, all for one above 31. */
const lowest = (count: number): number => (count >= 32 ? -1 : count <= 0 ? 0 : ~(-1 << count));

export class PendingLines {
  readonly #slots = new LineSlots();
  /** By slot: a bit for each byte of the line; two halves of 32, the lower one first. */
  #bits = new Int32Array(0);
  /** The same, a byte for each word of 8 bytes. */
  #bitsOfWords = new Uint8Array(0);
  /** By slot: the line's newest mark. */
  #newest = new Int32Array(0);
  /** Marks by number, modulo a power of 2: their bits in two halves, their slot, the next mark of that line if there is one. */
  #markBits = new Int32Array(2 * MARKS_MIN);
  #markSlot = new Int32Array(MARKS_MIN);
  #markNext = new Int32Array(MARKS_MIN);
  /** Numbers, modulo 2^32, of the oldest mark, of the open entry's first, and of the next one to be made. */
  #first = MARKS_START;
  #open = MARKS_START;
  #end = MARKS_START;
  /** Marks of each closed entry. */
  readonly #counts = new Fifo<number>();
  /** What the last mark() found: the bits of bytes that had no store pending before. */
  freshLow = 0;
  freshHigh = 0;

  /** Whether there are such bits. */
  get hasFresh(): boolean {
    return (this.freshLow | this.freshHigh) !== 0;
  }

  /** Lines in which stores are pending. */
  get size(): number {
    return this.#slots.size;
  }

  /** All slots are below. */
  get capacity(): number {
    return this.#newest.length;
  }

  /** The line's slot, or -1: no store is pending in it. */
  find(line: number): number {
    return this.#slots.find(line);
  }

  /** The lines from `first` on before `end` in which stores are pending, ascending. */
  between(first: number, end: number): number[] {
    return this.#slots.between(first, end);
  }

  /** The pending bytes of a word of the line, from 0 to 7: a bit for each. */
  bitsOf(slot: number, word: number): number {
    return this.#bitsOfWords[8 * slot + word] as number;
  }

  /** Whether stores of this node are pending on any byte from `offset` on. */
  has(offset: number, length: number): boolean {
    if (this.#slots.size === 0) return false;
    const end = offset + length;
    for (let line = Math.floor(offset / LINE); line * LINE < end; line += 1) {
      const slot = this.#slots.find(line);
      if (slot < 0) continue;
      const from = offset - line * LINE;
      const to = end - line * LINE;
      const low = lowest(to) & ~lowest(from) & (this.#bits[2 * slot] as number);
      const high = lowest(to - 32) & ~lowest(from - 32) & (this.#bits[2 * slot + 1] as number);
      if ((low | high) !== 0) return true;
    }
    return false;
  }

  /**
   * Adds the bytes of the line from `from` to `to` to the open entry. Returns the line's slot, and sets freshLow and
   * freshHigh.
   */
  mark(line: number, from: number, to: number): number {
    const low = lowest(to) & ~lowest(from);
    const high = lowest(to - 32) & ~lowest(from - 32);
    const slot = this.#markOf(line);
    const bits = this.#bits;
    const markBits = this.#markBits;
    const mark = (this.#newest[slot] as number) & (this.#markSlot.length - 1);
    markBits[2 * mark] = (markBits[2 * mark] as number) | low;
    markBits[2 * mark + 1] = (markBits[2 * mark + 1] as number) | high;
    const lowBefore = bits[2 * slot] as number;
    const highBefore = bits[2 * slot + 1] as number;
    bits[2 * slot] = lowBefore | low;
    bits[2 * slot + 1] = highBefore | high;
    this.freshLow = low & ~lowBefore;
    this.freshHigh = high & ~highBefore;
    return slot;
  }

  /** Makes the line's newest mark one of the open entry. Returns the line's slot. */
  #markOf(line: number): number {
    let slot = this.#slots.find(line);
    const isNew = slot < 0;
    if (isNew) {
      slot = this.#slots.take(line);
      if (slot >= this.#newest.length) this.#growSlots();
      this.#bits[2 * slot] = 0;
      this.#bits[2 * slot + 1] = 0;
    } else if ((((this.#newest[slot] as number) - this.#open) | 0) >= 0) return slot;
    const number = this.#end;
    if (((number - this.#first) | 0) === this.#markSlot.length) this.#growMarks();
    const last = this.#markSlot.length - 1;
    if (!isNew) this.#markNext[(this.#newest[slot] as number) & last] = number;
    this.#markBits[2 * (number & last)] = 0;
    this.#markBits[2 * (number & last) + 1] = 0;
    this.#markSlot[number & last] = slot;
    this.#newest[slot] = number;
    this.#end = (number + 1) | 0;
    return slot;
  }

  /** Closes the open entry. */
  closeEntry(): void {
    this.#counts.push((this.#end - this.#open) | 0);
    this.#open = this.#end;
  }

  /** Whether the line has stores pending also without those of the oldest entry. */
  stays(slot: number): boolean {
    return (((this.#newest[slot] as number) - this.#endOfOldest) | 0) >= 0;
  }

  /** Whether that is so for any line in which the oldest entry has stores. */
  get anyStays(): boolean {
    const last = this.#markSlot.length - 1;
    const end = this.#endOfOldest;
    for (let mark = this.#first; mark !== end; mark = (mark + 1) | 0) {
      if (this.stays(this.#markSlot[mark & last] as number)) return true;
    }
    return false;
  }

  get #endOfOldest(): number {
    return (this.#first + (this.#counts.at(0) ?? 0)) | 0;
  }

  /** Removes the stores of the oldest closed entry. Throws ProtocolError: there is none. */
  removeOldest(): void {
    let count = this.#counts.shift();
    if (count === undefined) throw ringCorrupt();
    const last = this.#markSlot.length - 1;
    const end = (this.#first + count) | 0;
    // From the newest on: LineSlots gives the slot released last first, so neighbouring lines get neighbouring slots again.
    for (let number = (end - 1) | 0; count > 0; number = (number - 1) | 0) {
      count -= 1;
      const slot = this.#markSlot[number & last] as number;
      if (this.#newest[slot] === number) this.#slots.release(slot);
      else this.#unmark(slot, number & last);
    }
    this.#first = end;
  }

  /** Clears the bits of the line's oldest mark that no other mark of it has. */
  #unmark(slot: number, oldest: number): void {
    const last = this.#markSlot.length - 1;
    const newest = (this.#newest[slot] as number) & last;
    let low = this.#markBits[2 * oldest] as number;
    let high = this.#markBits[2 * oldest + 1] as number;
    for (let mark = oldest; mark !== newest && (low | high) !== 0; ) {
      mark = (this.#markNext[mark] as number) & last;
      low &= ~(this.#markBits[2 * mark] as number);
      high &= ~(this.#markBits[2 * mark + 1] as number);
    }
    this.#bits[2 * slot] = (this.#bits[2 * slot] as number) & ~low;
    this.#bits[2 * slot + 1] = (this.#bits[2 * slot + 1] as number) & ~high;
  }

  #growSlots(): void {
    const { capacity } = this.#slots;
    const bits = new Int32Array(2 * capacity);
    bits.set(this.#bits);
    this.#bits = bits;
    this.#bitsOfWords = new Uint8Array(bits.buffer);
    const newest = new Int32Array(capacity);
    newest.set(this.#newest);
    this.#newest = newest;
  }

  #growMarks(): void {
    const count = this.#markSlot.length;
    const bits = new Int32Array(4 * count);
    const slots = new Int32Array(2 * count);
    const next = new Int32Array(2 * count);
    for (let i = 0; i < count; i += 1) {
      const number = (this.#first + i) | 0;
      const from = number & (count - 1);
      const to = number & (2 * count - 1);
      bits[2 * to] = this.#markBits[2 * from] as number;
      bits[2 * to + 1] = this.#markBits[2 * from + 1] as number;
      slots[to] = this.#markSlot[from] as number;
      next[to] = this.#markNext[from] as number;
    }
    this.#markBits = bits;
    this.#markSlot = slots;
    this.#markNext = next;
  }
}
