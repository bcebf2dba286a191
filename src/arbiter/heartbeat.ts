/** Heartbeat of one connection: counts periods without a word from the peer, and keeps our own side from falling silent. */
import { HEARTBEATS } from "../core/base/limits.ts";

export interface HeartbeatOptions {
  /** How long the peer may be silent. */
  timeoutMs: number;
  /** Nothing was sent for a period: send a sign of life. */
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
