/** StoreBufferMap: the map holds the newest pending value of each byte, or what the order says. */
import { expect, test } from "bun:test";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { StoreBufferMap } from "../../src/core/replica/store-buffer-map.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, ProtocolError } from "../../src/core/wire/frame.ts";
import { AtomicOp } from "../../src/core/wire/kinds.ts";
import { publication, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";

const SIZE = 512;

/**
 * What an overlay is, the simple way: for each byte what the order says, and the values pending on it, oldest first.
 */
class Model {
  readonly ordered = new Uint8Array(SIZE);
  readonly pending: number[][] = Array.from({ length: SIZE }, () => []);

  map(): Uint8Array {
    return this.ordered.map((byte, at) => this.pending[at]?.at(-1) ?? byte);
  }
  lines(): number {
    let lines = 0;
    for (let line = 0; line < SIZE; line += 64) {
      if (this.pending.slice(line, line + 64).some((values) => values.length > 0)) lines += 1;
    }
    return lines;
  }
}

type Bytes = readonly (readonly [number, Uint8Array])[];

/** An overlay and its model, to which the same happens. */
class Pair {
  readonly bytes: Uint8Array;
  readonly overlay: StoreBufferMap;
  readonly model = new Model();
  readonly queue: Bytes[] = [];

  constructor() {
    // The middle of a buffer: a view's byteOffset counts.
    this.bytes = new Uint8Array(SIZE + 64).subarray(32, 32 + SIZE);
    this.overlay = new StoreBufferMap(this.bytes);
  }

  check(): void {
    expect(Buffer.compare(this.bytes, this.model.map())).toBe(0);
    expect(this.overlay.pendingLines).toBe(this.model.lines());
  }

  /** A process stores: the old bytes of all runs are read first, as in a record. */
  queueRuns(runs: Bytes): void {
    const old = runs.map(([offset, bytes]) => this.bytes.slice(offset, offset + bytes.length));
    runs.forEach(([offset, bytes], i) => {
      const was = viewOf(old[i] as Uint8Array);
      if (bytes.length === 8 && offset % 8 === 0) {
        this.overlay.addWord(offset, was.getUint32(0, true), was.getUint32(4, true));
      } else this.overlay.add(offset, bytes.length, was, 0);
      for (const [at, byte] of bytes.entries()) this.model.pending[offset + at]?.push(byte);
    });
    for (const [offset, bytes] of runs) this.bytes.set(bytes, offset);
    this.overlay.closeEntry();
    this.queue.push(runs);
  }

  /** The entry of the oldest pending store. */
  settle(): void {
    const runs = this.queue.shift();
    if (runs === undefined) return;
    const frame = viewOf(encode(publication(runs)));
    this.overlay.settle(() => this.overlay.publish(frame, HEADER_SIZE, frame.byteLength));
    for (const [offset, bytes] of runs) {
      bytes.forEach((byte, at) => {
        this.model.pending[offset + at]?.shift();
        this.model.ordered[offset + at] = byte;
      });
    }
  }

  /** Another node's store. */
  store(offset: number, bytes: Uint8Array): void {
    this.overlay.store(offset, viewOf(bytes), 0, bytes.length);
    this.model.ordered.set(bytes, offset);
  }
}

const LENGTHS = [1, 1, 2, 3, 4, 5, 7, 8, 8, 16, 33, 64, 100, 300];

function randomRun(random: Random): readonly [number, Uint8Array] {
  const length = random.pick(LENGTHS);
  // Mostly around the edges of two lines, where they meet.
  const places = [random.below(16), 56 + random.below(16), random.below(SIZE), 8 * random.below(4)];
  const offset = Math.min(random.pick(places), SIZE - length);
  return [offset, random.bytes(length)];
}

test("whatever happens, the map holds the newest pending value of each byte, or else what the order says", () => {
  for (let seed = 0; seed < 60; seed += 1) {
    const random = new Random(seed);
    const pair = new Pair();
    const { overlay, model } = pair;
    for (let step = 0; step < 120; step += 1) {
      const [offset, bytes] = randomRun(random);
      switch (random.below(9)) {
        case 0:
        case 1:
        case 2:
          pair.queueRuns(
            random.oneIn(2)
              ? Array.from({ length: random.between(1, 4) }, () => randomRun(random))
              : [[offset, bytes] as const],
          );
          break;
        case 3:
        case 4:
          pair.settle();
          break;
        case 5:
          pair.store(offset, bytes);
          break;
        case 6: {
          const width = random.pick([1, 2, 4, 8, 16]);
          const place = Math.min(offset, SIZE - width);
          const body = random.bytes(32);
          if (random.oneIn(2)) body.set(model.ordered.subarray(place, place + width), 16);
          const op = random.pick(Object.values(AtomicOp));
          const old = new DataView(new ArrayBuffer(16));
          const expectedOld = new DataView(new ArrayBuffer(16));
          overlay.atomic(op, width, place, viewOf(body), 0, old, 0);
          new MapBytes(model.ordered).atomic(op, width, place, viewOf(body), 0, expectedOld, 0);
          expect(Buffer.compare(new Uint8Array(old.buffer), new Uint8Array(expectedOld.buffer))).toBe(0);
          break;
        }
        case 7: {
          const width = random.pick([1, 2, 4, 8]);
          const place = Math.min(offset, SIZE - width);
          const said = model.ordered.slice(place, place + width);
          const seen = pair.bytes.slice(place, place + width);
          expect(overlay.equals(place, width, viewOf(said), 0)).toBe(true);
          expect(overlay.equals(place, width, viewOf(seen), 0)).toBe(Buffer.compare(said, seen) === 0);
          break;
        }
        default: {
          const length = random.pick([1, 8, 64, 200]);
          const place = Math.min(offset, SIZE - length);
          overlay.zero(place, length);
          model.ordered.fill(0, place, place + length);
        }
      }
      pair.check();
      const length = random.pick(LENGTHS);
      const from = random.below(SIZE - length + 1);
      expect(Buffer.compare(overlay.ordered(from, length), model.ordered.subarray(from, from + length))).toBe(0);
    }
    expect(Buffer.compare(overlay.ordered(0, SIZE), model.ordered)).toBe(0);
    while (pair.queue.length > 0) pair.settle();
    pair.check();
    expect(overlay.pendingLines).toBe(0);
    // Every byte follows the order again.
    pair.store(0, random.bytes(SIZE));
    pair.check();
  }
});

test("a store that died half way is done again from its record", () => {
  const pair = new Pair();
  pair.queueRuns([[60, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)]]);
  pair.bytes.fill(0, 63, 68);
  pair.overlay.redo(60, viewOf(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)), 0, 8);
  pair.check();
});

test("a byte may have as many stores pending as a ring can hold", () => {
  const { overlay, bytes } = new Pair();
  const most = Math.floor((1 << 20) / 24);
  for (let i = 0; i < most; i += 1) {
    overlay.add(5, 1, viewOf(Uint8Array.of(i === 0 ? 7 : 9)), 0);
    overlay.closeEntry();
  }
  bytes[5] = 9;
  overlay.store(5, viewOf(Uint8Array.of(8)), 0, 1);
  expect([bytes[5], overlay.ordered(5, 1)[0]]).toEqual([9, 8]);
  for (let i = 0; i < most; i += 1) overlay.settle(() => overlay.store(5, viewOf(Uint8Array.of(9)), 0, 1));
  expect(overlay.pendingLines).toBe(0);
});

test("an entry comes back only once it is closed", () => {
  const { overlay } = new Pair();
  overlay.add(64, 8, viewOf(new Uint8Array(8)), 0);
  expect(() => overlay.settle(() => {})).toThrow(ProtocolError);
  overlay.closeEntry();
  overlay.settle(() => {});
  expect(() => overlay.settle(() => {})).toThrow(ProtocolError);
});

test("an aligned word is never written in parts", () => {
  const { overlay, bytes } = new Pair();
  const written: [string, number][] = [];
  // A reader that looks at every single store to the map sees all intermediate values.
  const spy = new Proxy(overlay.view, {
    get(view, name) {
      const method = Reflect.get(view, name);
      if (typeof method !== "function") return method;
      return (...args: number[]) => {
        if (String(name).startsWith("set")) written.push([String(name), args[0] as number]);
        return method.apply(view, args);
      };
    },
  });
  Object.defineProperty(overlay, "view", { value: spy });
  overlay.add(3, 1, viewOf(new Uint8Array(1)), 0);
  bytes[3] = 1;
  overlay.store(0, viewOf(new Uint8Array(16).fill(7)), 0, 16);
  expect(written).toEqual([
    ["setBigUint64", 0],
    ["setBigUint64", 8],
  ]);
  expect([...bytes.subarray(0, 9)]).toEqual([7, 7, 7, 1, 7, 7, 7, 7, 7]);
});
