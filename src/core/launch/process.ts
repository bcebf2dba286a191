/** The identity of a process, by which another process on the same host can see whether it is still alive. */

/** A process by the boot of its host, its process namespace, its id there and its start in clock ticks since boot. */
export interface ProcessIdentity {
  boot: string;
  namespace: string;
  pid: number;
  start: string;
}

export const formatProcess = ({ boot, namespace, pid, start }: ProcessIdentity): string =>
  [boot, namespace, pid, start].join(" ");

/** Parses an identity; null: the text is none. */
export function parseProcess(text: string): ProcessIdentity | null {
  const [boot, namespace, pid, start, ...more] = text.split(" ");
  if (boot === undefined || namespace === undefined || start === undefined || more.length > 0) return null;
  const number = Number(pid);
  return Number.isSafeInteger(number) && number > 0 ? { boot, namespace, pid: number, start } : null;
}

/** Returns the fields of /proc/PID/stat from the third on, the state. */
export function statFields(stat: string): string[] {
  // The second field is the program's name in parentheses and may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** Returns whether a process in that state has ended, and only waits to be collected by its parent. */
export const isOver = (state: string | undefined): boolean => state === "Z" || state === "X";

/** Returns the start time in /proc/PID/stat (field 22), or null if the process has ended. */
export function startOf(stat: string): string | null {
  const fields = statFields(stat);
  return isOver(fields[0]) ? null : (fields[19] ?? null);
}
