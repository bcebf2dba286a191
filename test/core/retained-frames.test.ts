/** RetainedFrames: what is kept are the entries behind the base, whatever is dropped. */
import { expect, test } from "bun:test";
import { encode, getUint64 } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { RetainedFrames } from "../../src/core/wire/retained-frames.ts";
import { viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";

/** Frames of different sizes that can be told apart: number and size of each. */
function framesIn(pieces: Iterable<Uint8Array>): [number, number][] {
  const found: [number, number][] = [];
  for (const piece of pieces) {
    const view = viewOf(piece);
    for (let at = 0; at < piece.length; at += view.getUint32(at, true)) {
      found.push([getUint64(view, at + 16), view.getUint32(at, true)]);
    }
  }
  return found;
}

test("what is kept are the frames behind the base, in their sequence, whatever was dropped before", () => {
  for (let seed = 0; seed < 40; seed += 1) {
    const random = new Random(seed);
    const base = random.below(2) * 2 ** 33;
    const retained = new RetainedFrames(base, true);
    let kept: [number, number][] = [];
    let fresh: [number, number][] = [];
    let number = base;
    for (let step = 0; step < 400; step += 1) {
      if (random.below(5) > 0) {
        // Parts of a publication have one number.
        if (random.below(4) > 0 || retained.droppedThrough >= number) number += 1;
        const body = new Uint8Array(random.pick([0, 8, 40, 4000, 30_000, 70_000]));
        const frame = encode({ kind: Kind.STORE, seq: number, body });
        if (random.oneIn(6)) retained.pushOwned(frame, number);
        else {
          const place = 8 * random.below(3);
          const bytes = new Uint8Array(place + frame.length);
          bytes.set(frame, place);
          retained.push(viewOf(bytes), bytes, place, frame.length, number);
          fresh.push([number, frame.length]);
        }
        kept.push([number, frame.length]);
      } else {
        expect(framesIn(retained.takeUnsent())).toEqual(fresh);
        fresh = [];
        const upTo = random.between(retained.droppedThrough, number + 2);
        retained.drop(upTo);
        kept = kept.filter(([seq]) => seq > upTo);
        expect(retained.droppedThrough).toBeLessThanOrEqual(number);
      }
      const { oldest } = retained;
      expect(oldest === null ? [] : framesIn([oldest])).toEqual(kept.slice(0, 1));
      const from = random.between(retained.droppedThrough, number);
      expect(framesIn(retained.framesAfter(from))).toEqual(kept.filter(([seq]) => seq > from));
      expect(retained.bytes).toBeGreaterThanOrEqual(kept.reduce((sum, [, size]) => sum + size, 0));
    }
    retained.takeUnsent();
    retained.drop(number);
    expect([retained.oldest, [...retained.framesAfter(number)], retained.bytes]).toEqual([null, [], 0]);
  }
});

test("a number never goes down, and what was dropped is not asked for", () => {
  const retained = new RetainedFrames(4);
  const frame = encode({ kind: Kind.STORE, seq: 6 });
  retained.push(viewOf(frame), frame, 0, frame.length, 6);
  expect(() => retained.push(viewOf(frame), frame, 0, frame.length, 5)).toThrow(RangeError);
  retained.drop(5);
  expect(retained.oldest?.length).toBe(frame.length);
  expect(() => [...retained.framesAfter(4)]).toThrow(RangeError);
});

test("memory of frames that were dropped is used again, also that of large ones", () => {
  for (const size of [48, 4096, (64 << 10) + 40, 200_000]) {
    const retained = new RetainedFrames(0, true);
    const frame = encode({ kind: Kind.STORE, body: new Uint8Array(size - 40) });
    const buffers = new Set<ArrayBufferLike>();
    for (let number = 1; number <= 300; number += 1) {
      retained.push(viewOf(frame), frame, 0, frame.length, number);
      for (const piece of retained.takeUnsent()) buffers.add(piece.buffer);
      if (number > 3) retained.drop(number - 3);
    }
    expect(buffers.size).toBeLessThanOrEqual(6);
  }
});
