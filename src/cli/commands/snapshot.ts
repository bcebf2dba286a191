/** `dsm snapshot`: saves a running session as it is at one moment. The file is that of ../files/snapshot-file.ts. */
import type { Security } from "../../core/access/tls.ts";
import { counted } from "../../core/base/count.ts";
import { formatSize } from "../../core/base/size.ts";
import { MapOp } from "../../core/memory/map-snapshot.ts";
import type { DaemonApi, SessionSummary } from "../../core/messages/daemon-api.ts";
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
import { findSession } from "../find-session.ts";
import { daemonOption, jsonOption, LEFT_OUT, readDaemon, UsageError } from "../settings/options.ts";
import { messages, print, printJson } from "../terminal/messages.ts";
import { startProgress } from "../terminal/progress.ts";
import { daemonClient } from "../user-daemon-client.ts";

export default command({
  meta: { name: "snapshot", description: "Save a running session's memory and state, as they are at one moment" },
  args: {
    name: {
      type: "positional",
      required: false,
      description: "Session to save; the only one if left out",
      valueHint: "SESSION",
    },
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
      "The session goes on meanwhile. The file has its memory, blocks, semaphores and locks as of one place in the log. It is not possible in direct mode, in which the server does not have the bytes: set DSM_DIRECT=0 for the session's processes.",
      "FILE may be an earlier snapshot, which the new one replaces once it is complete. Any other file, a link, a device or a pipe is an error and stays unchanged.",
    ],
    examples: [
      { does: "Save session heat", line: "dsm snapshot heat heat.snap" },
      { does: "Save the only session, compressed", line: "dsm snapshot - | zstd > heat.snap.zst" },
      { does: "Go on from there later", line: "dsm run --restore heat.snap -- ./heat" },
    ],
  },
  async run({ args }) {
    const toStdout = isStdout(args.file);
    if (toStdout && args.json)
      throw new UsageError("the snapshot and --json both go to standard output; leave one out", true);
    const { address } = readDaemon(args.daemon);
    const directory = daemonClient({ address, autostart: false });
    const given = args.name === LEFT_OUT ? undefined : args.name;
    if (given === undefined) await checkFile(directory, args.file);
    const session = await findSession({ daemon: directory, address }, given);
    const { name } = session;
    const progress = startProgress(`saving ${args.file}`, session.size);
    const { security } = await obtainCredentials(directory, "arbiter");
    const { entries, bytes } = await save(session, security, args.file, (at) => progress.at(at)).finally(progress.end);
    if (args.json) await printJson({ session: name, file: args.file, entries, bytes });
    else {
      const done = `session "${name}" after ${counted(entries, "entry", "entries")}: ${formatSize(bytes)}`;
      if (toStdout) messages.info(done);
      else await print(`${done} in ${args.file}`);
    }
    return 0;
  },
});

/** checkFile throws UsageError when the only argument is the name of a session: then the file is missing. */
async function checkFile(daemon: DaemonApi, file: string): Promise<void> {
  if (!(await daemon.list()).some(({ name }) => name === file)) return;
  throw new UsageError(
    `FILE is missing: "${file}" is a session; give a file after it, or ./${file} for that file`,
    true,
  );
}

/**
 * imageOf checks the server's description of the session before it is written: otherwise only a restore would find
 * damage.
 */
function imageOf(text: string): SavedSession {
  try {
    return parseSavedSession(JSON.parse(text));
  } catch (error) {
    throw new ProtocolError(`the server's image of the session is damaged: ${(error as Error).message}`);
  }
}

/** Signals that end the command. The incomplete file is removed first. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** reached returns the end of the last run of a MAP frame, whose runs ascend; 0 if it has none. */
function reached(frame: Uint8Array): number {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  let last = 0;
  for (let at = HEADER_SIZE; at < frame.length; at += runSize(view, at))
    last = runOffset(view, at) + runLength(view, at);
  return last;
}

/**
 * save writes the server's frames into the file, and removes the file if that fails. It calls `progress` with the
 * offset in the map up to which the file is complete.
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
