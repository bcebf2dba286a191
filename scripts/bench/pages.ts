/**
 * The tables of figures in the documents: all of them in examples/reference/performance.md, and the README's few, which are
 * the same figures. Each table stands between two comments.
 */
import { join } from "node:path";
import { BuildError, replaceFile, root } from "../steps.ts";

/** One row of the bench as text. */
export interface Cells {
  what: string;
  dsm: string;
  floor: string;
  ratio: string;
  peers: string;
  "to reach": string;
}

type Column = keyof Cells;

/** The README's rows, by their name in the bench. */
export const FRONT = ["load", "direct-store", "pipelined", "store", "hole"];
export const FRONT_COLUMNS: Column[] = ["what", "dsm", "floor"];

/** A table in Markdown. */
export function table(columns: Column[], rows: Cells[]): string {
  const widths = columns.map((column) => Math.max(column.length, ...rows.map((row) => row[column].length)));
  const line = (fields: string[]) => `| ${fields.map((field, i) => field.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  return [
    line(columns),
    line(widths.map((width) => "-".repeat(width))),
    ...rows.map((row) => line(columns.map((column) => row[column]))),
  ].join("\n");
}

/** Puts `tables` between the comments `<!-- NAME -->` and `<!-- end of NAME -->` of a page. */
async function replaceTables(page: string, name: string, tables: string): Promise<void> {
  const path = join(root, page);
  const text = await Bun.file(path).text();
  const between = new RegExp(`(<!-- ${name} -->\n)[\\s\\S]*?(<!-- end of ${name} -->)`);
  if (!between.test(text)) throw new BuildError(`${page} has no place for the table "${name}"`);
  await replaceFile(
    path,
    text.replace(between, (_, from, to) => `${from}${tables}\n${to}`),
  );
}

/** Writes the figures of a whole run into the documents. */
export async function writePages(rows: Map<string, Cells>): Promise<void> {
  const all = [...rows.values()];
  const figures = table(["what", "dsm", "floor", "ratio", "to reach"], all);
  const peers = table(
    ["what", "dsm", "peers"],
    all.filter((row) => row.peers !== ""),
  );
  await replaceTables("examples/reference/performance.md", "bench", `\n${figures}\n\n${peers}\n`);
  const front = FRONT.map((name) => {
    const row = rows.get(name);
    if (row === undefined) throw new BuildError(`the bench has no row "${name}", which the README shows`);
    return row;
  });
  await replaceTables("README.md", "speed", table(FRONT_COLUMNS, front));
}
