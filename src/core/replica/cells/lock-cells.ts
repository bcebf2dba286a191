/**
 * LockCells: locks that the processes of one node take and give back without the arbiter, in direct mode, and where they
 * are leased to the node (leases.ts).
 *
 *     CELL_ARBITER ──UNLOCK leaves it free──▶ CELL_FREE ──process: lock──▶ CELL_OWNED + rank
 *         ▲  ▲  │                               │      ◀──process: unlock──     │     ▲
 *         │  └──┼────── request for the lock ───┘                               │     │
 *         └─────┼─────── request for the lock: the owner's LOCK is decided first┘     │
 *               └──a short UNLOCK passes it on: the others that wait go to the cell───┘
 *
 * It is a thin lock (Bacon, Konuru, Murthy and Serrano, "Thin locks", PLDI 1998): one word for the case without
 * long waits, and the session's queue, which is strict and robust, for all others. Who finds the lock owned sleeps on the
 * word for CELL_SLEEP_MAX (libdsm's lock_cells.c), and then sends its request.
 *
 * Invariants:
 * - A process changes a cell only by compare-and-swap: from free to its own mark, from its own mark to free, and flags of
 *   a lock that another has. The arbiter takes a cell by an exchange, so it learns of each owner.
 * - All that sleep on a cell are woken when the arbiter takes it. They then send their requests.
 * - In direct mode, while a cell is not CELL_ARBITER, the session has no owner, no waiter and no mark of a dead owner for
 *   its lock. So the arbiter takes the cell of a lock before the session decides on a request for it.
 * - There, before a process leaves or is lost, and before direct mode ends, the arbiter has taken all cells: the session
 *   knows all owners. After a loss no cell becomes free any more: a process that counts as lost may still be running.
 */

import { CELL_ARBITER, CELL_FREE, CELL_OWNED, CELL_STATE, LOCK_CELLS_AT } from "../../wire/cell-layout.ts";
import { NamedCells } from "./named-cells.ts";

export class LockCells {
  readonly #cells: NamedCells;
  readonly #wake: (at: number) => void;

  /**
   * `memory`: CELLS_SIZE bytes, zeroed, that the processes of the node share. `wake` wakes all threads that sleep on the
   * word at a byte of it.
   */
  constructor(memory: Uint8Array, wake: (at: number) => void) {
    this.#cells = new NamedCells(memory, LOCK_CELLS_AT);
    this.#wake = wake;
  }

  /** Takes the cell of the lock, if it has one. Returns the rank of the process that has the lock by it; -1: none has. */
  take(name: string): number {
    const place = this.#cells.find(name);
    return place < 0 ? -1 : this.#exchange(place);
  }

  /** Takes all cells. Returns who has locks by them. */
  takeAll(): { name: string; rank: number }[] {
    return this.#cells
      .all()
      .map(({ name, place }) => ({ name, rank: this.#exchange(place) }))
      .filter(({ rank }) => rank >= 0);
  }

  /** The rank of the process that has the lock by its cell, which stays as it is; -1: none has. */
  ownerOf(name: string): number {
    const place = this.#cells.find(name);
    return place < 0 ? -1 : ownerIn(Atomics.load(this.#cells.words, place));
  }

  #exchange(place: number): number {
    const word = Atomics.exchange(this.#cells.words, place, CELL_ARBITER);
    if (word !== CELL_ARBITER) this.#wake(place * 4);
    return ownerIn(word);
  }

  /** Gives the lock to the processes: no process has it or waits for it. */
  free(name: string): void {
    const place = this.#cells.find(name);
    if (place >= 0) Atomics.store(this.#cells.words, place, CELL_FREE);
  }

  /** Gives the lock to the processes: that one has it. */
  own(name: string, rank: number): void {
    const place = this.#cells.find(name);
    if (place >= 0) Atomics.store(this.#cells.words, place, CELL_OWNED + rank);
  }

  /** Names of the objects that lie in that part of the map and have a cell. */
  within(from: number, to: number): string[] {
    return this.#cells.within(from, to);
  }

  /** Gives the lock a cell, if there is one left. Returns 1 plus its number, by which a process finds it; or 0. */
  assign(name: string): number {
    return this.#cells.assign(name);
  }
}

/** The owner that the word of a lock names, or -1. */
function ownerIn(word: number): number {
  const state = word & CELL_STATE;
  return state >= CELL_OWNED ? state - CELL_OWNED : -1;
}
