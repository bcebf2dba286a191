/** Bytes of several writers in the same words and pages, and holes that share pages: every byte is right everywhere. */
import { afterAll, afterEach, beforeAll, describe, setDefaultTimeout, test } from "bun:test";
import { ORDERS } from "../../src/core/base/consistency.ts";
import { Cluster, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = cluster.program("false_sharing");
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Rounds, and stores of each thread in a round: under sequential each costs a round trip. */
const WORK = { sequential: [12, 40], release: [30, 400], pipelined: [30, 400] } as const;

describe.each([...ORDERS])("%s", (order) => {
  test.each([
    ["interleaved bytes of the same pages", "bytes"],
    ["adjoining holes, and bytes between them", "holes"],
  ])("%s, written by 4 processes on 4 nodes, one of them by 4 threads", async (_what, mode) => {
    const [rounds, stores] = WORK[order];
    await cluster.runWell([program, mode, String(rounds), String(stores)], {
      session: cluster.session(),
      size: "64KiB",
      nodes: ["a", "b", "c", "d"],
      environment: { DSM_ORDER: order },
    });
  });
});
