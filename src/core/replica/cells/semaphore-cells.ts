/**
 * SemaphoreCells: semaphores that the processes of one node wait for and post without the arbiter, in direct mode.
 *
 *     CELL_ARBITER ---- a request is decided, no process waits for it ----> given: GIVEN | SLEEPERS? | value
 *          ^                                                                  |  ^   |
 *          '---- a request for it: the session gets the value first ---------'  '---' process: wait, post
 *
 * A process waits by compare-and-swap to the value below, if it is above 0. Else it sets SLEEPERS and sleeps on the word,
 * for a short time; then it asks the arbiter. A process posts by compare-and-swap to the value above, without SLEEPERS, and
 * wakes one that sleeps if SLEEPERS was set. One that has slept leaves SLEEPERS set when it takes the last 1, because others
 * may sleep; if it leaves more than that, it wakes the next instead.
 *
 * Invariants:
 * - While a cell is given, its word has the value of the semaphore, and the session has no waiter for it. What the
 *   session has is a value of an earlier moment. So the arbiter takes the cell before the session decides on a request for
 *   it, and makes the session's value that of the word (SEM_VALUE).
 * - While a thread sleeps on a word that is given, SLEEPERS is set, or another thread is about to look at the word: it was
 *   woken, or is going to wake one. Such a thread may die with its process, or leave, and SLEEPERS may not be set then: so
 *   the arbiter wakes all that sleep whenever it takes a cell, and takes all cells when a process goes.
 * - After a loss no cell is given any more: a process that counts as lost may still be running.
 */

import {
  CELL_ARBITER,
  SEMAPHORE_CELL_GIVEN,
  SEMAPHORE_CELL_STEP,
  SEMAPHORE_CELL_VALUE_MAX,
  SEMAPHORE_CELLS_AT,
} from "../../wire/cell-layout.ts";
import type { ReplicaOutput } from "../replica-output.ts";
import { NamedCells } from "./named-cells.ts";

/** A semaphore, and the value that processes have made of it by its cell. */
export interface CellValue {
  name: string;
  value: number;
}

const valueIn = (word: number): number => (word === CELL_ARBITER ? -1 : Math.floor(word / SEMAPHORE_CELL_STEP));

export class SemaphoreCells {
  readonly #cells: NamedCells;
  readonly #wakeCell: ReplicaOutput["wakeCell"];

  /** `memory`: CELLS_SIZE bytes, zeroed, that the processes of the node share. */
  constructor(memory: Uint8Array, wakeCell: ReplicaOutput["wakeCell"]) {
    this.#cells = new NamedCells(memory, SEMAPHORE_CELLS_AT);
    this.#wakeCell = wakeCell;
  }

  /** Takes the cell of the semaphore. Returns the value that it had by it; -1: the arbiter had it, or it has no cell. */
  take(name: string): number {
    const place = this.#cells.find(name);
    return place < 0 ? -1 : this.#exchange(place);
  }

  /** Takes all cells. Returns those that were given, with their values. */
  takeAll(): CellValue[] {
    return this.#given((place) => this.#exchange(place));
  }

  /** Those that are given, with their values at this moment. */
  values(): CellValue[] {
    return this.#given((place) => valueIn(Atomics.load(this.#cells.words, place)));
  }

  #given(valueAt: (place: number) => number): CellValue[] {
    return this.#cells
      .all()
      .map(({ name, place }) => ({ name, value: valueAt(place) }))
      .filter(({ value }) => value >= 0);
  }

  #exchange(place: number): number {
    const value = valueIn(Atomics.exchange(this.#cells.words, place, CELL_ARBITER));
    if (value >= 0) this.#wakeCell(place * Int32Array.BYTES_PER_ELEMENT);
    return value;
  }

  /** Gives the semaphore to the processes: it has that value, and no process waits for it. */
  give(name: string, value: number): void {
    const place = this.#cells.find(name);
    if (place < 0 || value > SEMAPHORE_CELL_VALUE_MAX) return;
    Atomics.store(this.#cells.words, place, SEMAPHORE_CELL_GIVEN + value * SEMAPHORE_CELL_STEP);
  }

  /** Names of the objects that lie in that part of the map and have a cell. */
  within(from: number, to: number): string[] {
    return this.#cells.within(from, to);
  }

  /** Gives the semaphore a cell, if there is one left. Returns 1 plus its number, by which a process finds it; or 0. */
  assign(name: string): number {
    return this.#cells.assign(name);
  }
}
