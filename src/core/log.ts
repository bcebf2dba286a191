/**
 * The one thing an arbiter needs of whatever orders a session's operations. The embedded engine is `dsm server` over
 * TCP; a replicated log can stand behind the same interface, and nothing above it knows which one runs.
 */
import type { DsmError } from "./errors.ts";
import type { Sent } from "./outbox.ts";
import type { NodeHello, Resume, Resumed, Welcome } from "./sequencer.ts";

export interface LogFollower {
  /** Entries in order, whole frames or pieces of them as they came; valid during the call only. */
  entries(bytes: Uint8Array): void;
  /** One whole frame among them, a part of a large publication; its memory is the follower's from then on. */
  part(frame: Uint8Array<ArrayBuffer>): void;
  /** Entries do not come for a while, and what is appended meanwhile is not passed on. */
  interrupted(): void;
  /** The last entry that came, and the bytes of all that did: with what a publication of its own has in other parts. */
  applied(): { seq: number; bytes: number };
  /** Where the follower is, to go on from. */
  position(): Resume;
  /** From now on it follows no engine older than this. False: it follows a newer one already. */
  promise(epoch: number): boolean;
  /** All that an engine needs to take over, in frames. */
  state(): Iterator<Uint8Array>;
  /** The log goes on: entries follow. What it has not ordered is to be appended again, in its order. */
  resumed(resumed: Resumed): void;
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
  append(bytes: Uint8Array, sent?: Sent): void;
  /** Bytes handed to append() that have not left yet. */
  readonly queued: number;
  /** Whether it is interrupted. */
  readonly away: boolean;
  /** The node needs its place no more. Calls back when this process may end as far as other nodes are concerned. */
  close(closed: () => void): void;
}
