/** The processes of a simulated session, their threads, and what these have asked for. */
import type { Status } from "../../src/core/base/errors.ts";
import type { Frame } from "../../src/core/wire/frame.ts";
import type { Channel, Node } from "../support/core-cluster.ts";
import type { SemaphoreName } from "./oracle/semaphores.ts";

/** The answer to a request. */
export interface Answer {
  status: Status;
  tag: number;
  /** The reply's frame. */
  view: DataView;
}

/** What an actor says of its request: which answers are allowed, and what they mean. */
export interface Wanted {
  /** As messages call it. */
  what: string;
  /** Statuses it may be answered with, beside OK and, if its process is going, LEFT. */
  statuses?: readonly Status[];
  /** It is answered, not with LEFT, also when its process is going. */
  outlives?: boolean;
  /** It ends with LOST when the session fails because a process was lost. */
  endsByLoss?: boolean;
  /** It may be taken back, and is answered with TIMEOUT then. */
  cancelable?: boolean;
  /** An oracle says what the answer is. */
  judged?: boolean;
  /** Parts of a publication that are still to be sent. */
  parts?: Frame[];
  /** It is answered with a status that is allowed, and that the oracle gives. */
  answered?(answer: Answer): void;
  /** Judged, and answered before it has a place in the order: whether that is right. */
  answeredByNode?(status: Status): boolean;
  /** The arbiter closes the connection with this status instead of an answer: whether that is right. */
  refused?(status: Status): boolean;
  /** Nothing moves any more, and it has no answer: whether that is right. */
  waits?(): boolean;
  /** Its thread ends before the answer has come. */
  abandoned?(): void;
}

export interface Request extends Wanted {
  tag: number;
  canceled: boolean;
}

/** A range of a page that shows the process's own bytes until it is filled. */
export interface Hole {
  from: number;
  to: number;
  /** What the process writes there. */
  mark: number;
  state: "digging" | "open" | "filling";
}

/** Where a thread is that waits for a semaphore by its cell, or posts it. */
export interface CellStep {
  name: SemaphoreName;
  /** The byte of the cells where its word is. */
  at: number;
  /** It is about to look at the word, to sleep on it, or to wake one that sleeps; or it sleeps. */
  next: "look" | "sleep" | "wake" | "none";
  /** Another has woken it. */
  wasWoken: boolean;
  /** The arbiter has sent it back to the cell: the next time it stays in the queue. */
  wasSentBack: boolean;
}

export interface Thread {
  process: Process;
  channel: Channel;
  main: boolean;
  open: boolean;
  request: Request | null;
  /** What it does with a semaphore by its cell. */
  cell: CellStep | null;
  /** Everything it has seen so far lies behind that many frames of the order. */
  place: number;
}

export interface Process {
  pid: number;
  node: Node;
  threads: Thread[];
  rank: number;
  token: Uint8Array;
  /** "going": it has asked to leave. */
  state: "joining" | "running" | "going" | "left" | "refused" | "dead";
  barriersEntered: number;
  barriersPassed: number;
  /** It may write its node's memory; it has yet to say that it waits to be told to stop; it was told. */
  direct: boolean;
  unheard: boolean;
  told: boolean;
  /** It joined or was told when others wrote, and its node does its stores for it. */
  traps: boolean;
  shadow: Uint8Array;
  /** Whether its arbiter has its shadow. */
  lent: "no" | "asked" | "yes";
  holes: Hole[];
}

export function newProcess(pid: number, node: Node, mapSize: number): Process {
  return {
    ...{ pid, node, threads: [], rank: -1, token: new Uint8Array(8), state: "joining" },
    ...{ barriersEntered: 0, barriersPassed: 0, direct: false, unheard: false, told: false, traps: false },
    ...{ shadow: new Uint8Array(mapSize), lent: "no", holes: [] },
  };
}

/** From here on it does not write to its node's memory by itself. */
export function closeMap(process: Process): void {
  process.direct = false;
  process.unheard = false;
  process.told = false;
}

/** A publication of which not all parts have been sent. */
export const isHalf = ({ parts }: Wanted): boolean => parts !== undefined && parts.length > 0;
