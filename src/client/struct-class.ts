/**
 * Objects over a named block, with properties in the shared memory. Each struct has its own class. An accessor reads or
 * writes one element of a typed array, so a store costs as much as a store to a typed array.
 */

import type { DsmError } from "../core/base/errors.ts";
import { PAGE_SIZE } from "../core/base/limits.ts";
import { nearest } from "../core/base/nearest.ts";
import {
  type Field,
  MAP_OBJECT_SIZE,
  type MapObjectKind,
  type Member,
  type ScalarKind,
  type StructType,
} from "../core/layout/struct.ts";
import { AtomicField, LaterMarks, markPages, type StructHost } from "./atomic-field.ts";
import { invalid } from "./config.ts";
import type { ArrayOf, Grid, IntegerKind } from "./struct-types.ts";

/** The views of a block, by kind. Those of floating point have no atomic operations. */
export class Memory {
  readonly session: StructHost;
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

  constructor(session: StructHost, block: Uint8Array<ArrayBuffer>) {
    const { buffer, byteOffset: at, byteLength: size } = block;
    this.session = session;
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

/** Fields that a message about an unknown one shows. */
const NAMES_SHOWN = 8;

/** Kinds of fields that have no value. */
const VALUELESS: ReadonlySet<string> = new Set(["mutex", "object", "objects"]);

/** Place of a struct: its memory, its first byte there, and its path in the outermost struct, which names its locks. */
type Place = [memory: Memory, base: number, path: string];

/**
 * A struct in the memory. One class for each definition adds the accessors. Each kind has functions of its own, so that
 * the compiler can specialise each for one kind.
 */
class SharedStruct {
  readonly #memory: Memory;
  readonly #base: number;
  readonly #path: string;
  readonly #type: StructType;
  /** Objects of fields, by name, made at the first read. */
  readonly #parts = new Map<string, unknown>();
  #atomic: Record<string, AtomicField<number | bigint>> | undefined;

  constructor(type: StructType, ...[memory, base, path]: Place) {
    this.#type = type;
    this.#memory = memory;
    this.#base = base;
    this.#path = path;
    Object.preventExtensions(this);
  }

  /** An assignment to a name that is no field ends here, at the end of the chain of prototypes. */
  static {
    const refuse = (_: object, name: string | symbol, __: unknown, receiver: unknown): boolean => {
      if (receiver instanceof SharedStruct) throw receiver.#noField(String(name));
      return false;
    };
    Object.setPrototypeOf(SharedStruct.prototype, new Proxy(Object.prototype, { set: refuse }));
  }

  #noField(name: string): DsmError {
    const names = this.#type.members.map((member) => member.name);
    const meant = nearest(name, names);
    const more = names.length > NAMES_SHOWN ? " and others" : "";
    const advice =
      meant === null ? `it has ${names.slice(0, NAMES_SHOWN).join(", ")}${more}` : `did you mean "${meant}"?`;
    return invalid(`${this.#path} has no field "${name}"; ${advice}`);
  }

  get $atomic(): Record<string, AtomicField<number | bigint>> {
    this.#atomic ??= this.#makeAtomic();
    return this.#atomic;
  }

  #makeAtomic(): Record<string, AtomicField<number | bigint>> {
    const { session, u8 } = this.#memory;
    const fields: Record<string, AtomicField<number | bigint>> = {};
    const pages = new Map<number, number>();
    const mayLater = session.order === "release" && session.direct && session.directMayEnd;
    const later = mayLater ? new LaterMarks(session, u8, pages) : null;
    for (const { name, offset, field } of this.#type.members) {
      if (!isIntegerKind(field.kind)) continue;
      const at = this.#base + offset;
      fields[name] = new AtomicField(session, this.#memory[field.kind], at / field.size, later);
      pages.set(Math.floor((u8.byteOffset + at) / PAGE_SIZE), at);
    }
    if (later !== null) later.make();
    else if (session.order === "release" && !session.direct) markPages(session, u8, pages);
    return Object.freeze(fields);
  }

  get $bytes(): Uint8Array<ArrayBuffer> {
    return this.#memory.u8.subarray(this.#base, this.#base + this.#type.size);
  }

  /**
   * What JSON.stringify() shows: arrays as lists, of several dimensions too, and integers of 64 bits as text, since JSON
   * has none. Locks and other objects have no value.
   */
  toJSON(): Record<string, unknown> {
    const fields = this as unknown as Record<string, unknown>;
    const shown = this.#type.members.filter(({ field }) => !VALUELESS.has(field.kind));
    return Object.fromEntries(shown.map(({ name }) => [name, asJson(fields[name])]));
  }

  /** The output of console.log(). */
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
            // Otherwise programs that are not modules would get no error.
            throw invalid(`${this.#path}.${name} cannot be assigned; change what is in it`);
          },
        };
      }
    }
  }
}

type StructClass = new (...place: Place) => SharedStruct;

const classes = new WeakMap<StructType, StructClass>();

/** classOf returns the class of a definition, made at its first use. */
export function classOf(type: StructType): StructClass {
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

type PartField = Extract<Field, { kind: "array" | "grid" | "mutex" | "object" | "objects" | "struct" | "structs" }>;

/** partOf returns the function that makes the object of a field. */
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
    case "object": {
      const make = objectAt(field.object);
      return (memory, base) => make(memory.session, memory.u8.byteOffset + base);
    }
    case "objects": {
      const make = objectAt(field.element.object);
      const { length } = field;
      return ({ session, u8 }, base) =>
        Object.freeze(Array.from({ length }, (_, i) => make(session, u8.byteOffset + base + i * MAP_OBJECT_SIZE)));
    }
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

/** objectAt returns the function that makes the object that lies at a byte of the map. */
function objectAt(kind: MapObjectKind): (session: StructHost, offset: number) => unknown {
  switch (kind) {
    case "dsm_mutex":
      return (session, offset) => session.mutexAt(offset);
    case "dsm_rwlock":
      return (session, offset) => session.rwlockAt(offset);
    case "dsm_cond":
      return (session, offset) => session.condAt(offset);
    case "dsm_semaphore":
      return (session, offset) => session.semaphoreAt(offset);
    case "dsm_barrier":
      return (session, offset) => session.barrierAt(offset);
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

function asJson(value: unknown): unknown {
  if (typeof value === "bigint") return String(value);
  if (!ArrayBuffer.isView(value)) return value;
  return Array.from(value as unknown as ArrayLike<unknown>, asJson);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function readText(memory: Uint8Array, at: number, size: number): string {
  // A copy, as other processes may change the bytes meanwhile; decoders accept a copy of any memory.
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
