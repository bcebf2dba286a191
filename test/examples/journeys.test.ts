/** The journeys of src/README.md: at most 15 steps each, and every step names a function that the sources define. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { ROOT } from "../support/e2e-cluster.ts";

const STEPS_MAX = 15;

interface Step {
  text: string;
  /** `Replica` of `Replica.receive`; "": a function, or a method of the only class of its file. */
  of: string;
  /** Its last word: `receive` of `Replica.receive`. */
  name: string;
  file: string;
}

/** The journeys by title. */
function journeys(page: string): Map<string, Step[]> {
  const section = page.split(/^## /m).find((part) => part.startsWith("Five journeys\n")) ?? "";
  const [, ...parts] = section.split(/^### /m);
  return new Map(
    parts.map((part) => {
      const steps = part
        .split("\n")
        .filter((line) => /^\d+\. /.test(line))
        .map((text) => {
          const found = /^\d+\. `(?:(\w+)\.)?#?(\w+)` \(([\w.-]+)\): /.exec(text) ?? [];
          const [, of = "", name = "", file = ""] = found;
          return { text, of, name, file };
        });
      return [part.slice(0, part.indexOf("\n")), steps];
    }),
  );
}

/** The names of functions and methods that a source defines. */
function definitions(source: string): Set<string> {
  // At the beginning of a line, before parameters: a function, or a method of a class. Calls are farther right.
  const found = source.matchAll(/^(?: {2})?(?:[\w*<>[\] ]+ \**)?(?:#|\*)?(\w+)(?:<[^\n(]*>)?\((?![^\n]*;$)/gm);
  return new Set([...found].map(([, name]) => name as string));
}

const sources = ["src/**/*.ts", "native/src/**/*.c"]
  .flatMap((pattern) => [...new Bun.Glob(pattern).scanSync({ cwd: ROOT })])
  .map((path) => {
    const source = readFileSync(join(ROOT, path), "utf8");
    const classes = new Set([...source.matchAll(/^(?:export )?class (\w+)/gm)].map(([, name]) => name as string));
    return { path, classes, defined: definitions(source) };
  });

const page = readFileSync(join(ROOT, "src/README.md"), "utf8");
const all = journeys(page);

/** The sources of that file name that define the function, or the method of the class. */
function placesOf(of: string, name: string, file: string): string[] {
  const places = sources.filter(({ path, defined }) => basename(path) === file && defined.has(name));
  return places.filter(({ classes }) => of === "" || classes.has(of)).map(({ path }) => path);
}

describe("where to find what", () => {
  const section = page.split(/^## /m).find((part) => part.startsWith("Where to find what\n")) ?? "";
  const named = [...section.matchAll(/`(?:(\w+)\.)?#?(\w+)`\s\(([\w-]+\.(?:ts|c))/g)]
    .map(([, of = "", name = "", file = ""]) => [of, name, file] as const)
    // Classes and constants are no functions.
    .filter(([of, name]) => of !== "" || /^[a-z]/.test(name));
  test("names many functions with their files", () => {
    expect(named.length).toBeGreaterThan(8);
  });
  test.each(named)("%s.%s is in %s", (of, name, file) => {
    expect(placesOf(of, name, file)).not.toEqual([]);
  });
});

test("there are five", () => {
  expect(all.size).toBe(5);
});

describe.each([...all])("%s", (_, steps) => {
  test("has at most 15 steps, each with a function and its file", () => {
    expect(steps.length).toBeGreaterThan(5);
    expect(steps.length).toBeLessThanOrEqual(STEPS_MAX);
    expect(steps.filter(({ name }) => name === "").map(({ text }) => text)).toEqual([]);
  });

  test.each(steps.map(({ of, name, file }) => [of, name, file] as const))("%s.%s is in %s", (of, name, file) => {
    expect(placesOf(of, name, file)).not.toEqual([]);
  });
});

test("a function is found where it is defined, not where it is called", () => {
  const source = [
    "export async function startServer(options: Options): Promise<Server> {",
    "  receive(id: number): void {",
    "  #append(bytes: Uint8Array): void {",
    "    this.#called(bytes);",
    "static int sink_store(void *context, const struct dsm_run *runs,",
    "  other(call);",
  ].join("\n");
  expect([...definitions(source)]).toEqual(["startServer", "receive", "append", "sink_store"]);
});
