/**
 * The memory model, held against what the real thing shows: processes on nodes of their own (and two on a node where
 * that could matter), 20,000 times and more for every test and order. `npm run litmus` runs them longer.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster } from "../support/e2e-cluster.ts";
import {
  canRun,
  claimOf,
  compile,
  type LitmusResult,
  nodesFor,
  PLACEMENTS,
  type Placement,
  report,
  runTests,
} from "./litmus.ts";
import { outcomes } from "./model.ts";
import { type LitmusTest, ORDERS, TESTS } from "./table.ts";

const ITERATIONS = 20_000;
const SEED = 1;

setDefaultTimeout(600_000);

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = await compile(cluster, "litmus");
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const isPaired = (each: LitmusTest): boolean =>
  PLACEMENTS.some(
    ([placement, count, chosen]) =>
      placement === "paired" && count === each.processes.length && chosen(each, "pipelined"),
  );

/** Whether a run of the test could fail, in a way that another one's could not. */
function says(each: LitmusTest, order: (typeof ORDERS)[number], placement: Placement): boolean {
  const { never, sees = [] } = claimOf(each, order, nodesFor(placement, each.processes.length));
  return never.length + sees.length > 0 && !each.spared?.includes(order);
}

describe("the table", () => {
  for (const each of TESTS) {
    test(`${each.name} forbids what the orders' machines cannot do, and expects what they can`, () => {
      const sequential = outcomes("sequential", each.processes, each.shows);
      for (const [order, placement] of [
        ["sequential", "apart"],
        ["pipelined", "apart"],
        ["release", "apart"],
        ...(isPaired(each) ? ([["pipelined", "paired"]] as const) : []),
      ] as const) {
        const nodes = nodesFor(placement, each.processes.length);
        const { never, sees } = claimOf(each, order, nodes);
        const possible = outcomes(order, each.processes, each.shows, nodes);
        const what = { order, placement };
        expect({ ...what, never: never.filter((outcome) => possible.has(outcome)) }).toEqual({ ...what, never: [] });
        const unheard = (sees ?? []).filter((outcome) => !possible.has(outcome));
        expect({ ...what, sees: unheard }).toEqual({ ...what, sees: [] });
        // Where an order forbids nothing it must in truth be weaker; no order permits less than sequential.
        if (never.length === 0) expect(possible.size).toBeGreaterThan(sequential.size);
        expect([...sequential].filter((outcome) => !possible.has(outcome))).toEqual([]);
      }
    });
  }
});

describe("a memory that reads stale and writes late", () => {
  // Not LB, CoRW and CoWR: for those a store would have to be seen before it is made, or a process lose its own.
  const names = ["SB", "MP", "S", "R", "2+2W", "CoRR", "CoWW", "WRC", "RWC", "IRIW", "ISA2"];
  for (const each of TESTS.filter(({ name }) => names.includes(name))) {
    test(`${each.name} is found out`, async () => {
      const run = { order: "sequential", memory: "broken", iterations: ITERATIONS, iterationsMax: ITERATIONS } as const;
      const nodes = nodesFor("apart", each.processes.length);
      const result = (await runTests(cluster, program, [each], { ...run, seed: SEED, nodes })).get(
        each.name,
      ) as LitmusResult;
      const forbidden = each.claims.sequential.never;
      expect(forbidden.some((outcome) => result.wrong.includes(outcome))).toBe(true);
    });
  }
});

for (const order of ORDERS) {
  for (const [placement, processes, chosen] of PLACEMENTS) {
    const tests = TESTS.filter((each) => chosen(each, order) && canRun(each) && says(each, order, placement));
    describe(`${order}, ${processes} processes ${placement === "apart" ? "apart" : "on 2 nodes"}`, () => {
      let results: Map<string, LitmusResult>;
      const nodes = nodesFor(placement, processes);
      beforeAll(async () => {
        const iterationsMax = 20 * ITERATIONS;
        results = await runTests(cluster, program, tests, {
          order,
          iterations: ITERATIONS,
          iterationsMax,
          seed: SEED,
          nodes,
        });
      });
      for (const each of tests) {
        const { never, because } = claimOf(each, order, nodes);
        test(`${each.name}: ${never.length > 0 ? `never ${never.join(" ")}` : "a race"}: ${because}`, () => {
          const result = results.get(each.name) as LitmusResult;
          console.log(report(each, order, result));
          expect(result.iterations).toBeGreaterThanOrEqual(ITERATIONS);
          expect(result.wrong).toEqual([]);
          expect(result.unseen).toEqual([]);
        });
      }
    });
  }
}
