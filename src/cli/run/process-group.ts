/** Sessions and groups of processes: each rank leads one of both, so that a signal reaches all that it has started. */
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { isOver, statFields } from "../../core/launch/process.ts";
import { isOwnProc } from "../../transport/own-process.ts";

/** Returns the number of a signal. Real-time signals have no name and come as numbers. */
export function signalNumber(signal: NodeJS.Signals | number): number {
  return typeof signal === "number" ? signal : (constants.signals[signal] ?? 0);
}

/**
 * Signals the rank and all that it has started. Those that end a process also reach the process groups that a shell
 * with job control has made; the others go to the rank's own group, as from a terminal.
 */
export function signalRank(leader: number, signal: NodeJS.Signals): void {
  signalProcess(-leader, signal);
  if (!OWN_PROC || (signal !== "SIGTERM" && signal !== "SIGKILL")) return;
  for (const { pid, group, session } of livingProcesses()) {
    if (session === leader && group !== leader) signalProcess(pid, signal);
  }
}

/** Returns the ranks of which a process lives. */
export function livingRanks(leaders: readonly number[]): Set<number> {
  // Where /proc counts processes in another PID namespace, groups are all that can be asked for, dead processes included
  // that their parent has not collected.
  if (!OWN_PROC) return new Set(leaders.filter((leader) => signalProcess(-leader, 0)));
  if (leaders.length === 0) return new Set();
  const sessions = new Set([...livingProcesses()].map(({ session }) => session));
  return new Set(leaders.filter((leader) => sessions.has(leader)));
}

/** Returns whether the process has ended, or is about to: the kernel marks it before it closes any of its files. */
export function isEnding(pid: number): boolean {
  if (!OWN_PROC) return false;
  const stat = readStat(pid);
  return stat === null || stat.isDead || (stat.flags & PF_EXITING) !== 0;
}

/** Resolves when those of the children that are ending have been collected; undefined: none is ending. */
export function endsUnderway(children: Iterable<Bun.Subprocess>): Promise<unknown> | undefined {
  const ending = [...children].filter(({ pid }) => isEnding(pid));
  return ending.length === 0 ? undefined : Promise.all(ending.map(({ exited }) => exited));
}

const OWN_PROC = isOwnProc();

/** PF_EXITING of the kernel's include/linux/sched.h. */
const PF_EXITING = 4;

interface Stat {
  isDead: boolean;
  group: number;
  session: number;
  flags: number;
}

function* livingProcesses(): Generator<Stat & { pid: number }> {
  for (const name of readdirSync("/proc")) {
    const stat = /^\d+$/.test(name) ? readStat(name) : null;
    if (stat !== null && !stat.isDead) yield { pid: Number(name), ...stat };
  }
}

function readStat(pid: number | string): Stat | null {
  try {
    const [state, , group, session, , , flags] = statFields(readFileSync(`/proc/${pid}/stat`, "latin1"));
    return { isDead: isOver(state), group: Number(group), session: Number(session), flags: Number(flags) };
  } catch {
    return null;
  }
}

/** Returns whether there is such a process or group, and it may be signalled. */
function signalProcess(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
