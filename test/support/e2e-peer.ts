/** A connection of our own to a port of dsm's, over which a test may send what it likes. */
import type { Socket } from "bun";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { bodyText } from "../../src/core/wire/frame.ts";

export interface Reply {
  kind: number;
  /** Status, or flags. */
  op: number;
  text: string;
  body: Uint8Array;
}

export class Peer {
  /** Settles when the other side has closed the connection. */
  readonly closed: Promise<void>;
  readonly #waiting: (() => void)[] = [];
  #received = new Uint8Array(0);
  #unsent: Uint8Array = new Uint8Array(0);
  #socket: Socket | undefined;
  #open = true;

  private constructor() {
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    void closed.promise.then(() => this.#wake());
    this.#close = closed.resolve;
  }

  readonly #close: () => void;

  static async connect(address: { hostname: string; port: number } | { unix: string }): Promise<Peer> {
    const peer = new Peer();
    peer.#socket = await Bun.connect({
      ...(address as { hostname: string; port: number }),
      socket: {
        data: (_, chunk) => peer.#receive(chunk),
        drain: () => peer.#flush(),
        close: () => {
          peer.#open = false;
          peer.#close();
        },
        error: () => {},
      },
    });
    return peer;
  }

  #receive(chunk: Uint8Array): void {
    const all = new Uint8Array(this.#received.length + chunk.length);
    all.set(this.#received);
    all.set(chunk, this.#received.length);
    this.#received = all;
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** What does not fit now goes out when the other side has read on; if it never does, never. */
  send(bytes: Uint8Array | string): void {
    const all = typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes;
    this.#unsent = Buffer.concat([this.#unsent, all]);
    this.#flush();
  }

  #flush(): void {
    const written = this.#socket?.write(this.#unsent) ?? 0;
    this.#unsent = this.#unsent.subarray(Math.max(written, 0));
  }

  end(): void {
    this.#socket?.end();
  }

  /** The next frame; null when the connection ends first. */
  async frame(): Promise<Reply | null> {
    for (;;) {
      const view = new DataView(this.#received.buffer, this.#received.byteOffset, this.#received.byteLength);
      if (this.#received.length >= HEADER_SIZE && this.#received.length >= view.getUint32(0, true)) {
        const size = view.getUint32(0, true);
        const length = Math.min(view.getUint32(32, true), size - HEADER_SIZE);
        const reply = {
          ...{ kind: view.getUint8(4), op: view.getUint8(5) },
          ...{ text: bodyText(this.#received, HEADER_SIZE, length), body: this.#received.slice(HEADER_SIZE, size) },
        };
        this.#received = this.#received.slice(size);
        return reply;
      }
      if (!this.#open) return null;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }
}
