/**
 * What a session has done so far, for people: what each rank has written and when, and how long requests have waited.
 * It goes along with a SessionState, to a node that joins and to a server that takes over. Times are ages, because no
 * two machines have the same clock.
 */
import * as v from "valibot";
import { HEAT_CELL_MIN, HEAT_CELLS_MAX, PROCESSES_MAX, WAITING_MAX } from "../base/limits.ts";
import { objectText, shownName } from "../base/names.ts";
import { HeatSchema } from "./daemon-api.ts";
import { count, list, numbers, record, repeated, whenWhole, whole } from "./schema.ts";
import type { Requester, SessionState } from "./session-state.ts";

/** Bytes of a cell of the map, for which the last writer and the number of writes are counted: a power of two. */
export function heatCellSize(mapSize: number): number {
  let cell = HEAT_CELL_MIN;
  while (mapSize > HEAT_CELLS_MAX * cell) cell *= 2;
  return cell;
}

const RankActivitySchema = record({
  rank: whole(0, PROCESSES_MAX - 1),
  /** Its entries in the log, and their bytes of stores, atomics and publications. */
  entries: count,
  bytes: count,
  /** Time since its last change of state. */
  changedMs: count,
  /** Time since its last entry that wrote; -1: none yet. */
  wroteMs: whole(-1, Number.MAX_SAFE_INTEGER),
});

export const ActivityStateSchema = v.pipe(
  record({
    /** Time since all processes had joined; -1: they have not. */
    runningMs: whole(-1, Number.MAX_SAFE_INTEGER),
    ranks: list(PROCESSES_MAX, RankActivitySchema),
    /** How long each request waits, in the order of waitingRequests(). */
    waitedMs: numbers(0, WAITING_MAX + PROCESSES_MAX),
    /** Left out: nothing was written yet. */
    heat: v.exactOptional(HeatSchema),
  }),
  whenWhole(({ ranks }) => {
    const fault = repeated(ranks, "rank");
    return fault === null ? null : ["ranks", fault];
  }),
);
export type ActivityState = v.InferOutput<typeof ActivityStateSchema>;

/** Names the fault if the activity is not of that session; null: it is. */
export function activityFault({ heat, waitedMs }: ActivityState, state: SessionState): string | null {
  const waiting = [...waitingRequests(state)].length;
  if (waitedMs.length !== waiting) {
    return `activity.waitedMs has ${waitedMs.length} items; the state has ${waiting} waiting requests`;
  }
  if (heat === undefined) return null;
  const { size } = state.config;
  const cell = heatCellSize(size);
  if (heat.cell === cell && heat.writers.length === Math.ceil(size / cell)) return null;
  return "activity.heat has cells of another map";
}

export type WaitState = "barrier" | "semaphore" | "lock" | "condition" | "rwlock" | "sleeping";

/** A request that has no reply yet. */
export interface WaitingRequest {
  from: Pick<Requester, "node" | "tag" | "rank">;
  state: WaitState;
  /** Name of the semaphore or lock as people read it, the object, or the place of the sleep; "" for the barrier. */
  on: string;
}

/** The requests of the session that wait. */
export function* waitingRequests(session: SessionState): Generator<WaitingRequest> {
  const { processes, semaphores, locks, sleepers, conditions, rwLocks, countedBarriers } = session;
  for (const { rank, node, barrierTag } of processes) {
    if (barrierTag >= 0) yield { from: { node, tag: barrierTag, rank }, state: "barrier", on: "" };
  }
  for (const { name, waiters } of semaphores) {
    for (const from of waiters) yield { from, state: "semaphore", on: shownName(name) };
  }
  for (const { name, waiters } of locks) for (const from of waiters) yield { from, state: "lock", on: shownName(name) };
  for (const [state, object, queues] of [
    ["condition", "condition", conditions],
    ["rwlock", "rwlock", rwLocks],
    ["barrier", "barrier", countedBarriers],
  ] as const) {
    for (const { offset, waiters } of queues) {
      for (const from of waiters) yield { from, state, on: objectText(object, offset) };
    }
  }
  for (const { offset, waiters } of sleepers) {
    for (const from of waiters) yield { from, state: "sleeping", on: sleepPlace(offset) };
  }
}

/** The place of a sleep, as people read it. */
export const sleepPlace = (offset: number): string => `0x${offset.toString(16)}`;
