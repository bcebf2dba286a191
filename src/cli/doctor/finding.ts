/** What a check of `dsm doctor` finds. */

export interface Finding {
  check: string;
  state: "ok" | "warning" | "failure";
  found: string;
  /** What to do about it. */
  advice?: string;
}

export function failureOf(check: string, error: unknown, advice: string): Finding {
  return { check, state: "failure", found: error instanceof Error ? error.message : String(error), advice };
}
