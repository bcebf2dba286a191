/**
 * SavedSession: what outlives a session, except the bytes of its map: its configuration, allocations, semaphores and
 * locks. A snapshot file begins with it, and a session can begin with it.
 */
import * as v from "valibot";
import { DsmError } from "../base/errors.ts";
import { BLOCKS_MAX, LOCKS_MAX, PROCESSES_MAX, SEMAPHORE_VALUE_MAX, SEMAPHORES_MAX } from "../base/limits.ts";
import { check, count, describeFault, list, name, record, repeated, whenWhole, whole } from "./schema.ts";
import { BlockSchema, misplaced, ranksOf, SessionConfigSchema } from "./session-state.ts";

const SavedSessionSchema = v.pipe(
  record({
    config: SessionConfigSchema,
    /** Entries ordered until then. */
    seq: count,
    semaphores: list(SEMAPHORES_MAX, record({ name: name("semaphore"), value: whole(0, SEMAPHORE_VALUE_MAX) })),
    /** `died`: the rank that owned the lock, so that the data it guards may be inconsistent; or -1. */
    locks: list(LOCKS_MAX, record({ name: name("lock"), died: whole(-1, PROCESSES_MAX - 1) })),
    /** By offset. */
    blocks: list(BLOCKS_MAX, BlockSchema),
  }),
  whenWhole(({ config, semaphores, locks, blocks }) => {
    const ranks = ranksOf(config);
    const stranger = locks.find(({ died }) => died >= ranks);
    if (stranger !== undefined)
      return ["locks", `has an item whose died is ${stranger.died}; the highest is ${ranks - 1}`];
    const named = blocks.filter((block) => block.name !== "");
    for (const [key, fault] of [
      ["semaphores", repeated(semaphores, "name")],
      ["locks", repeated(locks, "name")],
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
