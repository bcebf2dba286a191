/** The session's barrier: it opens when all processes that are present have arrived. */
import { Status } from "../base/errors.ts";
import type { ProcessState, Requester, SessionState } from "../messages/session-state.ts";
import type { Membership } from "./membership.ts";
import type { Replies } from "./replies.ts";

export class Barrier {
  readonly #members: Membership;
  readonly #replies: Replies;
  #passed = 0;
  /** Processes that have arrived: those that are present with a barrierTag. No arrival looks at all the others. */
  #arrived = 0;

  constructor(members: Membership, replies: Replies) {
    this.#members = members;
    this.#replies = replies;
  }

  /** Number of barriers that all processes have passed. */
  get passed(): number {
    return this.#passed;
  }

  /** The processes of the session's node have passed so many without requests, in direct mode. */
  notePassed(barriers: number): void {
    this.#passed += barriers;
  }

  arrive(from: Requester): void {
    const process = this.#members.get(from.rank);
    if (!this.#members.admits(from) || process === undefined) return;
    if (process.barrierTag >= 0) {
      this.#replies.status(from, Status.BUSY);
      return;
    }
    process.barrierTag = from.tag;
    this.#arrived += 1;
    process.waitsSince = this.#members.moment();
    this.openIfComplete();
  }

  /**
   * Cancels the arrival with that tag: the barrier waits for the process again. The reply's aux is the number of
   * missing processes, which is never 0.
   */
  cancel(node: number, tag: number): void {
    const process = this.#members.all().find((one) => one.node === node && one.barrierTag === tag);
    if (process === undefined) return;
    process.gaveUpAt = this.#members.moment();
    this.#release(process, Status.TIMEOUT, this.missing(process.rank).length);
  }

  /**
   * The ranks that were not in the barrier during the wait of `rank`. One that gave up during that wait was: it is named
   * only if no other is.
   */
  missing(rank: number): number[] {
    const since = this.#members.get(rank)?.waitsSince ?? 0;
    const out = this.#members.present().filter((one) => one.barrierTag < 0 && one.rank !== rank);
    const missing = out.filter(({ gaveUpAt }) => gaveUpAt < since);
    return (missing.length > 0 ? missing : out).map((one) => one.rank);
  }

  /** Opens the barrier if all present processes have arrived. */
  openIfComplete(): void {
    if (this.#arrived < this.#members.presentCount) return;
    this.#passed += 1;
    const present = this.#members.present();
    for (const process of present) this.#release(process, Status.OK, 0, present.length);
  }

  /** Ends all waits with LOST: a lost process will never arrive. */
  failAll(): void {
    for (const process of this.#members.all()) this.#release(process, Status.LOST, this.#members.lostRank);
  }

  /** Drops a process that leaves, and answers its wait. */
  drop(process: ProcessState): void {
    this.#release(process, Status.LEFT);
  }

  #release(process: ProcessState, status: Status, aux = 0, value = 0): void {
    const { node, barrierTag: tag } = process;
    if (tag < 0) return;
    process.barrierTag = -1;
    this.#arrived -= 1;
    this.#replies.status({ node, tag }, status, aux, value);
  }

  save(): Pick<SessionState, "barriers"> {
    return { barriers: this.#passed };
  }

  load(state: SessionState): void {
    this.#passed = state.barriers;
    this.#arrived = state.processes.filter(({ barrierTag }) => barrierTag >= 0).length;
  }
}
