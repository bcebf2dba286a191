/** Fifo: a queue that removes its oldest item in constant time and gives access to every item by index. */
export class Fifo<Item> {
  #items: Item[] = [];
  #first = 0;

  push(item: Item): void {
    this.#items.push(item);
  }

  /** The item with `index` older items before it. */
  at(index: number): Item | undefined {
    return this.#items[this.#first + index];
  }

  /** Removes the oldest item. */
  shift(): Item | undefined {
    if (this.#first === this.#items.length) return undefined;
    const item = this.#items[this.#first];
    this.#first += 1;
    // Removed items are released in large batches: the cost for each item is negligible.
    if (this.#first > 1024 && this.#first * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#first);
      this.#first = 0;
    }
    return item;
  }
}
