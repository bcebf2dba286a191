/** SessionView: one session, updated with each sample. */

import { counted, formatCount } from "../../core/base/count.ts";
import { formatDuration } from "../../core/base/duration.ts";
import { isObjectText, objectText } from "../../core/base/names.ts";
import type {
  BlockStatus,
  LockStatus,
  ObjectStatus,
  RankStatus,
  SemaphoreStatus,
  SessionDetail,
} from "../../core/messages/daemon-api.ts";
import { rankList } from "../../core/observe/why.ts";
import type { Api } from "./api.ts";
import { Charts } from "./charts.ts";
import { element, rankMark, section, setText, Table } from "./dom.ts";
import { address, bytes, short } from "./format.ts";
import { History, isWaiting, nodesOf } from "./history.ts";
import { MemoryView } from "./memory-view.ts";
import { Timeline } from "./timeline.ts";
import { Waits } from "./waits.ts";

/** Shorter times are not shown: many of them pass between two samples. */
const BRIEF_MS = 10;

interface RankRow {
  status: RankStatus;
  /** Per second; null before the second sample. */
  entries: number | null;
  bytes: number | null;
}

const NOTE_DIRECT =
  "Direct mode: all processes are on one node and share its memory, so stores are not seen. Entries and bytes count only " +
  "what goes through the session's server, such as barriers, semaphores and locks; the bytes of the map cannot be " +
  "shown. DSM_DIRECT=0 turns direct mode off.";

export class SessionView {
  readonly element: HTMLElement;
  readonly #history = new History();
  readonly #facts = element("p", { class: "facts" });
  readonly #note = element("p", { class: "note", hidden: true }, NOTE_DIRECT);
  readonly #over = element("p", { class: "note over", role: "status", hidden: true });
  readonly #waits = new Waits();
  readonly #figures = element("dl", { class: "figures" });
  readonly #ranks = rankTable();
  readonly #memory: MemoryView;
  readonly #charts: Charts;
  readonly #timeline: Timeline;
  readonly #things = new Things();
  #detail: SessionDetail | null = null;

  /** `gone`: aborted when the view is removed. */
  constructor(name: string, api: Api, gone: AbortSignal) {
    this.#charts = new Charts(gone);
    this.#timeline = new Timeline(gone);
    this.#memory = new MemoryView(name, api);
    this.element = element(
      "div",
      { class: "session" },
      element("header", { class: "title" }, element("h2", { id: "session-name" }, name), this.#facts),
      this.#over,
      this.#note,
      this.#waits.list,
      this.#waits.announced,
      this.#figures,
      section("ranks", "Ranks", element("div", { class: "many" }, this.#ranks.element)),
      this.#memory.element,
      section("timeline", "Barriers and waits", this.#timeline.element),
      section("rates", "Throughput and latency", this.#charts.element),
      section("things", "Semaphores, locks and named blocks", this.#things.element),
    );
  }

  /** Shows a sample. */
  show(detail: SessionDetail): void {
    this.#over.hidden = true;
    this.element.classList.remove("stale");
    this.#history.add(detail);
    // When the server does not answer, the last figures stay.
    const { answered } = detail;
    if (!answered && this.#detail?.answered) {
      this.#waits.show(detail);
      return;
    }
    this.#detail = detail;
    this.#note.hidden = !detail.direct;
    setText(this.#facts, facts(detail));
    this.#waits.show(detail);
    this.#showFigures(detail);
    const rates = this.#history.rates;
    this.#ranks.show(
      detail.ranks.map((status, i) => ({ status, entries: rates?.entries[i] ?? null, bytes: rates?.bytes[i] ?? null })),
    );
    this.#memory.show(detail);
    const nodes = nodesOf(detail).map((name) => ({
      name,
      rank: detail.ranks.find(({ node }) => node === name)?.rank ?? 0,
    }));
    this.#charts.show(
      this.#history.points,
      detail.ranks.map(({ rank }) => rank),
      nodes,
    );
    this.#timeline.show(this.#history, detail.time_ms);
    this.#things.show(detail);
  }

  /** Marks what is shown as old, with the reason. */
  stale(why: string): void {
    this.element.classList.add("stale");
    this.#over.hidden = false;
    setText(this.#over, why);
  }

  #showFigures(detail: SessionDetail): void {
    const rates = this.#history.rates;
    const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);
    const figures: [name: string, value: string, more: string][] = [
      ["Entries", rates === null ? "–" : `${short(sum(rates.entries))}/s`, `${formatCount(detail.entries)} in all`],
      ["Bytes", rates === null ? "–" : `${bytes(sum(rates.bytes))}/s`, `${bytes(detail.bytes)} in all`],
      ["Barriers", formatCount(detail.barriers), "passed"],
      [
        "Waiting",
        formatCount(detail.ranks.filter(isWaiting).length),
        `of ${formatCount(detail.present)} in the session`,
      ],
      ["Log", bytes(detail.logBytes), "held by the server"],
    ];
    if (this.#figures.childElementCount === 0) {
      for (const [name] of figures) {
        const key = name.toLowerCase();
        this.#figures.append(
          element(
            "div",
            { "data-figure": key },
            element("dt", {}, name),
            element("dd", { class: "value" }),
            element("dd", { class: "more" }),
          ),
        );
      }
    }
    figures.forEach(([, value, more], i) => {
      const place = this.#figures.children[i] as HTMLElement;
      setText(place.children[1] as Element, value);
      setText(place.children[2] as Element, more);
    });
  }
}

function facts(detail: SessionDetail): string {
  const nodes = nodesOf(detail).length;
  const parts = [
    `order ${detail.order}`,
    `${counted(detail.processes, "process", "processes")}${detail.elastic ? " to begin with, elastic" : ""}`,
    ...(nodes > 0 ? [counted(nodes, "node")] : []),
    bytes(detail.size),
    `on loss: ${detail.onLoss}`,
    `server ${detail.host}:${detail.port}, pid ${detail.pid}${detail.epoch > 1 ? `, the ${ordinal(detail.epoch)} one` : ""}`,
    ...(detail.started ? [`running for ${formatDuration(detail.started_ms)}`] : []),
  ];
  return parts.join(" · ");
}

function ordinal(n: number): string {
  const last = n % 10;
  const ending =
    n % 100 >= 11 && n % 100 <= 13 ? "th" : last === 1 ? "st" : last === 2 ? "nd" : last === 3 ? "rd" : "th";
  return `${n}${ending}`;
}

const STATES: Record<RankStatus["state"], string> = {
  joining: "joins",
  running: "runs",
  barrier: "in barrier",
  semaphore: "on semaphore",
  lock: "for lock",
  condition: "for",
  rwlock: "for",
  sleeping: "sleeps at",
  left: "has left",
  lost: "lost",
};

function rankTable(): Table<RankRow> {
  const rate = (value: number | null, shown: (value: number) => string) => (value === null ? "–" : `${shown(value)}/s`);
  const table = new Table<RankRow>(
    "Ranks of the session",
    [
      { title: "Rank", fill: (cell, { status }) => cell.firstChild ?? cell.append(rankMark(status.rank)) },
      { title: "Node", fill: (cell, { status }) => setText(cell, status.node) },
      { title: "Pid", figure: true, fill: (cell, { status }) => setText(cell, String(status.pid)) },
      { title: "State", fill: showState },
      { title: "Entries/s", figure: true, fill: (cell, { entries }) => setText(cell, rate(entries, short)) },
      { title: "Bytes/s", figure: true, fill: (cell, row) => setText(cell, rate(row.bytes, bytes)) },
      { title: "Entries", figure: true, fill: (cell, { status }) => setText(cell, formatCount(status.entries)) },
      { title: "Bytes", figure: true, fill: (cell, { status }) => setText(cell, bytes(status.bytes)) },
      {
        title: "Round trip",
        figure: true,
        fill: (cell, { status }) =>
          setText(cell, status.roundTripUs === null ? "–" : formatDuration(status.roundTripUs / 1000)),
      },
      {
        title: "Last write",
        figure: true,
        fill: (cell, { status }) => setText(cell, lastWrite(status)),
      },
    ],
    ({ status }) => String(status.rank),
  );
  table.element.classList.add("ranks");
  return table;
}

function lastWrite({ lastWriteMs }: RankStatus): string {
  if (lastWriteMs === null) return "–";
  return lastWriteMs < BRIEF_MS ? "now" : `${formatDuration(lastWriteMs)} ago`;
}

function showState(cell: HTMLElement, { status }: RankRow): void {
  const { state, on, stateMs, holds } = status;
  if (cell.childElementCount === 0)
    cell.append(element("span", { class: "state" }), " ", element("span", { class: "times" }));
  const quoted = (name: string): string => (isObjectText(name) ? name : `"${name}"`);
  const name = on === undefined ? "" : state === "sleeping" ? ` ${on}` : ` ${quoted(on)}`;
  const has = holds === undefined || holds.length === 0 ? "" : `, has ${holds.map(quoted).join(", ")}`;
  const words = cell.children[0] as HTMLElement;
  setText(words, `${on !== undefined && isObjectText(on) ? "for" : STATES[state]}${name}${has}`);
  words.dataset.state = state;
  setText(cell.children[1] as Element, stateMs < BRIEF_MS ? "" : formatDuration(stateMs));
}

/** Which ranks have a reader-writer lock, or how many have arrived at a barrier. */
function objectState({ object, holders, isWritten, count, waiting }: ObjectStatus): string {
  if (object === "condition") return "–";
  if (object === "barrier") return `${formatCount(waiting)} of ${formatCount(count)}`;
  return holders.length === 0 ? "free" : `${rankList(holders)} ${isWritten ? "writing" : "reading"}`;
}

/** Tables of semaphores, locks, other objects in the map and named blocks. Empty ones are hidden. */
class Things {
  readonly element = element("div", { class: "things" });
  readonly #semaphores = new Table<SemaphoreStatus>(
    "Semaphores",
    [
      { title: "Semaphore", fill: (cell, { name }) => setText(cell, name) },
      { title: "Value", figure: true, fill: (cell, { value }) => setText(cell, formatCount(value)) },
      { title: "Waiting", fill: (cell, { waiters }) => setText(cell, waiters.length === 0 ? "–" : rankList(waiters)) },
    ],
    ({ name }) => name,
  );
  readonly #locks = new Table<LockStatus>(
    "Locks",
    [
      { title: "Lock", fill: (cell, { name }) => setText(cell, name) },
      { title: "Owner", fill: (cell, { owner }) => setText(cell, owner === null ? "free" : `rank ${owner}`) },
      { title: "Waiting", fill: (cell, { waiters }) => setText(cell, waiters.length === 0 ? "–" : rankList(waiters)) },
    ],
    ({ name }) => name,
  );
  readonly #objects = new Table<ObjectStatus>(
    "Objects in the map",
    [
      { title: "Object", fill: (cell, { object, offset }) => setText(cell, objectText(object, offset)) },
      { title: "State", fill: (cell, object) => setText(cell, objectState(object)) },
      { title: "Waiting", fill: (cell, { waiters }) => setText(cell, waiters.length === 0 ? "–" : rankList(waiters)) },
    ],
    ({ object, offset }) => objectText(object, offset),
  );
  readonly #blocks = new Table<BlockStatus>(
    "Named blocks",
    [
      { title: "Block", fill: (cell, { name }) => setText(cell, name) },
      { title: "Place", figure: true, fill: (cell, { offset }) => setText(cell, address(offset)) },
      { title: "Size", figure: true, fill: (cell, { size }) => setText(cell, bytes(size)) },
    ],
    ({ name }) => name,
  );
  readonly #none = element("p", { class: "quiet" }, "This session has none so far.");
  readonly #more = element("p", { class: "quiet" });

  constructor() {
    const tables = [this.#semaphores, this.#locks, this.#objects, this.#blocks].map((table) => table.element);
    this.element.append(this.#none, ...tables, this.#more);
  }

  show(detail: SessionDetail): void {
    const { semaphores, locks, objects, blocks } = detail;
    this.#semaphores.show(semaphores);
    this.#locks.show(locks);
    this.#objects.show(objects);
    this.#blocks.show(blocks);
    this.#semaphores.element.hidden = semaphores.length === 0;
    this.#locks.element.hidden = locks.length === 0;
    this.#objects.element.hidden = objects.length === 0;
    this.#blocks.element.hidden = blocks.length === 0;
    this.#none.hidden = semaphores.length + locks.length + objects.length + blocks.length > 0;
    const left = detail.semaphoresLeftOut + detail.locksLeftOut + detail.objectsLeftOut + detail.blocksLeftOut;
    this.#more.hidden = left === 0;
    setText(this.#more, `${formatCount(left)} more are not shown.`);
  }
}
