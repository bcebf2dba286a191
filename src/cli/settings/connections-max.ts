/** The limit of connections of a role, so that it never runs out of file descriptors. */
import { readFileSync } from "node:fs";
import { DsmError } from "../../core/base/errors.ts";
import { CONNECTIONS_MIN, DESCRIPTORS_RESERVE } from "../../core/base/limits.ts";

/** connectionsMax returns the limit. Throws DSM_LIMIT when the process may open too few files. */
export function connectionsMax(role: string): number {
  const limits = readFileSync("/proc/self/limits", "latin1");
  const soft = /^Max open files +(\d+|unlimited)/m.exec(limits)?.[1];
  const files = soft === undefined || soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft);
  if (files < DESCRIPTORS_RESERVE + CONNECTIONS_MIN) {
    throw new DsmError(
      "DSM_LIMIT",
      `the ${role} may open ${files} files; it needs ${DESCRIPTORS_RESERVE + CONNECTIONS_MIN} or more (ulimit -n)`,
    );
  }
  return files - DESCRIPTORS_RESERVE;
}
