/** Ranks in messages. */

/** How many ranks a message names. */
const NAMED_MAX = 8;

/** Returns "process 3", "processes 1 and 3", or "processes 0, 1, 2, 3, 4, 5, 6, 7 and 17 more". */
export function formatRanks(ranks: readonly number[]): string {
  if (ranks.length === 1) return `process ${ranks[0]}`;
  const named = ranks.length <= NAMED_MAX ? ranks.slice(0, -1) : ranks.slice(0, NAMED_MAX);
  const rest = ranks.length <= NAMED_MAX ? ranks.at(-1) : `${ranks.length - NAMED_MAX} more`;
  return `processes ${named.join(", ")} and ${rest}`;
}
