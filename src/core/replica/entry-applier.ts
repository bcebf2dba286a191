/**
 * Applies the log to this node's copy of the map and session, as entries come from the server, or as this node decides them
 * itself in direct mode.
 *
 * Invariant: each entry is applied once, in sequence, and is retained for nodes that may lack it.
 */
import { PAGE_SIZE } from "../base/limits.ts";
import { isZero, type MapBytes } from "../memory/map-bytes.ts";
import { MapOp } from "../memory/map-snapshot.ts";
import type { ResumeReply, ResumeRequest } from "../messages/handshake.ts";
import { encodeState } from "../messages/state-transfer.ts";
import type { Session } from "../session/session.ts";
import { At, HEADER_SIZE, MapAt, PingAt, StoreAt } from "../wire/at.ts";
import { checkMap } from "../wire/check-operation.ts";
import { getUint64, ProtocolError, setUint64 } from "../wire/frame.ts";
import type { PartPool } from "../wire/frame-reader.ts";
import { Kind } from "../wire/kinds.ts";
import { type EntryStream, isOfSamePublication } from "./entry-stream.ts";
import type { LogPosition } from "./log-position.ts";
import type { OwnPart, Proposals } from "./proposals.ts";
import type { StoreQueue } from "./store-queue.ts";

const NO_PARTS: readonly OwnPart[] = [];

/** What an applier works on. */
export interface ApplierOptions {
  node: number;
  session: Session;
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
}

export class EntryApplier {
  readonly #of: ApplierOptions;

  constructor(options: ApplierOptions) {
    this.#of = options;
  }

  /** Entries from the server. Throws ProtocolError when they are not the log: the replica is then of no use. */
  receive(chunk: Uint8Array): void {
    try {
      this.#of.entries.receive(chunk, (view, at, size, bytes) => this.#serverFrame(view, at, size, bytes));
    } finally {
      this.#of.queue.unlock();
    }
  }

  /**
   * A part of a publication, as a whole frame between those of receive(), in memory that is ours from now on. It is
   * applied with the final part, so the store queue is not locked for it.
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
        return;
      }
      case Kind.CHANGE:
        this.#of.onExitRequested();
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
      // The server repeats what this node has decided itself. Nothing that is decided comes in parts.
      return;
    }
    const [first] = ownParts;
    const isPublication = view.getUint8(at + At.kind) === Kind.PUBLISH;
    if (first !== undefined && !(isPublication && isOfSamePublication(first.bytes, view, at))) {
      throw new ProtocolError("an operation of ours comes back out of turn");
    }
    // Entries at or below the WELCOME's state are retained for other nodes but not applied again.
    const isNew = seq > this.#of.session.seq;
    // Of our own publications the server sends only the final part, unless it cannot know whether we have the others.
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
    this.#of.position.retained.adopt(part, seq, onRelease);
    if (!isNew) return;
    this.#of.queue.lock();
    this.apply(view, 0);
  }

  /** Applies the entry at `at`, which is the next. */
  apply(view: DataView, at: number): void {
    const kind = view.getUint8(at + At.kind);
    // Before the reply: the process that executed it never opens the page again.
    if (kind === Kind.ATOMIC) this.#markAtomic(view, at);
    this.#of.session.apply(view, at);
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

  /** A piece of the map that the WELCOME is followed by. */
  #mapPiece(view: DataView, at: number): void {
    if (!this.#of.entries.awaitsMap) throw new ProtocolError("a piece of a map that nobody asked for");
    const wrong = checkMap(view, at, this.#of.session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    this.#of.queue.lock();
    this.#of.memory.publish(view, at + HEADER_SIZE, at + view.getUint32(at + At.size, true));
    this.#of.entries.awaitsMap = view.getUint8(at + MapAt.hasMore) !== MapOp.LAST;
  }

  /** This node has decided the operation itself: it is the next entry. */
  applyDecided(view: DataView, frame: Uint8Array): void {
    const { position, proposals, session } = this.#of;
    position.retained.push(view, frame, 0, frame.length, session.seq + 1);
    proposals.noteDecided();
    this.apply(view, 0);
  }

  /** How far the log has come here. `hasProcesses`: whether the session has processes on this node. */
  resumeRequest(hasProcesses: boolean): ResumeRequest {
    const { config, seq, phase, nodes, direct } = this.#of.session;
    // Of an elastic session nodes that are ahead of us may have members that we do not know of.
    const isJoining = phase === "joining" || config.elastic === true;
    const about = { instance: config.instance, seq, nodes, isJoining };
    // When a session has ended nobody needs what the processes of a direct one stored.
    const hasAllStores = hasProcesses || !direct || phase === "ended";
    return this.#of.position.resumeRequest(about, this.#of.entries.confirmed, hasAllStores);
  }

  /**
   * All that a server needs to take over, in STATE frames. No entry comes meanwhile; what is decided here in direct mode is
   * proposed afterwards.
   */
  state(): Generator<Uint8Array> {
    const { session, memory, queue } = this.#of;
    const { retained, epochStarts } = this.#of.position;
    const entries = [...retained.after(retained.base)];
    const state = { snapshot: session.state(), starts: epochStarts, base: retained.base };
    // A page as the log has it: what processes have queued comes later.
    const orderedPage = (offset: number): Uint8Array | null => {
      const page = queue.readOrdered(offset, PAGE_SIZE) ?? memory.bytes.subarray(offset, offset + PAGE_SIZE);
      return isZero(page) ? null : page;
    };
    // In direct mode the map is the processes' own, and no server has use for it.
    return encodeState({ state, mapSize: memory.size, page: session.direct ? null : orderedPage, entries });
  }

  /** A server has this node again: what it has not ordered is proposed once more. Throws ProtocolError. */
  resumed(reply: ResumeReply): void {
    this.#of.position.follow(reply);
    if (reply.node !== this.#of.node || !this.#of.proposals.mayHaveOrdered(reply.ordered)) {
      throw new ProtocolError("the server takes us for another node");
    }
    this.#of.proposals.resend(reply.ordered);
  }
}
