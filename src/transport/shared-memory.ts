/**
 * Memory shared by an arbiter and the server on its host: an anonymous file of one, which the other opens through
 * /proc. The file cannot shrink, so no reader gets SIGBUS.
 */
import { dlopen, ptr } from "bun:ffi";
import { randomBytes } from "node:crypto";
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readlinkSync } from "node:fs";
import { detachBuffer } from "../core/wire/frame-reader.ts";
import { nonceOf, SHARED_PARTS_SIZE, type Sharing } from "../core/wire/shared-parts.ts";

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

const library = load();

/** mapDescriptor maps a part of a file of this process, or all of it without `size`. Throws if mapping fails. */
export function mapDescriptor(descriptor: number, offset = 0, size?: number): Uint8Array<ArrayBuffer> {
  const part = size === undefined ? {} : { offset, size };
  return Bun.mmap(`/proc/self/fd/${descriptor}`, { shared: true, ...part }) as Uint8Array<ArrayBuffer>;
}

/** sealedFile returns the descriptor of a new anonymous file, sealed at that size, or null if it cannot be created. */
export function sealedFile(name: string, size: number): number | null {
  if (library === null) return null;
  const descriptor = library.memfd_create(ptr(Buffer.from(`${name}\0`)), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (descriptor < 0) return null;
  try {
    ftruncateSync(descriptor, size);
    if (library.fcntl(descriptor, F_ADD_SEALS, SEALS) === 0) return descriptor;
  } catch {
    // Out of memory.
  }
  closeSync(descriptor);
  return null;
}

function makeSharing({ fcntl }: NonNullable<typeof library>): Sharing {
  return {
    create: () => {
      const descriptor = sealedFile(NAME, SHARED_PARTS_SIZE);
      if (descriptor === null) return null;
      try {
        const memory = mapDescriptor(descriptor);
        const mark = nonceOf(memory);
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
        // In another process namespace the number is another process's: only the mark proves that this is what was
        // offered; without it the parts travel over the link. Other kinds of files may not even be opened.
        if (!readlinkSync(path).startsWith(`/memfd:${NAME} `)) return null;
        descriptor = openSync(path, constants.O_RDWR);
        if (fstatSync(descriptor).size !== SHARED_PARTS_SIZE || (fcntl(descriptor, F_GET_SEALS, 0) & SEALS) !== SEALS)
          return null;
        const memory = mapDescriptor(descriptor);
        if (Buffer.compare(nonceOf(memory), mark) === 0) return memory;
        detachBuffer(memory);
        return null;
      } catch {
        return null;
      } finally {
        if (descriptor >= 0) closeSync(descriptor);
      }
    },
    close: detachBuffer,
  };
}

/** Null: memory cannot be shared here. */
export const sharing: Sharing | null = library === null ? null : makeSharing(library);
