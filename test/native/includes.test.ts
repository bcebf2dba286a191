/** What may include what in native/src: folders downwards only, in their one order, and nothing in a circle. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { files, root } from "../../scripts/steps.ts";

/** From the top down: a folder includes its own files and those of the folders after it. */
const FOLDERS = ["api", "interpose", "sync", "session", "pages", "link", "burst", "trap", "base"];

interface Include {
  from: string;
  to: string;
}

/** The includes in quotes, which are those of the library's own headers. */
const includesOf = (from: string, text: string): Include[] =>
  [...text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)].map(([, to]) => ({ from, to: to as string }));

const folderOf = (file: string): string => file.split("/")[0] as string;

const upward = ({ from, to }: Include): boolean => FOLDERS.indexOf(folderOf(to)) < FOLDERS.indexOf(folderOf(from));

/** The circles, a source and the header of its name being one; empty if there are none. */
function circles(includes: Include[]): string[][] {
  const needs = new Map<string, Set<string>>();
  const moduleOf = (file: string): string => file.replace(/\.[ch]$/, "");
  for (const { from, to } of includes) {
    const [a, b] = [moduleOf(from), moduleOf(to)];
    if (a !== b) needs.set(a, (needs.get(a) ?? new Set()).add(b));
  }
  const done = new Set<string>();
  const found: string[][] = [];
  const follow = (module: string, way: string[]): void => {
    if (way.includes(module)) found.push([...way.slice(way.indexOf(module)), module]);
    if (way.includes(module) || done.has(module)) return;
    for (const next of needs.get(module) ?? []) follow(next, [...way, module]);
    done.add(module);
  };
  for (const module of needs.keys()) follow(module, []);
  return found;
}

const sources = (await files("native/src/**/*.[ch]")).map((path) => path.slice("native/src/".length));
const includes: Include[] = [];
for (const from of sources) {
  includes.push(...includesOf(from, await Bun.file(join(root, "native/src", from)).text()));
}

test("each C file lies in a folder that is known, and includes by the path from native/src", () => {
  expect(sources.length).toBeGreaterThan(60);
  expect(includes.length).toBeGreaterThan(150);
  expect(sources.filter((file) => !FOLDERS.includes(folderOf(file)))).toEqual([]);
  expect(includes.filter(({ to }) => !sources.includes(to))).toEqual([]);
});

test("includes go downwards only", () => {
  expect(includes.filter(upward)).toEqual([]);
});

test("the trap code knows the interface of the sink only", () => {
  const known = new Set(includes.filter(({ from }) => folderOf(from) === "trap").map(({ to }) => folderOf(to)));
  expect([...known].sort()).toEqual(["base", "trap"]);
});

test("no file needs itself", () => {
  expect(circles(includes)).toEqual([]);
});

test("a way up and a circle would be found", () => {
  expect(includesOf("trap/fault.c", '#include <stdio.h>\n  # include "session/sink.h"\n').filter(upward)).toEqual([
    { from: "trap/fault.c", to: "session/sink.h" },
  ]);
  const circle = [
    { from: "pages/hole.c", to: "pages/hole.h" },
    { from: "pages/hole.c", to: "pages/release.h" },
    { from: "pages/release.c", to: "pages/copies.h" },
    { from: "pages/copies.c", to: "pages/hole.h" },
  ];
  expect(circles(circle)).toEqual([["pages/hole", "pages/release", "pages/copies", "pages/hole"]]);
  expect(circles(circle.slice(0, 3))).toEqual([]);
});
