import { closeSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { DsmError } from "../core/errors.ts";
import { TRACE_SECONDS_MAX } from "../core/limits.ts";
import { bodyText, Kind, ProtocolError } from "../core/protocol.ts";
import { formatSize } from "../core/size.ts";
import { ChromeTrace, readRecords, type TraceEvent, type TraceInfo } from "../core/trace.ts";
import { command } from "./command.ts";
import { createDirectory } from "./directory.ts";
import { messages, print, printJson } from "./messages.ts";
import { daemonOption, invalid, jsonOption, readDaemon, readName, UsageError } from "./options.ts";
import { openServerLink } from "./server-link.ts";
import { besideName } from "./temporary.ts";

const SECONDS_MIN = 0.1;
/** A server that sends nothing any more is not waited for. */
const LAST_TIMEOUT_MS = 5_000;
/** Text of events is written in pieces of about this many characters. */
const PIECE = 64 << 10;

export default command({
  meta: { name: "trace", description: "Write what happens in a running session for Perfetto: waits, traps, entries" },
  args: {
    name: { type: "positional", required: true, description: "Session to trace", valueHint: "SESSION" },
    out: { type: "string", description: "File to write; open it at ui.perfetto.dev", valueHint: "FILE" },
    seconds: { type: "string", description: "How long; ^C ends it sooner", valueHint: "S", default: "10" },
    ...daemonOption,
    ...jsonOption,
  },
  manual: {
    details: [
      "Each node is a process of the trace, each rank a thread: its waits are spans, every entry of it an instant with its place and size. What comes faster than the server can send it is dropped, and counted. One trace of a session at a time; nothing is slower while nobody traces.",
    ],
    examples: [
      { does: "Ten seconds of session heat", line: "dsm trace heat --out heat.json" },
      { does: "Half a second", line: "dsm trace heat --out heat.json --seconds 0.5" },
    ],
  },
  async run({ args }) {
    if (args.out === undefined) throw new UsageError("the file is missing; give --out FILE");
    const ms = readSeconds(args.seconds) * 1000;
    const { address } = readDaemon(args.daemon);
    const name = readName("session", args.name);
    const session = await createDirectory({ address, autostart: false }).get(name);
    if (!session) throw new DsmError("DSM_REFUSED", `there is no session "${name}" at ${address}; see "dsm sessions"`);
    if (session.direct)
      messages.warn("the session is in direct mode: its stores do not leave the processes, and are not seen");
    const file = new TraceFile(args.out);
    let done: Done;
    try {
      done = await trace(session, file, ms);
    } catch (error) {
      file.abandon();
      throw error;
    }
    const report = { session: name, file: args.out, ...done };
    if (args.json) await printJson(report);
    else {
      const lost = done.dropped > 0 ? `; ${done.dropped} more were dropped, they came too fast` : "";
      await print(`${done.events} events of ${done.seconds} s in ${args.out} (${formatSize(done.bytes)})${lost}`);
    }
    return 0;
  },
});

function readSeconds(text: string): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds >= SECONDS_MIN && seconds <= TRACE_SECONDS_MAX) return seconds;
  throw invalid(`"${text}" seconds are not possible; give ${SECONDS_MIN} to ${TRACE_SECONDS_MAX}`);
}

interface Done {
  events: number;
  /** Entries and waits that the server could not keep until they were sent. */
  dropped: number;
  seconds: number;
  bytes: number;
}

async function trace(
  session: { name: string; host: string; port: number },
  file: TraceFile,
  ms: number,
): Promise<Done> {
  let chrome: ChromeTrace | undefined;
  let info: TraceInfo | undefined;
  let dropped = 0;
  /** Called when the server has sent what had happened up to now. */
  let heard = (): void => {};
  const begun = Promise.withResolvers<void>();
  const link = openServerLink(session, Kind.TRACE, ({ kind, aux, body }) => {
    if (kind === Kind.REPLY && chrome === undefined) {
      info = JSON.parse(bodyText(body, 0, body.length)) as TraceInfo;
      chrome = new ChromeTrace(info);
      file.add(chrome.begin());
      file.flush();
      begun.resolve();
    } else if (kind === Kind.TRACE && chrome !== undefined) {
      dropped += aux;
      for (const record of readRecords(body)) file.add(chrome.record(record));
      heard();
    } else {
      throw new ProtocolError(`an unexpected frame of kind ${kind}`);
    }
  });
  await Promise.race([begun.promise, link.failed]);
  const from = performance.now();
  // The end of the session is the end of the trace; what was refused, or cannot be, is an error.
  const ended = link.failed.catch((error) => {
    if (!(error instanceof DsmError) || error.code !== "DSM_UNREACHABLE") throw error;
  });
  const stopped = Promise.withResolvers<void>();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => stopped.resolve());
  const timer = setTimeout(() => stopped.resolve(), ms);
  let lasted_ms: number;
  try {
    await Promise.race([ended, stopped.promise]);
    lasted_ms = performance.now() - from;
    // What has happened up to here is in the next but one of its frames, at the latest: it sends them all the time.
    const last = Promise.withResolvers<void>();
    let frames = 0;
    heard = () => {
      frames += 1;
      if (frames === 2) last.resolve();
    };
    await Promise.race([ended, last.promise, Bun.sleep(LAST_TIMEOUT_MS)]);
  } finally {
    clearTimeout(timer);
    link.close();
  }
  const { time_ms } = info as TraceInfo;
  file.add((chrome as ChromeTrace).end(time_ms + lasted_ms));
  const { events, bytes } = file.finish({ session: session.name, dropped, clock: new Date(time_ms).toISOString() });
  return { events, dropped, seconds: Math.round(lasted_ms / 10) / 100, bytes };
}

/** The file is there when it is whole. */
class TraceFile {
  readonly #path: string;
  readonly #part: string;
  readonly #fd: number;
  #text = '{"displayTimeUnit":"ms","traceEvents":[';
  #events = 0;
  #bytes = 0;

  constructor(path: string) {
    this.#path = path;
    this.#part = besideName(path, "part");
    try {
      this.#fd = openSync(this.#part, "wx", 0o644);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): DsmError {
    const reason = error instanceof Error ? error.message : String(error);
    return new DsmError("DSM_SYSTEM", `the trace ${this.#path} cannot be written: ${reason}`);
  }

  add(events: Iterable<TraceEvent>): void {
    for (const event of events) {
      this.#text += `${this.#events === 0 ? "\n" : ",\n"}${JSON.stringify(event)}`;
      this.#events += 1;
    }
    if (this.#text.length >= PIECE) this.flush();
  }

  flush(): void {
    let rest = Buffer.from(this.#text);
    this.#text = "";
    this.#bytes += rest.length;
    try {
      while (rest.length > 0) rest = rest.subarray(writeSync(this.#fd, rest));
    } catch (error) {
      throw this.#failed(error);
    }
  }

  finish(otherData: Record<string, string | number>): { events: number; bytes: number } {
    this.#text += `\n],"otherData":${JSON.stringify(otherData)}}\n`;
    this.flush();
    closeSync(this.#fd);
    try {
      renameSync(this.#part, this.#path);
    } catch (error) {
      throw this.#failed(error);
    }
    return { events: this.#events, bytes: this.#bytes };
  }

  abandon(): void {
    try {
      closeSync(this.#fd);
    } catch {
      // It was finished already, and could not get its name.
    }
    rmSync(this.#part, { force: true });
  }
}
