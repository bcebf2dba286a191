/** Groups of processes: each rank leads one, so that a signal reaches all it has started. */
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { isOver, statFields } from "../core/process.ts";
import { isOwnProc } from "../link/own-process.ts";

/** Signals without a name, the real-time ones, come as numbers. */
export function signalNumber(signal: NodeJS.Signals | number): number {
  return typeof signal === "number" ? signal : (constants.signals[signal] ?? 0);
}

export function signalGroup(leader: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-leader, signal);
  } catch {
    return false;
  }
}

/** Whether any process of their groups lives. A dead one stays in its group until its parent has collected it. */
export function anyLives(leaders: readonly number[]): boolean {
  const groups = new Set(leaders.filter((leader) => signalGroup(leader, 0)));
  if (groups.size === 0) return false;
  // Where /proc counts processes in another way than we do, nothing tells the dead from the living.
  if (!OWN_PROC) return true;
  return readdirSync("/proc").some((name) => {
    const stat = /^\d+$/.test(name) ? readStat(name) : null;
    return stat !== null && groups.has(stat.group) && !stat.dead;
  });
}

/** Whether the process has ended, or is about to: the kernel marks it before it closes any of its files. */
export function isEnding(pid: number): boolean {
  if (!OWN_PROC) return false;
  const stat = readStat(pid);
  return stat === null || stat.dead || (stat.flags & PF_EXITING) !== 0;
}

/** Settles when those of our children that are ending have been collected; undefined: none is. */
export function endsUnderway(children: Iterable<Bun.Subprocess>): Promise<unknown> | undefined {
  const ending = [...children].filter(({ pid }) => isEnding(pid));
  return ending.length === 0 ? undefined : Promise.all(ending.map(({ exited }) => exited));
}

const OWN_PROC = isOwnProc();

/** Of the kernel's include/linux/sched.h. */
const PF_EXITING = 4;

function readStat(pid: number | string): { dead: boolean; group: number; flags: number } | null {
  try {
    const [state, , group, , , , flags] = statFields(readFileSync(`/proc/${pid}/stat`, "latin1"));
    return { dead: isOver(state), group: Number(group), flags: Number(flags) };
  } catch {
    return null;
  }
}
