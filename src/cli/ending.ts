/**
 * How the processes of a `dsm run` end, wherever they are: the first that fails ends the others and gives the exit code,
 * signals go to all of them, and who does not end in time is killed.
 */
import { constants } from "node:os";
import { messages } from "./messages.ts";
import { signalNumber } from "./process-group.ts";

/** How long the others may take to end after one has failed, before they are killed. */
export const END_TIMEOUT_MS = 2_000;
/** How long they may take after somebody asked `dsm run` itself to end. */
const ASKED_END_TIMEOUT_MS = 5_000;
/** How long a failure waits for the ends that may have caused it. */
const CAUSE_TIMEOUT_MS = 2_000;

export interface Reach {
  /** Sends it to all processes; may return a promise of their having it. */
  send(signal: NodeJS.Signals): unknown;
  /** How long they may take when somebody has interrupted twice; 0: they are not even interrupted again. */
  interruptedMs: number;
  /**
   * Resolves when all processes that are ending now, or have ended, have been reported to `ended`; undefined: they have.
   * A process begins to end before anybody can hear of it, so who failed because of another one's end finds that here.
   */
  underway(): Promise<unknown> | undefined;
  /** Whether there may be processes yet; without it there may be from the beginning. */
  begun?(): boolean;
  /** Takes the place of signals as long as there are none. */
  abandon?(): void;
  /** All were killed. */
  killed?(): void;
}

export class Ending {
  /** Exit code of the first that failed; 0: none did. */
  failure = 0;
  readonly #reach: Reach;
  readonly #passed = new Set<string>();
  /** One has failed that may have done so because of another one's end. */
  #judging = false;
  #interrupts = 0;
  #kill: ReturnType<typeof setTimeout> | undefined;
  #killDue = Number.POSITIVE_INFINITY;

  constructor(reach: Reach) {
    this.#reach = reach;
  }

  /** The first failure decides the exit code and ends the rest. */
  fail(code: number): void {
    if (this.failure !== 0) return;
    this.failure = code;
    if (this.#begun) this.end();
    else this.#reach.abandon?.();
  }

  /**
   * A process has ended; `who` is it in words, `why` what is known of the cause, if anything. One that was killed gives the exit code before one that failed on its own
   * meanwhile: a library that tells of a lost process makes its program fail. Resolves when that is known.
   */
  async ended(
    who: string,
    code: number | null,
    signal: NodeJS.Signals | number | null,
    why: string | null = null,
  ): Promise<void> {
    if (signal !== null) {
      // A shell would say as much. Those we have signalled ourselves need no words.
      const ours = this.failure !== 0 || this.#passed.has(String(signal)) || this.#killDue < Number.POSITIVE_INFINITY;
      if (!ours) messages.error(`${who} was ended by ${signal}${why === null ? "" : `; ${why}`}`);
      this.fail(128 + signalNumber(signal));
    }
    if (code === null || code === 0 || this.failure !== 0 || this.#judging) return;
    const underway = this.#reach.underway();
    if (underway !== undefined) {
      this.#judging = true;
      await Promise.race([underway, Bun.sleep(CAUSE_TIMEOUT_MS)]);
    }
    this.fail(code);
  }

  /** Asks all to end, and sees to it. */
  end(): void {
    this.#signal("SIGTERM");
    this.#killAfter(END_TIMEOUT_MS);
  }

  /** Nobody is killed any more. */
  stop(): void {
    clearTimeout(this.#kill);
  }

  /** From now on, what `dsm run` is told goes to all processes: they do not belong to the terminal. */
  passSignals(): void {
    process.on("SIGINT", () => {
      this.#interrupts++;
      // Programs may have their own use for one interrupt; whoever asks twice means it.
      const again = this.#interrupts > 1 && this.#begun;
      if (!again || this.#reach.interruptedMs > 0) this.#ask("SIGINT");
      if (again) this.#killAfter(this.#reach.interruptedMs);
    });
    for (const signal of ["SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => {
        this.#ask(signal);
        if (this.#begun) this.#killAfter(ASKED_END_TIMEOUT_MS);
      });
    }
    process.on("SIGTSTP", async () => {
      await this.#signal("SIGSTOP");
      process.kill(process.pid, "SIGSTOP");
    });
    for (const signal of ["SIGCONT", "SIGUSR1", "SIGUSR2", "SIGWINCH"] as const) {
      process.on(signal, () => void this.#signal(signal));
    }
  }

  get #begun(): boolean {
    return this.#reach.begun?.() ?? true;
  }

  #ask(signal: NodeJS.Signals): void {
    if (this.#begun) this.#signal(signal);
    else this.fail(128 + constants.signals[signal]);
  }

  #killAfter(milliseconds: number): void {
    const due = performance.now() + milliseconds;
    if (due >= this.#killDue) return;
    this.#killDue = due;
    clearTimeout(this.#kill);
    this.#kill = setTimeout(() => {
      this.#signal("SIGKILL");
      this.#reach.killed?.();
    }, milliseconds);
  }

  #signal(signal: NodeJS.Signals): unknown {
    this.#passed.add(signal);
    return this.#reach.send(signal);
  }
}
