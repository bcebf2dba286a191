/**
 * A server's listeners: TCP with or without TLS, and a Unix socket for arbiters on this host.
 *
 * The certificate of the TCP listener can be changed while it listens. Bun gives a listener its certificate for good, so
 * another one takes its place on the same socket of the kernel: existing connections stay, and none that comes meanwhile
 * is refused.
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

  /** `socket`: handlers of its connections; with TLS, only of those whose certificate is good. Throws what Bun.listen() does. */
  constructor(host: string, port: number, tls: Tls | null, socket: SocketHandler<Data>) {
    this.#tls = tls;
    this.#socket = {
      ...socket,
      // Data comes behind this only. Bun closes a client without a good certificate; dsm does not rely on that.
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

  /** New connections get that certificate. */
  useTls(tls: Tls): void {
    this.#tls = tls;
    // Not in Bun's types, but a listener has it.
    const { fd } = this.#listener as { fd?: number };
    const copy = fd === undefined ? -1 : (fcntl?.(fd, F_DUPFD_CLOEXEC, 0) ?? -1);
    this.#listener.stop();
    if (copy < 0) this.#listenAgain();
    else this.#listener = this.#listen({ fd: copy });
  }

  /** Without a copy the port is free only a moment later. Connections that come meanwhile are refused, and try again. */
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

/** With an authority a certificate is demanded of the peer. A server name is for connecting only. */
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

  /** Listens by a Unix socket, if its name is free. Without it arbiters on this host come by TCP. */
  listenLocal(name: string): void {
    try {
      this.#unix = Bun.listen<Data>({ unix: name, socket: this.#handlers(true) });
    } catch {
      // The name is taken.
    }
  }

  /** New TCP connections get that certificate. */
  useTls(tls: Tls): void {
    if (!this.#isStopped) this.#tcp?.useTls(tls);
  }

  stop(): void {
    this.#isStopped = true;
    this.#tcp?.stop();
    this.#unix?.stop();
  }
}
