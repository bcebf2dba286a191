/**
 * What the processes of struct.ts and struct.c share. For C:
 *
 *   dsm header examples/struct/state.ts --out examples/struct/state.h
 */
import { f64, i32, i64, mutex, struct, u32, utf8 } from "dsm";

export const WORKERS_MAX = 64;

/** One process and what it has done. */
export const worker = struct({
  rank: i32,
  language: utf8(12),
  darts: i64,
});

export const state = struct({
  /** Darts thrown by all, and those in the circle: added to with atomic operations. */
  darts: i64,
  hits: i64,
  /** How many are done. A process that waits for all sleeps on it. */
  done: u32,
  /** Guards what follows. */
  lock: mutex,
  /** The best estimate of one process alone, and whose it is. */
  best: { pi: f64, by: utf8(16) },
  workers: worker.array(WORKERS_MAX),
});
