/** RecoveryTimers: when a Recovery hears that its waits are over. */
import {
  HEARTBEAT_TIMEOUT_MS,
  JOINING_SETTLE_MS,
  RECONNECT_TIMEOUT_MS,
  RECOVERY_BEAT_MS,
} from "../core/base/limits.ts";
import type { Clock } from "./clock.ts";

/** What the timers drive: a Recovery. */
export interface TimedRecovery {
  onTimeout(): void;
  onJoinGraceOver(): void;
  beat(): void;
}

export class RecoveryTimers {
  readonly #clock: Clock;
  readonly #recovery: TimedRecovery;
  readonly #begun_ms: number;
  /** The longest time that a node wants its place to be kept for. */
  #longestMs = 0;
  #cancelDeadline: () => void;
  /** Once the deadline has passed: ends the checks of a source that stalls. */
  #endStallChecks: (() => void) | null = null;
  readonly #cancelOthers: (() => void)[];
  #isStopped = false;

  constructor(recovery: TimedRecovery, clock: Clock) {
    this.#recovery = recovery;
    this.#clock = clock;
    this.#begun_ms = clock.now_ms();
    // While no node at all has reported: as long as nodes wait by default.
    this.#cancelDeadline = clock.after(RECONNECT_TIMEOUT_MS, () => recovery.onTimeout());
    this.#cancelOthers = [
      clock.after(JOINING_SETTLE_MS, () => recovery.onJoinGraceOver()),
      clock.every(RECOVERY_BEAT_MS, () => recovery.beat()),
    ];
  }

  /** A node has reported: the deadline is the longest `reconnectMs` of all, from the beginning of the recovery. */
  waitAtLeast(reconnectMs: number): void {
    if (reconnectMs <= this.#longestMs) return;
    this.#longestMs = reconnectMs;
    this.#cancelDeadline();
    const elapsed_ms = this.#clock.now_ms() - this.#begun_ms;
    this.#cancelDeadline = this.#clock.after(Math.max(0, reconnectMs - elapsed_ms), () => {
      this.#recovery.onTimeout();
      // The recovery may have failed just now.
      if (this.#isStopped) return;
      this.#endStallChecks ??= this.#clock.every(HEARTBEAT_TIMEOUT_MS, () => this.#recovery.onTimeout());
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelDeadline();
    this.#endStallChecks?.();
    for (const cancel of this.#cancelOthers) cancel();
  }
}
