/**
 * Terminates the processes of a `dsm run`, on all hosts: the first process that fails decides the exit code and, unless
 * the run goes on without it, the others are terminated; signals go to all of them; a process that does not end in time
 * is killed.
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
  /** Sends the signal to all processes; may return a promise that resolves when they have it. */
  send(signal: NodeJS.Signals): unknown;
  /** How long processes may take after a second interrupt; 0: they are killed at once, without that interrupt. */
  interruptedMs: number;
  /**
   * Resolves when all processes that are ending now, or have ended, have been reported to `ended`; undefined: they
   * have. A process starts to end before its end can be observed, so the cause of a later failure is found here.
   */
  underway(): Promise<unknown> | undefined;
  /** Whether the others go on when a process fails; left out: never. */
  goesOn?(): boolean;
  /** Whether processes may have been started; left out: from the beginning. */
  begun?(): boolean;
  /** Ends the run before a process was started. */
  abandon?(): void;
  /** Called when SIGKILL has been sent to all processes. */
  killed?(): void;
}

/** ProcessTerminator: decides the exit code of a run and ends its processes. It never starts one. */
export class ProcessTerminator {
  /** Exit code of the first process that failed; 0: none did. */
  failure = 0;
  readonly #control: ProcessControl;
  readonly #passed = new Set<string>();
  #isEnding = false;
  /** A process has failed, possibly because another one ended; its exit code waits for the cause. */
  #judging = false;
  #interrupts = 0;
  #kill: ReturnType<typeof setTimeout> | undefined;
  #killDue = Number.POSITIVE_INFINITY;

  constructor(control: ProcessControl) {
    this.#control = control;
  }

  /** Whether all processes are being ended because of a failure. */
  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** Ends all processes. The first failure decides the exit code. */
  fail(code: number): void {
    this.failure ||= code;
    if (this.#isEnding) return;
    this.#isEnding = true;
    if (this.#begun) this.end();
    else this.#control.abandon?.();
  }

  /**
   * Handles the loss of processes of which no exit code is known. `what` says what was lost, `code` stands for their
   * exit codes.
   */
  lost(what: string, code: number): void {
    if (this.#isEnding) return;
    if (this.#continuesAfter(code)) messages.error(`${what}${GOES_ON}`);
    else {
      messages.error(what);
      this.fail(code);
    }
  }

  /**
   * Handles the end of a process. `who` names it, `why` is what is known of the cause, if anything. A process that was
   * killed, or that ended as a signal of this run asks for, gives the exit code before one that failed by itself at that
   * time: dsm reports a lost process to the others, which then fail. Resolves when the exit code is known.
   */
  async ended(
    who: string,
    code: number | null,
    signal: NodeJS.Signals | number | null,
    why: string | null = null,
  ): Promise<void> {
    if (signal !== null) {
      // As a shell does. A signal that was sent by this run needs no message.
      const isOurs = this.#isEnding || this.#killDue < Number.POSITIVE_INFINITY || this.#passed.has(String(signal));
      const exitCode = 128 + signalNumber(signal);
      if (isOurs) this.fail(exitCode);
      else this.lost(`${who} was ended by ${signal}${why === null ? "" : `; ${why}`}`, exitCode);
    }
    if (code === null || code === 0 || this.#isEnding) return;
    if (this.#isAskedFor(code)) {
      this.fail(code);
      return;
    }
    if (this.#judging) return;
    if (this.#continuesAfter(code)) {
      messages.error(`${who} ended with exit code ${code}${GOES_ON}`);
      return;
    }
    const underway = this.#control.underway();
    if (underway !== undefined) {
      this.#judging = true;
      await Promise.race([underway, Bun.sleep(CAUSE_TIMEOUT_MS)]);
    }
    // One that was asked to end has done so. Of several that fail the first is named: the others may fail because of it.
    if (!this.#isEnding && !this.#isAskedToEnd) messages.error(`${who} ended with exit code ${code}`);
    this.fail(code);
  }

  /** Asks all processes to end, and kills them after the time limit. */
  end(): void {
    this.#signal("SIGTERM");
    this.#killAfter(END_TIMEOUT_MS);
  }

  /** Cancels the SIGKILL that is due, if any. */
  stop(): void {
    clearTimeout(this.#kill);
  }

  /** Forwards signals of `dsm run` to all processes from now on: they do not belong to the terminal. */
  passSignals(): void {
    process.on("SIGINT", () => {
      this.#interrupts++;
      // A program may handle the first interrupt itself; a second one is meant to end it.
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

  /** Whether the run goes on after that failure, which then decides the exit code if it is the first. */
  #continuesAfter(code: number): boolean {
    if (this.#isAskedToEnd || this.#control.goesOn?.() !== true) return false;
    this.failure ||= code;
    return true;
  }

  get #begun(): boolean {
    return this.#control.begun?.() ?? true;
  }

  get #isAskedToEnd(): boolean {
    return ENDING_SIGNALS.some((signal) => this.#passed.has(signal));
  }

  /** Whether a process that has handled a signal of this run ends with that code, as a shell would say it. */
  #isAskedFor(code: number): boolean {
    return ENDING_SIGNALS.some((signal) => this.#passed.has(signal) && code === 128 + constants.signals[signal]);
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

const GOES_ON = "; the others go on";
const ENDING_SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
