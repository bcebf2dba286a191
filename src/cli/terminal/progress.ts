/** How far long work is: a bar on a terminal, now and then a line elsewhere. Work that is soon done shows nothing. */
import { SingleBar } from "cli-progress";
import { formatSize } from "../../core/base/size.ts";
import { messages } from "./messages.ts";

/** A bar for less would only flicker. */
const BAR_AFTER_MS = 400;
/** Lines stay, so there are few of them. */
const LINE_EVERY_MS = 5_000;
const BAR_SIZE_MAX = 30;

export interface Progress {
  /** So much is done. May be called as often as one likes. */
  at(done: number): void;
  /** The work has ended, well or not: the bar goes. */
  end(): void;
}

export interface ProgressOptions {
  /** Where the bar goes; stderr. */
  stream?: NodeJS.WriteStream;
  /** What takes a line where there is no terminal. */
  line?(text: string): void;
  /** How an amount is written; as bytes, if not given. */
  amount?(value: number): string;
  /** Milliseconds, from any beginning. */
  clock?(): number;
}

/** Begins. `what` is a few words, such as "saving heat.snap"; `total` is what at() comes to in the end. */
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
    // The work may not let timers run; and a terminal is to be as it was if the program is killed.
    ...{ synchronousUpdate: true, hideCursor: null, linewrap: null, gracefulExit: false },
  });
  bar.start(total, 0, { what, amount });
  return bar;
}
