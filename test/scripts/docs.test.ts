/** `npm run docs`: that it has everything there is to call, and notices what nothing is said of. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readHeader, undocumented, writeReference } from "../../scripts/docs/c-reference.ts";
import { writeDocs } from "../../scripts/docs.ts";
import { root } from "../../scripts/steps.ts";

// TypeDoc compiles the client, on machines that may be busy.
setDefaultTimeout(120_000);

const folder = mkdtempSync(join(tmpdir(), "dsm-docs-"));
afterAll(() => rmSync(folder, { recursive: true }));

const header = join(root, "native/include/dsm/dsm.h");
const entry = join(root, "src/client/index.ts");

const SMALL = `/* All of it.
 *
 *  - a list
 */
#ifndef SMALL_H
#define SMALL_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIZE_MAX_KIB 64 /* the most; in KiB */

/* A pair; "{" in a comment is none. */
typedef struct pair {
  int first;  /* 1; or 2 */
  int second;
} pair;
struct elsewhere;

/* Both of these. */
int small_one(struct elsewhere *where);
int small_two(
    int number); /* Only this. */
int small_three(void);

int small_four(void) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif

#endif
`;

test("a comment belongs to the code below it or before it", () => {
  const { text, entries } = readHeader(SMALL);
  expect(text).toBe("All of it.\n\n - a list");
  expect(entries.map(({ kind, name, text }) => [kind, name, text])).toEqual([
    ["macro", "SIZE_MAX_KIB", "the most; in KiB"],
    ["type", "pair", 'A pair; "{" in a comment is none.'],
    ["function", "small_one", "Both of these."],
    ["function", "small_two", "Only this."],
    ["function", "small_three", "Both of these."],
    ["function", "small_four", ""],
  ]);
  expect(entries[1]?.declaration).toBe("typedef struct pair {\n  int first;  /* 1; or 2 */\n  int second;\n} pair;");
  expect(undocumented(readHeader(SMALL))).toEqual(["small_four"]);
  expect(() => readHeader("int unfinished(void)")).toThrow("a declaration has no end: int unfinished(void)");
});

test("every function of the C header has a section of its own", () => {
  const source = readFileSync(header, "utf8");
  const bare = source.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^#.*$/gm, "");
  const functions = [...bare.matchAll(/\b(dsm_\w+)\s*\(/g)].map((match) => match[1] as string);
  expect(functions.length).toBeGreaterThan(40);
  const page = writeReference({ "dsm/dsm.h": readHeader(source) });
  const sections = page.split(/^## /m).slice(1);
  const titles = sections.map((section) => section.split("\n")[0]?.replaceAll("\\", ""));
  expect(functions.filter((name) => !titles.includes(name))).toEqual([]);
  expect(undocumented(readHeader(source))).toEqual([]);
  // The words, not only the declaration.
  for (const section of sections) if (section.includes("(")) expect(section).toMatch(/```\n\n\S/);
});

test("every name that the client exports has a page, and the C interface one", async () => {
  const out = join(folder, "docs");
  await writeDocs(out, entry, [header]);
  const lists = [...readFileSync(entry, "utf8").matchAll(/^export (?:type )?\{([^}]*)\}/gm)];
  const names = lists.flatMap(([, list]) =>
    (list as string)
      .split(",")
      .map((name) => name.replace(/\btype\b|\w+\s+as\b/g, "").trim())
      .filter((name) => name !== ""),
  );
  expect(names).toContain("Session");
  const pages = readdirSync(out, { recursive: true, encoding: "utf8" }).map((path) => path.replace(/^.*\//, ""));
  expect(names.filter((name) => !pages.includes(`${name}.html`))).toEqual([]);
  const page = readFileSync(join(out, "documents/C_interface.html"), "utf8");
  expect(page).toMatch(/<h2[^>]*>dsm_open/);
  expect(readFileSync(join(out, "index.html"), "utf8")).toContain("Distributed shared memory");
  // Nothing is fetched from elsewhere.
  expect(page.match(/(?:src|href)="(?:https?:)?\/\/[^"]*"/g)).toBeNull();
});

test("what has no comment is named, and nothing is left", async () => {
  const out = join(folder, "none");
  const fixture = join(import.meta.dir, "fixtures/undocumented.ts");
  const failure = (await writeDocs(out, fixture, [header]).catch((error: Error) => error)) as Error;
  expect(failure).toBeInstanceOf(Error);
  expect(failure.message).toContain("forgotten (CallSignature)");
  expect(failure.message).toContain("Documented.grow (CallSignature)");
  expect(failure.message).not.toContain("Documented.size");
  const small = join(folder, "small.h");
  await Bun.write(small, SMALL);
  await expect(writeDocs(out, fixture, [small])).rejects.toThrow(`nothing is said of:\n${small}: small_four`);
  expect(existsSync(out) || existsSync(`${out}.part`)).toBe(false);
});
