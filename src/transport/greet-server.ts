/** Connecting to a session's server, as every role does it: TLS where it is asked for, proofs of the token, greeting. */
import { randomBytes } from "node:crypto";
import type { Socket } from "bun";
import { LinkProver, mustProve, NONCE_SIZE, type Security } from "../core/access/auth.ts";

export interface ServerPlace {
  host: string;
  port: number;
  /** A Unix socket to go by instead. */
  unix?: string;
}

/** Why there is no connection, or none any more. */
export interface LinkEnd {
  how: "unreached" | "untrusted" | "closed" | "failed";
  /** Follows "the server of session ... at ...". */
  words: string;
  /** Null: the other side closed it, or its certificate is not good and nothing says why. */
  error: Error | null;
}

export interface LinkHandlers {
  /** It is connected. Returns what sends the bytes; null: hang up. */
  open(socket: Socket): ((bytes: Uint8Array) => void) | null;
  /** What comes after the greeting. */
  data(chunk: Uint8Array): void;
  /** It takes more again. */
  drain?(): void;
  /** The server is not to be greeted: a DsmError or ProtocolError, or what open()'s result threw. Hang up. */
  refused(error: unknown): void;
  /** May come more than once, and after hanging up. */
  over(end: LinkEnd): void;
}

/** Sends the greeting once the server has proven itself, as far as `security` demands. */
export function greetServer(
  { host, port, unix }: ServerPlace,
  security: Security,
  greeting: Uint8Array,
  handlers: LinkHandlers,
): void {
  // A Unix socket cannot be listened in to.
  const tls = unix === undefined ? security.tls : null;
  let send: (bytes: Uint8Array) => void = () => {};
  const needed = mustProve(security, host);
  const prover = new LinkProver(security.token, needed, randomBytes(NONCE_SIZE), (bytes) => send(bytes));
  const prove = (step: () => void): void => {
    try {
      step();
      if (prover.open) send(greeting);
    } catch (error) {
      handlers.refused(error);
    }
  };
  const unreached = (error: Error): void =>
    handlers.over({ how: "unreached", words: `cannot be reached: ${error.message}`, error });
  const socket: Bun.SocketHandler<undefined> = {
    open(opened) {
      const sends = handlers.open(opened);
      if (sends === null) {
        opened.terminate();
        return;
      }
      send = sends;
      if (tls === null) prove(() => prover.begin());
    },
    handshake(opened, success, error) {
      if (tls === null) return;
      if (success && opened.authorized) prove(() => prover.begin());
      else handlers.over({ how: "untrusted", words: "has no certificate that counts here", error });
    },
    data(_socket, chunk) {
      if (prover.open) handlers.data(chunk);
      else prove(() => prover.receive(chunk));
    },
    drain: () => handlers.drain?.(),
    close() {
      const why = tls === null || prover.open ? "closed the connection" : "closed it; it may refuse our certificate";
      handlers.over({ how: "closed", words: why, error: null });
    },
    error: (_socket, error) => handlers.over({ how: "failed", words: `failed: ${error.message}`, error }),
    connectError: (_socket, error) => unreached(error),
  };
  const connected =
    unix !== undefined
      ? Bun.connect({ unix, socket })
      : Bun.connect({
          hostname: host,
          port,
          ...(tls === null ? {} : { tls: { ...tls, rejectUnauthorized: true } }),
          socket,
        });
  connected.catch(unreached);
}
