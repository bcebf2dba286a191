/** StoreBufferMap: the map holds the newest pending value of each byte, or what the order says. */
import { expect, test } from "bun:test";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { StoreBufferMap } from "../../src/core/replica/store-buffer-map.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, ProtocolError } from "../../src/core/wire/frame.ts";
import { AtomicOp } from "../../src/core/wire/kinds.ts";
import { publication, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";

type Bytes = readonly (readonly [number, Uint8Array])[];

/** What an overlay is, the simple way: what the order says, and over it the entries pending, oldest first. */
class Model {
  readonly ordered: Uint8Array;
  readonly pending: Bytes[] = [];

  constructor(size: number) {
    this.ordered = new Uint8Array(size);
  }

  map(): Uint8Array {
    const map = new Uint8Array(this.ordered);
    for (const [offset, bytes] of this.pending.flat()) map.set(bytes, offset);
    return map;
  }

  lines(): number {
    const bytes = new Uint8Array(this.ordered.length);
    for (const [offset, { length }] of this.pending.flat()) bytes.fill(1, offset, offset + length);
    let lines = 0;
    for (let line = 0; line < bytes.length; line += 64) if (bytes.subarray(line, line + 64).includes(1)) lines += 1;
    return lines;
  }
}

/** An overlay and its model, to which the same happens. */
class Pair {
  readonly bytes: Uint8Array;
  readonly overlay: StoreBufferMap;
  readonly model: Model;

  constructor(size = 512) {
    // The middle of a buffer: a view's byteOffset counts.
    this.bytes = new Uint8Array(size + 64).subarray(32, 32 + size);
    this.overlay = new StoreBufferMap(this.bytes);
    this.model = new Model(size);
  }

  check(): void {
    expect(Buffer.compare(this.bytes, this.model.map())).toBe(0);
    expect(this.overlay.pendingLines).toBe(this.model.lines());
  }

  /** A process stores: the old bytes of all runs are read first, as in a record. */
  queueRuns(runs: Bytes): void {
    const old = runs.map(([offset, bytes]) => this.bytes.slice(offset, offset + bytes.length));
    runs.forEach(([offset, bytes], i) => {
      const was = old[i] as Uint8Array;
      if (bytes.length % 4 === 0 && offset % 4 === 0) {
        this.overlay.addWords(offset, bytes.length, new Uint32Array(was.buffer), 0);
      } else this.overlay.add(offset, bytes.length, was, 0);
    });
    for (const [offset, bytes] of runs) this.bytes.set(bytes, offset);
    this.overlay.closeEntry();
    this.model.pending.push(runs);
  }

  /** The entry of the oldest pending store. */
  settle(): void {
    const runs = this.model.pending.shift();
    if (runs === undefined) return;
    const frame = viewOf(encode(publication(runs)));
    this.overlay.settle(() => this.overlay.publish(frame, HEADER_SIZE, frame.byteLength));
    for (const [offset, bytes] of runs) this.model.ordered.set(bytes, offset);
  }

  /** Another node's store. */
  store(offset: number, bytes: Uint8Array): void {
    this.overlay.store(offset, viewOf(bytes), 0, bytes.length);
    this.model.ordered.set(bytes, offset);
  }
}

interface Play {
  size: number;
  lengths: number[];
  seeds: number;
  steps: number;
}

/** A run that begins or ends mostly around the edge of a line, and often where others do. */
function randomRun(random: Random, { size, lengths }: Play): readonly [number, Uint8Array] {
  const length = random.pick(lengths);
  const edge = 64 * random.pick([0, 1, 2, random.below(size / 64)]);
  const begins = edge + random.pick([0, 0, 4, 8, random.below(64)]);
  const ends = edge + random.pick([0, 0, 4, 8, random.below(64)]) - length;
  return [Math.max(0, Math.min(random.pick([begins, ends]), size - length)), random.bytes(length)];
}

/** Entries of one run, of a few, or of neighbouring words, as a loop over an array makes them. */
function randomEntry(random: Random, play: Play): Bytes {
  if (random.oneIn(4)) {
    const words = random.between(1, 40);
    const first = 8 * random.below(play.size / 8 - words);
    return Array.from({ length: words }, (_, i) => [first + 8 * i, random.bytes(8)] as const);
  }
  return Array.from({ length: random.pick([1, 1, 2, 4]) }, () => randomRun(random, play));
}

function atomic({ overlay, model }: Pair, random: Random, offset: number): void {
  const width = random.pick([1, 2, 4, 8, 16]);
  const place = Math.min(offset, model.ordered.length - width);
  const body = random.bytes(32);
  if (random.oneIn(2)) body.set(model.ordered.subarray(place, place + width), 16);
  const op = random.pick(Object.values(AtomicOp));
  const old = new DataView(new ArrayBuffer(16));
  const expectedOld = new DataView(new ArrayBuffer(16));
  overlay.atomic(op, width, place, viewOf(body), 0, old, 0);
  new MapBytes(model.ordered).atomic(op, width, place, viewOf(body), 0, expectedOld, 0);
  expect(Buffer.compare(new Uint8Array(old.buffer), new Uint8Array(expectedOld.buffer))).toBe(0);
}

function equals({ overlay, model, bytes }: Pair, random: Random, offset: number): void {
  const width = random.pick([1, 2, 4, 8]);
  const place = Math.min(offset, model.ordered.length - width);
  const said = model.ordered.slice(place, place + width);
  const seen = bytes.slice(place, place + width);
  expect(overlay.equals(place, width, viewOf(said), 0)).toBe(true);
  expect(overlay.equals(place, width, viewOf(seen), 0)).toBe(Buffer.compare(said, seen) === 0);
}

function play(what: Play): void {
  const { size, lengths } = what;
  for (let seed = 0; seed < what.seeds; seed += 1) {
    const random = new Random(seed);
    const pair = new Pair(size);
    const { overlay, model } = pair;
    for (let step = 0; step < what.steps; step += 1) {
      const [offset, bytes] = randomRun(random, what);
      switch (random.below(9)) {
        case 0:
        case 1:
        case 2:
          pair.queueRuns(randomEntry(random, what));
          break;
        case 3:
        case 4:
          pair.settle();
          break;
        case 5:
          pair.store(offset, bytes);
          break;
        case 6:
          atomic(pair, random, offset);
          break;
        case 7:
          equals(pair, random, offset);
          break;
        default:
          overlay.zero(offset, bytes.length);
          model.ordered.fill(0, offset, offset + bytes.length);
      }
      pair.check();
      const length = random.pick(lengths);
      const from = random.below(size - length + 1);
      expect(Buffer.compare(overlay.ordered(from, length), model.ordered.subarray(from, from + length))).toBe(0);
    }
    expect(Buffer.compare(overlay.ordered(0, size), model.ordered)).toBe(0);
    while (model.pending.length > 0) pair.settle();
    pair.check();
    expect(overlay.pendingLines).toBe(0);
    // Every byte follows the order again.
    pair.store(0, random.bytes(size));
    pair.check();
  }
}

test("whatever happens, the map holds the newest pending value of each byte, or else what the order says", () => {
  play({ size: 512, lengths: [1, 1, 2, 3, 4, 5, 7, 8, 8, 16, 33, 56, 64, 100, 128, 300, 320], seeds: 60, steps: 120 });
});

test("so it is with runs that cover many lines", () => {
  play({ size: 8192, lengths: [1, 3, 8, 64, 100, 192, 1000, 1024, 4096, 5001], seeds: 25, steps: 80 });
});

test("so it is with runs that come close to a ring's largest record, or exceed it", () => {
  play({ size: 3 << 16, lengths: [2, 8, 64, 4096, 65_535, 65_536, 65_537, 100_000, 131_080], seeds: 6, steps: 40 });
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
    overlay.add(5, 1, Uint8Array.of(i === 0 ? 7 : 9), 0);
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
  overlay.add(64, 8, new Uint8Array(8), 0);
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
  overlay.add(3, 1, new Uint8Array(1), 0);
  bytes[3] = 1;
  overlay.store(0, viewOf(new Uint8Array(16).fill(7)), 0, 16);
  expect(written).toEqual([
    ["setBigUint64", 0],
    ["setBigUint64", 8],
  ]);
  expect([...bytes.subarray(0, 9)]).toEqual([7, 7, 7, 1, 7, 7, 7, 7, 7]);
});
