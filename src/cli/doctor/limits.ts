/** Checks of what this process may have: open files, processes and threads, addresses, size of files. */
import { readdirSync } from "node:fs";
import { DESCRIPTORS_RESERVE } from "../../core/base/limits.ts";
import { formatSize } from "../../core/base/size.ts";
import { groupsOf, readText } from "../../transport/memory-room.ts";
import { connectionsMax } from "../settings/connections-max.ts";
import { type Finding, failureOf } from "./finding.ts";

/** Processes and threads that a session of one script needs beside `dsm run`: script, arbiter, server and daemon. */
const TASKS_MIN = 32;
/** With less than this, a second or third program finds no room. */
const TASKS_FEW = 128;
/** Connections that each process and thread may need. */
const CONNECTIONS_FEW = 64;
/** dsm and scripts reserve 7 GiB of addresses, without using them. */
const ADDRESSES_FEW = 8 * 2 ** 30;
const DATA_FEW = 2 ** 30;
/** Libraries that are put into the cache are smaller. */
const FILE_MIN = 16 * 2 ** 20;

/** `fileSize`: that of a node's map. */
export function checkLimits(fileSize: number): Finding[] {
  return [checkFiles(), checkTasks(), checkAddressSpace(), checkFileSize(fileSize)];
}

/** The soft limit of that name in /proc/self/limits; Infinity: none. */
function softLimit(name: string): number {
  const text = new RegExp(`^${name}\\s+(\\S+)`, "m").exec(readText("/proc/self/limits") ?? "")?.[1];
  return text === undefined || text === "unlimited" ? Number.POSITIVE_INFINITY : Number(text);
}

function checkFiles(): Finding {
  const check = "open files";
  const advice = "each process and waiting thread of a node needs one or two: raise the limit with ulimit -n";
  try {
    const connections = connectionsMax("arbiter");
    if (connections === Number.POSITIVE_INFINITY) return { check, state: "ok", found: "unlimited" };
    const found = `${connections + DESCRIPTORS_RESERVE}, enough for ${connections} connections of a node`;
    return connections < CONNECTIONS_FEW ? { check, state: "warning", found, advice } : { check, state: "ok", found };
  } catch (error) {
    return failureOf(check, error, advice);
  }
}

/** Linux counts threads as it does processes. */
function checkTasks(): Finding {
  const check = "processes";
  const rooms = groupRooms();
  const user = process.getuid?.() ?? 0;
  const most = softLimit("Max processes");
  // Root may have any number.
  if (user !== 0 && most !== Number.POSITIVE_INFINITY) {
    const used = tasksOf(user);
    const words = `this user may have ${most} processes and threads (ulimit -u), and has ${used}`;
    rooms.push({ free: most - used, words, advice: "raise it with ulimit -u, or end some" });
  }
  const least = rooms.reduce<TaskRoom | null>((one, other) => (one && one.free <= other.free ? one : other), null);
  if (least === null) return { check, state: "ok", found: "unlimited" };
  const { free, words: found, advice } = least;
  if (free >= TASKS_FEW) return { check, state: "ok", found };
  const needs = `a session of one script needs ${TASKS_MIN} more, and each further script 8: ${advice}`;
  return { check, state: free < TASKS_MIN ? "failure" : "warning", found, advice: needs };
}

interface TaskRoom {
  free: number;
  words: string;
  advice: string;
}

/** The limits of containers and services. */
function groupRooms(): TaskRoom[] {
  const groups = groupsOf("pids");
  return (groups?.folders ?? []).flatMap((folder): TaskRoom[] => {
    const [most, used] = ["pids.max", "pids.current"].map((file) => Number(readText(`${folder}/${file}`) ?? "none"));
    if (most === undefined || used === undefined || !Number.isFinite(most) || !Number.isFinite(used)) return [];
    const words = `this container or service may have ${most} processes and threads (${folder}), and has ${used}`;
    return [{ free: most - used, words, advice: "raise that limit (docker run --pids-limit, TasksMax=)" }];
  });
}

/** Processes and threads of the user, as far as /proc shows them. */
function tasksOf(user: number): number {
  let count = 0;
  for (const name of readdirSync("/proc")) {
    const status = /^\d+$/.test(name) ? readText(`/proc/${name}/status`) : null;
    if (status === null || Number(/^Uid:\s*(\d+)/m.exec(status)?.[1]) !== user) continue;
    count += Number(/^Threads:\s*(\d+)/m.exec(status)?.[1] ?? 1);
  }
  return count;
}

function checkAddressSpace(): Finding {
  const check = "address space";
  for (const [name, letter, few] of [
    ["Max address space", "v", ADDRESSES_FEW],
    ["Max data size", "d", DATA_FEW],
  ] as const) {
    const limit = softLimit(name);
    if (limit === Number.POSITIVE_INFINITY) continue;
    const found = `limited to ${formatSize(limit)} (ulimit -${letter})`;
    const needs =
      limit < few ? `dsm and scripts may not start with less than ${formatSize(few)}` : "maps count against it";
    return { check, state: "warning", found, advice: `${needs}: lift it with ulimit -${letter} unlimited` };
  }
  return { check, state: "ok", found: "unlimited" };
}

function checkFileSize(size: number): Finding {
  const check = "size of files";
  const limit = softLimit("Max file size");
  if (limit === Number.POSITIVE_INFINITY) return { check, state: "ok", found: "unlimited" };
  const found = `limited to ${formatSize(limit)} (ulimit -f)`;
  if (limit >= Math.max(size, FILE_MIN)) return { check, state: "ok", found };
  return { check, state: "failure", found, advice: "a map is a file: lift the limit with ulimit -f unlimited" };
}

/** What these checks find amiss, in one line, for a process that could not begin. Null: nothing. */
export function shortage(): string | null {
  const finding = checkLimits(0).find(({ state }) => state !== "ok");
  return finding === undefined ? null : `${finding.check}: ${finding.found}; ${finding.advice}`;
}
