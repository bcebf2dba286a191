/**
 * Which process this is, for others on its host, and whether one that said so has ended. A process id means something in one
 * process namespace only, and a start time in one time namespace: both are part of who a process is, and of a process in
 * another namespace nothing is known.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { formatProcess, parseProcess, startOf } from "../core/process.ts";

const read = (file: () => string): string => {
  try {
    return file();
  } catch {
    return "";
  }
};
const readStat = (pid: number | "self"): string => read(() => readFileSync(`/proc/${pid}/stat`, "latin1"));

/** Whether the numbers in /proc are those of our own process namespace: it may have been mounted in another one. */
export function isOwnProc(status = read(() => readFileSync("/proc/self/status", "latin1"))): boolean {
  // All the ids of this process from the namespace of /proc to its own. A kernel without namespaces says nothing.
  const ids = /^NSpid:(.*)$/m.exec(status)?.[1]?.trim().split(/\s+/);
  return ids === undefined ? status !== "" : ids.length === 1;
}

const BOOT = read(() => readFileSync("/proc/sys/kernel/random/boot_id", "latin1")).trim();
const NAMESPACES = ["pid", "time"].map((kind) => read(() => readlinkSync(`/proc/self/ns/${kind}`))).join(",");

/** This process, as others on this host may know it. "": /proc does not say. */
export function ownProcess(): string {
  const start = isOwnProc() ? startOf(readStat("self")) : null;
  if (start === null || BOOT === "" || NAMESPACES.startsWith(",")) return "";
  return formatProcess({ boot: BOOT, namespace: NAMESPACES, pid: process.pid, start });
}

/** The kernel's number of the process namespace that ends with the machine only. */
const FIRST_NAMESPACE = "pid:[4026531836]";

/** Whether all processes of our process namespace end when its first one does, as those of a container do. */
export const isContained = !NAMESPACES.startsWith(`${FIRST_NAMESPACE},`) && !NAMESPACES.startsWith(",");

/** Whether the process is in our process namespace. */
export function isInside(text: string): boolean {
  const identity = parseProcess(text);
  if (identity === null) return false;
  const [pid] = identity.namespace.split(",");
  return identity.boot === BOOT && NAMESPACES.startsWith(`${pid},`);
}

/** Whether the process is known to have ended. False: it lives, or it is none of ours to know. */
export function hasEnded(text: string): boolean {
  const identity = parseProcess(text);
  if (identity === null || identity.boot !== BOOT || identity.namespace !== NAMESPACES || !isOwnProc()) return false;
  try {
    process.kill(identity.pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
  const stat = readStat(identity.pid);
  return stat !== "" && startOf(stat) !== identity.start;
}
