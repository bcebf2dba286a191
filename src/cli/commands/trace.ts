/** `dsm trace`: what happens in a running session, as trace events for Perfetto. */
import type { Security } from "../../core/access/tls.ts";
import { counted, formatCount } from "../../core/base/count.ts";
import { formatDuration } from "../../core/base/duration.ts";
import { DsmError } from "../../core/base/errors.ts";
import { TRACE_SECONDS_MAX } from "../../core/base/limits.ts";
import { formatSize } from "../../core/base/size.ts";
import type { DaemonApi, SessionDetail } from "../../core/messages/daemon-api.ts";
import { parseTraceInfo, type TraceInfo } from "../../core/messages/trace-info.ts";
import { ChromeTrace, readRecords, type TraceEvent } from "../../core/observe/trace.ts";
import { bodyText, ProtocolError } from "../../core/wire/frame.ts";
import { Kind } from "../../core/wire/kinds.ts";
import { obtainCredentials } from "../../transport/credentials.ts";
import { openServerConnection } from "../../transport/reader-connection.ts";
import { command } from "../command.ts";
import { isStdout, OutputFile } from "../files/output-file.ts";
import { findSession } from "../find-session.ts";
import { daemonOption, jsonOption, readDaemon, UsageError, wrongValue } from "../settings/options.ts";
import { messages, print, printJson } from "../terminal/messages.ts";
import { daemonClient } from "../user-daemon-client.ts";

const SECONDS_MIN = 0.1;
/** Longest wait for the last frames of a server that has stopped sending. */
const LAST_TIMEOUT_MS = 5_000;
/** Longest wait for the server that follows a lost one; */
const SUCCESSOR_TIMEOUT_MS = 3_000;
/** interval at which the daemon is asked what became of a session whose server is gone. */
const LOOK_INTERVAL_MS = 100;
/** Events are written in pieces of about this many characters. */
const PIECE = 64 << 10;

export default command({
  meta: { name: "trace", description: "Write what happens in a running session for Perfetto: waits, traps, entries" },
  args: {
    name: {
      type: "positional",
      required: false,
      description: "Session to trace; the only one if left out",
      valueHint: "SESSION",
    },
    out: {
      type: "string",
      description: "File to write, - for standard output; open it at ui.perfetto.dev",
      valueHint: "FILE",
    },
    seconds: { type: "string", description: "How long; ^C ends it sooner", valueHint: "S", default: "10" },
    ...daemonOption,
    ...jsonOption,
  },
  manual: {
    details: [
      "Each node is a process of the trace, each rank a thread: its waits are spans, its entries are instants with place and size. Events that come faster than the server can send them are dropped and counted. A session has one trace at a time; one that is not traced is not slowed down.",
    ],
    examples: [
      { does: "Ten seconds of session heat", line: "dsm trace heat --out heat.json" },
      { does: "Half a second of the only session", line: "dsm trace --out heat.json --seconds 0.5" },
    ],
  },
  async run({ args }) {
    if (args.out === undefined) throw new UsageError("the file is missing; give --out FILE");
    const toStdout = isStdout(args.out);
    if (toStdout && args.json)
      throw new UsageError("the trace and --json both go to standard output; leave one out", true);
    const ms = readSeconds(args.seconds) * 1000;
    const { address } = readDaemon(args.daemon);
    const directory = daemonClient({ address, autostart: false });
    const session = await findSession({ daemon: directory, address }, args.name);
    if (session.direct)
      messages.warn("the session is in direct mode: its stores do not leave the processes and are not traced");
    const file = new TraceFile(args.out);
    let done: Done;
    try {
      const { security } = await obtainCredentials(directory, "arbiter");
      done = await trace(session, security, file, ms);
    } catch (error) {
      file.abandon();
      throw error;
    }
    const { wasCut, ...facts } = done;
    const serverLost = wasCut && (await hasSuccessor(directory, session));
    const report = { session: session.name, file: args.out, ...facts, serverLost };
    if (args.json) await printJson(report);
    else {
      const said = doneText(session.name, done, toStdout ? null : args.out);
      if (toStdout) messages.info(said);
      else await print(said);
    }
    if (serverLost)
      messages.warn(
        `the server of session "${session.name}" was lost, and another one takes over: the trace ends there; trace it again`,
      );
    return 0;
  },
});

/** hasSuccessor returns whether a session whose server is gone goes on with another one. */
async function hasSuccessor(directory: DaemonApi, { name, instance, epoch }: SessionDetail): Promise<boolean> {
  for (const deadline = performance.now() + SUCCESSOR_TIMEOUT_MS; performance.now() < deadline; ) {
    // While the next server starts, the daemon shows no session of that name.
    const now = await directory.get(name).catch(() => null);
    if (now !== null && now.instance !== instance) return false;
    if (now !== null && now.epoch > epoch) return true;
    await Bun.sleep(LOOK_INTERVAL_MS);
  }
  return false;
}

/** doneText returns what was traced, in words. `file`: null for standard output. */
function doneText(
  session: string,
  { events, seconds, bytes, dropped }: Omit<Done, "wasCut">,
  file: string | null,
): string {
  const traced = `${counted(events, "event")} of session "${session}" in ${formatDuration(seconds * 1000)}`;
  const where = file === null ? formatSize(bytes) : `${formatSize(bytes)} in ${file}`;
  const lost = dropped > 0 ? `; ${formatCount(dropped)} more came too fast and were dropped` : "";
  return `${traced}: ${where}${lost}`;
}

function readSeconds(text: string): number {
  const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds >= SECONDS_MIN && seconds <= TRACE_SECONDS_MAX) return seconds;
  throw wrongValue(`--seconds is "${text}"; it must be from ${SECONDS_MIN} to ${TRACE_SECONDS_MAX}`);
}

interface Done {
  events: number;
  /** Entries and waits that the server dropped because they came faster than it could send them. */
  dropped: number;
  seconds: number;
  bytes: number;
  /** The server is gone, and the last entry was not that of the last process which leaves. */
  wasCut: boolean;
}

async function trace(
  session: { name: string; host: string; port: number },
  security: Security,
  file: TraceFile,
  ms: number,
): Promise<Done> {
  let chrome: ChromeTrace | undefined;
  let info: TraceInfo | undefined;
  let dropped = 0;
  /** Kind of the last entry. */
  let lastKind = -1;
  /** Called after each frame of the server. */
  let heard = (): void => {};
  const begun = Promise.withResolvers<void>();
  const link = openServerConnection(session, security, Kind.TRACE, ({ kind, aux, body }) => {
    if (kind === Kind.REPLY && chrome === undefined) {
      info = parseTraceInfo(bodyText(body, 0, body.length));
      chrome = new ChromeTrace(info);
      file.add(chrome.begin());
      file.flush();
      begun.resolve();
    } else if (kind === Kind.TRACE && chrome !== undefined) {
      dropped += aux;
      for (const record of readRecords(body)) {
        if (record.what === "entry") lastKind = record.kind;
        file.add(chrome.record(record));
      }
      heard();
    } else {
      throw new ProtocolError(`an unexpected frame of kind ${kind}`);
    }
  });
  await Promise.race([begun.promise, link.failed]);
  const from = performance.now();
  // The trace ends with the session. A refusal or a breach of the protocol is an error.
  const ended = link.failed.catch((error) => {
    if (!(error instanceof DsmError) || error.code !== "DSM_UNREACHABLE") throw error;
  });
  const stopped = Promise.withResolvers<void>();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stopped.resolve());
  const timer = setTimeout(() => stopped.resolve(), ms);
  let lasted_ms: number;
  let wasCut = false;
  try {
    const isGone = await Promise.race([ended.then(() => true), stopped.promise.then(() => false)]);
    wasCut = isGone && lastKind !== Kind.LEAVE;
    lasted_ms = performance.now() - from;
    // The server sends frames all the time: the second one from now has everything that happened so far.
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
  return { events, dropped, seconds: Math.round(lasted_ms / 10) / 100, bytes, wasCut };
}

const BEGINNING = '{"displayTimeUnit":"ms","traceEvents":[';

const TRACE = {
  what: "a trace of dsm",
  isOne: (head: Buffer): boolean => head.toString("latin1").startsWith(`${BEGINNING}\n`),
  mode: 0o666,
};

/** TraceFile writes the trace. The file appears under its name once it is complete. */
class TraceFile {
  readonly #file: OutputFile;
  #text = BEGINNING;
  #events = 0;
  #bytes = 0;

  constructor(path: string) {
    this.#file = new OutputFile(path, TRACE);
  }

  add(events: Iterable<TraceEvent>): void {
    for (const event of events) {
      this.#text += `${this.#events === 0 ? "\n" : ",\n"}${JSON.stringify(event)}`;
      this.#events += 1;
    }
    if (this.#text.length >= PIECE) this.flush();
  }

  flush(): void {
    const bytes = Buffer.from(this.#text);
    this.#text = "";
    this.#bytes += bytes.length;
    this.#file.write(bytes);
  }

  finish(otherData: Record<string, string | number>): { events: number; bytes: number } {
    this.#text += `\n],"otherData":${JSON.stringify(otherData)}}\n`;
    this.flush();
    this.#file.finish();
    return { events: this.#events, bytes: this.#bytes };
  }

  abandon(): void {
    this.#file.abandon();
  }
}
