/** What a process does with the barrier's cell (native/src/session/barrier_cell.c), one atomic instruction at a time. */
import {
  BARRIER_CELL_AT,
  BARRIER_COUNT_BITS,
  BARRIER_GIVEN,
  BARRIER_MARKS_AT,
  BARRIER_SLEEPERS,
} from "../../src/core/wire/cell-layout.ts";

/** The 64 bits of the cell, by what they mean. */
export interface BarrierWord {
  given: boolean;
  phase: number;
  arrived: number;
  members: number;
  sleepers: boolean;
}

/** What has become of the phase in which a process arrived. */
export type Phase = "goes on" | "is over" | "is taken";

const COUNT = 2 ** BARRIER_COUNT_BITS;

/** The cell in the memory that the processes of a node share. Nothing comes between here: what follows a read is one step. */
export class ProcessBarrier {
  readonly #view: DataView;

  constructor(cells: Uint8Array) {
    this.#view = new DataView(cells.buffer, cells.byteOffset);
  }

  get word(): BarrierWord {
    const low = this.#view.getUint32(BARRIER_CELL_AT, true);
    const high = this.#view.getUint32(BARRIER_CELL_AT + 4, true);
    return {
      ...{ given: low % 2 === BARRIER_GIVEN, phase: low >>> 1 },
      ...{ arrived: high % COUNT, members: Math.floor(high / COUNT) % COUNT, sleepers: high >= BARRIER_SLEEPERS },
    };
  }

  #set({ given, phase, arrived, members, sleepers }: BarrierWord): void {
    this.#view.setUint32(BARRIER_CELL_AT, 2 * phase + (given ? BARRIER_GIVEN : 0), true);
    this.#view.setUint32(BARRIER_CELL_AT + 4, arrived + members * COUNT + (sleepers ? BARRIER_SLEEPERS : 0), true);
  }

  /** Returns the word as it was before; not given: the process has not arrived. */
  arrive(): BarrierWord {
    const { word } = this;
    if (!word.given) return word;
    if (word.arrived + 1 < word.members) this.#set({ ...word, arrived: word.arrived + 1 });
    else this.#set({ ...word, phase: (word.phase + 1) % 2 ** 31, arrived: 0, sleepers: false });
    return word;
  }

  look(arrivedIn: number): Phase {
    const { phase, given } = this.word;
    if (phase === arrivedIn) return given ? "goes on" : "is taken";
    // Processes count on by one, the arbiter by two.
    return (phase - arrivedIn) % 2 !== 0 ? "is over" : "is taken";
  }

  /** Before it sleeps. */
  announce(arrivedIn: number, rank: number): void {
    this.#view.setUint16(BARRIER_MARKS_AT + 2 * rank, (2 * arrivedIn + BARRIER_GIVEN) % 2 ** 16, true);
    this.#set({ ...this.word, sleepers: true });
  }

  /** Takes the arrival back. */
  withdraw(arrivedIn: number): Phase {
    const phase = this.look(arrivedIn);
    if (phase !== "goes on") return phase;
    const { word } = this;
    this.#set({ ...word, arrived: word.arrived - 1 });
    return "is taken";
  }

  /** It has left the barrier. */
  unmark(rank: number): void {
    this.#view.setUint16(BARRIER_MARKS_AT + 2 * rank, 0, true);
  }
}
