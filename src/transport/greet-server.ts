/** Connects to the server of a session, for every role: TLS if requested, proofs of the token, handshake. */
import { randomBytes } from "node:crypto";
import type { Socket } from "bun";
import { LinkProver, mustProve, NONCE_SIZE, type Security } from "../core/access/auth.ts";

export interface ServerPlace {
  host: string;
  port: number;
  /** A Unix socket to use instead. */
  unix?: string;
}

/** The reason why a connection failed or ended. */
export interface LinkEnd {
  how: "unreached" | "untrusted" | "closed" | "failed";
  /** Follows "the server of session ... at ...". */
  words: string;
  /** Null: the other side closed it, or its certificate is not good and nothing says why. */
  error: Error | null;
}

export interface LinkHandlers {
  /** Called when connected. Returns the function that sends bytes; null: disconnect. */
  open(socket: Socket): ((bytes: Uint8Array) => void) | null;
  /** Receives the bytes after the handshake. */
  data(chunk: Uint8Array): void;
  /** Called when the socket accepts more bytes again. */
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
  // A Unix socket cannot be eavesdropped on.
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
