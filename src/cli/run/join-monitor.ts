/** Watches how the ranks on this machine join, for the decision of core/launch/join-tracker.ts. */
import type { RankJoins } from "../../core/launch/join-tracker.ts";
import { livingRanks } from "./process-group.ts";
import type { RunRecords } from "./run-records.ts";

const INTERVAL_MS = 250;

export interface JoinMonitorOptions {
  /** The ranks on this machine, by their slot in the records; more may be added. */
  ranks: readonly Bun.Subprocess[];
  records: RunRecords;
  /** Called with each change. */
  report(slot: number, joins: RankJoins): void;
}

/** JoinMonitor: reads the records of all ranks at intervals, from start() on: no rank waits in vain before one has ended. */
export class JoinMonitor {
  readonly #options: JoinMonitorOptions;
  readonly #reported: RankJoins[] = [];
  #timer: Timer | undefined;

  constructor(options: JoinMonitorOptions) {
    this.#options = options;
  }

  /** Begins, if it has not begun. */
  start(): void {
    this.#timer ??= setInterval(() => this.look(), INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Reports what has changed. */
  look(): void {
    const { ranks, records, report } = this.#options;
    // First which have ended: their records do not change after that.
    const ended = ranks.filter((rank, slot) => hasEnded(rank) && this.#reported[slot]?.isGone !== true);
    const living = livingRanks(ended.map(({ pid }) => pid));
    for (const [slot, rank] of ranks.entries()) {
      const known = this.#reported[slot];
      if (known?.isGone === true) continue;
      const isGone = ended.includes(rank) && !living.has(rank.pid);
      const joins: RankJoins = { ...records.joinsOf(slot), isGone };
      if (known !== undefined && isSame(known, joins)) continue;
      this.#reported[slot] = joins;
      report(slot, joins);
    }
  }
}

const hasEnded = ({ exitCode, signalCode }: Bun.Subprocess): boolean => exitCode !== null || signalCode !== null;

function isSame(a: RankJoins, b: RankJoins): boolean {
  return a.joins === b.joins && a.awaited === b.awaited && a.needed === b.needed && a.isGone === b.isGone;
}
