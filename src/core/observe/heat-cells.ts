/** HeatCells: where the map was written, by cells: the last writer of each and the number of writes. */
import { heatCellSize } from "../messages/activity-state.ts";
import type { Heat } from "../messages/daemon-api.ts";
import { HEADER_SIZE } from "../wire/at.ts";
import { runLength, runSize } from "../wire/runs.ts";

export class HeatCells {
  /** A cell has 1 << shift bytes. */
  readonly #shift: number;
  /** By cell: rank, -1: none. */
  readonly #writers: Int16Array;
  readonly #writes: Float64Array;
  #isEmpty = true;

  constructor(mapSize: number) {
    const cell = heatCellSize(mapSize);
    this.#shift = Math.log2(cell);
    const cells = Math.ceil(mapSize / cell);
    this.#writers = new Int16Array(cells).fill(-1);
    this.#writes = new Float64Array(cells);
  }

  /** Whether nothing was written. */
  get isEmpty(): boolean {
    return this.#isEmpty;
  }

  /** Counts a write of `length` bytes. */
  touch(rank: number, offset: number, length: number): void {
    const first = offset >>> this.#shift;
    this.#countCells(rank, first, (offset + length - 1) >>> this.#shift);
  }

  /** Counts the runs of the publication at `at`; consecutive runs in one cell are one write of it. */
  touchRuns(rank: number, view: DataView, at: number): void {
    const end = at + view.getUint32(at, true);
    let done = -1;
    for (let run = at + HEADER_SIZE; run < end; run += runSize(view, run)) {
      // A map has at most 2^32 bytes.
      const offset = view.getUint32(run, true);
      const first = offset >>> this.#shift;
      const last = (offset + runLength(view, run) - 1) >>> this.#shift;
      this.#countCells(rank, first === done ? first + 1 : first, last);
      done = last;
    }
  }

  #countCells(rank: number, first: number, last: number): void {
    this.#isEmpty = false;
    for (let cell = first; cell <= last; cell += 1) {
      this.#writers[cell] = rank;
      this.#writes[cell] = (this.#writes[cell] as number) + 1;
    }
  }

  report(): Heat {
    return { cell: 2 ** this.#shift, writers: [...this.#writers], writes: [...this.#writes] };
  }

  /** Continues from a report about the same map. */
  load({ writers, writes }: Heat): void {
    this.#writers.set(writers);
    this.#writes.set(writes);
    this.#isEmpty = false;
  }
}
