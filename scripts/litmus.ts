/**
 * `npm run litmus -- [--iterations N] [--seed N] [--order ORDER] [--nodes 2|4] [TEST ...]`: the litmus tests of
 * test/litmus, by default 1,000,000 times each in every order, with the count of every outcome. Ends with 1 when a
 * forbidden one was seen, or an expected one was not. `--order hardware` runs them on this machine's own memory, without
 * dsm, to compare. `--nodes 4` gives each process a node of its own, `--nodes 2` puts them on two; without it tests run
 * apart, and those on two nodes too to which it makes a difference.
 */
import { parseArgs } from "node:util";
import { canRun, compile, nodesFor, PLACEMENTS, report, runTests } from "../test/litmus/litmus.ts";
import type { Order } from "../test/litmus/model.ts";
import { type LitmusTest, ORDERS, TESTS } from "../test/litmus/table.ts";
import { Cluster } from "../test/support/e2e-cluster.ts";
import { ensureBuilt } from "./build.ts";
import { BuildError, progress, runScript } from "./steps.ts";

const KNOWN: Order[] = ["sequential", "pipelined", "release", "hardware"];

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 1e9)
    throw new BuildError(`--${name} is ${text}; write 1 to 1000000000`);
  return value;
}

function read(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        iterations: { type: "string", default: "1000000" },
        seed: { type: "string", default: String(Date.now() % 1e9 || 1) },
        order: { type: "string", multiple: true, default: [...ORDERS] },
        nodes: { type: "string" },
      },
    });
  } catch (error) {
    throw new BuildError((error as Error).message);
  }
}

/** A test and the nodes it runs on. */
interface Run {
  test: LitmusTest;
  nodes: string[];
}

/** What is to be run in an order. */
function runsOf(order: Order, count: number | null, names: string[]): Run[] {
  const runs =
    count === null
      ? PLACEMENTS.filter(([placement]) => order !== "hardware" || placement === "apart").flatMap(
          ([placement, processes, chosen]) =>
            TESTS.filter((test) => chosen(test, order)).map((test) => ({
              test,
              nodes: nodesFor(placement, processes),
            })),
        )
      : TESTS.map((test) => {
          const { length } = test.processes;
          return { test, nodes: nodesFor(length > count ? "paired" : "apart", length) };
        });
  return runs
    .filter(({ test }) => canRun(test) && (names.length === 0 || names.includes(test.name)))
    .filter(({ test }) => order !== "hardware" || !/hole|post|wait|\bfence/.test(test.processes.join(";")));
}

await runScript(async () => {
  const { values, positionals } = read(process.argv.slice(2));
  const iterations = positive("iterations", values.iterations);
  const seed = positive("seed", values.seed);
  const unknown = positionals.find((name) => TESTS.every((test) => test.name !== name));
  if (unknown !== undefined)
    throw new BuildError(`${unknown} is no litmus test: ${TESTS.map((test) => test.name).join(" ")}`);
  const wrong = values.order.find((order) => !KNOWN.includes(order as Order));
  if (wrong !== undefined) throw new BuildError(`--order is ${wrong}; write one of ${KNOWN.join(", ")}`);
  if (values.nodes !== undefined && values.nodes !== "2" && values.nodes !== "4")
    throw new BuildError(`--nodes is ${values.nodes}; write 2 or 4`);
  const count = values.nodes === undefined ? null : Number(values.nodes);

  await ensureBuilt();
  progress.info(`${iterations} iterations of each test, seed ${seed}`);
  const cluster = await Cluster.start();
  const total = { tests: 0, iterations: 0, forbidden: 0, unseen: 0 };
  const started = performance.now();
  try {
    const program = await compile(cluster, "litmus");
    for (const order of values.order as Order[]) {
      // One after the other, so that there is something to see in a run of hours.
      for (const { test, nodes } of runsOf(order, count, positionals)) {
        const options = { order, iterations, iterationsMax: 4 * Math.max(iterations, 20_480), seed, nodes };
        const memory = order === "hardware" ? { memory: "plain" as const } : {};
        const result = (await runTests(cluster, program, [test], { ...options, ...memory })).get(test.name)!;
        total.tests += 1;
        total.iterations += result.iterations;
        for (const outcome of result.wrong) total.forbidden += result.counts.get(outcome) as number;
        total.unseen += result.unseen.length;
        console.log(`${report(test, order, result)}${new Set(nodes).size < nodes.length ? "  (on 2 nodes)" : ""}`);
      }
    }
  } finally {
    await cluster.close();
  }
  const minutes = ((performance.now() - started) / 60_000).toFixed(1);
  console.log(
    `${total.tests} tests, ${total.iterations} iterations, ${total.forbidden} forbidden outcomes, ` +
      `${total.unseen} expected outcomes not seen, ${minutes} minutes`,
  );
  if (total.tests === 0) throw new BuildError("no test was run: none of those named fits the order and the nodes");
  if (total.forbidden > 0) throw new BuildError("a forbidden outcome was seen");
  if (total.unseen > 0) throw new BuildError("an expected outcome was not seen: more iterations may show it");
  progress.success("No forbidden outcome, and every expected one");
});
