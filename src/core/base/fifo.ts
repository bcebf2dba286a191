/** A queue whose oldest item is taken in constant time, of which any item may be looked at. */
export class Fifo<Item> {
  #items: Item[] = [];
  #first = 0;

  push(item: Item): void {
    this.#items.push(item);
  }

  /** The item that so many older ones are before. */
  at(index: number): Item | undefined {
    return this.#items[this.#first + index];
  }

  /** Takes the oldest. */
  shift(): Item | undefined {
    if (this.#first === this.#items.length) return undefined;
    const item = this.#items[this.#first];
    this.#first += 1;
    // What was taken is let go of in large pieces: for each item that costs as good as nothing.
    if (this.#first > 1024 && this.#first * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#first);
      this.#first = 0;
    }
    return item;
  }
}
