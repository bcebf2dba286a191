/**
 * The network between a node and the rest, in the test's hands: the node's processes are given the address of this
 * directory, which is the daemon's in everything but that servers are said to be where our proxy listens.
 */
import type { Server, Socket, TCPSocketListener } from "bun";
import { Random } from "./core-random.ts";

interface Direction {
  to: Socket<Side> | undefined;
  /** Decides how much later each piece arrives. */
  random: Random;
  /** What is under way, and when it may arrive. */
  waiting: { bytes: Uint8Array; due: number }[];
  ended: boolean;
  moving: boolean;
}

interface Side {
  out: Direction;
  /** The proxy drops all data silently. */
  silent: boolean;
}

export class NodeProxy {
  readonly #daemon: string;
  readonly #http: Server<undefined>;
  /** By the server's port. */
  readonly #listeners = new Map<number, TCPSocketListener<Side>>();
  readonly #sockets = new Set<Socket<Side>>();
  /** Every piece arrives so much later, at least and at most, */
  delayMs: readonly [number, number] = [0, 0];
  #seed = 0;
  /** Connections since the seed was set. */
  #seeded = 0;
  #connections = 0;

  constructor(daemonAddress: string) {
    this.#daemon = daemonAddress;
    this.#http = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      idleTimeout: 120,
      fetch: (request) => this.#answer(request),
    });
  }

  /** What the node's processes have as DSM_DAEMON. */
  get address(): string {
    return `127.0.0.1:${this.#http.port}`;
  }

  /** From here on the delays of the nth connection follow from this and from n. */
  set seed(seed: number) {
    this.#seed = seed;
    this.#seeded = 0;
  }

  /** Connections to servers that were made through it so far. */
  get connections(): number {
    return this.#connections;
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const body = request.method === "GET" ? null : await request.arrayBuffer();
    const headers = request.headers.has("content-type") ? { "content-type": request.headers.get("content-type")! } : {};
    const response = await fetch(`http://${this.#daemon}${pathname}${search}`, {
      method: request.method,
      body,
      headers,
    });
    const text = await response.text();
    const { status } = response;
    if (status === 204) return new Response(null, { status });
    const value = JSON.parse(text);
    if (typeof value.port === "number") value.port = this.#portFor(value.port);
    return Response.json(value, { status });
  }

  /** Where we listen for the server at `port`. */
  #portFor(port: number): number {
    let listener = this.#listeners.get(port);
    if (listener === undefined) {
      listener = Bun.listen<Side>({
        hostname: "127.0.0.1",
        port: 0,
        socket: {
          open: (socket) => void this.#accept(socket, port),
          ...this.#handlers,
        },
      });
      this.#listeners.set(port, listener);
    }
    return listener.port;
  }

  readonly #handlers = {
    data: (socket: Socket<Side>, chunk: Uint8Array): void => {
      if (socket.data.silent) return;
      const [least, most] = this.delayMs;
      const { out } = socket.data;
      const due = performance.now() + out.random.between(least, most);
      out.waiting.push({ bytes: new Uint8Array(chunk), due });
      void this.#move(out);
    },
    drain: (): void => {},
    close: (socket: Socket<Side>): void => {
      this.#sockets.delete(socket);
      if (socket.data.silent) return;
      socket.data.out.ended = true;
      void this.#move(socket.data.out);
    },
    error: (): void => {},
  };

  async #accept(socket: Socket<Side>, port: number): Promise<void> {
    this.#connections += 1;
    this.#seeded += 1;
    const direction = (which: number): Direction => ({
      ...{ to: undefined, waiting: [], ended: false, moving: false },
      random: new Random(this.#seed * 2 ** 32 + 2 * this.#seeded + which),
    });
    const [up, down] = [direction(0), direction(1)];
    socket.data = { out: up, silent: false };
    down.to = socket;
    this.#sockets.add(socket);
    try {
      up.to = await Bun.connect<Side>({
        hostname: "127.0.0.1",
        port,
        data: { out: down, silent: false },
        socket: { open: (other) => void this.#sockets.add(other), ...this.#handlers },
      });
      void this.#move(up);
    } catch {
      socket.end(); // the server is gone
    }
  }

  /** Hands on what is due, in order, as fast as it is taken. */
  async #move(direction: Direction): Promise<void> {
    if (direction.moving || direction.to === undefined) return;
    direction.moving = true;
    for (let next = direction.waiting[0]; next !== undefined; next = direction.waiting[0]) {
      const wait = next.due - performance.now();
      if (wait > 0) await Bun.sleep(wait);
      let at = 0;
      while (at < next.bytes.length && this.#sockets.has(direction.to)) {
        const written = direction.to.write(next.bytes.subarray(at));
        if (written <= 0) await Bun.sleep(1);
        at += Math.max(0, written);
      }
      direction.waiting.shift();
    }
    direction.moving = false;
    if (direction.ended) direction.to.end();
  }

  /** Cuts every connection there is, at once; what is under way is lost. */
  cut(): void {
    for (const socket of [...this.#sockets]) {
      socket.data.out.waiting.length = 0;
      socket.terminate();
    }
  }

  /** The connections there are fall silent; new ones are as ever. */
  silence(): void {
    for (const socket of this.#sockets) {
      socket.data.out.waiting.length = 0;
      socket.data.silent = true;
    }
  }

  close(): void {
    this.cut();
    for (const listener of this.#listeners.values()) listener.stop(true);
    void this.#http.stop(true);
  }
}
