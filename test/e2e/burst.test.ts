/** Bursts of stores between real nodes: loops arrive, and no flag comes before its data. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Cluster, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const run = (args: string[], nodes: string[], environment: Record<string, string>): Promise<string[]> =>
  cluster.runWell([cluster.program("bursts"), ...args], {
    ...{ session: cluster.session(), nodes, size: "1MiB", environment },
  });

test.each([
  ["sequential", "1"],
  ["pipelined", "1"],
  ["release", "1"],
  ["sequential", "0"],
])("loops of stores are all there, on both nodes (%s, DSM_BURST=%s)", async (order, burst) => {
  const sizes = burst === "1" ? ["1", "2"] : ["50", "1"];
  const environment = { DSM_ORDER: order, DSM_BURST: burst };
  expect(await run(["loops", ...sizes], ["a", "b"], environment)).toEqual(["ok\n", "ok\n"]);
});

const orders = ["sequential", "pipelined"] as const;
const MESSAGES = { sequential: "400", pipelined: "4000" };

test.each(orders)("data in the map and a flag in other memory, and the reverse (%s)", async (order) => {
  const file = join(cluster.folder, `own-${order}`);
  const environment = { DSM_ORDER: order };
  // The third process is on another node: so this is no direct mode.
  expect(await run(["own", file, MESSAGES[order]], ["a", "a", "b"], environment)).toEqual(["ok\n", "ok\n", "ok\n"]);
});

test.each(orders)("data and flag in the map, read on another node (%s)", async (order) => {
  const environment = { DSM_ORDER: order };
  expect(await run(["map", MESSAGES[order]], ["a", "b"], environment)).toEqual(["ok\n", "ok\n"]);
});

test.each(orders)("data and flag in the map, read on the same node (%s)", async (order) => {
  const environment = { DSM_ORDER: order };
  expect(await run(["map", MESSAGES[order]], ["a", "a", "b"], environment)).toEqual(["ok\n", "ok\n", "ok\n"]);
});

test("sequential: two that store and then look do not both miss the other's store", async () => {
  const environment = { DSM_ORDER: "sequential" };
  expect(await run(["buffer", "500"], ["a", "b"], environment)).toEqual(["0\nok\n", "ok\n"]);
});
