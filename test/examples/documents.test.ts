/** The form of the documents: a front page of 200 lines, lines that an editor shows, figures that agree. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { documents } from "../support/documents.ts";
import { ROOT } from "../support/e2e-cluster.ts";
import { readBlocks } from "../support/readme-blocks.ts";

const LINES_MAX = 200;
const WIDTH_MAX = 160;

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

/** Lines wider than an editor shows, by number. */
const wideLines = (text: string): number[] =>
  text.split("\n").flatMap((line, index) => ([...line].length > WIDTH_MAX ? [index + 1] : []));

/** A document without its tables and the lines of its blocks, which show what programs print. */
function prose(text: string): string {
  const lines = text.split("\n");
  for (const block of readBlocks(text)) {
    const length = block.text.split("\n").length - 1;
    lines.fill("", block.line, block.line + length);
  }
  return lines.map((line) => (line.startsWith("|") ? "" : line)).join("\n");
}

test("the README has at most 200 lines, none of them wide", () => {
  const text = read("README.md");
  expect(text.trimEnd().split("\n").length).toBeLessThanOrEqual(LINES_MAX);
  expect(wideLines(text)).toEqual([]);
});

test.each(documents("{src,native,test,scripts}/**/*.md").filter((path) => !path.startsWith("native/build/")))(
  "%s has no wide line",
  (path) => {
    expect(wideLines(read(path))).toEqual([]);
  },
);

test.each(documents("examples/**/*.md"))("%s has no wide line of prose", (path) => {
  expect(wideLines(prose(read(path)))).toEqual([]);
});

test("the README's figures are those of the page on performance", () => {
  const figures = (path: string, columns: number): string[] =>
    read(path)
      .split("\n")
      .filter((line) => line.startsWith("| ") && /\d [mun]?s |B\/s /.test(line))
      .map((line) =>
        line
          .split("|")
          .slice(1, 1 + columns)
          .map((cell) => cell.trim())
          .join("; "),
      );
  const front = figures("README.md", 3);
  expect(front).toHaveLength(5);
  expect(figures("examples/reference/performance.md", 3)).toEqual(expect.arrayContaining(front));
});

test.each([...documents("README.md", "examples/**/*.{md,ts}"), "src/cli/install/projects.ts"])(
  "%s: no program declares by `using`, which is a syntax error for Node 20 and 22",
  (path) => {
    expect(
      read(path)
        .split("\n")
        .filter((line) => /\busing \w+ =/.test(line)),
    ).toEqual([]);
  },
);
