/**
 * The full replicated state of a session, as plain data: what a WELCOME carries to a node and a node hands to a server
 * that takes over. Everything but the bytes of the map.
 */
import * as v from "valibot";
import { slotOf } from "../base/addresses.ts";
import {
  ARRIVALS_MAX,
  BLOCKS_MAX,
  LEASE_STREAK,
  LOCKS_MAX,
  NODE_NUMBER_MAX,
  OBJECT_LEASES_MAX,
  OVERTAKES_MAX,
  PROCESSES_MAX,
  READERS_MAX,
  RW_LOCKS_MAX,
  SEMAPHORE_VALUE_MAX,
  SEMAPHORES_MAX,
  WAITING_JOINS_MAX,
  WAITING_MAX,
} from "../base/limits.ts";
import { checkName, placeInName } from "../base/names.ts";
import { checkSize, pageRound } from "../base/size.ts";
import { NAMED_CELLS_MAX } from "../wire/cell-layout.ts";
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
  resourceName,
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
export interface WaitQueue<Waiter extends Requester = Requester> {
  waiters: Waiter[];
}

/**
 * What processes have done by cells, leased mutexes, those to which waiters of conditions come back, and readers that have
 * waited are taken beyond the limits SEMAPHORES_MAX, LOCKS_MAX and READERS_MAX.
 */
export const SEMAPHORES_LISTED_MAX = SEMAPHORES_MAX + NAMED_CELLS_MAX;
export const LOCKS_LISTED_MAX = LOCKS_MAX + OBJECT_LEASES_MAX + NAMED_CELLS_MAX + WAITING_MAX;

const READERS_LISTED_MAX = READERS_MAX + WAITING_MAX;

const SemaphoreStateSchema = record({
  name: resourceName("semaphore"),
  value: whole(0, SEMAPHORE_VALUE_MAX),
  waiters: list(WAITING_MAX, RequesterSchema),
});
export type SemaphoreState = v.InferOutput<typeof SemaphoreStateSchema>;

const LockWaiterSchema = record({
  ...RequesterSchema.entries,
  /** It does not wait for an owner, only for the end of a lease. */
  tryOnly: flag,
  /** The condition from which it comes back, and the status with which it does; -1 and 0: it comes from none. */
  condition: whole(-1, Number.MAX_SAFE_INTEGER),
  outcome: whole(0, 255),
});
export type LockWaiter = v.InferOutput<typeof LockWaiterSchema>;

/**
 * A lock belongs to a process. It passes on when its owner unlocks it, and when its owner leaves or is lost. While it is
 * leased to a node, only that node knows its owner.
 */
const LockStateSchema = record({
  name: resourceName("lock"),
  /** Rank, or -1. */
  owner: whole(-1, PROCESSES_MAX - 1),
  /** Rank that left while it owned the lock, if the data has not been made consistent since; -1: none. */
  died: whole(-1, PROCESSES_MAX - 1),
  waiters: list(WAITING_MAX, LockWaiterSchema),
  /** The node that it is leased to, or -1. */
  lease: whole(-1, WORD_MAX),
  /** The node of the last process that got it (-1: none yet), and how many got it there in a row: at most LEASE_STREAK. */
  lastNode: whole(-1, WORD_MAX),
  streak: whole(0, LEASE_STREAK),
  /** The place in the map was freed, or the mutex there was given its first state, while it was leased. */
  isReset: flag,
});
export type LockState = v.InferOutput<typeof LockStateSchema>;

/** Requests that sleep on a place of the map until a FUTEX_WAKE of that place. */
const FutexQueueSchema = record({
  offset: count,
  waiters: list(WAITING_MAX, RequesterSchema),
});
export type FutexQueue = v.InferOutput<typeof FutexQueueSchema>;

const ConditionWaiterSchema = record({
  ...RequesterSchema.entries,
  /** Name of the mutex with which it goes on. */
  mutex: resourceName("lock"),
});
export type ConditionWaiter = v.InferOutput<typeof ConditionWaiterSchema>;

/** A condition in the map for which requests wait. */
const ConditionStateSchema = record({
  offset: count,
  waiters: list(WAITING_MAX, ConditionWaiterSchema),
});
export type ConditionState = v.InferOutput<typeof ConditionStateSchema>;

const RwWaiterSchema = record({ ...RequesterSchema.entries, isWriter: flag });
export type RwWaiter = v.InferOutput<typeof RwWaiterSchema>;

/** A reader-writer lock in the map that is in use. */
const RwLockStateSchema = record({
  offset: count,
  /** The rank that has it for writing, or -1. */
  writer: whole(-1, PROCESSES_MAX - 1),
  /** The ranks that have it for reading, and how many times each. */
  readers: list(PROCESSES_MAX, record({ rank: whole(0, PROCESSES_MAX - 1), reads: whole(1, Number.MAX_SAFE_INTEGER) })),
  /** Rank that left while it wrote, if the data has not been made consistent since; -1: none. */
  died: whole(-1, PROCESSES_MAX - 1),
  /** Reads granted while a writer waited, since one last wrote or none waited. */
  overtakes: whole(0, OVERTAKES_MAX),
  waiters: list(WAITING_MAX, RwWaiterSchema),
});
export type RwLockState = v.InferOutput<typeof RwLockStateSchema>;

/** A barrier in the map at which requests wait. */
const CountedBarrierStateSchema = record({
  offset: count,
  /** How many must arrive. */
  count: whole(1, ARRIVALS_MAX),
  waiters: list(WAITING_MAX, RequesterSchema),
});
export type CountedBarrierState = v.InferOutput<typeof CountedBarrierStateSchema>;

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
    semaphores: list(SEMAPHORES_LISTED_MAX, SemaphoreStateSchema),
    locks: list(LOCKS_LISTED_MAX, LockStateSchema),
    conditions: list(WAITING_MAX, ConditionStateSchema),
    rwLocks: list(RW_LOCKS_MAX, RwLockStateSchema),
    countedBarriers: list(WAITING_MAX, CountedBarrierStateSchema),
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
      ["semaphores", repeated(state.semaphores, "name") ?? outside(state.semaphores, state.config.size)],
      [
        "locks",
        repeated(state.locks, "name") ?? outside(state.locks, state.config.size) ?? leasedAndOwned(state.locks),
      ],
      ["conditions", misplacedObjects(state.conditions, state.config.size)],
      ["rwLocks", misplacedObjects(state.rwLocks, state.config.size) ?? writtenAndRead(state.rwLocks)],
      ["countedBarriers", misplacedObjects(state.countedBarriers, state.config.size) ?? full(state.countedBarriers)],
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

function writtenAndRead(locks: readonly RwLockState[]): string | null {
  if (locks.some(({ writer, readers }) => writer >= 0 && readers.length > 0))
    return "has an item that is written and read";
  const readers = locks.reduce((sum, lock) => sum + lock.readers.length, 0);
  return readers > READERS_LISTED_MAX ? `has ${readers} readers; the limit is ${READERS_LISTED_MAX}` : null;
}

const full = (barriers: readonly CountedBarrierState[]): string | null =>
  barriers.some(({ count: needed, waiters }) => waiters.length >= needed)
    ? "has an item at which all have arrived"
    : null;

/** The fault if one of the resources is an object outside a map of that size. */
export function outside(resources: readonly { name: string }[], mapSize: number): string | null {
  const found = resources.find(({ name: one }) => placeInName(one) >= mapSize);
  return found === undefined ? null : `has an item at ${placeInName(found.name)}, outside the map`;
}

/** The fault if objects of one kind lie outside a map of that size, or at one place. */
export const misplacedObjects = (objects: readonly { offset: number }[], mapSize: number): string | null =>
  tooHigh(objects, "offset", mapSize) ?? repeated(objects, "offset");

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
