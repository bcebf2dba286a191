/** SequencerOutput: what the sequencer asks of its shell. */
import type { Sharing } from "../wire/shared-parts.ts";

/** A member whose connection is broken. */
export interface DisconnectedMember {
  /** How long the server keeps its place, in milliseconds. */
  reconnectMs: number;
  /** How long the server must keep its place also if its process has ended: its processes may still use its leases. */
  leaseMs: number;
  /** Identity of its arbiter's process: a shell on the same host can see whether it has ended. "": unknown. */
  process: string;
}

export interface SequencerOutput {
  /** Sends to one link. */
  send(link: number, bytes: Uint8Array): void;
  /**
   * Sends to every welcomed link but `except`. `bytes` is valid during the call only; or, with `sent`, until that is
   * called, once all links have sent the bytes or are gone.
   */
  broadcast(bytes: Uint8Array, sent?: () => void, except?: number): void;
  /** Adds the link to the broadcast set. The link counts as broken when it is silent for `heartbeatMs`; 0: never. */
  welcomed(link: number, heartbeatMs: number): void;
  /** How to share parts of publications with the link through memory. Null, or left out: they are not shared. */
  sharing?(link: number): Sharing | null;
  /** The peer has mapped the server's memory: references to parts may be sent instead of the parts. */
  onPeerMapped?(link: number): void;
  /** Closes the link after what was sent. */
  close(link: number): void;
  /**
   * Whether a node that has left must wait until the session ends before the server closes its link: the server ends
   * with the process of that node's arbiter, but not all other nodes do. Decided by the process identities that
   * arbiters report.
   */
  detains?(leaver: string, others: string[]): boolean;
  /** Closes the link at once: its node has another one. */
  drop(link: number): void;
  /**
   * The node's connection is broken. The shell must evict the node if it does not come back in time, or its process
   * ends.
   */
  onDisconnected(node: number, member: DisconnectedMember): void;
  /** The node came back, or was evicted. */
  onReturnedOrEvicted(node: number): void;
  /** Another server has taken over: no node follows this one any more. */
  replaced(): void;
  /** The session has ended; the shell must deliver what was broadcast first. */
  ended(): void;
  /** The daemon asks for the end of the session. */
  stop(): void;
}
