/** Where maps lie in memory: no two overlap, and sanitizers leave room for the first. */
import { expect, test } from "bun:test";
import { addressOf, nextSlot, slotOf } from "../../src/core/base/addresses.ts";
import { ADDRESS_SLOTS, ADDRESS_WIDE_SLOTS, SIZE_MAX } from "../../src/core/base/limits.ts";

const slots = Array.from({ length: ADDRESS_SLOTS }, (_, slot) => slot);

test("no two maps overlap, and a slot and its address say the same", () => {
  const addresses = slots.map(addressOf).sort((a, b) => a - b);
  for (const [i, address] of addresses.entries()) {
    expect(addressOf(slotOf(address))).toBe(address);
    if (i > 0) expect(address - (addresses[i - 1] as number)).toBeGreaterThanOrEqual(SIZE_MAX);
  }
  for (const wrong of [0, -1, 4096, addressOf(0) + 4096, addressOf(ADDRESS_SLOTS), addressOf(ADDRESS_SLOTS - 1) + 8]) {
    expect(slotOf(wrong)).toBe(-1);
  }
});

/** Memory of the program as the tools have it: ThreadSanitizer of gcc 12 and LLVM 14 to 18, AddressSanitizer, Linux. */
test("narrow maps lie where every tool lets them, the first sessions get them, and each rests", () => {
  for (const slot of slots.slice(ADDRESS_WIDE_SLOTS)) {
    const address = addressOf(slot);
    expect(address).toBeGreaterThanOrEqual(0x5500_0000_0000);
    expect(address + SIZE_MAX).toBeLessThanOrEqual(0x5555_5555_4000);
  }
  const taken = new Set<number>();
  const isFree = (slot: number): boolean => !taken.has(slot);
  const order: number[] = [];
  for (let slot = nextSlot(-1, isFree); slot >= 0; slot = nextSlot(slot, isFree)) {
    taken.add(slot);
    order.push(slot);
  }
  expect(order).toEqual([...slots.slice(ADDRESS_WIDE_SLOTS), ...slots.slice(0, ADDRESS_WIDE_SLOTS)]);
  taken.delete(ADDRESS_WIDE_SLOTS + 3);
  taken.delete(ADDRESS_WIDE_SLOTS + 9);
  expect(nextSlot(ADDRESS_WIDE_SLOTS + 3, isFree)).toBe(ADDRESS_WIDE_SLOTS + 9);
  expect(nextSlot(ADDRESS_WIDE_SLOTS + 9, isFree)).toBe(ADDRESS_WIDE_SLOTS + 3);
  expect(nextSlot(7, isFree)).toBe(ADDRESS_WIDE_SLOTS + 3);
});
