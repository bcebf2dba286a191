/** Stacks and alternate stacks that lie in the map, or are small: they work, or a message says why they cannot. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { outcome } from "../support/e2e-child.ts";
import { Cluster, readUntil } from "../support/e2e-cluster.ts";

setDefaultTimeout(240_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const CASES = {
  context: "makecontext with a stack in the map",
  "context-thread": "the same in a thread that was there before, and has stored nothing",
  "context-other": "a thread that has stored nothing, on a stack in the map that another one has made",
  "context-signal": "a signal on a stack in the map, whose handler asks for the alternate stack",
  calls: "calls of dsm on a stack in the map are refused, and read() there gives EFAULT",
  "alternate-in-map": "an alternate stack in the map, for a handler of the program",
  "alternate-in-map-store": "an alternate stack in the map, and stores of all kinds",
  "alternate-small": "alternate stacks of 2 to 8 KiB, stores of all kinds, and a handler of the program",
  "alternate-tiles": "an alternate stack of 8 KiB in a program that uses AMX tiles",
  "alternate-seen": "sigaltstack() answers as it does without dsm",
  "many-threads": "threads that store and end, one after the other",
  edge: "stores across the end of the map go to the program's handler, and store nothing",
};

const run = (name: string, nodes: string[], order = "sequential") =>
  cluster.run([cluster.program("stacks"), name], {
    session: cluster.session(),
    nodes,
    size: "1MiB",
    environment: { DSM_ORDER: order },
  });

for (const [where, nodes] of [
  ["two nodes", ["a", "b"]],
  ["direct mode", ["a", "a"]],
] as const) {
  describe(where, () => {
    for (const [name, what] of Object.entries(CASES)) {
      test(what, async () => {
        const [first, second] = await run(name, [...nodes]);
        expect(first).toMatchObject({ code: 0, signal: null, stderr: "" });
        expect(first?.stdout).toMatch(/^(no tiles .*\n)?ok\n$/);
        expect(second).toMatchObject({ code: 0, stdout: "", stderr: "" });
      });
    }
  });
}

for (const order of ["pipelined", "release"]) {
  test(`${order}: makecontext with a stack in the map`, async () => {
    const [first] = await run("context", ["a", "b"], order);
    expect(first).toMatchObject({ code: 0, stdout: "ok\n", stderr: "" });
  });
}

test("direct mode ends while a thread's stack lies in the map", async () => {
  const options = { session: cluster.session(), size: "1MiB", environment: { DSM_ELASTIC: "1" } };
  const first = cluster.spawn([cluster.program("stacks"), "context-change"], { ...options, processes: 1, node: "a" });
  await readUntil(first.stdout, "running\n");
  const second = cluster.spawn([cluster.program("stacks"), "context-change"], { ...options, node: "b" });
  expect(await outcome(second)).toMatchObject({ code: 0, stderr: "" });
  expect(await first.exited).toBe(0);
});

test("a thread's stack in the map is refused, with a line that says why; in direct mode it works", async () => {
  const [refused] = await run("thread-stack", ["a", "b"]);
  expect(refused).toMatchObject({ code: 0, stdout: "ok\n" });
  expect(refused?.stderr).toBe(
    "dsm: the stack of a thread cannot lie in the map, which is read-only (EACCES); give the thread other memory\n",
  );
  const [direct] = await run("thread-stack", ["a", "a"]);
  expect(direct).toMatchObject({ code: 0, stdout: "ok\n", stderr: "" });
});

test("a signal on a stack in the map, whose handler does not ask for the alternate stack, is named before the end", async () => {
  const [first] = await run("dies-signal", ["a", "b"]);
  expect(first).toMatchObject({ signal: "SIGSEGV", stdout: "" });
  expect(first?.stderr).toBe(
    "dsm: a signal came on a stack that lies in the map: install its handler with SA_ONSTACK\n",
  );
});

test("without a handler a store across the end of the map is named before the end", async () => {
  const [first] = await run("dies-edge", ["a", "b"]);
  expect(first).toMatchObject({ signal: "SIGSEGV", stdout: "" });
  expect(first?.stderr).toMatch(
    /^dsm: fault of the store to 0x\w+ by the instruction at 0x\w+ \(bytes( \w\w)+\): it goes on behind the end of the map; start the session with a larger --size \(DSM_SIZE\)\n$/,
  );
});
