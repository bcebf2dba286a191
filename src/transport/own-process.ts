/**
 * Identifies this process to others on its host, and tells whether an identified process has ended. A process id is
 * valid in one PID namespace only, and a start time in one time namespace, so the identity includes both namespaces.
 * Nothing is known of a process in another namespace.
 */
import { readFileSync, readlinkSync } from "node:fs";
import { formatProcess, parseProcess, startOf } from "../core/launch/process.ts";

const read = (file: () => string): string => {
  try {
    return file();
  } catch {
    return "";
  }
};
const readStat = (pid: number | "self"): string => read(() => readFileSync(`/proc/${pid}/stat`, "latin1"));

/** isOwnProc returns whether /proc belongs to our own PID namespace: it may have been mounted in another one. */
export function isOwnProc(status = read(() => readFileSync("/proc/self/status", "latin1"))): boolean {
  // All the ids of this process from the namespace of /proc to its own. A kernel without namespaces says nothing.
  const ids = /^NSpid:(.*)$/m.exec(status)?.[1]?.trim().split(/\s+/);
  return ids === undefined ? status !== "" : ids.length === 1;
}

const BOOT = read(() => readFileSync("/proc/sys/kernel/random/boot_id", "latin1")).trim();
const NAMESPACES = ["pid", "time"].map((kind) => read(() => readlinkSync(`/proc/self/ns/${kind}`))).join(",");

/** ownProcess returns the identity of this process, or "" if /proc does not tell. */
export function ownProcess(): string {
  const start = isOwnProc() ? startOf(readStat("self")) : null;
  if (start === null || BOOT === "" || NAMESPACES.startsWith(",")) return "";
  return formatProcess({ boot: BOOT, namespace: NAMESPACES, pid: process.pid, start });
}

/** The kernel's name of the initial PID namespace, which lasts until shutdown. */
const FIRST_NAMESPACE = "pid:[4026531836]";

/** Whether all processes of our PID namespace end with its first one, as in a container. */
export const isContained = !NAMESPACES.startsWith(`${FIRST_NAMESPACE},`) && !NAMESPACES.startsWith(",");

/** isInside returns whether the process is in our PID namespace. */
export function isInside(text: string): boolean {
  const identity = parseProcess(text);
  if (identity === null) return false;
  const [pid] = identity.namespace.split(",");
  return identity.boot === BOOT && NAMESPACES.startsWith(`${pid},`);
}

/** hasEnded returns whether the process is known to have ended. False: it lives, or is in another namespace. */
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
