/** Reports for people: what each process of a session does, its locks and semaphores, and the objects in its map. */
import { objectText, shownName } from "../base/names.ts";
import { sleepPlace } from "../messages/activity-state.ts";
import type { RankReport } from "../messages/daemon-api.ts";
import type { LockState, ProcessState, SemaphoreState } from "../messages/session-state.ts";
import type { Synchronisation } from "./synchronisation.ts";

/** Returns a report for each process. */
export function reportRanks(processes: readonly ProcessState[], sync: Synchronisation): RankReport[] {
  /** The request on which each rank waits, and the names of the locks that it owns. */
  const waits = new Map<number, Pick<RankReport, "state" | "on">>();
  const held = new Map<number, string[]>();
  const hold = (rank: number, what: string): void => void held.set(rank, [...(held.get(rank) ?? []), what]);
  // A rank may wait for several things on several threads. What comes later overrides what came before.
  const wait = (waiters: readonly { rank: number }[], state: RankReport["state"], on: string): void => {
    for (const { rank } of waiters) waits.set(rank, { state, on });
  };
  for (const { offset, waiters } of sync.futexes.queues()) wait(waiters, "sleeping", sleepPlace(offset));
  for (const { offset, waiters } of sync.countedBarriers.queues())
    wait(waiters, "barrier", objectText("barrier", offset));
  for (const { offset, waiters } of sync.conditions.queues())
    wait(waiters, "condition", objectText("condition", offset));
  for (const { offset, writer, waiters } of sync.rwLocks.queues()) {
    wait(waiters, "rwlock", objectText("rwlock", offset));
    if (writer >= 0) hold(writer, objectText("rwlock", offset));
  }
  for (const { name, owner, waiters } of sync.locks.all()) {
    wait(waiters, "lock", shownName(name));
    if (owner >= 0) hold(owner, shownName(name));
  }
  for (const { name, waiters } of sync.semaphores.all()) wait(waiters, "semaphore", shownName(name));
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

/** A condition, a reader-writer lock or a barrier in the map. */
export interface ObjectReport {
  object: "condition" | "rwlock" | "barrier";
  /** Its place in the map. */
  offset: number;
  /** Of a reader-writer lock: the ranks that have it, and whether for writing. */
  holders: number[];
  isWritten: boolean;
  /** Of a barrier: how many must arrive; else 0. */
  count: number;
  /** Requests that wait: several threads of a process may do so. */
  waiting: number;
  waiters: number[];
}

const ranksOf = (waiters: readonly { rank: number }[]): number[] => waiters.map(({ rank }) => rank);

export const reportSemaphores = (semaphores: Iterable<SemaphoreState>): SemaphoreReport[] =>
  [...semaphores].map(({ name, value, waiters }) => ({ name: shownName(name), value, waiters: ranksOf(waiters) }));

export const reportLocks = (locks: Iterable<LockState>): LockReport[] =>
  [...locks].map(({ name, owner, waiters }) => ({ name: shownName(name), owner, waiters: ranksOf(waiters) }));

export function reportObjects({ conditions, rwLocks, countedBarriers }: Synchronisation): ObjectReport[] {
  const none = { holders: [], isWritten: false, count: 0 };
  const queue = ({ offset, waiters }: { offset: number; waiters: readonly { rank: number }[] }) => ({
    ...{ offset, waiting: waiters.length, waiters: ranksOf(waiters) },
  });
  return [
    ...[...conditions.queues()].map((one) => ({ ...none, object: "condition" as const, ...queue(one) })),
    ...[...rwLocks.queues()].map((one) => ({
      ...{ ...none, object: "rwlock" as const, ...queue(one) },
      ...{ holders: one.writer >= 0 ? [one.writer] : ranksOf(one.readers), isWritten: one.writer >= 0 },
    })),
    ...[...countedBarriers.queues()].map((one) => ({
      ...{ ...none, object: "barrier" as const, ...queue(one), count: one.count },
    })),
  ];
}
