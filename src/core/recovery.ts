/**
 * A server that takes over from one that is gone, until it knows the order: the nodes of the session report how far they
 * have applied it, the one that is farthest hands over its state, and a Sequencer goes on from there.
 *
 * Invariants:
 * - A node that reports here has promised to follow no server of an older epoch any more. If the old server is not known
 *   to be gone, nothing is ordered before all nodes with processes have promised: then nobody is left whom the old one
 *   could serve, and there is never more than one order. As long as nodes may still come, nobody knows them all.
 * - Of all logs the one with the newest epoch in its last entry is taken, of these the longest (as in Raft, Ongaro and
 *   Ousterhout, 2014). Every other log is a beginning of it, or its node is refused. So every
 *   entry that a node has applied, and thus acknowledged, survives as long as one node that applied it reports in time.
 * - Nobody is sent an entry before the state is whole.
 */
import { NOTHING_KNOWN } from "./directory.ts";
import { Status } from "./errors.ts";
import { FrameReader } from "./frames.ts";
import { FRAME_MAX, GREETING_FRAME_MAX, LINKS_MAX, WELCOME_MAX } from "./limits.ts";
import { MapBytes } from "./memory.ts";
import { type NodeState, parseNodeState } from "./node-state.ts";
import {
  bodyText,
  checkGreeting,
  encode,
  encodeJson,
  encodeText,
  getUint64,
  HEADER_SIZE,
  Kind,
  PingOp,
  ProtocolError,
  StateOp,
  StatusOp,
} from "./protocol.ts";
import { checkEnd, type NodeHello, parseHello, type Resume, type StatusReport } from "./sequencer.ts";
import type { SessionConfig } from "./session.ts";
import { Tail } from "./tail.ts";

export interface Recovered extends Omit<NodeState, "base"> {
  epoch: number;
  tail: Tail;
  /** What the nodes said that have reported and are expected to come back. */
  nodes: NodeHello[];
}

export interface RecoveryOutput {
  send(link: number, bytes: Uint8Array): void;
  close(link: number): void;
  drop(link: number): void;
  /** The longest time that a node wants its place to be kept for: so long others are waited for. */
  waits(reconnectMs: number): void;
  /** Each link is to be connected to a Sequencer, which is to receive its greeting, or what has come of it. */
  recovered(recovered: Recovered, greetings: Map<number, Uint8Array>): void;
  failed(why: string): void;
  /** The session is to end: the daemon asks for it. */
  stop(): void;
}

interface Link {
  id: number;
  reader: FrameReader;
  greeting: Uint8Array | null;
  hello: NodeHello | null;
}

interface Report {
  hello: NodeHello;
  resume: Resume;
  /** Null while its connection is broken. */
  link: Link | null;
  /** It needs its place no more. */
  left: boolean;
  /** How often its connection was broken when the time was over. */
  missed: number;
}

/** A node that was here and is farthest is waited for that often beyond the time. */
const MISSED_MAX = 2;

export interface RecoveryConfig {
  /** What is known of the session without its state. */
  config: SessionConfig;
  epoch: number;
  /** Whether the server before is known to be gone. */
  certain: boolean;
}

export class Recovery {
  readonly #known: RecoveryConfig;
  readonly #out: RecoveryOutput;
  readonly #memory: MapBytes;
  readonly #links = new Map<number, Link>();
  /** By node. A report counts also when its connection breaks: what was promised is promised. */
  readonly #reports = new Map<number, Report>();
  #transfer: Transfer | null = null;
  /** No one else is waited for. */
  #late = false;
  /** Joiners had their time, too. */
  #joined = false;
  #progress = true;
  #over = false;

  constructor(known: RecoveryConfig, memory: Uint8Array, out: RecoveryOutput) {
    this.#known = known;
    this.#memory = new MapBytes(memory);
    this.#out = out;
  }

  connect(id: number): boolean {
    if (this.#links.size >= LINKS_MAX) return false;
    this.#links.set(id, { id, reader: new FrameReader(GREETING_FRAME_MAX), greeting: null, hello: null });
    return true;
  }

  isWelcomed(id: number): boolean {
    return this.#links.get(id)?.hello != null;
  }

  receive(id: number, chunk: Uint8Array): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    try {
      link.reader.push(chunk, (view, at, size, bytes) => this.#frame(link, view, at, size, bytes));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      // A node whose state is damaged counts as lost: the state of another one is taken.
      if (this.#transfer?.link === link) this.#leaves(link);
      this.#fail(link, error.status, error.message);
    }
  }

  disconnect(id: number): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    for (const report of this.#reports.values()) if (report.link === link) report.link = null;
    if (this.#transfer?.link === link) {
      this.#transfer = null;
      this.#choose();
    }
  }

  /** Tells everybody who waits that we are there. */
  beat(): void {
    for (const { id, hello } of this.#links.values())
      if (hello !== null) this.#out.send(id, encode({ kind: Kind.PING }));
  }

  /** Who joined last may have had time to say so by now. */
  settle(): void {
    this.#joined = true;
    this.#choose();
  }

  /** The time to wait for nodes is over. To be called again and again: a source that has stopped sending is given up. */
  expire(): void {
    const source = this.#transfer?.link;
    for (const report of this.#reports.values()) if (report.link === null) report.missed += 1;
    // Whoever has not all of it cannot hand it over, however long it stays.
    const isAnybody = [...this.#reports.values()].some(
      ({ missed, left, resume }) => missed < MISSED_MAX && !left && resume.whole,
    );
    if (this.#late && !isAnybody) {
      this.#fails("none of its nodes has come back");
      return;
    }
    this.#late = true;
    this.#joined = true;
    if (source !== undefined && !this.#progress) {
      this.disconnect(source.id);
      this.#out.drop(source.id);
    }
    this.#progress = false;
    this.#choose();
  }

  status(): StatusReport {
    const { config, epoch } = this.#known;
    const { name, instance, size, base, processes, order, onLoss, elastic = false } = config;
    return {
      ...NOTHING_KNOWN,
      ...{ name, instance, epoch, phase: "recovering", order, size, base: `0x${base.toString(16)}`, processes },
      ...{ started: true, nodes: [], onLoss, elastic },
    };
  }

  #leaves(link: Link): void {
    for (const report of this.#reports.values()) if (report.link === link) report.left = true;
  }

  #fail(link: Link, status: Status, message: string): void {
    this.#out.send(link.id, encode({ kind: Kind.FAIL, op: status, body: encodeText(message) }));
    this.disconnect(link.id);
    this.#out.close(link.id);
  }

  #frame(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    if (!this.#links.has(link.id) || this.#over) return;
    const kind = view.getUint8(at + 4);
    if (link.hello !== null) {
      if (kind === Kind.PING && view.getUint8(at + 5) === PingOp.LEAVING) {
        this.#leaves(link);
        this.disconnect(link.id);
        this.#out.close(link.id);
      } else if (kind === Kind.STATE && this.#transfer?.link === link) {
        this.#state(this.#transfer, view, at, size, bytes);
      } else {
        throw new ProtocolError("an operation before the welcome");
      }
      return;
    }
    const looks = kind === Kind.STATUS || kind === Kind.TRACE;
    if (kind !== Kind.HELLO && !looks) throw new ProtocolError("the peer did not greet");
    checkGreeting(view, at);
    if (looks) {
      if (kind === Kind.STATUS && view.getUint8(at + 5) === StatusOp.END) {
        checkEnd(view, at, bytes, this.#known.config);
        this.#out.send(link.id, encode({ kind: Kind.REPLY }));
        this.#out.stop();
        return;
      }
      if (kind === Kind.TRACE || view.getUint8(at + 5) === StatusOp.MEMORY) {
        throw new ProtocolError("another server is taking the session over; try again", Status.AGAIN);
      }
      this.#out.send(link.id, encode({ kind: Kind.REPLY, body: encodeJson(this.status()) }));
      return;
    }
    const length = Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE);
    const hello = parseHello(bodyText(bytes, at + HEADER_SIZE, length));
    link.greeting = new Uint8Array(bytes.subarray(at, at + size));
    if (hello.resume !== null) this.#report(link, hello, hello.resume);
    link.hello = hello;
    this.#choose();
  }

  #report(link: Link, hello: NodeHello, resume: Resume): void {
    const { instance, promised, epoch, node } = resume;
    const { config } = this.#known;
    if (instance !== config.instance) throw new ProtocolError(`session "${config.name}" has ended`, Status.ENDED);
    if (promised > this.#known.epoch || epoch >= this.#known.epoch) {
      throw new ProtocolError("this server was replaced by another", Status.AGAIN);
    }
    const old = this.#reports.get(node);
    if (old !== undefined) {
      if (old.hello.secret !== hello.secret) throw new ProtocolError("two nodes of one number", Status.REFUSED);
      if (old.left) throw new ProtocolError("the node has left, or its state was damaged", Status.REFUSED);
      const { link: before } = old;
      if (before !== null) {
        this.disconnect(before.id);
        this.#out.drop(before.id);
      }
    }
    this.#reports.set(node, { hello, resume, link, left: false, missed: 0 });
    this.#out.waits(hello.reconnectMs);
  }

  /** Begins to take over the state of the node that is farthest, if nobody else is to be waited for. */
  #choose(): void {
    if (this.#transfer !== null || this.#over) return;
    let best: Report | undefined;
    for (const report of this.#reports.values()) {
      const isHere = report.link !== null || report.missed < MISSED_MAX;
      const canHandOver = report.resume.whole && !report.left && isHere;
      if (canHandOver && (best === undefined || isFarther(report.resume, best.resume))) best = report;
    }
    if (best === undefined) return;
    const { link, resume: farthest } = best;
    const all = farthest.nodes.every((node) => this.#reports.has(node));
    if (!all && !this.#late) return;
    if (farthest.joining && !this.#joined) return;
    // Some may have come that it has not heard of, and the server before may still serve them.
    if (farthest.joining && !this.#known.certain) {
      if (this.#late) this.#fails("nodes may have come of which those that are here do not know");
      return;
    }
    if (!all && !this.#known.certain) {
      this.#fails("not all of its nodes have come back, and the server before may still serve them");
      return;
    }
    // Whoever is farthest and was here may be back soon.
    if (link === null) return;
    this.#memory.bytes.fill(0);
    this.#progress = true;
    this.#transfer = new Transfer(link, this.#known);
    link.reader.limit = FRAME_MAX;
    this.#out.send(link.id, encode({ kind: Kind.STATE }));
  }

  #fails(why: string): void {
    this.#over = true;
    for (const link of [...this.#links.values()]) {
      if (link.hello === null) continue;
      const message = `session "${this.#known.config.name}" cannot go on after the loss of its server: ${why}`;
      this.#fail(link, link.hello.resume === null ? Status.ENDED : Status.UNREACHABLE, message);
    }
    this.#out.failed(why);
  }

  #state(transfer: Transfer, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    this.#progress = true;
    const body = bytes.subarray(at + HEADER_SIZE, at + Math.min(size, HEADER_SIZE + view.getUint32(at + 32, true)));
    switch (view.getUint8(at + 5)) {
      case StateOp.SESSION:
        transfer.session(body);
        return;
      case StateOp.MAP: {
        const offset = getUint64(view, at + 24);
        if (!(offset + body.length <= this.#memory.size)) throw new ProtocolError("a piece of state outside the map");
        this.#memory.bytes.set(body, offset);
        return;
      }
      case StateOp.ENTRIES:
        transfer.entries(body);
        return;
      case StateOp.LAST:
        this.#finish(transfer);
        return;
      default:
        throw new ProtocolError("there is no such piece of state");
    }
  }

  #finish(transfer: Transfer): void {
    const { snapshot, starts, tail } = transfer.finish();
    this.#over = true;
    const greetings = new Map<number, Uint8Array>();
    for (const { id, greeting, reader } of this.#links.values()) greetings.set(id, greeting ?? reader.partial);
    const nodes = [...this.#reports.values()].filter(({ left }) => !left).map(({ hello }) => hello);
    const { epoch } = this.#known;
    // Of epochs that began later than this nothing is left; some may not have got so far as to order anything.
    const known = starts.map((start) => Math.min(start, snapshot.seq));
    while (known.length < epoch) known.push(snapshot.seq);
    this.#out.recovered({ epoch, snapshot, starts: known, tail, nodes }, greetings);
  }
}

/** The order of a newer server is the one that counts, however long an older one got. */
function isFarther(one: Resume, other: Resume): boolean {
  return one.epoch !== other.epoch ? one.epoch > other.epoch : one.applied > other.applied;
}

/** The state of one node, as it comes. */
class Transfer {
  readonly link: Link;
  readonly #json: Uint8Array[] = [];
  #jsonSize = 0;
  readonly #reader = new FrameReader(FRAME_MAX);
  readonly #known: RecoveryConfig;
  #state: { told: NodeState; tail: Tail } | null = null;

  constructor(link: Link, known: RecoveryConfig) {
    this.link = link;
    this.#known = known;
  }

  /** A piece of all that is not map or entries: as much as a welcome may hold of it. */
  session(bytes: Uint8Array): void {
    this.#jsonSize += bytes.length;
    if (this.#jsonSize > WELCOME_MAX)
      throw new ProtocolError("the state is larger than a session can be", Status.LIMIT);
    this.#json.push(new Uint8Array(bytes));
  }

  entries(bytes: Uint8Array): void {
    const { tail } = this.#begin();
    this.#reader.push(bytes, (view, at, size, all) => {
      const seq = getUint64(view, at + 16);
      if (!(seq >= tail.last && seq <= tail.last + 1)) throw new ProtocolError("an entry of the state is missing");
      tail.push(view, all, at, size, seq);
    });
  }

  /** What is told before the entries is whole. */
  #begin(): { told: NodeState; tail: Tail } {
    if (this.#state === null) {
      const text = Buffer.concat(this.#json).toString("utf8");
      const told = parseNodeState(text, this.#known.config, this.#known.epoch);
      this.#state = { told, tail: new Tail(told.base, true) };
    }
    return this.#state;
  }

  finish(): { snapshot: NodeState["snapshot"]; starts: number[]; tail: Tail } {
    const {
      told: { snapshot, starts },
      tail,
    } = this.#begin();
    if (tail.last !== snapshot.seq || this.#reader.pending > 0) throw new ProtocolError("the state is not whole");
    tail.fresh();
    return { snapshot, starts, tail };
  }
}
