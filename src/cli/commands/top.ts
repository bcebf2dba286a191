import { writeSync } from "node:fs";
import { constants } from "node:os";
import { DsmError } from "../../core/base/errors.ts";
import type { DaemonApi, SessionDetail, SessionSummary } from "../../core/messages/daemon-api.ts";
import { command } from "../command.ts";
import { daemonClient } from "../daemon-client.ts";
import { daemonOption, invalid, jsonOption, readDaemon, readName, UsageError } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { isColoured } from "../terminal/style.ts";
import { type Line, type Look, newModel, press, rated, readKeys, type TopModel, view } from "../terminal/top-view.ts";

/** Sessions of which more is asked than that they are there. */
const DETAILED_MAX = 64;
const WRITE_TRIES = 200;
const INTERVAL_MIN_MS = 100;
const INTERVAL_MAX_MS = 60_000;

export default command({
  meta: { name: "top", description: "Show the running sessions live: who writes how much, who waits for what" },
  args: {
    name: { type: "positional", required: false, description: "Session to show in full", valueHint: "SESSION" },
    interval: { type: "string", description: "Seconds between two looks", valueHint: "SECONDS", default: "1" },
    once: { type: "boolean", description: "Look twice, print once and end: for scripts, and without a terminal" },
    ...jsonOption,
    ...daemonOption,
  },
  manual: {
    details: [
      "Keys: up, down, j and k choose, Enter shows the chosen session in full, Esc goes back, s sorts by the next column, ? helps, q quits. In direct mode stores do not leave the processes, and are not counted.",
    ],
    examples: [
      { does: "All sessions, live", line: "dsm top" },
      { does: "One of them, twice a second", line: "dsm top heat --interval 0.5" },
      { does: "For a script", line: "dsm top heat --json" },
    ],
    exits: { "130": "It was left with ^C." },
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const interval_ms = readInterval(args.interval);
    const open = args.name === undefined ? null : readName("session", args.name);
    const once = args.once === true || args.json === true;
    if (!once && !(process.stdout.isTTY && process.stdin.isTTY)) {
      throw new UsageError("top needs a terminal; give --once or --json where there is none");
    }
    const directory = daemonClient({ address, autostart: false });
    const sampler = new Sampler(directory, once ? open : null);
    let model = newModel(address, open);
    model = { ...model, sessions: await sampler.look(open) };
    if (open !== null && !model.sessions.some(({ name }) => name === open)) {
      throw new DsmError("DSM_REFUSED", `there is no session "${open}" at ${address}; see "dsm sessions"`);
    }
    if (!once) return new Screen(model, sampler, interval_ms).done;
    await Bun.sleep(interval_ms);
    model = { ...model, sessions: await sampler.look() };
    if (args.json) await printJson({ address, sessions: model.sessions });
    else
      await print(
        view(model, process.stdout.columns || 80, Number.POSITIVE_INFINITY)
          .slice(0, -1)
          .map(({ text }) => text)
          .join("\n"),
      );
    return 0;
  },
});

function readInterval(text: string): number {
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Number.NaN;
  if (ms >= INTERVAL_MIN_MS && ms <= INTERVAL_MAX_MS) return ms;
  throw invalid(
    `interval "${text}" is not possible; use ${INTERVAL_MIN_MS / 1000} to ${INTERVAL_MAX_MS / 1000} seconds`,
  );
}

/** Asks the daemon again and again. */
class Sampler {
  readonly #directory: DaemonApi;
  readonly #only: string | null;
  #before = new Map<string, SessionDetail>();

  /** `only`: the one session that is wanted; null: all. */
  constructor(directory: DaemonApi, only: string | null) {
    this.#directory = directory;
    this.#only = only;
  }

  /** How the sessions are now. Throws as the directory does. `also`: this one in full, if there are very many. */
  async look(also: string | null = null): Promise<TopModel["sessions"]> {
    const all: (SessionSummary | SessionDetail)[] =
      this.#only === null
        ? await this.#directory.list()
        : [await this.#directory.get(this.#only)].filter((session) => session !== null);
    const wanted = all.filter(({ name }, index) => index < DETAILED_MAX || name === also);
    const details = await Promise.all(
      wanted.map((session) => ("ranks" in session ? session : this.#directory.get(session.name))),
    );
    const now = new Map(details.flatMap((detail) => (detail === null ? [] : [[detail.name, detail] as const])));
    const sessions = all.map((session) => {
      const detail = now.get(session.name);
      return detail === undefined ? session : rated(this.#before.get(session.name), detail);
    });
    this.#before = now;
    return sessions;
  }
}

const ESCAPE = "\x1b[";
const LOOKS: Record<Look, string> = {
  ...{ plain: "", title: "1", head: "1;4", chosen: "7", waiting: "33", bad: "31", dim: "2" },
};

/**
 * The terminal. Invariant: however the command ends, but by SIGKILL, the terminal is as it was before; what it shows is
 * the model's, and nothing else writes there.
 */
class Screen {
  /** Settles with the exit code. */
  readonly done: Promise<number>;
  #end: (code: number) => void = () => {};
  #model: TopModel;
  readonly #sampler: Sampler;
  readonly #interval_ms: number;
  #timer: Timer | undefined;
  /** Whether the terminal is ours. */
  #shown = false;
  #over = false;
  /** A terminal that knows no escape sequences gets one picture behind the other. */
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
      // As the terminal would have done: stopped, until the shell lets it go on.
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

  /** At once, and whole: the last of it is written while the process ends. A terminal that is held (^S) misses some. */
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
