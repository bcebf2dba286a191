/**
 * The server without its sockets: takes the bytes that links receive, gives every ordered operation its place, applies
 * it to the authoritative copy and hands out the bytes to send. It is the embedded engine behind `OrderedLog`.
 *
 * Invariants: the entries handed to `broadcast` are the order, each once, in sequence; a link gets them from the
 * snapshot in its WELCOME on, with none missing; an operation that breaks a rule of its frame ends its link and leaves
 * no trace; the parts of a publication lie in the order one behind the other.
 *
 * A node has its place while its connection is broken. Invariants: what a node has not applied yet is in the tail, as
 * long as it has its place; a node's operations enter the order once each, in the order of their running numbers; a node
 * that was given up gets no place any more, so whoever was told of its loss is never contradicted.
 */
import { Activity } from "./activity.ts";
import type { LockStatus, SemaphoreStatus, ServerStatus } from "./directory.ts";
import { Status } from "./errors.ts";
import { FrameReader, PartPool } from "./frames.ts";
import { Borrowed, encodeAccept, type Sharing } from "./lending.ts";
import {
  ACK_BYTES,
  CHANNELS_MAX,
  FRAME_MAX,
  GREETING_FRAME_MAX,
  HEARTBEAT_TIMEOUT_MIN_MS,
  LINKS_MAX,
  MEMORY_READ_MAX,
  NODE_NUMBER_MAX,
  NODES_MAX,
  PICTURES_MAX,
  RECONNECT_TIMEOUT_MAX_MS,
  SHOWN_MAX,
  TAIL_HIGH,
  WAITERS_SHOWN_MAX,
} from "./limits.ts";
import { checkOnLoss, type OnLoss } from "./loss.ts";
import { type ApplyRuns, MapBytes } from "./memory.ts";
import { checkName } from "./names.ts";
import { checkOrder, type Order } from "./order.ts";
import { Picture } from "./picture.ts";
import {
  bodyText,
  ChangeOp,
  checkGreeting,
  checkOperation,
  encode,
  encodeJson,
  encodeText,
  getUint64,
  HEADER_SIZE,
  Kind,
  NO_TAG,
  PingOp,
  ProtocolError,
  PublishOp,
  StatusOp,
  setUint64,
} from "./protocol.ts";
import type { Recovered } from "./recovery.ts";
import { bringsMap, type Effects, GIVEN_UP, Session, type SessionConfig, type SessionSnapshot } from "./session.ts";
import { Tail } from "./tail.ts";
import type { TraceBuffer, TraceInfo } from "./trace.ts";

export interface SequencerOutput {
  /** To one link. */
  send(link: number, bytes: Uint8Array): void;
  /**
   * To every welcomed link but `except`. `bytes` is valid during the call only; or, with `sent`, until that is called:
   * when all links have it, or are gone.
   */
  broadcast(bytes: Uint8Array, sent?: () => void, except?: number): void;
  /** From now on the link gets what is broadcast. It is broken when nothing comes for so long; 0: never. */
  welcomed(link: number, heartbeatMs: number): void;
  /** Null, or left out: parts of publications are not lent to the link, nor taken from it. */
  sharing?(link: number): Sharing | null;
  /** From now on the link may be sent the references of parts instead of the parts. */
  borrows?(link: number): void;
  /** Close the link after what was sent. */
  close(link: number): void;
  /**
   * A node has left, and its arbiter waits for the end of the link. Whether to let it wait until the session ends, because the
   * server ends with that arbiter's process, but not all others do. Both by what arbiters say of their processes.
   */
  detains?(leaver: string, others: string[]): boolean;
  /** Close the link at once: its node has another one. */
  drop(link: number): void;
  /** The node's connection is broken. It is to be given up if it does not come back in time, or its process ends. */
  away(node: number, place: AwayNode): void;
  /** It came back, or is given up. */
  settled(node: number): void;
  /** Another server has taken over: nobody listens to this one any more. */
  replaced(): void;
  /** The session has ended; what was broadcast is to be delivered first. */
  ended(): void;
  /** The session is to end: the daemon asks for it. */
  stop(): void;
}

/** What an arbiter says of itself in its HELLO. */
export interface NodeHello {
  session: string;
  node: string;
  /** What its first process expects, or 0. */
  processes: number;
  size: number;
  /** "" expects nothing. */
  order: Order | "";
  /** "" expects nothing. */
  onLoss: OnLoss | "";
  /** The session is to be elastic; left out: whatever it is. */
  elastic?: boolean;
  /** Chosen by the arbiter, at most 64 bytes: what it shows when it comes back. "": it will not. */
  secret: string;
  /** How long its place is to be kept while its connection is broken, at most RECONNECT_TIMEOUT_MAX_MS; 0: not at all. */
  reconnectMs: number;
  /** How long its connection may be silent before it counts as broken, at least HEARTBEAT_TIMEOUT_MIN_MS; 0: forever. */
  heartbeatMs: number;
  /** Which process the arbiter is, at most 200 bytes: whoever is on its host can see whether that one lives. "": unknown. */
  process: string;
  /** Of an arbiter that comes back. */
  resume: Resume | null;
}

/** Where an arbiter that comes back is. */
export interface Resume {
  instance: string;
  node: number;
  /** The last entry it got from a server. */
  seq: number;
  /** The last entry it has applied: beyond `seq` only what it decided itself in direct mode. */
  applied: number;
  /** Which server ordered the last entry it has, and the newest server it has turned to: it follows no older one. */
  epoch: number;
  promised: number;
  /** Whether it has the bytes of the map: a node that came after the start of the session has not. */
  whole: boolean;
  /** As far as it knows: the nodes with processes, and whether some may still join. */
  nodes: number[];
  joining: boolean;
}

export interface AwayNode {
  reconnectMs: number;
  process: string;
}

export interface Welcome {
  node: number;
  snapshot: SessionSnapshot;
  /** Which server of the session this is, from 1. */
  epoch: number;
  /** The last entry before each epoch. */
  starts: number[];
  /** Entries behind this one follow: up to the snapshot they are for nodes that may lack them if the server is lost. */
  base: number;
}

/** The answer to an arbiter that comes back; the entries it lacks follow. */
export interface Resumed {
  node: number;
  /** How many of its proposals are in the order: it is to send the others again. */
  ordered: number;
  epoch: number;
  starts: number[];
}

/** The answer to a STATUS frame: what the directory shows, and more for those who ask the server itself. */
export interface StatusReport extends ServerStatus {
  name: string;
  phase: string;
  order: Order;
  onLoss: OnLoss;
  elastic: boolean;
  direct: boolean;
  size: number;
  base: string;
  processes: number;
  nodes: string[];
}

/** A node that belongs to the session, connected or not. */
interface Place extends AwayNode {
  node: number;
  name: string;
  secret: string;
  /** -1 while it is away. */
  link: number;
  /** The last entry it is known to have applied. */
  applied: number;
  /** Running number of the last proposal taken from it. */
  taken: number;
  /** When it was asked for an answer that has not come; NaN: it was not. */
  asked_ms: number;
  /** NaN: not measured. */
  roundTrip_ms: number;
}

interface Link {
  id: number;
  reader: FrameReader;
  /** -1 until welcomed. */
  node: number;
  /** Told to come back when the session has ended. */
  waiting: boolean;
  /** Parts of publications that are not complete, by tag. */
  staged: Map<number, Uint8Array<ArrayBuffer>[]>;
  /** Their bytes, by the rank that publishes. */
  stagedBytes: Map<number, number>;
  /** Parts that were gone before they were copied: their publication was abandoned, by tag. */
  missed: Set<number>;
  /** Memory in which its parts lie. */
  borrowed: Borrowed;
  /** Joins that wait for the end of direct mode: see change-over.ts. */
  held: number;
}

/** A page costs at most an eighth more than it has bytes (RUNS_PAGE_MAX in runs.h); more is no honest publication. */
export const STAGED_PER_MAP_BYTE = 1.25;

/**
 * Most bytes of unfinished publications of one process: it may fill several holes at once, but they do not overlap.
 * Arbiters hold their processes to it; the server does not rely on that.
 */
export const stagedLimit = (mapSize: number): number => mapSize * STAGED_PER_MAP_BYTE + FRAME_MAX;

/** What is ordered also for whom has no rank: joins, ends, and what is the node's. */
const RANKLESS: ReadonlySet<number> = new Set([Kind.JOIN, Kind.LEAVE, Kind.COPY]);
const GREETINGS: ReadonlySet<number> = new Set([Kind.HELLO, Kind.STATUS, Kind.SNAPSHOT, Kind.TRACE]);
const UNMEASURED = { asked_ms: Number.NaN, roundTrip_ms: Number.NaN };

/** What to do about a second arbiter of one node: its processes did not find the first one's socket. */
const ANOTHER_ARBITER =
  "set DSM_NODE to another name, or let containers of one node share /dev/shm and /tmp (or XDG_RUNTIME_DIR)";

const NO_EFFECTS = { watching: false, wrote(): void {}, complete(): void {}, ranked(): void {}, gone(): void {} };

export class Sequencer {
  readonly session: Session;
  readonly #out: SequencerOutput;
  readonly #links = new Map<number, Link>();
  readonly #memory: MapBytes;
  /** Pictures being sent, by link. */
  readonly #pictures = new Map<number, Picture>();
  /** By node number. */
  readonly #places = new Map<number, Place>();
  #nextNode = 1;
  /** Whether something of the order has not been sent that is waited for: see mayOnlyWait(). */
  #due = false;
  readonly #epoch: number;
  readonly #starts: number[];
  readonly #tail: Tail;
  /** Bytes of the order since the nodes were last told how far all of them are. */
  #untold = 0;
  #hadProcess = false;
  readonly #parts: PartPool;
  readonly #activity: Activity;
  /** What the links' held counts, in the order in which it came. */
  #held: { link: Link; frame: Uint8Array }[] = [];
  /** Who traces the session, and what it has not been sent. */
  #trace: { link: number; buffer: TraceBuffer } | null = null;

  /** `recovered`: what a server that takes over has learnt; `memory` then holds the bytes of the map. */
  constructor(
    config: SessionConfig,
    memory: Uint8Array,
    out: SequencerOutput,
    applyRuns: ApplyRuns | null = null,
    recovered: Recovered | null = null,
    now_ms = 0,
    parts: PartPool = new PartPool(),
  ) {
    this.#out = out;
    this.#parts = parts;
    const activity = new Activity(config.size, now_ms, recovered !== null);
    this.#activity = activity;
    const effects: Effects = {
      ...NO_EFFECTS,
      complete: (node, tag) => {
        this.#due = true;
        activity.completed(node, tag);
      },
      ranked: (_node, _tag, rank) => {
        this.#hadProcess = true;
        activity.ranked(rank);
      },
      gone: (_node, rank) => activity.gone(rank),
      ended: () => {
        this.#flush();
        for (const link of this.#links.values()) {
          if (link.waiting) this.#fail(link, Status.ENDED, `session "${config.name}" has ended`);
        }
        out.ended();
      },
    };
    this.#epoch = recovered?.epoch ?? 1;
    this.#starts = recovered?.starts ?? [0];
    this.#tail = recovered?.tail ?? new Tail(0, true);
    const map = new MapBytes(memory, applyRuns);
    this.#memory = map;
    this.session =
      recovered === null ? new Session(config, map, effects) : Session.restore(recovered.snapshot, map, effects);
    if (recovered !== null) this.#takeOver(recovered);
  }

  /** The nodes that have reported get their places; whoever was waited for in vain is lost. */
  #takeOver({ snapshot, nodes }: Recovered): void {
    this.#hadProcess = true;
    this.#nextNode = Math.max(1, snapshot.ordered.length);
    for (const hello of nodes) {
      const { node, seq } = hello.resume as Resume;
      this.#nextNode = Math.max(this.#nextNode, node + 1);
      if (this.session.orderedOf(node) === GIVEN_UP) continue;
      const { secret, reconnectMs, process } = hello;
      const place = { node, name: hello.node, secret, reconnectMs, process, ...UNMEASURED };
      this.#places.set(node, { ...place, link: -1, applied: Math.max(seq, this.#tail.base), taken: 0 });
    }
    for (const node of this.session.nodes) if (!this.#places.has(node)) this.#lose(node);
    for (const place of this.#places.values()) this.#out.away(place.node, place);
  }

  /** What time it is, for what status() says: in milliseconds since 1970, not going back. */
  set clock(now_ms: number) {
    this.#activity.now_ms = now_ms;
  }

  /** Whether any process ever joined. */
  get hadProcess(): boolean {
    return this.#hadProcess;
  }

  /** A new connection. False: too many, close it. */
  connect(id: number): boolean {
    if (this.#links.size >= LINKS_MAX) return false;
    this.#links.set(id, {
      id,
      reader: new FrameReader(GREETING_FRAME_MAX, this.#parts),
      node: -1,
      waiting: false,
      staged: new Map(),
      stagedBytes: new Map(),
      missed: new Set(),
      borrowed: new Borrowed(),
      held: 0,
    });
    return true;
  }

  /** Whether nextPiece() has something to send on the link. */
  hasPicture(id: number): boolean {
    return this.#pictures.has(id);
  }

  /** Whether the link traces the session. */
  traces(id: number): boolean {
    return this.#trace?.link === id;
  }

  /** Sends who traces what has happened since it was last sent something; `always`: also that nothing has. */
  sendTrace(always: boolean): void {
    if (this.#trace === null) return;
    const { link, buffer } = this.#trace;
    const { records, dropped } = buffer.take();
    if (!always && records.length === 0 && dropped === 0) return;
    this.#out.send(link, encode({ kind: Kind.TRACE, aux: Math.min(dropped, 0xffffffff), body: records }));
  }

  /** Whether the link is a node of the session. */
  isWelcomed(id: number): boolean {
    return (this.#links.get(id)?.node ?? -1) >= 0;
  }

  receive(id: number, chunk: Uint8Array): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    try {
      link.reader.push(chunk, (view, at, size, bytes) => this.#frame(link, view, at, size, bytes));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#fail(link, error.status, error.message);
    }
    if (this.#due) this.#flush();
  }

  /** Whether everybody is to wait for a node that is away, because no more of what it will need can be kept. */
  get full(): boolean {
    if (this.#tail.bytes <= TAIL_HIGH) return false;
    for (const place of this.#places.values()) if (place.link < 0) return true;
    return false;
  }

  /** Whether some node may still come for the rest of the order. */
  get awaited(): boolean {
    for (const place of this.#places.values()) if (place.link < 0) return true;
    return false;
  }

  /** The connection is gone. Its node may come back, unless it is known to be `gone`: then its processes are lost. */
  disconnect(id: number, gone = false): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    this.#pictures.get(id)?.end();
    this.#pictures.delete(id);
    if (this.traces(id)) {
      this.#trace = null;
      this.#activity.endTrace();
    }
    this.#forget(link);
    this.#forgetHeld(link);
    const place = this.#places.get(link.node);
    if (place === undefined) return;
    place.link = -1;
    place.asked_ms = Number.NaN;
    if (gone || place.reconnectMs === 0) this.giveUp(place.node);
    else this.#out.away(place.node, { reconnectMs: place.reconnectMs, process: place.process });
  }

  /** Nothing more comes from the link. */
  #forget(link: Link): void {
    for (const parts of link.staged.values()) for (const part of parts) this.#parts.give(part);
    link.staged.clear();
    link.reader.end();
    link.borrowed.close();
  }

  /** The node will not come back: its processes are lost. */
  giveUp(node: number): void {
    const place = this.#places.get(node);
    if (place === undefined || place.link >= 0) return;
    this.#places.delete(node);
    this.#lose(node);
    this.#out.settled(node);
    this.#trim();
  }

  #lose(node: number): void {
    for (const rank of this.session.presentOn(node)) {
      const frame = encode({ kind: Kind.LEAVE, op: 1, rank, node, tag: NO_TAG, aux: 1 });
      this.#append(frame, new DataView(frame.buffer), 0, frame.length);
    }
    this.#flush();
  }

  /** Says on a link that we are there, and how far all nodes are; and measures how long its answer takes. */
  beat(id: number): void {
    const place = this.#places.get(this.#links.get(id)?.node ?? -1);
    if (place === undefined) return;
    const op = Number.isNaN(place.asked_ms) ? PingOp.ASK : PingOp.BEAT;
    if (op === PingOp.ASK) place.asked_ms = this.#activity.now_ms;
    this.#out.send(id, encode({ kind: Kind.PING, op, offset: this.#tail.base }));
  }

  /** Asks all nodes that are not asked already: somebody looks at the session, and is to see what is now. */
  #measure(): void {
    for (const { link, asked_ms } of this.#places.values()) if (link >= 0 && Number.isNaN(asked_ms)) this.beat(link);
  }

  #fail(link: Link, status: Status, message: string): void {
    this.#out.send(link.id, encode({ kind: Kind.FAIL, op: status, body: encodeText(message) }));
    this.disconnect(link.id, true);
    this.#out.close(link.id);
  }

  /** All nodes have applied the order up to here, or so they say. */
  #trim(): void {
    let applied = this.session.seq;
    for (const place of this.#places.values()) applied = Math.min(applied, place.applied);
    if (applied <= this.#tail.base) return;
    const before = this.#tail.bytes;
    this.#tail.drop(applied);
    this.#untold += before - this.#tail.bytes;
    if (this.#untold < ACK_BYTES) return;
    this.#untold = 0;
    for (const { link } of this.#places.values()) if (link >= 0) this.beat(link);
  }

  #frame(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + 4);
    if (link.node >= 0) {
      this.#operation(link, kind, view, at, size, bytes);
      return;
    }
    if (!this.#links.has(link.id)) return;
    if (!GREETINGS.has(kind)) throw new ProtocolError("the peer did not greet");
    checkGreeting(view, at);
    if (this.#pictures.has(link.id)) throw new ProtocolError("a snapshot is under way on this connection");
    if (this.traces(link.id)) throw new ProtocolError("a trace is under way on this connection");
    if (kind === Kind.STATUS) {
      this.#tell(link, view, at, bytes);
      return;
    }
    if (kind === Kind.SNAPSHOT) {
      this.#picture(link);
      return;
    }
    if (kind === Kind.TRACE) {
      this.#beginTrace(link);
      return;
    }
    const length = Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE);
    const hello = parseHello(bodyText(bytes, at + HEADER_SIZE, length));
    if (hello.resume === null) this.#hello(link, hello);
    else this.#resume(link, hello, hello.resume);
  }

  #tell(link: Link, view: DataView, at: number, bytes: Uint8Array): void {
    const op = view.getUint8(at + 5);
    if (op > StatusOp.END) throw new ProtocolError("no such status");
    if (op === StatusOp.END) {
      checkEnd(view, at, bytes, this.session.config);
      this.#out.send(link.id, encode({ kind: Kind.REPLY }));
      this.#out.stop();
      return;
    }
    const body = op === StatusOp.MEMORY ? this.#read(view, at) : encodeJson(this.status(op === StatusOp.HEAT));
    this.#out.send(link.id, encode({ kind: Kind.REPLY, op: Status.OK, seq: this.session.seq, body }));
    if (op !== StatusOp.MEMORY) this.#measure();
  }

  /** The bytes of the map that a STATUS asks for, as they are now. */
  #read(view: DataView, at: number): Uint8Array {
    const { session } = this;
    if (session.direct) {
      throw new ProtocolError(
        `session "${session.config.name}" is in direct mode: the server does not have its bytes; run it with DSM_DIRECT=0`,
        Status.REFUSED,
      );
    }
    if (view.getUint32(at, true) < HEADER_SIZE + 16) throw new ProtocolError("no place in the map");
    const offset = getUint64(view, at + HEADER_SIZE);
    const length = getUint64(view, at + HEADER_SIZE + 8);
    if (!(length <= MEMORY_READ_MAX && offset + length <= session.config.size)) {
      throw new ProtocolError("the map has no such bytes", Status.INVALID);
    }
    return this.#memory.bytes.subarray(offset, offset + length);
  }

  #hello(link: Link, hello: NodeHello): void {
    const { config } = this.session;
    if (hello.session !== config.name) {
      throw new ProtocolError(`this server has session "${config.name}", not "${hello.session}"`, Status.REFUSED);
    }
    if (this.session.phase === "ended") throw new ProtocolError(`session "${config.name}" has ended`, Status.ENDED);
    const mismatch = checkExpectations(config, hello.processes, hello.size, hello.order, hello.onLoss, hello.elastic);
    if (mismatch !== null) throw new ProtocolError(mismatch, Status.MISMATCH);
    for (const other of this.#places.values()) {
      // A node whose processes are all gone is only closing its connection still. In direct mode we hear of that last.
      const leaving = this.session.direct || this.session.presentOn(other.node).length === 0 || other.link < 0;
      if (other.name === hello.node && leaving) {
        throw new ProtocolError(
          `node "${hello.node}" is in session "${config.name}" already, or just leaving it; ${ANOTHER_ARBITER}`,
          Status.AGAIN,
        );
      }
      if (other.name === hello.node) {
        throw new ProtocolError(
          `node "${hello.node}" is in session "${config.name}" already; ${ANOTHER_ARBITER}`,
          Status.REFUSED,
        );
      }
    }
    if (this.#places.size >= NODES_MAX) {
      throw new ProtocolError(`the session has ${NODES_MAX} nodes, the limit`, Status.LIMIT);
    }
    if (this.#nextNode > NODE_NUMBER_MAX) throw new ProtocolError("the session has had too many nodes", Status.LIMIT);
    const node = this.#nextNode;
    this.#nextNode += 1;
    const { secret, reconnectMs, process } = hello;
    const place = { node, name: hello.node, secret, reconnectMs, process, ...UNMEASURED };
    const { base } = this.#tail;
    this.#places.set(node, { ...place, link: link.id, applied: base, taken: 0 });
    const about = { epoch: this.#epoch, starts: this.#starts, base };
    const welcome: Welcome = { node, snapshot: this.session.snapshot(), ...about };
    this.#welcome(link, hello, node, encode({ kind: Kind.WELCOME, body: encodeJson(welcome) }));
    // At once and ahead of all entries. In an elastic session that runs others wait while much of it is on its way.
    if (bringsMap(welcome.snapshot)) this.#sendMap(link);
    for (const piece of this.#tail.after(base)) this.#out.send(link.id, piece);
  }

  #sendMap(link: Link): void {
    const picture = new Picture(this.#memory, this.session.seq);
    for (let frame = picture.next(); frame !== null; frame = picture.next()) this.#out.send(link.id, frame);
  }

  #beginTrace(link: Link): void {
    const { session } = this;
    if (this.#trace !== null) throw new ProtocolError("somebody traces the session already; try again", Status.LIMIT);
    const info: TraceInfo = {
      ...{ session: session.config.name, time_ms: this.#activity.now_ms, direct: session.direct },
      ranks: session.report().map(({ rank, node, pid }) => ({ rank, node, pid })),
    };
    this.#out.send(link.id, encode({ kind: Kind.REPLY, body: encodeJson(info) }));
    this.#trace = { link: link.id, buffer: this.#activity.beginTrace() };
  }

  /** Begins a picture, which the shell then takes piece by piece with nextPiece(). */
  #picture(link: Link): void {
    const { session } = this;
    if (session.direct) {
      throw new ProtocolError(
        `session "${session.config.name}" is in direct mode: the server does not have its bytes; run it with DSM_DIRECT=0`,
        Status.REFUSED,
      );
    }
    if (this.#pictures.size >= PICTURES_MAX) {
      throw new ProtocolError(`${PICTURES_MAX} snapshots of the session are being taken; try again`, Status.LIMIT);
    }
    this.#out.send(link.id, encode({ kind: Kind.REPLY, body: encodeJson(session.image()) }));
    this.#pictures.set(link.id, new Picture(this.#memory, session.seq));
  }

  /** Sends the next piece of the link's picture. False: there is none, or this was the last. */
  nextPiece(id: number): boolean {
    const picture = this.#pictures.get(id);
    const frame = picture?.next() ?? null;
    if (picture === undefined || frame === null) return false;
    this.#out.send(id, frame);
    if (picture.done) this.#pictures.delete(id);
    return !picture.done;
  }

  /** From here on the link gets what is broadcast. */
  #welcome(link: Link, { heartbeatMs }: NodeHello, node: number, welcome: Uint8Array): void {
    this.#flush();
    link.node = node;
    link.reader.limit = FRAME_MAX;
    this.#out.welcomed(link.id, heartbeatMs);
    this.#out.send(link.id, welcome);
  }

  #resume(link: Link, hello: NodeHello, { instance, node, seq, applied, epoch, promised }: Resume): void {
    const { session } = this;
    if (promised > this.#epoch) {
      this.#out.replaced();
      throw new ProtocolError("this server was replaced by another", Status.AGAIN);
    }
    const place = this.#places.get(node);
    if (instance !== session.config.instance) {
      throw new ProtocolError(`session "${session.config.name}" has ended`, Status.ENDED);
    }
    if (place === undefined || place.secret === "" || place.secret !== hello.secret) {
      const why = "was away too long; its processes count as lost";
      throw new ProtocolError(`node "${hello.node}" ${why}`, Status.UNREACHABLE);
    }
    const ordered = session.orderedOf(node);
    // It cannot know more than we gave it, but for what it decided by itself.
    const decides = session.direct && session.presentOn(node).length > 0;
    const most = epoch < this.#epoch ? (this.#starts[epoch] as number) : session.seq;
    const isPrefix = epoch <= this.#epoch && seq <= most && (applied <= most || decides);
    if (ordered === GIVEN_UP || seq < place.applied || !isPrefix) {
      throw new ProtocolError(`node "${hello.node}" has another order than the server`);
    }
    if (place.link >= 0) this.#replace(place.link);
    else this.#out.settled(node);
    place.link = link.id;
    place.asked_ms = Number.NaN;
    place.taken = ordered;
    const resumed: Resumed = { node, ordered, epoch: this.#epoch, starts: this.#starts };
    this.#welcome(link, hello, node, encode({ kind: Kind.WELCOME, op: 1, body: encodeJson(resumed) }));
    for (const piece of this.#tail.after(seq)) this.#out.send(link.id, piece);
    this.#taken(place, seq);
    this.#askToChange();
  }

  /** The node has noticed before us that its old connection is broken. */
  #replace(id: number): void {
    const link = this.#links.get(id);
    this.#links.delete(id);
    if (link !== undefined) {
      this.#forgetHeld(link);
      this.#forget(link);
    }
    this.#out.drop(id);
  }

  #taken(place: Place, applied: number): void {
    if (!(applied > place.applied && applied <= this.session.seq)) return;
    place.applied = applied;
    this.#flush();
    this.#trim();
  }

  #ping(link: Link, view: DataView, at: number): void {
    const place = this.#places.get(link.node) as Place;
    const op = view.getUint8(at + 5);
    if (op === PingOp.LEAVING) {
      this.disconnect(link.id, true);
      const others = [...this.#places.values()].map(({ process }) => process);
      // Of an elastic session processes come and go: there nobody waits for others.
      const detained = this.session.config.elastic !== true && this.#out.detains?.(place.process, others) === true;
      if (!detained) this.#out.close(link.id);
      return;
    }
    if (op === PingOp.ANSWER && !Number.isNaN(place.asked_ms)) {
      place.roundTrip_ms = this.#activity.now_ms - place.asked_ms;
      place.asked_ms = Number.NaN;
    }
    this.#taken(place, getUint64(view, at + 24));
  }

  #operation(link: Link, kind: number, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    if (!this.#links.has(link.id)) return;
    if (kind === Kind.PING) {
      this.#ping(link, view, at);
      return;
    }
    if (kind === Kind.SHARE) {
      this.#share(link, view, at);
      return;
    }
    if (kind === Kind.PUBLISH && view.getUint8(at + 5) === PublishOp.LENT) {
      this.#borrow(link, view, at);
      return;
    }
    this.#checked(link, kind, view, at, size, bytes, null);
  }

  /** Who is on our host offers memory, or has taken what we offered. */
  #share(link: Link, view: DataView, at: number): void {
    const sharing = this.#out.sharing?.(link.id) ?? null;
    const heard = link.borrowed.heard(sharing, view, at);
    if (heard === "borrows") this.#out.borrows?.(link.id);
    if (heard !== "lends" || sharing === null) return;
    this.#out.send(link.id, encodeAccept());
    const offer = this.#parts.offer(sharing);
    if (offer !== null) this.#out.send(link.id, offer);
  }

  /** A part that lies in memory of the link's node. */
  #borrow(link: Link, view: DataView, at: number): void {
    const tag = view.getUint32(at + 8, true);
    const part = link.borrowed.copy(view, at, this.#parts);
    if (part === null) {
      if (link.missed.size === CHANNELS_MAX) throw new ProtocolError("publish: too many parts are gone");
      link.missed.add(tag);
      return;
    }
    try {
      const partView = new DataView(part.buffer, part.byteOffset, part.length);
      this.#checked(link, Kind.PUBLISH, partView, 0, part.length, part, part);
    } finally {
      if (link.staged.get(tag)?.at(-1) !== part) this.#parts.give(part);
    }
  }

  /** `part`: the frame is ours, and may be kept. */
  #checked(
    link: Link,
    kind: number,
    view: DataView,
    at: number,
    size: number,
    bytes: Uint8Array,
    part: Uint8Array<ArrayBuffer> | null,
  ): void {
    const wrong = checkOperation(view, at, this.session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    if (view.getUint32(at + 12, true) !== link.node) throw new ProtocolError("an operation of another node");
    if (kind === Kind.JOIN) this.#checkNodeName(link, view, at, bytes);
    if (this.session.phase === "ended") return;
    if (!this.#isNext(link, kind, view, at)) return;
    if (this.session.direct && !this.#isDirectNode(link)) {
      if (this.session.config.elastic === true) this.#hold(link, kind, new Uint8Array(bytes.subarray(at, at + size)));
      else this.#turnAway(link);
      return;
    }
    if (kind === Kind.COPY && !(this.session.direct && this.session.config.elastic === true))
      throw new ProtocolError("a copy of a map outside direct mode");
    // A rank that the order has already seen go may still have had requests on their way.
    const abandons = kind === Kind.PUBLISH && view.getUint8(at + 5) === PublishOp.ABANDON;
    const needsRank = !RANKLESS.has(kind) && !abandons;
    if (needsRank && !this.session.mayIssue(view.getUint16(at + 6, true), link.node)) return;
    if (kind === Kind.PUBLISH) this.#publish(link, view, at, size, bytes, part);
    else this.#append(bytes, view, at, size);
  }

  /** Everybody is shown the name that a JOIN has: it is the one of the node's greeting, which was checked. */
  #checkNodeName(link: Link, view: DataView, at: number, bytes: Uint8Array): void {
    const name = bodyText(bytes, at + HEADER_SIZE, view.getUint32(at + 32, true));
    if (name !== this.#places.get(link.node)?.name) throw new ProtocolError("a process of a node of another name");
  }

  /** Whether the operation is to be ordered now: one that was ordered before is not ordered twice. */
  #isNext(link: Link, kind: number, view: DataView, at: number): boolean {
    if (kind === Kind.PUBLISH && view.getUint8(at + 5) !== PublishOp.LAST) return true;
    const place = this.#places.get(link.node) as Place;
    const number = getUint64(view, at + 16);
    if (number > 0 && number <= place.taken) return false;
    if (number !== place.taken + 1) throw new ProtocolError("an operation is missing");
    place.taken = number;
    return true;
  }

  /** In direct mode the one node decides for itself and tells us; nothing may come in between from others. */
  #isDirectNode(link: Link): boolean {
    return this.session.presentOn(link.node).length > 0;
  }

  /** Another node's process is one too many, or early for the next session: then it hears from us when this one ends. */
  #turnAway(link: Link): void {
    if (this.session.everybodyHere) {
      throw new ProtocolError("the session has all its processes already; this is one too many", Status.FULL);
    }
    link.waiting = true;
  }

  /** It waits until the one node has changed over. */
  #hold(link: Link, kind: number, frame: Uint8Array): void {
    // A node without processes has nothing else to ask for.
    if (kind !== Kind.JOIN) return;
    if (link.held >= CHANNELS_MAX) throw new ProtocolError("too many requests under way");
    link.held += 1;
    this.#held.push({ link, frame });
    this.#askToChange();
  }

  /** Again and again: whoever changes over already knows. */
  #askToChange(): void {
    if (this.#held.length === 0) return;
    this.#flush();
    for (const node of this.session.nodes) {
      const link = this.#places.get(node)?.link ?? -1;
      if (link >= 0) this.#out.send(link, encode({ kind: Kind.CHANGE, op: ChangeOp.CLOSE }));
    }
  }

  #forgetHeld(link: Link): void {
    if (link.held > 0) this.#held = this.#held.filter((one) => one.link !== link);
    link.held = 0;
  }

  /** Direct mode is over: whoever waited for that joins, in the order in which they came. */
  #admit(): void {
    for (const { link, frame } of this.#held.splice(0)) {
      link.held = 0;
      this.#append(frame, new DataView(frame.buffer), 0, frame.length);
    }
  }

  #publish(
    link: Link,
    view: DataView,
    at: number,
    size: number,
    bytes: Uint8Array,
    part: Uint8Array<ArrayBuffer> | null,
  ): void {
    const tag = view.getUint32(at + 8, true);
    const op = view.getUint8(at + 5);
    const more = op === PublishOp.MORE;
    const parts = link.staged.get(tag);
    if (op === PublishOp.ABANDON) {
      for (const part of parts ?? []) {
        unstage(link, part);
        this.#parts.give(part);
      }
      link.staged.delete(tag);
      link.missed.delete(tag);
      return;
    }
    if (!more && link.missed.has(tag)) throw new ProtocolError("publish: a part was gone before it was copied");
    if (!more && parts === undefined) {
      this.#append(bytes, view, at, size);
      return;
    }
    const all = parts ?? [];
    if (more) {
      const rank = view.getUint16(at + 6, true);
      const bytesOfRank = (link.stagedBytes.get(rank) ?? 0) + size;
      if (bytesOfRank > stagedLimit(this.session.config.size)) {
        throw new ProtocolError("a publication larger than the map can be", Status.LIMIT);
      }
      link.stagedBytes.set(rank, bytesOfRank);
      all.push(part ?? link.reader.take(at, size, bytes));
      link.staged.set(tag, all);
      return;
    }
    link.staged.delete(tag);
    this.#flush();
    const seq = this.session.seq + 1;
    const toApply = all.map((part) => {
      // The part goes to all links as it is: a large publication lies in memory once, however many are behind.
      const partView = new DataView(part.buffer, part.byteOffset, part.length);
      unstage(link, part);
      setUint64(partView, 16, seq);
      let users = 3;
      const done = (): void => {
        users -= 1;
        if (users === 0) this.#parts.give(part);
      };
      this.#tail.adopt(part, seq, done);
      // Its own node has the bytes, and applies them when the last part comes back.
      this.#out.broadcast(part, done, link.id);
      return { partView, done };
    });
    this.#push(bytes, view, at, size);
    // All of it: so the nodes apply it while we do.
    this.#flush();
    for (const { partView, done } of toApply) {
      const before = this.session.published;
      this.session.apply(partView, 0);
      this.#activity.appliedPart(partView, 0, this.session.published - before);
      done();
    }
    this.#apply(view, at);
  }

  /** Gives the frame its place, and applies it here. All parts of a publication have the place of the last. */
  #append(bytes: Uint8Array, view: DataView, at: number, size: number): void {
    this.#push(bytes, view, at, size);
    this.#apply(view, at);
  }

  #push(bytes: Uint8Array, view: DataView, at: number, size: number): void {
    this.#tail.push(view, bytes, at, size, this.session.seq + 1);
    // In direct mode the node has decided before us, and wants to hear that we follow.
    if (this.session.direct || !mayOnlyWait(view.getUint8(at + 4))) this.#due = true;
  }

  #apply(view: DataView, at: number): void {
    const { session } = this;
    const { published, phase, direct: wasDirect } = session;
    this.#activity.begins(view, at);
    session.apply(view, at);
    this.#activity.applied(view, at, session.published - published);
    if (phase === "joining" && session.phase !== phase) this.#activity.started();
    if (wasDirect && !session.direct) this.#admit();
  }

  #flush(): void {
    this.#due = false;
    for (const entries of this.#tail.fresh()) this.#out.broadcast(entries);
  }

  status(withHeat = false): StatusReport {
    const { session } = this;
    const activity = this.#activity;
    const { name, instance, size, base, processes } = session.config;
    const roundTrips = new Map([...this.#places.values()].map(({ name, roundTrip_ms }) => [name, roundTrip_ms]));
    const ranks = session.report().map((report) => {
      const { rank, node, state, on } = report;
      const roundTrip_ms = roundTrips.get(node) ?? Number.NaN;
      return {
        ...report,
        stateMs: Math.round(activity.stateMs(rank, state, on)),
        entries: activity.entries[rank] as number,
        bytes: activity.bytes[rank] as number,
        lastWriteMs: rounded(activity.lastWriteMs(rank)),
        roundTripUs: Number.isNaN(roundTrip_ms) ? null : Math.round(roundTrip_ms * 1000),
      };
    });
    const named = session.blocks.filter(({ name }) => name !== "");
    const shown = new Shown();
    return {
      name,
      instance,
      epoch: this.#epoch,
      phase: session.phase,
      started: session.phase !== "joining",
      order: session.config.order,
      onLoss: session.config.onLoss,
      elastic: session.config.elastic === true,
      direct: session.direct,
      size,
      base: `0x${base.toString(16)}`,
      processes,
      present: ranks.filter(({ state }) => state !== "left" && state !== "lost").length,
      entries: session.seq,
      bytes: session.published,
      nodes: [...this.#places.values()].map(({ name }) => name),
      ranks,
      time_ms: Math.floor(activity.now_ms),
      started_ms: Math.round(activity.running_ms),
      barriers: session.barriers,
      logBytes: this.#tail.bytes,
      ...shown.semaphores(session.semaphores()),
      ...shown.locks(session.locks().map((lock) => ({ ...lock, owner: lock.owner < 0 ? null : lock.owner }))),
      blocks: named.slice(0, SHOWN_MAX).map(({ name, offset, size }) => ({ name, offset, size })),
      blocksLeftOut: Math.max(0, named.length - SHOWN_MAX),
      ...(withHeat ? { heat: activity.heat() } : {}),
    };
  }
}

const rounded = (ms: number | null): number | null => (ms === null ? null : Math.round(ms));

/** Cuts lists down to what fits a frame: if not all fit, those for which somebody waits come first. */
class Shown {
  #waiters = WAITERS_SHOWN_MAX;

  semaphores(all: SemaphoreStatus[]): Pick<ServerStatus, "semaphores" | "semaphoresLeftOut"> {
    return { semaphores: this.#cut(all), semaphoresLeftOut: Math.max(0, all.length - SHOWN_MAX) };
  }

  locks(all: LockStatus[]): Pick<ServerStatus, "locks" | "locksLeftOut"> {
    return { locks: this.#cut(all), locksLeftOut: Math.max(0, all.length - SHOWN_MAX) };
  }

  #cut<Queue extends { waiters: number[] }>(all: Queue[]): Queue[] {
    const waitedFor = all.filter(({ waiters }) => waiters.length > 0);
    const others = all.filter(({ waiters }) => waiters.length === 0);
    const shown = all.length <= SHOWN_MAX ? all : [...waitedFor, ...others].slice(0, SHOWN_MAX);
    return shown.map((queue) => {
      // Several threads of a process may wait for the same.
      const waiters = [...new Set(queue.waiters)].slice(0, this.#waiters);
      this.#waiters -= waiters.length;
      return { ...queue, waiters };
    });
  }
}

/**
 * A request that only makes its process wait changes nothing that others can tell. Its entry goes out with the next one
 * that somebody waits for: a barrier wakes the arbiters once, not once for each process.
 */
const mayOnlyWait = (kind: number): boolean => kind === Kind.BARRIER || kind === Kind.SEM_WAIT;

function unstage(link: Link, part: Uint8Array): void {
  const rank = new DataView(part.buffer, part.byteOffset).getUint16(6, true);
  const left = (link.stagedBytes.get(rank) ?? 0) - part.length;
  if (left > 0) link.stagedBytes.set(rank, left);
  else link.stagedBytes.delete(rank);
}

/** Null, or how what a joiner expects differs from what the session has. 0 expects nothing. */
export function checkExpectations(
  config: SessionConfig,
  processes: number,
  size: number,
  order: Order | "",
  onLoss: OnLoss | "" = "",
  elastic = false,
): string | null {
  if (processes !== 0 && processes !== config.processes) {
    return `session "${config.name}" is for ${config.processes} processes, not ${processes}; give all the same number`;
  }
  if (size !== 0 && size !== config.size) {
    return `session "${config.name}" has a map of ${config.size} bytes, not ${size}; give all the same size`;
  }
  if (order !== "" && order !== config.order) {
    return `session "${config.name}" has the order ${config.order}, not ${order}; give all the same order`;
  }
  if (onLoss !== "" && onLoss !== config.onLoss) {
    return `session "${config.name}" answers a loss with ${config.onLoss}, not ${onLoss}; give all the same on_loss`;
  }
  if (elastic && config.elastic !== true) {
    return `session "${config.name}" is not elastic; its first process has to ask for that`;
  }
  return null;
}

/** Throws ProtocolError if a STATUS that asks for the end of a session means another one. */
export function checkEnd(view: DataView, at: number, bytes: Uint8Array, { name, instance }: SessionConfig): void {
  const meant = bodyText(bytes, at + HEADER_SIZE, view.getUint32(at + 32, true));
  if (meant !== instance) throw new ProtocolError(`this is another run of session "${name}"`, Status.REFUSED);
}

export function parseHello(text: string): NodeHello {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ProtocolError("the greeting is not JSON");
  }
  if (typeof value !== "object" || value === null) throw new ProtocolError("the greeting is not an object");
  const {
    session,
    node,
    processes,
    size,
    order,
    onLoss = "",
    elastic,
    secret = "",
    reconnectMs = 0,
    process = "",
  } = value as Record<string, unknown>;
  const { heartbeatMs = 0, resume = null } = value as Record<string, unknown>;
  if (typeof session !== "string" || typeof node !== "string") throw new ProtocolError("the greeting lacks a name");
  const bad = checkName("node", node);
  if (bad !== null) throw new ProtocolError(bad, Status.INVALID);
  if (!Number.isSafeInteger(processes) || !Number.isSafeInteger(size)) {
    throw new ProtocolError("the greeting lacks a number");
  }
  if (typeof order !== "string" || (order !== "" && checkOrder(order) !== null)) {
    throw new ProtocolError("the greeting lacks an order");
  }
  if (typeof onLoss !== "string" || (onLoss !== "" && checkOnLoss(onLoss) !== null)) {
    throw new ProtocolError("the greeting lacks an answer to losses");
  }
  if (typeof secret !== "string" || secret.length > 64 || typeof process !== "string" || process.length > 200) {
    throw new ProtocolError("the greeting lacks a secret or a process");
  }
  const wait = reconnectMs as number;
  if (!(Number.isSafeInteger(wait) && wait >= 0 && wait <= RECONNECT_TIMEOUT_MAX_MS)) {
    throw new ProtocolError("the greeting lacks a time to keep its place for");
  }
  const silence = heartbeatMs as number;
  if (!(silence === 0 || (Number.isSafeInteger(silence) && silence >= HEARTBEAT_TIMEOUT_MIN_MS))) {
    throw new ProtocolError("the greeting lacks a time to be silent");
  }
  return {
    ...{ session, node, secret, process, reconnectMs: wait, heartbeatMs: silence },
    ...{ processes: processes as number, size: size as number, order: order as Order | "" },
    ...{ onLoss: onLoss as OnLoss | "", elastic: elastic === true },
    resume: parseResume(resume),
  };
}

function parseResume(value: unknown): Resume | null {
  if (value === null) return null;
  const { instance, node, seq, applied, epoch, promised, whole, nodes, joining } = value as Record<string, unknown>;
  const numbers = [node, seq, applied, epoch, promised, ...(Array.isArray(nodes) ? nodes : [null])];
  const good =
    numbers.every((number) => Number.isSafeInteger(number) && (number as number) >= 0) &&
    typeof instance === "string" &&
    typeof whole === "boolean" &&
    typeof joining === "boolean";
  if (!good) throw new ProtocolError("the greeting does not say where its node is");
  return value as Resume;
}
