/** Ends a run in which a rank waits to join with others that have ended. */
import { describeStuck, JoinTracker, type RankJoins } from "../../core/launch/join-tracker.ts";
import { messages } from "../terminal/messages.ts";
import type { ProcessTerminator } from "./termination.ts";

/** How long a rank must wait in vain: reports of ranks that have joined may be on their way. */
const CONFIRM_MS = 500;

export class StuckJoinWatch {
  readonly #tracker: JoinTracker;
  readonly #terminator: ProcessTerminator;
  #timer: Timer | undefined;

  constructor(processes: number, terminator: ProcessTerminator) {
    this.#tracker = new JoinTracker(processes);
    this.#terminator = terminator;
  }

  update(rank: number, joins: RankJoins): void {
    this.#tracker.update(rank, joins);
    this.#check();
  }

  /** The rank and all that it started have ended, or cannot be reached any more. */
  setGone(rank: number): void {
    this.#tracker.setGone(rank);
    this.#check();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #check(): void {
    if (this.#timer === undefined && this.#tracker.stuck() !== null) {
      this.#timer = setTimeout(() => this.#confirm(), CONFIRM_MS);
    }
  }

  #confirm(): void {
    this.#timer = undefined;
    const stuck = this.#tracker.stuck();
    if (stuck === null || this.#terminator.isEnding) return;
    messages.error(describeStuck(stuck));
    this.#terminator.fail(1);
  }
}
