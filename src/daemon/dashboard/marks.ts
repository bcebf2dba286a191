/** Marks of sessions in the list: a word for one that does not go on. Pure: made from its status. */
import type { SessionDetail } from "../../core/messages/daemon-api.ts";
import { explain, type Finding } from "../../core/observe/why.ts";

/** Shorter waits belong to a program that runs well, and would only flicker. */
const LASTING_MS = 1_000;

/**
 * lastingFindings returns what explain() says of waits that last, and of processes that were lost or have not joined.
 */
export function lastingFindings(detail: SessionDetail): Finding[] {
  const stateMs = new Map(detail.ranks.map((rank) => [rank.rank, rank.stateMs]));
  return explain(detail).filter(({ kind, waiting }) => {
    if (kind === "nobody") return false;
    return kind === "lost" || kind === "joining" || waiting.some((rank) => (stateMs.get(rank) ?? 0) >= LASTING_MS);
  });
}

const MARKS = { deadlock: "deadlock", lost: "process lost", stuck: "all wait" } as const;
type Mark = (typeof MARKS)[keyof typeof MARKS];

/** markOf returns the gravest of what holds the session up, in a word or two; null: nothing does. */
export function markOf(detail: SessionDetail): Mark | null {
  if (!detail.answered) return null;
  const kinds = new Set<string>(lastingFindings(detail).map(({ kind }) => kind));
  for (const kind of ["deadlock", "lost", "stuck"] as const) if (kinds.has(kind)) return MARKS[kind];
  return null;
}
