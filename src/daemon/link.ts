/** The daemon's own connections to servers: is one there, and how is its session? */
import { randomBytes } from "node:crypto";
import { LinkProver, mustProve, NONCE_SIZE, type Security } from "../core/auth.ts";
import type { RankStatus, ServerStatus } from "../core/directory.ts";
import { FRAME_MAX, PROCESSES_MAX } from "../core/limits.ts";
import { bodyText, encodeGreeting, HEADER_SIZE, Kind } from "../core/protocol.ts";

/** A server that has not answered after this long counts as gone. */
export const LINK_TIMEOUT_MS = 3_000;

/**
 * How the server of an instance is: "there", with the epoch it says; "gone" if nothing of the kind listens at its place
 * any more; "silent" if it may be there and does not answer.
 */
export async function findServer(
  host: string,
  port: number,
  instance: string,
  security: Security,
): Promise<{ state: "there"; epoch: number } | { state: "gone" | "silent" }> {
  const status = await askStatus(host, port, security);
  if (status !== null)
    return status.instance === instance ? { state: "there", epoch: status.epoch } : { state: "gone" };
  return { state: (await isRefused(host, port)) ? "gone" : "silent" };
}

/** Whether the host itself says that nothing listens there: then no server has that port. */
function isRefused(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), LINK_TIMEOUT_MS);
    const settle = (answer: boolean): void => {
      clearTimeout(timer);
      resolve(answer);
    };
    const refused = (error: Error): void => settle((error as NodeJS.ErrnoException).code === "ECONNREFUSED");
    Bun.connect({
      hostname: host,
      port,
      socket: {
        open(socket) {
          socket.terminate();
          settle(false);
        },
        data() {},
        connectError: (_socket, error) => refused(error),
        close() {},
      },
    }).catch(refused);
  });
}

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

/** Sends a STATUS frame and returns the answer; null when none comes, or none that can be read or trusted. */
export function askStatus(host: string, port: number, security: Security): Promise<ServerStatus | null> {
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
    const { token, tls } = security;
    let send: (bytes: Uint8Array) => void = () => {};
    const prover = new LinkProver(token, mustProve(security, host), randomBytes(NONCE_SIZE), (bytes) => send(bytes));
    const prove = (step: () => void): void => {
      try {
        step();
        if (prover.open) send(encodeGreeting(Kind.STATUS, new Uint8Array(0)));
      } catch {
        settle(null);
      }
    };
    Bun.connect({
      hostname: host,
      port,
      ...(tls === null ? {} : { tls: { ...tls, rejectUnauthorized: true } }),
      socket: {
        open(socket) {
          open = socket;
          send = (bytes) => socket.write(bytes);
          if (tls === null) prove(() => prover.begin());
        },
        handshake(socket, success) {
          if (tls === null) return;
          if (success && socket.authorized) prove(() => prover.begin());
          else settle(null);
        },
        data(_socket, chunk) {
          if (!prover.open) {
            prove(() => prover.receive(chunk));
            return;
          }
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
    return checkStatus(JSON.parse(bodyText(bytes, HEADER_SIZE, length)));
  } catch {
    return null;
  }
}

/** The answer if it is one, else null. */
function checkStatus(value: unknown): ServerStatus | null {
  if (typeof value !== "object" || value === null) return null;
  const { direct, started, present, entries, bytes, ranks } = value as Record<keyof ServerStatus, unknown>;
  const good =
    typeof direct === "boolean" &&
    typeof started === "boolean" &&
    [present, entries, bytes].every((count) => Number.isSafeInteger(count) && (count as number) >= 0) &&
    Array.isArray(ranks) &&
    ranks.length <= PROCESSES_MAX &&
    ranks.every(isRank);
  return good ? (value as ServerStatus) : null;
}

function isRank(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { rank, node, pid, state, on } = value as Record<keyof RankStatus, unknown>;
  const texts = [node, state, on ?? ""];
  return Number.isSafeInteger(rank) && Number.isSafeInteger(pid) && texts.every((text) => typeof text === "string");
}
