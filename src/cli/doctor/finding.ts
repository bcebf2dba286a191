/** What a check of `dsm doctor` finds. */

export interface Finding {
  check: string;
  state: "ok" | "warning" | "failure";
  found: string;
  /** What to do about it. */
  advice?: string;
}

export function failureOf(check: string, error: unknown, advice: string): Finding {
  const message = error instanceof Error ? error.message : String(error);
  // Some errors end with the same advice.
  return { check, state: "failure", found: message.replace(/; set XDG_\w+ to [^;]*$/, ""), advice };
}

/** A check that is left out because of what others have found. */
export const notTried = (check: string, because: string): Finding => ({
  ...{ check, state: "warning", found: `not tried, because of ${because}`, advice: "see there first" },
});
