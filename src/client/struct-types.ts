/** The types of structs in the shared memory: the type of each field of a definition. No code. */
import type {
  ArrayField,
  Fields,
  GridField,
  MapObject,
  MapObjectArray,
  Mutex,
  Scalar,
  ScalarKind,
  StructArray,
  StructType,
  Text,
} from "../core/layout/struct.ts";
import type { AtomicField } from "./atomic-field.ts";
import type { Lock } from "./lock.ts";
import type { MapBarrier } from "./map-barrier.ts";
import type { MapCond, MapMutex } from "./map-mutex.ts";
import type { MapRwlock } from "./map-rwlock.ts";
import type { MapSemaphore } from "./map-semaphore.ts";

/** The typed array for each kind. */
export interface ArrayOf {
  i8: Int8Array<ArrayBuffer>;
  i16: Int16Array<ArrayBuffer>;
  i32: Int32Array<ArrayBuffer>;
  i64: BigInt64Array<ArrayBuffer>;
  u8: Uint8Array<ArrayBuffer>;
  u16: Uint16Array<ArrayBuffer>;
  u32: Uint32Array<ArrayBuffer>;
  u64: BigUint64Array<ArrayBuffer>;
  f32: Float32Array<ArrayBuffer>;
  f64: Float64Array<ArrayBuffer>;
  bool: Uint8Array<ArrayBuffer>;
}

/** The object for each kind that lies in the map. */
export interface ObjectOf {
  dsm_mutex: MapMutex;
  dsm_rwlock: MapRwlock;
  dsm_cond: MapCond;
  dsm_semaphore: MapSemaphore;
  dsm_barrier: MapBarrier;
}

/** The type of a field, by kind. */
type ValueOf<Kind extends ScalarKind> = Kind extends "bool" ? boolean : ArrayOf[Kind][number];

/** The kinds in `$atomic`. */
export type IntegerKind = Exclude<ScalarKind, "f32" | "f64" | "bool">;

/** An array of several dimensions: a typed array of all elements in row-major order. */
export type Grid<View> = View & {
  /** Elements in each dimension. */
  readonly shape: readonly number[];
  /**
   * row returns a view of the elements with these first indices: for `f32.array(512, 256)`, `row(i)` has the 256
   * elements of row i. Throws DSM_INVALID for an index out of range, or if all indices are given.
   */
  row(...indices: number[]): View;
};

/**
 * A struct in the shared memory, from its definition or its fields: `Shared<typeof state>`. Numbers, bools and texts
 * can be assigned; arrays and structs are changed element by element and field by field.
 */
export type Shared<T extends Fields | StructType> =
  T extends StructType<infer F> ? SharedFields<F> : T extends Fields ? SharedFields<T> : never;

/** `Shared` for fields. */
export type SharedFields<F extends Fields> = {
  -readonly [Name in keyof F as F[Name] extends Scalar | Text ? Name : never]: F[Name] extends Scalar<infer Kind>
    ? ValueOf<Kind>
    : string;
} & {
  readonly [Name in keyof F as F[Name] extends Scalar | Text ? never : Name]: Part<F[Name]>;
} & SharedParts<F>;

type Part<T> =
  T extends ArrayField<infer Kind>
    ? ArrayOf[Kind]
    : T extends GridField<infer Kind>
      ? Grid<ArrayOf[Kind]>
      : T extends Mutex
        ? Lock
        : T extends MapObject<infer Kind>
          ? ObjectOf[Kind]
          : T extends MapObjectArray<infer Kind>
            ? readonly ObjectOf[Kind][]
            : T extends StructType<infer F>
              ? Shared<F>
              : T extends StructArray<infer F>
                ? readonly SharedFields<F>[]
                : T extends Fields
                  ? Shared<T>
                  : never;

/** The properties of every struct beside its fields. */
export interface SharedParts<F extends Fields> {
  /**
   * Atomic operations of the integer fields, such as `shared.$atomic.turn.add(1)`. They are atomic in every order, even
   * beside arrays: under `release` the first use prepares that by a `fence()` and a round trip.
   */
  readonly $atomic: AtomicFields<F>;
  /** All bytes of the struct, for `session.hole(shared.$bytes)`, copies and other views. */
  readonly $bytes: Uint8Array<ArrayBuffer>;
}

/** The integer fields of a struct, for atomic operations. */
export type AtomicFields<F extends Fields> = {
  readonly [Name in keyof F as F[Name] extends Scalar<IntegerKind> ? Name : never]: F[Name] extends Scalar<infer Kind>
    ? AtomicField<Extract<ValueOf<Kind>, number | bigint>>
    : never;
};
