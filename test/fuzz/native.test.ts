/**
 * The C fuzz targets under AddressSanitizer and UndefinedBehaviorSanitizer: their seeds, what failed once among them,
 * and a fixed number of inputs made from these by a seeded generator. `npm run fuzz` goes on from there.
 */
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { buildTargets, TARGETS } from "../../scripts/fuzz-native.ts";
import { outcome } from "../support/e2e-child.ts";

setDefaultTimeout(240_000);

const RUNS: Record<string, number> = { channel: 30_000, decode: 300_000, capture: 300_000, open: 1500 };

let programs: Map<string, string>;
beforeAll(async () => {
  programs = await buildTargets("driver", Object.keys(TARGETS));
});

for (const name of Object.keys(TARGETS)) {
  test(`${name} withstands ${RUNS[name]} inputs`, async () => {
    const argv = [programs.get(name) as string, "--runs", String(RUNS[name]), "--seed", "1"];
    const child = Bun.spawn(argv, { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    const { code, signal, stdout, stderr } = await outcome(child);
    expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: "" });
    expect(stdout).toMatch(/^\d+ seeds, \d+ inputs made with seed 1\n$/);
    expect(Number.parseInt(stdout, 10)).toBeGreaterThan(9);
  });
}
