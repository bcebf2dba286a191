/**
 * Listeners: TCP with or without TLS, and a Unix socket for arbiters on this host.
 *
 * The certificate of the TCP listener can be changed while it listens. Bun fixes the certificate of a listener, so
 * another listener takes its place on the same kernel socket: existing connections stay, and none that arrives
 * meanwhile is refused.
 */
import { dlopen } from "bun:ffi";
import type { SocketHandler, TCPSocketListener, UnixSocketListener } from "bun";
import type { Tls } from "../core/access/auth.ts";
import { DsmError, systemCode } from "../core/base/errors.ts";

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

  /**
   * `socket`: handlers of its connections; with TLS, only of those with a valid certificate. Throws what Bun.listen()
   * throws.
   */
  constructor(host: string, port: number, tls: Tls | null, socket: SocketHandler<Data>) {
    this.#tls = tls;
    this.#socket = {
      ...socket,
      // Data follows the TLS handshake only. Bun closes a client without a valid certificate; dsm does not rely on
      // that.
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

  /** Uses that certificate for new connections. */
  useTls(tls: Tls): void {
    this.#tls = tls;
    // Bun's types lack `fd`, but a listener has it.
    const { fd } = this.#listener as { fd?: number };
    const copy = fd === undefined ? -1 : (fcntl?.(fd, F_DUPFD_CLOEXEC, 0) ?? -1);
    this.#listener.stop();
    if (copy < 0) this.#listenAgain();
    else this.#listener = this.#listen({ fd: copy });
  }

  /**
   * Listens again without a copy of the socket: the port is free only a moment later, and connections that arrive
   * meanwhile are refused, and try again.
   */
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

/** With an authority, the peer must have a certificate. A server name is for connecting only. */
function listenerTls({ serverName: _, ...tls }: Tls) {
  return { ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: true };
}

/** `isLocal`: connections of the Unix socket. */
export type HandlersFor<Data> = (isLocal: boolean) => SocketHandler<Data>;

export class Listeners<Data> {
  readonly #handlers: HandlersFor<Data>;
  #tcp: Listener<Data> | undefined;
  #unix: UnixSocketListener<Data> | undefined;
  #isStopped = false;

  constructor(handlers: HandlersFor<Data>) {
    this.#handlers = handlers;
  }

  get usesTls(): boolean {
    return this.#tcp?.usesTls === true;
  }

  /** Listens by TCP; `port` 0: any free port. Returns the port. Throws DsmError. */
  listen(host: string, port: number, tls: Tls | null): number {
    try {
      this.#tcp = new Listener(host, port, tls, this.#handlers(false));
      return this.#tcp.port;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new DsmError(systemCode(error), `cannot listen on ${host}:${port}: ${reason}`);
    }
  }

  /** Listens by a Unix socket, if its name is free. Otherwise arbiters on this host connect by TCP. */
  listenLocal(name: string): void {
    try {
      this.#unix = Bun.listen<Data>({ unix: name, socket: this.#handlers(true) });
    } catch {
      // The name is taken.
    }
  }

  /** Uses that certificate for new TCP connections. */
  useTls(tls: Tls): void {
    if (!this.#isStopped) this.#tcp?.useTls(tls);
  }

  stop(): void {
    this.#isStopped = true;
    this.#tcp?.stop();
    this.#unix?.stop();
  }
}
