/** memcpy() and its relatives into the map: in every order, in holes and from a signal handler. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

test.each([
  ["sequential", ["a", "b"]],
  ["pipelined", ["a", "b"]],
  ["release", ["a", "b"]],
  ["direct mode", ["a", "a"]],
])("%s: two processes see what both have copied", async (order, nodes) => {
  const environment = order === "direct mode" ? { DSM_DIRECT: "1" } : { DSM_ORDER: order };
  const outputs = await cluster.runWell([cluster.program("memory_calls"), "8"], {
    ...{ session: cluster.session(), nodes, size: "1MiB", environment },
  });
  expect(outputs).toEqual(["ok\n", "ok\n"]);
});

test.each(["0", "1"])("a handler that jumps out of a copy keeps no session open (DSM_DIRECT=%s)", async (direct) => {
  const outputs = await cluster.runWell([cluster.program("memory_calls_jump"), "3000"], {
    ...{ session: cluster.session(), nodes: ["a"], environment: { DSM_DIRECT: direct } },
  });
  expect(outputs).toEqual(["ok\n"]);
});
