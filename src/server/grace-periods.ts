/**
 * GracePeriods: how long the server keeps the places of disconnected members. Evicts a member when its time is over, or
 * as soon as its arbiter's process is seen to have ended on this host.
 */
import type { DisconnectedMember } from "../core/sequencer/sequencer-output.ts";
import type { Clock } from "./clock.ts";

/**
 * Interval at which the process of a disconnected member is looked for. The kernel closes a process's connections
 * before it ends.
 */
const WATCH_INTERVAL_MS = 20;

export interface GracePeriodsOptions {
  clock: Clock;
  /** Whether the process is known to have ended. */
  hasEnded(process: string): boolean;
  /** Evicts the member, which can then not return. */
  evict(node: number): void;
}

export class GracePeriods {
  readonly #options: GracePeriodsOptions;
  /** By node: the function that cancels its timers. */
  readonly #running = new Map<number, () => void>();

  constructor(options: GracePeriodsOptions) {
    this.#options = options;
  }

  /** Starts the grace period of a node whose connection is broken. */
  start(node: number, { reconnectMs, leaseMs, process }: DisconnectedMember): void {
    this.stop(node);
    const { clock, hasEnded, evict } = this.#options;
    const cancelTimeout = clock.after(reconnectMs, () => evict(node));
    let cancelWatch = (): void => {};
    const watch = (): void => {
      cancelWatch = clock.every(WATCH_INTERVAL_MS, () => {
        if (hasEnded(process)) evict(node);
      });
    };
    // Processes of a node whose arbiter has ended may use its leases for a while.
    if (leaseMs > 0) cancelWatch = clock.after(leaseMs, watch);
    else watch();
    this.#running.set(node, () => {
      cancelTimeout();
      cancelWatch();
    });
  }

  /** Ends the grace period: the node came back, or was evicted. */
  stop(node: number): void {
    this.#running.get(node)?.();
    this.#running.delete(node);
  }

  stopAll(): void {
    for (const node of [...this.#running.keys()]) this.stop(node);
  }
}
