/** One session in full: what it does, its ranks, and the semaphores and locks with those that wait for them. */
import { counted, formatCount } from "../../core/base/count.ts";
import { formatDuration } from "../../core/base/duration.ts";
import { isObjectText, objectText } from "../../core/base/names.ts";
import { formatSize } from "../../core/base/size.ts";
import type { ObjectStatus, RankStatus } from "../../core/messages/daemon-api.ts";
import { rankList, whySilent } from "../../core/observe/why.ts";
import { type Column, cut, down, type Line, type Look, pad, rateText, table } from "./lines.ts";
import { isWaiting, known, opened, type RatedRank, type RatedSession, type TopModel } from "./model.ts";

export const RANKS: Column<RatedRank>[] = [
  { name: "RANK", width: 4, right: true, text: ({ rank }) => String(rank), key: ({ rank }) => rank },
  { name: "NODE", width: 10, grow: true, text: ({ node }, width) => cut(node, width), key: ({ node }) => node },
  { name: "PID", width: 7, right: true, text: ({ pid }) => String(pid), key: ({ pid }) => pid },
  { name: "STATE", width: 25, grow: true, text: stateText, key: (rank) => `${stateOrder(rank)}` },
  {
    ...{ name: "ENTRIES/S", width: 9, right: true },
    text: ({ rates }) => rateText(rates?.entries),
    key: ({ rates }) => down(rates?.entries),
  },
  {
    ...{ name: "BYTES/S", width: 8, right: true },
    text: ({ rates }) => rateText(rates?.bytes),
    key: ({ rates }) => down(rates?.bytes),
  },
  {
    ...{ name: "RTT", width: 7, right: true },
    text: ({ roundTripUs }) => (roundTripUs === null ? "-" : formatDuration(roundTripUs / 1000)),
    key: ({ roundTripUs }) => down(roundTripUs),
  },
];

/** stateOrder returns a sort key: lost ranks first, then waiting ones, the longest wait first. */
function stateOrder(rank: RankStatus): string {
  const group = rank.state === "lost" ? 0 : isWaiting(rank) ? 1 : rank.state === "left" ? 3 : 2;
  return `${group} ${rank.state.padEnd(9)} ${String(10 ** 15 - rank.stateMs).padStart(16, "0")}`;
}

function stateText({ state, on, stateMs }: RankStatus, width: number): string {
  if (!isWaiting({ state })) return cut(state, width);
  const since = `for ${formatDuration(stateMs)}`;
  if (state === "barrier" && on === undefined) return cut(`in barrier ${since}`, width);
  if (on !== undefined && isObjectText(on)) {
    const long = `${state === "barrier" ? "in" : "waiting for"} ${on} ${since}`;
    return cut(long.length <= width ? long : `${on} ${since}`, width);
  }
  if (state === "sleeping") {
    const asleep = `asleep on ${on} ${since}`;
    return cut(asleep.length <= width ? asleep : `on ${on} ${since}`, width);
  }
  const name = on ?? "";
  const rest = `" ${since}`;
  const long = state === "lock" ? 'waiting for lock "' : 'waiting on "';
  const before = long.length + name.length + rest.length <= width ? long : state === "lock" ? 'lock "' : 'on "';
  // The name is cut, not the time.
  return cut(`${before}${cut(name, Math.max(1, width - before.length - rest.length))}${rest}`, width);
}

/** sessionView returns at most `height` lines of `width` columns. `chosen`: the rank that is marked. */
export function sessionView(model: TopModel, width: number, height: number, chosen: string | null): Line[] {
  const found = opened(model);
  if (found === undefined) return [{ text: `there is no session "${model.open}"`, look: "bad" }];
  const session = known(found);
  if (session === null) {
    return [{ text: `session "${found.name}": ${whySilent("ranks" in found ? found : {})}`, look: "bad" }];
  }
  const { name, order, direct, size, present, processes, started, started_ms, barriers, entries, bytes } = session;
  const facts = [
    `session "${name}": ${started ? `running for ${formatDuration(started_ms)}` : "waiting for processes"}`,
    `${formatCount(present)} of ${formatCount(processes)} here`,
    direct ? `${order}, direct mode` : order,
    formatSize(size),
  ].join(", ");
  const counts =
    `${rateText(session.rates?.entries)} entries/s, ${rateText(session.rates?.bytes)} bytes/s; ` +
    `${counted(entries, "entry", "entries")}, ${formatSize(bytes)}; ${counted(barriers, "barrier")}; log ${formatSize(session.logBytes)}`;
  const lines: Line[] = [
    { text: facts, look: "plain" },
    { text: counts, look: "plain" },
  ];
  if (direct) lines.push({ text: "direct mode: stores do not leave the processes, and are not counted", look: "dim" });
  const queues = queueLines(session, width);
  const shownQueues = queues.slice(0, Math.max(0, Math.min(queues.length, Math.floor(height / 3))));
  const lookOf = (rank: RatedRank): Look =>
    rank.state === "lost" ? "bad" : isWaiting(rank) ? "waiting" : rank.state === "left" ? "dim" : "plain";
  const ranks = table({
    ...{ columns: RANKS, rows: session.ranks, sort: model.sortRanks, width, chosen, lookOf },
    height: height - lines.length - shownQueues.length,
    idOf: ({ rank }) => String(rank),
  });
  return [...lines, ...ranks, ...shownQueues];
}

function queueLines(session: RatedSession, width: number): Line[] {
  const { semaphores, semaphoresLeftOut, locks, locksLeftOut, objects, objectsLeftOut } = session;
  const waiting = (waiters: number[]): string =>
    waiters.length === 0 ? "" : `${formatCount(waiters.length)} waiting: ${rankList(waiters)}`;
  const nameWidth = Math.min(32, Math.max(9, Math.floor(width / 3)));
  const line = (name: string, value: string, waiters: number[]): Line => ({
    text: ` ${pad(cut(name, nameWidth), nameWidth, false)} ${pad(value, 8, true)}  ${waiting(waiters)}`.trimEnd(),
    look: waiters.length > 0 ? "waiting" : "plain",
  });
  const byWaiters = <Queue extends { waiters: number[] }>(queues: Queue[]): Queue[] =>
    [...queues].sort((a, b) => b.waiters.length - a.waiters.length);
  const lines: Line[] = [];
  const head = (kind: string, value: string, leftOut: number): Line => ({
    text: ` ${pad(kind, nameWidth, false)} ${pad(value, 8, true)}  ${leftOut > 0 ? `and ${formatCount(leftOut)} more` : "WAITING"}`,
    look: "head",
  });
  if (semaphores.length > 0) lines.push(head("SEMAPHORE", "VALUE", semaphoresLeftOut));
  for (const { name, value, waiters } of byWaiters(semaphores)) lines.push(line(name, formatCount(value), waiters));
  if (locks.length > 0) lines.push(head("LOCK", "OWNER", locksLeftOut));
  for (const { name, owner, waiters } of byWaiters(locks)) {
    lines.push(line(name, owner === null ? "free" : `rank ${owner}`, waiters));
  }
  if (objects.length > 0) lines.push(head("OBJECT", "STATE", objectsLeftOut));
  for (const object of byWaiters(objects)) {
    lines.push(line(objectText(object.object, object.offset), objectState(object), object.waiters));
  }
  return lines;
}

/** What has a reader-writer lock, or how many have arrived at a barrier. */
function objectState({ object, holders, isWritten, count, waiting }: ObjectStatus): string {
  if (object === "barrier") return `${formatCount(waiting)}/${formatCount(count)}`;
  if (object === "condition") return "";
  if (isWritten) return `rank ${holders[0]}`;
  return holders.length === 0 ? "free" : `${formatCount(holders.length)} read`;
}
