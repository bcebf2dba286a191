/** Checks of the room for maps: in /dev/shm, and in memory as a whole. */
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { MOUNT_COMMAND, mapFileSize, TMPFS_MAGIC } from "../../arbiter/map-file.ts";
import { formatSize, pageRound } from "../../core/base/size.ts";
import { describeRoom, memoryRoom } from "../../transport/memory-room.ts";
import { type Finding, failureOf } from "./finding.ts";

/** Less room than this in /dev/shm deserves a warning; containers often have 64 MiB. */
const SHM_ROOM_MIN = 128 * 2 ** 20;
/** Memory that the roles need beside the maps. */
const ROLES_ROOM = 256 * 2 ** 20;

/** The session that is to fit. */
export interface Demand {
  /** Bytes of its map. */
  size: number;
  /** Nodes that it has on this machine. */
  nodes: number;
  /** Whether its order uses a ring (usesRing()), which needs a little more. */
  withRing: boolean;
}

/** The size of the file that a node's map is. */
export const fileSizeOf = ({ size, withRing }: Demand): number => mapFileSize(pageRound(size), withRing);

export function checkMemory(demand: Demand): Finding[] {
  return [checkSharedMemory(demand), checkRoom(demand)];
}

const mapsOf = ({ size, nodes }: Demand): string =>
  `${nodes === 1 ? "the map" : `the maps of ${nodes} nodes`}, ${formatSize(size)}${nodes === 1 ? "" : " each"},`;

function checkSharedMemory(demand: Demand): Finding {
  const check = "/dev/shm";
  const mount = `mount it: ${MOUNT_COMMAND}`;
  let free: number;
  let total: number;
  try {
    const stat = statfsSync("/dev/shm");
    if (stat.type !== TMPFS_MAGIC) {
      return { check, state: "failure", found: "it is not in memory (no tmpfs)", advice: mount };
    }
    free = stat.bavail * stat.bsize;
    total = stat.blocks * stat.bsize;
    rmSync(mkdtempSync("/dev/shm/dsm-doctor-"), { recursive: true });
  } catch (error) {
    const isReadOnly = (error as { code?: string }).code === "EROFS";
    return failureOf(check, error, isReadOnly ? "mount it writable: mount -o remount,rw /dev/shm" : mount);
  }
  const found = `${formatSize(free)} of ${formatSize(total)} are free`;
  const more = "give it more (docker run --shm-size=1g; mount -o remount,size=1g /dev/shm)";
  if (free < demand.nodes * fileSizeOf(demand)) {
    const advice = `${mapsOf(demand)} will not fit: ${more}, or choose a smaller --size`;
    return { check, state: "failure", found, advice };
  }
  if (free >= SHM_ROOM_MIN) return { check, state: "ok", found };
  return { check, state: "warning", found, advice: `every node of a session needs the session's size there: ${more}` };
}

function checkRoom(demand: Demand): Finding {
  const check = "memory";
  const room = memoryRoom();
  if (room === null) return { check, state: "ok", found: "the kernel does not say how much there is" };
  const found = `${formatSize(room.free)} of ${formatSize(room.limit)} are free${room.group === null ? "" : ` in ${room.group}`}`;
  const maps = demand.nodes * fileSizeOf(demand);
  if (room.free < maps) {
    return { check, state: "failure", found, advice: `${mapsOf(demand)} will not fit: ${describeRoom(room)}` };
  }
  // With several nodes the server has a copy, and may run here.
  const all = maps + ROLES_ROOM + (demand.nodes > 1 ? demand.size : 0);
  if (room.free >= all) return { check, state: "ok", found };
  const needs = `${mapsOf(demand)} the server's copy and dsm itself may need ${formatSize(all)}`;
  return { check, state: "warning", found, advice: `${needs}: ${describeRoom(room)}` };
}
