/** NamedCells: which of the cells of one kind belongs to which name. A name keeps its cell until the session ends. */
import { PlaceIndex } from "../../base/place-index.ts";
import { CELLS_SIZE, NAMED_CELL_SIZE, NAMED_CELLS_MAX } from "../../wire/cell-layout.ts";

const CACHE_LINE_CELLS = 64 / NAMED_CELL_SIZE;
const LINES = NAMED_CELLS_MAX / CACHE_LINE_CELLS;

/** The cell of the n-th name: one in each cache line first. */
const cellOf = (n: number): number => (n % LINES) * CACHE_LINE_CELLS + Math.floor(n / LINES);

export class NamedCells {
  readonly words: Int32Array;
  readonly #from: number;
  readonly #byName = new Map<string, number>();
  readonly #places = new PlaceIndex();

  /** `memory`: CELLS_SIZE bytes that the processes of the node share; the cells of this kind begin at byte `from`. */
  constructor(memory: Uint8Array, from: number) {
    if (memory.length < CELLS_SIZE) throw new RangeError("cells: memory");
    this.words = new Int32Array(memory.buffer, memory.byteOffset, CELLS_SIZE / 4);
    this.#from = from;
  }

  /** Where in `words` the name's cell begins, or -1. */
  find(name: string): number {
    const cell = this.#byName.get(name);
    return cell === undefined ? -1 : this.#place(cell);
  }

  /** All names that have a cell, and where in `words` it begins. */
  all(): { name: string; place: number }[] {
    return [...this.#byName].map(([name, cell]) => ({ name, place: this.#place(cell) }));
  }

  /** Names of the objects that lie in that part of the map and have a cell. */
  within(from: number, to: number): string[] {
    return this.#places.within(from, to);
  }

  /** Gives the name a cell, if it has none and there is one left. Returns 1 plus the cell's number, or 0: it has none. */
  assign(name: string): number {
    let cell = this.#byName.get(name);
    if (cell === undefined && this.#byName.size < NAMED_CELLS_MAX) {
      cell = cellOf(this.#byName.size);
      this.#byName.set(name, cell);
      this.#places.add(name);
    }
    return cell === undefined ? 0 : cell + 1;
  }

  #place(cell: number): number {
    return (this.#from + cell * NAMED_CELL_SIZE) / 4;
  }
}
