/**
 * How much memory this process may still take: of the machine, and of the control groups that it is in, as in a
 * container or a service with a limit. The kernel kills a process that takes more, and leaves it no time for words.
 */
import { readFileSync } from "node:fs";
import { formatSize } from "../core/base/size.ts";
import { findGroups, type Groups } from "../core/launch/cgroup.ts";

export interface MemoryRoom {
  /** Bytes that can still be taken. */
  free: number;
  /** Bytes in all. */
  limit: number;
  /** The folder of the control group whose limit that is; null: the machine has no more. */
  group: string | null;
}

/** Reads a text file; null: it cannot be read. */
export type ReadText = (path: string) => string | null;

export const readText: ReadText = (path) => {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return null;
  }
};

/** The names of the files in a group's folder, by the version of the control groups. */
const FILES = {
  1: { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cache: /^total_(?:in)?active_file (\d+)$/gm },
  2: { limit: "memory.max", used: "memory.current", cache: /^(?:in)?active_file (\d+)$/gm },
} as const;
/** Version 1 has a number of this size where there is no limit. */
const NO_LIMIT = 2 ** 60;

/** The control groups that limit this process. Null: none does. */
export const groupsOf = (controller: "memory" | "pids", read: ReadText = readText): Groups | null =>
  findGroups(controller, read("/proc/self/cgroup") ?? "", read("/proc/self/mountinfo") ?? "");

/** The narrowest of all limits. Null: the kernel tells of none. */
export function memoryRoom(read: ReadText = readText): MemoryRoom | null {
  const machine = read("/proc/meminfo") ?? "";
  const swapFree = kibibytes(machine, "SwapFree") ?? 0;
  const rooms: MemoryRoom[] = [];
  const available = kibibytes(machine, "MemAvailable");
  const total = kibibytes(machine, "MemTotal");
  if (available !== null && total !== null) rooms.push({ free: available + swapFree, limit: total, group: null });
  const groups = groupsOf("memory", read);
  for (const folder of groups?.folders ?? []) {
    const { limit, used, cache } = FILES[(groups as { version: 1 | 2 }).version];
    const most = number(read(`${folder}/${limit}`));
    const taken = number(read(`${folder}/${used}`));
    if (most === null || taken === null || most >= NO_LIMIT) continue;
    // The kernel drops pages of files before it kills anything.
    const droppable = [...(read(`${folder}/memory.stat`) ?? "").matchAll(cache)];
    const kept = droppable.reduce((sum, [, bytes]) => sum - Number(bytes), taken);
    const swap = Math.min(swapFree, swapRoom(folder, most - taken, read));
    rooms.push({ free: Math.max(0, most - kept + swap), limit: most, group: folder });
  }
  return rooms.reduce<MemoryRoom | null>((least, room) => (least && least.free <= room.free ? least : room), null);
}

/** Bytes that the group may still put into swap. `room`: those that it may still take of its memory. */
function swapRoom(folder: string, room: number, read: ReadText): number {
  const [most, taken] = ["memory.swap.max", "memory.swap.current"].map((file) => read(`${folder}/${file}`));
  if (most !== null && most !== undefined) {
    const left = (number(most) ?? 0) - (number(taken ?? null) ?? 0);
    return most.trim() === "max" ? Number.POSITIVE_INFINITY : Math.max(0, left);
  }
  // Version 1 limits the sum of both.
  const sum = number(read(`${folder}/memory.memsw.limit_in_bytes`));
  const sumTaken = number(read(`${folder}/memory.memsw.usage_in_bytes`));
  if (sum === null || sumTaken === null || sum >= NO_LIMIT) return Number.POSITIVE_INFINITY;
  return Math.max(0, sum - sumTaken - room);
}

/** How many processes of this group the kernel has killed because its memory ran out. Null: it does not tell. */
export function killsForMemory(read: ReadText = readText): number | null {
  const groups = groupsOf("memory", read);
  if (groups === null) return null;
  const file = groups.version === 1 ? "memory.oom_control" : "memory.events";
  return number(/^oom_kill (\d+)$/m.exec(read(`${groups.folders[0]}/${file}`) ?? "")?.[1] ?? null);
}

/** Null: not a number, such as "max". */
function number(text: string | null): number | null {
  return text !== null && /^\d+\s*$/.test(text) ? Number(text) : null;
}

function kibibytes(meminfo: string, field: string): number | null {
  const text = new RegExp(`^${field}:\\s*(\\d+) kB$`, "m").exec(meminfo)?.[1];
  return text === undefined ? null : Number(text) * 1024;
}

/** Names the limit, and what to do about it. */
export function describeRoom({ limit, group }: MemoryRoom): string {
  const smaller = "choose a smaller --size";
  return group === null
    ? `this machine has ${formatSize(limit)} of memory; ${smaller}`
    : `the memory of this container or service is limited to ${formatSize(limit)} (${group}); raise that limit (docker ` +
        `run --memory, MemoryMax=), or ${smaller}`;
}
