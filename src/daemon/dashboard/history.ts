/**
 * History: what the page remembers of a session: rates, the states of each rank over time, and which ranks the others
 * waited for. Pure: it takes the time from the samples.
 */
import type { RankStatus, SessionDetail } from "../../core/messages/daemon-api.ts";

/** Time for which rates are kept. */
export const HISTORY_MS = 300_000;
/** Time for which states are kept. */
export const TIMELINE_MS = 120_000;
/** Limit of the samples of either. */
const POINTS_MAX = 1_200;
/** Rates are means over this time, so that figures change slowly enough to be read. */
const RATE_MS = 2_000;

/** Rates at one moment, by rank in the order of the samples. */
export interface Point {
  time_ms: number;
  entries: number[];
  bytes: number[];
  /** By node, in the order of nodesOf(); null: not measured. */
  roundTripUs: (number | null)[];
}

/** A rank in one state. */
export interface Segment {
  from_ms: number;
  to_ms: number;
  state: RankStatus["state"];
}

export interface Lane {
  rank: number;
  segments: Segment[];
  /** Times in which others waited for it. */
  awaited: { from_ms: number; to_ms: number }[];
}

export interface LaneSummary {
  /** Fraction of the observed time in which it waited. */
  waiting: number;
  /** Sum of the times that others waited for it. A wait for several ranks is divided among them. */
  cost_ms: number;
}

const WAITING: ReadonlySet<RankStatus["state"]> = new Set([
  ...(["barrier", "semaphore", "lock", "condition", "rwlock", "sleeping"] as const),
]);
const GONE: ReadonlySet<RankStatus["state"]> = new Set(["left", "lost"]);

export const isWaiting = (rank: RankStatus): boolean => WAITING.has(rank.state);

/** nodesOf returns the nodes in the order in which they first appear. */
export function nodesOf(detail: Pick<SessionDetail, "ranks">): string[] {
  return [...new Set(detail.ranks.map(({ node }) => node))];
}

/** A wait of ranks for other ranks of the session. */
export interface Awaiting {
  waiters: number[];
  awaited: number[];
  longest_ms: number;
}

/** barrierOf returns the ranks in a barrier and those that have not arrived; null: no rank is in one. */
export function barrierOf({ ranks }: Pick<SessionDetail, "ranks">): Awaiting | null {
  const isInside = ({ state, on }: RankStatus): boolean => state === "barrier" && on === undefined;
  const inside = ranks.filter(isInside);
  if (inside.length === 0) return null;
  const missing = ranks.filter((rank) => !isInside(rank) && !GONE.has(rank.state));
  return {
    waiters: inside.map(({ rank }) => rank),
    awaited: missing.map(({ rank }) => rank),
    longest_ms: Math.max(...inside.map(({ stateMs }) => stateMs)),
  };
}

/** awaitings returns all waits that known ranks can end: barriers and locks. */
export function awaitings(detail: Pick<SessionDetail, "ranks" | "locks" | "objects">): Awaiting[] {
  const stateMs = new Map(detail.ranks.map((rank) => [rank.rank, rank.stateMs]));
  const found: Awaiting[] = [];
  const barrier = barrierOf(detail);
  if (barrier !== null) {
    // A rank that is late because it waits for a lock does not count as awaited: the owner of the lock does, below.
    const isQueued = ({ state }: RankStatus): boolean => state === "lock" || state === "rwlock";
    const queued = new Set(detail.ranks.filter(isQueued).map(({ rank }) => rank));
    const awaited = barrier.awaited.filter((rank) => !queued.has(rank));
    if (awaited.length > 0) found.push({ ...barrier, awaited });
  }
  const owned = detail.locks.map(({ owner, waiters }) => ({ waiters, awaited: owner === null ? [] : [owner] }));
  const held = detail.objects.map(({ holders, waiters }) => ({ waiters, awaited: holders }));
  for (const { waiters, awaited } of [...owned, ...held]) {
    if (awaited.length === 0 || waiters.length === 0) continue;
    const longest_ms = Math.max(...waiters.map((rank) => stateMs.get(rank) ?? 0));
    found.push({ waiters, awaited, longest_ms });
  }
  return found;
}

interface Counts {
  time_ms: number;
  entries: number[];
  bytes: number[];
}

export class History {
  /** Oldest first. */
  readonly points: Point[] = [];
  readonly lanes = new Map<number, Lane>();
  readonly #shares = new Map<number, Share[]>();
  #counts: Counts[] = [];
  #run = "";

  /** Adds a sample. It returns false for an answer without figures, or one that it has already. */
  add(detail: SessionDetail): boolean {
    const { time_ms } = detail;
    const last_ms = this.#counts.at(-1)?.time_ms;
    const run = `${detail.instance} ${detail.epoch} ${detail.ranks.length}`;
    if (!detail.answered) return false;
    // A successor has another clock.
    if (run !== this.#run || (last_ms !== undefined && time_ms < last_ms)) this.#begin(run);
    else if (time_ms === last_ms) return false;
    this.#addRates(detail);
    this.#addStates(detail, this.#counts.at(-2)?.time_ms ?? null);
    return true;
  }

  #begin(run: string): void {
    this.#run = run;
    this.#counts = [];
    this.points.length = 0;
    this.lanes.clear();
    this.#shares.clear();
  }

  #addRates(detail: SessionDetail): void {
    const { time_ms, ranks } = detail;
    const counts: Counts = {
      time_ms,
      entries: ranks.map(({ entries }) => entries),
      bytes: ranks.map(({ bytes }) => bytes),
    };
    this.#counts.push(counts);
    while (this.#counts.length > 2 && (this.#counts[1] as Counts).time_ms <= time_ms - RATE_MS) this.#counts.shift();
    const before = this.#counts[0] as Counts;
    if (before === counts) return;
    const seconds = (time_ms - before.time_ms) / 1000;
    // In an elastic session another process may take a rank and count from zero.
    const rates = (now: number[], then: number[]) =>
      now.map((value, i) => Math.max(0, value - (then[i] ?? 0)) / seconds);
    this.points.push({
      time_ms,
      entries: rates(counts.entries, before.entries),
      bytes: rates(counts.bytes, before.bytes),
      roundTripUs: nodesOf(detail).map((node) => ranks.find((rank) => rank.node === node)?.roundTripUs ?? null),
    });
    const oldest_ms = time_ms - HISTORY_MS;
    while (this.points.length > POINTS_MAX || (this.points[0] as Point).time_ms < oldest_ms) this.points.shift();
  }

  #addStates(detail: SessionDetail, last_ms: number | null): void {
    const { time_ms } = detail;
    const oldest_ms = time_ms - TIMELINE_MS;
    for (const { rank, state, stateMs } of detail.ranks) {
      let lane = this.lanes.get(rank);
      if (lane === undefined) {
        lane = { rank, segments: [], awaited: [] };
        this.lanes.set(rank, lane);
      }
      const since_ms = time_ms - stateMs;
      const last = lane.segments.at(-1);
      // Still in the state of the last sample. A state that began later is another segment.
      if (last !== undefined && last.state === state && since_ms <= last.to_ms) last.to_ms = time_ms;
      else {
        const from_ms = Math.max(since_ms, last?.to_ms ?? oldest_ms);
        lane.segments.push({ from_ms, to_ms: time_ms, state });
      }
      trim(lane.segments, oldest_ms);
      trim(lane.awaited, oldest_ms);
    }
    this.#addShares(detail, last_ms);
  }

  /**
   * Adds what a sample says of the time since the one before it: of waits shorter than that, as many are seen as there
   * are. The first sample stands for the time that each rank has been in its state.
   */
  #addShares(detail: SessionDetail, last_ms: number | null): void {
    const { time_ms } = detail;
    const stateMs = new Map(detail.ranks.map((rank) => [rank.rank, rank.stateMs]));
    const passed = (rank: number): number =>
      last_ms === null ? Math.min(stateMs.get(rank) ?? 0, TIMELINE_MS) : time_ms - last_ms;
    const costs = new Map<number, number>();
    for (const { waiters, awaited, longest_ms } of awaitings(detail)) {
      const from_ms = Math.max(last_ms ?? time_ms - TIMELINE_MS, time_ms - longest_ms);
      const cost_ms = waiters.reduce((sum, rank) => sum + passed(rank), 0);
      for (const rank of awaited) {
        costs.set(rank, (costs.get(rank) ?? 0) + cost_ms / awaited.length);
        const lane = this.lanes.get(rank);
        const last = lane?.awaited.at(-1);
        if (last !== undefined && last.to_ms >= from_ms) last.to_ms = time_ms;
        else lane?.awaited.push({ from_ms, to_ms: time_ms });
      }
    }
    for (const status of detail.ranks) {
      const shares = this.#shares.get(status.rank) ?? [];
      const cost_ms = costs.get(status.rank) ?? 0;
      const seen_ms = passed(status.rank);
      shares.push({ to_ms: time_ms, seen_ms, waited_ms: isWaiting(status) ? seen_ms : 0, cost_ms });
      while (shares.length > POINTS_MAX || (shares[0] as Share).to_ms < time_ms - TIMELINE_MS) shares.shift();
      this.#shares.set(status.rank, shares);
    }
  }

  /** Current rates of each rank; null before the second sample. */
  get rates(): Point | null {
    return this.points.at(-1) ?? null;
  }

  summary({ rank }: Lane): LaneSummary {
    const sum = { seen_ms: 0, waited_ms: 0, cost_ms: 0 };
    for (const share of this.#shares.get(rank) ?? []) {
      sum.seen_ms += share.seen_ms;
      sum.waited_ms += share.waited_ms;
      sum.cost_ms += share.cost_ms;
    }
    return { waiting: sum.seen_ms === 0 ? 0 : sum.waited_ms / sum.seen_ms, cost_ms: sum.cost_ms };
  }
}

/** The part of a rank's time that one sample stands for. */
interface Share {
  to_ms: number;
  seen_ms: number;
  waited_ms: number;
  cost_ms: number;
}

function trim(spans: { from_ms: number; to_ms: number }[], oldest_ms: number): void {
  while (spans.length > POINTS_MAX || (spans[0] !== undefined && spans[0].to_ms < oldest_ms)) spans.shift();
}
