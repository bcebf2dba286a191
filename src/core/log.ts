/**
 * The one thing an arbiter needs of whatever orders a session's operations. The embedded engine is `dsm server` over
 * TCP; a replicated log can stand behind the same interface, and nothing above it knows which one runs.
 */
import type { DsmError } from "./errors.ts";
import type { NodeHello, Welcome } from "./sequencer.ts";

export interface LogFollower {
  /** Entries in order, whole frames or pieces of them as they came; valid during the call only. */
  entries(bytes: Uint8Array): void;
  /** No more entries will come. DSM_ENDED: because the session has ended. */
  lost(error: DsmError): void;
  /** What append() handed over is on its way; more may be appended. */
  drained(): void;
}

export interface OrderedLog {
  /** A snapshot of the session and the node's number; entries after the snapshot go to `follower`. */
  open(hello: NodeHello, follower: LogFollower): Promise<Welcome>;
  /** Asks for places in the order for whole frames; `bytes` is valid during the call only, or, with `sent`, until that is
   * called. */
  append(bytes: Uint8Array, sent?: () => void): void;
  /** Bytes handed to append() that have not left yet. */
  readonly queued: number;
  close(): void;
}
