/** MapBytes: stores, atomic operations and publications change the right bytes and no others. */
import { describe, expect, test } from "bun:test";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { StoreBufferMap } from "../../src/core/replica/store-buffer-map.ts";
import { AtomicOp } from "../../src/core/wire/kinds.ts";
import { countMasked, type Run, runs, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";

/** A MapBytes over the middle of a buffer, so that a view's byteOffset counts, between guard bytes. */
function guarded(size: number): {
  map: MapBytes;
  check: (expected: Uint8Array) => void;
  set: (bytes: Uint8Array) => void;
} {
  const all = new Uint8Array(size + 64).fill(0xa5);
  const bytes = all.subarray(32, 32 + size).fill(0);
  return {
    map: new MapBytes(bytes),
    set: (from) => bytes.set(from),
    check: (expected) => {
      if (Buffer.compare(bytes, expected) !== 0)
        expect(Buffer.from(bytes).toString("hex")).toBe(Buffer.from(expected).toString("hex"));
      const guards =
        all.subarray(0, 32).every((byte) => byte === 0xa5) && all.subarray(32 + size).every((byte) => byte === 0xa5);
      expect(guards).toBe(true);
    },
  };
}

/** Records which stores a DataView is asked for. */
class Recorder extends DataView<ArrayBuffer> {
  readonly stores: [number, number][] = [];
  override setUint8(at: number, value: number): void {
    this.stores.push([at, 1]);
    super.setUint8(at, value);
  }
  override setUint16(at: number, value: number, little?: boolean): void {
    this.stores.push([at, 2]);
    super.setUint16(at, value, little);
  }
  override setUint32(at: number, value: number, little?: boolean): void {
    this.stores.push([at, 4]);
    super.setUint32(at, value, little);
  }
  override setBigUint64(at: number, value: bigint, little?: boolean): void {
    this.stores.push([at, 8]);
    super.setBigUint64(at, value, little);
  }
}

describe("store", () => {
  test("every length up to 600 at every alignment, from every alignment, writes exactly its bytes", () => {
    const random = new Random(1);
    const source = new DataView(random.bytes(700).buffer, 8);
    const pattern = random.bytes(640);
    const { map, check, set } = guarded(640);
    const expected = new Uint8Array(640);
    for (let length = 1; length <= 600; length += 1) {
      for (let offset = 0; offset < 16; offset += 1) {
        const from = (offset * 3 + length) % 16;
        set(pattern);
        map.store(offset, source, from, length);
        expected.set(pattern);
        for (let at = 0; at < length; at += 1) expected[offset + at] = source.getUint8(from + at);
        check(expected);
      }
    }
  });

  test("the first and the last byte of the map", () => {
    const { map, check } = guarded(64);
    const source = viewOf(Uint8Array.from({ length: 64 }, (_, at) => at + 1));
    map.store(0, source, 0, 64);
    map.store(63, source, 9, 1);
    map.store(56, source, 0, 7);
    const expected = Uint8Array.from({ length: 64 }, (_, at) => at + 1);
    expected.set([1, 2, 3, 4, 5, 6, 7, 10], 56);
    check(expected);
  });

  test("keeps the payload of every kind of NaN, and every other bit pattern", () => {
    const { map } = guarded(64);
    for (const bits of [
      0x7ff0000000000001n,
      0xfff8000000000123n,
      0x7ff4dead0000beefn,
      0xffffffffffffffffn,
      0x8000000000000000n,
    ]) {
      const source = new DataView(new ArrayBuffer(48));
      for (let word = 0; word < 5; word += 1) source.setBigUint64(8 * word, bits, true);
      for (const length of [8, 16, 40]) {
        map.bytes.fill(0);
        map.store(8, source, 0, length);
        for (let at = 0; at < length; at += 8) expect(map.view.getBigUint64(8 + at, true)).toBe(bits);
      }
      map.store(4, source, 0, 4);
      expect(map.view.getUint32(4, true)).toBe(Number(bits & 0xffffffffn));
    }
  });

  test("no naturally aligned word of 2, 4 or 8 bytes is ever half written", () => {
    const source = viewOf(new Random(2).bytes(300));
    for (let length = 1; length <= 255; length += 1) {
      for (let offset = 0; offset < 16; offset += 1) {
        const map = new MapBytes(new Uint8Array(512));
        const recorder = new Recorder(map.bytes.buffer as ArrayBuffer);
        Object.defineProperty(map, "view", { value: recorder });
        map.store(offset, source, 0, length);
        for (const width of [2, 4, 8]) {
          for (let word = Math.ceil(offset / width) * width; word + width <= offset + length; word += width) {
            const touching = recorder.stores.filter(([at, size]) => at < word + width && at + size > word);
            if (touching.length !== 1) throw new Error(`word ${word}/${width} of ${length} bytes at ${offset} is torn`);
          }
        }
      }
    }
  });

  test("a block copy touches whole aligned words only", () => {
    const source = viewOf(new Random(3).bytes(5000));
    for (let offset = 0; offset < 16; offset += 1) {
      for (const length of [256, 263, 264, 300, 511, 512, 4096, 4097]) {
        const map = new MapBytes(new Uint8Array(8192));
        const set = Uint8Array.prototype.set;
        const blocks: [number, number][] = [];
        map.bytes.set = function (this: Uint8Array, from: ArrayLike<number>, at = 0) {
          blocks.push([at, from.length]);
          set.call(this, from, at);
        };
        map.store(offset, source, 5, length);
        for (const [at, size] of blocks) expect([at % 8, size % 8]).toEqual([0, 0]);
        expect(blocks.length).toBeLessThanOrEqual(1);
        expect(
          Buffer.compare(
            map.bytes.subarray(offset, offset + length),
            new Uint8Array(source.buffer).subarray(5, 5 + length),
          ),
        ).toBe(0);
      }
    }
  });
});

describe("atomic", () => {
  const widths = [1, 2, 4, 8, 16];
  const big = (bytes: Uint8Array): bigint => bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  const after: Record<number, (old: bigint, operand: bigint, compare: bigint, bits: number) => bigint> = {
    [AtomicOp.ADD]: (old, operand, _compare, bits) => (old + operand) % (1n << BigInt(bits)),
    [AtomicOp.AND]: (old, operand) => old & operand,
    [AtomicOp.OR]: (old, operand) => old | operand,
    [AtomicOp.XOR]: (old, operand) => old ^ operand,
    [AtomicOp.XCHG]: (_old, operand) => operand,
    [AtomicOp.CMPXCHG]: (old, operand, compare) => (old === compare ? operand : old),
    [AtomicOp.NEG]: (old, _operand, _compare, bits) => ((1n << BigInt(bits)) - old) % (1n << BigInt(bits)),
  };

  test.each(Object.entries(AtomicOp))("%s of every width at every offset is as in big integers", (_name, op) => {
    const random = new Random(op);
    for (const width of widths) {
      for (let round = 0; round < 300; round += 1) {
        const { map, check, set } = guarded(48);
        const before = random.oneIn(5) ? new Uint8Array(48).fill(random.pick([0, 0xff])) : random.bytes(48);
        set(before);
        const offset = round % (48 - width + 1);
        const source = new DataView(new ArrayBuffer(64), 8);
        const operand = random.oneIn(5) ? new Uint8Array(16).fill(random.pick([0, 0xff])) : random.bytes(16);
        const same = random.oneIn(2);
        const compare = same ? Uint8Array.from({ length: 16 }, (_, at) => before[offset + at] ?? 0) : random.bytes(16);
        new Uint8Array(source.buffer, 8).set(operand, 3);
        new Uint8Array(source.buffer, 8).set(compare, 19);
        const old = new DataView(random.bytes(40).buffer, 4);
        map.atomic(op, width, offset, source, 3, old, 8);

        const value = big(before.subarray(offset, offset + width));
        expect(big(new Uint8Array(old.buffer, 12, 16))).toBe(value);
        const result = after[op]!(value, big(operand.subarray(0, width)), big(compare.subarray(0, width)), width * 8);
        const expected = before.slice();
        for (let at = 0; at < width; at += 1) expected[offset + at] = Number((result >> BigInt(8 * at)) & 0xffn);
        check(expected);
      }
    }
  });

  test("bytes of the operand beyond the width do not count", () => {
    const { map } = guarded(16);
    const source = new DataView(new ArrayBuffer(32));
    new Uint8Array(source.buffer).fill(0xff);
    source.setUint8(0, 1);
    source.setUint8(16, 0);
    map.atomic(AtomicOp.CMPXCHG, 1, 3, source, 0, new DataView(new ArrayBuffer(16)), 0);
    expect([...map.bytes.subarray(2, 5)]).toEqual([0, 1, 0]);
  });
});

describe("publish", () => {
  test("writes the runs in their order and says how many bytes they held", () => {
    const { map, check } = guarded(64);
    const body = runs([
      [1, 3],
      [0, Uint8Array.of(9, 9)],
      [40, 20],
      [63, 1],
    ]);
    const frame = new Uint8Array(body.length + 24);
    frame.set(body, 16);
    expect(map.publish(new DataView(frame.buffer, 8), 8, 8 + body.length)).toBe(26);
    const expected = new Uint8Array(64);
    expected.set([9, 9, 2, 3]);
    for (let at = 0; at < 20; at += 1) expected[40 + at] = at + 1;
    expected[63] = 1;
    check(expected);
  });

  test("of masked runs changes exactly the bytes that the masks have", () => {
    for (let seed = 0; seed < 300; seed += 1) {
      const random = new Random(seed);
      const { map, set, check } = guarded(256);
      const expected = random.bytes(256);
      set(expected);
      const list: Run[] = [];
      for (let run = random.between(1, 4); run > 0; run -= 1) {
        const masks = random.bytes(random.between(1, 8));
        if (random.oneIn(2)) masks.fill(random.pick([0xff, 0x7f, 0x07, 0x80, 0x01]));
        if (random.oneIn(4)) masks[random.below(masks.length)] = random.below(256);
        const first = random.below(256 / 8 - masks.length + 1);
        const changes = random.bytes(countMasked(masks));
        if (changes.length === 0) continue;
        list.push([8 * first, changes, masks, random.oneIn(2)]);
        let from = 0;
        for (let at = 0; at < 8 * masks.length; at += 1) {
          if ((((masks[at >> 3] as number) >> (at & 7)) & 1) === 0) continue;
          expected[8 * first + at] = changes[from] as number;
          from += 1;
        }
      }
      const body = runs(list);
      const bytes = list.reduce((sum, [, changes]) => sum + (changes as Uint8Array).length, 0);
      expect(map.publish(viewOf(body), 0, body.length)).toBe(bytes);
      check(expected);
    }
  });

  test("of a masked run stores every word once, whatever it holds", () => {
    const map = new MapBytes(new Uint8Array(64));
    const recorder = new Recorder(map.bytes.buffer as ArrayBuffer);
    Object.defineProperty(map, "view", { value: recorder });
    for (let word = 0; word < 8; word += 1) map.view.setBigUint64(8 * word, 0x7ff4dead0000beefn, true);
    recorder.stores.length = 0;
    const body = runs([[8, Uint8Array.of(1, 2, 3, 4), Uint8Array.of(0x01, 0, 0x84, 0x40)]]);
    map.publish(viewOf(body), 0, body.length);
    expect(recorder.stores).toEqual([
      [8, 8],
      [24, 8],
      [32, 8],
    ]);
    expect(map.view.getBigUint64(8, true)).toBe(0x7ff4dead0000be01n);
    expect(map.view.getBigUint64(16, true)).toBe(0x7ff4dead0000beefn);
    expect(map.view.getBigUint64(24, true)).toBe(0x03f4dead0002beefn);
    expect(map.view.getBigUint64(32, true)).toBe(0x7f04dead0000beefn);
  });

  test("passes large bodies to the faster function", () => {
    const calls: number[][] = [];
    const map = new MapBytes(new Uint8Array(8192), (_map, _source, from, end) => {
      calls.push([from, end]);
      return 2002;
    });
    const body = runs([
      [0, 2000],
      [4096, Uint8Array.of(1, 2), Uint8Array.of(3)],
    ]);
    const frame = new Uint8Array(40 + body.length);
    frame.set(body, 40);
    expect(map.publish(viewOf(frame), 40, frame.length)).toBe(2002);
    expect(calls).toEqual([[40, 40 + body.length]]);
    expect(map.bytes[0]).toBe(0);
    const small = runs([[4096, Uint8Array.of(1, 2), Uint8Array.of(3)]]);
    expect(map.publish(viewOf(small), 0, small.length)).toBe(2);
    expect([calls.length, map.bytes[4096], map.bytes[4097]]).toEqual([1, 1, 2]);
  });

  test("of any runs leaves what they say one after the other", () => {
    const random = new Random(7);
    for (let round = 0; round < 2000; round += 1) {
      const map = new MapBytes(new Uint8Array(64));
      const expected = new Uint8Array(64);
      const list = Array.from({ length: random.below(8) + 1 }, (): [number, Uint8Array] => {
        const offset = random.below(64);
        const length = 1 + random.below(Math.min(20, 64 - offset));
        return [offset, Uint8Array.from({ length }, () => random.below(256))];
      });
      for (const [offset, bytes] of list) expected.set(bytes, offset);
      const body = runs(list);
      map.publish(viewOf(body), 0, body.length);
      expect(map.bytes).toEqual(expected);
    }
  });

  test("of another node's goes around what this node has pending, also in the word between two runs", () => {
    const map = new StoreBufferMap(new Uint8Array(64).fill(1));
    // This node has stored a 5 at byte 2.
    map.add(2, 1, map.bytes.slice(), 2);
    map.closeEntry();
    map.bytes[2] = 5;
    const body = runs([
      [0, Uint8Array.of(7)],
      [6, Uint8Array.of(8)],
    ]);
    map.publish(viewOf(body), 0, body.length);
    expect([...map.bytes.subarray(0, 8)]).toEqual([7, 1, 5, 1, 1, 1, 8, 1]);
    expect([...map.ordered(0, 8)]).toEqual([7, 1, 1, 1, 1, 1, 8, 1]);
    const own = runs([[2, Uint8Array.of(5)]]);
    map.settle(() => map.publish(viewOf(own), 0, own.length));
    expect([...map.bytes.subarray(0, 8)]).toEqual([7, 1, 5, 1, 1, 1, 8, 1]);
    expect(map.pendingLines).toBe(0);
  });

  test("of nothing writes nothing", () => {
    const { map, check } = guarded(8);
    expect(map.publish(new DataView(new ArrayBuffer(8)), 8, 8)).toBe(0);
    check(new Uint8Array(8));
  });
});
