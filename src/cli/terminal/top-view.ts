/** What `dsm top` shows, without a terminal: samples and keys in, lines out. */

import { formatDuration } from "../../core/base/duration.ts";
import { formatSize } from "../../core/base/size.ts";
import type { RankStatus, SessionDetail, SessionSummary } from "../../core/messages/daemon-api.ts";

/** What was done between two samples, per second; null: there is only one. */
export interface Rates {
  entries: number;
  bytes: number;
}

export interface RatedRank extends RankStatus {
  rates: Rates | null;
}

export interface RatedSession extends Omit<SessionDetail, "ranks"> {
  ranks: RatedRank[];
  rates: Rates | null;
}

/** `before`: an earlier answer about the same name, or nothing. Another server counts anew: no rates across servers. */
export function rated(before: SessionDetail | undefined, now: SessionDetail): RatedSession {
  const known =
    before?.answered && now.answered && before.instance === now.instance && before.epoch === now.epoch ? before : null;
  const seconds = known === null ? 0 : (now.time_ms - known.time_ms) / 1000;
  const rates = (was: { entries: number; bytes: number } | undefined, is: typeof was): Rates | null => {
    if (was === undefined || is === undefined || seconds <= 0) return null;
    // Somebody else may have the rank by now.
    return {
      entries: Math.max(0, is.entries - was.entries) / seconds,
      bytes: Math.max(0, is.bytes - was.bytes) / seconds,
    };
  };
  const earlier = new Map(known?.ranks.map((rank) => [`${rank.rank} ${rank.pid}`, rank]));
  return {
    ...now,
    rates: rates(known ?? undefined, now),
    ranks: now.ranks.map((rank) => ({ ...rank, rates: rates(earlier.get(`${rank.rank} ${rank.pid}`), rank) })),
  };
}

export interface TopModel {
  /** Address of the daemon. */
  address: string;
  sessions: (RatedSession | SessionSummary)[];
  /** Name of the session that is shown in full; null: the list. */
  open: string | null;
  /** Name of the session, or number of the rank, that is chosen. */
  chosen: string | null;
  /** Which column is sorted by, in the list and in a session. */
  sortList: number;
  sortRanks: number;
  help: boolean;
  /** Why there is nothing new, or null. */
  trouble: string | null;
}

export function newModel(address: string, open: string | null): TopModel {
  return {
    ...{ address, sessions: [], open, chosen: null, sortList: 0, sortRanks: 0, help: false, trouble: null },
  };
}

/** How a line is to look, where the terminal can do that. The text says the same without. */
export type Look = "plain" | "title" | "head" | "chosen" | "waiting" | "bad" | "dim";

export interface Line {
  text: string;
  look: Look;
}

interface Column<Row> {
  name: string;
  /** Least width; what is left over goes to the columns that `grow`. */
  width: number;
  grow?: boolean;
  right?: boolean;
  text(row: Row, width: number): string;
  /** What is sorted by. */
  key(row: Row): number | string;
}

const known = (session: TopModel["sessions"][0]): RatedSession | null =>
  "ranks" in session && session.answered ? session : null;
/** Largest first. */
const down = (value: number | null | undefined): number => -(value ?? -1);

const LIST: Column<TopModel["sessions"][0]>[] = [
  { name: "SESSION", width: 16, grow: true, text: ({ name }, width) => cut(name, width), key: ({ name }) => name },
  {
    ...{ name: "HERE", width: 9, right: true },
    text: (session) => `${known(session)?.present ?? "?"} of ${session.processes}`,
    key: (session) => down(known(session)?.present),
  },
  {
    ...{ name: "WAITING", width: 7, right: true },
    text: (session) => String(known(session)?.ranks.filter(isWaiting).length ?? "?"),
    key: (session) => down(known(session)?.ranks.filter(isWaiting).length),
  },
  {
    ...{ name: "ENTRIES/S", width: 9, right: true },
    text: (session) => rateText(known(session)?.rates?.entries),
    key: (session) => down(known(session)?.rates?.entries),
  },
  {
    ...{ name: "BYTES/S", width: 8, right: true },
    text: (session) => rateText(known(session)?.rates?.bytes),
    key: (session) => down(known(session)?.rates?.bytes),
  },
  { name: "SIZE", width: 9, right: true, text: ({ size }) => formatSize(size), key: ({ size }) => down(size) },
  { name: "ORDER", width: 10, text: ({ order }) => order, key: ({ order }) => order },
];

const RANKS: Column<RatedRank>[] = [
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

const isWaiting = ({ state }: RankStatus): boolean => ["barrier", "semaphore", "lock", "sleeping"].includes(state);

/** Who is lost first, then who waits, longest first. */
function stateOrder(rank: RankStatus): string {
  const group = rank.state === "lost" ? 0 : isWaiting(rank) ? 1 : rank.state === "left" ? 3 : 2;
  return `${group} ${rank.state.padEnd(9)} ${String(10 ** 15 - rank.stateMs).padStart(16, "0")}`;
}

function stateText({ state, on, stateMs }: RankStatus, width: number): string {
  if (!["barrier", "semaphore", "lock", "sleeping"].includes(state)) return cut(state, width);
  const since = `since ${formatDuration(stateMs)}`;
  if (state === "barrier") return cut(`in barrier ${since}`, width);
  if (state === "sleeping") {
    const asleep = `asleep on ${on} ${since}`;
    return cut(asleep.length <= width ? asleep : `on ${on} ${since}`, width);
  }
  const name = on ?? "";
  const rest = `" ${since}`;
  const long = state === "lock" ? 'waits for lock "' : 'waits on "';
  const before = long.length + name.length + rest.length <= width ? long : state === "lock" ? 'lock "' : 'on "';
  // The name gives way, not the time.
  return cut(`${before}${cut(name, Math.max(1, width - before.length - rest.length))}${rest}`, width);
}

/** Such as "0", "2.3", "850", "12.3k", "4.5M". */
export function rateText(rate: number | null | undefined): string {
  if (rate === null || rate === undefined) return "-";
  if (rate === 0) return "0";
  if (rate < 9.95) return rate.toFixed(1);
  for (const [unit, of] of [
    ["", 1],
    ["k", 1e3],
    ["M", 1e6],
    ["G", 1e9],
  ] as const) {
    const value = rate / of;
    if (value < 99.95 && of > 1) return `${value.toFixed(1)}${unit}`;
    if (value < (of === 1 ? 9999.5 : 999.5)) return `${Math.round(value)}${unit}`;
  }
  return rate.toExponential(1);
}

/** The text in at most so many columns. */
export function cut(text: string, width: number): string {
  const shown = text.replace(/\p{Cc}+/gu, " ");
  if (Bun.stringWidth(shown) <= width) return shown;
  let kept = "";
  for (const { segment } of new Intl.Segmenter().segment(shown)) {
    if (Bun.stringWidth(kept + segment) > width - 1) break;
    kept += segment;
  }
  return width < 1 ? "" : `${kept}~`;
}

function pad(text: string, width: number, right: boolean): string {
  const space = " ".repeat(Math.max(0, width - Bun.stringWidth(text)));
  return right ? space + text : text + space;
}

/** Widths of the columns, for a terminal so wide. What does not fit at all is left out, the last first. */
function layout<Row>(columns: Column<Row>[], rows: Row[], width: number): { column: Column<Row>; width: number }[] {
  const shown = columns.map((column) => ({ column, width: Math.max(column.width, column.name.length) }));
  const used = (): number => shown.reduce((sum, { width }) => sum + width + 1, 1);
  while (used() > width && shown.length > 1) shown.pop();
  let left = Math.max(0, width - used());
  for (const one of shown.filter(({ column }) => column.grow === true)) {
    const wanted = rows.reduce((most, row) => Math.max(most, Bun.stringWidth(one.column.text(row, 200))), one.width);
    const more = Math.min(left, wanted - one.width);
    one.width += more;
    left -= more;
  }
  return shown;
}

interface TableOptions<Row> {
  columns: Column<Row>[];
  rows: Row[];
  sort: number;
  width: number;
  /** Lines that there are for it, with its head. */
  height: number;
  idOf(row: Row): string;
  chosen: string | null;
  lookOf(row: Row): Look;
}

function table<Row>(options: TableOptions<Row>): Line[] {
  const { columns, sort, width, height, idOf, chosen, lookOf } = options;
  const rows = sorted(options.rows, columns, sort);
  const shown = layout(columns, rows, width);
  const line = (cells: string[]): string =>
    cells.map((cell, index) => pad(cell, shown[index]?.width ?? 0, shown[index]?.column.right === true)).join(" ");
  const head = shown.map(({ column }) => column.name);
  const room = Math.max(1, height - 1);
  const at = rows.findIndex((row) => idOf(row) === chosen);
  const from = Math.max(0, Math.min(at - room + 1, rows.length - room));
  return [
    { text: ` ${line(head)}`.trimEnd(), look: "head" },
    ...rows.slice(from, from + room).map((row): Line => {
      const isChosen = idOf(row) === chosen;
      const cells = shown.map(({ column, width }) => cut(column.text(row, width), width));
      return { text: `${isChosen ? ">" : " "}${line(cells)}`.trimEnd(), look: isChosen ? "chosen" : lookOf(row) };
    }),
  ];
}

function sorted<Row>(rows: Row[], columns: Column<Row>[], by: number): Row[] {
  const { key } = columns[by % columns.length] as Column<Row>;
  const compare = (a: number | string, b: number | string): number => (a < b ? -1 : a > b ? 1 : 0);
  return [...rows].sort((a, b) => compare(key(a), key(b)));
}

const HELP = [
  "Up, Down, k, j   choose a line",
  "Enter            show the chosen session in full",
  "Esc, Backspace   back to the list of sessions",
  "s                sort by the next column",
  "?                this help",
  "q                quit",
  "",
  "ENTRIES/S: stores, atomic operations, publications, barriers and all else that",
  "has a place in the order. RTT: from the session's server to the node and back.",
  "In direct mode stores do not leave the processes and are not seen.",
];

/** The whole picture: at most `rows` lines of at most `width` columns. */
export function view(model: TopModel, width: number, rows: number): Line[] {
  const room = rows - (model.trouble === null ? 2 : 3);
  const body = model.help ? helpLines() : model.open === null ? list(model, width, room) : full(model, width, room);
  const count = model.sessions.length;
  const title = `dsm top - ${model.address}, ${count === 1 ? "1 session" : `${count} sessions`}`;
  const columns = model.open === null ? LIST : RANKS;
  const sort = model.open === null ? model.sortList : model.sortRanks;
  const by = columns[sort % columns.length]?.name.toLowerCase();
  const keys = model.help
    ? "? back  q quit"
    : `q quit  ? help  s sort (by ${by})  j/k choose  ${model.open === null ? "Enter show" : "Esc list"}`;
  const lines: Line[] = [{ text: title, look: "title" }];
  if (model.trouble !== null) lines.push({ text: model.trouble, look: "bad" });
  lines.push(...body);
  const shown = lines.slice(0, Math.max(1, rows - 1));
  if (rows > 1) shown.push({ text: keys, look: "dim" });
  return shown.map(({ text, look }) => ({ text: cut(text, width), look }));
}

function helpLines(): Line[] {
  return HELP.map((text) => ({ text, look: "plain" }));
}

function list(model: TopModel, width: number, height: number): Line[] {
  if (model.sessions.length === 0) return [{ text: "no session runs", look: "plain" }];
  return table({
    ...{ columns: LIST, rows: model.sessions, sort: model.sortList, width, height, chosen: chosenOf(model) },
    idOf: ({ name }) => name,
    lookOf: (session) =>
      known(session) === null || known(session)?.ranks.some(({ state }) => state === "lost") ? "bad" : "plain",
  });
}

/** The session that is shown in full, if it is there. */
const opened = ({ sessions, open }: TopModel): TopModel["sessions"][0] | undefined =>
  sessions.find(({ name }) => name === open);

function full(model: TopModel, width: number, height: number): Line[] {
  const found = opened(model);
  if (found === undefined) return [{ text: `there is no session "${model.open}"`, look: "bad" }];
  const session = known(found);
  if (session === null) return [{ text: `session "${found.name}": its server does not answer`, look: "bad" }];
  const { name, order, direct, size, present, processes, started, started_ms, barriers, entries, bytes } = session;
  const facts = [
    `session "${name}": ${started ? `running for ${formatDuration(started_ms)}` : "waiting for processes"}`,
    `${present} of ${processes} here`,
    direct ? `${order}, direct mode` : order,
    formatSize(size),
  ].join(", ");
  const counts =
    `${rateText(session.rates?.entries)} entries/s, ${rateText(session.rates?.bytes)} bytes/s; ` +
    `${entries} entries, ${formatSize(bytes)}; ${barriers} barriers; log ${formatSize(session.logBytes)}`;
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
    ...{ columns: RANKS, rows: session.ranks, sort: model.sortRanks, width, chosen: chosenOf(model), lookOf },
    height: height - lines.length - shownQueues.length,
    idOf: ({ rank }) => String(rank),
  });
  return [...lines, ...ranks, ...shownQueues];
}

function queueLines({ semaphores, semaphoresLeftOut, locks, locksLeftOut }: RatedSession, width: number): Line[] {
  const waiting = (waiters: number[]): string =>
    waiters.length === 0
      ? ""
      : `${waiters.length} waiting: ${waiters.length === 1 ? "rank" : "ranks"} ${waiters.join(", ")}`;
  const nameWidth = Math.min(32, Math.max(9, Math.floor(width / 3)));
  const line = (name: string, value: string, waiters: number[]): Line => ({
    text: ` ${pad(cut(name, nameWidth), nameWidth, false)} ${pad(value, 8, true)}  ${waiting(waiters)}`.trimEnd(),
    look: waiters.length > 0 ? "waiting" : "plain",
  });
  const byWaiters = <Queue extends { waiters: number[] }>(queues: Queue[]): Queue[] =>
    [...queues].sort((a, b) => b.waiters.length - a.waiters.length);
  const lines: Line[] = [];
  const head = (kind: string, value: string, leftOut: number): Line => ({
    text: ` ${pad(kind, nameWidth, false)} ${pad(value, 8, true)}  ${leftOut > 0 ? `and ${leftOut} more` : "WAITING"}`,
    look: "head",
  });
  if (semaphores.length > 0) lines.push(head("SEMAPHORE", "VALUE", semaphoresLeftOut));
  for (const { name, value, waiters } of byWaiters(semaphores)) lines.push(line(name, String(value), waiters));
  if (locks.length > 0) lines.push(head("LOCK", "OWNER", locksLeftOut));
  for (const { name, owner, waiters } of byWaiters(locks)) {
    lines.push(line(name, owner === null ? "free" : `rank ${owner}`, waiters));
  }
  return lines;
}

/** Ids of the lines one can choose, as they are sorted. */
function choices(model: TopModel): string[] {
  if (model.open === null) return sorted(model.sessions, LIST, model.sortList).map(({ name }) => name);
  const found = opened(model);
  const session = found === undefined ? null : known(found);
  return sorted(session?.ranks ?? [], RANKS, model.sortRanks).map(({ rank }) => String(rank));
}

/** What is chosen is gone, or nothing was: the first line of the list; in a session no line is, until a key moves it. */
function chosenOf(model: TopModel): string | null {
  const all = choices(model);
  if (model.chosen !== null && all.includes(model.chosen)) return model.chosen;
  return model.open === null ? (all[0] ?? null) : null;
}

export type Key = "up" | "down" | "enter" | "back" | "sort" | "help" | "quit";

/** The keys in what a terminal has sent. */
export function readKeys(text: string): Key[] {
  const keys: Key[] = [];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what keys send
  for (const [sequence] of text.matchAll(/\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Z])?|[^\x1b]/gu)) {
    const key = KEYS[sequence];
    if (key !== undefined) keys.push(key);
  }
  return keys;
}

const KEYS: Partial<Record<string, Key>> = {
  ...{ "\x1b[A": "up", "\x1bOA": "up", k: "up", "\x1b[B": "down", "\x1bOB": "down", j: "down" },
  ...{ "\r": "enter", "\n": "enter", "\x1b": "back", "\x7f": "back", "\b": "back", s: "sort" },
  ...{ "?": "help", h: "help", q: "quit", Q: "quit", "\x03": "quit" },
};

/** What a key makes of it. `quit` is the shell's. */
export function press(model: TopModel, key: Key): TopModel {
  if (model.help) return key === "help" || key === "back" || key === "enter" ? { ...model, help: false } : model;
  switch (key) {
    case "help":
      return { ...model, help: true };
    case "sort":
      return model.open === null
        ? { ...model, sortList: (model.sortList + 1) % LIST.length }
        : { ...model, sortRanks: (model.sortRanks + 1) % RANKS.length };
    case "enter":
      return model.open === null && chosenOf(model) !== null
        ? { ...model, open: chosenOf(model), chosen: null }
        : model;
    case "back":
      return model.open === null ? model : { ...model, open: null, chosen: model.open };
    case "up":
    case "down": {
      const all = choices(model);
      const now = all.indexOf(chosenOf(model) ?? "");
      const next = key === "down" ? Math.min(all.length - 1, now + 1) : Math.max(0, now - 1);
      return { ...model, chosen: all[next] ?? null };
    }
    default:
      return model;
  }
}
