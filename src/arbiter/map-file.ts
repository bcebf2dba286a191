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
import { type DsmCode, DsmError, systemCode } from "../core/base/errors.ts";
import { PAGE_SIZE } from "../core/base/limits.ts";
import { formatSize, pageRound } from "../core/base/size.ts";
import { CELLS_SIZE } from "../core/wire/cell-layout.ts";
import { RING_HEADER_SIZE, RING_SIZE } from "../core/wire/ring-layout.ts";
import { fileLocks } from "../transport/file-lock.ts";
import { describeRoom, memoryRoom } from "../transport/memory-room.ts";

const DIRECTORY = "/dev/shm";
/** The type of file system that statfs() tells of. */
export const TMPFS_MAGIC = 0x01021994;
export const MOUNT_COMMAND = `mount -t tmpfs -o mode=1777 tmpfs ${DIRECTORY}`;
/** Arbiters that may write their maps at once: none takes more of what is spare before it looks again. */
const MEMORY_WRITERS = 4;
/** Memory that the roles themselves may need while the map is written. */
const MEMORY_RESERVE = 16 << 20;
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
  /** The cells, behind all else. */
  cells: Uint8Array;
  /** The ring's header and data, behind the page marks, in a session whose order uses it. */
  ring: Uint8Array | null;
}

/** dsm-USER-KEY-RANDOM. Without locks, which need bun:ffi, -unlocked follows: such a file never counts as stale. */
const prefix = `dsm-${process.getuid?.() ?? 0}-`;
const lockedName = new RegExp(`^${prefix}[^-]+-[0-9a-f]{16}$`);

/** Removes the files of arbiters that were killed. */
export function removeStaleMaps(): void {
  for (const name of namesThere()) if (lockedName.test(name)) removeUnlocked(`${DIRECTORY}/${name}`);
}

/** Removes a file of this user that no living process has locked. */
export function removeUnlocked(path: string): void {
  if (fileLocks === null) return;
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    // The file is gone, or belongs to another user.
    return;
  }
  // Only the process that has the lock, and still finds the file under its name, removes it.
  if (fileLocks.lock(descriptor) && isNamed(descriptor, path)) removeFile(path);
  closeSync(descriptor);
}

/** createMap() says what is wrong with the folder. */
function namesThere(): string[] {
  try {
    return readdirSync(DIRECTORY);
  } catch {
    return [];
  }
}

/** Users that have a map of this arbiter's session and node on this host, after stale ones have been removed. */
export function usersOfMaps(key: string): number[] {
  const users = namesThere().map(
    (name) => new RegExp(`^dsm-(\\d+)-${key}-[0-9a-f]{16}(?:-unlocked)?$`).exec(name)?.[1],
  );
  return [...new Set(users.flatMap((user) => (user === undefined ? [] : [Number(user)])))];
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

/**
 * The size of a map's file: the map, a byte for each of its pages, the ring if the order uses it, and the cells.
 */
export function mapFileSize(mapSize: number, withRing: boolean): number {
  return endOfRing(mapSize, withRing) + CELLS_SIZE;
}

const endOfRing = (mapSize: number, withRing: boolean): number =>
  endOfMarks(mapSize) + (withRing ? RING_HEADER_SIZE + RING_SIZE : 0);

const endOfMarks = (mapSize: number): number => mapSize + pageRound(mapSize / PAGE_SIZE);

/** Creates the map, zeroed, with every page in memory: a full /dev/shm is an error here and never a SIGBUS later. */
export function createMap(key: string, mapSize: number, withRing: boolean): MapFile {
  const marksEnd = endOfMarks(mapSize);
  const ringEnd = endOfRing(mapSize, withRing);
  const size = mapFileSize(mapSize, withRing);
  const { bavail, bsize, blocks, type } = attempt(size, () => statfsSync(DIRECTORY));
  const room = { free: bavail * bsize, total: blocks * bsize };
  if (room.free < size && type !== TMPFS_MAGIC) throw failed(size, "it is not in memory", MOUNT);
  if (room.free < size) throw noRoom(size, room.free, room.total);
  let checkAt = checkMemory(size, 0) / MEMORY_WRITERS;
  const { path, descriptor } = attempt(size, () => createLocked(key));
  let written = 0;
  try {
    const zeros = new Uint8Array(Math.min(PIECE, size));
    while (written < size) {
      if (written >= checkAt) checkAt = written + checkMemory(size, written) / MEMORY_WRITERS;
      written += writeSync(descriptor, zeros, 0, Math.min(zeros.length, size - written), written);
    }
    // Several mappings, because one buffer cannot hold the largest map and the data behind it.
    return {
      path,
      descriptor,
      bytes: Bun.mmap(path, { shared: true, size: mapSize }),
      atomics: Bun.mmap(path, { shared: true, offset: mapSize, size: marksEnd - mapSize }),
      ring: withRing ? Bun.mmap(path, { shared: true, offset: marksEnd, size: ringEnd - marksEnd }) : null,
      cells: Bun.mmap(path, { shared: true, offset: ringEnd, size: CELLS_SIZE }),
    };
  } catch (error) {
    removeFile(path);
    closeSync(descriptor);
    // Another arbiter has taken room meanwhile: what this one got is all there was.
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") throw noRoom(size, written, room.total);
    throw error instanceof DsmError ? error : notMade(error, size);
  }
}

function attempt<Value>(size: number, act: () => Value): Value {
  try {
    return act();
  } catch (error) {
    throw error instanceof DsmError ? error : notMade(error, size);
  }
}

const MOUNT = `mount it: ${MOUNT_COMMAND}`;
/** What to do about errors of the system. */
const ADVICE: { [code: string]: string } = {
  EROFS: `mount it writable: mount -o remount,rw ${DIRECTORY}`,
  EACCES: `let all users write there: chmod 1777 ${DIRECTORY}`,
  ENOENT: MOUNT,
  ENOTDIR: MOUNT,
  EFBIG: "lift the limit of files with ulimit -f unlimited",
  EMFILE: "raise the limit of open files with ulimit -n",
};

/** `error`: of the system. Without a code it is that of mmap. */
function notMade(error: unknown, size: number): DsmError {
  const advice = ADVICE[(error as NodeJS.ErrnoException).code ?? ""];
  const code = systemCode(error, advice === undefined ? "DSM_NO_MEMORY" : "DSM_SYSTEM");
  return failed(
    size,
    (error as Error).message,
    advice ?? "choose a smaller --size, or lift the limit of the address space with ulimit -v unlimited",
    code,
  );
}

function failed(size: number, why: string, advice: string, code: DsmCode = "DSM_SYSTEM"): DsmError {
  return new DsmError(code, `cannot make a map of ${formatSize(size)} in ${DIRECTORY}: ${why}; ${advice}`);
}

function noRoom(size: number, free: number, total: number): DsmError {
  return new DsmError(
    "DSM_NO_MEMORY",
    `a map of ${formatSize(size)} does not fit in ${DIRECTORY}, where ${formatSize(free)} of ${formatSize(total)} are ` +
      "free and each node needs a map of its own; choose a smaller --size, or give it more room (docker run --shm-size)",
  );
}

/**
 * Checks that the rest of the map, of which `written` bytes exist, fits in memory: otherwise the kernel would kill this
 * process. Returns the bytes that remain free then.
 */
function checkMemory(size: number, written: number): number {
  const room = memoryRoom();
  if (room === null) return Number.POSITIVE_INFINITY;
  const spare = room.free - (size - written) - MEMORY_RESERVE;
  if (spare >= 0) return spare;
  throw new DsmError(
    "DSM_NO_MEMORY",
    `a map of ${formatSize(size)} does not fit in memory, of which ${formatSize(room.free + written)} are free: ` +
      describeRoom(room),
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
