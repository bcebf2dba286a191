/**
 * One session without sockets: a real Sequencer and real Replicas joined by pipes of bytes. Nothing moves by itself:
 * the test decides which pipe delivers how many bytes next, so it decides every race.
 */

import { type Order, orderNumber } from "../../src/core/base/consistency.ts";
import { FRAME_MAX, PAGE_SIZE, WELCOME_MAX } from "../../src/core/base/limits.ts";
import { type OnLoss, onLossNumber } from "../../src/core/base/loss-policy.ts";
import type { NodeHello, Welcome } from "../../src/core/messages/node-handshake.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { Replica } from "../../src/core/replica/replica.ts";
import type { LentMemory, ReplicaOutput } from "../../src/core/replica/replica-output.ts";
import type { Ring } from "../../src/core/replica/store-ring.ts";
import { Sequencer } from "../../src/core/sequencer/sequencer.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import {
  bodyText,
  encode,
  encodeJson,
  encodeText,
  getUint64,
  ProtocolError,
  setUint64,
} from "../../src/core/wire/frame.ts";
import { FrameReader } from "../../src/core/wire/frame-reader.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { isOrdered, Kind } from "../../src/core/wire/kinds.ts";
import { PROCESS_HELLO, PROCESS_HELLO_SIZE } from "../../src/core/wire/process-hello.ts";
import { RUN_HEADER_SIZE, STAGING_SIZE } from "../../src/core/wire/runs.ts";
import { Cells } from "./core-cells.ts";
import type { Trace } from "./core-trace.ts";

/** A promise that was broken. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** One direction of a connection: bytes under way, then maybe its end. */
export class Pipe {
  readonly name: string;
  readonly #receive: (chunk: Uint8Array) => void;
  readonly #closed: () => void;
  #bytes = new Uint8Array(256);
  #from = 0;
  #to = 0;
  #end: "open" | "ending" | "ended" = "open";
  readonly #trace: Trace | null;

  constructor(name: string, receive: (chunk: Uint8Array) => void, closed: () => void, trace: Trace | null = null) {
    this.name = name;
    this.#trace = trace;
    this.#receive = receive;
    this.#closed = closed;
  }

  /** Bytes under way. */
  get size(): number {
    return this.#to - this.#from;
  }

  /** Whether deliver() would do anything. */
  get busy(): boolean {
    return this.#end !== "ended" && (this.size > 0 || this.#end === "ending");
  }

  get open(): boolean {
    return this.#end !== "ended";
  }

  push(bytes: Uint8Array): void {
    if (this.#end !== "open") return;
    if (this.#to + bytes.length > this.#bytes.length) {
      const grown = new Uint8Array(2 * (this.size + bytes.length));
      grown.set(this.#bytes.subarray(this.#from, this.#to));
      this.#to -= this.#from;
      this.#from = 0;
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#to);
    this.#to += bytes.length;
  }

  /** No more is sent; of what is under way the last `lose` bytes never arrive. */
  end(lose = 0): void {
    if (this.#end !== "open") return;
    this.#end = "ending";
    this.#to -= Math.min(lose, this.size);
  }

  /** Hands over up to `limit` bytes, or the end when nothing is left. Sockets hand out Buffers, so do pipes. */
  deliver(limit = Number.POSITIVE_INFINITY): void {
    if (this.size > 0) {
      const chunk = Buffer.from(this.#bytes.subarray(this.#from, this.#from + Math.min(limit, this.size)));
      this.#from += chunk.length;
      this.#trace?.(`${this.name}: ${chunk.length} bytes arrive, ${this.size} are under way`);
      if (this.#from === this.#to) {
        this.#from = 0;
        this.#to = 0;
      }
      this.#receive(chunk);
      // A socket reuses its buffer after the call: the receiver must not keep it.
      chunk.fill(0xee);
    } else if (this.#end === "ending") {
      this.#end = "ended";
      this.#trace?.(`${this.name}: the end arrives`);
      this.#closed();
    }
  }
}

/** Copies its map page by page, each when the one before has its place: much may happen in between. Sends waits back soon. */
export class SmallSteps extends Replica {
  constructor(...args: ConstructorParameters<typeof Replica>) {
    super(...args);
    this.postsToSendBack = 1;
    this.uploadPace = { piece: RUN_HEADER_SIZE + PAGE_SIZE, inFlightMax: 1 };
  }
}

export interface ClusterOptions {
  /** Broken replicas, to see whether the tests notice. */
  makeReplica?: (...args: ConstructorParameters<typeof Replica>) => Replica;
  /** The order, frame by frame, as the server broadcasts it; `bytes` is valid during the call only. */
  onEntry?: (bytes: Uint8Array) => void;
  onEnded?: () => void;
  /** A frame that a node's replica hands to the log; `bytes` is valid during the call only. */
  onPropose?: (node: Node, bytes: Uint8Array) => void;
  /** The memory that a process shares with its arbiter, by one of its channels; what is left out is new. */
  lend?: (channel: Channel) => Partial<LentMemory> | null;
  /** A part of a publication is written to the server's link; left out: at once. */
  onSent?: (sent: () => void) => void;
  /** Where a copy of the map lies, the server's and each node's; left out: in memory of its own. */
  memory?: (size: number) => Uint8Array;
  /** Pipelined: the ring of a node. */
  ring?: (node: Node) => Ring;
  /** Is told what moves. */
  trace?: Trace;
}

export class Cluster {
  readonly sequencer: Sequencer;
  readonly memory: Uint8Array;
  readonly config: SessionConfig;
  readonly options: ClusterOptions;
  readonly nodes: Node[] = [];
  pipes: Pipe[] = [];
  /** The time of the nodes; the test sets it. */
  now_ms = 0;
  readonly #links = new Map<number, Pipe>();
  readonly #order = new FrameReader(FRAME_MAX);
  #nextLink = 1;

  constructor(config: SessionConfig, options: ClusterOptions = {}) {
    this.config = config;
    this.options = options;
    this.memory = options.memory?.(config.size) ?? new Uint8Array(config.size);
    this.sequencer = new Sequencer(config, this.memory, {
      send: (link, bytes) => this.#links.get(link)?.push(bytes),
      broadcast: (bytes, _sent, except) => {
        this.#order.push(bytes.slice(), (_view, at, size, frames) => options.onEntry?.(frames.subarray(at, at + size)));
        for (const [link, down] of this.#links) {
          if (link !== except && this.sequencer.isWelcomed(link)) down.push(bytes);
        }
      },
      close: (link) => {
        this.#links.get(link)?.end();
        this.#links.delete(link);
      },
      welcomed: () => {},
      drop: (link) => this.#links.delete(link),
      // A node that loses its connection here is dead.
      onDisconnected: (node) => this.sequencer.evict(node),
      onReturnedOrEvicted: () => {},
      replaced: () => {},
      ended: () => options.onEnded?.(),
      stop: () => {},
    });
  }

  pipe(name: string, receive: (chunk: Uint8Array) => void, closed: () => void): Pipe {
    const pipe = new Pipe(name, receive, closed, this.options.trace);
    this.pipes.push(pipe);
    return pipe;
  }

  /** Number of the newest connection to the server. */
  get lastLink(): number {
    return this.#nextLink - 1;
  }

  /** A connection to the server from an unknown peer. */
  link(name: string, receive: (chunk: Uint8Array) => void, closed: () => void): Pipe {
    const id = this.#nextLink;
    this.#nextLink += 1;
    if (!this.sequencer.connect(id)) throw new Error("no room for a link");
    this.#links.set(id, this.pipe(`${name} down`, receive, closed));
    return this.pipe(
      `${name} up`,
      (chunk) => this.sequencer.receive(id, chunk),
      () => {
        this.#links.get(id)?.end();
        this.#links.delete(id);
        this.sequencer.disconnect(id);
      },
    );
  }

  /** A node that greets the server. Its replica is there once the welcome has been delivered. */
  node(name: string, hello: Partial<NodeHello> = {}): Node {
    const everything = {
      ...{ session: this.config.name, node: name, processes: 0, size: 0, order: "" as const, onLoss: "" as const },
      ...{ secret: "", reconnectMs: 0, heartbeatMs: 0, process: "", resume: null },
      ...hello,
    };
    const node = new Node(this, name, everything);
    this.nodes.push(node);
    return node;
  }

  /** Delivers until nothing is under way, in the order of the connections, except on pipes that `held` names. */
  settle(held: (pipe: Pipe) => boolean = () => false): void {
    for (let moved = true; moved; ) {
      moved = false;
      for (const pipe of this.pipes) {
        if (!pipe.busy || held(pipe)) continue;
        pipe.deliver();
        moved = true;
      }
    }
  }
}

/** A node's arbiter: its replica and its link to the server. */
export class Node {
  readonly cluster: Cluster;
  readonly name: string;
  readonly memory: Uint8Array;
  /** The mark of each page: whether an atomic operation was executed there. */
  readonly atomics: Uint8Array;
  readonly cells = new Cells();
  /** Cells of the locks, as answers have told its processes. */
  readonly knownCells = new Map<string, number>();
  /** Where the words of the semaphores are, as answers have told its processes. */
  readonly knownSemaphores = new Map<string, number>();
  readonly up: Pipe;
  replica: Replica | null = null;
  number = -1;
  /** The server's answer, once it has come. */
  welcome: Welcome | null = null;
  refusal: string | null = null;
  /** Whether the link to the server is gone. */
  lost = false;
  /** What was wrong with the order it got. */
  fault: string | null = null;
  done = false;
  /** Bytes of the order the replica has been given. */
  received = 0;
  /** What the node says to its tests: the welcome, a refusal, the end. */
  onEvent: (event: "welcomed" | "refused" | "done" | "lost") => void = () => {};
  /** Its arbiter wakes all that sleep on the word at that byte of the cells. */
  onWake: (at: number) => void = () => {};
  readonly #log = new FrameReader(WELCOME_MAX);
  readonly #channels = new Map<number, Channel>();
  #tokens = 0;

  constructor(cluster: Cluster, name: string, hello: NodeHello) {
    this.cluster = cluster;
    this.name = name;
    const { options, config } = cluster;
    this.memory = options.memory?.(config.size) ?? new Uint8Array(config.size);
    this.atomics = new Uint8Array(cluster.config.size / PAGE_SIZE);
    this.up = cluster.link(
      name,
      (chunk) => this.#receive(chunk),
      () => this.lose(),
    );
    this.up.push(encodeHandshake(Kind.HELLO, encodeJson(hello)));
  }

  /** What src/arbiter/server-connection.ts does. */
  #receive(chunk: Uint8Array): void {
    this.#log.push(chunk, (view, at, size, bytes) => {
      if (this.lost) return;
      const kind = view.getUint8(at + 4);
      if (this.replica !== null && kind !== Kind.FAIL) {
        this.#entries(bytes.subarray(at, at + size));
        return;
      }
      const text = bodyText(bytes, at + HEADER_SIZE, view.getUint32(at + 32, true));
      if (kind === Kind.WELCOME) {
        this.#welcomed(JSON.parse(text));
        this.#log.limit = FRAME_MAX;
      } else {
        this.#refused(view.getUint8(at + 5), text);
      }
    });
  }

  /** The server does not want this node (any more): its processes are told why. */
  #refused(status: number, text: string): void {
    if (this.done) return;
    this.refusal = `${status} ${text}`;
    this.onEvent("refused");
    if (this.replica === null) return;
    for (const channel of this.#channels.values()) {
      channel.down.push(encode({ kind: Kind.FAIL, op: status, body: encodeText(text) }));
    }
    this.lose();
  }

  #entries(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // What the welcome's snapshot had already is not applied.
    const isNew = getUint64(view, 16) > (this.welcome?.snapshot.seq ?? 0);
    if (isOrdered(view.getUint8(4)) && isNew) this.received += bytes.length;
    try {
      this.replica?.receiveEntries(bytes);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.fault = error.message;
      this.lose();
    }
  }

  #welcomed(welcome: Welcome): void {
    this.welcome = welcome;
    this.number = welcome.node;
    const out: ReplicaOutput = {
      propose: (bytes, sent) => {
        this.up.push(bytes);
        this.cluster.options.onPropose?.(this, bytes);
        if (sent !== undefined) (this.cluster.options.onSent ?? ((call) => call()))(sent);
      },
      reply: (index, bytes) => {
        const channel = this.#channels.get(index);
        if (channel === undefined)
          throw new Violation(`node ${this.name} answers channel ${index}, which no process has`);
        channel.down.push(bytes);
      },
      close: (index) => {
        const channel = this.#channels.get(index);
        this.#channels.delete(index);
        channel?.down.end();
      },
      now_ms: () => this.cluster.now_ms,
      token: () => {
        this.#tokens += 1;
        return Uint8Array.of(this.number, this.#tokens, 3, 4, 5, 6, 7, 8);
      },
      lend: (index, answer) => {
        const channel = this.#channels.get(index);
        const lent = channel && this.cluster.options.lend?.(channel);
        if (channel === undefined || lent == null) return null;
        channel.down.push(answer);
        const { shadow = new Uint8Array(this.memory.length), staging = new Uint8Array(STAGING_SIZE) } = lent;
        return { shadow, staging };
      },
      unmap: () => {},
      wakeCell: (at) => {
        this.cells.wakeAll(at);
        this.onWake(at);
      },
      done: () => {
        if (this.done) throw new Violation(`node ${this.name} is done twice`);
        this.done = true;
        this.onEvent("done");
      },
    };
    const make = this.cluster.options.makeReplica ?? ((...args) => new SmallSteps(...args));
    const ring = this.cluster.options.ring?.(this) ?? null;
    this.replica = make(welcome, out, {
      nodeName: this.name,
      mapPath: `/map/of/${this.name}`,
      memory: this.memory,
      atomics: this.atomics,
      cells: this.cells.bytes,
      ring,
    });
    this.onEvent("welcomed");
  }

  /** A connection of a process of this node. */
  connect(name: string, onFrame: (frame: Uint8Array) => void, onClosed: () => void): Channel {
    const { replica } = this;
    if (replica === null) throw new Error(`node ${this.name} is not there yet`);
    const index = replica.connect();
    if (index < 0) throw new Error("no room for a channel");
    if (this.#channels.has(index)) throw new Violation(`channel ${index} is given twice`);
    const reader = new FrameReader(FRAME_MAX);
    const channel: Channel = {
      index,
      node: this,
      down: this.cluster.pipe(
        `${name} down`,
        (chunk) =>
          reader.push(chunk, (_view, at, size, bytes) => onFrame(new Uint8Array(bytes.subarray(at, at + size)))),
        onClosed,
      ),
      up: this.cluster.pipe(
        `${name} up`,
        (chunk) => {
          if (!this.lost && this.#channels.get(index) === channel) replica.receive(index, chunk);
        },
        () => {
          channel.down.end();
          if (this.lost || this.#channels.get(index) !== channel) return;
          this.#channels.delete(index);
          replica.disconnect(index);
        },
      ),
    };
    this.#channels.set(index, channel);
    return channel;
  }

  /** Its last process has left: it tells the server so. */
  leave(): void {
    this.up.push(encode({ kind: Kind.PING, op: 1 }));
    this.up.end();
  }

  /** The node dies, or loses its server: its link ends and so do its channels. `lose` bytes to the server with it. */
  lose(lose = 0): void {
    if (this.lost) return;
    this.lost = true;
    this.up.end(lose);
    for (const channel of this.#channels.values()) channel.down.end();
    this.onEvent("lost");
  }
}

export interface Channel {
  readonly index: number;
  readonly node: Node;
  /** To the arbiter. */
  readonly up: Pipe;
  /** To the process. */
  readonly down: Pipe;
}

/** What a process says in its first frame; what is left out expects nothing. */
export interface Wishes {
  rank?: number;
  processes?: number;
  size?: number;
  order?: Order | "";
  onLoss?: OnLoss | "";
  elastic?: boolean;
  /** It does not want direct mode. */
  noDirect?: boolean;
}

/** A process's first frame. */
export function processHello(session: string, pid: number, wishes: Wishes = {}): Uint8Array {
  const body = new Uint8Array(PROCESS_HELLO_SIZE);
  const view = new DataView(body.buffer);
  const order = wishes.order ?? "";
  view.setUint32(PROCESS_HELLO.pid[0], pid, true);
  view.setUint32(PROCESS_HELLO.processes[0], wishes.processes ?? 0, true);
  setUint64(view, PROCESS_HELLO.size[0], wishes.size ?? 0);
  view.setUint32(PROCESS_HELLO.wishedRank[0], (wishes.rank ?? -1) + 1, true);
  view.setUint8(PROCESS_HELLO.order[0], order === "" ? 0 : orderNumber(order));
  view.setUint8(PROCESS_HELLO.elastic[0], wishes.elastic === true ? 1 : 0);
  view.setUint8(PROCESS_HELLO.noDirect[0], wishes.noDirect === true ? 1 : 0);
  const onLoss = wishes.onLoss ?? "";
  view.setUint8(PROCESS_HELLO.onLoss[0], onLoss === "" ? 0 : onLossNumber(onLoss));
  body.set(encodeText(session), PROCESS_HELLO.session[0]);
  return encodeHandshake(Kind.HELLO, body);
}
