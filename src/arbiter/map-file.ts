/**
 * The replica's file in /dev/shm: created with all its memory reserved, and never reused once its arbiter is gone.
 *
 * An arbiter holds a lock on its file from before it writes any bytes until it has removed the file, so a file without
 * a lock is left over from a killed arbiter. A lock shows that across process namespaces, where process ids do not.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { DsmError, systemCode } from "../core/base/errors.ts";
import { PAGE_SIZE } from "../core/base/limits.ts";
import { formatSize, pageRound } from "../core/base/size.ts";
import { LOCK_CELLS_SIZE } from "../core/wire/cell-layout.ts";
import { RING_HEADER_SIZE, RING_SIZE } from "../core/wire/ring-layout.ts";
import { fileLocks } from "../transport/file-lock.ts";

const DIRECTORY = "/dev/shm";
/** The file's memory is reserved by writing it in pieces of this size. */
const PIECE = 4 << 20;
/** New names to try: arbiters that look for stale files may take a new file for one before it is locked. */
const ATTEMPTS = 100;

export interface MapFile {
  path: string;
  /** Holds the lock that shows that this arbiter is alive. */
  descriptor: number;
  bytes: Uint8Array;
  /** One byte for each page, behind the map: not 0 once an atomic operation was executed in that page. */
  atomics: Uint8Array;
  /** The lock cells, behind all else. */
  lockCells: Uint8Array;
  /** The ring's header and data, behind the page marks, in a session of the order `pipelined`. */
  ring: Uint8Array | null;
}

/** dsm-USER-KEY-RANDOM. Without locks, which need bun:ffi, -unlocked follows: such a file never counts as stale. */
const prefix = `dsm-${process.getuid?.() ?? 0}-`;
const lockedName = new RegExp(`^${prefix}[^-]+-[0-9a-f]{16}$`);

/** Removes the files of arbiters that were killed. */
export function removeStaleMaps(): void {
  if (fileLocks === null) return;
  for (const name of readdirSync(DIRECTORY)) {
    if (!lockedName.test(name)) continue;
    const path = `${DIRECTORY}/${name}`;
    let descriptor: number;
    try {
      descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch {
      // The file is gone, or belongs to another user.
      continue;
    }
    // Only the arbiter that has the lock, and still finds the file under its name, removes it.
    if (fileLocks.lock(descriptor) && isNamed(descriptor, path)) removeFile(path);
    closeSync(descriptor);
  }
}

/** Whether the open file is a regular file of this user, and still has that name. */
function isNamed(descriptor: number, path: string): boolean {
  const open = fstatSync(descriptor);
  if (!open.isFile() || open.uid !== process.geteuid?.()) return false;
  try {
    const named = lstatSync(path);
    return named.ino === open.ino && named.dev === open.dev;
  } catch {
    return false;
  }
}

/** Creates an empty file of a new name, locked. Throws when that fails. */
function createLocked(key: string): { path: string; descriptor: number } {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    const suffix = fileLocks === null ? "-unlocked" : "";
    const path = `${DIRECTORY}/${prefix}${key}-${randomBytes(8).toString("hex")}${suffix}`;
    const descriptor = openSync(path, flags, 0o600);
    // Another arbiter may have seen the file before it was locked: then the file is, or will be, removed.
    if (fileLocks === null || (fileLocks.lock(descriptor) && isNamed(descriptor, path))) return { path, descriptor };
    closeSync(descriptor);
  }
  throw new DsmError("DSM_AGAIN", `other arbiters remove each new file of this one from ${DIRECTORY}; try again`);
}

/** Creates the map, zeroed, with every page in memory: a full /dev/shm is an error here and never a SIGBUS later. */
export function createMap(key: string, mapSize: number, withRing: boolean): MapFile {
  const marksEnd = mapSize + pageRound(mapSize / PAGE_SIZE);
  const ringEnd = marksEnd + (withRing ? RING_HEADER_SIZE + RING_SIZE : 0);
  const size = ringEnd + LOCK_CELLS_SIZE;
  const { bavail, bsize } = statfsSync(DIRECTORY);
  if (bavail * bsize < size) throw noRoom(size, bavail * bsize);
  const { path, descriptor } = createLocked(key);
  try {
    const zeros = new Uint8Array(Math.min(PIECE, size));
    for (let at = 0; at < size; ) at += writeSync(descriptor, zeros, 0, Math.min(zeros.length, size - at), at);
    // Several mappings, because one buffer cannot hold the largest map and the data behind it.
    return {
      path,
      descriptor,
      bytes: Bun.mmap(path, { shared: true, size: mapSize }),
      atomics: Bun.mmap(path, { shared: true, offset: mapSize, size: marksEnd - mapSize }),
      ring: withRing ? Bun.mmap(path, { shared: true, offset: marksEnd, size: ringEnd - marksEnd }) : null,
      lockCells: Bun.mmap(path, { shared: true, offset: ringEnd, size: LOCK_CELLS_SIZE }),
    };
  } catch (error) {
    removeFile(path);
    closeSync(descriptor);
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") throw noRoom(size, bavail * bsize);
    throw new DsmError(
      systemCode(error, "DSM_NO_MEMORY"),
      `cannot make a map of ${formatSize(size)}: ${(error as Error).message}`,
    );
  }
}

function noRoom(size: number, room: number): DsmError {
  return new DsmError(
    "DSM_NO_MEMORY",
    `a map of ${formatSize(size)} does not fit in ${DIRECTORY} (${formatSize(room)} free); choose a smaller size`,
  );
}

/** Removes the map's file. Existing mappings stay, here and in the processes. */
export function removeMap({ path, descriptor }: MapFile): void {
  removeFile(path);
  closeSync(descriptor);
}

/** Removes a file that another process may be removing, too. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // The file is already gone.
  }
}
