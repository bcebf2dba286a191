/** The types of structs in the shared memory: what each field of a definition is for the program. No code. */
import type {
  ArrayField,
  Fields,
  GridField,
  Mutex,
  Scalar,
  ScalarKind,
  StructArray,
  StructType,
  Text,
} from "../core/layout/struct.ts";
import type { AtomicField } from "./atomic-field.ts";
import type { Lock } from "./lock.ts";

/** The typed array that an array of each kind is. */
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

/** What a field of each kind is. */
type ValueOf<Kind extends ScalarKind> = Kind extends "bool" ? boolean : ArrayOf[Kind][number];

/** The kinds that `$atomic` has. */
export type IntegerKind = Exclude<ScalarKind, "f32" | "f64" | "bool">;

/** An array of several dimensions: a typed array of all its elements, the last index running fastest. */
export type Grid<View> = View & {
  /** Elements in each dimension. */
  readonly shape: readonly number[];
  /**
   * A view over what has these first indices: of `f32.array(512, 256)`, `row(i)` is the 256 elements of row i. Fails
   * with DSM_INVALID where there is no such index, or all of them are given.
   */
  row(...indices: number[]): View;
};

/**
 * A struct in the shared memory, by its definition or its fields: `Shared<typeof state>`. Numbers, bools and texts can be
 * assigned; arrays and structs are changed inside.
 */
export type Shared<T extends Fields | StructType> =
  T extends StructType<infer F> ? SharedFields<F> : T extends Fields ? SharedFields<T> : never;

/** What `Shared` is for fields. */
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
        : T extends StructType<infer F>
          ? Shared<F>
          : T extends StructArray<infer F>
            ? readonly SharedFields<F>[]
            : T extends Fields
              ? Shared<T>
              : never;

/** What every struct has beside its fields. */
export interface SharedParts<F extends Fields> {
  /**
   * The atomic operations of the integer fields, such as `shared.$atomic.turn.add(1)`. They are atomic also where the
   * fields lie beside arrays, in every order: under `release` the first use sees to that, by a `fence()` and a round trip.
   */
  readonly $atomic: AtomicFields<F>;
  /** All bytes of the struct: for `session.hole(shared.$bytes)`, for a copy, for other views. */
  readonly $bytes: Uint8Array<ArrayBuffer>;
}

/** The integer fields of a struct, for atomic operations. */
export type AtomicFields<F extends Fields> = {
  readonly [Name in keyof F as F[Name] extends Scalar<IntegerKind> ? Name : never]: F[Name] extends Scalar<infer Kind>
    ? AtomicField<Extract<ValueOf<Kind>, number | bigint>>
    : never;
};
