/**
 * RetryPolicy: when the arbiter tries a broken connection to the server again, and when it gives up. Pure: no clock.
 */
import { DsmError } from "../core/base/errors.ts";
import { RECONNECT_PAUSE_MAX_MS, RECONNECT_PAUSE_MIN_MS } from "../core/base/limits.ts";

export class RetryPolicy {
  readonly #deadline_ms: number;
  #pauseMs = RECONNECT_PAUSE_MIN_MS;

  /** Attempts begin at `now_ms` and end `timeoutMs` later. */
  constructor(timeoutMs: number, now_ms: number) {
    this.#deadline_ms = now_ms + timeoutMs;
  }

  /**
   * Returns the milliseconds to wait after a failed attempt, or null: give up. A lost connection may come back; of the
   * errors with which a server refuses a node, only DSM_AGAIN may pass. Pauses double up to RECONNECT_PAUSE_MAX_MS.
   */
  pauseAfter(error: Error, now_ms: number): number | null {
    const mayPass = !(error instanceof DsmError) || error.code === "DSM_AGAIN";
    if (!mayPass || now_ms >= this.#deadline_ms) return null;
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(2 * pauseMs, RECONNECT_PAUSE_MAX_MS);
    return pauseMs;
  }
}
