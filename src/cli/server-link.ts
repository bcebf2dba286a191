/** A connection to a session's server, for what is asked of it and no daemon: snapshots and traces. */
import { plainText, type Security } from "../core/auth.ts";
import { DsmError, statusCode } from "../core/errors.ts";
import { FrameReader } from "../core/frames.ts";
import { GREETING_TIMEOUT_MS, WELCOME_MAX } from "../core/limits.ts";
import { formatAddress } from "../core/names.ts";
import { bodyText, encodeGreeting, HEADER_SIZE, Kind, ProtocolError } from "../core/protocol.ts";
import { greetServer } from "../link/greet-server.ts";

/** A frame as it came; `body` is valid during the call only. */
export interface ServerFrame {
  kind: number;
  op: number;
  aux: number;
  body: Uint8Array;
  bytes: Uint8Array;
}

export interface ServerLink {
  /** Rejects with a DsmError when nothing more comes: the server refuses, is gone, or says what cannot be. */
  failed: Promise<never>;
  /** Takes no more frames, and hangs up. */
  close(): void;
}

/** Greets with a frame of that kind, once the server has proven itself, and hands over what comes of it. */
export function openServerLink(
  session: { name: string; host: string; port: number },
  security: Security,
  kind: Kind,
  take: (frame: ServerFrame) => void,
): ServerLink {
  const { name, host, port } = session;
  const { promise: failed, reject } = Promise.withResolvers<never>();
  failed.catch(() => {});
  let over = false;
  let socket: { terminate(): void } | undefined;
  const close = (): void => {
    over = true;
    clearTimeout(timer);
    socket?.terminate();
  };
  const fail = (error: unknown): void => {
    // Our own hanging up is no reason.
    if (over) return;
    close();
    reject(error instanceof ProtocolError ? new DsmError("DSM_PROTOCOL", error.message) : error);
  };
  const gone = (why: string): void =>
    fail(new DsmError("DSM_UNREACHABLE", `the server of session "${name}" at ${formatAddress(host, port)} ${why}`));
  const timer = setTimeout(() => gone("does not answer"), GREETING_TIMEOUT_MS);
  const reader = new FrameReader(WELCOME_MAX);
  const frame = (view: DataView, at: number, size: number, bytes: Uint8Array): void => {
    if (over) return;
    clearTimeout(timer);
    const length = Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE);
    const body = bytes.subarray(at + HEADER_SIZE, at + HEADER_SIZE + length);
    const [kind, op] = [view.getUint8(at + 4), view.getUint8(at + 5)];
    if (kind === Kind.FAIL) throw new DsmError(statusCode(op), plainText(bodyText(body, 0, length)));
    take({ kind, op, aux: view.getUint32(at + 36, true), body, bytes: bytes.subarray(at, at + size) });
  };
  greetServer({ host, port }, security, encodeGreeting(kind, new Uint8Array(0)), {
    open(opened) {
      socket = opened;
      return over ? null : (bytes) => opened.write(bytes);
    },
    data(chunk) {
      if (over) return;
      try {
        reader.push(chunk, frame);
      } catch (error) {
        fail(error);
      }
    },
    refused: (error) =>
      fail(error instanceof ProtocolError ? new DsmError(statusCode(error.status), error.message) : error),
    over: ({ words }) => gone(words),
  });
  return { failed, close };
}
