/**
 * The words that the processes of a simulated node share, and who sleeps on them: what memory and futexes are in a real
 * one. A sleep ends with a wake only; the test ends it where its time is over, or its process is gone.
 */
import { CELLS_SIZE } from "../../src/core/wire/cell-layout.ts";

interface Sleeper {
  at: number;
  woken: () => void;
}

export class Cells {
  /** For the arbiter. */
  readonly bytes = new Uint8Array(CELLS_SIZE);
  readonly #words = new Int32Array(this.bytes.buffer);
  /** First come, first served. */
  #sleepers: Sleeper[] = [];

  /** The word at that byte. */
  load(at: number): number {
    return this.#words[at / 4] as number;
  }

  /** A compare-and-swap. Returns whether it has succeeded. */
  swap(at: number, from: number, to: number): boolean {
    if (this.load(at) !== from) return false;
    this.#words[at / 4] = to;
    return true;
  }

  /**
   * Sleeps on the word at that byte while it is `seen`: `woken` is called when a wake ends it. Returns what ends it
   * otherwise; null: the word is another.
   */
  sleep(at: number, seen: number, woken: () => void): (() => void) | null {
    if (this.load(at) !== seen) return null;
    const sleeper = { at, woken };
    this.#sleepers.push(sleeper);
    return () => {
      this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
    };
  }

  /** What the arbiter does. */
  wakeAll(at: number): void {
    this.wake(at);
  }

  /** Wakes at most `count` that sleep on the word at that byte. Returns how many. */
  wake(at: number, count = Number.POSITIVE_INFINITY): number {
    const woken = this.#sleepers.filter((sleeper) => sleeper.at === at).slice(0, count);
    this.#sleepers = this.#sleepers.filter((sleeper) => !woken.includes(sleeper));
    for (const sleeper of woken) sleeper.woken();
    return woken.length;
  }

  /** How many sleep on the word at that byte. */
  asleep(at: number): number {
    return this.#sleepers.filter((sleeper) => sleeper.at === at).length;
  }
}
