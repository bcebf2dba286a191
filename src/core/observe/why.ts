/**
 * explain(): sentences that say which ranks wait for what, and which are missing, made from the status of a session.
 */

import { counted, formatCount } from "../base/count.ts";
import { formatDuration } from "../base/duration.ts";
import { nameInText, objectText } from "../base/names.ts";
import type { RankStatus, SessionDetail } from "../messages/daemon-api.ts";

/** Ranks that are described one by one; further ones are only counted. */
const DESCRIBED_MAX = 8;
/** Parts of a list of ranks: single ranks, and runs such as 4-9. */
const LISTED_MAX = 16;

export interface Finding {
  kind:
    | "joining"
    | "barrier"
    | "semaphore"
    | "lock"
    | "condition"
    | "rwlock"
    | "deadlock"
    | "sleeping"
    | "lost"
    | "stuck"
    | "nobody";
  /** One sentence, without a full stop. */
  text: string;
  /** Ranks that wait. Of a deadlock: each waits for the next, the last for the first. */
  waiting: number[];
  /** Ranks that are waited for, as far as they are known. */
  for: number[];
}

/** explain returns its findings about the session, the most important first. */
export function explain(session: SessionDetail): Finding[] {
  const here = session.ranks.filter(isHere);
  const findings = [
    ...deadlocks(session),
    ...joining(session),
    ...lost(session),
    ...barrier(session, here),
    ...locks(session),
    ...semaphores(session, here),
    ...objects(session, here),
    ...sleepers(session, here),
  ];
  if (session.started && here.length > 0 && here.every(isWaiting)) {
    const all = here.map(({ rank }) => rank);
    const text =
      here.length === 1
        ? `no process runs: ${who(here[0] as RankStatus)} waits`
        : `no process runs: all ${formatCount(here.length)} wait`;
    findings.push({ kind: "stuck", text, waiting: all, for: [] });
  }
  if (isAnyWaiting(session)) return findings;
  return [...findings, { kind: "nobody", text: noneWaits(session, here), waiting: [], for: [] }];
}

/** Whether a rank waits, or the session for ranks that have not joined. */
export const isAnyWaiting = (session: SessionDetail): boolean => !session.started || session.ranks.some(isWaiting);

/** isDeadlocked returns whether ranks of the session wait for each other. */
export const isDeadlocked = (session: SessionDetail): boolean => deadlocks(session).length > 0;

const isHere = ({ state }: RankStatus): boolean => state !== "left" && state !== "lost";
const WAITING: ReadonlySet<string> = new Set([
  ...["joining", "barrier", "semaphore", "lock", "condition", "rwlock", "sleeping"],
]);
const isWaiting = ({ state }: RankStatus): boolean => WAITING.has(state);
/** Whether the rank is in the session's own barrier. */
const isInBarrier = ({ state, on }: RankStatus): boolean => state === "barrier" && on === undefined;

const who = ({ rank, node, pid }: RankStatus): string => `rank ${rank} (node ${node}, pid ${pid})`;
const numbersOf = (ranks: RankStatus[]): number[] => ranks.map(({ rank }) => rank);

/** "rank 3", "ranks 0, 1 and 3", "ranks 0-5 and 9". */
export function rankList(ranks: number[]): string {
  const sorted = [...new Set(ranks)].sort((a, b) => a - b);
  const runs: [number, number][] = [];
  for (const rank of sorted) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] === rank - 1) last[1] = rank;
    else runs.push([rank, rank]);
  }
  const parts = runs.flatMap(([from, to]) =>
    to - from > 1 ? [`${from}-${to}`] : from === to ? [`${from}`] : [`${from}`, `${to}`],
  );
  const shown = parts.slice(0, LISTED_MAX);
  const last = parts.length > LISTED_MAX ? "others" : shown.pop();
  return `${sorted.length === 1 ? "rank" : "ranks"} ${shown.length > 0 ? `${shown.join(", ")} and ` : ""}${last}`;
}

const verb = (ranks: unknown[], one: string, many: string): string => (ranks.length === 1 ? one : many);

/** A duration up to now. What is older than the server's knowledge has lasted at least as long as that. */
const lasting = (ms: number, { knownMs }: SessionDetail): string =>
  `${knownMs !== undefined && ms >= knownMs ? "at least " : ""}${formatDuration(ms)}`;
const longest = (ranks: RankStatus[], session: SessionDetail): string =>
  lasting(Math.max(0, ...ranks.map(({ stateMs }) => stateMs)), session);
/** The time since which nothing was written, as far as is known. */
const unwritten = ({ knownMs }: SessionDetail): string =>
  knownMs === undefined ? "yet" : `since the server took over ${formatDuration(knownMs)} ago`;

/** Why a session has not answered, in the words after a colon. */
export const whySilent = ({ phase }: Pick<SessionDetail, "phase">): string =>
  phase === "recovering" ? "another server is taking it over" : "its server does not answer";

/** Describes what a rank does for which others wait. */
function doing({ state, on, stateMs, lastWriteMs }: RankStatus, session: SessionDetail): string {
  const since = `for ${lasting(stateMs, session)}`;
  if (state === "semaphore" || state === "lock") return `has been waiting for ${nameInText(state, on ?? "")} ${since}`;
  if (state === "condition" || state === "rwlock") return `has been waiting for the ${on} ${since}`;
  if (state === "sleeping") return `has been sleeping on byte ${on} ${since}`;
  if (state === "barrier") return `has been in the ${on ?? "barrier"} ${since}`;
  if (state === "joining") return "is joining";
  if (state === "left") return "has left";
  if (state === "lost") return "was lost";
  // In direct mode stores are not seen.
  if (session.direct) return `has been running ${since}`;
  if (lastWriteMs === 0) return "has just written";
  return lastWriteMs === null
    ? `has written nothing ${unwritten(session)}`
    : `last wrote ${formatDuration(lastWriteMs)} ago`;
}

function described(ranks: RankStatus[], session: SessionDetail): string {
  const shown = ranks.slice(0, DESCRIBED_MAX).map((rank) => `${who(rank)} ${doing(rank, session)}`);
  const more = ranks.length - shown.length;
  return `${shown.join(", ")}${more > 0 ? ` and ${formatCount(more)} more` : ""}`;
}

function joining(session: SessionDetail): Finding[] {
  const { started, ranks, processes } = session;
  if (started) return [];
  const missing = Array.from({ length: processes }, (_, rank) => rank).filter(
    (rank) => !ranks.some((one) => one.rank === rank),
  );
  const waiting = numbersOf(ranks);
  const here =
    ranks.length === 0
      ? processes === 1
        ? "its only process has not joined"
        : `none of its ${formatCount(processes)} processes has joined`
      : `${ranks.length} of ${counted(processes, "process", "processes")} ${verb(ranks, "has", "have")} joined, the first ${longest(ranks, session)} ago`;
  const text = `the session has not begun: ${here}; ${rankList(missing)} ${verb(missing, "is", "are")} missing`;
  return [{ kind: "joining", text, waiting, for: missing }];
}

function lost(session: SessionDetail): Finding[] {
  const { ranks, onLoss } = session;
  const gone = ranks.filter(({ state }) => state === "lost");
  if (gone.length === 0) return [];
  const names = gone
    .slice(0, DESCRIBED_MAX)
    .map((rank) => `${who(rank)} was lost ${lasting(rank.stateMs, session)} ago`);
  const more = gone.length - names.length;
  const effect = onLoss === "fail" ? "calls that wait fail with DSM_LOST" : "the others go on (--on-loss continue)";
  const text = `${names.join(", ")}${more > 0 ? ` and ${formatCount(more)} more` : ""}; ${effect}`;
  return [{ kind: "lost", text, waiting: [], for: numbersOf(gone) }];
}

function barrier(session: SessionDetail, here: RankStatus[]): Finding[] {
  const inside = here.filter(isInBarrier);
  if (inside.length === 0) return [];
  const outside = here.filter((rank) => !isInBarrier(rank));
  const text =
    `${rankList(numbersOf(inside))} ${verb(inside, "has", "have")} been in barrier ${formatCount(session.barriers + 1)}` +
    `${inside.length > 1 ? ", the first" : ""} for ${longest(inside, session)}; not there: ${described(outside, session)}`;
  return [{ kind: "barrier", text, waiting: numbersOf(inside), for: numbersOf(outside) }];
}

function locks(session: SessionDetail): Finding[] {
  return session.locks.flatMap(({ name, owner, waiters }): Finding[] => {
    if (waiters.length === 0) return [];
    const waiting = session.ranks.filter(
      ({ rank, state, on }) => waiters.includes(rank) && state === "lock" && on === name,
    );
    const has = session.ranks.find(({ rank }) => rank === owner);
    const since = waiting.length > 0 ? ` for ${longest(waiting, session)}` : "";
    const whose = has === undefined ? "which no process has" : `which ${who(has)} has; it ${doing(has, session)}`;
    const text = `${rankList(waiters)} ${verb(waiters, "has", "have")} been waiting for ${nameInText("lock", name)}${since}, ${whose}`;
    return [{ kind: "lock", text, waiting: waiters, for: owner === null ? [] : [owner] }];
  });
}

function semaphores(session: SessionDetail, here: RankStatus[]): Finding[] {
  return session.semaphores.flatMap(({ name, value, waiters }): Finding[] => {
    if (waiters.length === 0) return [];
    const waiting = here.filter(
      ({ rank, state, on }) => waiters.includes(rank) && state === "semaphore" && on === name,
    );
    const others = here.filter((rank) => !isWaiting(rank));
    const since = waiting.length > 0 ? ` for ${longest(waiting, session)}` : "";
    const posts =
      others.length === 0
        ? "and no process runs that could post it"
        : `which another process must post: ${rankList(numbersOf(others))} ${verb(others, "runs", "run")}`;
    const text = `${rankList(waiters)} ${verb(waiters, "has", "have")} been waiting for ${nameInText("semaphore", name)} (value ${formatCount(value)})${since}, ${posts}`;
    return [{ kind: "semaphore", text, waiting: waiters, for: numbersOf(others) }];
  });
}

/** Conditions, reader-writer locks and barriers in the map. */
function objects(session: SessionDetail, here: RankStatus[]): Finding[] {
  return session.objects.flatMap((object): Finding[] => {
    const { waiters } = object;
    if (waiters.length === 0) return [];
    const on = objectText(object.object, object.offset);
    const waiting = here.filter((rank) => waiters.includes(rank.rank) && rank.on === on);
    const since = waiting.length > 0 ? ` for ${longest(waiting, session)}` : "";
    const ranks = `${rankList(waiters)} ${verb(waiters, "has", "have")} been`;
    if (object.object === "condition") {
      const others = here.filter((rank) => !isWaiting(rank));
      const signals =
        others.length === 0
          ? "and no process runs that could signal it"
          : `which another process must signal: ${rankList(numbersOf(others))} ${verb(others, "runs", "run")}`;
      const text = `${ranks} waiting for the ${on}${since}, ${signals}`;
      return [{ kind: "condition", text, waiting: waiters, for: numbersOf(others) }];
    }
    if (object.object === "barrier") {
      const arrived = `${formatCount(object.waiting)} of ${formatCount(object.count)}`;
      const text = `${ranks} in the ${on}${since}: ${arrived} have arrived`;
      return [{ kind: "barrier", text, waiting: waiters, for: [] }];
    }
    const { holders, isWritten } = object;
    const have = session.ranks.filter(({ rank }) => holders.includes(rank));
    const whose =
      have.length === 0
        ? "which no process has"
        : `which is locked for ${isWritten ? "writing" : "reading"}: ${described(have, session)}`;
    const text = `${ranks} waiting for the ${on}${since}, ${whose}`;
    return [{ kind: "rwlock", text, waiting: waiters, for: holders }];
  });
}

function sleepers(session: SessionDetail, here: RankStatus[]): Finding[] {
  const places = Map.groupBy(
    here.filter(({ state }) => state === "sleeping"),
    ({ on }) => on ?? "",
  );
  return [...places].map(([place, asleep]) => {
    const offset = Number(place);
    const block = session.blocks.find((one) => offset >= one.offset && offset < one.offset + one.size);
    const where = block === undefined ? "" : ` (byte ${offset - block.offset} of block "${block.name}")`;
    const text =
      `${rankList(numbersOf(asleep))} ${verb(asleep, "has", "have")} been sleeping on byte ${place}${where} for ${longest(asleep, session)}, ` +
      "until another process changes it and wakes its sleepers";
    return { kind: "sleeping", text, waiting: numbersOf(asleep), for: [] };
  });
}

interface Edge {
  to: number;
  /** The lock, as sentences name it, or null: the barrier. */
  lock: string | null;
}

/**
 * Deadlocks: circles of ranks that wait for each other: for a lock that the next one has, or in a barrier at which the
 * next one has not arrived. Each circle is reported once, from its lowest rank on, by its shortest path.
 */
function deadlocks(session: SessionDetail): Finding[] {
  const edges = new Map<number, Edge[]>();
  const add = (from: number, edge: Edge): void => {
    // Of an object in the map another thread of the same process may be the owner.
    if (edge.to !== from) edges.set(from, [...(edges.get(from) ?? []), edge]);
  };
  for (const { name, owner, waiters } of session.locks) {
    const lock = nameInText("lock", name);
    for (const waiter of owner === null ? [] : waiters) add(waiter, { to: owner as number, lock });
  }
  for (const { object, offset, holders, waiters } of session.objects) {
    const lock = `the ${objectText(object, offset)}`;
    for (const waiter of waiters) for (const to of holders) add(waiter, { to, lock });
  }
  const here = session.ranks.filter(isHere);
  // Only waiting ranks can be part of a circle, and without locks there is none.
  const late = here.filter(({ state }) => state === "lock" || state === "rwlock").map(({ rank }) => rank);
  for (const one of here) {
    if (isInBarrier(one)) for (const to of late) add(one.rank, { to, lock: null });
  }
  const found = new Set<number>();
  return [...edges.keys()]
    .sort((a, b) => a - b)
    .flatMap((first): Finding[] => {
      const way = found.has(first) ? null : wayBack(first, edges);
      if (way === null) return [];
      for (const [rank] of way) found.add(rank);
      return [deadlock(session, way)];
    });
}

/** The shortest circle through `first`: each rank, and how it waits for the next. Null: there is none. */
function wayBack(first: number, edges: Map<number, Edge[]>): [number, Edge][] | null {
  const ways = new Map<number, [number, Edge][]>([[first, []]]);
  for (const [rank, way] of ways) {
    for (const edge of edges.get(rank) ?? []) {
      if (edge.to === first) return [...way, [rank, edge]];
      if (!ways.has(edge.to)) ways.set(edge.to, [...way, [rank, edge]]);
    }
  }
  return null;
}

function deadlock(session: SessionDetail, way: [number, Edge][]): Finding {
  const parts = way.map(([number, edge], index) => {
    const rank = session.ranks.find((one) => one.rank === number);
    const holds = way.at(index - 1)?.[1].lock ?? null;
    const waits =
      edge.lock === null ? `is in the barrier, to which rank ${edge.to} does not come` : `waits for ${edge.lock}`;
    const name = rank === undefined ? `rank ${number}` : who(rank);
    return holds === null ? `${name} ${waits}` : `${name} has ${holds} and ${waits}`;
  });
  const text = `deadlock: ${parts.join("; ")}`;
  const ranks = way.map(([rank]) => rank);
  return { kind: "deadlock", text, waiting: ranks, for: [...ranks.slice(1), ranks[0] as number] };
}

function noneWaits(session: SessionDetail, here: RankStatus[]): string {
  const many = `${counted(here.length, "process", "processes")} ${verb(here, "runs", "run")}`;
  const wrote = here.flatMap(({ lastWriteMs }) => (lastWriteMs === null ? [] : [lastWriteMs]));
  if (here.length === 0) return "no process waits: none is there";
  if (session.direct) return `no process waits: ${many}, in direct mode`;
  const newest = wrote.length === 0 ? null : Math.min(...wrote);
  const ago = newest === 0 ? "just now" : `${formatDuration(newest ?? 0)} ago`;
  const last = newest === null ? `nothing has been written ${unwritten(session)}` : `the last write was ${ago}`;
  return `no process waits: ${many}, ${last}`;
}
