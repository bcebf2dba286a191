/**
 * BarrierCell: the barrier, passed by the processes of one node without the arbiter, in direct mode.
 *
 *     taken ──the session's barrier opens──▶ given, phase p + 2 ──process: arrives──▶ one more has arrived
 *       ▲                                         ▲   ▲                                  │        │
 *       │                                         │   └──process: has waited too long────┘        │
 *       │                                         └──────the last one arrives: phase + 1──────────┘
 *       └──request for the barrier, JOIN, LEAVE: none has arrived, the phase stays, sleepers are woken
 *
 * Invariants:
 * - A process changes the cell by compare-and-swap of all 64 bits, and only while it is given. So from the moment when the
 *   arbiter clears BARRIER_GIVEN the cell is its own.
 * - Who has arrived in phase p waits until the processes have completed it, then it has passed; or until the cell is taken,
 *   then it sends a request; or it takes its arrival back, then it sends a request. So a request stands for an arrival
 *   that the cell does not count.
 * - A process completes a phase by adding 1 to its number, the arbiter adds 2 when it gives the cell. Only one thread of a
 *   process waits by the cell, so at most one phase is completed while it does: it has passed if the difference is odd.
 *   If it is even, the cell was taken, and the session's barrier has opened without this thread: another one of its
 *   process had a request in it.
 * - While the cell is given, no process is in the session's barrier, and the members are those who are present.
 *   The arbiter takes it before the session decides on a request for the barrier, a JOIN or a LEAVE.
 * - It is given only when the session's barrier has opened. All who are present had a request in it, which was answered
 *   just now. So none of them counts in the cell, or must.
 * - In direct mode this node decides all its operations itself, so no JOIN or LEAVE comes by the log while it is given.
 */

import { PROCESSES_MAX } from "../../base/limits.ts";
import {
  BARRIER_CELL_AT,
  BARRIER_COUNT_BITS,
  BARRIER_GIVEN,
  BARRIER_MARKS_AT,
  BARRIER_PHASE,
  CELLS_SIZE,
} from "../../wire/cell-layout.ts";

/** Places in `#words`. */
const LOW = BARRIER_CELL_AT / 4;
const HIGH = LOW + 1;

export class BarrierCell {
  readonly #words: Int32Array;
  readonly #marks: Uint16Array;
  readonly #wake: () => void;
  /** The low word up to whose phase passed barriers have been counted. */
  #counted = 0;

  /** `memory`: CELLS_SIZE bytes, zeroed, that the processes of the node share. `wake`: wakes all that sleep on the cell. */
  constructor(memory: Uint8Array, wake: () => void) {
    if (memory.length < CELLS_SIZE) throw new RangeError("cells: memory");
    this.#words = new Int32Array(memory.buffer, memory.byteOffset, CELLS_SIZE / 4);
    this.#marks = new Uint16Array(memory.buffer, memory.byteOffset + BARRIER_MARKS_AT, PROCESSES_MAX);
    this.#wake = wake;
  }

  /** Takes the cell. All who have arrived send a request. */
  take(): void {
    const low = Atomics.and(this.#words, LOW, ~BARRIER_GIVEN);
    if ((low & BARRIER_GIVEN) === 0) return;
    Atomics.store(this.#words, HIGH, 0);
    // Also where no process says that it sleeps: who had to wake others may have died before.
    this.#wake();
  }

  /** Gives the cell, which is taken, to so many processes: all who are present. */
  give(members: number): void {
    const low = Atomics.load(this.#words, LOW);
    Atomics.store(this.#words, HIGH, members << BARRIER_COUNT_BITS);
    this.#counted = (low + 2 * BARRIER_PHASE) | BARRIER_GIVEN;
    Atomics.store(this.#words, LOW, this.#counted);
  }

  /** How many barriers the processes have passed by the cell since the last call. Call it every minute at least. */
  countPassed(): number {
    const low = Atomics.load(this.#words, LOW);
    const passed = ((low >>> 1) - (this.#counted >>> 1)) & 0x7fffffff;
    this.#counted = low;
    return passed;
  }

  /** Whether a process of that rank has slept in the cell in this phase, and has not left the barrier. */
  isInside(rank: number): boolean {
    const low = Atomics.load(this.#words, LOW) | BARRIER_GIVEN;
    return (this.#marks[rank] as number) === (low & 0xffff);
  }
}
