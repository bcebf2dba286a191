/** The model of `dsm top`: samples of the daemon with their rates, and the choices of the user. */
import type { RankStatus, SessionDetail, SessionSummary } from "../../core/messages/daemon-api.ts";

/** Entries and bytes per second between two samples. Null stands for a first sample. */
export interface Rates {
  entries: number;
  bytes: number;
}

export interface RatedRank extends RankStatus {
  rates: Rates | null;
}

export interface RatedSession extends Omit<SessionDetail, "ranks"> {
  ranks: RatedRank[];
  rates: Rates | null;
}

/**
 * rated adds the rates since `before`, an earlier answer about the same name. A successor has another clock, so there
 * are no rates between answers of two servers.
 */
export function rated(before: SessionDetail | undefined, now: SessionDetail): RatedSession {
  const known =
    before?.answered && now.answered && before.instance === now.instance && before.epoch === now.epoch ? before : null;
  const seconds = known === null ? 0 : (now.time_ms - known.time_ms) / 1000;
  const rates = (was: { entries: number; bytes: number } | undefined, is: typeof was): Rates | null => {
    if (was === undefined || is === undefined || seconds <= 0) return null;
    // Another process may have the rank by now.
    return {
      entries: Math.max(0, is.entries - was.entries) / seconds,
      bytes: Math.max(0, is.bytes - was.bytes) / seconds,
    };
  };
  const earlier = new Map(known?.ranks.map((rank) => [`${rank.rank} ${rank.pid}`, rank]));
  return {
    ...now,
    rates: rates(known ?? undefined, now),
    ranks: now.ranks.map((rank) => ({ ...rank, rates: rates(earlier.get(`${rank.rank} ${rank.pid}`), rank) })),
  };
}

export type TopSession = RatedSession | SessionSummary;

export interface TopModel {
  /** Address of the daemon. */
  address: string;
  sessions: TopSession[];
  /** Name of the session that is shown in full; null: the list. */
  open: string | null;
  /** Name of the session, or number of the rank, that is chosen. */
  chosen: string | null;
  /** Which column is sorted by, in the list and in a session. */
  sortList: number;
  sortRanks: number;
  help: boolean;
  /** Reason why the last look failed, or null. */
  trouble: string | null;
}

export function newModel(address: string, open: string | null): TopModel {
  return {
    ...{ address, sessions: [], open, chosen: null, sortList: 0, sortRanks: 0, help: false, trouble: null },
  };
}

/** known returns the session with its status; null if its server has not answered. */
export const known = (session: TopSession): RatedSession | null =>
  "ranks" in session && session.answered ? session : null;

/** opened returns the session that is shown in full, if it still runs. */
export const opened = ({ sessions, open }: TopModel): TopSession | undefined =>
  sessions.find(({ name }) => name === open);

export const isWaiting = ({ state }: Pick<RankStatus, "state">): boolean =>
  ["barrier", "semaphore", "lock", "condition", "rwlock", "sleeping"].includes(state);
