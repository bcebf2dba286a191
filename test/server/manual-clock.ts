/** A clock that a test moves. */
import type { Clock } from "../../src/server/clock.ts";

interface Alarm {
  at_ms: number;
  /** 0: it rings once. */
  interval_ms: number;
  work: () => void;
}

export class ManualClock implements Clock {
  #now_ms = 0;
  readonly #alarms = new Set<Alarm>();

  now_ms(): number {
    return this.#now_ms;
  }

  after(delay_ms: number, work: () => void): () => void {
    return this.#add({ at_ms: this.#now_ms + delay_ms, interval_ms: 0, work });
  }

  every(interval_ms: number, work: () => void): () => void {
    return this.#add({ at_ms: this.#now_ms + interval_ms, interval_ms, work });
  }

  #add(alarm: Alarm): () => void {
    this.#alarms.add(alarm);
    return () => {
      this.#alarms.delete(alarm);
    };
  }

  /** Timers that have not been cancelled, and will ring. */
  get pending(): number {
    return this.#alarms.size;
  }

  /** Lets so much time pass; alarms ring in the order of their times. */
  advance(by_ms: number): void {
    const end_ms = this.#now_ms + by_ms;
    for (;;) {
      const [next] = [...this.#alarms].sort((one, other) => one.at_ms - other.at_ms);
      if (next === undefined || next.at_ms > end_ms) break;
      this.#now_ms = next.at_ms;
      if (next.interval_ms === 0) this.#alarms.delete(next);
      else next.at_ms += next.interval_ms;
      next.work();
    }
    this.#now_ms = end_ms;
  }
}
