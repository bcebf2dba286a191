/**
 * `npm run litmus -- [--iterations N] [--seed N] [--order ORDER] [TEST ...]`: the litmus tests of test/litmus, by
 * default 1,000,000 times each, with the count of every outcome. Ends with 1 when a forbidden one was seen, or an
 * expected one was not. `--order hardware` runs them on this machine's own memory, without dsm, to compare.
 */
import { parseArgs } from "node:util";
import { canRun, compile, nodesFor, PLACEMENTS, report, runTests } from "../test/litmus/litmus.ts";
import type { Order } from "../test/litmus/model.ts";
import { ORDERS, TESTS } from "../test/litmus/table.ts";
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
      },
    });
  } catch (error) {
    throw new BuildError((error as Error).message);
  }
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

  await ensureBuilt();
  progress.info(`${iterations} iterations of each test, seed ${seed}`);
  const cluster = await Cluster.start();
  let failed = 0;
  try {
    const program = await compile(cluster, "litmus");
    for (const order of values.order as Order[]) {
      for (const [placement, processes, chosen] of PLACEMENTS) {
        if (order === "hardware" && placement !== "apart") continue;
        const tests = TESTS.filter((test) => chosen(test) && canRun(test))
          .filter((test) => positionals.length === 0 || positionals.includes(test.name))
          .filter(
            (test) => order !== "hardware" || !test.processes.some((each) => /hole|post|wait|\bfence/.test(each)),
          );
        // One after the other, so that there is something to see in a run of hours.
        for (const test of tests) {
          const nodes = nodesFor(placement, processes);
          const options = { order, iterations, iterationsMax: 4 * Math.max(iterations, 20_480), seed, nodes };
          const memory = order === "hardware" ? { memory: "plain" as const } : {};
          const result = (await runTests(cluster, program, [test], { ...options, ...memory })).get(test.name)!;
          if (result.wrong.length + result.unseen.length > 0) failed += 1;
          console.log(`${report(test, order, result)}${placement === "apart" ? "" : "  (on 2 nodes)"}`);
        }
      }
    }
  } finally {
    await cluster.close();
  }
  if (failed > 0) throw new BuildError(`${failed} tests failed`);
  progress.success("No forbidden outcome, and every expected one");
});
