/** The store ring: records arrive whole, once and in order; a damaged ring is noticed. */
import { beforeEach, describe, expect, test } from "bun:test";
import { type RecordTaker, Ring, type RingLock } from "../../src/core/replica/store-ring.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, ProtocolError, padded } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { RING_RECORD_MAX, RING_SIZE, RING_START, RING_WRAP } from "../../src/core/wire/ring-layout.ts";
import { runLength, runSize } from "../../src/core/wire/runs.ts";
import { viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";
import { emptyRing, RingWriter } from "../support/core-ring-writer.ts";

const LOCK: RingLock = { acquire: () => false, release: () => {} };

let bytes: Uint8Array;
let map: Uint8Array;
let ring: Ring;
let writer: RingWriter;
let rings: number;

beforeEach(() => {
  bytes = emptyRing();
  map = new Uint8Array(RING_RECORD_MAX);
  ring = new Ring(bytes, LOCK);
  rings = 0;
  writer = new RingWriter(bytes, map, 7, () => {
    rings += 1;
  });
});

/** As replica.ts has it, less the check of the operation. */
function sizeOf(view: DataView, frameSize: number): number {
  if (view.getUint8(4) === Kind.STORE) return frameSize + padded(view.getUint32(32, true));
  let size = frameSize;
  for (let run = HEADER_SIZE; run < frameSize; run += runSize(view, run)) size += padded(runLength(view, run));
  return size;
}

/** Takes all records as copies. */
const taker = (record: RecordTaker["record"], size: RecordTaker["size"] = sizeOf): RecordTaker => ({
  quick: () => 0,
  size,
  record,
});

interface Taken {
  kind: number;
  size: number;
  frame: Uint8Array;
  old: Uint8Array;
}

function take(): Taken[] {
  const taken: Taken[] = [];
  let open = false;
  const copies = taker((view, record, size) => {
    if (open) ring.closeEntry();
    open = true;
    taken.push({
      kind: view.getUint8(4),
      size,
      frame: record.slice(0, size),
      old: record.slice(size, sizeOf(view, size)),
    });
  });
  const count = ring.take(copies);
  if (open) ring.closeEntry();
  expect(count).toBe(taken.length);
  return taken;
}

test("a store arrives as its frame and what was there before", () => {
  map.set([1, 2, 3, 4, 5, 6, 7, 8], 16);
  writer.store(5, [16, Uint8Array.of(9, 8, 7)]);
  const store = take()[0] as Taken;
  expect(Buffer.compare(store.frame, writerFrame(5, 16, [9, 8, 7]))).toBe(0);
  expect([...store.old]).toEqual([1, 2, 3, 0, 0, 0, 0, 0]);
  expect([...map.subarray(16, 20)]).toEqual([9, 8, 7, 4]);
  expect(take()).toEqual([]);
});

const writerFrame = (rank: number, offset: number, body: number[]): Uint8Array =>
  encode({ kind: Kind.STORE, rank, tag: 0xffffffff, offset, body: Uint8Array.from(body) });

test("several runs are one publication, with the old bytes of each", () => {
  map.fill(3);
  writer.store(1, [0, Uint8Array.of(1)], [9, Uint8Array.of(2, 2)], [100, new Uint8Array(9).fill(4)]);
  const one = take()[0] as Taken;
  expect(one.kind).toBe(Kind.PUBLISH);
  expect([...one.old]).toEqual([
    ...[3, 0, 0, 0, 0, 0, 0, 0],
    ...[3, 3, 0, 0, 0, 0, 0, 0],
    ...[3, 3, 3, 3, 3, 3, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0],
  ]);
});

test("a masked run is a publication, with the old bytes of all its words", () => {
  map.fill(3);
  writer.store(1, [16, Uint8Array.of(1, 2, 4), Uint8Array.of(0x81, 0x02)]);
  const one = take()[0] as Taken;
  expect(one.kind).toBe(Kind.PUBLISH);
  expect([...one.old]).toEqual(new Array(16).fill(3));
  expect([...map.subarray(16, 32)]).toEqual([1, 3, 3, 3, 3, 3, 3, 2, 3, 4, 3, 3, 3, 3, 3, 3]);
});

test("records of all sizes go round and round, past the largest position, none lost and none twice", () => {
  const random = new Random(3);
  const under: number[] = [];
  let stored = 0;
  let seen = 0;
  let full = 0;
  let wrapped = 0;
  for (let round = 0; round < 4000; round += 1) {
    const value = Uint8Array.of(stored & 255, (stored >> 8) & 255);
    const body = new Uint8Array(random.pick([2, 3, 8, 100, 5000, 65536]));
    body.set(value);
    for (const step of writer.steps(0, [[random.below(64), body]])) {
      if (step === "wrapped") wrapped += 1;
      if (step !== "full") continue;
      full += 1;
      for (const { frame } of take()) {
        expect([frame[HEADER_SIZE], frame[HEADER_SIZE + 1]]).toEqual([seen & 255, (seen >> 8) & 255]);
        seen += 1;
        under.push(seen);
      }
      for (let give = random.between(1, under.length); give > 0; give -= 1) {
        under.shift();
        ring.giveBack();
      }
    }
    stored += 1;
  }
  seen += take().length;
  expect(seen).toBe(stored);
  expect(writer.tail).toBeLessThan(RING_START);
  expect(full).toBeGreaterThan(20);
  expect(wrapped).toBeGreaterThan(20);
});

test("a ring is full with exactly its size, and room is given back record by record", () => {
  const body = new Uint8Array(65536 - 20 - 8);
  const size = HEADER_SIZE + 2 * padded(body.length);
  const fits = Math.floor(RING_SIZE / size);
  for (let i = 0; i < fits; i += 1) writer.store(0, [0, body]);
  expect(() => writer.store(0, [0, body])).toThrow("the ring is full");
  expect(take().length).toBe(fits);
  // Taken is not enough: the entries are still under way.
  expect(() => writer.store(0, [0, body])).toThrow("the ring is full");
  ring.giveBack();
  writer.store(0, [0, body]);
  expect(() => writer.store(0, [0, body])).toThrow("the ring is full");
  expect((writer.tail - writer.head) >>> 0).toBeLessThanOrEqual(RING_SIZE);
});

test("what a wrap left out is given back with the record behind it", () => {
  const large = new Uint8Array(60000);
  for (;;) {
    const { tail } = writer;
    writer.store(0, [0, large]);
    take();
    ring.giveBack();
    expect(writer.head).toBe(writer.tail);
    if (writer.tail < tail && tail >= RING_START) break;
  }
});

test("records behind the tail are not seen, wherever a process ended", () => {
  const steps = ["locked", "written"] as const;
  for (const until of steps) {
    for (const step of writer.steps(0, [[0, Uint8Array.of(1)]])) if (step === until) break;
    expect(take()).toEqual([]);
    writer.owner = 0;
  }
  for (const step of writer.steps(0, [[0, Uint8Array.of(1)]])) if (step === "queued") break;
  expect(map[0]).toBe(0);
  expect(take().length).toBe(1);
  expect(ring.last({ size: sizeOf })?.getUint8(HEADER_SIZE)).toBe(1);
});

test("the newest record stays to be done again", () => {
  expect(ring.last({ size: sizeOf })).toBeNull();
  writer.store(0, [0, Uint8Array.of(1)]);
  writer.store(0, [8, Uint8Array.of(2)]);
  take();
  expect(ring.last({ size: sizeOf })?.getUint8(HEADER_SIZE)).toBe(2);
  expect([ring.taken, ring.returned]).toEqual([2, 0]);
  ring.giveBack();
  expect([ring.taken, ring.returned]).toEqual([2, 1]);
  ring.giveBack();
  expect(ring.last({ size: sizeOf })?.getUint8(HEADER_SIZE)).toBe(2);
  // Its writer has released the lock, or this process could not take it.
  ring.release();
  expect(ring.last({ size: sizeOf })).toBeNull();
  writer.store(0, [16, Uint8Array.of(3)]);
  take();
  expect(ring.last({ size: sizeOf })?.getUint8(HEADER_SIZE)).toBe(3);
});

test("the newest record is invalid when a process has changed it", () => {
  writer.store(0, [0, Uint8Array.of(1)]);
  take();
  expect(() => ring.last({ size: () => Number.POSITIVE_INFINITY })).toThrow(ProtocolError);
});

test("the store of a word is offered in place first, and taken there once", () => {
  const seen: number[][] = [];
  const copied: number[] = [];
  const both: RecordTaker = {
    quick: (words, at) => {
      if (words[at + 8] !== 8) return 0;
      seen.push([...words.subarray(at + 6, at + HEADER_SIZE / 4 + 4)]);
      return HEADER_SIZE + 16;
    },
    size: sizeOf,
    record: (view) => copied.push(view.getUint32(24, true)),
  };
  map.set([1, 0, 0, 0, 2, 0, 0, 0], 16);
  writer.store(0, [16, Uint8Array.of(3, 0, 0, 0, 4, 0, 0, 0)]);
  writer.store(0, [24, Uint8Array.of(5)]);
  writer.store(0, [32, new Uint8Array(8)]);
  expect(ring.take(both)).toBe(3);
  expect(seen).toEqual([
    [16, 0, 8, 0, 3, 4, 1, 2],
    [32, 0, 8, 0, 0, 0, 0, 0],
  ]);
  expect(copied).toEqual([24]);
  ring.closeEntry();
  expect(ring.last({ size: sizeOf })?.getUint32(24, true)).toBe(32);
  ring.giveBack();
  expect(writer.head).toBe(writer.tail);
});

test("records that are one entry are given back together", () => {
  for (let i = 0; i < 3; i += 1) writer.store(0, [0, Uint8Array.of(i)]);
  const start = writer.head;
  let seen = 0;
  const closing = taker(() => {
    seen += 1;
    // The third is being handed over: it is none of this entry's.
    if (seen === 3) ring.closeEntry();
  });
  ring.take(closing);
  ring.closeEntry();
  expect([ring.taken, ring.returned]).toEqual([2, 0]);
  ring.giveBack();
  expect((writer.head - start) >>> 0).toBe(2 * (HEADER_SIZE + 16));
  ring.giveBack();
  expect(writer.head).toBe(writer.tail);
});

test("more entries than records are no order", () => {
  writer.store(0, [0, Uint8Array.of(1)]);
  take();
  ring.giveBack();
  expect(() => ring.giveBack()).toThrow(ProtocolError);
});

describe("the doorbell", () => {
  test("is rung once, by the first store after the arbiter went to sleep", () => {
    for (let i = 0; i < 3; i += 1) writer.store(0, [0, Uint8Array.of(i)]);
    expect(rings).toBe(1);
    expect(ring.awake).toBe(true);
    take();
    expect(ring.sleep()).toBe(true);
    expect(ring.awake).toBe(false);
    writer.store(0, [0, Uint8Array.of(1)]);
    expect(rings).toBe(2);
  });

  test("no record is missed while the arbiter falls asleep", () => {
    ring.wake();
    writer.store(0, [0, Uint8Array.of(1)]);
    expect(rings).toBe(0);
    expect(ring.sleep()).toBe(false);
    expect(ring.awake).toBe(true);
    take();
    expect(ring.sleep()).toBe(true);
  });

  test("a process that is stopped before it rings keeps no other from ringing", () => {
    const stopped = writer.steps(0, [[0, Uint8Array.of(1)]]);
    for (let step = stopped.next(); step.value !== "unlocked"; step = stopped.next());
    writer.store(0, [0, Uint8Array.of(2)]);
    expect(rings).toBe(1);
  });

  test("a process that is stopped after it rang takes away no later sign", () => {
    const stopped = writer.steps(0, [[0, Uint8Array.of(1)]]);
    for (let step = stopped.next(); step.value !== "rung"; step = stopped.next());
    ring.wake();
    take();
    expect(ring.sleep()).toBe(true);
    stopped.next();
    expect(ring.awake).toBe(false);
    writer.store(0, [0, Uint8Array.of(2)]);
    expect(rings).toBe(2);
  });
});

describe("a damaged ring is noticed:", () => {
  /** Words at the place of the next record, and then the tail. */
  const damaged: [string, () => unknown][] = [
    ["a tail in the middle of a word", () => (writer.tail += 4)],
    ["a tail one ring ahead and more", () => (writer.tail = (writer.tail + RING_SIZE + 8) >>> 0)],
    ["a tail that went back", () => (writer.tail = (writer.tail - 8) >>> 0)],
    ["a record of no size", () => put(0, 56)],
    ["a record smaller than a header", () => put(HEADER_SIZE - 8, 56)],
    ["a record behind the tail", () => put(HEADER_SIZE + 16, HEADER_SIZE + 8)],
    ["old bytes behind the tail", () => put(HEADER_SIZE + 8, HEADER_SIZE + 8, { length: 8 })],
    ["a record over the edge", () => edge(HEADER_SIZE + 64)],
    ["a record that is too large", () => put(RING_RECORD_MAX + 8, RING_SIZE)],
    ["old bytes that are too large", () => put(RING_RECORD_MAX - 8, RING_SIZE, { length: RING_RECORD_MAX - 48 })],
    ["a wrap at the beginning", () => put(RING_WRAP, RING_SIZE)],
    ["a wrap with nothing behind it", () => edge(RING_WRAP, 64)],
    ["two wraps", () => [edge(RING_WRAP, RING_SIZE), viewOf(writer.data).setUint32(0, RING_WRAP, true)]],
  ];
  function put(size: number, tail: number, { length = 0 } = {}): void {
    const view = viewOf(writer.data);
    const at = writer.tail % RING_SIZE;
    view.setUint32(at, size, true);
    view.setUint8(at + 4, Kind.STORE);
    view.setUint32(at + 32, length, true);
    writer.tail = (writer.tail + tail) >>> 0;
  }
  /** The same, 64 bytes before the edge. */
  function edge(size: number, tail = size): void {
    const quarter = (RING_SIZE - 64) / 4;
    for (let record = 0; record < 4; record += 1) put(quarter, quarter);
    const nothing = taker(
      () => {},
      (_view, frameSize) => frameSize,
    );
    ring.take(nothing);
    ring.closeEntry();
    while (ring.returned < ring.taken) ring.giveBack();
    expect(writer.tail % RING_SIZE).toBe(RING_SIZE - 64);
    put(size, tail);
  }
  test.each(damaged)("%s", (_what, damage) => {
    damage();
    expect(() => take()).toThrow("a process of this node has damaged the ring of its stores");
  });

  test("what is scribbled while a record is taken changes nothing", () => {
    writer.store(0, [0, new Uint8Array(64).fill(5)]);
    const at = RING_START % RING_SIZE;
    let frame = new Uint8Array(0);
    const scribbled = taker(
      (_view, record, size) => {
        frame = record.slice(0, size);
      },
      (view, size) => {
        writer.data.fill(0xee, at, at + 4096);
        writer.tail = (writer.tail + 4096) >>> 0;
        return size + padded(view.getUint32(32, true));
      },
    );
    ring.take(scribbled);
    expect(frame.length).toBe(HEADER_SIZE + 64);
    expect(frame.subarray(HEADER_SIZE).every((byte) => byte === 5)).toBe(true);
  });

  test("a scribbled head is put right", () => {
    writer.store(0, [0, Uint8Array.of(1)]);
    take();
    writer.head = 12345;
    ring.giveBack();
    expect(writer.head).toBe(writer.tail);
  });

  test("random bytes are taken or refused, and the ring is never read for ever", () => {
    const random = new Random(11);
    let refused = 0;
    for (let round = 0; round < 300; round += 1) {
      const data = emptyRing();
      const fresh = new Ring(data, LOCK);
      const scribbler = new RingWriter(data, map, 7);
      for (let i = 0; i < 20; i += 1) {
        const at = random.below(1 << 10) * 8;
        viewOf(scribbler.data).setUint32(at, random.pick([RING_WRAP, random.below(200), 40, 48]), true);
        viewOf(scribbler.data).setUint8(at + 4, Kind.STORE);
        viewOf(scribbler.data).setUint32(at + 32, random.pick([0, 8, random.next()]), true);
      }
      scribbler.tail = random.pick([random.next(), RING_START + 8 * random.below(1 << 10)]);
      try {
        fresh.take(taker(() => {}));
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(100);
  });
});
