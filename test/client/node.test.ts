/** The package under Node: all it offers, whichever of V8's compilers makes the stores, and beside processes on Bun. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Cluster, ROOT } from "../support/e2e-cluster.ts";
import { readBlocks } from "../support/readme-blocks.ts";

setDefaultTimeout(120_000);

const NODE = Bun.which("node") ?? "node";
const TOUR = join(import.meta.dir, "fixtures/node.mjs");

let cluster: Cluster;
beforeAll(async () => {
  const { exitCode, stdout } = Bun.spawnSync([NODE, "--version"]);
  const version = stdout.toString();
  if (exitCode !== 0 || Number(/^v(\d+)/.exec(version)?.[1]) < 20) {
    throw new Error(`these tests want Node.js 20 or later as "node" in the PATH; it is ${version.trim() || "missing"}`);
  }
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** The tour by one process per node, each by the runtime that is named, all to their good ends. */
async function tour(runtimes: string[][], nodes: string[], order: string, rounds: number): Promise<void> {
  const session = cluster.session();
  const children = runtimes.map((runtime, rank) =>
    cluster.spawn([...runtime, TOUR, String(rounds)], {
      ...{ session, rank, processes: nodes.length, size: "1MiB", node: nodes[rank] as string },
      environment: { DSM_ORDER: order },
    }),
  );
  const outcomes = await Promise.all(
    children.map(async (child) => {
      const code = await child.exited;
      if (code !== 0) for (const other of children) other.kill();
      return { code, stderr: await child.stderr.text(), stdout: await child.stdout.text() };
    }),
  );
  expect(outcomes).toEqual(outcomes.map(() => ({ code: 0, stderr: "", stdout: "ok\n" })));
}

const BUN = [process.execPath];

describe("a tour of the package", () => {
  test.each([
    ["sequential", ["a", "b", "b"], 300],
    ["release", ["a", "b", "b"], 100_000],
    ["pipelined", ["a", "b", "b"], 100_000],
    ["sequential", ["a", "a", "a"], 100_000],
  ] as const)("order %s, nodes %j, %d stores in one loop", async (order, nodes, rounds) => {
    await tour([[NODE], [NODE], [NODE]], [...nodes], order, rounds);
  });

  // Each process by another of V8's tiers, the garbage collector at work all the time.
  test("stores of the interpreter, of every compiler, and of code that was moved", async () => {
    const tiers = [
      ["--jitless", "--no-expose-wasm"],
      ["--always-sparkplug", "--no-opt"],
      ["--maglev", "--no-opt"],
      ["--always-turbofan", "--expose-gc", "--stress-compaction"],
    ];
    await tour(
      tiers.map((flags) => [NODE, ...flags]),
      ["a", "b", "a", "b"],
      "pipelined",
      2_000,
    );
  });

  test.each(["sequential", "release"])("Node and Bun in one session, order %s", async (order) => {
    await tour([[NODE, "--expose-gc"], BUN, [NODE]], ["a", "a", "b"], order, 100);
  });
});

test("dsm run starts programs of Node, and a crash of one is said", async () => {
  const { code, stdout, stderr } = await cluster.dsm(["run", "-n2", "--nodes=2", "--", NODE, TOUR, "100"]);
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "ok\nok\n", stderr: "" });
  // Any other fault is V8's, and as fatal as without us.
  const crash = join(cluster.folder, "crash.cjs");
  writeFileSync(
    crash,
    `import(${JSON.stringify(join(ROOT, "dist/client/index.js"))}).then(async ({ join }) => {
  await join({ direct: false });
  const koffi = require(${JSON.stringify(join(ROOT, "node_modules/koffi"))});
  new Uint8Array(koffi.view(4096n, 16))[0] = 1;
});`,
  );
  const crashed = await cluster.dsm(["run", "-n1", "--", NODE, crash]);
  expect(crashed).toMatchObject({ code: 128 + 11, stderr: expect.stringContaining("was ended by SIGSEGV") });
});

test("a process that stores after leaving gets an error, and one without a library", async () => {
  const program = join(cluster.folder, "left.mjs");
  writeFileSync(
    program,
    `import { join } from ${JSON.stringify(join(ROOT, "dist/client/index.js"))};
const session = await join();
const view = session.view(Float64Array);
view[0] = 4;
await session.leave();
console.log(view[0]);
view[0] = 5;
console.log("not reached");
`,
  );
  const left = await cluster.dsm(["run", "-n1", "--", NODE, program], { DSM_DIRECT: "0" });
  expect(left.stdout).toBe("4\n");
  expect(left.stderr).toContain("dsm: store to the map of a session this process has left");
  expect(left.code).toBe(128 + 11);
  const without = await cluster.command([NODE, program], { DSM_SESSION: "s", DSM_LIBRARY: "/no/libdsm.so" });
  expect(without.code).toBe(1);
  expect(without.stderr).toContain('DSM_LIBRARY is "/no/libdsm.so", but there is no such file');
});

test("the README's first program runs as it stands", async () => {
  const readme = await Bun.file(join(ROOT, "README.md")).text();
  const program = readBlocks(readme).find(({ language, title }) => language === "ts" && title !== undefined);
  const folder = join(cluster.folder, "first");
  mkdirSync(join(folder, "node_modules"), { recursive: true });
  symlinkSync(ROOT, join(folder, "node_modules/dsm"));
  writeFileSync(join(folder, "first.mjs"), program?.text as string);
  for (const runtime of [[NODE], BUN, []]) {
    const run = await cluster.dsm(["run", "-n4", "--nodes=2", "--", ...runtime, join(folder, "first.mjs")]);
    expect(run).toMatchObject({ code: 0, stdout: "10\n", stderr: "" });
  }
});

test("the types of the package are those a project under Node sees", async () => {
  const project = join(cluster.folder, "project");
  mkdirSync(join(project, "node_modules"), { recursive: true });
  symlinkSync(ROOT, join(project, "node_modules/dsm"));
  writeFileSync(join(project, "package.json"), '{ "type": "module" }');
  const compile = (source: string) => {
    writeFileSync(join(project, "main.ts"), source);
    return cluster.command([
      ...[process.execPath, join(ROOT, "node_modules/typescript/bin/tsc"), "--ignoreConfig", join(project, "main.ts")],
      ...["--noEmit", "--strict", "--module", "nodenext", "--target", "esnext", "--types", "", "--pretty", "false"],
    ]);
  };
  const good = `import { DsmError, f32, i32, join, type Lock, mutex, type Session } from "dsm";
const session: Session = await join({ session: "s", processes: 2 });
const shared = session.struct("state", { turn: i32, grid: f32.array(2, 2), lock: mutex });
const turn: number = shared.$atomic.turn.add(1);
const row: Float32Array = shared.grid.row(1);
const lock: Lock = shared.lock;
export { DsmError, lock, row, turn };
`;
  expect(await compile(good)).toMatchObject({ code: 0, stdout: "" });
  const bad = await compile(good.replace("turn: number", "turn: string"));
  expect(bad).toMatchObject({
    code: 1,
    stdout: expect.stringContaining("'number' is not assignable to type 'string'"),
  });
});
