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
import type {
  Block,
  LockState,
  Phase,
  Requester,
  SessionConfig,
  SessionState,
  WaitQueue,
} from "../messages/session-state.ts";
import {
  AllocateAt,
  At,
  AtomicAt,
  BarrierAt,
  CancelAt,
  CopyAt,
  FreeAt,
  FutexWakeAt,
  HEADER_SIZE,
  JoinAt,
  LeaveAt,
  LockAt,
  PublishAt,
  ReturnAt,
  SemaphoreAt,
  SemValueAt,
  StoreAt,
  UnlockAt,
} from "../wire/at.ts";
import { getUint64 } from "../wire/frame.ts";
import { type AtomicOp, CopyOp, Kind, PublishOp } from "../wire/kinds.ts";
import { nameAt } from "../wire/name-at.ts";
import { Barrier } from "./barrier.ts";
import { Blocks } from "./blocks.ts";
import type { Effects } from "./effects.ts";
import { EntryCounts } from "./entry-counts.ts";
import { Futexes } from "./futexes.ts";
import { Locks, newLock } from "./locks.ts";
import { Membership, type MissingRanks } from "./membership.ts";
import { Replies } from "./replies.ts";
import { type LockReport, reportLocks, reportRanks, reportSemaphores, type SemaphoreReport } from "./report.ts";
import { Semaphores } from "./semaphores.ts";
import { WaitQueues } from "./wait-queues.ts";

export class Session {
  readonly config: SessionConfig;
  /** The node to which the map belongs: its own upload is in the map already. -1: no node's. */
  node = -1;
  readonly #memory: MapBytes;
  readonly #effects: Effects;
  readonly #replies: Replies;
  readonly #members: Membership;
  readonly #barrier: Barrier;
  readonly #waits: WaitQueues;
  readonly #semaphores: Semaphores;
  readonly #locks: Locks;
  readonly #futexes: Futexes;
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
    const waits = new WaitQueues(replies);
    this.#replies = replies;
    this.#members = members;
    this.#waits = waits;
    this.#barrier = new Barrier(members, replies);
    this.#semaphores = new Semaphores(members, replies, waits);
    this.#locks = new Locks(members, replies, waits, effects);
    this.#futexes = new Futexes(members, replies, waits, memory);
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
    return this.#barrier.missing(rank);
  }

  /** The ranks for which `rank` waits in a session that has not begun. */
  missing(rank: number): MissingRanks {
    return this.#members.missing(rank);
  }

  /** Number of barriers that all processes have passed. */
  get barriers(): number {
    return this.#barrier.passed;
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
    return this.#locks.named(name);
  }

  /** Whether the lock is there, and no process has it, waits for it, or has ended while it had it. */
  isLockFree(name: string): boolean {
    return this.#locks.isFree(name);
  }

  /** The requests that wait for the semaphore, first come first. */
  waitersOf(semaphore: string): readonly Requester[] {
    return this.#semaphores.waitersOf(semaphore);
  }

  /** The value of the semaphore if it is there and no process waits for it, else -1. */
  idleValueOf(semaphore: string): number {
    return this.#semaphores.idleValueOf(semaphore);
  }

  /** The nodes to which locks are leased. */
  get lessees(): Set<number> {
    return this.#locks.lessees();
  }

  /** Whether the map holds the value that the FUTEX_WAIT at `at` expects. */
  equalsMap(view: DataView, at: number): boolean {
    return this.#futexes.equalsMap(view, at);
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
      case Kind.BARRIER: {
        const passed = getUint64(view, at + BarrierAt.passed);
        if (passed > 0) this.#barrier.notePassed(passed);
        else this.#barrier.arrive(from);
        return;
      }
      case Kind.SEM_WAIT: {
        const initial = view.getUint32(at + SemaphoreAt.initial, true);
        this.#semaphores.wait(nameAt(view, at), initial, view.getUint8(at + SemaphoreAt.tryOnly) === 1, from);
        return;
      }
      case Kind.SEM_POST: {
        const initial = view.getUint32(at + SemaphoreAt.initial, true);
        this.#semaphores.post(nameAt(view, at), initial, getUint64(view, at + SemaphoreAt.increment), from);
        return;
      }
      case Kind.SEM_VALUE:
        this.#semaphores.set(nameAt(view, at), getUint64(view, at + SemValueAt.value));
        return;
      case Kind.SEM_CANCEL:
        this.#cancel(from, view.getUint8(at + CancelAt.isSentBack) === 1);
        return;
      case Kind.LOCK:
        this.#locks.lock(nameAt(view, at), view.getUint8(at + LockAt.tryOnly) === 1, from);
        return;
      case Kind.UNLOCK:
        this.#locks.unlock(nameAt(view, at), view.getUint8(at + UnlockAt.keepsMark) === 1, from);
        return;
      case Kind.RETURN:
        this.#locks.giveBack(nameAt(view, at), from.node, {
          owner: view.getUint8(at + ReturnAt.isOwned) === 1 ? from.rank : -1,
          wasAsked: view.getUint32(at + ReturnAt.wasAsked, true) === 1,
        });
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
        this.#blocks.free(getUint64(view, at + FreeAt.mapOffset), from);
        return;
      case Kind.FUTEX_WAIT:
        this.#futexes.sleep(view, at, from);
        return;
      case Kind.FUTEX_WAKE: {
        const count = view.getUint32(at + FutexWakeAt.count, true);
        this.#futexes.wake(getUint64(view, at + FutexWakeAt.mapOffset), count, from.node, from.tag);
        return;
      }
      default:
        throw new RangeError(`session: entry of kind ${kind} was let through`);
    }
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
    // Requests of the process that still wait, on other channels, get their replies, too.
    this.#barrier.drop(process);
    for (const queue of this.#queues()) {
      this.#waits.end(queue, Status.LEFT, 0, process.rank);
      this.#futexes.dropIfEmpty(queue);
    }
    this.#members.remove(process, isLost, view.getUint32(at + LeaveAt.gaveUp, true) === 1);
    this.#replies.ok(from.node, from.tag);
    this.#effects.onProcessGone(from.node, from.rank);
    if (this.present === 0) {
      this.#members.end();
    } else if (this.phase === "running") {
      if (isLost) this.#members.noteLoss(from.rank);
      if (isLost && this.config.onLoss === "fail") this.#failAll();
      else this.#barrier.openIfComplete();
      this.#locks.passOnLocksOf(from.rank);
      this.#locks.endLeasesAfter(from, isLost, isEvicted);
    }
  }

  /** Ends all waits with LOST: a lost process will never arrive or post. */
  #failAll(): void {
    this.#barrier.failAll();
    for (const queue of this.#queues()) {
      this.#waits.end(queue, Status.LOST, this.lostRank);
      this.#futexes.dropIfEmpty(queue);
    }
  }

  /** Cancelling a request that was already granted has no effect. */
  #cancel(from: Requester, isSentBack: boolean): void {
    const queue = this.#waits.cancel(from.node, from.tag);
    if (queue === undefined) {
      this.#barrier.cancel(from.node, from.tag);
      return;
    }
    this.#futexes.dropIfEmpty(queue);
    this.#replies.status(from, isSentBack ? Status.AGAIN : Status.TIMEOUT);
  }

  *#queues(): Generator<WaitQueue> {
    yield* this.#semaphores.queues();
    yield* this.#locks.queues();
    yield* this.#futexes.queues();
  }

  get #resources(): readonly { load(state: SessionState): void; save(): Partial<SessionState> }[] {
    return [this.#counts, this.#members, this.#barrier, this.#semaphores, this.#locks, this.#futexes, this.#blocks];
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
    for (const queue of session.#queues()) session.#waits.load(queue);
    return session;
  }

  /** The part of the state with which a later session can begin: without processes and waiting requests. */
  save(): SavedSession {
    return structuredClone({
      config: this.config,
      seq: this.#counts.seq,
      semaphores: [...this.#semaphores.all()].map(({ name, value }) => ({ name, value })),
      locks: this.#locks.saved(),
      blocks: [...this.#blocks.all],
    });
  }

  /** Adopts a saved session. This session must not have begun, and the memory must hold the bytes of `saved`. */
  adopt(saved: SavedSession): void {
    if (this.#counts.seq !== 0 || saved.config.size !== this.config.size)
      throw new RangeError("session: saved session");
    this.#restored = true;
    this.#blocks.load(saved);
    this.#semaphores.load({ semaphores: saved.semaphores.map((semaphore) => ({ ...semaphore, waiters: [] })) });
    this.#locks.load({ locks: saved.locks.map(({ name, died }) => newLock(name, died)) });
  }

  /** Reports each process and what it does, for people. */
  report(): RankReport[] {
    return reportRanks(this.#members.all(), this.#semaphores.all(), this.#locks.all(), this.#futexes.all());
  }

  semaphores(): SemaphoreReport[] {
    return reportSemaphores(this.#semaphores.all());
  }

  locks(): LockReport[] {
    return reportLocks(this.#locks.all());
  }
}
