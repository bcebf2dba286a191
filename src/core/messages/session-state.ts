/**
 * The full replicated state of a session, as plain data: what a WELCOME carries to a node and a node hands to a server
 * that takes over. Everything but the bytes of the map.
 */
import * as v from "valibot";
import { slotOf } from "../base/addresses.ts";
import {
  BLOCKS_MAX,
  LEASE_PAUSE,
  LEASE_STREAK,
  LOCKS_MAX,
  NODE_NUMBER_MAX,
  PROCESSES_MAX,
  SEMAPHORE_VALUE_MAX,
  SEMAPHORES_MAX,
  WAITING_JOINS_MAX,
  WAITING_MAX,
} from "../base/limits.ts";
import { checkName } from "../base/names.ts";
import { checkSize, pageRound } from "../base/size.ts";
import {
  count,
  flag,
  list,
  name,
  numberBy,
  numbers,
  pattern,
  reasoned,
  record,
  repeated,
  textBy,
  WORD_MAX,
  whenWhole,
  whole,
} from "./schema.ts";
import { settingEntries, settingField, wishedEntries } from "./session-settings.ts";

/** In place of a node's number of entries: the node was evicted and can never rejoin. */
export const EVICTED = -1;

export const SessionConfigSchema = record({
  name: settingField("session"),
  /** Distinguishes two successive sessions of one name. */
  instance: pattern(/^[\w-]{1,64}$/, "an instance of 1 to 64 letters, digits, - and _"),
  processes: settingEntries.processes,
  /** Bytes of the map, whole pages. */
  size: numberBy((size) => checkSize(size) ?? (pageRound(size) === size ? null : "is not a number of whole pages")),
  /** Address of the map in every process. */
  base: reasoned<number>((base) =>
    typeof base === "number" && slotOf(base) >= 0 ? null : "is not an address that dsm gives to a map",
  ),
  order: settingEntries.order,
  onLoss: settingEntries.onLoss,
  /**
   * Whether processes may join, leave, and join again while the session runs; `processes` is the number it begins with.
   */
  elastic: wishedEntries.elastic,
});
export type SessionConfig = v.InferOutput<typeof SessionConfigSchema>;

/** One more than the highest rank that a session can have. */
export const ranksOf = ({ elastic, processes }: SessionConfig): number =>
  elastic === true ? PROCESSES_MAX : processes;

const PHASES = ["joining", "running", "ended"] as const;
export type Phase = (typeof PHASES)[number];
const RANK_STATES = ["joining", "running", "left", "lost"] as const;

const ProcessStateSchema = record({
  rank: whole(0, PROCESSES_MAX - 1),
  node: whole(0, WORD_MAX),
  nodeName: name("node"),
  pid: whole(0, WORD_MAX),
  state: v.picklist(RANK_STATES, "is not the state of a process"),
  joinTag: whole(0, WORD_MAX),
  /** Tag of the barrier in which it waits, or -1. */
  barrierTag: whole(-1, WORD_MAX),
  /** The moment in which its last wait to join or in the barrier began, and in which it last gave up one; 0: none. */
  waitsSince: count,
  gaveUpAt: count,
});
export type ProcessState = v.InferOutput<typeof ProcessStateSchema>;

/** A rank that joined and went again before the session began. */
const WithdrawalSchema = record({
  rank: whole(0, PROCESSES_MAX - 1),
  /** The moment in which it gave up, having waited for as long as it may; 0: it went for another reason. */
  gaveUpAt: count,
});
export type Withdrawal = v.InferOutput<typeof WithdrawalSchema>;

/** A request: the node and tag to which its reply goes, and the rank that made it (-1: none yet). */
const RequesterSchema = record({
  node: whole(0, WORD_MAX),
  tag: whole(0, WORD_MAX),
  rank: whole(-1, PROCESSES_MAX - 1),
});
export type Requester = v.InferOutput<typeof RequesterSchema>;

/** Requests that wait, first come first served. */
export interface WaitQueue {
  waiters: Requester[];
}

const SemaphoreStateSchema = record({
  name: name("semaphore"),
  value: whole(0, SEMAPHORE_VALUE_MAX),
  waiters: list(WAITING_MAX, RequesterSchema),
});
export type SemaphoreState = v.InferOutput<typeof SemaphoreStateSchema>;

const LockWaiterSchema = record({
  ...RequesterSchema.entries,
  /** It does not wait for an owner, only for the end of a lease. */
  tryOnly: flag,
});
export type LockWaiter = v.InferOutput<typeof LockWaiterSchema>;

/**
 * A lock belongs to a process. It passes on when its owner unlocks it, and when its owner leaves or is lost. While it is
 * leased to a node, only that node knows its owner.
 */
const LockStateSchema = record({
  name: name("lock"),
  /** Rank, or -1. */
  owner: whole(-1, PROCESSES_MAX - 1),
  /** Rank that left while it owned the lock, if the data has not been made consistent since; -1: none. */
  died: whole(-1, PROCESSES_MAX - 1),
  waiters: list(PROCESSES_MAX, LockWaiterSchema),
  /** The node that it is leased to, or -1. */
  lease: whole(-1, WORD_MAX),
  /**
   * The node of the last process that got it (-1: none yet), and how many got it there in a row: at most LEASE_STREAK.
   * Below 0: so many grants on any node must pass before they are counted.
   */
  lastNode: whole(-1, WORD_MAX),
  streak: whole(-LEASE_PAUSE, LEASE_STREAK),
});
export type LockState = v.InferOutput<typeof LockStateSchema>;

/** Requests that sleep on a place of the map until a FUTEX_WAKE of that place. */
const FutexQueueSchema = record({
  offset: count,
  waiters: list(WAITING_MAX, RequesterSchema),
});
export type FutexQueue = v.InferOutput<typeof FutexQueueSchema>;

/** An allocated range of the map. */
export const BlockSchema = record({
  offset: count,
  size: whole(1, Number.MAX_SAFE_INTEGER),
  /** "" for a block without a name. */
  name: textBy<string>((value) => (value === "" ? null : checkName("block", value))),
});
export type Block = v.InferOutput<typeof BlockSchema>;

export const SessionStateSchema = v.pipe(
  record({
    config: SessionConfigSchema,
    phase: v.picklist(PHASES, "is not the phase of a session"),
    /** Number of the last entry applied. */
    seq: count,
    /** Bytes that stores, atomics and publications have written. */
    published: count,
    /** Barriers passed. */
    barriers: count,
    /** The first rank that was lost, or -1. */
    lostRank: whole(-1, PROCESSES_MAX - 1),
    direct: flag,
    /** The end of direct mode has begun: part of the map may be in the log already. */
    copying: flag,
    mayBeDirect: flag,
    processes: list(PROCESSES_MAX, ProcessStateSchema),
    semaphores: list(SEMAPHORES_MAX, SemaphoreStateSchema),
    locks: list(LOCKS_MAX, LockStateSchema),
    sleepers: list(WAITING_MAX, FutexQueueSchema),
    /** By offset. */
    blocks: list(BLOCKS_MAX, BlockSchema),
    waitingJoins: list(WAITING_JOINS_MAX, RequesterSchema),
    withdrawals: list(PROCESSES_MAX, WithdrawalSchema),
    /** Number of the last moment that a process noted. Moments have no length: they only follow each other. */
    moment: count,
    /** The session began with a snapshot: its state and the bytes of its map. */
    restored: flag,
    /** By node number: how many entries of the node are in the log, or EVICTED. */
    ordered: numbers(EVICTED, NODE_NUMBER_MAX + 1),
  }),
  whenWhole((state) => {
    const ranks = ranksOf(state.config);
    for (const [key, fault] of [
      ["processes", tooHigh(state.processes, "rank", ranks) ?? repeated(state.processes, "rank")],
      ["withdrawals", tooHigh(state.withdrawals, "rank", ranks) ?? repeated(state.withdrawals, "rank")],
      ["semaphores", repeated(state.semaphores, "name")],
      ["locks", repeated(state.locks, "name") ?? leasedAndOwned(state.locks)],
      ["sleepers", tooHigh(state.sleepers, "offset", state.config.size) ?? repeated(state.sleepers, "offset")],
      ["blocks", misplaced(state.blocks, state.config.size)],
    ] as const) {
      if (fault !== null) return [key, fault];
    }
    return null;
  }),
);
export type SessionState = v.InferOutput<typeof SessionStateSchema>;

function leasedAndOwned(locks: readonly LockState[]): string | null {
  return locks.some(({ lease, owner, died }) => lease >= 0 && (owner >= 0 || died >= 0))
    ? "has an item that is leased, and has an owner or a dead owner"
    : null;
}

function tooHigh<Key extends string>(items: readonly Record<Key, number>[], key: Key, end: number): string | null {
  const found = items.find((item) => item[key] >= end);
  return found === undefined ? null : `has an item whose ${key} is ${found[key]}; the highest is ${end - 1}`;
}

/** The fault if the blocks overlap, are out of order, or leave a map of that size. */
export function misplaced(blocks: readonly Block[], mapSize: number): string | null {
  let end = 0;
  for (const { offset, size } of blocks) {
    if (offset < end || offset + size > mapSize) return "has blocks that do not fit the map, or overlap";
    end = offset + size;
  }
  return null;
}

/**
 * Whether MAP frames follow a WELCOME with this state. A node that joins after the start needs no bytes unless the
 * session is elastic: it has no processes in it. In direct mode the server has no bytes until they are uploaded.
 */
export const welcomeIncludesMap = ({ config, restored, phase, direct, copying }: SessionState): boolean =>
  phase === "joining" ? restored : phase === "running" && config.elastic === true && (!direct || copying);
