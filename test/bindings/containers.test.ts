/** Standard C++ containers in the map that several processes change, and the pool from which their blocks come. */
import { expect, setDefaultTimeout } from "bun:test";
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { outcome } from "../support/e2e-child.ts";
import { Cluster, ROOT, readUntil } from "../support/e2e-cluster.ts";
import { needs } from "../support/needs.ts";

// A compiler and real processes, on machines that may be busy.
setDefaultTimeout(240_000);

const { afterAll, afterEach, beforeAll, describe, test } = needs("g++");

const KiB = 1024;

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = join(cluster.folder, "containers");
  const native = join(ROOT, "native");
  const { code, stderr } = await cluster.command([
    ...["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", `-I${native}/include`, `-I${native}/bindings/cpp`],
    ...[join(import.meta.dir, "programs/containers.cpp"), "-o", program],
    ...[`-L${native}/build`, "-ldsm", "-lpthread", `-Wl,-rpath,${native}/build`],
  ]);
  if (code !== 0) throw new Error(`containers.cpp does not compile:\n${stderr}`);
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** Nodes, the order, and how often a block is passed on: a store that traps takes its time. */
const PLACES: [string, string[], string, number][] = [
  ["in direct mode", ["a", "a", "a"], "sequential", 100_000],
  ["on one node, sequential", ["a", "a", "a"], "sequential", 300],
  ["on one node, release", ["a", "a", "a"], "release", 300],
  ["on one node, pipelined", ["a", "a", "a"], "pipelined", 300],
  ["on two nodes, sequential", ["a", "b", "b"], "sequential", 300],
  ["on two nodes, release", ["a", "b", "b"], "release", 300],
  ["on two nodes, pipelined", ["a", "b", "b"], "pipelined", 300],
];

/** Bytes that blocks of the allocator never get: the stacks of the pool, and the mailbox of the program. */
const TAKEN = 4 * KiB + 8 * KiB;

describe.each(PLACES)("%s", (where, nodes, order, rounds) => {
  const environment = { DSM_ORDER: order, ...(where === "in direct mode" ? {} : { DSM_DIRECT: "0" }) };

  test("all processes grow containers, and erase what others have inserted", async () => {
    const said = await cluster.runWell([program, "grow"], {
      ...{ session: cluster.session(), size: "1MiB", nodes, environment },
    });
    expect(said.join("")).toBe("ok\n");
  });

  test("a block has one owner, whichever process frees it, and none is lost", async () => {
    const said = await cluster.runWell([program, "pass", String(rounds)], {
      ...{ session: cluster.session(), size: "256KiB", nodes, environment },
    });
    expect(Number(said.join(""))).toBe(256 * KiB - TAKEN);
  });

  test("a process that is killed takes two chunks with it at most", async () => {
    const session = cluster.session();
    const children = nodes.map((node, rank) =>
      cluster.spawn([program, "die", String(rounds)], {
        ...{ session, size: "256KiB", processes: nodes.length, node, rank },
        environment: { ...environment, DSM_ON_LOSS: "continue" },
      }),
    );
    const victim = children.pop() as (typeof children)[0];
    expect(await readUntil(victim.stdout, "\n")).toBe("working\n");
    victim.kill("SIGKILL");
    await victim.exited;
    const outcomes = await Promise.all(children.map(outcome));
    expect(outcomes.map(({ code, stderr }) => ({ code, stderr }))).toEqual(
      outcomes.map(() => ({ code: 0, stderr: "" })),
    );
    const left = Number(outcomes.map(({ stdout }) => stdout).join(""));
    expect(left).toBeLessThanOrEqual(256 * KiB - TAKEN);
    // A chunk is 4 KiB here. Beside its chunks the process has the two blocks that it was passing on.
    expect(left).toBeGreaterThanOrEqual(256 * KiB - TAKEN - 2 * 4 * KiB - 2 * 64);
  });
});

test.each([
  ["in direct mode", ["a", "a"], {}],
  ["on two nodes", ["a", "b"], { DSM_ORDER: "pipelined" }],
])(
  "%s a full map is a bad_alloc, and what it held serves another process and other sizes",
  async (_, nodes, environment) => {
    const said = await cluster.runWell([program, "full"], {
      ...{ session: cluster.session(), size: "128KiB", nodes, environment },
    });
    expect(said.join("")).toMatch(
      /^.*\b320 bytes.*\b131072 bytes.*--size.*\nDSM_LEFT: this process has left session "s\d+"\n$/,
    );
  },
);

test.each(["0", "1"])("sizes, alignments and addresses at their limits and beyond, DSM_DIRECT=%s", async (direct) => {
  const said = await cluster.runWell([program, "edges"], {
    ...{ session: cluster.session(), size: "1MiB", nodes: ["a"], environment: { DSM_DIRECT: direct } },
  });
  expect(said).toEqual(["ok\n"]);
});

test("1,000 inserts ask the session's allocator some times only", async () => {
  const session = cluster.session();
  const child = cluster.spawn([program, "insert", "1000"], { session, size: "16MiB", processes: 1 });
  expect(await readUntil(child.stdout, "\n")).toBe("1000\n");
  // 3,000 blocks of 300 KB in all: chunks of 16, 32 and 64 KiB, and the object that is made once.
  expect((await cluster.status(session)).entries).toBeLessThan(30);
  child.stdin.end();
  expect(await child.exited).toBe(0);
});

test("the page's commands build and run its program", async () => {
  const [folder, prefix] = ["words", "prefix"].map((name) => join(cluster.folder, name)) as [string, string];
  cpSync(join(ROOT, "examples/words"), folder, { recursive: true });
  expect(await cluster.dsm(["install", "--prefix", prefix])).toMatchObject({ code: 0, stderr: "" });
  const [, build, run, printed] = /^```console\n\$ (.*)\n\$ (.*)\n((?:.*\n)*?)```$/m.exec(
    readFileSync(join(folder, "README.md"), "utf8"),
  ) as unknown as [string, string, string, string];
  const environment = {
    ...{ CPATH: join(prefix, "include"), LIBRARY_PATH: join(prefix, "lib") },
    PATH: `${join(prefix, "bin")}:${process.env.PATH}`,
  };
  const said = await cluster.command(
    ["sh", "-ec", `cd ${folder}\n${build} -Wall -Wextra -Werror\n${run}\n`],
    environment,
  );
  expect(said).toMatchObject({ code: 0, stdout: printed, stderr: "" });
  // A map that is full says a size, and that one suffices for what the program does next.
  const count = (size: string) =>
    cluster.command(["sh", "-ec", `cd ${folder}\ndsm run -n 2 --size ${size} -- ./words $(seq 3000)`], environment);
  const full = await count("64KiB");
  expect(full.code).toBe(1);
  const tried = /; free blocks, or give the map at least \d+KiB; try --size (\w+) \(DSM_SIZE=\1\)\n/.exec(full.stderr);
  expect(tried?.[1]).toBe("256KiB");
  const { code, stdout, stderr } = await count("256KiB");
  expect([code, stdout.split("\n").length, stderr]).toEqual([0, 3001, ""]);
});
