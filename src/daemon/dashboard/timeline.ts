/** Timeline: which rank waited when, and for which others: a line for each rank. */
import { formatDuration } from "../../core/base/duration.ts";
import { element, rankMark, setAttribute, setText, Table } from "./dom.ts";
import { percent, wholeSeconds } from "./format.ts";
import { type History, type Lane, type LaneSummary, type Segment, TIMELINE_MS } from "./history.ts";

/** Limit of the lines. More would be unreadable. */
const LANES_MAX = 64;
const HEIGHT = 18;
/** Spans of a short history; a longer one is drawn with TIMELINE_MS. */
const SPANS_MS = [30_000, 60_000];
/** A rank is named if it has cost the others this many times the mean. */
const STANDS_OUT = 1.5;

type Look = "running" | "barrier" | "semaphore" | "lock" | "sleeping" | "gone";

const LOOKS: Record<Segment["state"], Look> = {
  joining: "gone",
  running: "running",
  barrier: "barrier",
  semaphore: "semaphore",
  lock: "lock",
  rwlock: "lock",
  condition: "semaphore",
  sleeping: "sleeping",
  left: "gone",
  lost: "gone",
};

const LEGEND: [Look | "awaited", string][] = [
  ["running", "runs"],
  ["barrier", "in a barrier"],
  ["semaphore", "on a semaphore or condition"],
  ["lock", "for a lock"],
  ["sleeping", "sleeps on a value"],
  ["awaited", "others wait for it"],
];

interface Row {
  lane: Lane;
  summary: LaneSummary;
  now_ms: number;
  /** Span of the line. */
  span_ms: number;
}

export class Timeline {
  readonly element: HTMLElement;
  readonly #words = element("p", { class: "words" });
  readonly #table: Table<Row>;
  #shown: Row[] = [];

  constructor(gone: AbortSignal) {
    this.#table = new Table<Row>(
      "Waits of each rank over time",
      [
        { title: "Rank", fill: (cell, { lane }) => cell.firstChild ?? cell.append(rankMark(lane.rank)) },
        { title: "Time", fill: (cell, row) => drawLane(cell, row) },
        { title: "Waited", figure: true, fill: (cell, { summary }) => setText(cell, percent(summary.waiting)) },
        {
          title: "Cost others",
          figure: true,
          fill: (cell, { summary }) => setText(cell, summary.cost_ms === 0 ? "–" : wholeSeconds(summary.cost_ms)),
        },
      ],
      ({ lane }) => String(lane.rank),
    );
    this.#table.element.classList.add("timeline");
    const lanes = element("div", { class: "many" }, this.#table.element);
    this.element = element("div", {}, this.#words, lanes, legend(gone));
    const redraw = () => this.#table.show(this.#shown);
    new ResizeObserver(redraw).observe(this.element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal: gone });
  }

  show(history: History, now_ms: number): void {
    const lanes = [...history.lanes.values()];
    const seen_ms = now_ms - Math.min(now_ms, ...lanes.map(({ segments }) => segments[0]?.from_ms ?? now_ms));
    const span_ms = SPANS_MS.find((span) => seen_ms <= span) ?? TIMELINE_MS;
    setText(this.#table.element.querySelectorAll("th")[1] as Element, `Last ${span_ms / 1000} s`);
    const rows = lanes.map((lane) => ({ lane, summary: history.summary(lane), now_ms, span_ms }));
    this.#shown = rows.slice(0, LANES_MAX);
    this.#table.show(this.#shown);
    setText(this.#words, mostAwaited(rows));
    if (rows.length > LANES_MAX) this.#words.append(` The first ${LANES_MAX} of ${rows.length} ranks are shown.`);
  }
}

/** mostAwaited names the rank that the others wait for, if one stands out. */
function mostAwaited(rows: Row[]): string {
  const costs = rows.map(({ summary }) => summary.cost_ms);
  const total_ms = costs.reduce((sum, cost) => sum + cost, 0);
  if (total_ms === 0) return "No rank has been seen waiting for another.";
  const most = Math.max(...costs);
  const { lane } = rows[costs.indexOf(most)] as Row;
  if (most < (STANDS_OUT * total_ms) / rows.length) return "No rank is waited for much more than the others.";
  const span = formatDuration(TIMELINE_MS);
  return `Most waited for: rank ${lane.rank}. In the last ${span} the others have waited ${wholeSeconds(most)} for it, all of them together.`;
}

function drawLane(cell: HTMLElement, { lane, summary, now_ms, span_ms }: Row): void {
  let canvas = cell.querySelector("canvas");
  if (canvas === null) {
    canvas = element("canvas", { role: "img" });
    cell.append(canvas);
  }
  setAttribute(canvas, "aria-label", `Rank ${lane.rank} waited ${percent(summary.waiting)} of the time`);
  const context = sized(canvas);
  if (context === null) return;
  const width = canvas.clientWidth;
  const x = (time_ms: number) => Math.max(0, width * (1 - (now_ms - time_ms) / span_ms));
  const colours = coloursOf(canvas);
  const first_ms = lane.segments[0]?.from_ms ?? now_ms;
  context.fillStyle = colours.unseen;
  context.fillRect(x(first_ms), HEIGHT / 2 - 1.5, width - x(first_ms), 1);
  for (const { from_ms, to_ms, state } of lane.segments) {
    draw(context, colours, LOOKS[state], x(from_ms), Math.max(1, x(to_ms) - x(from_ms)));
  }
  for (const { from_ms, to_ms } of lane.awaited) {
    draw(context, colours, "awaited", x(from_ms), Math.max(1, x(to_ms) - x(from_ms)));
  }
}

/** sized clears the canvas and fits it to the resolution of the screen; null: it is not visible. */
function sized(canvas: HTMLCanvasElement): CanvasRenderingContext2D | null {
  const scale = devicePixelRatio;
  const { clientWidth } = canvas;
  if (clientWidth === 0) return null;
  // Setting either of them clears the canvas.
  canvas.width = Math.round(clientWidth * scale);
  canvas.height = Math.round(HEIGHT * scale);
  const context = canvas.getContext("2d");
  context?.setTransform(scale, 0, 0, scale, 0, 0);
  return context;
}

interface Colours {
  /** Colour of times between samples in which the state is unknown. */
  unseen: string;
  quiet: string;
  wait: string;
  late: string;
}

function coloursOf(node: Element): Colours {
  const style = getComputedStyle(node);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  return { unseen: colour("--line"), quiet: colour("--running"), wait: colour("--wait"), late: colour("--late") };
}

/** draw draws a state. Each has its own shape, so that no state depends on its colour alone. */
function draw(
  context: CanvasRenderingContext2D,
  colours: Colours,
  look: Look | "awaited",
  x: number,
  width: number,
): void {
  const middle = HEIGHT / 2 - 2;
  context.fillStyle =
    look === "awaited" ? colours.late : look === "running" || look === "gone" ? colours.quiet : colours.wait;
  if (look === "running") context.fillRect(x, middle, width, 2);
  else if (look === "awaited") context.fillRect(x, HEIGHT - 4, width, 4);
  else if (look === "barrier") context.fillRect(x, 1, width, HEIGHT - 7);
  else if (look === "lock") {
    context.fillRect(x, 1, width, 3);
    context.fillRect(x, HEIGHT - 9, width, 3);
  } else {
    const gap = look === "semaphore" ? 3 : look === "sleeping" ? 6 : 8;
    const high = look === "gone" ? 2 : HEIGHT - 7;
    for (let at = x - (x % gap); at < x + width; at += gap) {
      const from = Math.max(at, x);
      const to = Math.min(at + gap / 2, x + width);
      if (to > from) context.fillRect(from, look === "gone" ? middle : 1, to - from, high);
    }
  }
}

function legend(gone: AbortSignal): HTMLElement {
  const parts = LEGEND.map(([look, words]) => {
    const canvas = element("canvas", { "aria-hidden": "true" });
    const paint = () => {
      const context = sized(canvas);
      if (context !== null) draw(context, coloursOf(canvas), look, 0, canvas.clientWidth);
    };
    new ResizeObserver(paint).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint, { signal: gone });
    return element("span", { class: "step" }, canvas, words);
  });
  return element(
    "p",
    { class: "legend" },
    ...parts,
    element("span", {}, "Sampled twice a second: of shorter waits only some are drawn."),
  );
}
