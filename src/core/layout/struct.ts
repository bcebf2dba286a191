/**
 * Structs: named fields with the layout of the C struct of the same fields, as the System V ABI for x86-64 has it
 * (every field at the next multiple of its alignment, the size a multiple of the largest one). Values such as `i32` and
 * `utf8(32)` define the fields; src/client/struct-class.ts makes objects of them, c-header.ts the C struct.
 */
import { DsmError } from "../base/errors.ts";
import { SIZE_MAX, STRUCT_ARRAY_MAX, STRUCT_DEPTH_MAX, STRUCT_FIELDS_MAX, UTF8_MAX } from "../base/limits.ts";
import { fnv1a64 } from "../base/names.ts";
import { exactSize } from "../base/size.ts";

/** Bytes of each kind of number, which are its alignment, too. */
export const SCALAR_SIZES = { i8: 1, i16: 2, i32: 4, i64: 8, u8: 1, u16: 2, u32: 4, u64: 8, f32: 4, f64: 8, bool: 1 };

/** A kind of number, or `bool`. */
export type ScalarKind = keyof typeof SCALAR_SIZES;

/** Marks a definition, including one made by another copy of this file. */
const BRAND = Symbol.for("dsm.struct.field");

interface Sized {
  readonly [BRAND]: true;
  /** Bytes. */
  readonly size: number;
  /** The field begins at a multiple of this many bytes. */
  readonly align: number;
}

/** A number of a fixed size, or a bool. */
export interface Scalar<Kind extends ScalarKind = ScalarKind> extends Sized {
  readonly kind: Kind;
  /** An array of `length` elements: `float a[length]` in C, a typed array here. */
  array(length: number): ArrayField<Kind>;
  /**
   * An array of several dimensions, in C's order (the last index runs fastest): `float a[rows][columns]` in C. Here one
   * typed array of all elements: the one at row i and column j of `f32.array(rows, columns)` is `a[i * columns + j]`,
   * and `a.row(i)` is a typed array over row i.
   */
  array(first: number, second: number, ...more: number[]): GridField<Kind>;
}

/** A fixed array of numbers. */
export interface ArrayField<Kind extends ScalarKind = ScalarKind> extends Sized {
  readonly kind: "array";
  readonly element: Scalar<Kind>;
  readonly shape: readonly [number];
}

/** A fixed array of numbers with two dimensions or more. */
export interface GridField<Kind extends ScalarKind = ScalarKind> extends Sized {
  readonly kind: "grid";
  readonly element: Scalar<Kind>;
  /** Elements in each dimension. */
  readonly shape: readonly number[];
}

/** Text of a limited length. */
export interface Text extends Sized {
  readonly kind: "utf8";
}

/** A lock. It has no bytes. */
export interface Mutex extends Sized {
  readonly kind: "mutex";
}

/** The kinds of objects in the map, by their C types. */
export type MapObjectKind = "dsm_mutex" | "dsm_rwlock" | "dsm_cond" | "dsm_semaphore" | "dsm_barrier";

/** Bytes of an object in the map, and its alignment. */
export const MAP_OBJECT_SIZE = 64;

/** A mutex, reader-writer lock, condition variable, semaphore or barrier that lies in the struct. */
export interface MapObject<Kind extends MapObjectKind = MapObjectKind> extends Sized {
  readonly kind: "object";
  readonly object: Kind;
  /** An array of `length` of them. */
  array(length: number): MapObjectArray<Kind>;
}

/** A fixed array of objects. */
export interface MapObjectArray<Kind extends MapObjectKind = MapObjectKind> extends Sized {
  readonly kind: "objects";
  readonly element: MapObject<Kind>;
  readonly length: number;
}

/** A field and its place. */
export interface Member {
  readonly name: string;
  /** Bytes from the beginning of the struct. */
  readonly offset: number;
  readonly field: Exclude<Field, Fields>;
}

/** The definition of a struct, made by `struct()`. */
export interface StructType<F extends Fields = Fields> extends Sized {
  readonly kind: "struct";
  readonly members: readonly Member[];
  /** Names, types and places of all fields, in 64 bits that are not 0: equal for equal definitions. */
  readonly layout: bigint;
  /** An array of `length` structs. */
  array(length: number): StructArray<F>;
  /** For type inference only. */
  readonly fields: F;
}

/** A fixed array of structs. */
export interface StructArray<F extends Fields = Fields> extends Sized {
  readonly kind: "structs";
  readonly element: StructType<F>;
  readonly length: number;
}

/** The type of a struct's field. An object of fields is a nested struct. */
export type Field =
  | Scalar
  | ArrayField
  | GridField
  | Text
  | Mutex
  | MapObject
  | MapObjectArray
  | StructType
  | StructArray
  | Fields;

/** The fields of a struct by name, in order. */
export interface Fields {
  readonly [name: string]: Field;
}

function scalar<Kind extends ScalarKind>(kind: Kind): Scalar<Kind> {
  const size = SCALAR_SIZES[kind];
  const element: Scalar<Kind> = Object.freeze({ [BRAND]: true as const, kind, size, align: size, array });
  function array(length: number): ArrayField<Kind>;
  function array(first: number, second: number, ...more: number[]): GridField<Kind>;
  function array(...shape: number[]): ArrayField<Kind> | GridField<Kind> {
    if (shape.length === 0) throw invalid(`${kind}.array() needs the number of elements`);
    let bytes = size;
    for (const length of shape) bytes *= checkLength(`${kind}.array()`, length);
    checkSize(`${kind}.array(${shape.join(", ")})`, bytes);
    const common = { [BRAND]: true as const, element, size: bytes, align: size };
    return Object.freeze(
      shape.length === 1
        ? { ...common, kind: "array" as const, shape: Object.freeze([shape[0] as number] as const) }
        : { ...common, kind: "grid" as const, shape: Object.freeze(shape) },
    );
  }
  return element;
}

/** A signed integer of 8 bits: `int8_t` in C, a number here. What is stored is converted as by an `Int8Array`. */
export const i8: Scalar<"i8"> = scalar("i8");
/** A signed integer of 16 bits: `int16_t` in C, a number here. */
export const i16: Scalar<"i16"> = scalar("i16");
/** A signed integer of 32 bits: `int32_t` in C, a number here. */
export const i32: Scalar<"i32"> = scalar("i32");
/** A signed integer of 64 bits: `int64_t` in C, a bigint here. */
export const i64: Scalar<"i64"> = scalar("i64");
/** An integer of 8 bits: `uint8_t` in C, a number here. */
export const u8: Scalar<"u8"> = scalar("u8");
/** An integer of 16 bits: `uint16_t` in C, a number here. */
export const u16: Scalar<"u16"> = scalar("u16");
/** An integer of 32 bits: `uint32_t` in C, a number here. */
export const u32: Scalar<"u32"> = scalar("u32");
/** An integer of 64 bits: `uint64_t` in C, a bigint here. */
export const u64: Scalar<"u64"> = scalar("u64");
/** A floating-point number of 32 bits: `float` in C, a number here. */
export const f32: Scalar<"f32"> = scalar("f32");
/** A floating-point number of 64 bits: `double` in C, a number here. */
export const f64: Scalar<"f64"> = scalar("f64");
/** True or false: `bool` in C, one byte. Arrays of it are `Uint8Array`s of 0 and 1. */
export const bool: Scalar<"bool"> = scalar("bool");

/**
 * Text in `bytes` bytes (2 to 65536) of UTF-8, `char name[bytes]` in C, always followed by a zero byte: room for `bytes
 * - 1`. All unused bytes are zero. It is not one store: guard it by a lock, or a hole, where others read it meanwhile.
 * A text that is too long, or that has a zero character, fails with DSM_INVALID and nothing is stored.
 */
export function utf8(bytes: number): Text {
  if (!Number.isSafeInteger(bytes) || bytes < 2 || bytes > UTF8_MAX) {
    throw invalid(`utf8(${bytes}): give the bytes of the field, its zero byte among them, 2 to ${UTF8_MAX}`);
  }
  return Object.freeze({ [BRAND]: true as const, kind: "utf8", size: bytes, align: 1 });
}

/**
 * A lock of the session, named after the struct and the field: `lock` of the struct "state" is
 * `session.lock("state.lock")`, in C `dsm_lock(session, "state.lock")`. It has no bytes in the struct: locks of the
 * session go to who waits, are listed by `dsm sessions`, and pass on when their owner dies; a lock in memory could do none of
 * that.
 */
export const mutex: Mutex = Object.freeze({ [BRAND]: true as const, kind: "mutex", size: 0, align: 1 });

function mapObject<Kind extends MapObjectKind>(object: Kind): MapObject<Kind> {
  const common = { [BRAND]: true as const, align: MAP_OBJECT_SIZE };
  const element: MapObject<Kind> = Object.freeze({
    ...{ ...common, kind: "object" as const, object, size: MAP_OBJECT_SIZE },
    array(length: number): MapObjectArray<Kind> {
      checkLength(`an array of ${object}`, length);
      if (length > STRUCT_ARRAY_MAX) throw invalid(`an array of ${length} objects; at most ${STRUCT_ARRAY_MAX}`);
      return Object.freeze({ ...common, kind: "objects" as const, element, length, size: length * MAP_OBJECT_SIZE });
    },
  });
  return element;
}

/** A mutex that lies in the struct, 64 bytes: `dsm_mutex` in C, a `MapMutex` here. */
export const dsmMutex: MapObject<"dsm_mutex"> = mapObject("dsm_mutex");
/** A reader-writer lock that lies in the struct, 64 bytes: `dsm_rwlock` in C, a `MapRwlock` here. */
export const dsmRwlock: MapObject<"dsm_rwlock"> = mapObject("dsm_rwlock");
/** A condition variable that lies in the struct, 64 bytes: `dsm_cond` in C, a `MapCond` here. */
export const dsmCond: MapObject<"dsm_cond"> = mapObject("dsm_cond");
/** A semaphore that lies in the struct, 64 bytes, 0 at first: `dsm_semaphore` in C, a `MapSemaphore` here. */
export const dsmSemaphore: MapObject<"dsm_semaphore"> = mapObject("dsm_semaphore");
/** A barrier that lies in the struct, 64 bytes: `struct dsm_barrier` in C, a `MapBarrier` here. */
export const dsmBarrier: MapObject<"dsm_barrier"> = mapObject("dsm_barrier");

/**
 * Defines a struct: an object of fields in order, each a scalar (`i32`, `f64`, `bool` ...), `utf8(bytes)`, `mutex`, an
 * array (`f32.array(512, 512)`, `struct({...}).array(8)`), or another struct. Names are those that C allows.
 *
 * Throws DSM_INVALID for an invalid name or field, for a struct without bytes, or one of more than 4 GiB.
 */
export function struct<F extends Fields>(fields: F | StructType<F>): StructType<F> {
  return define(fields, 0);
}

/** Whether the value is a definition made by struct(). */
export function isStruct(value: unknown): value is StructType {
  return isField(value) && value.kind === "struct";
}

function isField(value: unknown): value is Exclude<Field, Fields> {
  return typeof value === "object" && value !== null && BRAND in value;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;

function define<F extends Fields>(fields: F | StructType<F>, depth: number): StructType<F> {
  if (isStruct(fields)) return fields as StructType<F>;
  if (typeof fields !== "object" || fields === null || isField(fields)) {
    throw invalid("struct() takes an object of fields, such as { turn: i32, sum: f64 }");
  }
  if (depth === STRUCT_DEPTH_MAX) throw invalid(`structs are nested more than ${STRUCT_DEPTH_MAX} deep`);
  const given = Object.entries(fields as Fields);
  if (given.length > STRUCT_FIELDS_MAX)
    throw invalid(`a struct of ${given.length} fields; at most ${STRUCT_FIELDS_MAX}`);
  const members: Member[] = [];
  let size = 0;
  let align = 1;
  for (const [name, value] of given) {
    if (!NAME.test(name)) throw invalid(`"${name}" cannot be a field; give letters, digits and "_", at most 63`);
    if (typeof value !== "object" || value === null) {
      throw invalid(`field "${name}" is ${String(value)}; give a type, such as i32 or { x: f64, y: f64 }`);
    }
    const field = isField(value) ? value : define(value, depth + 1);
    size = roundUp(size, field.align);
    members.push(Object.freeze({ name, offset: size, field }));
    size += field.size;
    align = Math.max(align, field.align);
  }
  if (size === 0) throw invalid("a struct needs a field that has bytes (a mutex has none)");
  size = checkSize("a struct", roundUp(size, align));
  const element: StructType<F> = Object.freeze({
    ...{ [BRAND]: true as const, kind: "struct" as const, size, align },
    members: Object.freeze(members),
    layout: layoutOf(members, size),
    array(length: number): StructArray<F> {
      checkLength("array()", length);
      if (length > STRUCT_ARRAY_MAX) {
        throw invalid(`an array of ${length} structs; at most ${STRUCT_ARRAY_MAX} (use arrays of numbers for more)`);
      }
      const bytes = checkSize(`an array of ${length} structs`, length * size);
      return Object.freeze({ [BRAND]: true as const, kind: "structs" as const, element, length, size: bytes, align });
    },
    fields: Object.freeze(fields) as F,
  });
  return element;
}

function layoutOf(members: readonly Member[], size: number): bigint {
  const layout = BigInt(`0x${fnv1a64(describe(members, size))}`);
  return layout === 0n ? 1n : layout;
}

/** Describes as text all that two processes must agree on. Its hash is stored in sessions: do not change it. */
function describe(members: readonly Member[], size: number): string {
  const parts = members.map(({ name, offset, field }) => `${name}@${offset}:${describeField(field)}`);
  return `{${parts.join(";")}}${size}`;
}

function describeField(field: Exclude<Field, Fields>): string {
  switch (field.kind) {
    case "struct":
      return describe(field.members, field.size);
    case "structs":
      return `${describe(field.element.members, field.element.size)}[${field.length}]`;
    case "array":
    case "grid":
      return `${field.element.kind}[${field.shape.join("][")}]`;
    case "utf8":
      return `utf8[${field.size}]`;
    case "object":
      return field.object;
    case "objects":
      return `${field.element.object}[${field.length}]`;
    default:
      return field.kind;
  }
}

function checkLength(what: string, length: number): number {
  if (Number.isSafeInteger(length) && length >= 1 && length <= SIZE_MAX) return length;
  throw invalid(`${what} was given ${length} elements; give 1 or more`);
}

function checkSize(what: string, size: number): number {
  if (size <= SIZE_MAX) return size;
  throw invalid(`${what} has ${exactSize(size)}; a map has at most ${exactSize(SIZE_MAX)}`);
}

const roundUp = (size: number, align: number): number => Math.ceil(size / align) * align;

const invalid = (message: string): DsmError => new DsmError("DSM_INVALID", message);

/** The named block that holds the layout of the struct of that name, 8 bytes. */
export const layoutBlock = (name: string): string => `${name}#layout`;
