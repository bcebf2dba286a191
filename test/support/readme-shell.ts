/** A shell that is given one command after the other, and what they print. */
import { readdirSync, readFileSync } from "node:fs";
import type { Child } from "./e2e-child.ts";

/** How long a command may take, or what it is to print may stay away, on a busy machine. */
const COMMAND_MS = 120_000;
/** How long what still runs may take to end when it is interrupted. */
const END_MS = 20_000;

export interface Ended {
  code: number;
  printed: string;
}

export class Shell {
  readonly #child: Child;
  /** What the shell prints after a command, with the command's number and its status: nothing else prints that. */
  readonly #mark = crypto.randomUUID();
  #count = 0;
  /** What the command under way has printed. */
  #printed = "";
  #changed = Promise.withResolvers<void>();
  #ended = false;

  /** Of a shell that reads its commands from its input. */
  constructor(child: Child) {
    this.#child = child;
    this.#write("exec 2>&1");
    void this.#read();
  }

  /** Runs a command to its end. */
  async run(command: string): Promise<Ended> {
    this.start(command);
    return this.end(command);
  }

  start(command: string): void {
    this.#printed = "";
    this.#count += 1;
    // The status of the last command is there for the next one, and none reads the commands as its input.
    this.#write(`{ ${command}\n} </dev/null; status=$?; echo "${this.#mark} ${this.#count} $status"; (exit $status)`);
  }

  /** Waits for the end of the command under way. */
  async end(command: string): Promise<Ended> {
    const mark = new RegExp(`${this.#mark} ${this.#count} (\\d+)\\n`);
    const found = await this.#until(command, (printed) => mark.exec(printed));
    return { code: Number(found[1]), printed: found.input.slice(0, found.index) };
  }

  /** Waits until the command under way has printed what is expected. What it prints after that is there for end(). */
  async untilPrinted(command: string, isExpected: (printed: string) => boolean): Promise<void> {
    const { length } = await this.#until(command, (printed) => (isExpected(printed) ? printed : null));
    this.#printed = this.#printed.slice(length);
  }

  /** What ^C does in a terminal. */
  interrupt(): void {
    this.#signal("SIGINT");
  }

  #signal(signal: NodeJS.Signals): void {
    for (const pid of childrenOf(this.#child.pid)) {
      try {
        process.kill(pid, signal);
      } catch (error) {
        if ((error as { code?: string }).code !== "ESRCH") throw error; // it has ended by itself
      }
    }
  }

  /** Ends what is running, and the shell. */
  async close(): Promise<void> {
    this.#signal("SIGINT");
    const patience = setTimeout(() => this.#signal("SIGKILL"), END_MS);
    this.#child.stdin.end();
    await this.#child.exited;
    clearTimeout(patience);
  }

  #write(line: string): void {
    this.#child.stdin.write(`${line}\n`);
    this.#child.stdin.flush();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.#child.stdout) {
      this.#printed += decoder.decode(chunk, { stream: true });
      this.#wake();
    }
    this.#ended = true;
    this.#wake();
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async #until<Found>(command: string, find: (printed: string) => Found | null): Promise<Found> {
    const late = Promise.withResolvers<"late">();
    const timer = setTimeout(() => late.resolve("late"), COMMAND_MS);
    try {
      for (;;) {
        const found = find(this.#printed);
        if (found !== null) return found;
        if (this.#ended) throw new Error(`the shell ended at "${command}", which printed:\n${this.#printed}`);
        if ((await Promise.race([this.#changed.promise, late.promise])) === "late") {
          throw new Error(`after ${COMMAND_MS / 1000} s "${command}" has only printed:\n${this.#printed}`);
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
        return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === parent;
      } catch {
        return false;
      }
    });
}
