/** The daemon's own connections to servers: to probe, to read status and map, and to end them. */

import { plainText } from "../core/access/auth.ts";
import type { Security } from "../core/access/tls.ts";
import { DsmError, Status, statusCode } from "../core/base/errors.ts";
import { FRAME_MAX } from "../core/base/limits.ts";
import { parseForeign, readStatus } from "../core/messages/status-check.ts";
import type { StatusReport } from "../core/messages/status-report.ts";
import { At, HEADER_SIZE, ReplyAt } from "../core/wire/at.ts";
import { bodyText, encodeText, setUint64 } from "../core/wire/frame.ts";
import { encodeHandshake } from "../core/wire/handshake.ts";
import { Kind, StatusOp } from "../core/wire/kinds.ts";
import { greetServer } from "../transport/greet-server.ts";

/** Time after which a server that has not answered counts as silent. */
const ANSWER_TIMEOUT_MS = 3_000;

/**
 * The state of the server of an instance: "there", with its epoch; "gone" if its address refuses connections or belongs
 * to another server; "silent" if it may exist but does not answer.
 */
export type ServerState = { state: "there"; epoch: number } | { state: "gone" | "silent" };

export async function findServer(
  host: string,
  port: number,
  instance: string,
  security: Security,
): Promise<ServerState> {
  const status = await askStatus(host, port, security);
  if (status !== null)
    return status.instance === instance ? { state: "there", epoch: status.epoch } : { state: "gone" };
  return { state: (await knock(host, port)) === "refused" ? "gone" : "silent" };
}

/** Whether something accepts connections at the address. */
export async function isListening(host: string, port: number): Promise<boolean> {
  return (await knock(host, port)) === "listens";
}

/** Whether the host reports that nothing listens at the address. */
export async function isRefused(host: string, port: number): Promise<boolean> {
  return (await knock(host, port)) === "refused";
}

/** "refused": the host itself reports that nothing listens at the port. */
function knock(host: string, port: number): Promise<"listens" | "refused" | "silent"> {
  return new Promise((resolve) => {
    let settled = false;
    const settle = (answer: "listens" | "refused" | "silent"): void => {
      settled = true;
      clearTimeout(timer);
      resolve(answer);
    };
    const timer = setTimeout(() => settle("silent"), ANSWER_TIMEOUT_MS);
    const failed = (error: Error): void =>
      settle((error as NodeJS.ErrnoException).code === "ECONNREFUSED" ? "refused" : "silent");
    Bun.connect({
      hostname: host,
      port,
      socket: {
        open(socket) {
          socket.terminate();
          settle("listens");
        },
        data() {},
        connectError: (_socket, error) => failed(error),
        close() {},
      },
    }).then((socket) => {
      if (settled) socket.terminate();
    }, failed);
  });
}

/** A server's answer to one frame. */
interface ServerAnswer {
  kind: number;
  status: number;
  body: Uint8Array;
}

/** Sends a STATUS frame and returns the answer; null without a valid and trusted answer. */
export async function askStatus(
  host: string,
  port: number,
  security: Security,
  withHeat = false,
): Promise<StatusReport | null> {
  const op = withHeat ? StatusOp.HEAT : StatusOp.FACTS;
  const answer = await ask(host, port, security, encodeHandshake(Kind.STATUS, new Uint8Array(0), { op }));
  if (answer?.kind !== Kind.REPLY || answer.status !== Status.OK) return null;
  try {
    return readStatus(parseForeign(bodyText(answer.body, 0, answer.body.length)));
  } catch {
    return null;
  }
}

/**
 * readMemory returns bytes of the map as the server has them now; null if it does not answer. Throws the error of a
 * refusal.
 */
export async function readMemory(
  host: string,
  port: number,
  security: Security,
  offset: number,
  length: number,
): Promise<Uint8Array | null> {
  const body = new Uint8Array(16);
  const view = new DataView(body.buffer);
  setUint64(view, 0, offset);
  setUint64(view, 8, length);
  const answer = await ask(host, port, security, encodeHandshake(Kind.STATUS, body, { op: StatusOp.MEMORY }));
  if (answer?.kind === Kind.FAIL) {
    throw new DsmError(statusCode(answer.status), plainText(bodyText(answer.body, 0, answer.body.length)));
  }
  return answer?.kind === Kind.REPLY && answer.body.length === length ? answer.body : null;
}

/** Asks the server of that session to end. It returns false if the server does not answer, or is another one. */
export async function endServer(host: string, port: number, instance: string, security: Security): Promise<boolean> {
  const answer = await ask(
    host,
    port,
    security,
    encodeHandshake(Kind.STATUS, encodeText(instance), { op: StatusOp.END }),
  );
  return answer?.kind === Kind.REPLY;
}

/** Sends one frame once the server has proven the token, and returns the first frame of its answer. */
function ask(host: string, port: number, security: Security, greeting: Uint8Array): Promise<ServerAnswer | null> {
  return new Promise((resolve) => {
    let received = new Uint8Array(0);
    let open: { terminate(): void } | null = null;
    let settled = false;
    const settle = (answer: ServerAnswer | null): void => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      open?.terminate();
      resolve(answer);
    };
    const timer = setTimeout(() => settle(null), ANSWER_TIMEOUT_MS);
    greetServer({ host, port }, security, greeting, {
      open(socket) {
        open = socket;
        return settled ? null : (bytes) => socket.write(bytes);
      },
      data(chunk) {
        const joined = new Uint8Array(received.length + chunk.length);
        joined.set(received);
        joined.set(chunk, received.length);
        received = joined;
        const answer = readAnswer(received);
        if (answer !== undefined) settle(answer);
      },
      refused: () => settle(null),
      over: () => settle(null),
    });
  });
}

/** readAnswer returns undefined if it needs more bytes, null if the bytes are not an answer. */
function readAnswer(bytes: Uint8Array): ServerAnswer | null | undefined {
  if (bytes.length < HEADER_SIZE) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const size = view.getUint32(At.size, true);
  const length = view.getUint32(ReplyAt.bodyLength, true);
  if (size > FRAME_MAX || HEADER_SIZE + length > size) return null;
  if (bytes.length < size) return undefined;
  const [kind, status] = [bytes[At.kind] as number, bytes[ReplyAt.status] as number];
  return { kind, status, body: bytes.subarray(HEADER_SIZE, HEADER_SIZE + length) };
}
