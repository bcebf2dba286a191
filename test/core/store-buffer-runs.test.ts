/** StoreBufferMap: publications of others go past bytes with a store of this node under way. */
import { expect, test } from "bun:test";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { StoreBufferMap } from "../../src/core/replica/store-buffer-map.ts";
import { runLength, runOffset, runSize } from "../../src/core/wire/runs.ts";
import { countMasked, type Run, runs, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";

const SIZE = 512;

test("what others publish goes past the bytes that have a later store of this node, in runs of every form", () => {
  let atOnce = 0;
  for (let seed = 0; seed < 300; seed += 1) {
    const random = new Random(seed);
    const bytes = random.bytes(SIZE);
    const overlay = new StoreBufferMap(bytes, (map, source, from, end) => {
      atOnce += 1;
      for (let run = from; run < end; run += runSize(source, run)) {
        const offset = runOffset(source, run);
        for (let at = offset; at < offset + runLength(source, run); at += 1) expect(pending.has(at)).toBe(false);
      }
      return new MapBytes(map).publish(source, from, end);
    });
    // What the node sees, and what the order says, byte by byte.
    const seen = new Uint8Array(bytes);
    const ordered = new Uint8Array(bytes);
    const pending = new Set<number>();
    const own: { offset: number; body: Uint8Array }[] = [];
    for (let step = 0; step < 12; step += 1) {
      if (random.oneIn(3) && own.length < 4) {
        // A store of this node: in the map at once.
        const body = random.bytes(random.pick([1, 2, 8, 20]));
        const offset = random.below(SIZE - body.length + 1);
        overlay.add(offset, body.length, bytes.slice(offset, offset + body.length), 0);
        overlay.closeEntry();
        bytes.set(body, offset);
        seen.set(body, offset);
        for (let at = 0; at < body.length; at += 1) pending.add(offset + at);
        own.push({ offset, body });
        continue;
      }
      const list: Run[] = [];
      for (let run = random.between(1, 5); run > 0; run -= 1) {
        const masks = random.bytes(random.between(1, 12));
        const changes = random.bytes(countMasked(masks));
        const plain = random.bytes(random.between(1, 40));
        if (random.oneIn(2)) list.push([random.below(SIZE - plain.length + 1), plain]);
        else if (changes.length > 0) list.push([8 * random.below(SIZE / 8 - masks.length + 1), changes, masks]);
      }
      const body = runs(list);
      overlay.publish(viewOf(body), 0, body.length);
      for (const [offset, changes, masks] of list) {
        let from = 0;
        for (let at = 0; at < (masks === undefined ? (changes as Uint8Array).length : 8 * masks.length); at += 1) {
          if (masks !== undefined && (((masks[at >> 3] as number) >> (at & 7)) & 1) === 0) continue;
          const value = (changes as Uint8Array)[from] as number;
          from += 1;
          ordered[offset + at] = value;
          if (!pending.has(offset + at)) seen[offset + at] = value;
        }
      }
      expect(Buffer.compare(bytes, seen)).toBe(0);
      expect(Buffer.compare(overlay.ordered(0, SIZE), ordered)).toBe(0);
    }
    // Its own come back, in their order: then both are the same.
    for (const { offset, body } of own) {
      overlay.settle(() => overlay.store(offset, viewOf(body), 0, body.length));
      ordered.set(body, offset);
      expect(Buffer.compare(overlay.ordered(0, SIZE), ordered)).toBe(0);
    }
    expect(overlay.pendingLines).toBe(0);
  }
  expect(atOnce).toBeGreaterThan(10);
});

test("a large publication is applied at once only while no store of this node is pending on its bytes", () => {
  const calls: number[] = [];
  const overlay = new StoreBufferMap(new Uint8Array(4096), (_map, _source, _from, end) => calls.push(end));
  const body = runs([[0, 2000]]);
  overlay.publish(viewOf(body), 0, body.length);
  expect(calls).toEqual([body.length]);
  overlay.add(2000, 1, Uint8Array.of(0), 0);
  overlay.closeEntry();
  overlay.publish(viewOf(body), 0, body.length);
  expect(calls.length).toBe(2);
  overlay.add(1999, 1, Uint8Array.of(0), 0);
  overlay.closeEntry();
  overlay.publish(viewOf(body), 0, body.length);
  expect([calls.length, overlay.bytes[1]]).toEqual([2, 2]);
  // Its own, from the ring: counted off, and not written again.
  for (const offset of [2000, 1999]) {
    const own = runs([[offset, 1]]);
    overlay.settle(() => overlay.publish(viewOf(own), 0, own.length));
  }
  overlay.publish(viewOf(body), 0, body.length);
  expect([calls.length, overlay.pendingLines]).toEqual([3, 0]);
});
