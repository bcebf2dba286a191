/** What may import what: shells the core, never the core a shell, never one shell another; and nothing in a circle. */
import { beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";

const SOURCES = join(import.meta.dir, "../src");

/** The folders of src, and what each may import of the others. The command line puts the roles together. */
const MAY_IMPORT: Record<string, string[]> = {
  core: [],
  transport: ["core"],
  daemon: ["core", "transport"],
  server: ["core", "transport"],
  arbiter: ["core", "transport"],
  client: ["core"],
  cli: ["core", "transport", "daemon", "server", "arbiter"],
};

interface Import {
  from: string;
  to: string;
  /** Loaded only when it is called for. */
  lazy: boolean;
}

const imports: Import[] = [];
/** For each file those that it names: types alone are among them. */
const named = new Map<string, string[]>();
beforeAll(async () => {
  const transpiler = new Bun.Transpiler({ loader: "ts" });
  for await (const from of new Glob("**/*.ts").scan(SOURCES)) {
    if (from.endsWith(".d.ts")) continue;
    const text = (await Bun.file(join(SOURCES, from)).text()).replace(/^#!.*/, "");
    named.set(
      from,
      [...text.matchAll(/^(?:import|export|\}) [^;]*?from "(\.[^"]+)";$/gm)].map(([, path]) =>
        join(from, "..", path as string),
      ),
    );
    // Types alone are not among them: nothing is loaded for those.
    for (const { path, kind } of transpiler.scanImports(text)) {
      const to = path.startsWith(".") ? join(from, "..", path) : path;
      imports.push({ from, to, lazy: kind === "dynamic-import" });
    }
  }
});

const folderOf = (file: string): string => file.split("/")[0] as string;

test("imports point inward", () => {
  const between = imports.filter(({ from, to }) => to.endsWith(".ts") && folderOf(to) !== folderOf(from));
  expect(between.length).toBeGreaterThan(50);
  expect(between.filter(({ from, to }) => !MAY_IMPORT[folderOf(from)]?.includes(folderOf(to)))).toEqual([]);
});

test("the core does no input and output: all it imports from outside is what computes", () => {
  const outside = imports.filter(({ from, to }) => folderOf(from) === "core" && !to.endsWith(".ts"));
  expect([...new Set(outside.map(({ to }) => to))].sort()).toEqual(["node:crypto", "valibot"]);
});

/** Circles in what files need, at least one of each connected group. */
function circles(needs: ReadonlyMap<string, string[]>): string[][] {
  const done = new Set<string>();
  const circleFrom = (file: string, way: string[]): string[] | null => {
    if (way.includes(file)) return [...way.slice(way.indexOf(file)), file];
    if (done.has(file)) return null;
    for (const next of needs.get(file) ?? []) {
      const circle = circleFrom(next, [...way, file]);
      if (circle !== null) return circle;
    }
    done.add(file);
    return null;
  };
  return [...needs.keys()].map((file) => circleFrom(file, [])).filter((circle) => circle !== null);
}

test("no module needs itself to begin: parts of the executable are loaded one after the other", () => {
  const needs = new Map<string, string[]>();
  for (const { from, to, lazy } of imports) if (!lazy) needs.set(from, [...(needs.get(from) ?? []), to]);
  expect(circles(needs)).toEqual([]);
});

test("no file needs itself to be understood: none names itself in a circle, types counted", () => {
  expect([...named.values()].flat().length).toBeGreaterThan(500);
  // Everything that is loaded is among what is named.
  for (const { from, to, lazy } of imports) if (!lazy && to.endsWith(".ts")) expect(named.get(from)).toContain(to);
  expect(circles(named)).toEqual([]);
});
