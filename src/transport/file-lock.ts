/**
 * File locks, which the kernel releases when their holder ends: they tell whether it lives, across PID namespaces.
 * Process ids do not: processes in two namespaces may have the same one.
 */
import { dlopen, ptr } from "bun:ffi";

const LOCK_EX = 2;
const LOCK_NB = 4;
const F_OFD_GETLK = 36;
const F_WRLCK = 1;
const F_UNLCK = 2;

export interface FileLocks {
  /** Locks the whole file (flock) for as long as this descriptor is open. False: another process has it locked. */
  lock(descriptor: number): boolean;
  /**
   * Returns whether another open file description holds a lock (F_OFD_SETLK) on the byte at `offset`; true if unknown.
   * The two kinds of lock are independent.
   */
  isHeld(descriptor: number, offset: number): boolean;
}

function makeLocks(): FileLocks {
  const { flock, fcntl } = dlopen("libc.so.6", {
    flock: { args: ["i32", "i32"], returns: "i32" },
    fcntl: { args: ["i32", "i32", "ptr"], returns: "i32" },
  }).symbols;
  /** struct flock: type, whence, start, length, pid. */
  const range = new DataView(new ArrayBuffer(32));
  const bytes = new Uint8Array(range.buffer);
  return {
    lock: (descriptor) => flock(descriptor, LOCK_EX | LOCK_NB) === 0,
    isHeld: (descriptor, offset) => {
      bytes.fill(0);
      range.setInt16(0, F_WRLCK, true);
      range.setBigInt64(8, BigInt(offset), true);
      range.setBigInt64(16, 1n, true);
      return fcntl(descriptor, F_OFD_GETLK, ptr(bytes)) !== 0 || range.getInt16(0, true) !== F_UNLCK;
    },
  };
}

/** Null where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs. */
export const fileLocks: FileLocks | null = (() => {
  try {
    return makeLocks();
  } catch {
    return null;
  }
})();
