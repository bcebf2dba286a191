/**
 * Objects over a named block whose properties are the shared memory. Each struct gets a class of its own, whose accessors
 * read and write one element of a typed array: what a store costs is what a store to a typed array costs.
 */
import { DsmError } from "../core/base/errors.ts";
import { PAGE_SIZE } from "../core/base/limits.ts";
import { checkName } from "../core/base/names.ts";
import {
  type ArrayField,
  type Field,
  type Fields,
  type GridField,
  layoutBlock,
  type Member,
  type Mutex,
  type Scalar,
  type ScalarKind,
  type StructArray,
  type StructType,
  struct,
  type Text,
} from "../core/layout/struct.ts";
import { invalid } from "./config.ts";
import type { Lock } from "./lock.ts";
import type { Session } from "./session.ts";
import type { IntegerArray, WaitOptions, WaitOutcome } from "./waiting.ts";

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
type IntegerKind = Exclude<ScalarKind, "f32" | "f64" | "bool">;

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

/** The views of one block by kind; those of floating point have no atomic operations. */
class Memory {
  readonly session: Session;
  readonly name: string;
  readonly i8: Int8Array<ArrayBuffer>;
  readonly i16: Int16Array<ArrayBuffer>;
  readonly i32: Int32Array<ArrayBuffer>;
  readonly i64: BigInt64Array<ArrayBuffer>;
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly u16: Uint16Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly u64: BigUint64Array<ArrayBuffer>;
  readonly f32: Float32Array<ArrayBuffer>;
  readonly f64: Float64Array<ArrayBuffer>;
  readonly bool: Uint8Array<ArrayBuffer>;

  constructor(session: Session, name: string, block: Uint8Array<ArrayBuffer>) {
    const { buffer, byteOffset: at, byteLength: size } = block;
    this.session = session;
    this.name = name;
    this.i8 = new Int8Array(buffer, at, size);
    this.i16 = new Int16Array(buffer, at, size >>> 1);
    this.i32 = new Int32Array(buffer, at, size >>> 2);
    this.i64 = new BigInt64Array(buffer, at, size >>> 3);
    this.u8 = block;
    this.u16 = new Uint16Array(buffer, at, size >>> 1);
    this.u32 = new Uint32Array(buffer, at, size >>> 2);
    this.u64 = new BigUint64Array(buffer, at, size >>> 3);
    this.f32 = new Float32Array(buffer, at, size >>> 2);
    this.f64 = new Float64Array(buffer, at, size >>> 3);
    this.bool = block;
  }
}

/** What a struct is made for: its memory, its first byte there, and its path in the whole, for the names of locks. */
type Place = [memory: Memory, base: number, path: string];

/**
 * Under release a page that this process is storing to is its own until the next synchronising operation, and so is an
 * atomic operation there, unless one was executed on that page before. So one is, with no page its own.
 */
function mark(session: Session, u8: Uint8Array<ArrayBuffer>, pages: ReadonlyMap<number, number>): void {
  for (const at of pages.values()) {
    session.fence();
    Atomics.add(u8, at, 0);
  }
}

/** That, in a session whose direct mode may end, as soon as it has. */
class LaterMarks {
  readonly #session: Session;
  readonly #u8: Uint8Array<ArrayBuffer>;
  readonly #pages: ReadonlyMap<number, number>;
  #made = false;

  constructor(session: Session, u8: Uint8Array<ArrayBuffer>, pages: ReadonlyMap<number, number>) {
    this.#session = session;
    this.#u8 = u8;
    this.#pages = pages;
  }

  make(): void {
    if (this.#made || this.#session.direct) return;
    this.#made = true;
    mark(this.#session, this.#u8, this.#pages);
  }
}

/**
 * One struct in the memory. A class per definition extends it by accessors. Each kind has functions of its own: a compiler
 * that specialises a function for what it has seen must not find all kinds in one.
 */
class SharedStruct {
  readonly #memory: Memory;
  readonly #base: number;
  readonly #path: string;
  readonly #type: StructType;
  /** What is an object, by name, made when it is first asked for. */
  readonly #parts = new Map<string, unknown>();
  #atomic: Record<string, AtomicField<number | bigint>> | undefined;

  constructor(type: StructType, ...[memory, base, path]: Place) {
    this.#type = type;
    this.#memory = memory;
    this.#base = base;
    this.#path = path;
  }

  get $atomic(): Record<string, AtomicField<number | bigint>> {
    this.#atomic ??= this.#makeAtomic();
    return this.#atomic;
  }

  #makeAtomic(): Record<string, AtomicField<number | bigint>> {
    const { session, u8 } = this.#memory;
    const fields: Record<string, AtomicField<number | bigint>> = {};
    const pages = new Map<number, number>();
    const mayLater = session.order === "release" && session.direct && session.changes;
    const later = mayLater ? new LaterMarks(session, u8, pages) : null;
    for (const { name, offset, field } of this.#type.members) {
      if (!isIntegerKind(field.kind)) continue;
      const at = this.#base + offset;
      fields[name] = new AtomicField(session, this.#memory[field.kind], at / field.size, later);
      pages.set(Math.floor((u8.byteOffset + at) / PAGE_SIZE), at);
    }
    if (later !== null) later.make();
    else if (session.order === "release" && !session.direct) mark(session, u8, pages);
    return Object.freeze(fields);
  }

  get $bytes(): Uint8Array<ArrayBuffer> {
    return this.#memory.u8.subarray(this.#base, this.#base + this.#type.size);
  }

  /** What console.log() shows. */
  [Symbol.for("nodejs.util.inspect.custom")](): Record<string, unknown> {
    const fields = this as unknown as Record<string, unknown>;
    return Object.fromEntries(this.#type.members.map(({ name }) => [name, fields[name]]));
  }

  #part(name: string, make: (...place: Place) => unknown, offset: number): unknown {
    let part = this.#parts.get(name);
    if (part === undefined) {
      part = make(this.#memory, this.#base + offset, `${this.#path}.${name}`);
      this.#parts.set(name, part);
    }
    return part;
  }

  static accessor({ name, offset, field }: Member): PropertyDescriptor & ThisType<SharedStruct> {
    switch (field.kind) {
      case "i8":
        return {
          get() {
            return this.#memory.i8[this.#base + offset];
          },
          set(value: number) {
            this.#memory.i8[this.#base + offset] = value;
          },
        };
      case "i16":
        return {
          get() {
            return this.#memory.i16[(this.#base + offset) >>> 1];
          },
          set(value: number) {
            this.#memory.i16[(this.#base + offset) >>> 1] = value;
          },
        };
      case "i32":
        return {
          get() {
            return this.#memory.i32[(this.#base + offset) >>> 2];
          },
          set(value: number) {
            this.#memory.i32[(this.#base + offset) >>> 2] = value;
          },
        };
      case "i64":
        return {
          get() {
            return this.#memory.i64[(this.#base + offset) >>> 3];
          },
          set(value: bigint) {
            this.#memory.i64[(this.#base + offset) >>> 3] = value;
          },
        };
      case "u8":
        return {
          get() {
            return this.#memory.u8[this.#base + offset];
          },
          set(value: number) {
            this.#memory.u8[this.#base + offset] = value;
          },
        };
      case "u16":
        return {
          get() {
            return this.#memory.u16[(this.#base + offset) >>> 1];
          },
          set(value: number) {
            this.#memory.u16[(this.#base + offset) >>> 1] = value;
          },
        };
      case "u32":
        return {
          get() {
            return this.#memory.u32[(this.#base + offset) >>> 2];
          },
          set(value: number) {
            this.#memory.u32[(this.#base + offset) >>> 2] = value;
          },
        };
      case "u64":
        return {
          get() {
            return this.#memory.u64[(this.#base + offset) >>> 3];
          },
          set(value: bigint) {
            this.#memory.u64[(this.#base + offset) >>> 3] = value;
          },
        };
      case "f32":
        return {
          get() {
            return this.#memory.f32[(this.#base + offset) >>> 2];
          },
          set(value: number) {
            this.#memory.f32[(this.#base + offset) >>> 2] = value;
          },
        };
      case "f64":
        return {
          get() {
            return this.#memory.f64[(this.#base + offset) >>> 3];
          },
          set(value: number) {
            this.#memory.f64[(this.#base + offset) >>> 3] = value;
          },
        };
      case "bool":
        return {
          get() {
            return this.#memory.bool[this.#base + offset] !== 0;
          },
          set(value: boolean) {
            this.#memory.bool[this.#base + offset] = value ? 1 : 0;
          },
        };
      case "utf8":
        return {
          get() {
            return readText(this.#memory.u8, this.#base + offset, field.size);
          },
          set(value: string) {
            writeText(`${this.#path}.${name}`, this.#memory.u8, this.#base + offset, field.size, value);
          },
        };
      default: {
        const make = partOf(field);
        return {
          get() {
            return this.#part(name, make, offset);
          },
          set() {
            // Programs that are not modules would not be told.
            throw invalid(`${this.#path}.${name} cannot be assigned; change what is in it`);
          },
        };
      }
    }
  }
}

type StructClass = new (...place: Place) => SharedStruct;

const classes = new WeakMap<StructType, StructClass>();

/** The class of a definition, made at its first use. */
function classOf(type: StructType): StructClass {
  const made = classes.get(type);
  if (made !== undefined) return made;
  class Struct extends SharedStruct {
    constructor(...place: Place) {
      super(type, ...place);
    }
  }
  for (const member of type.members) {
    Object.defineProperty(Struct.prototype, member.name, { ...SharedStruct.accessor(member), enumerable: true });
  }
  classes.set(type, Struct);
  return Struct;
}

type PartField = Extract<Field, { kind: "array" | "grid" | "mutex" | "struct" | "structs" }>;

/** How the object that a field is comes about. */
function partOf(field: PartField): (...place: Place) => unknown {
  switch (field.kind) {
    case "array":
    case "grid": {
      const { kind, size } = field.element;
      const view = (memory: Memory, base: number): ArrayOf[ScalarKind] =>
        memory[kind].subarray(base / size, (base + field.size) / size);
      return field.kind === "array" ? view : (...place) => grid(view(place[0], place[1]), field.shape);
    }
    case "mutex":
      return (memory, _, path) => memory.session.lock(path);
    case "struct": {
      const Struct = classOf(field);
      return (...place) => new Struct(...place);
    }
    case "structs": {
      const Struct = classOf(field.element);
      const { length, element } = field;
      return (memory, base, path) =>
        Object.freeze(Array.from({ length }, (_, i) => new Struct(memory, base + i * element.size, `${path}[${i}]`)));
    }
  }
}

function grid<View extends ArrayOf[ScalarKind]>(view: View, shape: readonly number[]): Grid<View> {
  const row = (...indices: number[]): View => {
    if (indices.length < 1 || indices.length >= shape.length) {
      throw invalid(`row() of an array of ${shape.length} dimensions takes 1 to ${shape.length - 1} indices`);
    }
    let begin = 0;
    let length = view.length;
    indices.forEach((index, dimension) => {
      const count = shape[dimension] as number;
      if (!Number.isSafeInteger(index) || index < 0 || index >= count) {
        throw invalid(`there is no row ${index}; dimension ${dimension} has ${count}`);
      }
      length /= count;
      begin += index * length;
    });
    return view.subarray(begin, begin + length) as View;
  };
  return Object.defineProperties(view, { shape: { value: shape }, row: { value: row } }) as Grid<View>;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function readText(memory: Uint8Array, at: number, size: number): string {
  // Bytes that others may be changing are looked at once. A copy also is what a decoder takes of any kind of memory.
  const bytes = memory.slice(at, at + size);
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function writeText(path: string, memory: Uint8Array, at: number, size: number, text: string): void {
  if (typeof text !== "string") throw invalid(`${path} is text; it was given ${String(text)}`);
  if (text.includes("\0")) throw invalid(`${path} cannot hold a text with a zero character`);
  const bytes = new Uint8Array(size);
  const { read } = encoder.encodeInto(text, bytes.subarray(0, size - 1));
  if (read < text.length) {
    const needed = encoder.encode(text).length;
    throw invalid(`${path} holds ${size - 1} bytes of UTF-8; the text has ${needed}`);
  }
  memory.set(bytes, at);
}

const INTEGER_KINDS: ReadonlySet<string> = new Set<IntegerKind>(["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"]);

const isIntegerKind = (kind: string): kind is IntegerKind => INTEGER_KINDS.has(kind);

/**
 * The atomic operations of one integer field, as those of `Atomics`: each is one step for all processes of the session, on
 * any node. All but `load` are synchronising operations under the order `release`.
 */
export class AtomicField<Value extends number | bigint> {
  readonly #session: Session;
  /** Any integer array: the types of `Atomics` want to know which. */
  readonly #view: Int32Array;
  readonly #index: number;
  readonly #later: LaterMarks | null;

  /** @internal Use `$atomic`. */
  constructor(session: Session, view: IntegerArray, index: number, later: LaterMarks | null) {
    this.#session = session;
    this.#view = view as Int32Array;
    this.#index = index;
    this.#later = later;
  }

  /** The view, for an operation. */
  get #marked(): Int32Array {
    this.#later?.make();
    return this.#view;
  }

  /** The value. */
  load(): Value {
    return Atomics.load(this.#view, this.#index) as Value;
  }

  /** Stores `value` and returns it. */
  store(value: Value): Value {
    return Atomics.store(this.#marked, this.#index, value as number) as Value;
  }

  /** Adds `value`, and returns what was there before. */
  add(value: Value): Value {
    return Atomics.add(this.#marked, this.#index, value as number) as Value;
  }

  /** Subtracts `value`, and returns what was there before. */
  sub(value: Value): Value {
    return Atomics.sub(this.#marked, this.#index, value as number) as Value;
  }

  /** Keeps the bits that `value` has, and returns what was there before. */
  and(value: Value): Value {
    return Atomics.and(this.#marked, this.#index, value as number) as Value;
  }

  /** Sets the bits that `value` has, and returns what was there before. */
  or(value: Value): Value {
    return Atomics.or(this.#marked, this.#index, value as number) as Value;
  }

  /** Flips the bits that `value` has, and returns what was there before. */
  xor(value: Value): Value {
    return Atomics.xor(this.#marked, this.#index, value as number) as Value;
  }

  /** Stores `value`, and returns what was there before. */
  exchange(value: Value): Value {
    return Atomics.exchange(this.#marked, this.#index, value as number) as Value;
  }

  /** Stores `replacement` where `expected` is there. Returns what was there before: `expected` if it was stored. */
  compareExchange(expected: Value, replacement: Value): Value {
    return Atomics.compareExchange(this.#marked, this.#index, expected as number, replacement as number) as Value;
  }

  /** Sleeps while the value is `expected`, as `session.waitFor()` does. */
  waitFor(expected: Value, options: WaitOptions = {}): Promise<WaitOutcome> {
    return this.#session.waitFor(this.#view, this.#index, expected as number, options);
  }

  /** Like waitFor(), but blocks the whole program, timers and promises included. */
  waitForSync(expected: Value, options: Pick<WaitOptions, "timeoutMs"> = {}): WaitOutcome {
    return this.#session.waitForSync(this.#view, this.#index, expected as number, options);
  }

  /** Wakes at most `count` of those who sleep on this field, on any node, and returns how many, as `session.notify()` does. */
  notify(count = Number.POSITIVE_INFINITY): number {
    return this.#session.notify(this.#view, this.#index, count);
  }
}

/** The struct of that name in the session. */
export function openStruct<F extends Fields>(
  session: Session,
  name: string,
  fields: F | StructType<F>,
): SharedFields<F> {
  const type = struct(fields);
  // Beside the block, not in it: a C program gets the struct by dsm_named() and its size alone.
  const layout = layoutBlock(name);
  const wrong = checkName("block", name) ?? checkName("block", layout) ?? checkLocks(type, name);
  if (wrong !== null) throw invalid(`struct "${name}": ${wrong}`);
  const known = session.named(layout, BigUint64Array, 1);
  const other = Atomics.compareExchange(known, 0, 0n, type.layout);
  if (other !== 0n && other !== type.layout) {
    throw new DsmError(
      "DSM_MISMATCH",
      `struct "${name}" has other fields in this session (layout ${hex(other)}, here ${hex(type.layout)}); give the ` +
        "same names and types in the same order in every process",
    );
  }
  const block = session.named(name, type.size);
  return new (classOf(type as StructType))(new Memory(session, name, block), 0, name) as unknown as SharedFields<F>;
}

/** What is wrong with the name of a lock; the longest of an array is that of its last element. */
function checkLocks({ members }: StructType, path: string): string | null {
  for (const { name, field } of members) {
    const here = `${path}.${name}`;
    const wrong =
      field.kind === "mutex"
        ? checkName("lock", here)
        : field.kind === "struct"
          ? checkLocks(field, here)
          : field.kind === "structs"
            ? checkLocks(field.element, `${here}[${field.length - 1}]`)
            : null;
    if (wrong !== null) return wrong;
  }
  return null;
}

const hex = (layout: bigint): string => layout.toString(16).padStart(16, "0");
