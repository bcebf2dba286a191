/** The replica's file in /dev/shm: made with all its memory reserved, found again by nobody once its arbiter is gone. */
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statfsSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename } from "node:path";
import { DsmError, systemCode } from "../core/errors.ts";
import { PAGE_SIZE } from "../core/limits.ts";
import { formatProcess, isOver, statFields } from "../core/process.ts";
import { RING_HEADER_SIZE, RING_SIZE } from "../core/protocol.ts";
import { formatSize, pageRound } from "../core/size.ts";

const DIRECTORY = "/dev/shm";
/** The file's memory is reserved by writing it in pieces of this size. */
const PIECE = 4 << 20;

export interface MapFile {
  path: string;
  bytes: Uint8Array;
  /** A byte for each page, behind the map: not 0 once an atomic operation was executed there. */
  atomics: Uint8Array;
  /** Behind the marks, in a session of the order `pipelined`: the ring's header and data. */
  ring: Uint8Array | null;
}

/** dsm-USER-KEY-PID-START: the last two name the arbiter it belongs to, so that a file whose arbiter died is known. */
function mapPrefix(): string {
  return `dsm-${process.getuid?.() ?? 0}-`;
}

/** Start time of a process in clock ticks since boot (field 22 of stat), or null when none with that id is alive. */
export function startTime(pid: number): string | null {
  try {
    const fields = statFields(readFileSync(`/proc/${pid}/stat`, "latin1"));
    // One that has ended is still listed until its parent has collected it. So is a first thread that ended before the
    // others, and then they are listed too.
    return isOver(fields[0]) && readdirSync(`/proc/${pid}/task`).length <= 1 ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}

/** This process, as others on this host may know it. "": /proc does not say. */
export function ownProcess(): string {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
    const namespace = readlinkSync("/proc/self/ns/pid");
    const start = startTime(process.pid);
    return start === null ? "" : formatProcess({ boot, namespace, pid: process.pid, start });
  } catch {
    return "";
  }
}

/** Removes the files of arbiters that were killed before they could. */
export function removeStaleMaps(): void {
  const prefix = mapPrefix();
  for (const name of readdirSync(DIRECTORY)) {
    if (!name.startsWith(prefix)) continue;
    const [, , , pid, start] = name.split("-");
    if (pid === undefined || start === undefined || startTime(Number(pid)) === start) continue;
    removeFile(`${DIRECTORY}/${name}`);
  }
}

/** Creates the map, zeroed, every page of it in memory: a full /dev/shm is an error here and never a SIGBUS later. */
export function createMap(key: string, mapSize: number, withRing: boolean): MapFile {
  const marksEnd = mapSize + pageRound(mapSize / PAGE_SIZE);
  const size = marksEnd + (withRing ? RING_HEADER_SIZE + RING_SIZE : 0);
  const { bavail, bsize } = statfsSync(DIRECTORY);
  if (bavail * bsize < size) throw noRoom(size, bavail * bsize);
  const path = `${DIRECTORY}/${mapPrefix()}${key}-${process.pid}-${startTime(process.pid) ?? "0"}`;
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
  try {
    const zeros = new Uint8Array(Math.min(PIECE, size));
    for (let at = 0; at < size; ) at += writeSync(fd, zeros, 0, Math.min(zeros.length, size - at), at);
    // Several mappings: one buffer cannot hold the largest map and what is behind it.
    return {
      path,
      bytes: Bun.mmap(path, { shared: true, size: mapSize }),
      atomics: Bun.mmap(path, { shared: true, offset: mapSize, size: marksEnd - mapSize }),
      ring: withRing ? Bun.mmap(path, { shared: true, offset: marksEnd }) : null,
    };
  } catch (error) {
    removeFile(path);
    if ((error as NodeJS.ErrnoException).code === "ENOSPC") throw noRoom(size, bavail * bsize);
    throw new DsmError(
      systemCode(error, "DSM_NO_MEMORY"),
      `cannot make a map of ${formatSize(size)}: ${(error as Error).message}`,
    );
  } finally {
    closeSync(fd);
  }
}

function noRoom(size: number, room: number): DsmError {
  return new DsmError(
    "DSM_NO_MEMORY",
    `a map of ${formatSize(size)} does not fit in ${DIRECTORY} (${formatSize(room)} free); choose a smaller size`,
  );
}

/** Whether a process has the file mapped; true when that cannot be known. One that has become another program has not. */
export function mapsFile(pid: number, path: string): boolean {
  try {
    // A thread that has ended has nothing mapped, also the first one while others go on.
    return readdirSync(`/proc/${pid}/task`).some((task) =>
      readFileSync(`/proc/${pid}/task/${task}/maps`, "latin1").includes(basename(path)),
    );
  } catch {
    return true;
  }
}

/** Memory that a process shares with us: an anonymous file of that process, reached through its descriptor. */
export function openShared(pid: number, descriptor: number): Uint8Array | null {
  try {
    return Bun.mmap(`/proc/${pid}/fd/${descriptor}`, { shared: true });
  } catch {
    return null;
  }
}

/** Removes a file that somebody else may be removing too. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // Gone already.
  }
}
