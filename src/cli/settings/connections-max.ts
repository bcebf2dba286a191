/** How many connections a role may have at once, so that it never runs out of file descriptors. */
import { readFileSync } from "node:fs";
import { DsmError } from "../../core/base/errors.ts";
import { CONNECTIONS_MIN, DESCRIPTORS_RESERVE } from "../../core/base/limits.ts";

/** Throws DSM_LIMIT when there are too few to do anything. */
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
