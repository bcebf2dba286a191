/** ReplicaOutput: what the replica asks of its shell. */
import type { Sent } from "../wire/outbox.ts";

/** Memory that a process and its arbiter share, zeroed: see MEMORY in kinds.ts. */
export interface LentMemory {
  /** As large as the map. */
  shadow: Uint8Array;
  /** STAGING_SIZE bytes. */
  staging: Uint8Array;
}

export interface ReplicaOutput {
  /** Sends whole frames to the server; valid during the call only, or, with `sent`, until that is called. */
  propose(bytes: Uint8Array, sent?: Sent): void;
  /** Sends to one channel; valid during the call only. */
  reply(channel: number, bytes: Uint8Array): void;
  /** Closes the channel after what was sent. */
  close(channel: number): void;
  /** The time in milliseconds of a clock that never goes back; only differences count. */
  now_ms(): number;
  /** Returns 8 random bytes, which a process shows to attach further channels. */
  token(): Uint8Array;
  /**
   * Sends the reply, and with it new memory that is shared with the process at that channel. Null: nothing was sent.
   */
  lend(channel: number, reply: Uint8Array): LentMemory | null;
  /** Releases the memory that lend() gave: its process is gone. */
  unmap(memory: Uint8Array): void;
  /** Wakes all threads that sleep on the word at that byte of the cells. */
  wakeCell(at: number): void;
  /** The last process of this node is gone, or the session has ended. */
  done(): void;
}
