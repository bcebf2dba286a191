/**
 * Decides whether a rank of a run waits in vain: in join(), for ranks that have ended. A session that is not elastic
 * begins when as many processes have joined as it needs.
 */

import { formatRanks } from "../base/ranks.ts";

/** What is known of how a rank joins the session of its run. */
export interface RankJoins {
  /** How often it has joined. */
  joins: number;
  /** The number of the join that it waits in, from 1; 0: it waits in none. */
  awaited: number;
  /** How many processes that join needs. */
  needed: number;
  /** The rank has ended, and so has all that it started. */
  isGone: boolean;
}

export interface StuckJoin {
  /** The lowest rank that waits in vain. */
  waiting: number;
  /** The ranks that it waits for: they have ended without joining. */
  missing: number[];
}

/**
 * JoinTracker: collects what the ranks of a run report.
 *
 * A rank that is not gone may still join. One that is gone counts for the first join only if it has joined at all, and
 * for the nth, where the session needs all ranks, only if it has joined n times: the report of the rank that waits may
 * be older than the session's start.
 */
export class JoinTracker {
  readonly #ranks: RankJoins[];

  constructor(processes: number) {
    this.#ranks = Array.from({ length: processes }, () => ({ joins: 0, awaited: 0, needed: 0, isGone: false }));
  }

  update(rank: number, joins: RankJoins): void {
    this.#ranks[rank] = joins;
  }

  /** The rank and all that it started have ended; its joins are those reported last. */
  setGone(rank: number): void {
    const known = this.#ranks[rank];
    if (known !== undefined) known.isGone = true;
  }

  /** Returns a rank that waits in vain, or null. */
  stuck(): StuckJoin | null {
    const { length } = this.#ranks;
    for (const [waiting, { awaited, needed, isGone }] of this.#ranks.entries()) {
      if (isGone || awaited === 0) continue;
      const least = needed >= length ? awaited : 1;
      const missing: number[] = [];
      for (const [rank, other] of this.#ranks.entries()) if (other.isGone && other.joins < least) missing.push(rank);
      if (length - missing.length < Math.min(needed, length)) return { waiting, missing };
    }
    return null;
  }
}

/** The message for a rank that waits in vain. */
export function describeStuck({ waiting, missing }: StuckJoin): string {
  const who = formatRanks(missing);
  const them = missing.length === 1 ? "it" : "them";
  return `${who} ended without joining, and process ${waiting} waits for ${them} in join(); let every process join, or start fewer with -n`;
}
