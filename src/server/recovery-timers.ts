/** RecoveryTimers: tell a Recovery when its waits are over. */
import {
  HEARTBEAT_TIMEOUT_MS,
  JOINING_SETTLE_MS,
  LEASE_MS,
  RECONNECT_TIMEOUT_MS,
  RECOVERY_BEAT_MS,
} from "../core/base/limits.ts";
import type { Clock } from "./clock.ts";

/** The Recovery that the timers drive. */
export interface TimedRecovery {
  onTimeout(): void;
  onJoinGraceOver(): void;
  beat(): void;
}

export class RecoveryTimers {
  readonly #clock: Clock;
  readonly #recovery: TimedRecovery;
  readonly #begun_ms: number;
  /** The longest time for which a node wants its place to be kept. */
  #longestMs = 0;
  #cancelDeadline: () => void;
  /** After the deadline: ends the checks for a source that stalls. */
  #endStallChecks: (() => void) | null = null;
  readonly #cancelOthers: (() => void)[];
  #isStopped = false;

  constructor(recovery: TimedRecovery, clock: Clock) {
    this.#recovery = recovery;
    this.#clock = clock;
    this.#begun_ms = clock.now_ms();
    // The default, while no node has reported.
    this.#cancelDeadline = clock.after(RECONNECT_TIMEOUT_MS, () => recovery.onTimeout());
    this.#cancelOthers = [
      clock.after(JOINING_SETTLE_MS, () => recovery.onJoinGraceOver()),
      clock.every(RECOVERY_BEAT_MS, () => recovery.beat()),
    ];
  }

  /**
   * A node has reported: extends the deadline to the longest `reconnectMs` of all, from the beginning of the recovery. A
   * node that does not report uses leases for at most LEASE_MS: the server that is gone has answered it.
   */
  waitAtLeast(wished_ms: number): void {
    const reconnectMs = Math.max(wished_ms, LEASE_MS);
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
