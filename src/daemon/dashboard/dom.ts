/** Elements of the page. Text is always set as text, so the name of a session is never markup. */

import { RANK_COLOURS } from "./dashboard-limits.ts";

type Child = Node | string;

/** element makes an element. An attribute `false` is left out, `true` is set to "". */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Record<string, string | number | boolean> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/** setText sets the text only if it differs: unchanged text keeps its selection and is not announced again. */
export function setText(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node: Element, name: string, value: string): void {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** section makes a part of the page with a heading. */
export function section(id: string, title: string, ...children: Child[]): HTMLElement {
  const heading = element("h3", { id: `${id}-title` }, title);
  return element("section", { id, "aria-labelledby": `${id}-title` }, heading, ...children);
}

/** A column of a table: the contents of its cells, and their alignment. */
export interface Column<Row> {
  title: string;
  /** Right-aligned, with digits of equal width. */
  figure?: boolean;
  /** Fills a cell: first an empty one, then the same one for each new state of the row. */
  fill(cell: HTMLElement, row: Row): void;
}

/**
 * Table keeps the element of a row as long as its key stays. Its roles are explicit: on a narrow screen rows become
 * blocks, which a screen reader would otherwise no longer take for a table.
 */
export class Table<Row> {
  readonly element: HTMLTableElement;
  readonly #columns: Column<Row>[];
  readonly #key: (row: Row) => string;
  readonly #body = element("tbody", { role: "rowgroup" });
  readonly #rows = new Map<string, HTMLTableRowElement>();

  constructor(label: string, columns: Column<Row>[], key: (row: Row) => string) {
    this.#columns = columns;
    this.#key = key;
    const titles = columns.map(({ title, figure = false }) =>
      element("th", { scope: "col", role: "columnheader", class: figure ? "figure" : false }, title),
    );
    const head = element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...titles));
    this.element = element("table", { role: "table", "aria-label": label }, head, this.#body);
  }

  show(rows: readonly Row[]): void {
    const wanted = new Set<string>();
    rows.forEach((row, i) => {
      const key = this.#key(row);
      wanted.add(key);
      const line = this.#rows.get(key) ?? this.#makeRow(key);
      if (this.#body.children[i] !== line) this.#body.insertBefore(line, this.#body.children[i] ?? null);
      this.#columns.forEach((column, at) => {
        column.fill(line.children[at] as HTMLElement, row);
      });
    });
    for (const [key, line] of this.#rows) {
      if (wanted.has(key)) continue;
      line.remove();
      this.#rows.delete(key);
    }
  }

  #makeRow(key: string): HTMLTableRowElement {
    const cells = this.#columns.map(({ title, figure = false }, i) =>
      i === 0
        ? element("th", { scope: "row", role: "rowheader", "data-title": title, class: figure ? "figure" : false })
        : element("td", { role: "cell", "data-title": title, class: figure ? "figure" : false }),
    );
    const line = element("tr", { role: "row", "data-key": key }, ...cells);
    this.#rows.set(key, line);
    return line;
  }
}

/** rankMark makes the mark of a rank: its number on its colour. */
export function rankMark(rank: number): HTMLElement {
  return element("span", { class: "rank", "data-rank": rank % RANK_COLOURS }, String(rank));
}
