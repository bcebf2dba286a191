/** `npm run test:load`: it counts what passes and fails beside its spinning processes, and none of these outlives it. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gone, processesWith } from "../cli/dsm.ts";
import { eventually } from "../support/eventually.ts";

// The test runner is run, which looks whether the build is up to date, on machines that may be busy.
setDefaultTimeout(120_000);

const SCRIPT = join(import.meta.dir, "../../scripts/test-load.ts");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "load-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function start(args: string[], body = ""): Bun.Subprocess<"ignore", "pipe", "pipe"> {
  const file = join(folder, "example.test.ts");
  writeFileSync(file, `import { expect, test } from "bun:test";\n${body}`);
  return Bun.spawn([process.execPath, SCRIPT, ...args, file], {
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

const spinning = (pid: number): number[] => processesWith(`spinning-for-${pid}`);

test("every run is counted", async () => {
  const child = start(
    ["--spinners", "1", "--times", "2"],
    'test("good", () => {}); test.skip("not run", () => {}); test("bad", () => expect(1).toBe(2));',
  );
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect(code).toBe(1);
  for (const n of [1, 2]) {
    expect(stdout + stderr).toMatch(
      new RegExp(`beside 1 spinning processes, run ${n}: 1 passed, 1 failed, 1 skipped, [\\d.]+ minutes, code 1`),
    );
  }
  expect(spinning(child.pid)).toEqual([]);
});

test.each(["SIGINT", "SIGTERM", "SIGKILL"] as const)("after %s no process spins on", async (signal) => {
  const child = start(["--spinners", "2", "--times", "1"], 'test("long", () => Bun.sleep(5000), 60_000);');
  await eventually("they spin", () => spinning(child.pid).length === 2);
  child.kill(signal);
  expect(await child.exited).not.toBe(0);
  await gone(() => spinning(child.pid).length > 0);
});

test("an invalid number is refused", async () => {
  const child = start(["--spinners", "many"]);
  const [stderr, code] = await Promise.all([child.stderr.text(), child.exited]);
  expect(code).toBe(1);
  expect(stderr).toContain('--spinners is "many"; write a number from 1 to 9999');
});
