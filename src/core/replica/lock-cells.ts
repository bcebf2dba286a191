/**
 * LockCells: locks that the processes of one node take and give back without the arbiter, in direct mode.
 *
 *     CELL_ARBITER ──UNLOCK leaves it free──▶ CELL_FREE ──process: lock──▶ CELL_OWNED + rank
 *         ▲  ▲                                 │      ◀──process: unlock──      │
 *         │  └──────── request for the lock ───┘                                │
 *         └──────────── request for the lock: the owner's LOCK is decided first ┘
 *
 * It is a thin lock (Bacon, Konuru, Murthy and Serrano, "Thin locks", PLDI 1998): one word for the case without
 * waiters, and the session's queue, which is strict and robust, for all others.
 *
 * Invariants:
 * - A process changes a cell only by compare-and-swap, from CELL_FREE to its own mark and back. The arbiter takes a cell
 *   by an exchange, so it learns of each owner.
 * - While a cell is not CELL_ARBITER, the session has no owner, no waiter and no mark of a dead owner for its lock.
 *   So the arbiter takes the cell of a lock before the session decides on a request for it.
 * - Before a process leaves or is lost, and before direct mode ends, the arbiter has taken all cells: the session knows
 *   all owners. After a loss no cell becomes free any more: a process that counts as lost may still be running.
 */

import {
  CELL_ARBITER,
  CELL_FREE,
  CELL_OWNED,
  LOCK_CELL_SIZE,
  LOCK_CELLS_MAX,
  LOCK_CELLS_SIZE,
} from "../wire/cell-layout.ts";

const WORDS = LOCK_CELL_SIZE / 4;
const CACHE_LINE_CELLS = 64 / LOCK_CELL_SIZE;
const LINES = LOCK_CELLS_MAX / CACHE_LINE_CELLS;

/** The cell of the n-th lock: one in each cache line first. */
const cellOf = (n: number): number => (n % LINES) * CACHE_LINE_CELLS + Math.floor(n / LINES);

export class LockCells {
  readonly #words: Int32Array;
  readonly #byName = new Map<string, number>();
  #tag = -1;
  #value = 0;

  /** `memory`: LOCK_CELLS_SIZE bytes, zeroed, that the processes of the node share. */
  constructor(memory: Uint8Array) {
    if (memory.length < LOCK_CELLS_SIZE) throw new RangeError("lock cells: memory");
    this.#words = new Int32Array(memory.buffer, memory.byteOffset, LOCK_CELLS_SIZE / 4);
  }

  /** Takes the cell of the lock, if it has one. Returns the rank of the process that has the lock by it; -1: none has. */
  take(name: string): number {
    const cell = this.#byName.get(name);
    return cell === undefined ? -1 : this.#exchange(cell);
  }

  /** Takes all cells. Returns who has locks by them. */
  takeAll(): { name: string; rank: number }[] {
    return [...this.#byName]
      .map(([name, cell]) => ({ name, rank: this.#exchange(cell) }))
      .filter(({ rank }) => rank >= 0);
  }

  #exchange(cell: number): number {
    const word = Atomics.exchange(this.#words, cell * WORDS, CELL_ARBITER);
    return word >= CELL_OWNED ? word - CELL_OWNED : -1;
  }

  /** Gives the lock to the processes: no process has it or waits for it. */
  free(name: string): void {
    const cell = this.#byName.get(name);
    if (cell !== undefined) Atomics.store(this.#words, cell * WORDS, CELL_FREE);
  }

  /** Notes that the request `tag` for the lock is being decided; the lock gets a cell, if there is one left. */
  begin(tag: number, name: string): void {
    let cell = this.#byName.get(name);
    if (cell === undefined && this.#byName.size < LOCK_CELLS_MAX) {
      cell = cellOf(this.#byName.size);
      this.#byName.set(name, cell);
    }
    this.#tag = tag;
    this.#value = cell === undefined ? 0 : cell + 1;
  }

  /** The value of the answer to `tag`: 1 plus the cell of the lock, by which the process finds it from now on; or 0. */
  valueFor(tag: number): number {
    return tag === this.#tag ? this.#value : 0;
  }

  /** The request that begin() has noted is decided. */
  end(): void {
    this.#tag = -1;
  }
}
