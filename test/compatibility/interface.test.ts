/** What programs and scripts rely on: the public names and layouts of earlier versions are still there. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { command, compiler, nativeBuild, root, tool } from "../../scripts/steps.ts";
import { SETTINGS } from "../../src/core/base/settings.ts";

interface Interface {
  /** Of libdsm.so: what its headers declare, and the calls of the C library that it takes over. */
  symbols: string[];
  /** Of dsm.h: in bytes, and the offset of each field. */
  structs: Record<string, { size: number; fields: Record<string, number> }>;
  /** Of each command. */
  options: Record<string, string[]>;
  variables: string[];
  /** Values that the package "dsm" exports. */
  exports: string[];
}

const versions = readdirSync(import.meta.dir).filter((name) => name.endsWith(".json"));

describe.each(versions)("what %s offers", (file) => {
  const old = JSON.parse(readFileSync(join(import.meta.dir, file), "utf8")) as Interface;
  const gone = (names: string[], now: Iterable<string>): string[] => {
    const all = new Set(now);
    expect(names.length).toBeGreaterThan(0);
    return names.filter((name) => !all.has(name));
  };

  test("symbols of libdsm.so", async () => {
    const lines = (await command([tool("nm"), "-D", "--defined-only", join(nativeBuild, "libdsm.so")])).split("\n");
    expect(
      gone(
        old.symbols,
        lines.map((line) => line.split(" ")[2] ?? ""),
      ),
    ).toEqual([]);
  });

  test("structs of dsm.h", async () => {
    const folder = mkdtempSync(join(tmpdir(), "dsm-structs-"));
    try {
      const checks = Object.entries(old.structs).flatMap(([struct, { size, fields }]) => [
        `_Static_assert(sizeof(${struct}) == ${size}, "the size of ${struct}");`,
        ...Object.entries(fields).map(
          ([field, at]) => `_Static_assert(offsetof(${struct}, ${field}) == ${at}, "${struct}.${field}");`,
        ),
      ]);
      const source = join(folder, "structs.c");
      await Bun.write(source, ["#include <dsm/dsm.h>", "#include <stddef.h>", ...checks, ""].join("\n"));
      await command([compiler(), "-fsyntax-only", `-I${join(root, "native/include")}`, source]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test.each(Object.entries(old.options))("options of dsm %s", async (name, options) => {
    const help = await command([join(root, "dist/dsm"), name, "--help"]);
    expect(
      gone(
        options,
        [...help.matchAll(/^ +(?:-[a-z], )?(--[a-z-]+)/gm)].map(([, option]) => option as string),
      ),
    ).toEqual([]);
  });

  test("variables", () => {
    expect(
      gone(
        old.variables,
        Object.values(SETTINGS).map(({ variable }) => variable),
      ),
    ).toEqual([]);
  });

  test("exports of the package", async () => {
    expect(gone(old.exports, Object.keys(await import("../../src/client/index.ts")))).toEqual([]);
  });
});
