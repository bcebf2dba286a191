/** What the sequencer has its shell do. */
import type { Sharing } from "../wire/shared-parts.ts";

/** A member whose connection is broken. */
export interface DisconnectedMember {
  /** How long its place is kept, in milliseconds. */
  reconnectMs: number;
  /** Which process its arbiter is: a shell on the same host can see whether it has ended. "": unknown. */
  process: string;
}

export interface SequencerOutput {
  /** To one link. */
  send(link: number, bytes: Uint8Array): void;
  /**
   * To every welcomed link but `except`. `bytes` is valid during the call only; or, with `sent`, until that is called:
   * when all links have it, or are gone.
   */
  broadcast(bytes: Uint8Array, sent?: () => void, except?: number): void;
  /** From now on the link gets what is broadcast. It counts as broken when it is silent for so long; 0: never. */
  welcomed(link: number, heartbeatMs: number): void;
  /** Null, or left out: parts of publications are not shared with the link through memory. */
  sharing?(link: number): Sharing | null;
  /** From now on the link may be sent the references of parts instead of the parts. */
  borrows?(link: number): void;
  /** Close the link after what was sent. */
  close(link: number): void;
  /**
   * A node has left, and its arbiter waits for the end of the link. Whether to let it wait until the session ends, because
   * the server ends with that arbiter's process, but not all others do. Both by what arbiters say of their processes.
   */
  detains?(leaver: string, others: string[]): boolean;
  /** Close the link at once: its node has another one. */
  drop(link: number): void;
  /** The node's connection is broken. Evict it if it does not come back in time, or its process ends. */
  onDisconnected(node: number, member: DisconnectedMember): void;
  /** The node came back, or was evicted. */
  onReturnedOrEvicted(node: number): void;
  /** Another server has taken over: no node listens to this one any more. */
  replaced(): void;
  /** The session has ended; what was broadcast is to be delivered first. */
  ended(): void;
  /** The session is to end: the daemon asks for it. */
  stop(): void;
}
