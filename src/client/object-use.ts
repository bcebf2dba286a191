/**
 * ObjectUse: what one thread asks for, or has, of objects in the map, by their offsets. libdsm knows which thread has a mutex
 * or writes; a thread also has promises under way, and one that blocked meanwhile would wait for itself.
 */
export class ObjectUse {
  /** Mutexes, and reader-writer locks for writing, that a promise of this thread waits for. */
  readonly asked = new Set<number>();
  /** Mutexes that waits for condition variables will lock again. */
  readonly conditions = new Counts();
  /** Reader-writer locks that this thread has for reading, and how often. */
  readonly reads = new Counts();
  /** Mutexes and reader-writer locks that a thread which may leave alone has named: it unlocks there what it has. */
  readonly mutexes = new Set<number>();
  readonly rwlocks = new Set<number>();
}

class Counts {
  readonly #counts = new Map<number, number>();

  /** Each offset as often as it was added and not removed. */
  get all(): number[] {
    return [...this.#counts].flatMap(([offset, count]) => Array<number>(count).fill(offset));
  }

  of(offset: number): number {
    return this.#counts.get(offset) ?? 0;
  }

  add(offset: number): void {
    this.#counts.set(offset, this.of(offset) + 1);
  }

  remove(offset: number): void {
    const left = this.of(offset) - 1;
    if (left > 0) this.#counts.set(offset, left);
    else this.#counts.delete(offset);
  }
}
