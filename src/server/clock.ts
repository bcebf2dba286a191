/** Clock: the time and the timers of the server, so that tests can bring their own. */
export interface Clock {
  /** Milliseconds since 1970, never going back. */
  now_ms(): number;
  /** Runs `work` once after so many milliseconds. Returns what cancels it. */
  after(delay_ms: number, work: () => void): () => void;
  /** Runs `work` every so many milliseconds. Returns what ends it. */
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
