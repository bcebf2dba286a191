/**
 * The server's logic, without I/O. Takes the bytes that links receive, gives every operation its place in the log,
 * applies it to the server's copy of the session and hands out the bytes to send.
 *
 * Invariants: the entries handed to `broadcast` are the log, each once, in sequence; a link gets them from the state in
 * its WELCOME on, with none missing; what a member has not applied is retained while it is a member. Those of each
 * operation are in operations.ts.
 */
import { Status } from "../base/errors.ts";
import { FRAME_MAX, LEASE_MS, LINKS_MAX, RETAINED_HIGH } from "../base/limits.ts";
import { type ApplyRuns, MapBytes } from "../memory/map-bytes.ts";
import { MapSnapshot } from "../memory/map-snapshot.ts";
import {
  type NodeHello,
  parseHello,
  type ResumeReply,
  type ResumeRequest,
  type Welcome,
} from "../messages/node-handshake.ts";
import { EVICTED, type SessionConfig, welcomeIncludesMap } from "../messages/session-state.ts";
import type { StatusReport } from "../messages/status-report.ts";
import { Activity } from "../observe/activity.ts";
import { type Effects, NO_EFFECTS } from "../session/effects.ts";
import { Session } from "../session/session.ts";
import { At, HandshakeAt, HEADER_SIZE, PingAt, PublishAt } from "../wire/at.ts";
import { bodyText, encode, encodeJson, encodeText, getUint64, ProtocolError } from "../wire/frame.ts";
import { PartPool } from "../wire/frame-reader.ts";
import { checkHandshake } from "../wire/handshake.ts";
import { Kind, NO_TAG, PingOp, PublishOp } from "../wire/kinds.ts";
import { RetainedFrames } from "../wire/retained-frames.ts";
import { encodeAccept } from "../wire/shared-parts.ts";
import { Acknowledgements } from "./acknowledgements.ts";
import { checkNewMember, checkReturning, type Epochs } from "./admission.ts";
import { DeferredJoins } from "./deferred-joins.ts";
import { Link } from "./link.ts";
import { LogWriter } from "./log-writer.ts";
import { type Member, Members } from "./members.ts";
import { Operations } from "./operations.ts";
import { Readers } from "./readers.ts";
import type { Recovered } from "./recovery.ts";
import { RetainedLog } from "./retained-log.ts";
import type { SequencerOutput } from "./sequencer-output.ts";

const HANDSHAKES: ReadonlySet<number> = new Set([Kind.HELLO, Kind.STATUS, Kind.SNAPSHOT, Kind.TRACE]);

export interface SequencerOptions {
  /** A faster implementation of MapBytes.publish(). */
  applyRuns?: ApplyRuns | null;
  /** The result of a recovery, for a server that takes over. The memory then holds the bytes of the map. */
  recovered?: Recovered | null;
  /** The time, in milliseconds since 1970. */
  now_ms?: number;
  parts?: PartPool;
}

export class Sequencer {
  readonly session: Session;
  readonly #out: SequencerOutput;
  readonly #links = new Map<number, Link>();
  readonly #memory: MapBytes;
  readonly #members = new Members();
  readonly #log: RetainedLog;
  readonly #epochs: Epochs;
  readonly #parts: PartPool;
  readonly #activity: Activity;
  readonly #deferredJoins = new DeferredJoins();
  readonly #writer: LogWriter;
  readonly #operations: Operations;
  readonly #acks: Acknowledgements;
  readonly #readers: Readers;
  #hadProcess = false;

  constructor(config: SessionConfig, memory: Uint8Array, out: SequencerOutput, options: SequencerOptions = {}) {
    const { applyRuns = null, recovered = null, now_ms = 0, parts = new PartPool() } = options;
    this.#out = out;
    this.#parts = parts;
    this.#activity = new Activity(config.size, now_ms);
    if (recovered !== null) this.#activity.load(recovered.snapshot, recovered.activity, recovered.told_ms);
    this.#epochs = { epoch: recovered?.epoch ?? 1, starts: recovered?.starts ?? [0] };
    this.#log = new RetainedLog(recovered?.retained ?? new RetainedFrames(0, true), out);
    this.#memory = new MapBytes(memory, applyRuns);
    const effects = this.#effects(config);
    this.session =
      recovered === null
        ? new Session(config, this.#memory, effects)
        : Session.fromState(recovered.snapshot, this.#memory, effects);
    const { session } = this;
    const shared = { session, members: this.#members, log: this.#log, activity: this.#activity, out };
    this.#writer = new LogWriter(session, this.#log, this.#activity, parts, this.#deferredJoins);
    this.#operations = new Operations({ ...shared, writer: this.#writer, deferredJoins: this.#deferredJoins });
    this.#acks = new Acknowledgements(shared);
    this.#readers = new Readers({ ...shared, memory: this.#memory, epoch: this.#epochs.epoch, acks: this.#acks });
    if (recovered !== null) this.#takeOver(recovered);
  }

  #effects(config: SessionConfig): Effects {
    const activity = this.#activity;
    return {
      ...NO_EFFECTS,
      onReply: (node, tag) => {
        this.#log.mustFlush = true;
        activity.onReply(node, tag);
      },
      onRankAssigned: (_node, _tag, rank) => {
        this.#hadProcess = true;
        activity.onRankAssigned(rank);
      },
      onProcessGone: (_node, rank) => activity.onProcessGone(rank),
      onEnd: () => {
        this.#log.flush();
        for (const link of this.#links.values()) {
          if (link.waitsForEnd) this.#fail(link, Status.ENDED, `session "${config.name}" has ended`);
        }
        this.#out.ended();
      },
    };
  }

  /** Restores a member for each node that reported; declares the processes of all other nodes lost. */
  #takeOver({ snapshot, nodes }: Recovered): void {
    this.#hadProcess = true;
    this.#members.reserve(snapshot.ordered.length - 1);
    for (const hello of nodes) {
      const { node, seq } = hello.resume as ResumeRequest;
      if (this.session.entriesOf(node) === EVICTED) this.#members.reserve(node);
      else this.#members.restore(node, hello, Math.max(seq, this.#log.base));
    }
    for (const node of this.session.nodes) if (this.#members.get(node) === undefined) this.#declareLost(node);
    for (const member of [...this.#members.all()]) this.#keepPlace(member, member.reconnectMs);
  }

  /** Sets the time that status() uses: milliseconds since 1970, never going back. */
  set clock(now_ms: number) {
    this.#activity.now_ms = now_ms;
  }

  /** Whether a process ever joined. */
  get hadProcess(): boolean {
    return this.#hadProcess;
  }

  // --- Links -------------------------------------------------------------------------------------------------------

  /** A new connection. False: there are too many; close it. */
  connect(id: number): boolean {
    if (this.#links.size >= LINKS_MAX) return false;
    this.#links.set(id, new Link(id, this.#parts, this.session.config.size));
    return true;
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
    if (this.#log.mustFlush) this.#log.flush();
  }

  /**
   * The connection is gone. Its node may come back, unless it has `left`, or was `refused`: then its processes are lost.
   * One that has left uses no lease any more.
   */
  disconnect(id: number, how: "broken" | "refused" | "left" = "broken"): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#remove(link);
    this.#readers.end(id);
    const member = this.#members.get(link.node);
    if (member === undefined) return;
    member.link = -1;
    member.askedMs = Number.NaN;
    if (how === "left") this.evict(member.node);
    else this.#keepPlace(member, how === "refused" ? 0 : member.reconnectMs);
  }

  /** Keeps the place of a disconnected member for so long, and until it uses no lease any more. */
  #keepPlace({ node, process }: Member, reconnectMs: number): void {
    const leaseMs = this.session.lessees.has(node) ? LEASE_MS : 0;
    const longest = Math.max(reconnectMs, leaseMs);
    if (longest === 0) this.evict(node);
    else this.#out.onDisconnected(node, { reconnectMs: longest, leaseMs, process });
  }

  #remove(link: Link): void {
    this.#links.delete(link.id);
    this.#deferredJoins.drop(link);
    link.close();
  }

  #fail(link: Link, status: Status, message: string): void {
    this.#out.send(link.id, encode({ kind: Kind.FAIL, op: status, body: encodeText(message) }));
    this.disconnect(link.id, "refused");
    this.#out.close(link.id);
  }

  #frame(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    // An earlier frame may have closed the link.
    if (!this.#links.has(link.id)) return;
    const kind = view.getUint8(at + At.kind);
    if (link.node >= 0) {
      this.#nodeFrame(link, kind, view, at, size, bytes);
      return;
    }
    if (!HANDSHAKES.has(kind)) throw new ProtocolError("the peer sent no handshake");
    checkHandshake(view, at);
    if (this.#readers.receive(link, kind, view, at, bytes)) return;
    const length = Math.min(view.getUint32(at + HandshakeAt.bodyLength, true), size - HEADER_SIZE);
    const hello = parseHello(bodyText(bytes, at + HEADER_SIZE, length));
    if (hello.resume === null) this.#hello(link, hello);
    else this.#resume(link, hello, hello.resume);
  }

  // --- Members -----------------------------------------------------------------------------------------------------

  /** Whether all must wait: the retained log has reached its limit while a member is disconnected. */
  get full(): boolean {
    return this.#log.bytes > RETAINED_HIGH && this.#members.anyDisconnected;
  }

  /** Whether a member may still come back for the rest of the log. */
  get awaited(): boolean {
    return this.#members.anyDisconnected;
  }

  #hello(link: Link, hello: NodeHello): void {
    checkNewMember(this.session, this.#members, hello);
    const { base } = this.#log;
    const { node } = this.#members.admit(hello, link.id, base);
    const snapshot = this.session.state();
    const activity = this.#activity.save(snapshot);
    const welcome: Welcome = { node, snapshot, ...this.#epochs, base, ...(activity === undefined ? {} : { activity }) };
    this.#welcome(link, hello, node, encode({ kind: Kind.WELCOME, body: encodeJson(welcome) }));
    // Send the map before all entries. In a running elastic session the other nodes wait while much of it is in flight.
    if (welcomeIncludesMap(welcome.snapshot)) this.#sendMap(link);
    for (const piece of this.#log.after(base)) this.#out.send(link.id, piece);
  }

  #sendMap(link: Link): void {
    const map = new MapSnapshot(this.#memory, this.session.seq);
    for (let frame = map.next(); frame !== null; frame = map.next()) this.#out.send(link.id, frame);
  }

  #resume(link: Link, hello: NodeHello, resume: ResumeRequest): void {
    if (resume.promised > this.#epochs.epoch) {
      this.#out.replaced();
      throw new ProtocolError("this server was replaced by another", Status.AGAIN);
    }
    const member = checkReturning(this.session, this.#members, this.#epochs, hello, resume);
    if (member.link >= 0) this.#replace(member.link);
    else this.#out.onReturnedOrEvicted(member.node);
    member.link = link.id;
    member.askedMs = Number.NaN;
    member.lastProposal = this.session.entriesOf(member.node);
    const reply: ResumeReply = { node: member.node, ordered: member.lastProposal, ...this.#epochs };
    this.#welcome(link, hello, member.node, encode({ kind: Kind.WELCOME, op: 1, body: encodeJson(reply) }));
    for (const piece of this.#log.after(resume.seq)) this.#out.send(link.id, piece);
    this.#acks.onAck(member, resume.seq);
    this.#operations.askToEndDirectMode();
  }

  /** Adds the link to the broadcast set. */
  #welcome(link: Link, { heartbeatMs }: NodeHello, node: number, welcome: Uint8Array): void {
    this.#log.flush();
    link.node = node;
    link.reader.limit = FRAME_MAX;
    this.#out.welcomed(link.id, heartbeatMs);
    this.#out.send(link.id, welcome);
  }

  /** Replaces a connection: the node noticed before the server that the old one is broken. */
  #replace(id: number): void {
    const link = this.#links.get(id);
    if (link !== undefined) this.#remove(link);
    this.#out.drop(id);
  }

  /** Evicts a disconnected node, which will not come back: its processes are lost. */
  evict(node: number): void {
    const member = this.#members.get(node);
    if (member === undefined || member.link >= 0) return;
    this.#members.remove(node);
    this.#declareLost(node);
    this.#out.onReturnedOrEvicted(node);
    this.#acks.trim();
  }

  #declareLost(node: number): void {
    for (const rank of this.session.presentOn(node)) {
      const frame = encode({ kind: Kind.LEAVE, op: 1, rank, node, tag: NO_TAG, aux: 1 });
      this.#writer.append(frame, new DataView(frame.buffer), 0, frame.length);
    }
    this.#log.flush();
  }

  #onPing(link: Link, view: DataView, at: number): void {
    const member = this.#members.get(link.node) as Member;
    const op = view.getUint8(at + PingAt.op);
    if (op === PingOp.LEAVING) {
      this.disconnect(link.id, "left");
      const others = [...this.#members.all()].map(({ process }) => process);
      // In an elastic session processes come and go: no node waits for the others.
      const detained = this.session.config.elastic !== true && this.#out.detains?.(member.process, others) === true;
      if (!detained) this.#out.close(link.id);
      return;
    }
    if (op === PingOp.ANSWER && !Number.isNaN(member.askedMs)) {
      member.roundTripMs = this.#activity.now_ms - member.askedMs;
      member.askedMs = Number.NaN;
    }
    this.#acks.onAck(member, getUint64(view, at + PingAt.appliedThrough));
    if (op === PingOp.RENEW) this.#acks.answerRenewal(member, view.getUint32(at + PingAt.askedAt, true));
  }

  /** Whether the broadcast of an entry was deferred: see LogWriter. */
  get hasDeferred(): boolean {
    return this.#log.hasUnsent;
  }

  /** Broadcasts what was deferred. */
  flush(): void {
    this.#log.flush();
  }

  // --- Operations --------------------------------------------------------------------------------------------------

  /** Sends a heartbeat, which announces how far all members are. */
  sendHeartbeat(id: number): void {
    const member = this.#members.get(this.#links.get(id)?.node ?? -1);
    if (member !== undefined) this.#acks.sendHeartbeat(member);
  }

  #nodeFrame(link: Link, kind: number, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    if (kind === Kind.PING) this.#onPing(link, view, at);
    else if (kind === Kind.SHARE) this.#share(link, view, at);
    else if (kind === Kind.PUBLISH && view.getUint8(at + PublishAt.part) === PublishOp.PART_IN_SHARED_MEMORY) {
      this.#copySharedPart(link, view, at);
    } else this.#operations.receive(link, kind, view, at, size, bytes, null);
  }

  /** Handles SHARE: a peer on this host offers memory, or has mapped the memory that this server offered. */
  #share(link: Link, view: DataView, at: number): void {
    const sharing = this.#out.sharing?.(link.id) ?? null;
    const outcome = link.peerParts.handleShare(sharing, view, at);
    if (outcome === "peer-mapped-us") this.#out.onPeerMapped?.(link.id);
    if (outcome !== "mapped-peer" || sharing === null) return;
    this.#out.send(link.id, encodeAccept());
    const offer = this.#parts.offer(sharing);
    if (offer !== null) this.#out.send(link.id, offer);
  }

  /** Copies a part that lies in memory of the link's node. */
  #copySharedPart(link: Link, view: DataView, at: number): void {
    const tag = view.getUint32(at + At.tag, true);
    const part = link.peerParts.copy(view, at, this.#parts);
    if (part === null) {
      link.publications.noteOverwritten(tag);
      return;
    }
    try {
      const partView = new DataView(part.buffer, part.byteOffset, part.length);
      this.#operations.receive(link, Kind.PUBLISH, partView, 0, part.length, part, part);
    } finally {
      if (!link.publications.has(tag, part)) this.#parts.give(part);
    }
  }

  // --- Readers -----------------------------------------------------------------------------------------------------

  status(withHeat = false): StatusReport {
    return this.#readers.status(withHeat);
  }

  /** Whether a snapshot on the link waits for the leases of nodes: beginSnapshot() must be called until it has begun. */
  awaitsLeases(id: number): boolean {
    return this.#readers.awaitsLeases(id);
  }

  /** Begins the snapshot if all leases have ended, or `anyway`. Returns whether it has begun. */
  beginSnapshot(id: number, anyway: boolean): boolean {
    return this.#readers.beginSnapshot(id, anyway);
  }

  /** Whether sendSnapshotPiece() has something to send on the link. */
  hasSnapshot(id: number): boolean {
    return this.#readers.hasSnapshot(id);
  }

  /** Sends the next piece of the link's snapshot. False: there is none, or this was the last. */
  sendSnapshotPiece(id: number): boolean {
    return this.#readers.sendSnapshotPiece(id);
  }

  /** Whether the link traces the session. */
  traces(id: number): boolean {
    return this.#readers.traces(id);
  }

  /** Sends the tracing link the records since the last call; `always`: also when there are none. */
  sendTrace(always: boolean): void {
    this.#readers.sendTrace(always);
  }
}
