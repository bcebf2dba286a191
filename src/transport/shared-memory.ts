/**
 * Memory that an arbiter and the server on its host share: an anonymous file of one, which the other opens by way of /proc.
 * The file cannot shrink, so nobody dies of reading where it ended.
 */
import { dlopen, ptr } from "bun:ffi";
import { randomBytes } from "node:crypto";
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readlinkSync } from "node:fs";
import { freeNow } from "../core/wire/frame-reader.ts";
import { LENT_SIZE, markOf, type Sharing } from "../core/wire/shared-parts.ts";

const NAME = "dsm-parts";
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
/** F_SEAL_SEAL, F_SEAL_SHRINK and F_SEAL_GROW. */
const SEALS = 7;

/** Null where Bun runs without its JIT (BUN_JSC_useJIT=0), which bun:ffi needs. */
function load() {
  try {
    return dlopen("libc.so.6", {
      memfd_create: { args: ["ptr", "u32"], returns: "i32" },
      fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
    }).symbols;
  } catch {
    return null;
  }
}

const map = (descriptor: number): Uint8Array<ArrayBuffer> =>
  Bun.mmap(`/proc/self/fd/${descriptor}`, { shared: true }) as Uint8Array<ArrayBuffer>;

function makeSharing({ memfd_create, fcntl }: NonNullable<ReturnType<typeof load>>): Sharing {
  return {
    create: () => {
      const name = Buffer.from(`${NAME}\0`);
      const descriptor = memfd_create(ptr(name), MFD_CLOEXEC | MFD_ALLOW_SEALING);
      if (descriptor < 0) return null;
      try {
        ftruncateSync(descriptor, LENT_SIZE);
        if (fcntl(descriptor, F_ADD_SEALS, SEALS) !== 0) throw new Error("the kernel does not seal files");
        const memory = map(descriptor);
        const mark = markOf(memory);
        mark.set(randomBytes(mark.length));
        return { pid: process.pid, descriptor, memory };
      } catch {
        closeSync(descriptor);
        return null;
      }
    },
    open: (pid, other, mark) => {
      const path = `/proc/${pid}/fd/${other}`;
      let descriptor = -1;
      try {
        // The number may mean something else where we are. Other kinds of files may not even be opened.
        if (!readlinkSync(path).startsWith(`/memfd:${NAME} `)) return null;
        descriptor = openSync(path, constants.O_RDWR);
        if (fstatSync(descriptor).size !== LENT_SIZE || (fcntl(descriptor, F_GET_SEALS, 0) & SEALS) !== SEALS)
          return null;
        const memory = map(descriptor);
        if (Buffer.compare(markOf(memory), mark) === 0) return memory;
        freeNow(memory);
        return null;
      } catch {
        return null;
      } finally {
        if (descriptor >= 0) closeSync(descriptor);
      }
    },
    close: freeNow,
  };
}

const library = load();
/** Null: memory cannot be shared here. */
export const sharing: Sharing | null = library === null ? null : makeSharing(library);
