/** Reports for people: what each process of a session does, and its locks and semaphores. */
import { sleepPlace } from "../messages/activity-state.ts";
import type { RankReport } from "../messages/daemon-api.ts";
import type { FutexQueue, LockState, ProcessState, SemaphoreState } from "../messages/session-state.ts";

/** Returns a report for each process. */
export function reportRanks(
  processes: readonly ProcessState[],
  semaphores: Iterable<SemaphoreState>,
  locks: Iterable<LockState>,
  sleepers: Iterable<FutexQueue>,
): RankReport[] {
  /** The request on which each rank waits, and the names of the locks that it owns. */
  const waits = new Map<number, Pick<RankReport, "state" | "on">>();
  const held = new Map<number, string[]>();
  // A rank may wait for several things on several threads. Semaphores override locks, and locks override sleeps.
  for (const { offset, waiters } of sleepers) {
    for (const { rank } of waiters) waits.set(rank, { state: "sleeping", on: sleepPlace(offset) });
  }
  for (const { name, owner, waiters } of locks) {
    for (const { rank } of waiters) waits.set(rank, { state: "lock", on: name });
    if (owner >= 0) held.set(owner, [...(held.get(owner) ?? []), name]);
  }
  for (const { name, waiters } of semaphores) {
    for (const { rank } of waiters) waits.set(rank, { state: "semaphore", on: name });
  }
  return processes.map(({ rank, nodeName, pid, state, barrierTag }) => {
    const holds = held.get(rank);
    const who = { rank, node: nodeName, pid, ...(holds && { holds }) };
    if (state !== "running") return { ...who, state };
    if (barrierTag >= 0) return { ...who, state: "barrier" };
    return { ...who, ...(waits.get(rank) ?? { state }) };
  });
}

export interface SemaphoreReport {
  name: string;
  value: number;
  /** Ranks, first come first. */
  waiters: number[];
}

export interface LockReport {
  name: string;
  /** The rank that has the lock; -1: none. */
  owner: number;
  waiters: number[];
}

const ranksOf = (waiters: readonly { rank: number }[]): number[] => waiters.map(({ rank }) => rank);

export const reportSemaphores = (semaphores: Iterable<SemaphoreState>): SemaphoreReport[] =>
  [...semaphores].map(({ name, value, waiters }) => ({ name, value, waiters: ranksOf(waiters) }));

export const reportLocks = (locks: Iterable<LockState>): LockReport[] =>
  [...locks].map(({ name, owner, waiters }) => ({ name, owner, waiters: ranksOf(waiters) }));
