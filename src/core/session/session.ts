/**
 * Session: the replicated state machine. Server and arbiters apply the same entries to it and so hold the same ranks,
 * semaphores, locks and bytes at the same number. It decides everything, and tells its owner through `Effects`.
 *
 * The order is sequential consistency by total-order broadcast with local reads (Attiya and Welch, "Sequential
 * consistency versus linearizability", ACM TOCS 1994): a process continues only when its own operation has been applied
 * on its own node.
 */
import { Status } from "../base/errors.ts";
import { PAGE_SIZE, PROCESSES_MAX, SIZE_MAX } from "../base/limits.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import { publishInPieces } from "../memory/publish-in-pieces.ts";
import type { RankReport } from "../messages/daemon-api.ts";
import type { SavedSession } from "../messages/saved-session.ts";
import type { Block, LockState, Phase, Requester, SessionConfig, SessionState } from "../messages/session-state.ts";
import {
  AllocateAt,
  At,
  AtomicAt,
  CopyAt,
  FreeAt,
  HEADER_SIZE,
  JoinAt,
  LeaveAt,
  PublishAt,
  StoreAt,
} from "../wire/at.ts";
import { getUint64 } from "../wire/frame.ts";
import { type AtomicOp, CopyOp, Kind, PublishOp } from "../wire/kinds.ts";
import { nameAt } from "../wire/name-at.ts";
import { Blocks } from "./blocks.ts";
import type { Effects } from "./effects.ts";
import { EntryCounts } from "./entry-counts.ts";
import { Membership, type MissingRanks } from "./membership.ts";
import { Replies } from "./replies.ts";
import {
  type LockReport,
  type ObjectReport,
  reportLocks,
  reportObjects,
  reportRanks,
  reportSemaphores,
  type SemaphoreReport,
} from "./report.ts";
import { Synchronisation } from "./synchronisation.ts";

export class Session {
  readonly config: SessionConfig;
  /** The node to which the map belongs: its own upload is in the map already. -1: no node's. */
  node = -1;
  readonly #memory: MapBytes;
  readonly #effects: Effects;
  readonly #replies: Replies;
  readonly #members: Membership;
  readonly #sync: Synchronisation;
  readonly #blocks: Blocks;
  /** The value before the last atomic operation, 16 bytes little-endian. */
  readonly #old = new DataView(new ArrayBuffer(16));
  readonly #counts = new EntryCounts();
  #restored = false;

  constructor(config: SessionConfig, memory: MapBytes, effects: Effects) {
    if (config.processes < 1 || config.processes > PROCESSES_MAX) throw new RangeError("session: processes");
    if (config.size < 1 || config.size > SIZE_MAX || config.size % PAGE_SIZE !== 0 || memory.size !== config.size)
      throw new RangeError("session: size");
    this.config = config;
    this.#memory = memory;
    this.#effects = effects;
    const replies = new Replies(effects);
    const members = new Membership(config, replies, effects);
    this.#replies = replies;
    this.#members = members;
    this.#sync = new Synchronisation(memory, members, replies, effects);
    this.#blocks = new Blocks(members, replies, effects, memory);
  }

  get phase(): Phase {
    return this.#members.phase;
  }
  /** Number of the last entry applied. */
  get seq(): number {
    return this.#counts.seq;
  }
  /** Bytes that stores, atomics and publications have written. */
  get bytesWritten(): number {
    return this.#counts.bytesWritten;
  }
  /**
   * Whether the session is in direct mode: when it started, all processes were on one node and none refused. They share
   * the map itself, the hardware keeps it coherent, and no store is ordered here. In an elastic session direct mode may
   * end: see direct-mode-exit.ts.
   */
  get direct(): boolean {
    return this.#members.direct;
  }
  /** The first rank that was lost, or -1. */
  get lostRank(): number {
    return this.#members.lostRank;
  }
  /** The ranks that the barrier lacked while `rank` waited in it, but for `rank`. */
  missingInBarrier(rank: number): number[] {
    return this.#sync.barrier.missing(rank);
  }

  /** The ranks for which `rank` waits in a session that has not begun. */
  missing(rank: number): MissingRanks {
    return this.#members.missing(rank);
  }

  /** Number of barriers that all processes have passed. */
  get barriers(): number {
    return this.#sync.barrier.passed;
  }
  get blocks(): readonly Block[] {
    return this.#blocks.all;
  }

  /** Number of the node's operations in the log, by which a node knows which proposals to send again; EVICTED: none. */
  entriesOf(node: number): number {
    return this.#counts.of(node);
  }

  /** Numbers of the nodes that have processes here. */
  get nodes(): number[] {
    return [...new Set(this.#members.present().map(({ node }) => node))];
  }

  /** Whether `rank` is on `node` and may issue operations. */
  mayIssue(rank: number, node: number): boolean {
    return this.#members.mayIssue(rank, node);
  }

  /** Number of processes that have joined and not left. */
  get present(): number {
    return this.#members.presentCount;
  }

  /** Whether all processes that have joined are still here. */
  get allPresent(): boolean {
    return this.present === this.config.processes;
  }

  /** Ranks of `node` that have neither left nor been lost. */
  presentOn(node: number): number[] {
    return this.#members
      .present()
      .filter((process) => process.node === node)
      .map(({ rank }) => rank);
  }

  /** The lock of that name, if it is there. */
  lockNamed(name: string): Readonly<LockState> | undefined {
    return this.#sync.locks.named(name);
  }

  /** Whether the lock is there, and no process has it, waits for it, or has ended while it had it. */
  isLockFree(name: string): boolean {
    return this.#sync.locks.isFree(name);
  }

  /** The requests that wait for the semaphore, first come first. */
  waitersOf(semaphore: string): readonly Requester[] {
    return this.#sync.semaphores.waitersOf(semaphore);
  }

  /** The value of the semaphore if it is there and no process waits for it, else -1. */
  idleValueOf(semaphore: string): number {
    return this.#sync.semaphores.idleValueOf(semaphore);
  }

  /** The mutexes with which the first `count` waiters of the condition at that place go on. */
  mutexesOf(condition: number, count: number): string[] {
    return this.#sync.conditions.mutexesOf(condition, count);
  }

  /** The mutex with which the request goes on if it waits for a condition, else null. */
  mutexOf(node: number, tag: number): string | null {
    return this.#sync.conditions.mutexOf(node, tag);
  }

  /** Bytes of the block that begins there; 0: none does. */
  sizeOfBlock(offset: number): number {
    return this.#blocks.sizeOf(offset);
  }

  /** The nodes to which locks are leased. */
  get lessees(): Set<number> {
    return this.#sync.locks.lessees();
  }

  /** Whether the map holds the value that the FUTEX_WAIT at `at` expects. */
  equalsMap(view: DataView, at: number): boolean {
    return this.#sync.futexes.equalsMap(view, at);
  }

  /**
   * Applies the entry at `at`, which checkOperation() has found well formed. A part of a publication that is not the
   * last only writes its bytes: no request is answered and the sequence number does not change.
   */
  apply(view: DataView, at: number): void {
    const kind = view.getUint8(at + At.kind);
    const tag = view.getUint32(at + At.tag, true);
    const node = view.getUint32(at + At.node, true);
    const isPart = kind === Kind.PUBLISH && view.getUint8(at + PublishAt.part) === PublishOp.PART;
    if (!isPart) {
      const evicts = kind === Kind.LEAVE && view.getUint32(at + LeaveAt.isEvicted, true) === 1;
      this.#counts.count(node, evicts);
    }
    switch (kind) {
      case Kind.STORE: {
        const length = view.getUint32(at + StoreAt.bytesLength, true);
        const offset = getUint64(view, at + StoreAt.mapOffset);
        this.#memory.store(offset, view, at + HEADER_SIZE, length);
        this.#counts.bytesWritten += length;
        if (this.#effects.wantsWrites) this.#effects.onWrite(offset, length);
        this.#replies.ok(node, tag);
        return;
      }
      case Kind.ATOMIC: {
        const width = view.getUint32(at + AtomicAt.width, true);
        const offset = getUint64(view, at + AtomicAt.mapOffset);
        const op = view.getUint8(at + AtomicAt.op) as AtomicOp;
        this.#memory.atomic(op, width, offset, view, at + HEADER_SIZE, this.#old, 0);
        this.#counts.bytesWritten += width;
        if (this.#effects.wantsWrites) this.#effects.onWrite(offset, width);
        this.#replies.atomic(node, tag, this.#old);
        return;
      }
      case Kind.PUBLISH:
        this.#publish(view, at);
        if (!isPart) this.#replies.ok(node, tag);
        return;
      case Kind.COPY:
        this.#upload(view, at, node);
        return;
    }
    this.#applyRequest(kind, view, at, { node, tag, rank: view.getUint16(at + At.rank, true) });
  }

  #applyRequest(kind: number, view: DataView, at: number, from: Requester): void {
    switch (kind) {
      case Kind.JOIN:
        this.#members.join({
          node: from.node,
          tag: from.tag,
          nodeName: nameAt(view, at),
          pid: getUint64(view, at + JoinAt.pid),
          wishedRank: view.getUint32(at + JoinAt.wishedRank, true) - 1,
          refusesDirect: view.getUint8(at + JoinAt.refusesDirect) === 1,
        });
        return;
      case Kind.LEAVE:
        this.#leave(from, view, at);
        return;
      case Kind.ALLOC: {
        const alignment = view.getUint32(at + AllocateAt.alignment, true);
        this.#blocks.allocate(getUint64(view, at + AllocateAt.bytes), alignment, from);
        return;
      }
      case Kind.NAMED: {
        const alignment = view.getUint32(at + AllocateAt.alignment, true);
        this.#blocks.named(nameAt(view, at), getUint64(view, at + AllocateAt.bytes), alignment, from);
        return;
      }
      case Kind.FREE:
        this.#free(getUint64(view, at + FreeAt.mapOffset), from);
        return;
      case Kind.OBJECT_INIT:
        if (this.#members.admits(from, true)) this.#replies.status(from, this.#sync.initialize(view, at));
        return;
      default:
        if (!this.#sync.apply(kind, view, at, from))
          throw new RangeError(`session: entry of kind ${kind} was let through`);
    }
  }

  /** Frees a block. The objects in it get their first state again: another block that lies there begins with zeros. */
  #free(offset: number, from: Requester): void {
    const size = this.#members.mayIssue(from.rank, from.node) ? this.#blocks.sizeOf(offset) : 0;
    if (size > 0) this.#sync.reset(offset, offset + size);
    this.#blocks.free(offset, from);
  }

  #publish(view: DataView, at: number): void {
    const end = at + view.getUint32(at + At.size, true);
    const first = at + HEADER_SIZE;
    if (!this.#effects.wantsWrites) {
      this.#counts.bytesWritten += this.#memory.publish(view, first, end);
      return;
    }
    const onWrite = (offset: number, length: number): void => this.#effects.onWrite(offset, length);
    this.#counts.bytesWritten += publishInPieces(this.#memory, view, first, end, onWrite);
  }

  /**
   * Applies a piece of the map of the node that ends direct mode. No other node has processes yet, so none reads the
   * map.
   */
  #upload(view: DataView, at: number, node: number): void {
    if (!this.direct) return;
    const op = view.getUint8(at + CopyAt.op);
    this.#members.upload(op === CopyOp.END);
    if (node === this.node) return;
    if (op === CopyOp.BEGIN) this.#memory.clear();
    else this.#memory.publish(view, at + HEADER_SIZE, at + view.getUint32(at + At.size, true));
  }

  #leave(from: Requester, view: DataView, at: number): void {
    const isLost = view.getUint8(at + LeaveAt.isLost) === 1;
    const isEvicted = view.getUint32(at + LeaveAt.isEvicted, true) === 1;
    const process = this.#members.leaving(from.rank, from.node);
    if (process === undefined) {
      this.#replies.status(from, Status.LEFT);
      return;
    }
    const signalled = this.#sync.endWaitsOf(process);
    this.#members.remove(process, isLost, view.getUint32(at + LeaveAt.gaveUp, true) === 1);
    this.#replies.ok(from.node, from.tag);
    this.#effects.onProcessGone(from.node, from.rank);
    if (this.present === 0) {
      this.#members.end();
    } else if (this.phase === "running") {
      if (isLost) this.#members.noteLoss(from.rank);
      if (isLost && this.config.onLoss === "fail") this.#sync.failAll(this.lostRank);
      else this.#sync.barrier.openIfComplete();
      this.#sync.passOnSignalsOf(signalled);
      this.#sync.locks.passOnLocksOf(from.rank);
      this.#sync.rwLocks.passOnLocksOf(from.rank);
      this.#sync.locks.endLeasesAfter(from, isLost, isEvicted);
    }
  }

  get #resources(): readonly { load(state: SessionState): void; save(): Partial<SessionState> }[] {
    return [this.#counts, this.#members, this.#sync, this.#blocks];
  }

  /** The full state, as a copy. */
  state(): SessionState {
    const own = { config: this.config, restored: this.#restored };
    return structuredClone(Object.assign(own, ...this.#resources.map((resource) => resource.save())));
  }

  /** Makes a session from `state`, over memory that holds the bytes belonging to it. */
  static fromState(state: SessionState, memory: MapBytes, effects: Effects): Session {
    const session = new Session(state.config, memory, effects);
    const copy = structuredClone(state);
    session.#restored = copy.restored;
    for (const resource of session.#resources) resource.load(copy);
    return session;
  }

  /** The part of the state with which a later session can begin: without processes and waiting requests. */
  save(): SavedSession {
    return structuredClone({
      config: this.config,
      seq: this.#counts.seq,
      ...this.#sync.saved(),
      blocks: [...this.#blocks.all],
    });
  }

  /** Adopts a saved session. This session must not have begun, and the memory must hold the bytes of `saved`. */
  adopt(saved: SavedSession): void {
    if (this.#counts.seq !== 0 || saved.config.size !== this.config.size)
      throw new RangeError("session: saved session");
    this.#restored = true;
    this.#blocks.load(saved);
    this.#sync.adopt(saved);
  }

  /** Reports each process and what it does, for people. */
  report(): RankReport[] {
    return reportRanks(this.#members.all(), this.#sync);
  }

  semaphores(): SemaphoreReport[] {
    return reportSemaphores(this.#sync.semaphores.all());
  }

  locks(): LockReport[] {
    return reportLocks(this.#sync.locks.all());
  }

  /** The objects in the map in use that are neither locks nor semaphores. */
  objects(): ObjectReport[] {
    return reportObjects(this.#sync);
  }
}
