/**
 * LineSlots: numbers from 0 on for the lines of the map in which stores are pending. Released numbers are reused, so
 * they stay below the most lines that were pending at once, and what belongs to a line can lie in arrays by slot.
 *
 * A hash table with linear probing. Invariant: no free place lies between the place that a line's hash gives and the
 * place where the line is; at most half of the places are taken.
 */

/** Slots at first; a power of 2, as all sizes here. */
const SLOTS_MIN = 64;
/** No slot. */
const NONE = 0xffffffff;

export class LineSlots {
  /** By place: slot + 1, or 0: free. */
  #table = new Int32Array(2 * SLOTS_MIN);
  /** The highest bits of a hash are the place. */
  #shift = 32 - Math.log2(2 * SLOTS_MIN);
  /** By slot: its line; for a released one, the slot released before it, or NONE. */
  #lineOf = new Uint32Array(SLOTS_MIN);
  #released = NONE;
  /** Slots ever used; all behind them are free. */
  #used = 0;
  #size = 0;
  /** The line looked up last, and its slot, or -1: successive stores are often in one line. */
  #lastLine = -1;
  #lastSlot = -1;

  /** Lines that have slots. */
  get size(): number {
    return this.#size;
  }

  /** All slots are below. Grows when take() needs it. */
  get capacity(): number {
    return this.#lineOf.length;
  }

  /** The line's slot, or -1: it has none. `line`: below 2^32. */
  find(line: number): number {
    if (line === this.#lastLine) return this.#lastSlot;
    const table = this.#table;
    const lineOf = this.#lineOf;
    let slot = -1;
    for (let place = this.#placeOf(line); ; place = (place + 1) & (table.length - 1)) {
      const there = (table[place] as number) - 1;
      if (there < 0) break;
      if (lineOf[there] === line) {
        slot = there;
        break;
      }
    }
    this.#lastLine = line;
    this.#lastSlot = slot;
    return slot;
  }

  #placeOf(line: number): number {
    // 2^32 divided by the golden ratio: neighbouring lines come far apart.
    return Math.imul(line, 0x9e3779b1) >>> this.#shift;
  }

  /** Takes a slot for a line that has none. */
  take(line: number): number {
    if (this.#size === this.#lineOf.length) this.#grow();
    let slot = this.#released;
    if (slot === NONE) {
      slot = this.#used;
      this.#used += 1;
    } else this.#released = this.#lineOf[slot] as number;
    this.#lineOf[slot] = line;
    this.#size += 1;
    this.#put(line, slot);
    this.#lastLine = line;
    this.#lastSlot = slot;
    return slot;
  }

  #put(line: number, slot: number): void {
    const table = this.#table;
    let place = this.#placeOf(line);
    while (table[place] !== 0) place = (place + 1) & (table.length - 1);
    table[place] = slot + 1;
  }

  #grow(): void {
    const lines = this.#lineOf;
    this.#lineOf = new Uint32Array(2 * lines.length);
    this.#lineOf.set(lines);
    this.#table = new Int32Array(4 * lines.length);
    this.#shift -= 1;
    for (let slot = 0; slot < lines.length; slot += 1) this.#put(lines[slot] as number, slot);
  }

  /** Releases the slot of a line. */
  release(slot: number): void {
    const table = this.#table;
    const last = table.length - 1;
    let hole = this.#placeOf(this.#lineOf[slot] as number);
    while (table[hole] !== slot + 1) hole = (hole + 1) & last;
    // Moves each line behind it that may be found there into the hole.
    for (let place = (hole + 1) & last; table[place] !== 0; place = (place + 1) & last) {
      const wanted = this.#placeOf(this.#lineOf[(table[place] as number) - 1] as number);
      if (((place - wanted) & last) < ((place - hole) & last)) continue;
      table[hole] = table[place] as number;
      hole = place;
    }
    table[hole] = 0;
    this.#lineOf[slot] = this.#released;
    this.#released = slot;
    this.#size -= 1;
    if (slot === this.#lastSlot) this.#lastLine = -1;
  }

  /** The lines from `first` on before `end` that have slots, ascending. */
  between(first: number, end: number): number[] {
    const lines: number[] = [];
    if (end - first <= this.#table.length) {
      for (let line = first; line < end && lines.length < this.#size; line += 1) {
        if (this.find(line) >= 0) lines.push(line);
      }
      return lines;
    }
    for (const entry of this.#table) {
      const line = this.#lineOf[entry - 1] as number;
      if (entry > 0 && line >= first && line < end) lines.push(line);
    }
    return lines.sort((a, b) => a - b);
  }
}
