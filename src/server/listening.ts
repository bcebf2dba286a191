/**
 * A server's TCP listener, whose certificate can be changed while it listens. Bun gives a listener its certificate for
 * good, so another one takes its place on the same socket of the kernel: connections that are there stay, and none that
 * comes meanwhile is refused.
 */
import { dlopen } from "bun:ffi";
import type { SocketHandler, TCPSocketListener } from "bun";
import type { Tls } from "../core/auth.ts";

const F_DUPFD_CLOEXEC = 1030;

/** Null where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs. */
function loadFcntl() {
  try {
    return dlopen("libc.so.6", { fcntl: { args: ["i32", "i32", "i32"], returns: "i32" } }).symbols.fcntl;
  } catch {
    return null;
  }
}

const fcntl = loadFcntl();
const AGAIN_MS = 10;

export class Listener<Data> {
  readonly host: string;
  readonly port: number;
  readonly #socket: SocketHandler<Data>;
  #listener: TCPSocketListener<Data>;
  #tls: Tls | null;
  #stopped = false;

  /** `socket`: what comes of its connections; for TLS, only of those whose certificate is good. Throws what Bun.listen() does. */
  constructor(host: string, port: number, tls: Tls | null, socket: SocketHandler<Data>) {
    this.#tls = tls;
    this.#socket = {
      ...socket,
      // Data comes behind this only. A client without a good certificate is closed by Bun; we do not rely on that.
      handshake: (connection, success) => {
        if (!success || (this.#tls?.ca !== undefined && !connection.authorized)) connection.terminate();
      },
    };
    this.host = host;
    this.#listener = this.#listen({ hostname: host, port });
    this.port = this.#listener.port;
  }

  get usesTls(): boolean {
    return this.#tls !== null;
  }

  /** From now on connections get that certificate. */
  useTls(tls: Tls): void {
    this.#tls = tls;
    // Not in Bun's types, but a listener has it.
    const { fd } = this.#listener as { fd?: number };
    const copy = fd === undefined ? -1 : (fcntl?.(fd, F_DUPFD_CLOEXEC, 0) ?? -1);
    this.#listener.stop();
    if (copy < 0) this.#listenAgain();
    else this.#listener = this.#listen({ fd: copy });
  }

  /** Without a copy the port is free only a moment later. What comes meanwhile is refused, and tries again. */
  #listenAgain(): void {
    if (this.#stopped) return;
    try {
      this.#listener = this.#listen({ hostname: this.host, port: this.port });
    } catch {
      setTimeout(() => this.#listenAgain(), AGAIN_MS);
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#listener.stop();
  }

  #listen(where: { hostname: string; port: number } | { fd: number }): TCPSocketListener<Data> {
    const tls = this.#tls;
    return Bun.listen<Data>({
      ...(where as { hostname: string; port: number }),
      ...(tls === null ? {} : { tls: listenerTls(tls) }),
      socket: this.#socket,
    });
  }
}

/** With an authority a certificate is demanded of those who connect. A name is for connecting only. */
function listenerTls({ serverName: _, ...tls }: Tls) {
  return { ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: true };
}
