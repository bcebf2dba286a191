/** PendingLines: its memory is that of what is pending at once, and an entry that comes back costs what it changes. */
import { expect, test } from "bun:test";
import { PendingLines } from "../../src/core/replica/pending-lines.ts";
import { RING_SIZE } from "../../src/core/wire/ring-layout.ts";

test("what has come back leaves nothing behind", () => {
  const pending = new PendingLines();
  let line = 0;
  for (let entry = 0; entry < 5000; entry += 1) {
    for (let i = 0; i < 100; i += 1, line += 1) pending.mark(line, 0, 64);
    pending.closeEntry();
    if (entry >= 7) pending.removeOldest();
  }
  expect(pending.size).toBe(700);
  expect(pending.capacity).toBe(1024);
  expect([pending.find(line - 701), pending.between(0, line).length]).toEqual([-1, 700]);
});

test("a ring full of single bytes, each an entry of its own, in a few lines", () => {
  const pending = new PendingLines();
  // The smallest record: a frame's header, a word of new bytes and one of old bytes.
  const most = Math.floor(RING_SIZE / 56);
  const place = (entry: number): number => (entry % 97 === 0 ? 5 : 64 + (entry % 63));
  const add = (entry: number): void => {
    const byte = place(entry);
    pending.mark(byte >> 6, byte & 63, (byte & 63) + 1);
    pending.closeEntry();
  };
  for (let entry = 0; entry < most; entry += 1) add(entry);
  for (let entry = 0; entry < 3 * most; entry += 1) {
    expect(pending.has(5, 1)).toBe(true);
    pending.removeOldest();
    if (entry < 2 * most) add(most + entry);
    else if (pending.size < 2) break;
  }
  expect(pending.capacity).toBe(64);
});

test("a byte is pending until the last of its stores has come back, and no longer", () => {
  const pending = new PendingLines();
  const marks = [
    [0, 64],
    [10, 20],
    [31, 33],
    [0, 1],
  ] as const;
  for (const [from, to] of marks) {
    pending.mark(7, from, to);
    pending.closeEntry();
  }
  const bits = (): number[] => Array.from({ length: 64 }, (_, at) => at).filter((at) => pending.has(7 * 64 + at, 1));
  const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);
  expect(bits()).toEqual(range(0, 64));
  pending.removeOldest();
  expect(bits()).toEqual([0, ...range(10, 20), 31, 32]);
  pending.removeOldest();
  expect(bits()).toEqual([0, 31, 32]);
  expect([pending.has(0, 7 * 64), pending.has(0, 7 * 64 + 1), pending.has(7 * 64 + 33, 1 << 20)]).toEqual([
    false,
    true,
    false,
  ]);
  pending.removeOldest();
  expect(bits()).toEqual([0]);
  pending.removeOldest();
  expect([pending.size, pending.find(7)]).toEqual([0, -1]);
});
