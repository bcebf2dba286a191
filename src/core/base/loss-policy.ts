/** What a session does when one of its processes dies without leaving. Numbers travel in frames; 0 is "any". */
export const ON_LOSS = ["fail", "continue"] as const;
/**
 * "fail": whoever waits for others, now or later, is told that one is lost. "continue": the others go on without it;
 * barriers count those who are there, and a lock that the lost one held passes on with the words "owner died".
 */
export type OnLoss = (typeof ON_LOSS)[number];

export const DEFAULT_ON_LOSS: OnLoss = "fail";

export const onLossNumber = (onLoss: OnLoss): number => ON_LOSS.indexOf(onLoss) + 1;

/** The choice of that number, or null for 0 and numbers nobody knows. */
export const onLossOfNumber = (number: number): OnLoss | null => ON_LOSS[number - 1] ?? null;

/** The reason why `onLoss` cannot be one, in one line, or null. */
export function checkOnLoss(onLoss: string): string | null {
  if ((ON_LOSS as readonly string[]).includes(onLoss)) return null;
  return `invalid on-loss policy "${onLoss}"; use ${ON_LOSS.join(" or ")}`;
}
