/** What an oracle is: a plain model of one resource, which says how the requests for it are answered. */
import type { Status } from "../../../src/core/base/errors.ts";
import type { Block } from "../../../src/core/messages/session-state.ts";

/** An entry of the order, with the state before it. */
export interface Judged {
  /** The key of its request (src/core/wire/request-key.ts). */
  at: number;
  kind: number;
  op: number;
  rank: number;
  node: number;
  offset: number;
  length: number;
  /** The field `aux`. */
  count: number;
  frame: Uint8Array;
  /** The body as text, where it is one. */
  name: string;
  /** The map before the entry. */
  memory: Uint8Array;
  /** Its process may not ask any more: it has left. */
  hasLeft: boolean;
  /** The session has failed because a process was lost. */
  isLost: boolean;
  /** LEAVE: the process is in the session until this entry. */
  ends: boolean;
  /** A free lock may be leased to a node now. */
  mayLease: boolean;
  /** FREE: the block that it frees; null: none. */
  freed: Block | null;
}

/** Whether the place lies in the block that is freed. */
export const isFreed = ({ freed }: Judged, offset: number): boolean =>
  freed !== null && offset >= freed.offset && offset < freed.offset + freed.size;

/** Gives the answer to a request: once, with the entry that decides it. */
export type Say = (at: number, status: Status, value?: number) => void;

export interface Oracle {
  /** Follows one entry, and answers what it decides. Returns the block that it gives out and that is zeroed, if any. */
  judge(entry: Judged, say: Say): Block | null;
  /** A process that was in the session has left it, or was lost. `isLast`: of its node. */
  processGone?(entry: Judged, say: Say, isLast: boolean): void;
  /** A loss has ended every wait. */
  sessionLost?(say: Say): void;
  /** Nothing has happened yet. */
  reset(): void;
}
