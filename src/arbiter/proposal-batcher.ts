/**
 * ProposalBatcher: sends the server what the replica proposes. Small frames of one event are sent together; large ones
 * follow them without being copied.
 *
 * Every write to the server makes the server write to all nodes, and wakes them all. So while a proposal of this node
 * is in flight, the proposals of several connections in one turn of the event loop are sent as one write.
 *
 * Invariant: while the log is interrupted nothing is kept here. The replica keeps all proposals and proposes them
 * again.
 */
import type { Sent } from "../core/wire/outbox.ts";

/** The destination of proposals. */
export interface ProposalLog {
  /** The log is interrupted. */
  readonly away: boolean;
  append(bytes: Uint8Array, onSent?: Sent): void;
}

export class ProposalBatcher {
  readonly #log: ProposalLog;
  readonly #schedule: (work: () => void) => void;
  #bytes = new Uint8Array(64 << 10);
  #size = 0;
  #isScheduled = false;

  /** `schedule`: runs the work at the end of this turn of the event loop. */
  constructor(log: ProposalLog, schedule: (work: () => void) => void = setImmediate) {
    this.#log = log;
    this.#schedule = schedule;
  }

  /** Bytes that flush() would send. */
  get size(): number {
    return this.#size;
  }

  /** Proposes whole frames; `bytes` is valid during the call only, or, with `onSent`, until that is called. */
  propose(bytes: Uint8Array, onSent?: Sent): void {
    if (onSent !== undefined) {
      this.flush();
      this.#log.append(bytes, onSent);
    } else if (!this.#log.away) this.#add(bytes);
  }

  #add(frames: Uint8Array): void {
    const need = this.#size + frames.length;
    if (need > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(need, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.#size));
      this.#bytes = grown;
    }
    this.#bytes.set(frames, this.#size);
    this.#size = need;
  }

  flush(): void {
    if (this.#size === 0) return;
    const bytes = this.#bytes.subarray(0, this.#size);
    this.#size = 0;
    if (!this.#log.away) this.#log.append(bytes);
  }

  /**
   * Calls `flushAll`: at once when only the frames to flush are in flight, else at the end of this turn of the
   * event loop, once for all calls.
   */
  gather(bytesInFlight: number, flushAll: () => void): void {
    if (this.#isScheduled) return;
    if (bytesInFlight <= this.#size) {
      flushAll();
      return;
    }
    this.#isScheduled = true;
    this.#schedule(() => {
      this.#isScheduled = false;
      flushAll();
    });
  }
}
