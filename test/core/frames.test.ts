/** FrameReader: the same frames come out, however the stream is cut. */
import { expect, test } from "bun:test";
import { FRAME_MAX, GREETING_FRAME_MAX, SPARE_PARTS_MAX } from "../../src/core/base/limits.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, ProtocolError } from "../../src/core/wire/frame.ts";
import { FrameReader, PartPool } from "../../src/core/wire/frame-reader.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { PUBLISH_PART_MAX } from "../../src/core/wire/runs.ts";
import { Random } from "../support/core-random.ts";

function read(reader: FrameReader, chunk: Uint8Array): string[] {
  const frames: string[] = [];
  reader.push(chunk, (view, at, size, bytes) => {
    expect(view.getUint32(at, true)).toBe(size);
    expect(view.getUint8(at + 4)).toBe(bytes[at + 4]!);
    frames.push(Buffer.from(bytes.subarray(at, at + size)).toString("hex"));
  });
  return frames;
}

function stream(random: Random, bodies: number[]): { bytes: Uint8Array; frames: string[] } {
  const frames = bodies.map((length) => encode({ kind: Kind.STORE, tag: random.next(), body: random.bytes(length) }));
  return { bytes: Buffer.concat(frames), frames: frames.map((frame) => Buffer.from(frame).toString("hex")) };
}

test("every cut of a stream in two or three gives the same frames", () => {
  const { bytes, frames } = stream(new Random(1), [0, 5, 8, 1]);
  for (let first = 0; first <= bytes.length; first += 1) {
    for (let second = first; second <= bytes.length; second += 1) {
      const reader = new FrameReader(FRAME_MAX);
      const got = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)].flatMap((chunk) =>
        read(reader, chunk),
      );
      expect(got).toEqual(frames);
      expect(reader.pending).toBe(0);
    }
  }
});

test("chunks of every size give the same frames, large ones too", () => {
  const { bytes, frames } = stream(new Random(2), [0, 300, 9000, 1, 64, 5000, 0, 0, 17]);
  for (let size = 1; size < 200; size += 1) {
    const reader = new FrameReader(FRAME_MAX);
    const got: string[] = [];
    for (let at = 0; at < bytes.length; at += size) got.push(...read(reader, bytes.subarray(at, at + size)));
    expect(got).toEqual(frames);
  }
  for (let seed = 0; seed < 200; seed += 1) {
    const random = new Random(seed);
    const reader = new FrameReader(FRAME_MAX);
    const got: string[] = [];
    for (let at = 0; at < bytes.length; ) {
      const size = random.oneIn(4) ? random.below(6000) : random.below(60);
      got.push(...read(reader, bytes.subarray(at, at + size)));
      at += size;
    }
    expect(got).toEqual(frames);
  }
});

test("what the handler writes into a frame stays in that frame", () => {
  const { bytes, frames } = stream(new Random(3), [8, 8, 8]);
  const reader = new FrameReader(FRAME_MAX);
  const got: string[] = [];
  for (let at = 0; at < bytes.length; at += 7) {
    reader.push(Uint8Array.from(bytes.subarray(at, at + 7)), (_view, start, size, chunk) => {
      got.push(Buffer.from(chunk.subarray(start, start + size)).toString("hex"));
      chunk.fill(0, start, start + size);
    });
  }
  expect(got).toEqual(frames);
});

test("pending counts the bytes of a frame that has not fully arrived", () => {
  const reader = new FrameReader(FRAME_MAX);
  const frame = encode({ kind: Kind.BARRIER });
  for (let at = 0; at < frame.length; at += 1) {
    expect(reader.pending).toBe(at);
    read(reader, frame.subarray(at, at + 1));
  }
  expect(reader.pending).toBe(0);
});

const sizes = [0, 1, 4, 8, HEADER_SIZE - 8, HEADER_SIZE - 1, HEADER_SIZE + 1, 44, 4095, GREETING_FRAME_MAX + 8];
test.each([...sizes, FRAME_MAX, 0xffffffff, 0x80000000])("a frame of %d bytes cannot be", (size) => {
  for (const cut of [1, 2, 3, 4, 40]) {
    const bytes = new Uint8Array(48);
    new DataView(bytes.buffer).setUint32(0, size, true);
    const reader = new FrameReader(GREETING_FRAME_MAX);
    expect(() => {
      read(reader, bytes.subarray(0, cut));
      read(reader, bytes.subarray(cut));
    }).toThrow(ProtocolError);
  }
});

test("the limit itself is allowed, and may be raised up to FRAME_MAX between two frames", () => {
  const large = encode({ kind: Kind.STORE, body: new Uint8Array(FRAME_MAX - HEADER_SIZE) });
  const small = encode({ kind: Kind.STORE, body: new Uint8Array(GREETING_FRAME_MAX - HEADER_SIZE) });
  const reader = new FrameReader(GREETING_FRAME_MAX);
  const got: number[] = [];
  reader.push(Buffer.concat([small, large, small]), (_view, _at, size) => {
    got.push(size);
    reader.limit = FRAME_MAX;
  });
  expect(got).toEqual([GREETING_FRAME_MAX, FRAME_MAX, GREETING_FRAME_MAX]);
  expect(() => {
    reader.limit = FRAME_MAX + 8;
  }).toThrow(RangeError);
});

test("what the handler throws passes through", () => {
  const reader = new FrameReader(FRAME_MAX);
  const frame = encode({ kind: Kind.BARRIER });
  const handler = (): void => {
    throw new TypeError("mine");
  };
  expect(() => reader.push(frame, handler)).toThrow("mine");
  const other = new FrameReader(FRAME_MAX);
  other.push(frame.subarray(0, 9), handler);
  expect(() => other.push(frame.subarray(9), handler)).toThrow("mine");
});

test("a frame that is taken stays as it is, however it came", () => {
  const random = new Random(3);
  const { bytes, frames } = stream(random, [9, 300, 60_000, 400_000, 500_000, 64, 300_000]);
  for (const cut of [17, 4096, 100_000, 450_000, bytes.length]) {
    const pool = new PartPool();
    const reader = new FrameReader(FRAME_MAX, pool);
    const taken: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += cut) {
      const chunk = new Uint8Array(bytes.subarray(at, at + cut));
      reader.push(chunk, (_view, frame, size, from) => taken.push(reader.take(frame, size, from)));
      chunk.fill(0xee);
    }
    expect(taken.map((frame) => Buffer.from(frame).toString("hex"))).toEqual(frames);
    // Memory is used again when it is given back, and not before.
    expect(new Set(taken.map(({ buffer }) => buffer)).size).toBe(frames.length);
  }
});

test("a pool reuses buffers, at most twice as large as requested, and keeps few", () => {
  const pool = new PartPool();
  const size = HEADER_SIZE + PUBLISH_PART_MAX;
  const first = pool.take(size);
  pool.give(first.subarray(0, size - 8));
  expect(pool.take(size - 8).buffer).toBe(first.buffer);
  expect(pool.take(size).buffer).not.toBe(first.buffer);
  for (const asked of [1, 5000, 100_000, size / 2, size / 2 + 1, size, size + 1]) {
    const got = pool.take(asked).length;
    expect(got >= asked && got <= Math.max(2 * asked, 4096)).toBe(true);
  }
  const many = Array.from({ length: 2 * SPARE_PARTS_MAX }, () => pool.take(size));
  for (const each of many) pool.give(each);
  const again = Array.from({ length: 2 * SPARE_PARTS_MAX }, () => pool.take(size).buffer);
  expect(many.filter(({ buffer }) => again.includes(buffer)).length).toBe(SPARE_PARTS_MAX);
});

test("a reader gives the memory of a frame that never came back to its pool", () => {
  const pool = new PartPool();
  const part = encode({ kind: Kind.PUBLISH, body: new Uint8Array(PUBLISH_PART_MAX) });
  const reader = new FrameReader(FRAME_MAX, pool);
  const begin = (): void => reader.push(part.subarray(0, 400_000), () => {});
  const first = pool.take(part.length);
  pool.give(first);
  begin();
  expect(pool.take(part.length).buffer).not.toBe(first.buffer);
  reader.end();
  expect(reader.pending).toBe(0);
  expect(pool.take(part.length).buffer).toBe(first.buffer);
});
