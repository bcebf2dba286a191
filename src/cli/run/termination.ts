/**
 * Terminates the processes of a `dsm run`, on all hosts: the first process that fails decides the exit code and the
 * others are terminated; signals go to all of them; a process that does not end in time is killed.
 */
import { constants } from "node:os";
import { messages } from "../terminal/messages.ts";
import { signalNumber } from "./process-group.ts";

/** How long the others may take to end after one has failed, before they are killed. */
export const END_TIMEOUT_MS = 2_000;
/** How long they may take after `dsm run` itself was asked to end. */
const ASKED_END_TIMEOUT_MS = 5_000;
/** How long a failure waits for the ends that may have caused it. */
const CAUSE_TIMEOUT_MS = 2_000;

/** ProcessControl: how a ProcessTerminator acts on the processes of a run, wherever they are. */
export interface ProcessControl {
  /** Sends it to all processes; may return a promise of their having it. */
  send(signal: NodeJS.Signals): unknown;
  /** How long they may take after a second interrupt; 0: they are killed at once, without that interrupt. */
  interruptedMs: number;
  /**
   * Resolves when all processes that are ending now, or have ended, have been reported to `ended`; undefined: they
   * have. A process starts to end before its end can be observed, so the cause of a later failure is found here.
   */
  underway(): Promise<unknown> | undefined;
  /** Whether there may be processes yet; without it there may be from the beginning. */
  begun?(): boolean;
  /** Takes the place of signals as long as there are none. */
  abandon?(): void;
  /** All were killed. */
  killed?(): void;
}

/** ProcessTerminator: decides the exit code of a run and ends its processes. It never starts one. */
export class ProcessTerminator {
  /** Exit code of the first that failed; 0: none did. */
  failure = 0;
  readonly #control: ProcessControl;
  readonly #passed = new Set<string>();
  /** One has failed that may have done so because of another one's end. */
  #judging = false;
  #interrupts = 0;
  #kill: ReturnType<typeof setTimeout> | undefined;
  #killDue = Number.POSITIVE_INFINITY;

  constructor(control: ProcessControl) {
    this.#control = control;
  }

  /** The first failure decides the exit code and ends the rest. */
  fail(code: number): void {
    if (this.failure !== 0) return;
    this.failure = code;
    if (this.#begun) this.end();
    else this.#control.abandon?.();
  }

  /**
   * A process has ended; `who` names it, `why` is what is known of the cause, if anything. One that was killed gives
   * the exit code before one that failed on its own meanwhile: a library that tells of a lost process makes its program
   * fail. Resolves when the exit code is known.
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
    const underway = this.#control.underway();
    if (underway !== undefined) {
      this.#judging = true;
      await Promise.race([underway, Bun.sleep(CAUSE_TIMEOUT_MS)]);
    }
    this.fail(code);
  }

  /** Asks all processes to end, and kills them after the time limit. */
  end(): void {
    this.#signal("SIGTERM");
    this.#killAfter(END_TIMEOUT_MS);
  }

  /** Kills no process any more. */
  stop(): void {
    clearTimeout(this.#kill);
  }

  /** Forwards signals of `dsm run` to all processes from now on: they do not belong to the terminal. */
  passSignals(): void {
    process.on("SIGINT", () => {
      this.#interrupts++;
      // Programs may have their own use for one interrupt; a second one is meant for all of them.
      const again = this.#interrupts > 1 && this.#begun;
      if (!again || this.#control.interruptedMs > 0) this.#ask("SIGINT");
      if (again) this.#killAfter(this.#control.interruptedMs);
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
    return this.#control.begun?.() ?? true;
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
      this.#control.killed?.();
    }, milliseconds);
  }

  #signal(signal: NodeJS.Signals): unknown {
    this.#passed.add(signal);
    return this.#control.send(signal);
  }
}
