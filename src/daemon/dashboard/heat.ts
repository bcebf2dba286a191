/** HeatMap: the map as a grid of cells, each with its last writer and the number of its writes. */
import { counted, formatCount } from "../../core/base/count.ts";
import type { BlockStatus, Heat } from "../../core/messages/daemon-api.ts";
import { RANK_COLOURS } from "./dashboard-limits.ts";
import { element, rankMark, setAttribute, setText } from "./dom.ts";
import { address, bytes } from "./format.ts";

/** Numbers of entries at which a cell gets the next depth of colour. */
export const LEVELS = [1, 10, 100, 1_000, 10_000];
/** Width of a cell in CSS pixels, gap included. */
const CELL_MIN = 7.5;
const CELL_MIN_NARROW = 5;
const CELL_MAX = 14;
const GUTTER = 56;
const COLUMNS_MIN = 8;
const COLUMNS_MAX = 128;
/** Rows that Page Up and Page Down move. */
const PAGE_ROWS = 8;

export function levelOf(writes: number): number {
  return LEVELS.filter((least) => writes >= least).length;
}

/** columnsFor returns the number of columns: a power of two that fits, and fewer for a map of few cells. */
export function columnsFor(cells: number, width: number): number {
  const least = width < 500 ? CELL_MIN_NARROW : CELL_MIN;
  let columns = COLUMNS_MIN;
  while (columns < COLUMNS_MAX && columns * 2 * least <= width && columns * columns < cells) columns *= 2;
  return columns;
}

export interface MapFacts {
  /** Bytes of the map. */
  size: number;
  blocks: BlockStatus[];
}

export class HeatMap {
  readonly element: HTMLElement;
  readonly #grid = element("div", {
    role: "grid",
    class: "grid",
    "aria-label": "Memory by last writer and number of writes",
  });
  readonly #pointed = element("p", { class: "pointed", "aria-hidden": "true" });
  readonly #select: (cell: number) => void;
  #cells: HTMLElement[] = [];
  #heat: Heat | null = null;
  #facts: MapFacts = { size: 0, blocks: [] };
  #columns = 0;
  #focused = 0;
  #selected = -1;
  /** The cell that is described below the map. */
  #at = -1;

  /** `select` is called with the chosen cell. */
  constructor(select: (cell: number) => void) {
    this.#select = select;
    this.element = element("div", { class: "heat" }, this.#grid, this.#pointed, legend());
    this.#point(-1);
    this.#grid.addEventListener("click", (event) => this.#choose(cellOf(event.target)));
    this.#grid.addEventListener("pointerover", (event) => this.#point(cellOf(event.target)));
    this.#grid.addEventListener("pointerleave", () => this.#point(this.#selected));
    this.#grid.addEventListener("focusin", (event) => this.#point(cellOf(event.target)));
    this.#grid.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#layOut()).observe(this.element);
  }

  get heat(): Heat | null {
    return this.#heat;
  }

  show(heat: Heat, facts: MapFacts): void {
    const before = this.#heat;
    this.#heat = heat;
    this.#facts = facts;
    if (before === null || before.writers.length !== heat.writers.length || before.cell !== heat.cell) {
      this.#columns = 0;
      this.#at = -1;
      this.#layOut();
      this.#sayPointed();
      return;
    }
    for (let i = 0; i < heat.writers.length; i++) {
      const fresh = heat.writes[i] !== before.writes[i];
      const cell = this.#cells[i] as HTMLElement;
      if (fresh) this.#paint(cell, i);
      if (fresh !== cell.hasAttribute("data-fresh")) cell.toggleAttribute("data-fresh", fresh);
    }
    this.#sayPointed();
  }

  /** Marks a cell as the chosen one. */
  mark(cell: number): void {
    this.#cells[this.#selected]?.setAttribute("aria-selected", "false");
    this.#selected = cell;
    this.#cells[cell]?.setAttribute("aria-selected", "true");
    this.#focus(cell, false);
    this.#point(cell);
  }

  #layOut(): void {
    const { clientWidth } = this.element;
    if (this.#heat === null || clientWidth === 0) return;
    const cells = this.#heat.writers.length;
    const columns = columnsFor(cells, clientWidth - GUTTER);
    if (columns === this.#columns) return;
    this.#columns = columns;
    const focused = this.#grid.contains(document.activeElement);
    this.#cells = this.#heat.writers.map((_, i) => {
      const cell = element("div", {
        ...{
          role: "gridcell",
          class: "cell",
          "data-cell": i,
          tabindex: -1,
          "aria-selected": String(i === this.#selected),
        },
        ...{ "aria-colindex": (i % columns) + 2 },
      });
      this.#paint(cell, i);
      return cell;
    });
    const rows: HTMLElement[] = [];
    for (let first = 0; first < cells; first += columns) {
      const head = element("div", { role: "rowheader", class: "row-head" }, address(first * this.#heat.cell));
      rows.push(element("div", { role: "row", class: "cells" }, head, ...this.#cells.slice(first, first + columns)));
    }
    this.#grid.style.setProperty("--columns", String(columns));
    this.#grid.style.setProperty("--widest", `${columns * CELL_MAX + GUTTER}px`);
    this.#grid.replaceChildren(...rows);
    // Rows that are too low for a label each get one only every few rows.
    const height = Math.max(1, Math.min(CELL_MAX, (clientWidth - GUTTER) / columns));
    const every = 2 ** Math.ceil(Math.log2(Math.max(1, 15 / height)));
    rows.forEach((row, i) => {
      row.toggleAttribute("data-labelled", i % every === 0);
    });
    setAttribute(this.#grid, "aria-rowcount", String(rows.length));
    this.#focus(Math.min(this.#focused, cells - 1), focused);
  }

  #paint(cell: HTMLElement, i: number): void {
    const { writers, writes } = this.#heat as Heat;
    const writer = writers[i] as number;
    if (writer >= 0) {
      setAttribute(cell, "data-rank", String(writer % RANK_COLOURS));
      setAttribute(cell, "data-writer", String(writer));
      setAttribute(cell, "data-level", String(levelOf(writes[i] as number)));
    }
    cell.setAttribute("aria-label", this.describe(i));
  }

  /** describe returns a cell in words. */
  describe(cell: number): string {
    const { writers, writes } = this.#heat as Heat;
    const { from, to } = this.range(cell);
    const named = this.#facts.blocks.filter(({ offset, size }) => offset < to && offset + size > from);
    const inside = named.length === 0 ? "" : `, in ${named.map(({ name }) => `"${name}"`).join(", ")}`;
    const writer = writers[cell] as number;
    const times = writes[cell] as number;
    const what =
      writer < 0 ? "not written yet" : `last written by rank ${writer}, ${counted(times, "entry", "entries")}`;
    return `${address(from)}, ${bytes(to - from)}${inside}: ${what}`;
  }

  /** range returns the bytes of a cell. */
  range(cell: number): { from: number; to: number } {
    const { cell: size } = this.#heat as Heat;
    return { from: cell * size, to: Math.min((cell + 1) * size, this.#facts.size) };
  }

  #point(cell: number | null): void {
    if (cell === null) return;
    this.#at = cell;
    this.#sayPointed();
  }

  #sayPointed(): void {
    const words =
      this.#at >= 0
        ? this.describe(this.#at)
        : "Click a cell, or press Enter on it, to see its bytes. Arrow keys move.";
    setText(this.#pointed, words);
  }

  #choose(cell: number | null): void {
    if (cell === null) return;
    this.mark(cell);
    this.#select(cell);
  }

  #focus(cell: number, really: boolean): void {
    this.#cells[this.#focused]?.setAttribute("tabindex", "-1");
    this.#focused = cell;
    const target = this.#cells[cell];
    target?.setAttribute("tabindex", "0");
    if (really) target?.focus();
  }

  #key(event: KeyboardEvent): void {
    const cell = cellOf(event.target);
    if (cell === null || event.altKey || event.metaKey) return;
    const last = this.#cells.length - 1;
    const columns = this.#columns;
    const row = cell - (cell % columns);
    const moves: Record<string, number> = {
      ArrowLeft: cell - 1,
      ArrowRight: cell + 1,
      ArrowUp: cell - columns,
      ArrowDown: cell + columns,
      PageUp: cell - columns * PAGE_ROWS,
      PageDown: cell + columns * PAGE_ROWS,
      Home: event.ctrlKey ? 0 : row,
      End: event.ctrlKey ? last : row + columns - 1,
    };
    const to = moves[event.key];
    if (to !== undefined) {
      event.preventDefault();
      const within = to < 0 ? (event.key === "PageUp" ? cell % columns : cell) : to;
      this.#focus(within > last ? (event.key.startsWith("Arrow") ? cell : last) : within, true);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#choose(cell);
    }
  }
}

function cellOf(target: EventTarget | null): number | null {
  const { cell } = (target as HTMLElement).dataset;
  return cell === undefined ? null : Number(cell);
}

/** legend explains the depths of colour. */
function legend(): HTMLElement {
  const steps = LEVELS.map((least, i) =>
    element(
      "span",
      { class: "step" },
      element("span", { class: "cell", "data-rank": 0, "data-level": i + 1 }),
      i === 0 ? "1" : `${formatCount(least)}${i === LEVELS.length - 1 ? " and more" : ""}`,
    ),
  );
  return element(
    "p",
    { class: "legend" },
    "Entries that wrote there:",
    ...steps,
    element("span", { class: "ranks-legend" }),
  );
}

/** showRanksIn puts the colours of the ranks into the legend. */
export function showRanksIn(map: HeatMap, ranks: number[]): void {
  const place = map.element.querySelector(".ranks-legend") as HTMLElement;
  const shown = ranks.slice(0, RANK_COLOURS);
  if (place.childElementCount === shown.length) return;
  place.replaceChildren("By rank:", ...shown.map((rank) => rankMark(rank)));
  if (ranks.length > shown.length) place.append(`colours repeat from rank ${RANK_COLOURS} on`);
}
