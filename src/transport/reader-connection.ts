/** A connection to the server of a session, for snapshots and traces. */

import { plainText } from "../core/access/auth.ts";
import type { Security } from "../core/access/tls.ts";
import { DsmError, statusCode } from "../core/base/errors.ts";
import { GREETING_TIMEOUT_MS, WELCOME_MAX } from "../core/base/limits.ts";
import { formatAddress } from "../core/base/names.ts";
import { At, HEADER_SIZE } from "../core/wire/at.ts";
import { bodyText, ProtocolError } from "../core/wire/frame.ts";
import { FrameReader } from "../core/wire/frame-reader.ts";
import { encodeHandshake } from "../core/wire/handshake.ts";
import { Kind } from "../core/wire/kinds.ts";
import { greetServer } from "./greet-server.ts";

/** A frame as it came; `body` is valid during the call only. */
export interface ServerFrame {
  kind: number;
  op: number;
  aux: number;
  body: Uint8Array;
  bytes: Uint8Array;
}

export interface ServerConnection {
  /** Rejects with a DsmError when the connection fails: the server refuses, is gone, or breaks the protocol. */
  failed: Promise<never>;
  /** Stops receiving, and disconnects. */
  close(): void;
}

/**
 * openServerConnection sends a handshake of that kind after the server's proof, and passes on the frames that
 * follow.
 */
export function openServerConnection(
  session: { name: string; host: string; port: number },
  security: Security,
  kind: Kind,
  take: (frame: ServerFrame) => void,
): ServerConnection {
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
    // Disconnecting ourselves is not a failure.
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
    const length = Math.min(view.getUint32(at + At.length, true), size - HEADER_SIZE);
    const body = bytes.subarray(at + HEADER_SIZE, at + HEADER_SIZE + length);
    const [kind, op] = [view.getUint8(at + At.kind), view.getUint8(at + At.op)];
    if (kind === Kind.FAIL) throw new DsmError(statusCode(op), plainText(bodyText(body, 0, length)));
    take({ kind, op, aux: view.getUint32(at + At.aux, true), body, bytes: bytes.subarray(at, at + size) });
  };
  greetServer({ host, port }, security, encodeHandshake(kind, new Uint8Array(0)), {
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
