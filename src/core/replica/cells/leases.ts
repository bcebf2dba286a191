/**
 * Leases: the locks that are leased to this node (session/locks.ts), outside direct mode. Its processes take them and give
 * them back by their cells, as in direct mode; a lease ends with a RETURN, which says which process has the lock.
 *
 *     onLease() ──▶ given ──onRecall(), a request for the lock, or a process that may have it goes──▶ RETURN proposed
 *
 * Invariants:
 * - For each lease that the log gives this node, one RETURN is proposed, unless the last process of the node leaves or the
 *   node is evicted first. A recall, or a request, that comes after it finds no lease.
 * - RETURN goes before the operation for which the lease is returned, and behind all stores that a process made before it
 *   gave the lock back: the cell is taken first, then the store queue is drained, then RETURN is proposed.
 * - A lease is given only while the session has a process on this node that runs, and none of them was lost: a process that
 *   counts as lost may run on and use a cell.
 * - A process takes a lock by its cell only before `openUntil`, which is over before the server gives this node up: the
 *   server keeps the place of a node with leases for LEASE_MS after the connection broke, and `openUntil` is LEASE_OPEN_MS
 *   after a question that the server has answered. What counts is when this node asked: an answer may be late.
 *   Not covered: a virtual machine that is stopped as a whole, with both of its clocks, and goes on within that time by them.
 */
import { LEASE_ASK_INTERVAL_MS, LEASE_OPEN_MS } from "../../base/limits.ts";
import { objectName } from "../../base/names.ts";
import type { Session } from "../../session/session.ts";
import { At, LeaveAt, ObjectInitAt } from "../../wire/at.ts";
import { OPEN_UNTIL_AT } from "../../wire/cell-layout.ts";
import { encode, encodeText, getUint64 } from "../../wire/frame.ts";
import { Kind, NO_TAG, PingOp } from "../../wire/kinds.ts";
import { nameAt } from "../../wire/name-at.ts";
import type { ProcessTable } from "../processes.ts";
import type { LockCells } from "./lock-cells.ts";

/** A time by two clocks of this host, in whole milliseconds (cell-layout.ts, OPEN_UNTIL_AT). */
export interface LeaseTime {
  readonly monotonic_ms: number;
  readonly real_ms: number;
}

export interface LeaseHost {
  readonly session: Session;
  readonly processes: ProcessTable;
  /** Proposes the stores that processes have queued. */
  readonly drainQueue: () => void;
  readonly propose: (view: DataView, frame: Uint8Array) => void;
  /** Sends a frame to the server that is no proposal. */
  readonly send: (frame: Uint8Array) => void;
}

export class Leases {
  readonly #host: LeaseHost;
  readonly #locks: LockCells;
  readonly #openUntil: BigInt64Array;
  /** Locks that are leased to this node and not returned. */
  readonly #given = new Set<string>();
  /** Of these, the ones that must be returned once the event is over, and whether the server itself has asked for them. */
  readonly #recalled = new Map<string, boolean>();
  /** The lock that each LOCK under way names, by its tag. */
  readonly #asked = new Map<number, string>();
  /** A process of this node was lost. */
  #isClosed = false;
  /** When the question that the server has not answered was asked; null: there is none. */
  #question: LeaseTime | null = null;
  /** A lock was asked for since then, and may be leased to this node soon. */
  #expectsLease = false;
  /** When the server was asked last. */
  #lastAsked_ms = Number.NEGATIVE_INFINITY;

  /** `memory`: CELLS_SIZE bytes that the processes of the node share. */
  constructor(memory: Uint8Array, locks: LockCells, host: LeaseHost) {
    this.#host = host;
    this.#locks = locks;
    this.#openUntil = new BigInt64Array(memory.buffer, memory.byteOffset + OPEN_UNTIL_AT, 2);
  }

  // --- What the session says ---------------------------------------------------------------------------------------

  /** The lock is leased to this node. */
  onLease(name: string): void {
    this.#given.add(name);
    if (this.#mayGive && this.#locks.assign(name) > 0) this.#locks.free(name);
    else this.#recalled.set(name, false);
  }

  /** The lease must end. */
  onRecall(name: string): void {
    if (this.#given.has(name) && !this.#recalled.has(name)) this.#recalled.set(name, false);
  }

  /** The server asks for all leases. */
  recallAll(): void {
    for (const name of this.#given) this.#recalled.set(name, true);
  }

  /** The request was answered. Returns 1 plus the cell of the lock that it named, or 0. */
  answered(tag: number): number {
    const name = this.#asked.get(tag);
    if (name === undefined) return 0;
    this.#asked.delete(tag);
    return this.#locks.assign(name);
  }

  // --- What becomes of leases --------------------------------------------------------------------------------------

  /** An operation of a process of this node is about to be proposed. */
  beforeProposal(kind: number, view: DataView): void {
    if (kind === Kind.LOCK) {
      this.#asked.set(view.getUint32(At.tag, true), nameAt(view, 0));
      this.#expectsLease = true;
    }
    if (kind === Kind.LOCK || kind === Kind.UNLOCK || kind === Kind.COND_WAIT) this.#giveBack(nameAt(view, 0));
    else if (kind === Kind.OBJECT_INIT) this.#giveBack(objectName("mutex", getUint64(view, ObjectInitAt.mapOffset)));
    else if (kind === Kind.LEAVE) this.#beforeLeave(view.getUint16(At.rank, true), view.getUint8(LeaveAt.isLost) === 1);
  }

  #beforeLeave(rank: number, isLost: boolean): void {
    if (isLost && this.#host.session.phase === "running") this.#isClosed = true;
    const all = !this.#mayGive;
    for (const name of [...this.#given]) if (all || this.#locks.ownerOf(name) === rank) this.#giveBack(name);
  }

  /** Returns the leases that were recalled. Runs after every event. */
  settle(): void {
    for (const [name, wasAsked] of this.#recalled) this.#giveBack(name, wasAsked);
    this.#recalled.clear();
  }

  /** This node gives up its place: its processes take no lock by its cell any more. */
  retire(): void {
    this.#isClosed = true;
    this.#setOpenUntil(0, 0);
    this.#locks.takeAll();
  }

  get #mayGive(): boolean {
    if (this.#isClosed) return false;
    for (const { state, isDead } of this.#host.processes.all()) if (state === "running" && !isDead) return true;
    return false;
  }

  #giveBack(name: string, wasAsked = false): void {
    if (!this.#given.delete(name)) return;
    const owner = this.#locks.take(name);
    this.#host.drainQueue();
    const frame = encode({
      ...{ kind: Kind.RETURN, node: this.#host.session.node, tag: NO_TAG, body: encodeText(name) },
      aux: wasAsked ? 1 : 0,
      ...(owner < 0 ? { op: 0 } : { op: 1, rank: owner }),
    });
    this.#host.propose(new DataView(frame.buffer), frame);
  }

  // --- How long they last ------------------------------------------------------------------------------------------

  /** Whether renew() must be called, now and at least every LEASE_ASK_INTERVAL_MS. */
  get mustRenew(): boolean {
    return this.#given.size > 0 || this.#expectsLease;
  }

  /** Asks the server whether this node still has its place, if it did not do so just now. */
  renew(now: LeaseTime, appliedThrough: number): void {
    this.#expectsLease = false;
    const now_ms = now.monotonic_ms;
    // An answer that takes longer than LEASE_OPEN_MS is of no use.
    const awaitsAnswer = this.#question !== null && now_ms - this.#question.monotonic_ms < LEASE_OPEN_MS;
    if (awaitsAnswer || now_ms - this.#lastAsked_ms < LEASE_ASK_INTERVAL_MS / 2) return;
    this.#question = now;
    this.#lastAsked_ms = now_ms;
    this.#host.send(encode({ kind: Kind.PING, op: PingOp.RENEW, offset: appliedThrough, aux: now_ms >>> 0 }));
  }

  /** The server has answered the question of that time, modulo 2^32. */
  onRenewed(askedAt: number): void {
    const question = this.#question;
    if (question === null || askedAt !== question.monotonic_ms >>> 0) return;
    this.#setOpenUntil(question.monotonic_ms + LEASE_OPEN_MS, question.real_ms + LEASE_OPEN_MS);
    this.#question = null;
  }

  #setOpenUntil(monotonic_ms: number, real_ms: number): void {
    Atomics.store(this.#openUntil, 0, BigInt(monotonic_ms));
    Atomics.store(this.#openUntil, 1, BigInt(real_ms));
  }

  /** The connection to the server is a new one: what was asked before, also while there was none, is not answered any more. */
  reconnected(): void {
    this.#question = null;
    this.#lastAsked_ms = Number.NEGATIVE_INFINITY;
  }
}
