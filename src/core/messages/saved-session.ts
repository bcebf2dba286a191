/**
 * SavedSession: what outlives a session, except the bytes of its map: its configuration, allocations, semaphores and
 * locks. A snapshot file begins with it, and a session can begin with it.
 */
import * as v from "valibot";
import { DsmError } from "../base/errors.ts";
import { BLOCKS_MAX, PROCESSES_MAX, RW_LOCKS_MAX, SEMAPHORE_VALUE_MAX } from "../base/limits.ts";
import { check, count, describeFault, list, record, repeated, resourceName, whenWhole, whole } from "./schema.ts";
import {
  BlockSchema,
  LOCKS_LISTED_MAX,
  misplaced,
  misplacedObjects,
  outside,
  ranksOf,
  SEMAPHORES_LISTED_MAX,
  SessionConfigSchema,
} from "./session-state.ts";

const died = whole(-1, PROCESSES_MAX - 1);

const SavedSessionSchema = v.pipe(
  record({
    config: SessionConfigSchema,
    /** Entries ordered until then. */
    seq: count,
    semaphores: list(
      SEMAPHORES_LISTED_MAX,
      record({ name: resourceName("semaphore"), value: whole(0, SEMAPHORE_VALUE_MAX) }),
    ),
    /** `died`: the rank that owned the lock, so that the data it guards may be inconsistent; or -1. */
    locks: list(LOCKS_LISTED_MAX, record({ name: resourceName("lock"), died })),
    /** Reader-writer locks in the map that a process had for writing. Snapshots of protocol 4 and before have none. */
    rwLocks: v.optional(list(RW_LOCKS_MAX, record({ offset: count, died })), []),
    /** By offset. */
    blocks: list(BLOCKS_MAX, BlockSchema),
  }),
  whenWhole(({ config, semaphores, locks, rwLocks, blocks }) => {
    const ranks = ranksOf(config);
    for (const [key, items] of [
      ["locks", locks],
      ["rwLocks", rwLocks],
    ] as const) {
      const stranger = items.find((item) => item.died >= ranks);
      if (stranger !== undefined)
        return [key, `has an item whose died is ${stranger.died}; the highest is ${ranks - 1}`];
    }
    const named = blocks.filter((block) => block.name !== "");
    for (const [key, fault] of [
      ["semaphores", repeated(semaphores, "name") ?? outside(semaphores, config.size)],
      ["locks", repeated(locks, "name") ?? outside(locks, config.size)],
      ["rwLocks", misplacedObjects(rwLocks, config.size)],
      ["blocks", misplaced(blocks, config.size) ?? repeated(named, "name")],
    ] as const) {
      if (fault !== null) return [key, fault];
    }
    return null;
  }),
);
export type SavedSession = v.InferOutput<typeof SavedSessionSchema>;

/** Parses a saved session. Throws DSM_INVALID with the fault of `value`. */
export function parseSavedSession(value: unknown): SavedSession {
  const result = check(SavedSessionSchema, value);
  if (result.fault !== null) throw new DsmError("DSM_INVALID", describeFault(result.fault));
  return result.value;
}
