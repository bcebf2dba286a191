/** The embedded engine of an OrderedLog, seen from an arbiter: `dsm server` over TCP. */
import { randomBytes } from "node:crypto";
import type { Socket } from "bun";
import { LinkProver, mustProve, NONCE_SIZE, OPEN, type Security } from "../core/auth.ts";
import { DsmError, statusCode } from "../core/errors.ts";
import { FrameReader, freeNow } from "../core/frames.ts";
import { FRAME_MAX, GREETING_TIMEOUT_MS, WELCOME_MAX } from "../core/limits.ts";
import type { LogFollower, OrderedLog } from "../core/log.ts";
import { formatAddress } from "../core/names.ts";
import { failStop, Outbox } from "../core/outbox.ts";
import { bodyText, encodeGreeting, encodeJson, HEADER_SIZE, Kind, ProtocolError } from "../core/protocol.ts";
import type { NodeHello, Welcome } from "../core/sequencer.ts";
import { parseWelcome } from "../core/welcome.ts";

export class ServerLog implements OrderedLog {
  readonly #host: string;
  readonly #port: number;
  readonly #security: Security;
  #socket: Socket | undefined;
  #outbox: Outbox | undefined;
  #closed = false;

  constructor(host: string, port: number, security: Security = OPEN) {
    this.#host = host;
    this.#port = port;
    this.#security = security;
  }

  get queued(): number {
    return this.#outbox?.size ?? 0;
  }

  /** Throws DSM_UNREACHABLE when nobody is there (any more), else what the server says against us. */
  open(hello: NodeHello, follower: LogFollower): Promise<Welcome> {
    const address = formatAddress(this.#host, this.#port);
    return new Promise((resolve, reject) => {
      let welcomed = false;
      const fail = (error: DsmError): void => {
        clearTimeout(timer);
        if (welcomed) {
          if (!this.#closed) follower.lost(error);
        } else {
          reject(error);
        }
        this.close();
      };
      const gone = (why: string): void =>
        fail(new DsmError("DSM_UNREACHABLE", `the server of session "${hello.session}" at ${address} ${why}`));
      const timer = setTimeout(() => gone("does not answer"), GREETING_TIMEOUT_MS);
      const { token, tls } = this.#security;
      const proves = mustProve(this.#security, this.#host);
      const prover = new LinkProver(token, proves, randomBytes(NONCE_SIZE), (bytes) => this.append(bytes));
      /** Goes one step on before the greeting, and greets once the server has proven itself. */
      const prove = (step: () => void): void => {
        step();
        if (prover.open) this.append(encodeGreeting(Kind.HELLO, encodeJson(hello)));
      };
      const guarded = (action: () => void): void => {
        if (this.#closed) return;
        try {
          action();
        } catch (error) {
          if (error instanceof DsmError) fail(error);
          else if (error instanceof ProtocolError) {
            fail(new DsmError("DSM_PROTOCOL", `what listens at ${address} is no dsm server: ${error.message}`));
          } else throw error;
        }
      };
      const reader = new FrameReader(WELCOME_MAX);
      const greet = (chunk: Uint8Array): void => {
        // Entries may follow the welcome in one chunk: what is behind it goes on as it is.
        reader.push(chunk, (view, at, size, bytes) => {
          if (welcomed && view.getUint8(at + 4) !== Kind.FAIL) {
            follower.entries(bytes.subarray(at, at + size));
            return;
          }
          const body = bodyText(bytes, at + HEADER_SIZE, Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE));
          const kind = view.getUint8(at + 4);
          if (kind === Kind.FAIL) throw new DsmError(statusCode(view.getUint8(at + 5)), body);
          if (kind !== Kind.WELCOME) throw new ProtocolError("no welcome");
          const welcome = parseWelcome(body, hello);
          welcomed = true;
          reader.limit = FRAME_MAX;
          clearTimeout(timer);
          resolve(welcome);
        });
      };
      Bun.connect({
        hostname: this.#host,
        port: this.#port,
        ...(tls === null ? {} : { tls: { ...tls, rejectUnauthorized: true } }),
        socket: {
          open: (socket) => {
            socket.setNoDelay(true);
            this.#socket = socket;
            this.#outbox = new Outbox((bytes) => socket.write(bytes));
            if (tls === null) guarded(() => prove(() => prover.begin()));
          },
          handshake: (socket, success, error) => {
            if (tls === null) return;
            if (success && socket.authorized) guarded(() => prove(() => prover.begin()));
            else fail(new DsmError("DSM_REFUSED", `no TLS with the server at ${address}: ${tlsReason(error)}`));
          },
          data: (_socket, chunk) =>
            guarded(() => {
              if (prover.open) {
                greet(chunk);
                freeNow(chunk);
              } else prove(() => prover.receive(chunk));
            }),
          drain: () => {
            this.#outbox?.drain();
            follower.drained();
          },
          close: () =>
            gone(tls === null || prover.open ? "closed the connection" : "closed it; it may refuse our certificate"),
          error: (_socket, error) => {
            failStop(error);
            gone(`failed: ${error.message}`);
          },
          connectError: (_socket, error) => gone(`cannot be reached: ${error.message}`),
        },
      }).catch((error: Error) => gone(`cannot be reached: ${error.message}`));
    });
  }

  append(bytes: Uint8Array, sent?: () => void): void {
    if (this.#outbox !== undefined && !this.#outbox.send(bytes, sent)) this.#socket?.terminate();
  }

  close(): void {
    this.#closed = true;
    this.#socket?.end();
  }
}

function tlsReason(error: Error | null): string {
  const code = (error as { code?: string } | null)?.code;
  if (code === "EPROTO") return "it does not speak TLS, or refuses our certificate (DSM_TLS_CERT)";
  return error?.message || code || "its certificate is not good";
}
