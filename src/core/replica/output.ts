/** What the replica has its shell do. */
import type { Sent } from "../wire/outbox.ts";

export interface ReplicaOutput {
  /** Whole frames for the server; valid during the call only, or, with `sent`, until that is called. */
  propose(bytes: Uint8Array, sent?: Sent): void;
  /** To one channel; valid during the call only. */
  reply(channel: number, bytes: Uint8Array): void;
  /** Close the channel after what was sent. */
  close(channel: number): void;
  /** 8 random bytes: what a process shows to attach further channels. */
  token(): Uint8Array;
  /** The shadow (as large as the map) behind a descriptor of a process, or null when it cannot be opened. */
  shadow(pid: number, descriptor: number): Uint8Array | null;
  /** The staging area (STAGING_SIZE bytes) behind a descriptor of a process, or null when it cannot be opened. */
  staging(pid: number, descriptor: number): Uint8Array | null;
  /** The memory that shadow() or staging() gave is needed no more: its process is gone. */
  unmap(memory: Uint8Array): void;
  /** The last process of this node is gone, or the session has ended. */
  done(): void;
}
