/**
 * The full replicated state of a session, as plain data: what a WELCOME carries to a node and a node hands to a server
 * that takes over. Everything but the bytes of the map.
 */
import type { Order } from "../base/consistency.ts";
import type { OnLoss } from "../base/loss-policy.ts";

export interface SessionConfig {
  name: string;
  /** Tells two sessions of one name, one after the other, apart. */
  instance: string;
  processes: number;
  /** Bytes of the map, whole pages. */
  size: number;
  /** Address of the map in every process. */
  base: number;
  order: Order;
  onLoss: OnLoss;
  /** Processes may join while it runs, leave, and come again; `processes` is how many it begins with. */
  elastic?: boolean;
}

export type Phase = "joining" | "running" | "ended";
export type RankState = "joining" | "running" | "left" | "lost";

export interface ProcessState {
  rank: number;
  node: number;
  nodeName: string;
  pid: number;
  state: RankState;
  joinTag: number;
  /** Tag of the barrier it is in, or -1. */
  barrierTag: number;
}

/** A request: the node and tag to which its reply goes, and the rank that made it (-1: none yet). */
export interface Requester {
  node: number;
  tag: number;
  rank: number;
}

/** Requests that wait, first come first served. */
export interface WaitQueue {
  waiters: Requester[];
}

export interface SemaphoreState extends WaitQueue {
  name: string;
  value: number;
}

/** A lock belongs to a process. It passes on when its owner unlocks it, and when its owner leaves or is lost. */
export interface LockState extends WaitQueue {
  name: string;
  /** Rank, or -1. */
  owner: number;
  /** Rank that went while it had the lock, if the data has not been made consistent since; -1: none. */
  died: number;
}

/** Requests that sleep on a place of the map until a WAKE of that place. */
export interface FutexQueue extends WaitQueue {
  offset: number;
}

/** A range of the map that allocation has given out. */
export interface Block {
  offset: number;
  size: number;
  /** "" for a block without a name. */
  name: string;
}

export interface SessionState {
  config: SessionConfig;
  phase: Phase;
  /** Number of the last entry applied. */
  seq: number;
  /** Bytes that stores, atomics and publications have written. */
  published: number;
  /** Barriers passed. */
  barriers: number;
  /** The first rank that was lost, or -1. */
  lostRank: number;
  direct: boolean;
  /** The end of direct mode has begun: some of the map may be in the log already. */
  copying: boolean;
  mayBeDirect: boolean;
  processes: ProcessState[];
  semaphores: SemaphoreState[];
  locks: LockState[];
  sleepers: FutexQueue[];
  blocks: Block[];
  waitingJoins: Requester[];
  /** The session began with a snapshot: its state, and the bytes of its map. */
  restored: boolean;
  /** How many entries of each node, by its number, are in the log, or EVICTED. */
  ordered: number[];
}

/** In place of the number of entries of a node that was disconnected for too long: it can never rejoin. */
export const EVICTED = -1;

/**
 * Whether MAP frames follow a WELCOME with this state. A node that comes after the start needs no bytes unless the
 * session is elastic: it has no processes in it. In direct mode the server has none, until they are uploaded.
 */
export const welcomeIncludesMap = ({ config, restored, phase, direct, copying }: SessionState): boolean =>
  phase === "joining" ? restored : phase === "running" && config.elastic === true && (!direct || copying);
