/** The clocks by which the processes of a host time their leases: read by the arbiter here, by libdsm in cells.c. */
import { dlopen, ptr } from "bun:ffi";
import type { LeaseTime } from "../core/replica/cells/leases.ts";

const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;

function makeClock(): () => LeaseTime {
  const { clock_gettime } = dlopen("libc.so.6", {
    clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  }).symbols;
  /** struct timespec: seconds and nanoseconds. */
  const time = new BigInt64Array(2);
  const address = ptr(time);
  const read_ms = (clock: number): number => {
    clock_gettime(clock, address);
    return Number(time[0]) * 1000 + Math.floor(Number(time[1]) / 1_000_000);
  };
  return () => ({ monotonic_ms: read_ms(CLOCK_MONOTONIC), real_ms: read_ms(CLOCK_REALTIME) });
}

/** Null where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs. */
export const leaseTime: (() => LeaseTime) | null = (() => {
  try {
    return makeClock();
  } catch {
    return null;
  }
})();
