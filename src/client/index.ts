/**
 * Distributed shared memory: processes on one machine or on many share one memory space.
 *
 * ```ts
 * import { join } from "dsm";
 *
 * const session = await join({ session: "sum", processes: 4, size: "64KiB" });
 * const sum = session.view(BigInt64Array, 0, 1);
 * Atomics.add(sum, 0, BigInt(session.rank));
 * await session.barrier();
 * console.log(sum[0]); // 6n in every process
 * await session.leave();
 * ```
 *
 * Under Bun, and under Node 20 and later.
 *
 * @packageDocumentation
 */

export type { Order } from "../core/base/consistency.ts";
export { type DsmCode, DsmError } from "../core/base/errors.ts";
export type { OnLoss } from "../core/base/loss-policy.ts";
export {
  type ArrayField,
  bool,
  dsmBarrier,
  dsmCond,
  dsmMutex,
  dsmRwlock,
  dsmSemaphore,
  type Field,
  type Fields,
  f32,
  f64,
  type GridField,
  i8,
  i16,
  i32,
  i64,
  type MapObject,
  type MapObjectArray,
  type MapObjectKind,
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
} from "../core/layout/struct.ts";
export type { AtomicField } from "./atomic-field.ts";
export type { AllocOptions } from "./blocks.ts";
export type { JoinOptions } from "./config.ts";
export type { Hole } from "./hole.ts";
export { attach, join } from "./join.ts";
export type { Lock } from "./lock.ts";
export type { HeldLock, Lockable, UnlockOptions } from "./lockable.ts";
export type { MapBarrier } from "./map-barrier.ts";
export type { MapCond, MapMutex } from "./map-mutex.ts";
export type { ObjectPlace } from "./map-place.ts";
export type { MapRwlock } from "./map-rwlock.ts";
export type { MapSemaphore } from "./map-semaphore.ts";
export type { CondOutcome, LockOutcome, WaitOutcome } from "./outcomes.ts";
export type { Semaphore } from "./semaphore.ts";
export type { SemaphoreForms } from "./semaphore-forms.ts";
export type { Session } from "./session.ts";
export type { ArrayOf, AtomicFields, Grid, ObjectOf, Shared, SharedFields, SharedParts } from "./struct-types.ts";
export type { ThreadHandle } from "./thread-state.ts";
export type { Range, ReadOptions, ViewType } from "./views.ts";
export type { IntegerArray, WaitOptions } from "./waiting.ts";
