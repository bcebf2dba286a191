/** Charts of throughput and latency over the last minutes. */
import uPlot from "uplot";
import { formatDuration } from "../../core/base/duration.ts";
import { RANK_COLOURS } from "./dashboard-limits.ts";
import { element, rankMark, setText } from "./dom.ts";
import { bytes, short } from "./format.ts";
import { HISTORY_MS, type Point } from "./history.ts";

const HEIGHT = 150;
/** Least value at the top of a chart, so that grid lines have whole numbers. */
const TOP_MIN = 4;
/** Least span of a chart. It grows with the history. */
const SPAN_MIN_MS = 60_000;

export interface Line {
  label: string;
  /** The rank whose colour it has; null: none. */
  rank: number | null;
  values: (number | null)[];
}

/** Chart: one chart with its title, a sentence that says the same, and a legend. */
export class Chart {
  readonly element: HTMLElement;
  readonly #unit: (value: number) => string;
  readonly #steps: number[] | undefined;
  readonly #place = element("div", { class: "plot", "aria-hidden": "true" });
  readonly #words = element("span", { class: "words" });
  readonly #legend = element("span", { class: "lines" });
  #plot: uPlot | null = null;
  #lines = "";
  #data: uPlot.AlignedData = [[]];
  #span_s = SPAN_MIN_MS / 1000;

  /** `steps` of the grid lines. Default: 1, 2 and 5 times powers of ten. */
  constructor(title: string, unit: (value: number) => string, gone: AbortSignal, steps?: number[]) {
    this.#unit = unit;
    this.#steps = steps;
    const caption = element("figcaption", {}, element("h4", {}, title), this.#words, this.#legend);
    this.element = element("figure", { class: "chart" }, caption, this.#place);
    new ResizeObserver(() => this.#fit()).observe(this.#place);
    // A canvas does not follow the colour scheme by itself.
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#make(), { signal: gone });
  }

  /** `of`: the scope of a line, in words: its figures are not those of the whole session. */
  show(points: readonly Point[], lines: Line[], of: string): void {
    const now_ms = points.at(-1)?.time_ms ?? 0;
    const shown_ms = now_ms - (points[0]?.time_ms ?? 0);
    this.#span_s = Math.min(HISTORY_MS, Math.max(SPAN_MIN_MS, Math.ceil(shown_ms / 60_000) * 60_000)) / 1000;
    this.#data = [points.map(({ time_ms }) => (time_ms - now_ms) / 1000), ...lines.map(({ values }) => values)];
    const key = lines.map(({ label, rank }) => `${label}/${rank}`).join();
    if (this.#plot === null || key !== this.#lines) {
      this.#lines = key;
      this.#make(lines);
      this.#legend.replaceChildren(
        ...(lines.length > 1
          ? lines.map(({ label, rank }) =>
              element(
                "span",
                { class: "line" },
                ...(rank === null ? [] : [rankMark(rank)]),
                ...(/^\d+$/.test(label) ? [] : [label]),
              ),
            )
          : []),
      );
    } else {
      this.#plot.setData(this.#data);
    }
    this.#say(lines, shown_ms, of);
  }

  #say(lines: Line[], shown_ms: number, of: string): void {
    const known = lines.flatMap(({ values }) => values.filter((value) => value !== null));
    if (known.length === 0) {
      setText(this.#words, "Not measured yet.");
      return;
    }
    const now = lines.map(({ values }) => values.at(-1) ?? null).filter((value) => value !== null);
    const least = Math.min(...now);
    const most = Math.max(...now);
    const current =
      now.length === 0 ? "" : least === most ? this.#unit(most) : `${this.#unit(least)} to ${this.#unit(most)}`;
    const highest = this.#unit(known.reduce((one, other) => Math.max(one, other)));
    setText(
      this.#words,
      `${current === "" ? "" : `Now ${current} ${of}; `}at most ${highest} in ${formatDuration(shown_ms)}.`,
    );
  }

  #ranks: (number | null)[] = [];

  #make(lines?: Line[]): void {
    if (lines !== undefined) this.#ranks = lines.map(({ rank }) => rank);
    if (this.#lines === "" && lines === undefined) return;
    this.#plot?.destroy();
    const style = getComputedStyle(this.#place);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const axis = {
      stroke: colour("--quiet"),
      font: `11px ${style.fontFamily}`,
      ticks: { show: false },
      grid: { stroke: colour("--line"), width: 1 },
    };
    this.#plot = new uPlot(
      {
        width: Math.max(200, this.#place.clientWidth),
        height: HEIGHT,
        padding: [8, 12, 0, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: false, range: () => [-this.#span_s, 0] },
          y: { range: (_plot, _min, max) => [0, Math.max(TOP_MIN, max * 1.08)] },
        },
        axes: [
          { ...axis, space: 60, incrs: [10, 15, 30, 60], values: (_plot, values) => values.map(ago), size: 24 },
          {
            ...axis,
            ...(this.#steps === undefined ? {} : { incrs: this.#steps }),
            space: 24,
            values: (_plot, values) => values.map((value) => this.#unit(value)),
            size: 68,
            gap: 4,
          },
        ],
        series: [
          {},
          ...this.#ranks.map((rank) => ({
            stroke: rank === null ? colour("--accent") : colour(`--rank-${rank % RANK_COLOURS}`),
            width: 1.5,
            points: { show: false },
            spanGaps: false,
          })),
        ],
      },
      this.#data,
      this.#place,
    );
  }

  #fit(): void {
    const width = this.#place.clientWidth;
    if (this.#plot !== null && width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }
}

function ago(seconds: number): string {
  if (seconds === 0) return "now";
  return seconds % 60 === 0 ? `−${-seconds / 60} min` : `−${-seconds} s`;
}

const perSecond = (value: number) => `${short(value)}/s`;
const bytesPerSecond = (value: number) => `${bytes(value)}/s`;

const microseconds = (value: number) => (value === 0 ? "0" : formatDuration(value / 1000));
const powersOfTwo = Array.from({ length: 44 }, (_, i) => 2 ** i);

/** The three charts of a session. */
export class Charts {
  readonly element: HTMLElement;
  readonly #entries: Chart;
  readonly #bytes: Chart;
  readonly #roundTrip: Chart;

  /** `gone`: aborted when they are removed. */
  constructor(gone: AbortSignal) {
    this.#entries = new Chart("Entries per second", perSecond, gone);
    this.#bytes = new Chart("Bytes per second", bytesPerSecond, gone, powersOfTwo);
    this.#roundTrip = new Chart("Round trip to each node", microseconds, gone);
    this.element = element(
      "div",
      { class: "charts" },
      this.#entries.element,
      this.#bytes.element,
      this.#roundTrip.element,
    );
  }

  /** `ranks`: numbers of the ranks; `nodes`: their names, with the first rank of each. */
  show(points: readonly Point[], ranks: number[], nodes: { name: string; rank: number }[]): void {
    const byRank = (pick: (point: Point) => number[]): Line[] =>
      ranks.length <= RANK_COLOURS
        ? ranks.map((rank, i) => ({ label: String(rank), rank, values: points.map((point) => pick(point)[i] ?? null) }))
        : [{ label: "all", rank: null, values: points.map((point) => pick(point).reduce((sum, one) => sum + one, 0)) }];
    const of =
      ranks.length === 1 ? "in all" : ranks.length <= RANK_COLOURS ? "for each rank" : "for all ranks together";
    this.#entries.show(
      points,
      byRank(({ entries }) => entries),
      of,
    );
    this.#bytes.show(
      points,
      byRank((point) => point.bytes),
      of,
    );
    const measured = nodes.slice(0, RANK_COLOURS).map(({ name, rank }, i) => ({
      ...{ label: name, rank },
      values: points.map(({ roundTripUs }) => roundTripUs[i] ?? null),
    }));
    this.#roundTrip.show(points, measured, measured.length === 1 ? "to the node" : "to each node");
  }
}
