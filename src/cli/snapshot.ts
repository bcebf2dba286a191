import { randomBytes } from "node:crypto";
import { LinkProver, mustProve, NONCE_SIZE } from "../core/auth.ts";
import { DsmError, statusCode } from "../core/errors.ts";
import { FrameReader } from "../core/frames.ts";
import { GREETING_TIMEOUT_MS, WELCOME_MAX } from "../core/limits.ts";
import { formatAddress } from "../core/names.ts";
import { MapOp } from "../core/picture.ts";
import {
  bodyText,
  encodeGreeting,
  HEADER_SIZE,
  Kind,
  ProtocolError,
  runLength,
  runOffset,
  runSize,
} from "../core/protocol.ts";
import { formatSize } from "../core/size.ts";
import { command } from "./command.ts";
import { createDirectory } from "./directory.ts";
import { print, printJson } from "./messages.ts";
import { daemonOption, jsonOption, readDaemon, readName } from "./options.ts";
import { startProgress } from "./progress.ts";
import { readSecurity } from "./security.ts";
import { SnapshotWriter } from "./snapshot-file.ts";

export default command({
  meta: { name: "snapshot", description: "Save a running session's memory and state, as they are at one moment" },
  args: {
    name: { type: "positional", required: true, description: "Session to save", valueHint: "SESSION" },
    file: {
      type: "positional",
      required: true,
      description: "File to write; dsm run --restore FILE begins with it",
      valueHint: "FILE",
    },
    ...daemonOption,
    ...jsonOption,
  },
  manual: {
    details: [
      "The session goes on meanwhile: what is saved is its memory, blocks, semaphores and locks at one place of the order. Not in direct mode, in which the server does not have the bytes: set DSM_DIRECT=0 for the session's processes.",
    ],
    examples: [
      { does: "Save session heat", line: "dsm snapshot heat heat.snap" },
      { does: "Go on from there later", line: "dsm run --restore heat.snap -- ./heat" },
    ],
  },
  async run({ args }) {
    const { address } = readDaemon(args.daemon);
    const name = readName("session", args.name);
    const session = await createDirectory({ address, autostart: false }).get(name);
    if (!session) throw new DsmError("DSM_REFUSED", `there is no session "${name}" at ${address}; see "dsm sessions"`);
    const progress = startProgress(`saving ${args.file}`, session.size);
    const { entries, bytes } = await save(name, session.host, session.port, args.file, (at) => progress.at(at)).finally(
      progress.end,
    );
    if (args.json) await printJson({ session: name, file: args.file, entries, bytes });
    else await print(`session "${name}" as it was behind ${entries} entries: ${formatSize(bytes)} in ${args.file}`);
    return 0;
  },
});

/** Byte of the map behind the last of the runs, which go up; 0 if there is none. */
function reached(view: DataView, from: number, end: number): number {
  let last = 0;
  for (let at = from; at < end; at += runSize(view, at)) last = runOffset(view, at) + runLength(view, at);
  return last;
}

/** Writes what the server sends into the file, frame by frame. Nothing is left of the file when that fails. */
async function save(
  name: string,
  host: string,
  port: number,
  path: string,
  /** Told of every byte of the map up to which all is in the file. */
  progress: (at: number) => void,
): Promise<{ entries: number; bytes: number }> {
  let writer: SnapshotWriter | undefined;
  let entries = 0;
  let failed = false;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const gone = (why: string): void =>
    reject(new DsmError("DSM_UNREACHABLE", `the server of session "${name}" at ${formatAddress(host, port)} ${why}`));
  const timer = setTimeout(() => gone("does not answer"), GREETING_TIMEOUT_MS);
  const reader = new FrameReader(WELCOME_MAX);
  const frame = (view: DataView, at: number, size: number, bytes: Uint8Array): void => {
    const kind = view.getUint8(at + 4);
    const body = bytes.subarray(
      at + HEADER_SIZE,
      at + HEADER_SIZE + Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE),
    );
    if (kind === Kind.FAIL) throw new DsmError(statusCode(view.getUint8(at + 5)), bodyText(body, 0, body.length));
    if (kind === Kind.REPLY && writer === undefined) {
      clearTimeout(timer);
      entries = (JSON.parse(bodyText(body, 0, body.length)) as { seq: number }).seq;
      writer = new SnapshotWriter(path, body);
    } else if (kind === Kind.MAP && writer !== undefined) {
      writer.piece(bytes.subarray(at, at + size));
      progress(reached(view, at + HEADER_SIZE, at + size));
      if (view.getUint8(at + 5) === MapOp.LAST) resolve();
    } else {
      throw new ProtocolError(`an unexpected frame of kind ${kind}`);
    }
  };
  const security = readSecurity(host);
  const { token, tls } = security;
  let send: (bytes: Uint8Array) => void = () => {};
  const prover = new LinkProver(token, mustProve(security, host), randomBytes(NONCE_SIZE), (bytes) => send(bytes));
  const prove = (step: () => void): void => {
    try {
      step();
      if (prover.open) send(encodeGreeting(Kind.SNAPSHOT, new Uint8Array(0)));
    } catch (error) {
      failed = true;
      reject(error instanceof ProtocolError ? new DsmError(statusCode(error.status), error.message) : error);
    }
  };
  const socket = await Bun.connect({
    hostname: host,
    port,
    ...(tls === null ? {} : { tls: { ...tls, rejectUnauthorized: true } }),
    socket: {
      open: (socket) => {
        send = (bytes) => socket.write(bytes);
        if (tls === null) prove(() => prover.begin());
      },
      handshake: (socket, success) => {
        if (tls === null) return;
        if (success && socket.authorized) prove(() => prover.begin());
        else gone("has no certificate that counts here");
      },
      data: (_socket, chunk) => {
        if (failed) return;
        if (!prover.open) {
          prove(() => prover.receive(chunk));
          return;
        }
        try {
          reader.push(chunk, frame);
        } catch (error) {
          failed = true;
          reject(error instanceof ProtocolError ? new DsmError("DSM_PROTOCOL", error.message) : error);
        }
      },
      close: () => gone("closed the connection"),
      error: (_socket, error) => gone(`failed: ${error.message}`),
      connectError: (_socket, error) => gone(`cannot be reached: ${error.message}`),
    },
  }).catch((error: Error) => gone(`cannot be reached: ${error.message}`));
  try {
    await promise;
    (writer as SnapshotWriter | undefined)?.finish();
    return { entries, bytes: (writer as SnapshotWriter | undefined)?.size ?? 0 };
  } catch (error) {
    (writer as SnapshotWriter | undefined)?.abandon();
    throw error;
  } finally {
    clearTimeout(timer);
    (socket as { terminate(): void } | undefined)?.terminate();
  }
}
