/**
 * CellDecisions: decides the requests of processes that also synchronise by cells, in direct mode. It takes the cell of
 * what a request names, makes the session know what the processes have done by it, lets the session decide, and gives the
 * cell back to the processes where it can.
 */
import type { Status } from "../../base/errors.ts";
import type { Session } from "../../session/session.ts";
import { nameAt } from "../../session/session.ts";
import { At, SemWaitAt } from "../../wire/at.ts";
import { encode, encodeText, getUint64 } from "../../wire/frame.ts";
import { Kind, NO_TAG } from "../../wire/kinds.ts";
import type { DirectModeExit } from "../direct-mode-exit.ts";
import type { ProcessTable } from "../processes.ts";
import type { ReplicaOutput } from "../replica-output.ts";
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

export interface CellHost {
  readonly session: Session;
  readonly processes: ProcessTable;
  readonly exit: DirectModeExit;
  readonly out: Pick<ReplicaOutput, "wakeCell">;
  /** Applies an operation of this node at once; the server follows. */
  readonly decide: (view: DataView, frame: Uint8Array) => void;
  readonly reply: (...answer: Answer) => void;
}

export class CellDecisions {
  readonly #host: CellHost;
  readonly #locks: LockCells;
  readonly #semaphores: SemaphoreCells;
  /** The request that is being decided, and the value of the answer to it. */
  #tag = -1;
  #value = 0;
  /**
   * Requests for semaphores that have no answer yet, by tag: the value of the answer, and whether the process may be sent
   * back to the cell instead.
   */
  readonly #asked = new Map<number, { value: number; usesCell: boolean }>();
  /** Posts of each semaphore in a row that ended a wait while others went on. */
  readonly #busyPosts = new Map<string, number>();
  postsToSendBack = POSTS_TO_SEND_BACK;
  /** Answers that wait until the cell is what they make the processes expect. */
  #heldBack: Answer[] | null = null;

  /** `memory`: CELLS_SIZE bytes, zeroed, that the processes of the node share. */
  constructor(memory: Uint8Array, host: CellHost) {
    this.#host = host;
    this.#locks = new LockCells(memory);
    this.#semaphores = new SemaphoreCells(memory, host.out.wakeCell);
  }

  /** Decides an operation of a process of this node. */
  decide(kind: number, view: DataView, frame: Uint8Array): void {
    if (kind === Kind.LEAVE) this.takeAll();
    if (kind === Kind.LOCK || kind === Kind.UNLOCK) this.#lock(kind, view, frame);
    else if (kind === Kind.SEM_WAIT || kind === Kind.SEM_POST) this.#semaphore(kind, view, frame);
    else this.#host.decide(view, frame);
  }

  /** Takes all cells, so that the session knows what the processes have done by them. */
  takeAll(): void {
    for (const { name, rank } of this.#locks.takeAll()) this.#own(name, rank);
    for (const semaphore of this.#semaphores.takeAll()) this.#set(semaphore);
  }

  /** Makes the session, and so its server, know the values that semaphores have now; their cells stay given. */
  report(): void {
    for (const semaphore of this.#semaphores.values()) this.#set(semaphore);
  }

  /**
   * Returns the value of the answer to `tag`, which is given now: 1 plus the cell of what it named, by which the process
   * finds it; or 0.
   */
  answered(tag: number): number {
    const asked = this.#asked.get(tag);
    if (asked === undefined) return tag === this.#tag ? this.#value : 0;
    this.#asked.delete(tag);
    return asked.value;
  }

  /** Whether the answer is to wait for a moment: it is given to the host's `reply` then. */
  holdsBack(...answer: Answer): boolean {
    this.#heldBack?.push(answer);
    return this.#heldBack !== null;
  }

  /** Whether processes may synchronise by cells. Once one was lost they may not: it may run on and use a cell. */
  get #mayGive(): boolean {
    const { exit, session } = this.#host;
    return !exit.isUnderWay && session.lostRank < 0;
  }

  #lock(kind: number, view: DataView, frame: Uint8Array): void {
    const name = nameAt(view, 0);
    const owner = this.#locks.take(name);
    if (owner >= 0) this.#own(name, owner);
    if (kind === Kind.LOCK) {
      this.#tag = view.getUint32(At.tag, true);
      this.#value = this.#locks.assign(name);
    }
    this.#host.decide(view, frame);
    this.#tag = -1;
    if (kind === Kind.UNLOCK && this.#mayGive && this.#host.session.isLockFree(name)) this.#locks.free(name);
  }

  /** The process has the lock by its cell: makes it the owner in the session, too. */
  #own(name: string, rank: number): void {
    const { processes, session, decide } = this.#host;
    if (processes.get(rank) === undefined) return;
    const frame = encode({ kind: Kind.LOCK, rank, node: session.node, tag: NO_TAG, body: encodeText(name) });
    decide(new DataView(frame.buffer), frame);
  }

  /** A process that is told something by this must not find the cell still taken, so all answers come behind. */
  #semaphore(kind: number, view: DataView, frame: Uint8Array): void {
    const { session, decide, reply } = this.#host;
    const name = nameAt(view, 0);
    const known = this.#semaphores.take(name);
    if (known >= 0) this.#set({ name, value: known });
    // A post, too: one that only posts knows the cell then.
    const value = this.#semaphores.assign(name);
    const usesCell = kind === Kind.SEM_WAIT && value > 0 && getUint64(view, SemWaitAt.usesCell) === 1;
    this.#asked.set(view.getUint32(At.tag, true), { value, usesCell });
    const waited = session.waitersOf(name).length;
    const answers: Answer[] = [];
    this.#heldBack = answers;
    decide(view, frame);
    if (kind === Kind.SEM_POST) this.#notePost(name, waited);
    const left = this.#mayGive ? session.idleValueOf(name) : -1;
    if (left >= 0) this.#semaphores.give(name, left);
    this.#heldBack = null;
    for (const answer of answers) reply(...answer);
  }

  /** So many waited before the post. If it is one of many in a row, those that wait are sent back to the cell. */
  #notePost(name: string, waited: number): void {
    const { decide, session } = this.#host;
    const waiters = session.waitersOf(name);
    const isBusy = waiters.length > 0 && waiters.length < waited;
    const posts = isBusy ? (this.#busyPosts.get(name) ?? 0) + 1 : 0;
    this.#busyPosts.delete(name);
    if (!isBusy) return;
    this.#busyPosts.set(name, posts);
    if (posts < this.postsToSendBack || waiters.length > SENT_BACK_MAX || !this.#mayGive) return;
    // Each is sent back once for a wait. If one of them may not be, the queue goes on.
    if (!waiters.every(({ tag }) => this.#asked.get(tag)?.usesCell === true)) return;
    this.#busyPosts.delete(name);
    for (const frame of waiters.map((waiter) => encode({ ...waiter, kind: Kind.SEM_CANCEL, op: 1 })))
      decide(new DataView(frame.buffer), frame);
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
