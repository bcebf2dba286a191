/** A TCP proxy between two parts, over which a test decides: it passes on, is silent, or cuts. */
import type { Socket, TCPSocketListener } from "bun";

interface Side {
  other: Socket<Side> | null;
  /** What the other side has not taken yet. */
  waiting: Uint8Array[];
}

export class TcpProxy {
  readonly #target: { hostname: string; port: number };
  readonly #listener: TCPSocketListener<Side>;
  readonly #sockets = new Set<Socket<Side>>();
  #silent = false;
  #connections = 0;

  constructor(target: { hostname: string; port: number }) {
    this.#target = target;
    this.#listener = Bun.listen<Side>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (socket) => this.#open(socket),
        ...this.#handlers(),
      },
    });
  }

  get port(): number {
    return this.#listener.port;
  }

  /** Connections made through it so far. */
  get connections(): number {
    return this.#connections;
  }

  #handlers() {
    return {
      data: (socket: Socket<Side>, chunk: Uint8Array) => {
        if (this.#silent) return;
        const { other } = socket.data;
        if (other === null) socket.data.waiting.push(new Uint8Array(chunk));
        else this.#pass(other, new Uint8Array(chunk));
      },
      drain: (socket: Socket<Side>) => this.#drain(socket),
      close: (socket: Socket<Side>) => {
        this.#sockets.delete(socket);
        if (!this.#silent) socket.data.other?.end();
      },
      error: (socket: Socket<Side>) => socket.terminate(),
    };
  }

  #open(socket: Socket<Side>): void {
    this.#connections += 1;
    socket.data = { other: null, waiting: [] };
    this.#sockets.add(socket);
    if (this.#silent) return;
    Bun.connect<Side>({
      ...this.#target,
      data: { other: socket, waiting: [] },
      socket: {
        open: (up) => {
          this.#sockets.add(up);
          socket.data.other = up;
          for (const chunk of socket.data.waiting.splice(0)) this.#pass(up, chunk);
        },
        ...this.#handlers(),
      },
    }).catch(() => socket.terminate());
  }

  #pass(to: Socket<Side>, chunk: Uint8Array): void {
    to.data.waiting.push(chunk);
    this.#drain(to);
  }

  #drain(socket: Socket<Side>): void {
    const { waiting } = socket.data;
    // Until it is connected they are kept for the other side.
    while (socket.data.other !== null && waiting.length > 0) {
      const chunk = waiting[0] as Uint8Array;
      const written = Math.max(socket.write(chunk), 0);
      if (written < chunk.length) {
        waiting[0] = chunk.subarray(written);
        return;
      }
      waiting.shift();
    }
  }

  /** All connections end at once; new ones are made. */
  cut(): void {
    for (const socket of [...this.#sockets]) socket.terminate();
  }

  /** Nothing goes through and nobody is told, on connections that are there and on new ones. */
  get silent(): boolean {
    return this.#silent;
  }

  set silent(silent: boolean) {
    this.#silent = silent;
  }

  close(): void {
    this.#listener.stop(true);
    this.cut();
  }
}
