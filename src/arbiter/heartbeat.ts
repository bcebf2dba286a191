/**
 * Heartbeat of one connection: counts periods of silence of the peer, and keeps the arbiter's own side from falling
 * silent.
 */
import { HEARTBEATS } from "../core/base/limits.ts";

export interface HeartbeatOptions {
  /** Maximum silence of the peer. */
  timeoutMs: number;
  /** The arbiter has sent nothing for a period: it must send a heartbeat. */
  onIdle: () => void;
  /** The peer was silent for `timeoutMs`. */
  onSilence: () => void;
}

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  #timer: Timer | undefined;
  /** Periods since anything was received. */
  #silentPeriods = 0;
  #hasSent = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => this.tick(), this.#options.timeoutMs / HEARTBEATS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  received(): void {
    this.#silentPeriods = 0;
  }

  sent(): void {
    this.#hasSent = true;
  }

  /** A period is over; called by the timer. */
  tick(): void {
    this.#silentPeriods += 1;
    if (this.#silentPeriods > HEARTBEATS) this.#options.onSilence();
    else if (!this.#hasSent) this.#options.onIdle();
    this.#hasSent = false;
  }
}
