/** The clock that all processes of a host share, and that goes on while the host sleeps. */
import { dlopen, ptr } from "bun:ffi";

const CLOCK_BOOTTIME = 7;

/** Milliseconds of CLOCK_BOOTTIME, whole. */
export type BootClock = () => number;

function makeClock(): BootClock {
  const { clock_gettime } = dlopen("libc.so.6", {
    clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  }).symbols;
  /** struct timespec: seconds and nanoseconds. */
  const time = new BigInt64Array(2);
  const address = ptr(time);
  return () => {
    clock_gettime(CLOCK_BOOTTIME, address);
    return Number(time[0]) * 1000 + Math.floor(Number(time[1]) / 1_000_000);
  };
}

/** Null where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs. */
export const bootTime_ms: BootClock | null = (() => {
  try {
    return makeClock();
  } catch {
    return null;
  }
})();
