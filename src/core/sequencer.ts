/**
 * The server without its sockets: takes the bytes that links receive, gives every ordered operation its place, applies
 * it to the authoritative copy and hands out the bytes to send. It is the embedded engine behind `OrderedLog`.
 *
 * Invariants: the entries handed to `broadcast` are the order, each once, in sequence; a link gets them from the
 * snapshot in its WELCOME on, with none missing; an operation that breaks a rule of its frame ends its link and leaves
 * no trace; the parts of a publication lie in the order one behind the other.
 */
import type { ServerStatus } from "./directory.ts";
import { Status } from "./errors.ts";
import { FrameReader, PartPool } from "./frames.ts";
import { FRAME_MAX, GREETING_FRAME_MAX, LINKS_MAX, NODES_MAX, PICTURES_MAX } from "./limits.ts";
import { checkOnLoss, type OnLoss } from "./loss.ts";
import { type ApplyRuns, MapBytes } from "./memory.ts";
import { checkName } from "./names.ts";
import { checkOrder, type Order } from "./order.ts";
import { Picture } from "./picture.ts";
import {
  bodyText,
  checkGreeting,
  checkOperation,
  encode,
  encodeJson,
  encodeText,
  HEADER_SIZE,
  Kind,
  NO_TAG,
  ProtocolError,
  PublishOp,
  setUint64,
} from "./protocol.ts";
import { bringsMap, type Effects, Session, type SessionConfig, type SessionSnapshot } from "./session.ts";

export interface SequencerOutput {
  /** To one link. */
  send(link: number, bytes: Uint8Array): void;
  /**
   * To every welcomed link. `bytes` is valid during the call only; or, with `sent`, until that is called: when all links
   * have it. (Not at all if one of them is given up.) Link `last` is in no hurry: what others are sent may go first.
   */
  broadcast(bytes: Uint8Array, sent?: () => void, last?: number): void;
  /** Close the link after what was sent. */
  close(link: number): void;
  /** The session has ended; what was broadcast is to be delivered first. */
  ended(): void;
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
}

export interface Welcome {
  node: number;
  snapshot: SessionSnapshot;
}

/** The answer to a STATUS frame: what the directory shows, and more for those who ask the server itself. */
export interface StatusReport extends ServerStatus {
  name: string;
  instance: string;
  phase: string;
  order: Order;
  onLoss: OnLoss;
  elastic: boolean;
  direct: boolean;
  size: number;
  base: string;
  processes: number;
  nodes: string[];
  semaphores: ReturnType<Session["semaphores"]>;
  locks: ReturnType<Session["locks"]>;
}

interface Link {
  id: number;
  reader: FrameReader;
  /** -1 until welcomed. */
  node: number;
  /** Told to come back when the session has ended. */
  waiting: boolean;
  name: string;
  /** Parts of publications that are not complete, by tag. */
  staged: Map<number, Uint8Array<ArrayBuffer>[]>;
  /** Their bytes, by the rank that publishes. */
  stagedBytes: Map<number, number>;
}

/** A page costs at most an eighth more than it has bytes (RUNS_PAGE_MAX in runs.h); more is no honest publication. */
export const STAGED_PER_MAP_BYTE = 1.25;

/**
 * Most bytes of unfinished publications of one process: it may fill several holes at once, but they do not overlap.
 * Arbiters hold their processes to it; the server does not rely on that.
 */
export const stagedLimit = (mapSize: number): number => mapSize * STAGED_PER_MAP_BYTE + FRAME_MAX;

const NO_EFFECTS = { watching: false, wrote(): void {}, complete(): void {}, ranked(): void {}, gone(): void {} };

export class Sequencer {
  readonly session: Session;
  readonly #out: SequencerOutput;
  readonly #links = new Map<number, Link>();
  readonly #memory: MapBytes;
  /** Pictures being sent, by link. */
  readonly #pictures = new Map<number, Picture>();
  #nextNode = 1;
  #batch = new Uint8Array(64 << 10);
  #batchView = new DataView(this.#batch.buffer);
  #batched = 0;
  /** Whether what is in the batch is waited for: see mayOnlyWait(). */
  #due = false;
  #hadProcess = false;
  readonly #parts = new PartPool();

  constructor(config: SessionConfig, memory: Uint8Array, out: SequencerOutput, applyRuns: ApplyRuns | null = null) {
    this.#out = out;
    const effects: Effects = {
      ...NO_EFFECTS,
      complete: () => {
        this.#due = true;
      },
      ranked: () => {
        this.#hadProcess = true;
      },
      ended: () => {
        this.#flush();
        for (const link of this.#links.values()) {
          if (link.waiting) this.#fail(link, Status.ENDED, `session "${config.name}" has ended`);
        }
        out.ended();
      },
    };
    this.#memory = new MapBytes(memory, applyRuns);
    this.session = new Session(config, this.#memory, effects);
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
      name: "",
      staged: new Map(),
      stagedBytes: new Map(),
    });
    return true;
  }

  /** Whether nextPiece() has something to send on the link. */
  hasPicture(id: number): boolean {
    return this.#pictures.has(id);
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

  /** The connection is gone: so are the node's processes. */
  disconnect(id: number): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    this.#pictures.get(id)?.end();
    this.#pictures.delete(id);
    for (const parts of link.staged.values()) for (const part of parts) this.#parts.give(part);
    link.staged.clear();
    if (link.node < 0) return;
    for (const rank of this.session.presentOn(link.node)) {
      const frame = encode({ kind: Kind.LEAVE, op: 1, rank, node: link.node, tag: NO_TAG });
      this.#append(frame, new DataView(frame.buffer), 0, frame.length);
    }
    this.#flush();
  }

  #fail(link: Link, status: Status, message: string): void {
    this.#out.send(link.id, encode({ kind: Kind.FAIL, op: status, body: encodeText(message) }));
    this.disconnect(link.id);
    this.#out.close(link.id);
  }

  #frame(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + 4);
    if (link.node >= 0) {
      this.#operation(link, kind, view, at, size, bytes);
      return;
    }
    if (!this.#links.has(link.id)) return;
    if (kind !== Kind.HELLO && kind !== Kind.STATUS && kind !== Kind.SNAPSHOT)
      throw new ProtocolError("the peer did not greet");
    checkGreeting(view, at);
    if (this.#pictures.has(link.id)) throw new ProtocolError("a snapshot is under way on this connection");
    if (kind === Kind.STATUS) {
      this.#out.send(link.id, encode({ kind: Kind.REPLY, body: encodeJson(this.status()) }));
      return;
    }
    if (kind === Kind.SNAPSHOT) {
      this.#picture(link);
      return;
    }
    this.#hello(link, bodyText(bytes, at + HEADER_SIZE, Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE)));
  }

  #hello(link: Link, text: string): void {
    const hello = parseHello(text);
    const { config } = this.session;
    if (hello.session !== config.name) {
      throw new ProtocolError(`this server has session "${config.name}", not "${hello.session}"`, Status.REFUSED);
    }
    if (this.session.phase === "ended") throw new ProtocolError(`session "${config.name}" has ended`, Status.ENDED);
    const mismatch = checkExpectations(config, hello.processes, hello.size, hello.order, hello.onLoss, hello.elastic);
    if (mismatch !== null) throw new ProtocolError(mismatch, Status.MISMATCH);
    let nodes = 0;
    for (const other of this.#links.values()) {
      if (other.node < 0) continue;
      nodes += 1;
      // A node whose processes are all gone is only closing its connection still. In direct mode we hear of that last.
      const leaving = this.session.direct || this.session.presentOn(other.node).length === 0;
      if (other.name === hello.node && leaving) {
        throw new ProtocolError(`node "${hello.node}" is leaving session "${config.name}"; try again`, Status.AGAIN);
      }
      if (other.name === hello.node) {
        throw new ProtocolError(
          `node "${hello.node}" is in session "${config.name}" already; set DSM_NODE to another name`,
          Status.REFUSED,
        );
      }
    }
    if (nodes >= NODES_MAX) throw new ProtocolError(`the session has ${NODES_MAX} nodes, the limit`, Status.LIMIT);
    this.#flush();
    link.node = this.#nextNode;
    link.name = hello.node;
    link.reader.limit = FRAME_MAX;
    this.#nextNode += 1;
    const welcome: Welcome = { node: link.node, snapshot: this.session.snapshot() };
    this.#out.send(link.id, encode({ kind: Kind.WELCOME, body: encodeJson(welcome) }));
    // At once and ahead of all entries. In an elastic session that runs others wait while much of it is on its way.
    if (bringsMap(welcome.snapshot)) this.#sendMap(link);
  }

  #sendMap(link: Link): void {
    const picture = new Picture(this.#memory, this.session.seq);
    for (let frame = picture.next(); frame !== null; frame = picture.next()) this.#out.send(link.id, frame);
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

  #operation(link: Link, kind: number, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const wrong = checkOperation(view, at, this.session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    if (view.getUint32(at + 12, true) !== link.node) throw new ProtocolError("an operation of another node");
    if (this.session.phase === "ended") return;
    if (this.session.direct && !this.#isDirectNode(link)) {
      this.#turnAway(link);
      return;
    }
    // A rank that the order has already seen go may still have had requests on their way.
    const abandons = kind === Kind.PUBLISH && view.getUint8(at + 5) === PublishOp.ABANDON;
    const needsRank = kind !== Kind.JOIN && kind !== Kind.LEAVE && !abandons;
    if (needsRank && !this.session.mayIssue(view.getUint16(at + 6, true), link.node)) return;
    if (kind === Kind.PUBLISH) this.#publish(link, view, at, size, bytes);
    else this.#append(bytes, view, at, size);
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

  #publish(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array): void {
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
      return;
    }
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
      all.push(link.reader.take(at, size, bytes));
      link.staged.set(tag, all);
      return;
    }
    link.staged.delete(tag);
    this.#flush();
    for (const part of all) {
      // The part goes to all links as it is: a large publication lies in memory once, however many are behind.
      const partView = new DataView(part.buffer, part.byteOffset, part.length);
      unstage(link, part);
      setUint64(partView, 16, this.session.seq + 1);
      let users = 2;
      const done = (): void => {
        users -= 1;
        if (users === 0) this.#parts.give(part);
      };
      // Its own node waits for the answer only; others wait for the bytes.
      this.#out.broadcast(part, done, link.id);
      this.session.apply(partView, 0);
      done();
    }
    this.#append(bytes, view, at, size);
  }

  /** Gives the frame its place, and applies it here. All parts of a publication have the place of the last. */
  #append(bytes: Uint8Array, view: DataView, at: number, size: number): void {
    if (this.#batched + size > this.#batch.length) this.#room(size);
    const to = this.#batched;
    this.#batch.set(at === 0 && bytes.length === size ? bytes : bytes.subarray(at, at + size), to);
    setUint64(this.#batchView, to + 16, this.session.seq + 1);
    this.#batched += size;
    // In direct mode the node has decided before us, and wants to hear that we follow.
    if (this.session.direct || !mayOnlyWait(view.getUint8(at + 4))) this.#due = true;
    this.session.apply(view, at);
  }

  #room(size: number): void {
    this.#flush();
    if (size <= this.#batch.length) return;
    this.#batch = new Uint8Array(FRAME_MAX);
    this.#batchView = new DataView(this.#batch.buffer);
  }

  #flush(): void {
    if (this.#batched === 0) return;
    const batch = this.#batch.subarray(0, this.#batched);
    this.#batched = 0;
    this.#due = false;
    this.#out.broadcast(batch);
  }

  status(): StatusReport {
    const { session } = this;
    const { name, instance, size, base, processes } = session.config;
    const ranks = session.report();
    return {
      name,
      instance,
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
      nodes: [...this.#links.values()].filter(({ node }) => node >= 0).map((link) => link.name),
      ranks,
      semaphores: session.semaphores(),
      locks: session.locks(),
    };
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

function parseHello(text: string): NodeHello {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ProtocolError("the greeting is not JSON");
  }
  if (typeof value !== "object" || value === null) throw new ProtocolError("the greeting is not an object");
  const { session, node, processes, size, order, onLoss = "", elastic } = value as Record<string, unknown>;
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
  return {
    session,
    node,
    processes: processes as number,
    size: size as number,
    order: order as Order | "",
    onLoss: onLoss as OnLoss | "",
    elastic: elastic === true,
  };
}
