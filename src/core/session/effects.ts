/** Effects: what the session tells its owner while it applies an entry. */
import type { Status } from "../base/errors.ts";

/** The reply to a request. */
export interface Reply {
  status: Status;
  /** The rank for a join, the lost rank for LOST, the previous owner for OWNER_DIED; else 0. */
  aux: number;
  /**
   * After an allocation its offset, for NO_MEMORY the bytes that the map would need for it (0: there are BLOCKS_MAX
   * blocks), for MISMATCH the size that the block of that name has; after a wake the number of sleepers woken, after a
   * barrier the number of processes in it; else 0.
   */
  value: number;
  /** After an atomic operation: the value before it, 16 bytes little-endian; else null. */
  old: DataView | null;
}

export interface Effects {
  /** Whether the session must call onWrite(). */
  wantsWrites: boolean;
  /** These bytes of the map were written. Called before the request is answered. */
  onWrite(offset: number, length: number): void;
  /** The request that `node` tagged `tag` has its reply. `reply` is valid during the call only. */
  onReply(node: number, tag: number, reply: Readonly<Reply>): void;
  /** A join got its rank; its reply comes when the session starts. */
  onRankAssigned(node: number, tag: number, rank: number): void;
  /** A rank has left `node`, or was lost. */
  onProcessGone(node: number, rank: number): void;
  /** The free lock is leased to the node: its processes may take it without an entry. */
  onLease(name: string, node: number): void;
  /** The node must give the lock back with a RETURN, unless one is under way. */
  onRecall(name: string, node: number): void;
  /** Every process has left: no entry can follow. */
  onEnd(): void;
}

/** The effects of an owner that ignores them all. */
export const NO_EFFECTS: Readonly<Effects> = {
  wantsWrites: false,
  onWrite() {},
  onReply() {},
  onRankAssigned() {},
  onProcessGone() {},
  onLease() {},
  onRecall() {},
  onEnd() {},
};
