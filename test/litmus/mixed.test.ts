/**
 * Two processes store to the same word at the same time: what the word may be afterwards, for each width, order and way of
 * storing. A captured store, and one in direct mode, is whole; on pages opened under `release`, and in holes, each byte is
 * that of one of the two. A byte that was not stored is never published.
 */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster } from "../support/e2e-cluster.ts";
import { compile } from "./litmus.ts";
import { ORDERS } from "./table.ts";

setDefaultTimeout(240_000);

const WAYS = ["captured", "captured-opened", "opened", "hole"] as const;
const ROUNDS = 60;

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = await compile(cluster, "mixed");
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** How often each width was a mix of the two stores. mixed.c itself fails where a byte is neither, or is lost. */
async function mixed(way: string, order: string, nodes: string[]): Promise<Record<string, number>> {
  const options = { session: cluster.session(), nodes, size: "128KiB", environment: { DSM_ORDER: order } };
  const said = await cluster.runWell([program, way, String(ROUNDS)], options);
  expect(said[1]).toBe(said[0] as string);
  const lines = (said[0] as string).trimEnd().split("\n");
  return Object.fromEntries(lines.map((line) => [line.split(" ")[0], Number(line.split(" ")[1])]));
}

const NONE = { "1": 0, "2": 0, "4": 0, "8": 0, "8-masked": 0, "4-of-8": 0 };

for (const order of ORDERS) {
  for (const way of WAYS) {
    test(`${order}, two nodes, ${way}`, async () => {
      const counts = await mixed(way, order, ["a", "b"]);
      const mayMix = way === "hole" || (way === "opened" && order === "release");
      if (!mayMix) expect(counts).toEqual(NONE);
      expect(counts["1"]).toBe(0);
    });
  }
}

for (const way of WAYS.filter((way) => way !== "hole")) {
  test(`direct mode, ${way}`, async () => {
    expect(await mixed(way, "sequential", ["a", "a"])).toEqual(NONE);
  });
}
