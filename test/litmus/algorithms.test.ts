/** Algorithms written for ordinary shared memory, over nodes: nothing is lost and nothing comes twice. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster } from "../support/e2e-cluster.ts";
import { compile } from "./litmus.ts";
import { ORDERS } from "./table.ts";

setDefaultTimeout(600_000);

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = await compile(cluster, "algorithms");
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Right as ordinary C11: what another process is to see may be published by a plain store with release order. */
const TSO = ["sequential", "pipelined"];
/** Right under release too, as algorithms.c writes them there: with exchanges, or dsm_fence, for such stores. */
const ALL = [...TSO, "release"];

interface Algorithm {
  name: string;
  what: string;
  /** What each process does so many times, over 2 nodes; half of it over 4. */
  times: number;
  /** The orders in which it is right. */
  orders: string[];
}

const ALGORITHMS: Algorithm[] = [
  { name: "spinlock", what: "a spinlock of atomic_flag guards plain words", times: 1500, orders: ALL },
  // pthread_spin_unlock is a plain store, and not ours to write differently.
  { name: "pthread", what: "a pthread spinlock in the map guards plain words", times: 1500, orders: TSO },
  { name: "ticket", what: "a ticket lock guards plain words", times: 1000, orders: ALL },
  { name: "peterson", what: "Peterson's lock of seq_cst stores guards plain words", times: 600, orders: ALL },
  // A store followed by a load of another location, without a fence: the queue of pipelined may keep the store.
  {
    name: "peterson-plain",
    what: "Peterson's lock of plain stores guards plain words",
    times: 600,
    orders: ["sequential"],
  },
  { name: "seqlock", what: "a seqlock's readers see what belongs together", times: 3000, orders: ALL },
  {
    name: "treiber",
    what: "a Treiber stack with a counter (cmpxchg16b) passes on every item once",
    times: 800,
    orders: ALL,
  },
  {
    name: "ring",
    what: "rings of one producer and one consumer pass on every item in order",
    times: 6000,
    orders: ALL,
  },
  { name: "deque", what: "a work-stealing deque (Chase and Lev) gives out every item once", times: 3000, orders: ALL },
];

/** What the processes print, as patterns: rank 0, and the others. */
function expectSaid(name: string, said: string[], times: number): void {
  const [first, ...others] = said as [string, ...string[]];
  const items = { seqlock: 0, ring: times, deque: times }[name] ?? times * said.length;
  if (name === "seqlock") {
    expect(first).toBe("");
    for (const each of others) expect(each).toMatch(/^[1-9]\d* reads \d+ retries\n$/);
    return;
  }
  expect(first.split("\n")[0]).toBe(String(items));
  expect(others).toEqual(others.map(() => ""));
}

for (const order of ORDERS) {
  for (const nodes of [
    ["a", "b"],
    ["a", "b", "c", "d"],
    // The queue of pipelined is a node's; under release a process shares nothing with another one of its node.
    ...(order === "release" ? [] : [["a", "a", "b", "b"]]),
  ]) {
    describe(`${order}, nodes ${nodes.join(" ")}`, () => {
      for (const { name, what, times, orders } of ALGORITHMS) {
        // Where the order does not promise it, there is nothing to test.
        if (!orders.includes(order)) continue;
        test(what, async () => {
          // Acquiring is a round trip under release.
          const most = order === "release" ? Math.floor(times / 4) : times;
          const each = nodes.length === 2 ? most : Math.floor(most / 4);
          const said = await cluster.runWell([program, name, String(each)], {
            session: cluster.session(),
            nodes,
            environment: { DSM_ORDER: order },
          });
          expectSaid(name, said, each);
        });
      }
    });
  }
}
