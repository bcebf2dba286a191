/** The tables of figures in the documents are those that the bench writes: its rows, in its form. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { bulk } from "../../scripts/bench/bulk.ts";
import { capture, pipelined } from "../../scripts/bench/capture.ts";
import { contended } from "../../scripts/bench/contended.ts";
import { hops } from "../../scripts/bench/hops.ts";
import { intervals } from "../../scripts/bench/intervals.ts";
import { kernels } from "../../scripts/bench/kernels.ts";
import { local } from "../../scripts/bench/local.ts";
import { loops } from "../../scripts/bench/loops.ts";
import { ordering } from "../../scripts/bench/ordering.ts";
import { type Cells, FRONT, FRONT_COLUMNS, table } from "../../scripts/bench/pages.ts";
import { start } from "../../scripts/bench/start.ts";
import { root } from "../../scripts/steps.ts";

const rows = [local, contended, capture, pipelined, loops, hops, bulk, intervals, kernels, ordering, start].flatMap(
  (group) => group.rows,
);

/** The tables between two comments of a page, as rows of cells. */
function tablesOf(page: string, name: string): { text: string; rows: string[][] }[] {
  const text = readFileSync(join(root, page), "utf8");
  const [, between = ""] = new RegExp(`<!-- ${name} -->\n([\\s\\S]*?)<!-- end of ${name} -->`).exec(text) ?? [];
  return [...between.matchAll(/(?:^\|.*\|\n)+/gm)].map(([found]) => ({
    text: found.trimEnd(),
    rows: found
      .trimEnd()
      .split("\n")
      .map((line) =>
        line
          .slice(1, -1)
          .split("|")
          .map((cell) => cell.trim()),
      ),
  }));
}

test("the README has the rows that it is to have, as the bench writes them", () => {
  const [{ text, rows: lines } = { text: "", rows: [] }] = tablesOf("README.md", "speed");
  const what = FRONT.map((name) => rows.find((row) => row.name === name)?.what);
  expect(lines.slice(2).map(([first]) => first)).toEqual(what);
  const cells = lines.slice(2).map((line) => Object.fromEntries(FRONT_COLUMNS.map((name, i) => [name, line[i]])));
  expect(table(FRONT_COLUMNS, cells as unknown as Cells[])).toBe(text);
});

test("the page on performance has every row of the bench", () => {
  const [figures, peers] = tablesOf("examples/reference/performance.md", "bench");
  expect(figures?.rows[0]).toEqual(["what", "dsm", "floor", "ratio", "to reach"]);
  expect(figures?.rows.slice(2).map(([first]) => first)).toEqual(rows.map((row) => row.what));
  const withPeers = rows.filter((row) => (row.peers ?? []).length > 0).map((row) => row.what);
  expect(peers?.rows.slice(2).map(([first]) => first)).toEqual(withPeers);
});
