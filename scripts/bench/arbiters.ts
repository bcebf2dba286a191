/**
 * Many arbiters in one process, without replicas: `bun arbiters.ts ADDRESS SESSION ARBITERS ENTRIES` joins a server as so
 * many nodes with a process each. All send stores in batches and count the entries that come back. Prints the nanoseconds
 * until each has got all.
 */
import type { Socket } from "bun";
import { ACK_BYTES, WELCOME_MAX } from "../../src/core/base/limits.ts";
import type { NodeHello, Welcome } from "../../src/core/messages/node-handshake.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { bodyText, encode, encodeJson, encodeText, getUint64, setUint64 } from "../../src/core/wire/frame.ts";
import { FrameReader } from "../../src/core/wire/frame-reader.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind, NO_TAG } from "../../src/core/wire/kinds.ts";
import { Outbox } from "../../src/core/wire/outbox.ts";

const STORE_FRAME = HEADER_SIZE + 8;
const BATCH = 512;
/** Entries under way, as many as the stores of some dozens of busy processes. */
const WINDOW = 16 * BATCH;

const [, , address, session, arbitersText, entriesText] = process.argv as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const arbiters = Number(arbitersText);
const batchesEach = Math.ceil(Number(entriesText) / arbiters / BATCH);
const entries = batchesEach * arbiters * BATCH;
const [hostname, port] = address.split(":") as [string, string];

let sent = 0;
let complete = 0;
const done = Promise.withResolvers<void>();

class Arbiter {
  readonly welcomed = Promise.withResolvers<void>();
  readonly everybodyJoined = Promise.withResolvers<void>();
  readonly #index: number;
  readonly #reader = new FrameReader(WELCOME_MAX);
  #outbox: Outbox | undefined;
  #node = 0;
  #joins = 0;
  #batch: Uint8Array = new Uint8Array(0);
  #batches = batchesEach;
  #received = 0;
  #unacknowledged = 0;
  /** Running number of the last operation it has asked for. */
  #asked = 0;

  constructor(index: number) {
    this.#index = index;
  }

  async connect(): Promise<void> {
    await Bun.connect({
      hostname,
      port: Number(port),
      socket: {
        open: (socket: Socket) => {
          socket.setNoDelay(true);
          this.#outbox = new Outbox((bytes) => socket.write(bytes));
          const hello: NodeHello = {
            ...{ session, node: `n${this.#index}`, processes: 0, size: 0, order: "", onLoss: "" },
            ...{ secret: "", reconnectMs: 0, heartbeatMs: 0, process: "", resume: null },
          };
          this.#outbox.send(encodeHandshake(Kind.HELLO, encodeJson(hello)));
        },
        data: (_socket, chunk) => this.#data(chunk),
        drain: () => {
          this.#outbox?.drain();
          this.work();
        },
        close: () => {
          if (complete < arbiters) throw new Error("the server closed the connection");
        },
      },
    });
    await this.welcomed.promise;
  }

  join(): Promise<void> {
    const body = encodeText(`n${this.#index}`);
    const [offset, aux] = [process.pid, this.#index + 1];
    this.#asked = 1;
    this.#outbox?.send(
      encode({ kind: Kind.JOIN, seq: this.#asked, node: this.#node, tag: this.#index, offset, aux, body }),
    );
    return this.everybodyJoined.promise;
  }

  /** Sends while few enough entries are under way. */
  work(): void {
    while (this.#batches > 0 && this.#outbox?.size === 0 && sent - this.#received < WINDOW) {
      this.#batches -= 1;
      sent += BATCH;
      const view = new DataView(this.#batch.buffer);
      for (let at = 0; at < this.#batch.length; at += STORE_FRAME) setUint64(view, at + 16, ++this.#asked);
      this.#outbox.send(this.#batch);
    }
  }

  #data(chunk: Uint8Array): void {
    this.#reader.push(chunk, (view, at, size, bytes) => this.#frame(view, at, size, bytes));
    if (this.#received > 0) this.work();
  }

  #frame(view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + 4);
    if (kind === Kind.STORE) {
      this.#count(size, getUint64(view, at + 16));
      return;
    }
    const text = bodyText(bytes, at + HEADER_SIZE, Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE));
    if (kind === Kind.FAIL) throw new Error(`the server says: ${text}`);
    if (kind === Kind.WELCOME) {
      this.#node = (JSON.parse(text) as Welcome).node;
      this.welcomed.resolve();
    } else if (kind === Kind.JOIN) {
      this.#joins += 1;
      if (this.#joins < arbiters) return;
      this.#batch = this.#stores();
      this.everybodyJoined.resolve();
    }
  }

  #count(size: number, seq: number): void {
    this.#received += 1;
    this.#unacknowledged += size;
    if (this.#unacknowledged >= ACK_BYTES) {
      this.#unacknowledged = 0;
      this.#outbox?.send(encode({ kind: Kind.PING, offset: seq }));
    }
    if (this.#received < entries) return;
    complete += 1;
    if (complete === arbiters) done.resolve();
  }

  #stores(): Uint8Array {
    const bytes = new Uint8Array(BATCH * STORE_FRAME);
    for (let i = 0; i < BATCH; i += 1) {
      const frame = { kind: Kind.STORE, rank: this.#index, node: this.#node, tag: NO_TAG, offset: i * 8 };
      bytes.set(encode({ ...frame, body: new Uint8Array(8).fill(i) }), i * STORE_FRAME);
    }
    return bytes;
  }
}

const all = Array.from({ length: arbiters }, (_, index) => new Arbiter(index));
for (const arbiter of all) await arbiter.connect();
await Promise.all(all.map((arbiter) => arbiter.join()));
const start = Bun.nanoseconds();
for (const arbiter of all) arbiter.work();
await done.promise;
console.log(Bun.nanoseconds() - start, entries);
process.exit(0);
