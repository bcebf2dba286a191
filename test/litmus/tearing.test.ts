/** Aligned stores of 2, 4 and 8 bytes, also in holes, are seen whole or not at all on every node. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster } from "../support/e2e-cluster.ts";
import { compile } from "./litmus.ts";
import { ORDERS } from "./table.ts";

/** Each of them a round trip under sequential. */
const STORES = { sequential: 40_000, pipelined: 100_000, release: 40_000 };
/** The stores go on until the reader has made so many loads, and has seen the 8-byte word change so many times. */
const LOADS_MIN = 4_000_000;
const CHANGES_MIN = 5000;

setDefaultTimeout(600_000);

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = await compile(cluster, "tearing");
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

for (const order of ORDERS) {
  test(`${order}: ${STORES[order]} stores, read on another node`, async () => {
    const said = await cluster.runWell([program, String(STORES[order]), String(LOADS_MIN), String(CHANGES_MIN)], {
      session: cluster.session(),
      nodes: ["a", "b"],
      environment: { DSM_ORDER: order },
    });
    const [loads, changes] = (said[1] as string).split(" ").map(Number) as [number, number];
    console.log(`${order} tearing: ${loads} loads, ${changes} changes of the 8-byte word seen, none torn`);
    expect(loads).toBeGreaterThanOrEqual(LOADS_MIN);
    expect(changes).toBeGreaterThanOrEqual(CHANGES_MIN);
  });
}
