/**
 * Applies the log to this node's copy of the map and session, as entries come from the server, or as this node decides
 * them itself in direct mode.
 *
 * Invariant: each entry is applied once, in sequence, and is retained for nodes that may lack it.
 */
import { PAGE_SIZE } from "../base/limits.ts";
import { isZero, type MapBytes } from "../memory/map-bytes.ts";
import { MapOp } from "../memory/map-snapshot.ts";
import type { ResumeReply, ResumeRequest } from "../messages/node-handshake.ts";
import { encodeState } from "../messages/state-transfer.ts";
import type { Activity } from "../observe/activity.ts";
import type { Session } from "../session/session.ts";
import { At, ChangeAt, HEADER_SIZE, MapAt, PingAt, StoreAt } from "../wire/at.ts";
import { checkMap } from "../wire/check-operation.ts";
import { getUint64, ProtocolError, setUint64 } from "../wire/frame.ts";
import type { PartPool } from "../wire/frame-reader.ts";
import { ChangeOp, Kind, PingOp } from "../wire/kinds.ts";
import { type EntryStream, isOfSamePublication } from "./entry-stream.ts";
import type { LogPosition } from "./log-position.ts";
import type { OwnPart, Proposals } from "./proposals.ts";
import type { StoreQueue } from "./store-queue.ts";

const NO_PARTS: readonly OwnPart[] = [];

/** The state on which an applier works. */
export interface ApplierOptions {
  node: number;
  session: Session;
  /** What people are shown; kept for a server that takes over. */
  activity: Activity;
  memory: MapBytes;
  /** A byte for each page, which is set once an atomic operation was executed there. */
  atomics: Uint8Array;
  entries: EntryStream;
  position: LogPosition;
  proposals: Proposals;
  queue: StoreQueue;
  pool: PartPool;
  /** The server asks this node to end direct mode. */
  onExitRequested: () => void;
  /** The server shows the session to people, now or again soon. */
  onAsked: () => void;
  /** The server asks this node to give back its leases. */
  onReturnRequested: () => void;
  /** The server has answered the RENEW with that `askedAt`. */
  onRenewed: (askedAt: number) => void;
}

export class EntryApplier {
  readonly #of: ApplierOptions;

  constructor(options: ApplierOptions) {
    this.#of = options;
  }

  /** Sets the time for what is counted: ReplicaOutput.now_ms(). */
  set clock(now_ms: number) {
    this.#of.activity.now_ms = now_ms;
  }

  /**
   * Receives entries from the server. Throws ProtocolError when they are not the log: the replica is then of no use.
   */
  receive(chunk: Uint8Array): void {
    try {
      this.#of.entries.receive(chunk, (view, at, size, bytes) => this.#serverFrame(view, at, size, bytes));
    } finally {
      this.#of.queue.unlock();
    }
  }

  /**
   * Receives a part of a publication: a whole frame between those of receive(), in memory that the replica owns from
   * now on. The part is applied with the final part, so the store queue is not locked for it.
   */
  receivePart(frame: Uint8Array<ArrayBuffer>): void {
    this.#of.entries.receivePart(frame, (view, at, size, bytes) => this.#serverFrame(view, at, size, bytes));
  }

  #serverFrame(view: DataView, at: number, size: number, bytes: Uint8Array): void {
    switch (view.getUint8(at + At.kind)) {
      case Kind.MAP:
        this.#mapPiece(view, at);
        return;
      case Kind.PING: {
        const applied = getUint64(view, at + PingAt.appliedThrough);
        if (!(applied <= this.#of.entries.confirmed)) {
          throw new ProtocolError("the server says that we have applied what we have not");
        }
        this.#of.position.retained.drop(applied);
        const op = view.getUint8(at + PingAt.op);
        if (op === PingOp.ASK) this.#of.onAsked();
        if (op === PingOp.RENEWED) this.#of.onRenewed(view.getUint32(at + PingAt.askedAt, true));
        return;
      }
      case Kind.CHANGE:
        if (view.getUint8(at + ChangeAt.op) === ChangeOp.RETURN) this.#of.onReturnRequested();
        else this.#of.onExitRequested();
        return;
    }
    const seq = this.#of.entries.next(view, at, size, bytes);
    if (seq !== null) this.#entry(seq, view, at, size, bytes);
  }

  #entry(seq: number, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const isQueued = this.#of.queue.isOwnEntry(view, bytes, at, size);
    const isOurs = view.getUint32(at + At.node, true) === this.#of.node;
    const ownParts = isOurs ? this.#of.proposals.confirmOldest() : NO_PARTS;
    const parts = this.#of.entries.confirm(seq);
    if (seq <= this.#of.session.seq && this.#of.proposals.confirmDecided()) {
      // The server repeats what this node has decided itself. Decided entries never come in parts.
      return;
    }
    const [first] = ownParts;
    const isPublication = view.getUint8(at + At.kind) === Kind.PUBLISH;
    if (first !== undefined && !(isPublication && isOfSamePublication(first.bytes, view, at))) {
      throw new ProtocolError("an operation of this node came back out of order");
    }
    // Entries at or below the WELCOME's state are retained for other nodes but not applied again.
    const isNew = seq > this.#of.session.seq;
    // Of this node's publications the server sends only the final part, unless the node may lack the others.
    if (parts.length > 0) {
      for (const part of ownParts) this.#of.proposals.release(part);
      for (const part of parts) this.#applyPart(part, seq, isNew, () => this.#of.pool.give(part));
    } else {
      for (const part of ownParts) this.#applyPart(part.bytes, seq, isNew, () => this.#of.proposals.release(part));
    }
    this.#of.position.retained.push(view, bytes, at, size, seq);
    if (isQueued) {
      this.#of.queue.commitOldest(() => this.apply(view, at));
    } else if (isNew) {
      this.#of.queue.lock();
      this.apply(view, at);
    }
  }

  #applyPart(part: Uint8Array<ArrayBuffer>, seq: number, isNew: boolean, onRelease: () => void): void {
    const view = new DataView(part.buffer, part.byteOffset, part.length);
    setUint64(view, At.seq, seq);
    this.#of.position.retained.pushOwned(part, seq, onRelease);
    if (!isNew) return;
    this.#of.queue.lock();
    this.apply(view, 0);
  }

  /** Applies the entry at `at`, which is the next. */
  apply(view: DataView, at: number): void {
    const kind = view.getUint8(at + At.kind);
    // Mark before the reply: the process that executed the operation never opens the page again.
    if (kind === Kind.ATOMIC) this.#markAtomic(view, at);
    this.#of.activity.apply(this.#of.session, view, at);
    // From here on other nodes have the map, too.
    if (kind === Kind.COPY && !this.#of.session.direct) this.#of.position.hasFullMap = true;
  }

  #markAtomic(view: DataView, at: number): void {
    const { atomics } = this.#of;
    const first = getUint64(view, at + StoreAt.mapOffset);
    const last = first + view.getUint32(at + StoreAt.bytesLength, true) - 1;
    atomics[Math.floor(first / PAGE_SIZE)] = 1;
    atomics[Math.floor(last / PAGE_SIZE)] = 1;
  }

  /** Applies a piece of the map that follows the WELCOME. */
  #mapPiece(view: DataView, at: number): void {
    if (!this.#of.entries.awaitsMap) throw new ProtocolError("a piece of a map that was not requested");
    const wrong = checkMap(view, at, this.#of.session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    this.#of.queue.lock();
    this.#of.memory.publish(view, at + HEADER_SIZE, at + view.getUint32(at + At.size, true));
    this.#of.entries.awaitsMap = view.getUint8(at + MapAt.hasMore) !== MapOp.LAST;
  }

  /** Applies an operation that this node has decided itself: it is the next entry. */
  applyDecided(view: DataView, frame: Uint8Array): void {
    const { position, proposals, session } = this.#of;
    position.retained.push(view, frame, 0, frame.length, session.seq + 1);
    proposals.noteDecided();
    this.apply(view, 0);
  }

  /** This node's position in the log. `hasProcesses`: whether the session has processes on this node. */
  resumeRequest(hasProcesses: boolean): ResumeRequest {
    const { config, seq, phase, nodes, direct } = this.#of.session;
    // In an elastic session, nodes that are ahead of this one may have members that this node does not know of.
    const isJoining = phase === "joining" || config.elastic === true;
    const about = { instance: config.instance, seq, nodes, isJoining };
    // When a session has ended, no node needs the stores of a direct one.
    const hasAllStores = hasProcesses || !direct || phase === "ended";
    return this.#of.position.resumeRequest(about, this.#of.entries.confirmed, hasAllStores);
  }

  /**
   * The STATE frames with all that a server needs to take over. No entry is received meanwhile; operations decided here
   * in direct mode are proposed afterwards.
   */
  state(): Generator<Uint8Array> {
    const { session, activity, memory, queue } = this.#of;
    const { retained, epochStarts } = this.#of.position;
    const entries = [...retained.framesAfter(retained.droppedThrough)];
    const snapshot = session.state();
    const counted = activity.save(snapshot);
    const state = {
      ...{ snapshot, starts: epochStarts, base: retained.droppedThrough },
      ...(counted === undefined ? {} : { activity: counted }),
    };
    // A page as the log has it: stores that processes have queued come later.
    const orderedPage = (offset: number): Uint8Array | null => {
      const page = queue.readOrdered(offset, PAGE_SIZE) ?? memory.bytes.subarray(offset, offset + PAGE_SIZE);
      return isZero(page) ? null : page;
    };
    // In direct mode the map belongs to the processes, and the server does not use it.
    return encodeState({ state, mapSize: memory.size, page: session.direct ? null : orderedPage, entries });
  }

  /**
   * Resumes after a server has accepted this node again: proposes once more what the server has not ordered. Throws
   * ProtocolError.
   */
  resumed(reply: ResumeReply): void {
    this.#of.position.follow(reply);
    if (reply.node !== this.#of.node || !this.#of.proposals.mayHaveOrdered(reply.ordered)) {
      throw new ProtocolError("the server takes us for another node");
    }
    this.#of.proposals.resend(reply.ordered);
  }
}
