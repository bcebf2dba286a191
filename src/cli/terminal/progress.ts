/** Progress of long work: a bar on a terminal, a line every few seconds elsewhere. Short work shows nothing. */
import { SingleBar } from "cli-progress";
import { formatSize } from "../../core/base/size.ts";
import { messages } from "./messages.ts";

/** Work must last this long before it gets a bar: a shorter one would flicker. */
const BAR_AFTER_MS = 400;
/** Interval of lines. They stay on the screen, so there are few. */
const LINE_EVERY_MS = 5_000;
const BAR_SIZE_MAX = 30;

export interface Progress {
  /** Reports how much is done. It may be called at any rate. */
  at(done: number): void;
  /** Removes the bar. To be called when the work has ended, successfully or not. */
  end(): void;
}

export interface ProgressOptions {
  /** Stream of the bar. Default: stderr. */
  stream?: NodeJS.WriteStream;
  /** Receives a line if the stream is not a terminal. */
  line?(text: string): void;
  /** Formats an amount. Default: as bytes. */
  amount?(value: number): string;
  /** Returns monotonic milliseconds. */
  clock?(): number;
}

/** startProgress starts reporting. `what`: a few words, such as "saving heat.snap"; `total`: the last value of at(). */
export function startProgress(what: string, total: number, options: ProgressOptions = {}): Progress {
  const {
    stream = process.stderr,
    line = (text) => messages.info(text),
    amount = formatSize,
    clock = () => performance.now(),
  } = options;
  const onTerminal = stream.isTTY && process.env.TERM !== "dumb";
  const began = clock();
  let said = began;
  let bar: SingleBar | undefined;
  return {
    at(done) {
      const now = clock();
      if (onTerminal) {
        if (bar === undefined && now - began >= BAR_AFTER_MS) bar = shownBar(stream, what, total, amount(total));
        bar?.update(done);
      } else if (now - said >= LINE_EVERY_MS) {
        said = now;
        line(`${what}: ${total === 0 ? 100 : Math.floor((100 * done) / total)}% of ${amount(total)}`);
      }
    },
    end() {
      bar?.stop();
      bar = undefined;
    },
  };
}

function shownBar(stream: NodeJS.WriteStream, what: string, total: number, amount: string): SingleBar {
  const rest = `${what} [] 100% of ${amount}, 00m00s left`.length;
  const bar = new SingleBar({
    ...{ stream, format: "{what} [{bar}] {percentage}% of {amount}, {eta_formatted} left" },
    ...{ barCompleteChar: "=", barIncompleteChar: " ", clearOnComplete: true },
    barsize: Math.max(4, Math.min(BAR_SIZE_MAX, (stream.columns || 80) - rest - 1)),
    // The work may block timers, and the terminal must need no repair if the program is killed.
    ...{ synchronousUpdate: true, hideCursor: null, linewrap: null, gracefulExit: false },
  });
  bar.start(total, 0, { what, amount });
  return bar;
}
