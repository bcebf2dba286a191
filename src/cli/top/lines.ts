/** Lines and tables of a picture: text in columns, and how each line looks. */
import { formatCount } from "../../core/base/count.ts";

/** The style of a line on a terminal that has styles. The text alone says the same. */
export type Look = "plain" | "title" | "head" | "chosen" | "waiting" | "bad" | "dim";

export interface Line {
  text: string;
  look: Look;
}

export interface Column<Row> {
  name: string;
  /** Minimum width. Columns that `grow` share the remaining width. */
  width: number;
  grow?: boolean;
  right?: boolean;
  text(row: Row, width: number): string;
  /** Sort key. */
  key(row: Row): number | string;
}

/** down returns the sort key for descending numbers; null comes last. */
export const down = (value: number | null | undefined): number => -(value ?? -1);

/** rateText returns a rate in few characters: "0", "2.3", "850", "9,999", "12.3k", "4.5M". */
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
    if (value < (of === 1 ? 9999.5 : 999.5)) return `${formatCount(Math.round(value))}${unit}`;
  }
  return rate.toExponential(1);
}

/** cut returns the text in at most `width` columns, with "~" for what was cut off. */
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

export function pad(text: string, width: number, right: boolean): string {
  const space = " ".repeat(Math.max(0, width - Bun.stringWidth(text)));
  return right ? space + text : text + space;
}

/** layout returns the columns that fit into `width`, with their widths. It leaves out the last ones first. */
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

export interface TableOptions<Row> {
  columns: Column<Row>[];
  rows: Row[];
  sort: number;
  width: number;
  /** Lines of the table, its head included. */
  height: number;
  idOf(row: Row): string;
  chosen: string | null;
  lookOf(row: Row): Look;
}

export function table<Row>(options: TableOptions<Row>): Line[] {
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

export function sorted<Row>(rows: Row[], columns: Column<Row>[], by: number): Row[] {
  const { key } = columns[by % columns.length] as Column<Row>;
  const compare = (a: number | string, b: number | string): number => (a < b ? -1 : a > b ? 1 : 0);
  return [...rows].sort((a, b) => compare(key(a), key(b)));
}
