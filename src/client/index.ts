/**
 * Distributed shared memory: processes on one machine or on many share one memory space.
 *
 * ```ts
 * import { join } from "dsm";
 *
 * await using session = await join({ session: "sum", processes: 4, size: "64KiB" });
 * const sum = session.view(BigInt64Array, 0, 1);
 * Atomics.add(sum, 0, BigInt(session.rank));
 * await session.barrier();
 * console.log(sum[0]); // 6n in every process
 * ```
 *
 * Under Bun, and under Node 20 and later.
 *
 * @packageDocumentation
 */
export { type DsmCode, DsmError } from "../core/errors.ts";
export type { OnLoss } from "../core/loss.ts";
export type { Order } from "../core/order.ts";
export {
  type ArrayField,
  bool,
  type Field,
  type Fields,
  f32,
  f64,
  type GridField,
  i8,
  i16,
  i32,
  i64,
  type Mutex,
  mutex,
  type Scalar,
  type ScalarKind,
  type StructArray,
  type StructType,
  struct,
  type Text,
  u8,
  u16,
  u32,
  u64,
  utf8,
} from "../core/struct.ts";
export type { JoinOptions } from "./config.ts";
export type { Hole } from "./hole.ts";
export type { HeldLock, Lock, LockOutcome, UnlockOptions } from "./lock.ts";
export type { Semaphore } from "./semaphore.ts";
export { type AllocOptions, join, type Range, type ReadOptions, type Session, type ViewType } from "./session.ts";
export type { ArrayOf, AtomicField, AtomicFields, Grid, Shared, SharedFields, SharedParts } from "./struct.ts";
export type { IntegerArray, WaitOptions, WaitOutcome } from "./waiting.ts";
