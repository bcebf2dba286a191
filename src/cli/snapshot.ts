import { defineCommand } from "citty";
import type { SessionSummary } from "../core/directory.ts";
import { DsmError } from "../core/errors.ts";
import { MapOp } from "../core/picture.ts";
import { bodyText, Kind, ProtocolError } from "../core/protocol.ts";
import { formatSize } from "../core/size.ts";
import { createDirectory } from "./directory.ts";
import { print, printJson } from "./messages.ts";
import { daemonOption, jsonOption, readDaemon, readName } from "./options.ts";
import { openServerLink } from "./server-link.ts";
import { SnapshotWriter } from "./snapshot-file.ts";

export default defineCommand({
  meta: { name: "snapshot", description: "Save a running session's memory and state, as they are at one moment" },
  args: {
    name: { type: "positional", required: true, description: "Session to save" },
    file: { type: "positional", required: true, description: "File to write; dsm run --restore FILE begins with it" },
    ...daemonOption,
    ...jsonOption,
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const name = readName("session", args.name);
    const session = await createDirectory({ address, autostart: false }).get(name);
    if (!session) throw new DsmError("DSM_REFUSED", `there is no session "${name}" at ${address}; see "dsm sessions"`);
    const { entries, bytes } = await save(session, args.file);
    if (args.json) await printJson({ session: name, file: args.file, entries, bytes });
    else await print(`session "${name}" as it was behind ${entries} entries: ${formatSize(bytes)} in ${args.file}`);
    return 0;
  },
});

/** Writes what the server sends into the file, frame by frame. Nothing is left of the file when that fails. */
async function save(session: SessionSummary, path: string): Promise<{ entries: number; bytes: number }> {
  let writer: SnapshotWriter | undefined;
  let entries = 0;
  const { promise, resolve } = Promise.withResolvers<void>();
  const link = openServerLink(session, Kind.SNAPSHOT, ({ kind, op, body, bytes }) => {
    if (kind === Kind.REPLY && writer === undefined) {
      entries = (JSON.parse(bodyText(body, 0, body.length)) as { seq: number }).seq;
      writer = new SnapshotWriter(path, body);
    } else if (kind === Kind.MAP && writer !== undefined) {
      writer.piece(bytes);
      if (op === MapOp.LAST) resolve();
    } else {
      throw new ProtocolError(`an unexpected frame of kind ${kind}`);
    }
  });
  try {
    await Promise.race([promise, link.failed]);
    (writer as SnapshotWriter | undefined)?.finish();
    return { entries, bytes: (writer as SnapshotWriter | undefined)?.size ?? 0 };
  } catch (error) {
    (writer as SnapshotWriter | undefined)?.abandon();
    throw error;
  } finally {
    link.close();
  }
}
