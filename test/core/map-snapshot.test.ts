/** A picture of the map, sent in pieces while entries go on. */
import { describe, expect, test } from "bun:test";
import { PAGE_SIZE } from "../../src/core/base/limits.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { MapOp, MapSnapshot } from "../../src/core/memory/map-snapshot.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { checkMap } from "../../src/core/wire/check-operation.ts";
import { getUint64 } from "../../src/core/wire/frame.ts";
import { AtomicOp } from "../../src/core/wire/kinds.ts";
import { PUBLISH_PART_MAX, writeRun } from "../../src/core/wire/runs.ts";
import { viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";

/** Puts frames together as a receiver does. */
function put(frames: Uint8Array[], size: number): Uint8Array {
  const memory = new MapBytes(new Uint8Array(size));
  for (const frame of frames) {
    expect(checkMap(viewOf(frame), 0, size)).toBe(null);
    memory.publish(viewOf(frame), HEADER_SIZE, frame.length);
  }
  return memory.bytes;
}

describe("a picture", () => {
  test("is the map as it was when it was begun, whatever is written while it is taken", () => {
    const random = new Random(7);
    for (let round = 0; round < 40; round += 1) {
      const pages = random.between(1, 300);
      const size = pages * PAGE_SIZE;
      const memory = new MapBytes(new Uint8Array(size));
      for (let page = 0; page < pages; page += 1) {
        if (random.oneIn(2)) memory.bytes.set(random.bytes(random.between(1, PAGE_SIZE)), page * PAGE_SIZE);
      }
      const before = memory.bytes.slice();
      const picture = new MapSnapshot(memory, round);
      const source = viewOf(random.bytes(9000));
      const frames: Uint8Array[] = [];
      for (;;) {
        for (let write = random.below(6); write > 0; write -= 1) {
          const length = random.pick([1, 8, 16, 300, 9000]);
          const offset = random.below(Math.max(size - length, 1));
          if (offset + length > size) continue;
          const how = random.below(4);
          if (how === 0) memory.zero(offset, length);
          else if (how === 1 && offset + 16 <= size)
            memory.atomic(AtomicOp.XCHG, 16, offset, source, 0, viewOf(new Uint8Array(16)), 0);
          else if (how === 2 && length <= 300) {
            const body = new Uint8Array(8 + 304);
            const end = writeRun(viewOf(body), 0, offset, random.bytes(length));
            memory.publish(viewOf(body), 0, end);
          } else memory.store(offset, source, 0, length);
        }
        const frame = picture.next();
        if (frame === null) break;
        expect(frame.length).toBeLessThanOrEqual(HEADER_SIZE + PUBLISH_PART_MAX);
        expect(getUint64(viewOf(frame), 16)).toBe(round);
        expect(frame[5]).toBe(picture.done ? MapOp.LAST : MapOp.MORE);
        frames.push(frame);
      }
      expect(Buffer.compare(put(frames, size), before)).toBe(0);
      expect(memory.watchers.size).toBe(0);
    }
  });

  test("leaves out pages of zeros, and looks at a bounded number of them for one frame", () => {
    const memory = new MapBytes(new Uint8Array(10_000 * PAGE_SIZE));
    memory.bytes[9_999 * PAGE_SIZE + 5] = 1;
    const picture = new MapSnapshot(memory, 1);
    const frames: Uint8Array[] = [];
    for (let frame = picture.next(); frame !== null; frame = picture.next()) frames.push(frame);
    expect(frames.map((frame) => frame.length)).toEqual([HEADER_SIZE, HEADER_SIZE, HEADER_SIZE + 8 + PAGE_SIZE]);
  });

  test("keeps only pages that change before they are handed out, and none once it has ended", () => {
    const memory = new MapBytes(new Uint8Array(200 * PAGE_SIZE).fill(1));
    const picture = new MapSnapshot(memory, 1);
    picture.next();
    memory.zero(0, 8);
    expect(picture.keptBytes).toBe(0);
    memory.zero(150 * PAGE_SIZE - 1, 2);
    memory.zero(150 * PAGE_SIZE, 2);
    expect(picture.keptBytes).toBe(2 * PAGE_SIZE);
    picture.end();
    expect(picture.keptBytes).toBe(0);
    expect(picture.next()).toBe(null);
    memory.zero(180 * PAGE_SIZE, 2);
    expect(picture.keptBytes).toBe(0);
  });

  test("a damaged piece is not let through", () => {
    const memory = new MapBytes(new Uint8Array(PAGE_SIZE).fill(1));
    const frame = new MapSnapshot(memory, 1).next() as Uint8Array;
    const damaged = (change: (view: DataView) => void): string | null => {
      const copy = frame.slice();
      change(viewOf(copy));
      return checkMap(viewOf(copy), 0, PAGE_SIZE);
    };
    expect(damaged(() => {})).toBe(null);
    expect(damaged((view) => view.setUint8(5, 2))).toContain("flag");
    expect(damaged((view) => view.setUint32(32, 8, true))).toContain("length");
    expect(damaged((view) => view.setUint32(HEADER_SIZE, 8, true))).toContain("outside the map");
    expect(damaged((view) => view.setUint32(HEADER_SIZE + 4, 0, true))).toContain("does not fit");
  });
});
