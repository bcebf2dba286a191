/**
 * The rules that keep the house liveable: imports run downwards only, in no circle; no class or file grows without end;
 * fields of frames are read by name.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";
import { type Class, classesOf, linesOf } from "../scripts/sizes.ts";

const SOURCES = join(import.meta.dir, "../src");

/** The folders of src, each with those that it may import. The command line puts the roles together. */
const FOLDERS: Record<string, string[]> = {
  core: [],
  transport: ["core"],
  daemon: ["core", "transport"],
  server: ["core", "transport"],
  arbiter: ["core", "transport"],
  client: ["core"],
  cli: ["core", "transport", "daemon", "server", "arbiter"],
};

/** The folders of src/core, from the bottom up: each may import those before it that it names. */
const CORE: Record<string, string[]> = {
  base: [],
  wire: ["base"],
  access: ["base", "wire"],
  launch: ["base", "wire", "messages"],
  layout: ["base"],
  memory: ["base", "wire"],
  messages: ["base", "wire", "access"],
  observe: ["base", "wire", "messages"],
  session: ["base", "wire", "messages", "memory"],
  replica: ["base", "wire", "messages", "memory", "session", "observe"],
  sequencer: ["base", "wire", "messages", "memory", "session", "observe"],
};

/** A file is one idea, of about 400 lines. */
const FILE_LINES_MAX = 450;
const CLASS_LINES_MAX = 400;
const CLASS_FIELDS_MAX = 15;
/** What a script generates is exempt from limits of size. */
const GENERATED = new Set(["core/wire/at.ts"]);

interface Import {
  from: string;
  to: string;
  /** Loaded only when it is called for: a command that describes all commands finds them so. */
  lazy: boolean;
}

const sources = new Map<string, string>();
const imports: Import[] = [];
beforeAll(async () => {
  for await (const file of new Glob("**/*.ts").scan(SOURCES)) {
    if (file.endsWith(".d.ts")) continue;
    const text = await Bun.file(join(SOURCES, file)).text();
    sources.set(file, text);
    // Also imports of types alone, and those that are loaded only when they are called for.
    for (const [, lazy, path] of text.matchAll(/\b(?:from|import)\s*(\()?\s*"(\.[^"]+\.ts)"/g)) {
      imports.push({ from: file, to: join(file, "..", path as string), lazy: lazy !== undefined });
    }
  }
});

const folderOf = (file: string, depth: number): string => file.split("/")[depth] as string;
const isCore = (file: string): boolean => file.startsWith("core/");
const spelled = ({ from, to }: Import): string => `${from} imports ${to}`;

describe("imports", () => {
  test("run downwards between the folders of src", () => {
    const between = imports.filter(({ from, to }) => folderOf(from, 0) !== folderOf(to, 0));
    expect(between.length).toBeGreaterThan(50);
    const upwards = between.filter(({ from, to }) => !FOLDERS[folderOf(from, 0)]?.includes(folderOf(to, 0)));
    expect(upwards.map(spelled)).toEqual([]);
  });

  test("run downwards between the folders of the core", () => {
    const between = imports.filter(
      ({ from, to }) => isCore(from) && isCore(to) && folderOf(from, 1) !== folderOf(to, 1),
    );
    expect(between.length).toBeGreaterThan(100);
    const upwards = between.filter(({ from, to }) => !CORE[folderOf(from, 1)]?.includes(folderOf(to, 1)));
    expect(upwards.map(spelled)).toEqual([]);
  });

  test("of the core from outside are of what computes: it does no input and output", () => {
    const outside = new Set<string>();
    for (const [file, text] of sources) {
      if (!isCore(file)) continue;
      for (const [, path] of text.matchAll(/\bfrom "([^".][^"]*)"/g)) outside.add(path as string);
    }
    expect([...outside].sort()).toEqual(["fastest-levenshtein", "node:crypto", "valibot"]);
  });

  test("form no circle, types counted", () => {
    const needs = new Map<string, string[]>();
    for (const { from, to, lazy } of imports) if (!lazy) needs.set(from, [...(needs.get(from) ?? []), to]);
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
    const circles = [...needs.keys()].flatMap((file) => circleFrom(file, [])?.slice(1).sort().join(" ") ?? []);
    expect([...new Set(circles)]).toEqual([]);
  });
});

describe("classes", () => {
  const all = (): [string, Class][] =>
    [...sources].flatMap(([file, text]) => classesOf(text).map((one): [string, Class] => [file, one]));

  test("are found, with their fields", () => {
    expect(all().length).toBeGreaterThan(50);
    const [session] = all().flatMap(([file, one]) => (file === "core/session/session.ts" ? one : []));
    expect(session?.name).toBe("Session");
    expect(session?.fields).toContain("#members");
  });

  test(`have at most ${CLASS_LINES_MAX} lines and ${CLASS_FIELDS_MAX} fields`, () => {
    const large = all().filter(
      ([file, { lines, fields }]) =>
        !GENERATED.has(file) && (lines > CLASS_LINES_MAX || fields.length > CLASS_FIELDS_MAX),
    );
    expect(large.map(([file, { name, lines, fields }]) => `${file} ${name}: ${lines}, ${fields.length}`)).toEqual([]);
  });
});

test(`files have at most ${FILE_LINES_MAX} lines`, () => {
  expect(sources.size).toBeGreaterThan(200);
  const large = [...sources].filter(([file, text]) => !GENERATED.has(file) && linesOf(text) > FILE_LINES_MAX);
  expect(large.map(([file, text]) => `${file}: ${linesOf(text)}`)).toEqual([]);
});

test("fields of frames are read by name: no number is added to a place outside core/wire", () => {
  const found: string[] = [];
  for (const [file, text] of sources) {
    if (file.startsWith("core/wire/") || file.startsWith("cli/help/")) continue;
    for (const [number] of text.matchAll(/\bat \+ \d+\b/g)) found.push(`${file}: ${number}`);
  }
  expect(found).toEqual([]);
});
