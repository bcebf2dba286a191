/** StoreBatch: stores of one process become one entry. */
import { beforeEach, expect, test } from "bun:test";
import { STORE_MAX } from "../../src/core/base/limits.ts";
import { StoreBatch } from "../../src/core/replica/store-batch.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { checkOperation } from "../../src/core/wire/check-operation.ts";
import { encode } from "../../src/core/wire/frame.ts";
import { Kind, NO_TAG } from "../../src/core/wire/kinds.ts";
import { RING_RECORD_MAX } from "../../src/core/wire/ring-layout.ts";
import { PUBLISH_PART_MAX } from "../../src/core/wire/runs.ts";
import { publication, type Run, viewOf } from "../support/core-frames.ts";

const NODE = 3;
let batch: StoreBatch;

beforeEach(() => {
  batch = new StoreBatch(NODE);
});

/** As ring.c writes it. */
function record(rank: number, runs: readonly Run[]): Uint8Array {
  const [offset, body] = runs[0] as readonly [number, Uint8Array];
  return runs.length === 1
    ? encode({ kind: Kind.STORE, rank, tag: NO_TAG, offset, body })
    : encode({ ...publication(runs), rank, tag: NO_TAG });
}

function add(rank: number, ...runs: Run[]): boolean {
  const frame = record(rank, runs);
  if (!batch.takes(rank)) return false;
  batch.add(viewOf(frame), frame, frame.length);
  return true;
}

function addWords(rank: number, ...words: [offset: number, length: number, words: Uint32Array, from: number]): boolean {
  if (!batch.takes(rank)) return false;
  batch.addWords(rank, ...words);
  return true;
}

const inPlace = (frame: Uint8Array): Uint8Array => {
  viewOf(frame).setUint32(12, NODE, true);
  return frame;
};

const store = (offset: number, ...bytes: number[]): Run => [offset, Uint8Array.from(bytes)];

test("nothing makes no entry", () => {
  expect(batch.take()).toBeNull();
  add(0, store(8, 1));
  batch.take();
  expect(batch.take()).toBeNull();
});

test("a store alone stays a store, wherever in the map", () => {
  for (const offset of [0, 7, 2 ** 32 - 8, 2 ** 35 + 9]) {
    for (const length of [1, 3, 8, 64, 97, STORE_MAX]) {
      const run: Run = [offset, new Uint8Array(length).fill(length % 251)];
      expect(add(5, run)).toBe(true);
      expect(Buffer.compare(batch.take() as Uint8Array, inPlace(record(5, [run])))).toBe(0);
    }
  }
});

test("stores of one process are one publication, in their sequence", () => {
  const runs = [store(8, 1, 2, 3), store(8, 4), store(2 ** 35, 5, 6, 7, 8, 9, 10, 11, 12, 13)] as const;
  add(2, runs[0]);
  add(2, runs[1], runs[2]);
  add(2, runs[0]);
  const frame = batch.take() as Uint8Array;
  expect(Buffer.compare(frame, inPlace(record(2, [...runs, runs[0]])))).toBe(0);
  expect(checkOperation(viewOf(frame), 0, 2 ** 36)).toBeNull();
  // Nothing of it is left in the next one.
  add(1, store(0, 1));
  expect(Buffer.compare(batch.take() as Uint8Array, inPlace(record(1, [store(0, 1)])))).toBe(0);
});

test("words are taken where they lie", () => {
  const words = Uint32Array.of(99, 1, 2, 3, 4, 99);
  const bytes = new Uint8Array(words.buffer, 4, 16);
  expect(addWords(2, 2 ** 32 - 64, 16, words, 1)).toBe(true);
  expect(Buffer.compare(batch.take() as Uint8Array, inPlace(record(2, [[2 ** 32 - 64, bytes]])))).toBe(0);
  addWords(2, 8, 8, words, 3);
  expect(addWords(1, 8, 8, words, 1)).toBe(false);
  addWords(2, 24, 16, words, 1);
  const both = record(2, [
    [8, bytes.subarray(8)],
    [24, bytes],
  ]);
  expect(Buffer.compare(batch.take() as Uint8Array, inPlace(both))).toBe(0);
  // Words of 4 bytes, padded to 8.
  addWords(2, 12, 4, Uint32Array.of(7, 0), 0);
  addWords(2, 20, 12, Uint32Array.of(1, 2, 3, 0), 0);
  const halves = record(2, [
    [12, Uint8Array.of(7, 0, 0, 0)],
    [20, new Uint8Array(Uint32Array.of(1, 2, 3).buffer)],
  ]);
  expect(Buffer.compare(batch.take() as Uint8Array, inPlace(halves))).toBe(0);
});

test("so are long runs of them", () => {
  const words = Uint32Array.from({ length: STORE_MAX / 4 + 3 }, (_, i) => i * 0x9e3779b1);
  for (const length of [88, 96, 104, 4096, STORE_MAX]) {
    const bytes = new Uint8Array(words.buffer, 12, length);
    addWords(2, 8, 8, words, 0);
    addWords(2, 64, length, words, 3);
    const both = record(2, [
      [8, new Uint8Array(words.buffer, 0, 8)],
      [64, bytes],
    ]);
    expect(Buffer.compare(batch.take() as Uint8Array, inPlace(both))).toBe(0);
  }
});

test("a store of another process is left for the next entry", () => {
  add(0, store(8, 1));
  expect(add(1, store(16, 2))).toBe(false);
  expect(Buffer.compare(batch.take() as Uint8Array, inPlace(record(0, [store(8, 1)])))).toBe(0);
  expect(add(1, store(16, 2))).toBe(true);
});

test("an entry has an end, and what was begun before fits a part", () => {
  const large = new Uint8Array(RING_RECORD_MAX / 2 - HEADER_SIZE - 16);
  const small = store(0, 1);
  let count = 0;
  while (add(0, small)) count += 1;
  expect(count).toBeGreaterThan(100);
  batch.take();
  for (let i = 1; i < count; i += 1) add(0, small);
  expect(add(0, [0, large], [0, large])).toBe(true);
  expect(add(0, small)).toBe(false);
  const frame = batch.take() as Uint8Array;
  expect(frame.length - HEADER_SIZE).toBeLessThanOrEqual(PUBLISH_PART_MAX);
  expect(checkOperation(viewOf(frame), 0, 1 << 20)).toBeNull();
});
