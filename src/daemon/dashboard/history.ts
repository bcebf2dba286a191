/**
 * What the page remembers of a session, from one sample to the next: minutes of rates, which rank was in what state when,
 * and for whom the others waited. Pure: the samples say what time it is.
 */
import type { RankStatus, SessionDetail } from "../../core/messages/daemon-api.ts";

/** For how long rates are kept, */
export const HISTORY_MS = 300_000;
/** states, */
export const TIMELINE_MS = 120_000;
/** and how many samples of either. */
const POINTS_MAX = 1_200;
/** Rates are means over this long, so that figures can be read. */
const RATE_MS = 2_000;

/** Rates at one moment; by rank, in the order of the samples. */
export interface Point {
  time_ms: number;
  entries: number[];
  bytes: number[];
  /** By node, in the order in which nodes first appear; null: not measured. */
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
  /** When others waited for it. */
  awaited: { from_ms: number; to_ms: number }[];
}

export interface LaneSummary {
  /** Of the time seen, the part it waited. */
  waiting: number;
  /** How long others waited for it, added up over them; where they waited for several, each has its share. */
  cost_ms: number;
}

const WAITING: ReadonlySet<RankStatus["state"]> = new Set(["barrier", "semaphore", "lock", "sleeping"]);
const GONE: ReadonlySet<RankStatus["state"]> = new Set(["left", "lost"]);

export const isWaiting = (rank: RankStatus): boolean => WAITING.has(rank.state);

/** Nodes in the order in which they first appear. */
export function nodesOf(detail: Pick<SessionDetail, "ranks">): string[] {
  return [...new Set(detail.ranks.map(({ node }) => node))];
}

/** Who waits for ranks of this session, for which, and for how long already. */
export interface Awaiting {
  waiters: number[];
  awaited: number[];
  longest_ms: number;
}

/** The ranks in a barrier, and those that have not come; null: nobody is in one. */
export function barrierOf({ ranks }: Pick<SessionDetail, "ranks">): Awaiting | null {
  const inside = ranks.filter(({ state }) => state === "barrier");
  if (inside.length === 0) return null;
  const missing = ranks.filter(({ state }) => state !== "barrier" && !GONE.has(state));
  return {
    waiters: inside.map(({ rank }) => rank),
    awaited: missing.map(({ rank }) => rank),
    longest_ms: Math.max(...inside.map(({ stateMs }) => stateMs)),
  };
}

/** All waits of which it is known who can end them: barriers and locks. */
export function awaitings(detail: Pick<SessionDetail, "ranks" | "locks">): Awaiting[] {
  const stateMs = new Map(detail.ranks.map((rank) => [rank.rank, rank.stateMs]));
  const found: Awaiting[] = [];
  const barrier = barrierOf(detail);
  if (barrier !== null) {
    // Who comes late because of a lock is not the one to wait for: its owner is, below.
    const queued = new Set(detail.ranks.filter(({ state }) => state === "lock").map(({ rank }) => rank));
    const awaited = barrier.awaited.filter((rank) => !queued.has(rank));
    if (awaited.length > 0) found.push({ ...barrier, awaited });
  }
  for (const { owner, waiters } of detail.locks) {
    if (owner === null || waiters.length === 0) continue;
    const longest_ms = Math.max(...waiters.map((rank) => stateMs.get(rank) ?? 0));
    found.push({ waiters, awaited: [owner], longest_ms });
  }
  return found;
}

interface Counts {
  time_ms: number;
  entries: number[];
  bytes: number[];
}

export class History {
  /** The oldest first. */
  readonly points: Point[] = [];
  readonly lanes = new Map<number, Lane>();
  readonly #shares = new Map<number, Share[]>();
  #counts: Counts[] = [];
  #run = "";

  /** Takes a sample; false if it is none: an answer without figures, or one that was seen before. */
  add(detail: SessionDetail): boolean {
    const { time_ms } = detail;
    const last_ms = this.#counts.at(-1)?.time_ms;
    const run = `${detail.instance} ${detail.epoch} ${detail.ranks.length}`;
    if (!detail.answered) return false;
    // Another server counts from nothing, and by another clock.
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
    // In an elastic session a rank may begin anew, with another process.
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
      // It has been in that state all the time since the last sample; what began later is another time in it.
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

  /** Entries and bytes a second of each rank now; null: there are no two samples yet. */
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

/** What one sample says of a rank's time. */
interface Share {
  to_ms: number;
  seen_ms: number;
  waited_ms: number;
  cost_ms: number;
}

function trim(spans: { from_ms: number; to_ms: number }[], oldest_ms: number): void {
  while (spans.length > POINTS_MAX || (spans[0] !== undefined && spans[0].to_ms < oldest_ms)) spans.shift();
}
