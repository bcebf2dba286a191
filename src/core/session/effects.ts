/** What the session tells its owner while it applies an entry. */
import type { Status } from "../base/errors.ts";

/** The answer to a request. */
export interface Reply {
  status: Status;
  /** The rank for a join, the lost rank for LOST, the owner before for OWNER_DIED; else 0. */
  aux: number;
  /** After an allocation its offset, after a wake how many woke, after a barrier how many were in it; else 0. */
  value: number;
  /** After an atomic operation: the value before it, 16 bytes little-endian; else null. */
  old: DataView | null;
}

export interface Effects {
  /** Whether onWrite() is to be called. */
  wantsWrites: boolean;
  /** These bytes of the map were written. Called before the request is answered. */
  onWrite(offset: number, length: number): void;
  /** The request that `node` tagged `tag` is answered. `reply` is valid during the call only. */
  onReply(node: number, tag: number, reply: Readonly<Reply>): void;
  /** A join got its rank; its reply comes when the session starts. */
  onRankAssigned(node: number, tag: number, rank: number): void;
  /** A rank has left `node` or was lost. */
  onProcessGone(node: number, rank: number): void;
  /** Every process has left: no entry can follow. */
  onEnd(): void;
}

/** Effects of an owner that wants to know nothing. */
export const NO_EFFECTS: Readonly<Effects> = {
  wantsWrites: false,
  onWrite() {},
  onReply() {},
  onRankAssigned() {},
  onProcessGone() {},
  onEnd() {},
};
