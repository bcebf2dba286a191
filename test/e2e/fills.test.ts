/** Pages that a process fills in each interval open at their first store, under `release`; atomics beside them count. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = cluster.program("fills");
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Pages that each process of `fills strides` fills in each interval. */
const PAGES = 48;

const run = (name: string): Promise<string[]> =>
  cluster.runWell([program, name], {
    session: cluster.session(),
    size: "1MiB",
    nodes: ["a", "b"],
    environment: { DSM_ORDER: "release" },
  });

test("an array written in strides traps once a page the second time, and less often after that", async () => {
  const outputs = await run("strides");
  const traps = outputs
    .flatMap((output) => output.split("\n"))
    .flatMap((line) => {
      const found = /^traps (\d) (\d) (\d+)$/.exec(line);
      return found === null ? [] : [found.slice(1).map(Number) as [number, number, number]];
    });
  expect(traps).toHaveLength(16);
  for (const [, interval, count] of traps) {
    if (interval === 0) expect(count).toBeGreaterThan(PAGES * 16);
    else if (interval === 1) expect(count).toBeLessThanOrEqual(PAGES);
    else expect(count).toBeLessThanOrEqual(2);
    expect(count).toBeGreaterThan(0);
  }
});

test.each([
  ["atomic counters in structures that were initialised like an array", "tasks"],
  ["an atomic counter behind an array that was initialised with it", "beside"],
  ["a store that opens a page is published whole", "whole"],
])("%s", async (_what, name) => {
  for (const output of await run(name)) expect(output).toContain("ok");
});
