/**
 * The parallel programs of the bench, small: each compares its result with that of one process, with pthreads and with
 * dsm, in direct mode and on two nodes.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { compileFlags } from "../../scripts/bench/bench.ts";
import { compileKernels, kernelProgram, kernelSources } from "../../scripts/bench/kernels.ts";
import { Cluster, LIVENESS_MS, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  await compileKernels();
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Two rounds each. On two nodes a store under `sequential`, and a lock under any order, costs a round trip. */
const kernels = [
  { name: "molecules", direct: ["64", "3", "2"], nodes: ["12", "2", "2"] },
  { name: "ocean", direct: ["30", "20", "2"], nodes: ["10", "4", "2"] },
  { name: "cholesky", direct: ["6", "4", "2"], nodes: ["4", "2", "2"] },
  { name: "tree", direct: ["200", "2", "2"], nodes: ["24", "2", "2"] },
];

/** Rank 0 prints the time of each round. */
const TIMES = /^(\d+\n){2}$/;

describe.each(kernels)("$name", ({ name, direct, nodes }) => {
  const run = async (args: string[], order: string, places: string[]) => {
    const [first, ...others] = await cluster.runWell([kernelProgram(name, "dsm"), ...args], {
      session: cluster.session(),
      nodes: places,
      environment: { DSM_ORDER: order },
    });
    expect(first).toMatch(TIMES);
    expect(others).toEqual(["", ""]);
  };

  test("with pthreads", async () => {
    const argv = [kernelProgram(name, "pthreads"), ...direct];
    const { code, stdout, stderr } = await cluster.command(argv, { KERNEL_PROCESSES: "3" });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(TIMES);
  });

  test("in direct mode", () => run(direct, "sequential", ["a", "a", "a"]));

  test.each(["release", "sequential"])("on two nodes, %s", (order) => run(nodes, order, ["a", "b", "a"]));

  test("fails when the changes of one section under a lock are lost", async () => {
    const path = join(cluster.folder, `${name}-forgetful`);
    const sources = kernelSources(name, "test/e2e/programs/forgetful.c").map((source) => join(ROOT, source));
    const built = await cluster.command(["gcc", ...compileFlags, ...sources, "-o", path, "-lm"]);
    expect(built).toMatchObject({ code: 0, stderr: "" });
    const { code, stderr } = await cluster.command([path, ...direct]);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `${name}-forgetful: round 1: the result is not that of one process\n`,
    });
  });

  test("says what is wrong with its arguments", async () => {
    const path = kernelProgram(name, "pthreads");
    const few = await cluster.command([path, "1"]);
    expect(few).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(/^usage: \S+ [A-Z]+ [A-Z]+ ROUNDS\n$/),
    });
    const wrong = await cluster.command([path, ...direct.slice(0, 2), "0"]);
    expect(wrong).toMatchObject({
      ...{ code: 2, stdout: "" },
      stderr: expect.stringMatching(/^\S+: ROUNDS must be a number from 1 to 1000, and "0" was given\n$/),
    });
  });
});
