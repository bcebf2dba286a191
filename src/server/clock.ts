/** Clock: the time and the timers of the server; tests supply their own. */
export interface Clock {
  /** Milliseconds since 1970, never going back. */
  now_ms(): number;
  /** Runs `work` once after `delay_ms`. Returns the function that cancels it. */
  after(delay_ms: number, work: () => void): () => void;
  /** Runs `work` every `interval_ms`. Returns the function that ends it. */
  every(interval_ms: number, work: () => void): () => void;
}

export const systemClock: Clock = {
  // Unlike Date.now() it does not go back when the system's clock is set.
  now_ms: () => performance.timeOrigin + performance.now(),
  after(delay_ms, work) {
    const timer = setTimeout(work, delay_ms);
    return () => clearTimeout(timer);
  },
  every(interval_ms, work) {
    const timer = setInterval(work, interval_ms);
    return () => clearInterval(timer);
  },
};
