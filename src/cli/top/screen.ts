/** Screen: the terminal of `dsm top`. */
import { writeSync } from "node:fs";
import { constants } from "node:os";
import { DsmError } from "../../core/base/errors.ts";
import { isColoured } from "../terminal/style.ts";
import { readKeys } from "./keys.ts";
import type { Line, Look } from "./lines.ts";
import type { TopModel } from "./model.ts";
import type { Sampler } from "./sampler.ts";
import { press, view } from "./view.ts";

const WRITE_TRIES = 200;
const ESCAPE = "\x1b[";
const LOOKS: Record<Look, string> = {
  ...{ plain: "", title: "1", head: "1;4", chosen: "7", waiting: "33", bad: "31", dim: "2" },
};

/**
 * Screen shows the model on the terminal and passes keys to it. Invariant: however the command ends, except by SIGKILL,
 * the terminal is restored; nothing else writes to it meanwhile.
 */
export class Screen {
  /** Resolves with the exit code. */
  readonly done: Promise<number>;
  #end: (code: number) => void = () => {};
  #model: TopModel;
  readonly #sampler: Sampler;
  readonly #interval_ms: number;
  #timer: Timer | undefined;
  /** Whether the terminal is in raw mode and shows the model. */
  #shown = false;
  #over = false;
  /** A terminal without escape sequences gets the pictures one below the other. */
  readonly #dumb = process.env.TERM === "dumb" || !process.env.TERM;
  readonly #colours = !this.#dumb && isColoured(process.stdout);
  readonly #onExit = (): void => this.#restore();

  constructor(model: TopModel, sampler: Sampler, interval_ms: number) {
    this.#model = model;
    this.#sampler = sampler;
    this.#interval_ms = interval_ms;
    this.done = new Promise((resolve) => {
      this.#end = resolve;
    });
    process.once("exit", this.#onExit);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.once(signal, () => this.#finish(128 + constants.signals[signal]));
    }
    process.on("SIGWINCH", () => this.#draw());
    process.on("SIGCONT", () => this.#take());
    process.stdin.on("data", (bytes: Buffer) => this.#keys(bytes.toString("utf8")));
    process.stdin.on("end", () => this.#finish(0));
    this.#take();
    this.#timer = setTimeout(() => void this.#look(), interval_ms);
  }

  #take(): void {
    this.#shown = true;
    process.stdin.setRawMode(true);
    process.stdin.resume();
    if (!this.#dumb) this.#write(`${ESCAPE}?1049h${ESCAPE}?25l`);
    this.#draw();
  }

  #restore(): void {
    if (!this.#shown) return;
    this.#shown = false;
    if (!this.#dumb) this.#write(`${ESCAPE}0m${ESCAPE}?25h${ESCAPE}?1049l`);
    try {
      process.stdin.setRawMode(false);
    } catch {
      // The terminal is gone.
    }
  }

  #finish(code: number): void {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#restore();
    process.stdin.pause();
    this.#end(code);
  }

  async #look(): Promise<void> {
    const { open } = this.#model;
    try {
      const sessions = await this.#sampler.look(open);
      this.#model = { ...this.#model, sessions, trouble: null };
    } catch (error) {
      if (!(error instanceof DsmError)) throw error;
      this.#model = { ...this.#model, sessions: [], trouble: error.message };
    }
    if (this.#over) return;
    this.#draw();
    this.#timer = setTimeout(() => void this.#look(), this.#interval_ms);
  }

  #keys(text: string): void {
    if (text.includes("\x1a")) {
      // ^Z stops the process, as the terminal does outside raw mode, until the shell continues it.
      this.#restore();
      process.kill(process.pid, "SIGSTOP");
      return;
    }
    for (const key of readKeys(text)) {
      if (key === "quit") {
        this.#finish(text.includes("\x03") ? 128 + constants.signals.SIGINT : 0);
        return;
      }
      this.#model = press(this.#model, key);
    }
    this.#draw();
  }

  #draw(): void {
    if (!this.#shown) return;
    const { columns = 80, rows = 24 } = process.stdout;
    const lines = view(this.#model, columns || 80, rows || 24);
    if (this.#dumb) this.#write(`${lines.map(({ text }) => text).join("\r\n")}\r\n\r\n`);
    else this.#write(`${ESCAPE}H${lines.map((line) => this.#paint(line)).join("\r\n")}${ESCAPE}J`);
  }

  #paint({ text, look }: Line): string {
    const code = this.#colours ? LOOKS[look] : "";
    return `${code === "" ? text : `${ESCAPE}${code}m${text}${ESCAPE}0m`}${ESCAPE}K`;
  }

  /**
   * Writes synchronously: the last picture is written while the process exits. A terminal that is stopped by ^S loses
   * some output.
   */
  #write(text: string): void {
    let rest = Buffer.from(text);
    for (let tries = 0; rest.length > 0 && tries < WRITE_TRIES; tries += 1) {
      try {
        rest = rest.subarray(writeSync(1, rest));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return;
        Bun.sleepSync(1);
      }
    }
  }
}
