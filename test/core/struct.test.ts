/** Layouts and what definitions refuse; that the layouts are those of the C compiler is test/core/c-header.test.ts. */
import { describe, expect, test } from "bun:test";
import {
  SIZE_MAX,
  STRUCT_ARRAY_MAX,
  STRUCT_DEPTH_MAX,
  STRUCT_FIELDS_MAX,
  UTF8_MAX,
} from "../../src/core/base/limits.ts";
import {
  bool,
  dsmBarrier,
  dsmCond,
  dsmMutex,
  dsmRwlock,
  dsmSemaphore,
  type Fields,
  f32,
  f64,
  i8,
  i16,
  i32,
  i64,
  isStruct,
  mutex,
  struct,
  u8,
  u16,
  u32,
  u64,
  utf8,
} from "../../src/core/layout/struct.ts";

const places = (fields: Fields): Record<string, number> =>
  Object.fromEntries(struct(fields).members.map(({ name, offset }) => [name, offset]));

describe("layout", () => {
  test("every field is at a multiple of its size, and the struct ends at a multiple of the largest", () => {
    const fields = { a: i8, b: i64, c: u16, d: f32, e: bool, f: i16, g: f64, h: u8, i: u32, j: u64, k: i32, l: u8 };
    expect(places(fields)).toEqual({
      a: 0,
      b: 8,
      c: 16,
      d: 20,
      e: 24,
      f: 26,
      g: 32,
      h: 40,
      i: 44,
      j: 48,
      k: 56,
      l: 60,
    });
    expect(struct(fields)).toMatchObject({ size: 64, align: 8 });
    expect(struct({ a: u8 })).toMatchObject({ size: 1, align: 1 });
    expect(struct({ a: u16, b: u8 })).toMatchObject({ size: 4, align: 2 });
  });

  test("arrays, texts and structs are aligned as their elements, a mutex has no bytes", () => {
    const inner = { a: u8, b: u32 };
    const fields = {
      a: u8,
      lock: mutex,
      name: utf8(5),
      s: inner,
      t: struct(inner).array(3),
      u: u8,
      v: f64.array(2, 3),
    };
    expect(places(fields)).toEqual({ a: 0, lock: 1, name: 1, s: 8, t: 16, u: 40, v: 48 });
    expect(struct(fields).size).toBe(96);
  });

  test("objects have 64 bytes, aligned so, and so does the struct around them", () => {
    const fields = { a: u8, guard: dsmMutex, b: u8, locks: dsmMutex.array(2), in: { step: dsmBarrier }, c: u8 };
    expect(places(fields)).toEqual({ a: 0, guard: 64, b: 128, locks: 192, in: 320, c: 384 });
    expect(struct(fields)).toMatchObject({ size: 448, align: 64 });
    const kinds = [dsmMutex, dsmRwlock, dsmCond, dsmSemaphore, dsmBarrier, dsmMutex.array(1), u8.array(64), utf8(64)];
    expect(new Set(kinds.map((x) => struct({ x }).layout)).size).toBe(kinds.length);
    // What is stored in sessions and snapshots, and printed in headers.
    expect(struct({ guard: dsmMutex, free: dsmSemaphore.array(2), n: i32 }).layout).toBe(0x92ba193c00404812n);
    expect(() => dsmMutex.array(0)).toThrow("an array of dsm_mutex was given 0 elements; give 1 or more");
    expect(() => dsmCond.array(2 ** 20)).toThrow(/^an array of 1048576 objects; at most \d+$/);
  });

  test("is distinguished by names, types, order and shape, and by nothing else", () => {
    const inner = struct({ a: u8, b: u32 });
    const base = { x: i32, y: f64, in: { a: u8, b: u32 } };
    const layouts = [
      base,
      { x: u32, y: f64, in: inner },
      { z: i32, y: f64, in: inner },
      { y: f64, x: i32, in: inner },
      { x: i32, y: f64, in: inner, m: mutex },
      { x: i32, y: f64, in: inner.array(1) },
      { x: i32, y: f64, in: { a: u8, c: u32 } },
      { x: f32.array(6) },
      { x: f32.array(2, 3) },
      { x: f32.array(3, 2) },
      { x: utf8(24) },
      { x: u8.array(24) },
    ].map((fields) => struct(fields as Fields).layout);
    expect(new Set(layouts).size).toBe(layouts.length);
    expect(struct({ x: i32, y: f64, in: inner }).layout).toBe(struct(base).layout);
    // What is stored in sessions and snapshots, and printed in headers.
    expect(struct({ turn: i32, sum: f64, grid: f32.array(4, 4), name: utf8(32), lock: mutex }).layout).toBe(
      0x9967ca7dbbe8331cn,
    );
  });

  test("a definition is one already", () => {
    const type = struct({ a: u8 });
    expect(struct(type)).toBe(type);
    expect([isStruct(type), isStruct({ a: u8 }), isStruct(null), isStruct(u8)]).toEqual([true, false, false, false]);
  });
});

describe("refuses", () => {
  const wide = Object.fromEntries(Array.from({ length: STRUCT_FIELDS_MAX + 1 }, (_, i) => [`f${i}`, u8]));
  let deep: Fields = { a: u8 };
  for (let i = 0; i < STRUCT_DEPTH_MAX; i++) deep = { a: deep };

  test.each<[string, () => unknown, string]>([
    ["no fields", () => struct({}), "needs a field that has bytes"],
    ["only locks", () => struct({ a: mutex }), "needs a field that has bytes"],
    ["a nested struct without bytes", () => struct({ a: u8, b: {} }), "needs a field that has bytes"],
    ["a name that is invalid in C", () => struct({ "a-b": u8 }), '"a-b" cannot be a field'],
    ["a name that begins as ours do", () => struct({ $atomic: u8 }), '"$atomic" cannot be a field'],
    ["a number for a name", () => struct({ 1: u8 }), '"1" cannot be a field'],
    ["a value for a type", () => struct({ a: 1 } as unknown as Fields), 'field "a" is 1; give a type'],
    ["a function for a type", () => struct({ a: utf8 } as unknown as Fields), 'field "a" is function'],
    ["a scalar", () => struct(u8 as unknown as Fields), "takes an object of fields"],
    ["nothing", () => struct(null as unknown as Fields), "takes an object of fields"],
    ["too many fields", () => struct(wide), `a struct of ${STRUCT_FIELDS_MAX + 1} fields`],
    ["structs too deep", () => struct(deep), `nested more than ${STRUCT_DEPTH_MAX} deep`],
    ["a text without room", () => utf8(1), "utf8(1)"],
    ["half a byte of text", () => utf8(2.5), "utf8(2.5)"],
    ["too large a text", () => utf8(UTF8_MAX + 1), `2 to ${UTF8_MAX}`],
    ["an array without a length", () => (u8.array as () => unknown)(), "needs the number of elements"],
    ["an empty array", () => u8.array(0), "0 elements; give 1 or more"],
    ["half an element", () => u8.array(4, 1.5), "1.5 elements"],
    ["too large an array", () => f64.array(SIZE_MAX / 8 + 1), "a map has at most 4 GiB"],
    ["too many structs", () => struct({ a: u8 }).array(STRUCT_ARRAY_MAX + 1), `at most ${STRUCT_ARRAY_MAX}`],
    ["too large a struct", () => struct({ a: f64.array(SIZE_MAX / 8), b: u8 }), "a map has at most 4 GiB"],
  ])("%s", (_, make, message) => {
    expect(make).toThrow(expect.objectContaining({ code: "DSM_INVALID", message: expect.stringContaining(message) }));
  });
});
