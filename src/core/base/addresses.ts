/**
 * Addresses of maps. A session's slot determines the address at which all its processes have the map.
 *
 * The address must be free in every program: far from where Linux puts programs, heaps, stacks and libraries.
 * Sanitizers restrict it further. AddressSanitizer has its shadow memory below 16 TiB, and ThreadSanitizer allows
 * memory of the program in four ranges only, of which the one for position-independent programs, 0x5500_0000_0000 to
 * 0x5680_0000_0000, has room at its beginning: Linux puts programs at 0x5555_5555_4000 and above. So there are two
 * ranges of slots. The narrow slots, in that range, suit all tools and hold maps of up to 4 GiB; the wide range has
 * more slots.
 */
import {
  ADDRESS_FIRST,
  ADDRESS_NARROW_FIRST,
  ADDRESS_NARROW_SLOTS,
  ADDRESS_NARROW_STRIDE,
  ADDRESS_SLOTS,
  ADDRESS_STRIDE,
  ADDRESS_WIDE_SLOTS,
} from "./limits.ts";

/** The address of a slot's map. */
export function addressOf(slot: number): number {
  if (slot < ADDRESS_WIDE_SLOTS) return ADDRESS_FIRST + slot * ADDRESS_STRIDE;
  return ADDRESS_NARROW_FIRST + (slot - ADDRESS_WIDE_SLOTS) * ADDRESS_NARROW_STRIDE;
}

/** The slot of a map at `address`, or -1. */
export function slotOf(address: number): number {
  const wide = (address - ADDRESS_FIRST) / ADDRESS_STRIDE;
  if (Number.isSafeInteger(wide) && wide >= 0 && wide < ADDRESS_WIDE_SLOTS) return wide;
  const narrow = (address - ADDRESS_NARROW_FIRST) / ADDRESS_NARROW_STRIDE;
  if (Number.isSafeInteger(narrow) && narrow >= 0 && narrow < ADDRESS_NARROW_SLOTS) return ADDRESS_WIDE_SLOTS + narrow;
  return -1;
}

/**
 * The next slot after `last` for which `isFree`, or -1: a narrow one while there are any. Round robin, so that a slot
 * stays unused as long as possible: a process that left a session keeps its map's addresses.
 */
export function nextSlot(last: number, isFree: (slot: number) => boolean): number {
  for (const [first, count] of [
    [ADDRESS_WIDE_SLOTS, ADDRESS_NARROW_SLOTS],
    [0, ADDRESS_WIDE_SLOTS],
  ] as const) {
    const start = last >= first && last < first + count ? last - first + 1 : 0;
    for (let tried = 0; tried < count; tried++) {
      const slot = first + ((start + tried) % count);
      if (isFree(slot)) return slot;
    }
  }
  return -1;
}

if (addressOf(ADDRESS_SLOTS) > 0x5555_5555_4000) throw new Error("addresses: the narrow slots reach into programs");
