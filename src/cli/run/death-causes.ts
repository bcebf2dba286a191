/** Why a process was ended by a signal that neither it nor `dsm run` has sent, as far as the machine's limits tell. */
import { describeRoom, killsForMemory, memoryRoom } from "../../transport/memory-room.ts";
import { shortage } from "../doctor/limits.ts";

export class DeathCauses {
  /** Processes that the kernel had killed for want of memory when the run began; null: it does not tell. */
  readonly #killsBefore = killsForMemory();

  /** The cause in words; null: nothing is known. */
  of(signal: NodeJS.Signals | number | null): string | null {
    if (signal === "SIGKILL") return this.#outOfMemory();
    // A runtime that cannot have its threads or addresses aborts.
    return signal === "SIGABRT" || signal === "SIGTRAP" || signal === "SIGILL" ? shortage() : null;
  }

  #outOfMemory(): string | null {
    const kills = killsForMemory();
    if (kills === null || this.#killsBefore === null || kills <= this.#killsBefore) return null;
    const room = memoryRoom();
    return room === null ? "memory ran out" : `memory ran out: ${describeRoom(room)}`;
  }
}
