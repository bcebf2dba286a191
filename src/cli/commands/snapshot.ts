/** `dsm snapshot`: saves a running session as it is at one moment. The file is that of ../files/snapshot-file.ts. */
import type { Security } from "../../core/access/tls.ts";
import { DsmError } from "../../core/base/errors.ts";
import { formatSize } from "../../core/base/size.ts";
import { MapOp } from "../../core/memory/map-snapshot.ts";
import type { SessionSummary } from "../../core/messages/daemon-api.ts";
import { parseSavedSession, type SavedSession } from "../../core/messages/saved-session.ts";
import { HEADER_SIZE } from "../../core/wire/at.ts";
import { bodyText, ProtocolError } from "../../core/wire/frame.ts";
import { Kind } from "../../core/wire/kinds.ts";
import { runLength, runOffset, runSize } from "../../core/wire/runs.ts";
import { obtainCredentials } from "../../transport/credentials.ts";
import { openServerConnection } from "../../transport/reader-connection.ts";
import { command } from "../command.ts";
import { isStdout } from "../files/output-file.ts";
import { SnapshotWriter } from "../files/snapshot-file.ts";
import { daemonOption, jsonOption, readDaemon, readName, UsageError } from "../settings/options.ts";
import { messages, print, printJson } from "../terminal/messages.ts";
import { startProgress } from "../terminal/progress.ts";
import { daemonClient } from "../user-daemon-client.ts";

export default command({
  meta: { name: "snapshot", description: "Save a running session's memory and state, as they are at one moment" },
  args: {
    name: { type: "positional", required: true, description: "Session to save", valueHint: "SESSION" },
    file: {
      type: "positional",
      required: true,
      description: "File to write, - for standard output; dsm run --restore FILE begins with it",
      valueHint: "FILE",
    },
    ...daemonOption,
    ...jsonOption,
  },
  manual: {
    details: [
      "The session goes on meanwhile: what is saved is its memory, blocks, semaphores and locks at one place of the order. Not in direct mode, in which the server does not have the bytes: set DSM_DIRECT=0 for the session's processes.",
      "FILE may be a snapshot of before, which the new one then replaces once it is whole. Any other file, a link, a device or a pipe stays as it is, and is an error.",
    ],
    examples: [
      { does: "Save session heat", line: "dsm snapshot heat heat.snap" },
      { does: "Compressed", line: "dsm snapshot heat - | zstd > heat.snap.zst" },
      { does: "Go on from there later", line: "dsm run --restore heat.snap -- ./heat" },
    ],
  },
  async run({ args }) {
    const toStdout = isStdout(args.file);
    if (toStdout && args.json)
      throw new UsageError("the snapshot and --json both go to standard output; leave one out", true);
    const { address } = readDaemon(args.daemon);
    const name = readName("session", args.name);
    const directory = daemonClient({ address, autostart: false });
    const session = await directory.get(name);
    if (!session) throw new DsmError("DSM_REFUSED", `there is no session "${name}" at ${address}; see "dsm sessions"`);
    const progress = startProgress(`saving ${args.file}`, session.size);
    const { security } = await obtainCredentials(directory, "arbiter");
    const { entries, bytes } = await save(session, security, args.file, (at) => progress.at(at)).finally(progress.end);
    if (args.json) await printJson({ session: name, file: args.file, entries, bytes });
    else {
      const done = `session "${name}" as it was behind ${entries} entries: ${formatSize(bytes)}`;
      if (toStdout) messages.info(done);
      else await print(`${done} in ${args.file}`);
    }
    return 0;
  },
});

/** What the server says of the session. It is written as it came, so a damaged one would be found when it is read. */
function imageOf(text: string): SavedSession {
  try {
    return parseSavedSession(JSON.parse(text));
  } catch (error) {
    throw new ProtocolError(`the server's image of the session is damaged: ${(error as Error).message}`);
  }
}

/** They end the command, and leave nothing of the file. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Byte of the map behind the last run of a MAP frame, in which they go up; 0 if there is none. */
function reached(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let last = 0;
  for (let at = HEADER_SIZE; at < frame.length; at += runSize(view, at))
    last = runOffset(view, at) + runLength(view, at);
  return last;
}

/**
 * Writes what the server sends into the file, frame by frame. Nothing is left of the file when that fails. `progress` is
 * told of every byte of the map up to which all is in the file.
 */
async function save(
  session: SessionSummary,
  security: Security,
  path: string,
  progress: (at: number) => void,
): Promise<{ entries: number; bytes: number }> {
  let writer: SnapshotWriter | undefined;
  let entries = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const link = openServerConnection(session, security, Kind.SNAPSHOT, ({ kind, op, body, bytes }) => {
    if (kind === Kind.REPLY && writer === undefined) {
      entries = imageOf(bodyText(body, 0, body.length)).seq;
      writer = new SnapshotWriter(path, body);
    } else if (kind === Kind.MAP && writer !== undefined) {
      writer.piece(bytes);
      progress(reached(bytes));
      if (op === MapOp.LAST) resolve();
    } else {
      throw new ProtocolError(`an unexpected frame of kind ${kind}`);
    }
  });
  const interrupted = (signal: NodeJS.Signals): void => {
    writer?.abandon();
    for (const one of SIGNALS) process.off(one, interrupted);
    process.kill(process.pid, signal);
  };
  for (const signal of SIGNALS) process.on(signal, interrupted);
  try {
    await Promise.race([promise, link.failed]);
    (writer as SnapshotWriter | undefined)?.finish();
    return { entries, bytes: (writer as SnapshotWriter | undefined)?.size ?? 0 };
  } catch (error) {
    (writer as SnapshotWriter | undefined)?.abandon();
    throw error;
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupted);
    link.close();
  }
}
