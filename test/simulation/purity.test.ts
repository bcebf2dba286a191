/** One seed is one run: neither the simulations nor what they run may look at a clock, at chance or at the machine. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";

const ROOT = join(import.meta.dir, "../..");
/** Globals that give another answer from run to run, or do something later. */
const IMPURE = /\b(?:Math\.random|Date|performance|setTimeout|setInterval|setImmediate|fetch|Bun)\b|\bawait\b/;

async function impureLines(pattern: string): Promise<string[]> {
  const found: string[] = [];
  const transpiler = new Bun.Transpiler({ loader: "ts" });
  for await (const file of new Glob(pattern).scan(ROOT)) {
    if (file.endsWith(".test.ts")) continue;
    // Without comments and types.
    const code = transpiler.transformSync(await Bun.file(join(ROOT, file)).text());
    for (const line of code.split("\n")) {
      // What people read may use such words.
      const bare = line.replace(/(["'`])(?:\\.|(?!\1).)*\1/g, "");
      if (IMPURE.test(bare)) found.push(`${file}: ${line.trim()}`);
    }
  }
  return found;
}

test("the core and the simulations follow from their input alone", async () => {
  expect(await impureLines("src/core/**/*.ts")).toEqual([]);
  expect(await impureLines("test/simulation/**/*.ts")).toEqual([]);
  expect(await impureLines("test/support/core-*.ts")).toEqual([]);
  // It does find some where there are some.
  expect((await impureLines("test/support/eventually.ts")).length).toBeGreaterThan(1);
});
