/** LineSlots: numbers from 0 on for the lines of the map in which stores are pending. Freed numbers are reused. */
export class LineSlots {
  readonly #slotOf = new Map<number, number>();
  readonly #lineOf: number[] = [];
  readonly #free: number[] = [];
  /** The line found last, and its slot: successive stores are often in one line. */
  #lastLine = -1;
  #lastSlot = -1;

  /** Lines that have slots. */
  get size(): number {
    return this.#slotOf.size;
  }

  /** The line's slot, or -1: it has none. */
  find(line: number): number {
    if (line === this.#lastLine) return this.#lastSlot;
    const slot = this.#slotOf.get(line);
    if (slot === undefined) return -1;
    this.#lastLine = line;
    this.#lastSlot = slot;
    return slot;
  }

  /** Takes a slot for a line that has none. */
  take(line: number): number {
    const slot = this.#free.pop() ?? this.#lineOf.length;
    this.#slotOf.set(line, slot);
    this.#lineOf[slot] = line;
    this.#lastLine = line;
    this.#lastSlot = slot;
    return slot;
  }

  release(slot: number): void {
    this.#slotOf.delete(this.#lineOf[slot] as number);
    this.#free.push(slot);
    if (slot === this.#lastSlot) this.#lastLine = -1;
  }

  has(line: number): boolean {
    return this.#slotOf.has(line);
  }

  /** The lines that have slots, each with its slot. */
  entries(): IterableIterator<[line: number, slot: number]> {
    return this.#slotOf.entries();
  }
}
