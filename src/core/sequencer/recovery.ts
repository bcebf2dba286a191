/**
 * Recovery: a server that takes over from another one, until it knows the log. The nodes of the session report how far
 * they have applied it, the most up-to-date node hands over its state, and a Sequencer continues from there.
 *
 *     collecting --- all nodes have reported, or the deadline has passed ---> transferring
 *         ^                                                                        |
 *         '---- the node is gone, stalls, or its state is damaged -----------------+- the state is whole ---> recovered
 *         |
 *         '---- no node is left that could hand over its state, or the predecessor may still serve a node ---> failed
 *
 * Invariants:
 * - A node that reports here has promised to follow no server of an older epoch. If the predecessor is not known to be
 *   dead, nothing is ordered before all nodes with processes have promised: then the predecessor can serve none of
 *   them, and there is never more than one log. While nodes may still join, no node knows all of them.
 * - The log with the newest epoch in its last entry is taken, and of these the longest (as in Raft, Ongaro and
 *   Ousterhout, 2014). Every other log is a prefix of it, or its node is refused. So every entry that a node has
 *   applied, and thus acknowledged, survives if one node that applied it reports in time.
 * - No entry is sent to a node before the state is complete.
 */

import { Status } from "../base/errors.ts";
import { FRAME_MAX, GREETING_FRAME_MAX, LINKS_MAX } from "../base/limits.ts";
import { NOTHING_KNOWN } from "../messages/daemon-api.ts";
import type { ResumeRequest } from "../messages/node-handshake.ts";
import { type NodeHello, parseHello } from "../messages/node-handshake.ts";
import type { SessionConfig } from "../messages/session-state.ts";
import { type ReceivedState, StateReceiver } from "../messages/state-transfer.ts";
import type { StatusReport } from "../messages/status-report.ts";
import { At, HandshakeAt, HEADER_SIZE, PingAt, StatusAt } from "../wire/at.ts";
import { bodyText, encode, encodeJson, encodeText, ProtocolError } from "../wire/frame.ts";
import { FrameReader } from "../wire/frame-reader.ts";
import { checkHandshake } from "../wire/handshake.ts";
import { Kind, PingOp, StatusOp } from "../wire/kinds.ts";
import { checkEnd } from "./admission.ts";

/** The state from which a Sequencer continues. */
export interface Recovered extends ReceivedState {
  epoch: number;
  /** The time at which the ages in `activity` were told. */
  told_ms: number;
  /** The handshakes of the nodes that have reported and are expected to come back. */
  nodes: NodeHello[];
}

export interface RecoveryOutput {
  send(link: number, bytes: Uint8Array): void;
  /** Closes the link after what was sent. */
  close(link: number): void;
  /** Closes the link at once. */
  drop(link: number): void;
  /** A node wants its place kept for `reconnectMs`: the recovery must wait for the other nodes at least that long. */
  waits(reconnectMs: number): void;
  /**
   * The shell must connect each link to a Sequencer, which then receives its handshake, or the received bytes of it.
   */
  recovered(recovered: Recovered, handshakes: Map<number, Uint8Array>): void;
  /** The session cannot continue. */
  failed(why: string): void;
  /** The daemon asks for the end of the session. */
  stop(): void;
}

interface Link {
  id: number;
  reader: FrameReader;
  handshake: Uint8Array | null;
  hello: NodeHello | null;
}

/** A node's report of its position. */
interface NodeReport {
  hello: NodeHello;
  resume: ResumeRequest;
  /** Null while its connection is broken. */
  link: Link | null;
  /** The node has left, or its state was damaged. */
  hasLeft: boolean;
  /** Number of timeouts at which its connection was broken. */
  missed: number;
}

/** How many nodes a message names. */
const NODES_NAMED_MAX = 8;
/** Timeouts for which a node that has reported is waited for while its connection is broken. */
const MISSED_MAX = 2;

export interface RecoveryConfig {
  /** The session as it is known without its state. */
  config: SessionConfig;
  epoch: number;
  /** The predecessor is known to have ended, so it serves no node any more. */
  predecessorIsDead: boolean;
}

export class Recovery {
  readonly #known: RecoveryConfig;
  readonly #out: RecoveryOutput;
  readonly #memory: Uint8Array;
  readonly #links = new Map<number, Link>();
  /** By node. A report remains valid after its connection is lost: the promise is binding. */
  readonly #reports = new Map<number, NodeReport>();
  /** `told_ms`: when the state began to arrive; NaN: it has not. */
  #transfer: { link: Link; receiver: StateReceiver; told_ms: number } | null = null;
  #now_ms: number;
  /** The wait for further nodes is over. */
  #deadlinePassed = false;
  /** The grace for nodes that were joining when the server was lost is over. */
  #joinGraceOver = false;
  /** Some of the state has come since the last timeout. */
  #hasProgress = true;
  #isOver = false;

  constructor(known: RecoveryConfig, memory: Uint8Array, out: RecoveryOutput, now_ms = 0) {
    this.#known = known;
    this.#now_ms = now_ms;
    this.#memory = memory;
    this.#out = out;
  }

  /** Sets the time: milliseconds since 1970, never going back. */
  set clock(now_ms: number) {
    this.#now_ms = now_ms;
  }

  /** A new connection. False: there are too many; close it. */
  connect(id: number): boolean {
    if (this.#links.size >= LINKS_MAX) return false;
    this.#links.set(id, { id, reader: new FrameReader(GREETING_FRAME_MAX), handshake: null, hello: null });
    return true;
  }

  /** Whether the link is a node's. */
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
      // A node whose state is damaged counts as lost: another node's state is taken.
      if (this.#transfer?.link === link) this.#markLeft(link);
      this.#rejectLink(link, error.status, error.message);
    }
  }

  /** Drops a connection that is gone. */
  disconnect(id: number): void {
    const link = this.#links.get(id);
    if (link === undefined) return;
    this.#links.delete(id);
    for (const report of this.#reports.values()) if (report.link === link) report.link = null;
    if (this.#transfer?.link === link) {
      this.#transfer = null;
      this.#maybeStartTransfer();
    }
  }

  /** Sends a heartbeat to the waiting nodes. */
  beat(): void {
    for (const { id, hello } of this.#links.values()) {
      if (hello !== null) this.#out.send(id, encode({ kind: Kind.PING }));
    }
  }

  /** The grace for nodes that joined last is over. */
  onJoinGraceOver(): void {
    this.#joinGraceOver = true;
    this.#maybeStartTransfer();
  }

  /** The wait for nodes is over. The shell then calls it at intervals, so that a source that stalls is dropped. */
  onTimeout(): void {
    const source = this.#transfer?.link;
    for (const report of this.#reports.values()) if (report.link === null) report.missed += 1;
    // A node without the whole map can never hand it over.
    const isAnySource = [...this.#reports.values()].some(
      ({ missed, hasLeft, resume }) => missed < MISSED_MAX && !hasLeft && resume.whole,
    );
    if (this.#deadlinePassed && !isAnySource) {
      this.#abort("none of its nodes has come back");
      return;
    }
    this.#deadlinePassed = true;
    this.#joinGraceOver = true;
    if (source !== undefined && !this.#hasProgress) {
      this.disconnect(source.id);
      this.#out.drop(source.id);
    }
    this.#hasProgress = false;
    this.#maybeStartTransfer();
  }

  status(): StatusReport {
    const { config, epoch } = this.#known;
    const { name, instance, size, base, processes, order, onLoss, elastic = false } = config;
    return {
      ...NOTHING_KNOWN,
      name,
      instance,
      epoch,
      phase: "recovering",
      order,
      size,
      base: `0x${base.toString(16)}`,
      processes,
      started: true,
      nodes: [],
      onLoss,
      elastic,
    };
  }

  #markLeft(link: Link): void {
    for (const report of this.#reports.values()) if (report.link === link) report.hasLeft = true;
  }

  #rejectLink(link: Link, status: Status, message: string): void {
    this.#out.send(link.id, encode({ kind: Kind.FAIL, op: status, body: encodeText(message) }));
    this.disconnect(link.id);
    this.#out.close(link.id);
  }

  #frame(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    if (!this.#links.has(link.id) || this.#isOver) return;
    const kind = view.getUint8(at + At.kind);
    if (link.hello !== null) {
      this.#nodeFrame(link, kind, view, at, size, bytes);
      return;
    }
    const isReader = kind === Kind.STATUS || kind === Kind.TRACE;
    if (kind !== Kind.HELLO && !isReader) throw new ProtocolError("the peer sent no handshake");
    checkHandshake(view, at);
    if (isReader) {
      this.#answerReader(link, kind, view, at, bytes);
      return;
    }
    const length = Math.min(view.getUint32(at + HandshakeAt.bodyLength, true), size - HEADER_SIZE);
    const hello = parseHello(bodyText(bytes, at + HEADER_SIZE, length));
    link.handshake = new Uint8Array(bytes.subarray(at, at + size));
    if (hello.resume !== null) this.#report(link, hello, hello.resume);
    link.hello = hello;
    this.#maybeStartTransfer();
  }

  #nodeFrame(link: Link, kind: number, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    if (kind === Kind.PING && view.getUint8(at + PingAt.op) === PingOp.LEAVING) {
      this.#markLeft(link);
      this.disconnect(link.id);
      this.#out.close(link.id);
    } else if (kind === Kind.STATE && this.#transfer?.link === link) {
      this.#hasProgress = true;
      const transfer = this.#transfer;
      if (Number.isNaN(transfer.told_ms)) transfer.told_ms = this.#now_ms;
      const received = transfer.receiver.receive(view, at, size, bytes);
      if (received !== null) this.#finish(received, transfer.told_ms);
    } else {
      throw new ProtocolError("an operation before the welcome");
    }
  }

  #answerReader(link: Link, kind: number, view: DataView, at: number, bytes: Uint8Array): void {
    const query = view.getUint8(at + StatusAt.query);
    if (kind === Kind.STATUS && query === StatusOp.END) {
      checkEnd(view, at, bytes, this.#known.config);
      this.#out.send(link.id, encode({ kind: Kind.REPLY }));
      this.#out.stop();
      return;
    }
    if (kind === Kind.TRACE || query === StatusOp.MEMORY) {
      throw new ProtocolError("another server is taking the session over; try again", Status.AGAIN);
    }
    this.#out.send(link.id, encode({ kind: Kind.REPLY, body: encodeJson(this.status()) }));
  }

  #report(link: Link, hello: NodeHello, resume: ResumeRequest): void {
    const { instance, promised, epoch, node } = resume;
    const { config } = this.#known;
    if (instance !== config.instance) throw new ProtocolError(`session "${config.name}" has ended`, Status.ENDED);
    if (promised > this.#known.epoch || epoch >= this.#known.epoch) {
      throw new ProtocolError("this server was replaced by another", Status.AGAIN);
    }
    const old = this.#reports.get(node);
    if (old !== undefined) {
      if (old.hello.secret !== hello.secret) throw new ProtocolError("two nodes of one number", Status.REFUSED);
      if (old.hasLeft) throw new ProtocolError("the node has left, or its state was damaged", Status.REFUSED);
      const { link: before } = old;
      if (before !== null) {
        this.disconnect(before.id);
        this.#out.drop(before.id);
      }
    }
    this.#reports.set(node, { hello, resume, link, hasLeft: false, missed: 0 });
    this.#out.waits(hello.reconnectMs);
  }

  /** Asks the most up-to-date node for its state, unless other nodes must be waited for. */
  #maybeStartTransfer(): void {
    if (this.#transfer !== null || this.#isOver) return;
    const best = this.#mostUpToDate();
    if (best === undefined) return;
    const { link, resume } = best;
    const { config, epoch, predecessorIsDead } = this.#known;
    const all = resume.nodes.every((node) => this.#reports.has(node));
    if (!all && !this.#deadlinePassed) return;
    if (resume.joining && !this.#joinGraceOver) return;
    // Nodes may have joined that this one does not know, and the predecessor may still serve them.
    if (resume.joining && !predecessorIsDead) {
      if (this.#deadlinePassed) this.#abort("nodes may have joined that the connected nodes do not know");
      return;
    }
    if (!all && !predecessorIsDead) {
      this.#abort(`${this.#whoCameBack(resume.nodes)}, and the server before may still serve the others`);
      return;
    }
    // The most up-to-date node reported but is disconnected: wait for it.
    if (link === null) return;
    this.#hasProgress = true;
    this.#transfer = { link, receiver: new StateReceiver(config, epoch, this.#memory), told_ms: Number.NaN };
    link.reader.limit = FRAME_MAX;
    this.#out.send(link.id, encode({ kind: Kind.STATE }));
  }

  /** Names the nodes that have come back; of the others only the numbers are known. */
  #whoCameBack(nodes: readonly number[]): string {
    const names = [...this.#reports.values()].map(({ hello }) => `"${hello.node}"`);
    const named = names.slice(0, NODES_NAMED_MAX).join(", ");
    const more = names.length > NODES_NAMED_MAX ? ` and ${names.length - NODES_NAMED_MAX} more` : "";
    return `of its ${nodes.length} nodes only ${named}${more} came back`;
  }

  /** The most up-to-date of the nodes that can hand over their state. */
  #mostUpToDate(): NodeReport | undefined {
    let best: NodeReport | undefined;
    for (const report of this.#reports.values()) {
      const isExpected = report.link !== null || report.missed < MISSED_MAX;
      const canHandOver = report.resume.whole && !report.hasLeft && isExpected;
      if (canHandOver && (best === undefined || isMoreUpToDate(report.resume, best.resume))) best = report;
    }
    return best;
  }

  #abort(why: string): void {
    this.#isOver = true;
    for (const link of [...this.#links.values()]) {
      if (link.hello === null) continue;
      const message = `session "${this.#known.config.name}" cannot go on after the loss of its server: ${why}`;
      this.#rejectLink(link, link.hello.resume === null ? Status.ENDED : Status.UNREACHABLE, message);
    }
    this.#out.failed(why);
  }

  #finish({ starts, ...received }: ReceivedState, told_ms: number): void {
    this.#isOver = true;
    const handshakes = new Map<number, Uint8Array>();
    for (const { id, handshake, reader } of this.#links.values()) handshakes.set(id, handshake ?? reader.partial);
    const nodes = [...this.#reports.values()].filter(({ hasLeft }) => !hasLeft).map(({ hello }) => hello);
    const { epoch } = this.#known;
    // Epochs that began after this state leave no entries; some epochs may have ended before they ordered anything.
    const { seq } = received.snapshot;
    const known = starts.map((start) => Math.min(start, seq));
    while (known.length < epoch) known.push(seq);
    this.#out.recovered({ ...received, epoch, starts: known, nodes, told_ms }, handshakes);
  }
}

/** Compares logs: the newer epoch wins, however long a log of an older epoch got. */
function isMoreUpToDate(one: ResumeRequest, other: ResumeRequest): boolean {
  return one.epoch !== other.epoch ? one.epoch > other.epoch : one.applied > other.applied;
}
