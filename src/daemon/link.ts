/** The daemon's own connections to servers: is one there, and how is its session? */
import type { ServerStatus } from "../core/directory.ts";
import { FRAME_MAX } from "../core/limits.ts";
import { bodyText, encodeGreeting, HEADER_SIZE, Kind } from "../core/protocol.ts";

/** A server that has not answered after this long counts as gone. */
export const LINK_TIMEOUT_MS = 3_000;

/** Whether something takes connections there. */
export function isListening(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    let settled = false;
    const settle = (answer: boolean): void => {
      settled = true;
      clearTimeout(timer);
      resolve(answer);
    };
    const timer = setTimeout(() => settle(false), LINK_TIMEOUT_MS);
    Bun.connect({
      hostname: host,
      port,
      socket: {
        open(socket) {
          socket.terminate();
          settle(true);
        },
        data() {},
        connectError: () => settle(false),
        close() {},
      },
    }).then(
      (socket) => {
        if (settled) socket.terminate();
      },
      () => settle(false),
    );
  });
}

/** Sends a STATUS frame and returns the answer; null when none comes, or none that can be read. */
export function askStatus(host: string, port: number): Promise<ServerStatus | null> {
  return new Promise((resolve) => {
    let received = new Uint8Array(0);
    let open: { terminate(): void } | null = null;
    let settled = false;
    const settle = (answer: ServerStatus | null): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      open?.terminate();
      resolve(answer);
    };
    const timer = setTimeout(() => settle(null), LINK_TIMEOUT_MS);
    Bun.connect({
      hostname: host,
      port,
      socket: {
        open(socket) {
          open = socket;
          socket.write(encodeGreeting(Kind.STATUS, new Uint8Array(0)));
        },
        data(_socket, chunk) {
          const joined = new Uint8Array(received.length + chunk.length);
          joined.set(received);
          joined.set(chunk, received.length);
          received = joined;
          const answer = readStatus(received);
          if (answer !== undefined) settle(answer);
        },
        connectError: () => settle(null),
        close: () => settle(null),
        error: () => settle(null),
      },
    }).then(
      (socket) => {
        open = socket;
        if (settled) socket.terminate();
      },
      () => settle(null),
    );
  });
}

/** Undefined: more bytes are needed. */
function readStatus(bytes: Uint8Array): ServerStatus | null | undefined {
  if (bytes.length < HEADER_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const size = view.getUint32(0, true);
  const length = view.getUint32(32, true);
  if (size > FRAME_MAX || bytes[4] !== Kind.REPLY || bytes[5] !== 0 || HEADER_SIZE + length > size) return null;
  if (bytes.length < size) return undefined;
  try {
    const status = JSON.parse(bodyText(bytes, HEADER_SIZE, length));
    return typeof status === "object" && status !== null && Array.isArray(status.ranks) ? status : null;
  } catch {
    return null;
  }
}
