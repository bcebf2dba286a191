/** LineSlots: as a Map from lines to slots would be, with no slot given twice and none above the most taken at once. */
import { expect, test } from "bun:test";
import { LineSlots } from "../../src/core/replica/line-slots.ts";
import { Random } from "../support/core-random.ts";

/** Lines side by side, far apart, and of the same hash: the multiplier's multiples of the table's size. */
function randomLine(random: Random): number {
  return random.pick([
    random.below(64),
    2 ** 26 - 1 - random.below(64),
    random.below(2 ** 26),
    2 ** 32 - 1 - random.below(4),
    (4096 * random.below(64)) >>> 0,
  ]);
}

test("lines come, are found, and go, in any sequence", () => {
  for (let seed = 0; seed < 20; seed += 1) {
    const random = new Random(seed);
    const slots = new LineSlots();
    const model = new Map<number, number>();
    const most = random.pick([3, 40, 60, 300, 1000]);
    let highest = 0;
    for (let step = 0; step < 3000; step += 1) {
      const line = randomLine(random);
      const slot = slots.find(line);
      expect(slot).toBe(model.get(line) ?? -1);
      if (slot >= 0 ? random.oneIn(2) : model.size === most) {
        const [some, taken] = slot >= 0 ? [line, slot] : random.pick([...model]);
        slots.release(taken);
        model.delete(some);
      } else if (slot < 0) {
        const taken = slots.take(line);
        expect([...model.values()]).not.toContain(taken);
        expect(taken).toBeLessThan(slots.capacity);
        highest = Math.max(highest, taken);
        model.set(line, taken);
      }
      expect(slots.size).toBe(model.size);
    }
    expect(highest).toBeLessThan(most);
    for (const [line, slot] of model) expect(slots.find(line)).toBe(slot);
    const sorted = [...model.keys()].sort((a, b) => a - b);
    expect(slots.between(0, 2 ** 32)).toEqual(sorted);
    expect(slots.between(10, 50)).toEqual(sorted.filter((line) => line >= 10 && line < 50));
    for (const slot of model.values()) slots.release(slot);
    expect(slots.between(0, 2 ** 32)).toEqual([]);
    for (const line of sorted) expect(slots.find(line)).toBe(-1);
  }
});
