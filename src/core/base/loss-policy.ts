/** What a session does when one of its processes dies without leaving. Numbers travel in frames; 0 is "any". */
export const ON_LOSS = ["fail", "continue"] as const;
/**
 * "fail": requests that wait for other processes, now or later, end with LOST. "continue": the other processes go on;
 * barriers count the processes that are present, and a lock that the lost process held passes on with OWNER_DIED.
 */
export type OnLoss = (typeof ON_LOSS)[number];

export const DEFAULT_ON_LOSS: OnLoss = "fail";

export const onLossNumber = (onLoss: OnLoss): number => ON_LOSS.indexOf(onLoss) + 1;

/** The policy with that number, or null for 0 and unknown numbers. */
export const onLossOfNumber = (number: number): OnLoss | null => ON_LOSS[number - 1] ?? null;

/** The reason why `onLoss` is not a policy, in one line, or null. */
export function checkOnLoss(onLoss: string): string | null {
  if ((ON_LOSS as readonly string[]).includes(onLoss)) return null;
  return `invalid on-loss policy "${onLoss}"; use ${ON_LOSS.join(" or ")}`;
}
