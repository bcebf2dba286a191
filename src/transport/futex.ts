/** Futexes in memory that processes share: waking the threads that sleep on a word. */
import { dlopen, ptr } from "bun:ffi";

const SYS_FUTEX = 202;
const FUTEX_WAKE = 1;
const ALL = 0x7fffffff;

/** Wakes all threads that sleep on the word at byte `at` of the memory. */
export type WakeFutex = (memory: Uint8Array, at: number) => void;

function makeWake(): WakeFutex {
  const { syscall } = dlopen("libc.so.6", {
    syscall: { args: ["i64", "ptr", "i64", "i64", "i64", "i64", "i64"], returns: "i64" },
  }).symbols;
  return (memory, at) => {
    syscall(SYS_FUTEX, ptr(memory, at), FUTEX_WAKE, ALL, 0, 0, 0);
  };
}

/** Where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs, it does nothing: sleepers look again soon. */
export const wakeFutex: WakeFutex = (() => {
  try {
    return makeWake();
  } catch {
    return () => {};
  }
})();
