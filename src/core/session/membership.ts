/**
 * Membership: the processes of a session. JOIN assigns ranks, the session starts when all have joined, a process leaves
 * or is lost, and the session ends when none is left.
 *
 *     joining ──all have joined──▶ running ──the last one has left──▶ ended
 *
 * It also decides whether the session starts in direct mode: all processes are on one node, and none refuses.
 */
import { Status } from "../base/errors.ts";
import { PROCESSES_MAX, WAITING_JOINS_MAX } from "../base/limits.ts";
import type {
  Phase,
  ProcessState,
  Requester,
  SessionConfig,
  SessionState,
  Withdrawal,
} from "../messages/session-state.ts";
import type { Effects } from "./effects.ts";
import type { Replies } from "./replies.ts";

const isPresent = ({ state }: ProcessState): boolean => state === "joining" || state === "running";

export interface JoinRequest {
  node: number;
  tag: number;
  nodeName: string;
  pid: number;
  /** -1: any. */
  wishedRank: number;
  refusesDirect: boolean;
}

/** Ranks for which a process waits that has joined. At least one is in one of the lists. */
export interface MissingRanks {
  /** Those that have never joined. */
  absent: number[];
  /** Those that joined and went again. */
  withdrawn: number[];
}

export class Membership {
  readonly #config: SessionConfig;
  readonly #replies: Replies;
  readonly #effects: Effects;
  /** By rank. */
  readonly #processes = new Map<number, ProcessState>();
  #presentCount = 0;
  #phase: Phase = "joining";
  #lostRank = -1;
  #direct = false;
  #copying = false;
  #mayBeDirect = true;
  #waitingJoins: Requester[] = [];
  /** Ranks that joined and went again before the session began, by rank. */
  readonly #withdrawals = new Map<number, Withdrawal>();
  /** Number of the last moment that a process noted. */
  #moment = 0;

  constructor(config: SessionConfig, replies: Replies, effects: Effects) {
    this.#config = config;
    this.#replies = replies;
    this.#effects = effects;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** The first rank that was lost, or -1. */
  get lostRank(): number {
    return this.#lostRank;
  }

  get direct(): boolean {
    return this.#direct;
  }

  /** Processes that have joined and not left, by rank. */
  present(): ProcessState[] {
    return this.all().filter(isPresent);
  }

  /** How many processes are present. */
  get presentCount(): number {
    return this.#presentCount;
  }

  /**
   * The ranks for which `rank` waits while the session has not begun. One that gave up during that wait was not missing:
   * it is named only if no other is.
   */
  missing(rank: number): MissingRanks {
    const since = this.#processes.get(rank)?.waitsSince ?? 0;
    const gone = [...this.#withdrawals.values()].sort((a, b) => a.rank - b.rank);
    const withdrawn = gone.filter(({ gaveUpAt }) => gaveUpAt < since);
    const absent = Array.from({ length: this.#config.processes }, (_, one) => one).filter(
      (one) => !this.#processes.has(one) && !this.#withdrawals.has(one),
    );
    const named = absent.length + withdrawn.length > 0 ? withdrawn : gone;
    return { absent, withdrawn: named.map((one) => one.rank) };
  }

  /** A number that is higher than those of all moments before. */
  moment(): number {
    this.#moment += 1;
    return this.#moment;
  }

  /** All processes that the session has ever had, by rank. */
  all(): ProcessState[] {
    return [...this.#processes.values()].sort((a, b) => a.rank - b.rank);
  }

  get(rank: number): ProcessState | undefined {
    return this.#processes.get(rank);
  }

  /** Whether `rank` is on `node` and may issue operations. */
  mayIssue(rank: number, node: number): boolean {
    const process = this.#processes.get(rank);
    return process !== undefined && process.node === node && process.state === "running";
  }

  /** The status with which a waiting operation is refused; OK: it is not refused. */
  refusal({ rank, node }: Requester): Status {
    if (!this.mayIssue(rank, node)) return Status.LEFT;
    return this.#lostRank >= 0 && this.#config.onLoss === "fail" ? Status.LOST : Status.OK;
  }

  /**
   * Whether the operation may proceed; if not, its request is answered. `evenAfterLoss`: also when a process was lost.
   */
  admits(from: Requester, evenAfterLoss = false): boolean {
    const refusal = this.refusal(from);
    if (refusal === Status.OK || (evenAfterLoss && refusal === Status.LOST)) return true;
    this.#replies.status(from, refusal, this.#lostRank);
    return false;
  }

  join(request: JoinRequest): void {
    const { node, tag } = request;
    if (this.#phase === "ended") {
      this.#replies.status(request, Status.ENDED);
      return;
    }
    const isRunning = this.#phase === "running";
    if (isRunning && this.#config.elastic !== true) {
      this.#joinLater(node, tag);
      return;
    }
    if (this.#presentCount >= PROCESSES_MAX) {
      this.#replies.status(request, Status.FULL);
      return;
    }
    const rank = this.#freeRank(request.wishedRank, isRunning ? PROCESSES_MAX : this.#config.processes);
    const process: ProcessState = {
      rank,
      node,
      nodeName: request.nodeName,
      pid: request.pid,
      state: "joining",
      joinTag: tag,
      barrierTag: -1,
      waitsSince: this.moment(),
      gaveUpAt: 0,
    };
    this.#processes.set(rank, process);
    this.#presentCount += 1;
    this.#withdrawals.delete(rank);
    if (request.refusesDirect) this.#mayBeDirect = false;
    this.#effects.onRankAssigned(node, tag, rank);
    if (isRunning) this.#begin(process);
    else if (this.#processes.size === this.#config.processes) this.#start();
  }

  /** The wished rank if it is free. An elastic session reuses the rank of a process that has gone. */
  #freeRank(wished: number, ranks: number): number {
    const isTaken = (rank: number): boolean => {
      const process = this.#processes.get(rank);
      return process !== undefined && isPresent(process);
    };
    if (wished >= 0 && wished < ranks && !isTaken(wished)) return wished;
    let rank = 0;
    while (isTaken(rank)) rank += 1;
    return rank;
  }

  #begin(process: ProcessState): void {
    process.state = "running";
    this.#replies.status({ node: process.node, tag: process.joinTag }, Status.OK, process.rank);
  }

  /**
   * Defers a join until the session ends. A process that left may join the next session of this name while others are
   * still leaving this one. While all processes are present, a further one is refused.
   */
  #joinLater(node: number, tag: number): void {
    const request = { node, tag, rank: -1 };
    if (this.#presentCount === this.#config.processes) this.#replies.status(request, Status.FULL);
    else if (this.#waitingJoins.length >= WAITING_JOINS_MAX) this.#replies.status(request, Status.LIMIT);
    else this.#waitingJoins.push(request);
  }

  #start(): void {
    this.#phase = "running";
    this.#withdrawals.clear();
    const nodes = new Set(this.present().map(({ node }) => node));
    this.#direct = this.#mayBeDirect && nodes.size === 1;
    // All states change before the first reply, because the replica looks at the other processes when it answers one.
    for (const process of this.all()) process.state = "running";
    for (const process of this.all()) this.#begin(process);
  }

  /** Notes the progress of the map upload with which a node ends direct mode. */
  upload(isComplete: boolean): void {
    this.#copying = !isComplete;
    this.#direct = !isComplete;
  }

  /** The process that leaves, if it is present on that node. */
  leaving(rank: number, node: number): ProcessState | undefined {
    const process = this.#processes.get(rank);
    return process !== undefined && process.node === node && isPresent(process) ? process : undefined;
  }

  /** Removes a process that has left or was lost. `gaveUp`: it had waited to join for as long as it may. */
  remove(process: ProcessState, isLost: boolean, gaveUp: boolean): void {
    this.#presentCount -= 1;
    if (process.state === "joining") {
      const { rank } = process;
      this.#processes.delete(rank);
      this.#withdrawals.set(rank, { rank, gaveUpAt: gaveUp ? this.moment() : 0 });
      this.#replies.status({ node: process.node, tag: process.joinTag }, Status.LEFT);
    } else {
      process.state = isLost ? "lost" : "left";
    }
  }

  /** Notes that a process of a running session was lost. */
  noteLoss(rank: number): void {
    if (this.#lostRank < 0) this.#lostRank = rank;
  }

  /** Ends the session: the last process has gone. */
  end(): void {
    this.#phase = "ended";
    for (const request of this.#waitingJoins.splice(0)) this.#replies.status(request, Status.ENDED);
    this.#effects.onEnd();
  }

  save(): Pick<
    SessionState,
    | "phase"
    | "lostRank"
    | "direct"
    | "copying"
    | "mayBeDirect"
    | "processes"
    | "waitingJoins"
    | "withdrawals"
    | "moment"
  > {
    return {
      phase: this.#phase,
      lostRank: this.#lostRank,
      direct: this.#direct,
      copying: this.#copying,
      mayBeDirect: this.#mayBeDirect,
      processes: this.all(),
      waitingJoins: this.#waitingJoins,
      withdrawals: [...this.#withdrawals.values()],
      moment: this.#moment,
    };
  }

  load(state: SessionState): void {
    this.#phase = state.phase;
    this.#lostRank = state.lostRank;
    this.#direct = state.direct;
    this.#copying = state.copying;
    this.#mayBeDirect = state.mayBeDirect;
    this.#waitingJoins = state.waitingJoins;
    this.#moment = state.moment;
    for (const withdrawal of state.withdrawals) this.#withdrawals.set(withdrawal.rank, withdrawal);
    for (const process of state.processes) this.#processes.set(process.rank, process);
    this.#presentCount = state.processes.filter(isPresent).length;
  }
}
