/**
 * CellDecisions: decides the requests of processes that also synchronise by cells, in direct mode. It takes the cell of
 * what a request names, makes the session know what the processes have done by it, lets the session decide, and gives the
 * cell back to the processes where it can.
 */
import type { Status } from "../../base/errors.ts";
import type { Requester } from "../../messages/session-state.ts";
import { At, CondSignalAt, FreeAt, LockAt, ObjectInitAt, SemWaitAt, UnlockAt } from "../../wire/at.ts";
import { BARRIER_CELL_AT } from "../../wire/cell-layout.ts";
import { encode, encodeText, getUint64 } from "../../wire/frame.ts";
import { Kind, NO_TAG } from "../../wire/kinds.ts";
import { nameAt } from "../../wire/name-at.ts";
import type { DirectModeExit } from "../direct-mode-exit.ts";
import { BarrierCell } from "./barrier-cell.ts";
import { type LeaseHost, Leases } from "./leases.ts";
import { LockCells } from "./lock-cells.ts";
import { type CellValue, SemaphoreCells } from "./semaphore-cells.ts";

/**
 * After so many posts in a row that each ended a wait while others went on waiting, these are sent back to the cell, if
 * there are not too many: most posts and waits need no request then, for as long as a thread waits by the cell.
 */
const POSTS_TO_SEND_BACK = 8;
const SENT_BACK_MAX = 32;

/** An answer to a request. */
export type Answer = readonly [tag: number, status: Status, aux: number, value: number];

export interface CellHost extends LeaseHost {
  readonly exit: DirectModeExit;
  /** Applies an operation of this node at once; the server follows. */
  readonly decide: (view: DataView, frame: Uint8Array) => void;
  readonly reply: (...answer: Answer) => void;
  /** Wakes all threads that sleep on the word at that byte of the cells. */
  readonly wakeCell: (at: number) => void;
}

export class CellDecisions {
  readonly #host: CellHost;
  readonly #locks: LockCells;
  readonly #semaphores: SemaphoreCells;
  readonly #barrier: BarrierCell;
  /**
   * Requests that have no answer, by tag: what it is to tell of the cell, and whether the process may be sent back to the
   * cell. At most as many as a node has requests under way.
   */
  readonly #asked = new Map<number, { value: number; usesCell: boolean }>();
  /** Answers that wait until the cell is what they make the processes expect. */
  #heldBack: Answer[] | null = null;
  /** Posts of each semaphore in a row that ended a wait while others went on. */
  readonly #busyPosts = new Map<string, number>();
  postsToSendBack = POSTS_TO_SEND_BACK;
  /** The locks that have cells outside direct mode. */
  readonly leases: Leases;

  /** `memory`: CELLS_SIZE bytes, zeroed, that the processes of the node share. */
  constructor(memory: Uint8Array, host: CellHost) {
    this.#host = host;
    this.#locks = new LockCells(memory, host.wakeCell);
    this.#semaphores = new SemaphoreCells(memory, host.wakeCell);
    this.#barrier = new BarrierCell(memory, () => host.wakeCell(BARRIER_CELL_AT));
    this.leases = new Leases(memory, this.#locks, host);
  }

  /** Decides an operation of a process of this node. */
  decide(kind: number, view: DataView, frame: Uint8Array): void {
    if (kind === Kind.LEAVE) this.takeAll();
    if (kind === Kind.JOIN) this.#takeBarrier();
    if (kind === Kind.BARRIER) this.#decideBarrier(view, frame);
    else if (kind === Kind.LOCK || kind === Kind.UNLOCK) this.#lock(kind, view, frame);
    else if (kind === Kind.SEM_WAIT || kind === Kind.SEM_POST) this.#semaphore(kind, view, frame);
    else if (kind === Kind.COND_WAIT) this.#conditionWait(view, frame);
    else this.#decideOther(kind, view, frame);
  }

  /** Decides an operation that gives no cell back; it may name what has one. */
  #decideOther(kind: number, view: DataView, frame: Uint8Array): void {
    const { session, decide } = this.#host;
    if (kind === Kind.COND_SIGNAL) {
      const offset = getUint64(view, CondSignalAt.mapOffset);
      for (const mutex of session.mutexesOf(offset, view.getUint32(CondSignalAt.count, true))) this.#takeLock(mutex);
    } else if (kind === Kind.SEM_CANCEL) {
      const mutex = session.mutexOf(session.node, view.getUint32(At.tag, true));
      if (mutex !== null) this.#takeLock(mutex);
    } else if (kind === Kind.OBJECT_INIT) {
      const offset = getUint64(view, ObjectInitAt.mapOffset);
      this.#takeWithin(offset, offset + 1);
    } else if (kind === Kind.FREE) {
      const offset = getUint64(view, FreeAt.mapOffset);
      this.#takeWithin(offset, offset + session.sizeOfBlock(offset));
    }
    decide(view, frame);
  }

  /** Takes the cells of the objects in that part of the map. */
  #takeWithin(from: number, to: number): void {
    for (const name of this.#locks.within(from, to)) this.#takeLock(name);
    for (const name of this.#semaphores.within(from, to)) this.#takeSemaphore(name);
  }

  #takeLock(name: string): void {
    const owner = this.#locks.take(name);
    if (owner >= 0) this.#own(name, owner);
  }

  #takeSemaphore(name: string): void {
    const known = this.#semaphores.take(name);
    if (known >= 0) this.#set({ name, value: known });
  }

  /** The process unlocks the mutex that it names. */
  #conditionWait(view: DataView, frame: Uint8Array): void {
    const name = nameAt(view, 0);
    this.#takeLock(name);
    this.#answerBehind(() => {
      this.#host.decide(view, frame);
      if (this.#mayGive && this.#host.session.isLockFree(name)) this.#locks.free(name);
    });
  }

  /** Takes all cells, so that the session knows what the processes have done by them. */
  takeAll(): void {
    this.#takeBarrier();
    for (const { name, rank } of this.#locks.takeAll()) this.#own(name, rank);
    for (const semaphore of this.#semaphores.takeAll()) this.#set(semaphore);
  }

  /** Makes the session, and so its server, know the values that semaphores have now; their cells stay given. */
  report(): void {
    for (const semaphore of this.#semaphores.values()) this.#set(semaphore);
  }

  /** `tag` is answered. Returns 1 plus the cell of what it named, by which the process finds it; or 0. */
  answered(tag: number): number {
    const value = this.#asked.get(tag)?.value ?? 0;
    this.#asked.delete(tag);
    return this.leases.answered(tag) || value;
  }

  /** Whether the answer is to wait for a moment: it is given to the host's `reply` then. */
  holdsBack(...answer: Answer): boolean {
    this.#heldBack?.push(answer);
    return this.#heldBack !== null;
  }

  /** Makes the session count the barriers that the processes have passed by their cell. Returns whether there are any. */
  notePassedBarriers(): boolean {
    const passed = this.#barrier.countPassed();
    const { session, decide } = this.#host;
    const [rank] = passed > 0 ? session.presentOn(session.node) : [];
    if (rank === undefined) return false;
    const frame = encode({ kind: Kind.BARRIER, rank, node: session.node, tag: NO_TAG, offset: passed });
    decide(new DataView(frame.buffer), frame);
    return true;
  }

  /** The ranks that the barrier lacks beside `rank`. */
  missingInBarrier(rank: number): number[] {
    const missing = this.#host.session.missingInBarrier(rank);
    // Requests of those that have arrived by the cell may still be on their way.
    const late = missing.filter((one) => !this.#barrier.isInside(one));
    return late.length > 0 ? late : missing;
  }

  /** Whether processes may synchronise by cells. Once one was lost they may not: it may run on and use a cell. */
  get #mayGive(): boolean {
    const { exit, session } = this.#host;
    return !exit.isUnderWay && session.lostRank < 0;
  }

  #takeBarrier(): void {
    this.#barrier.take();
    this.notePassedBarriers();
  }

  #decideBarrier(view: DataView, frame: Uint8Array): void {
    const { session, decide } = this.#host;
    this.#takeBarrier();
    const before = session.barriers;
    decide(view, frame);
    if (session.barriers > before && this.#mayGive) this.#barrier.give(session.present);
  }

  #lock(kind: number, view: DataView, frame: Uint8Array): void {
    const name = nameAt(view, 0);
    this.#takeLock(name);
    if (kind === Kind.UNLOCK) {
      this.#unlock(name, view, frame);
      return;
    }
    const value = this.#locks.assign(name);
    this.#asked.set(view.getUint32(At.tag, true), { value, usesCell: view.getUint32(LockAt.usesCell, true) === 1 });
    this.#host.decide(view, frame);
  }

  #unlock(name: string, view: DataView, frame: Uint8Array): void {
    const isShort = view.getUint32(UnlockAt.isShort, true) === 1;
    this.#answerBehind(() => {
      this.#host.decide(view, frame);
      if (!this.#mayGive) return;
      if (this.#host.session.isLockFree(name)) this.#locks.free(name);
      else if (isShort) this.#giveToOwner(name);
    });
  }

  /**
   * Decides, and gives cells back; all answers come behind that, because a process that is told something must not find the
   * cell still taken.
   */
  #answerBehind(decide: () => void): void {
    const answers: Answer[] = [];
    this.#heldBack = answers;
    decide();
    this.#heldBack = null;
    for (const answer of answers) this.#host.reply(...answer);
  }

  /** Sends all that wait back to the cell, each once for a wait: false, and none is, if one of them may not be. */
  #sendBack(waiters: readonly Requester[]): boolean {
    if (!waiters.every(({ tag }) => this.#asked.get(tag)?.usesCell === true)) return false;
    const frames = waiters.map((waiter) => encode({ ...waiter, kind: Kind.SEM_CANCEL, op: 1 }));
    for (const frame of frames) this.#host.decide(new DataView(frame.buffer), frame);
    return true;
  }

  /**
   * The lock is in use by processes that have it for short times: gives it back to them, although one has it and others
   * wait. These are sent back to the cell; if they may not be, the queue goes on. The process that has the lock is made its
   * owner by the cell.
   */
  #giveToOwner(name: string): void {
    const { decide, processes, session } = this.#host;
    const lock = session.lockNamed(name);
    if (lock === undefined || lock.died >= 0 || processes.get(lock.owner) === undefined) return;
    if (this.#locks.assign(name) === 0) return;
    const { owner } = lock;
    if (!this.#sendBack(lock.waiters)) return;
    const frame = encode({ kind: Kind.UNLOCK, rank: owner, node: session.node, tag: NO_TAG, body: encodeText(name) });
    decide(new DataView(frame.buffer), frame);
    this.#locks.own(name, owner);
  }

  /** The process has the lock by its cell: makes it the owner in the session, too. */
  #own(name: string, rank: number): void {
    const { processes, session, decide } = this.#host;
    if (processes.get(rank) === undefined) return;
    const frame = encode({ kind: Kind.LOCK, rank, node: session.node, tag: NO_TAG, body: encodeText(name) });
    decide(new DataView(frame.buffer), frame);
  }

  #semaphore(kind: number, view: DataView, frame: Uint8Array): void {
    const { session, decide } = this.#host;
    const name = nameAt(view, 0);
    this.#takeSemaphore(name);
    // A post, too: one that only posts knows the cell then.
    const value = this.#semaphores.assign(name);
    const usesCell = kind === Kind.SEM_WAIT && value > 0 && getUint64(view, SemWaitAt.mayReturn) === 1;
    this.#asked.set(view.getUint32(At.tag, true), { value, usesCell });
    const waited = session.waitersOf(name).length;
    this.#answerBehind(() => {
      decide(view, frame);
      if (kind === Kind.SEM_POST) this.#notePost(name, waited);
      const left = this.#mayGive ? session.idleValueOf(name) : -1;
      if (left >= 0) this.#semaphores.give(name, left);
    });
  }

  /** So many waited before the post. If it is one of many in a row, those that wait are sent back to the cell. */
  #notePost(name: string, waited: number): void {
    const waiters = this.#host.session.waitersOf(name);
    const isBusy = waiters.length > 0 && waiters.length < waited;
    const posts = isBusy ? (this.#busyPosts.get(name) ?? 0) + 1 : 0;
    this.#busyPosts.delete(name);
    if (!isBusy) return;
    const isDue = posts >= this.postsToSendBack && waiters.length <= SENT_BACK_MAX && this.#mayGive;
    if (!isDue || !this.#sendBack(waiters)) this.#busyPosts.set(name, posts);
  }

  /** Processes have made that value by the cell: makes it the session's, too. */
  #set({ name, value }: CellValue): void {
    const { session, decide } = this.#host;
    if (session.idleValueOf(name) === value) return;
    const frame = encode({
      kind: Kind.SEM_VALUE,
      node: session.node,
      tag: NO_TAG,
      offset: value,
      body: encodeText(name),
    });
    decide(new DataView(frame.buffer), frame);
  }
}
