/**
 * RingPoller: takes the stores that processes queue in the store ring while the arbiter is awake.
 *
 *     asleep ---- a process rings the doorbell ----> polling (each turn of the event loop) ---- ring empty ----> asleep
 *                                                       |                ^
 *                                                       '-- stores taken: in flight, not polled, until they come back
 *
 * Processes ring the doorbell only while the arbiter sleeps, so a burst of stores costs few wake-ups. While a proposal
 * is in flight the ring is not polled: stores accumulate and are sent as one entry. Polling all the time would send a
 * few stores at a time, and take the processor from the storing processes and the server. Under `release` there is even a
 * pause before each look: no process of another node waits for what is queued, because all that synchronises drains the ring.
 */

/** The owner of the ring: the replica. */
export interface StoreQueueOwner {
  /** Whether processes expect drainQueue() to be called without the doorbell. */
  readonly isAwake: boolean;
  readonly bytesInFlight: number;
  /** Proposes the queued stores. Returns how many. */
  drainQueue(): number;
  /** Makes a process that queues a store from now on ring the doorbell. False: a store has arrived meanwhile. */
  sleep(): boolean;
}

export interface RingPollerOptions {
  /** Runs the work; false: it failed, and the arbiter ends. */
  attempt(work: () => void): boolean;
  afterEvent(): void;
  /** Runs the work at the next turn of the event loop. */
  schedule(work: () => void): void;
}

export class RingPoller {
  readonly #owner: StoreQueueOwner;
  readonly #options: RingPollerOptions;
  #isScheduled = false;
  #isStopped = false;

  constructor(owner: StoreQueueOwner, options: RingPollerOptions) {
    this.#owner = owner;
    this.#options = options;
  }

  /** Runs after every event: looks into the ring at the next turn of the event loop, if processes expect it. */
  poll(): void {
    if (this.#isScheduled || this.#isStopped || !this.#owner.isAwake || this.#owner.bytesInFlight > 0) return;
    this.#isScheduled = true;
    this.#options.schedule(() => this.#look());
  }

  #look(): void {
    if (this.#isStopped) return;
    let taken = 0;
    const isWell = this.#options.attempt(() => {
      taken = this.#owner.drainQueue();
    });
    if (!isWell) return;
    const isAsleep = taken === 0 && this.#owner.sleep();
    this.#isScheduled = false;
    if (!isAsleep) this.#options.afterEvent();
  }

  /** Makes processes ring again: a process that queues a store then finds that the arbiter is gone. */
  stop(): void {
    this.#isStopped = true;
    this.#owner.sleep();
  }
}
