/** Groups of processes: each rank leads one, so that a signal reaches all it has started. */
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";

/** Signals without a name, the real-time ones, come as numbers. */
export function signalNumber(signal: NodeJS.Signals | number): number {
  return typeof signal === "number" ? signal : constants.signals[signal];
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
  return readdirSync("/proc").some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "latin1");
      const [state, , group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return groups.has(Number(group)) && state !== "Z" && state !== "X";
    } catch {
      return false;
    }
  });
}
