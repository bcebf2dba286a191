/** Leaving a session, forking in one, and several sessions in one process. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

describe("after leaving", () => {
  test("the last state stays readable, and is the process's own", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    await a.do("stos 4000 500 3");
    await b.do("store 8 8 77");
    await a.do("load 1 0");
    await a.do("leave");
    await b.do("store 8 8 78");
    await b.do("stos 4000 500 4");
    await b.leave();
    expect(await a.number("peek 8 8")).toBe(77);
    expect(await a.number("peek 1 4000")).toBe(3);
    expect(await a.number("peek 1 4499")).toBe(3);
    expect(await a.number("peek 1 65535")).toBe(0);
    expect(await a.end()).toMatchObject({ code: 0, stderr: "" });
  });

  test("every call says that the process has left", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    const hole = await a.number("dig 0 10");
    await a.do("leave");
    const calls = ["barrier", "wait s 0", "try s 0", "timed s 0 1", "post s 0", "dig 0 4096", `fill ${hole}`, "fence"];
    for (const call of calls) {
      expect([call, await a.ask(call)]).toEqual([call, `DSM_LEFT this process has left session "${a.session}"`]);
    }
    expect(await a.ask("leave")).toBe(`DSM_LEFT this process has left session "${a.session}" before`);
    expect(await a.do("describe")).toMatch(new RegExp(`^0 2 0x[0-9a-f]+ 65536 a ${a.session}$`));
    await b.leave();
    expect(await a.end()).toMatchObject({ code: 0, stderr: "" });
  });

  for (const [what, command] of [
    ["an ordinary store", "store 4 100 1"],
    ["an atomic operation", "add 8 1"],
    ["a string instruction", "stos 0 100 1"],
  ] as const) {
    test(`${what} ends the process with a message`, async () => {
      const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
      await a.do("leave");
      void a.ask(command);
      const { signal, stderr } = await a.end();
      expect(signal).toBe("SIGSEGV");
      expect(stderr).toBe("dsm: store to the map of a session this process has left\n");
      await b.leave();
    });
  }

  test("others go on without it", async () => {
    const [a, b, c] = (await cluster.actors(["a", "b", "b"])) as [Actor, Actor, Actor];
    await a.leave();
    await b.do("store 4 0 5");
    expect(await c.number("load 4 0")).toBe(5);
    await Promise.all([b.do("barrier"), c.do("barrier")]);
    expect((await cluster.status(b.session)).ranks.map(({ state }) => state)).toEqual(["left", "running", "running"]);
    await b.leave();
    await c.do("barrier");
    await c.leave();
  });

  test("threads in the middle of calls get an error, and their memory is no longer touched", async () => {
    await cluster.runWell([cluster.program("leaving"), "threads", "20"], {
      session: cluster.session(),
      nodes: ["a", "b"],
    });
  });
});

test("what a process keeps of the sessions it has left does not grow with their number", async () => {
  const session = cluster.session();
  // One that goes on all the time, on the same node, so that nothing has to be started for each of 160.
  const environment = { DSM_ELASTIC: "1", DSM_DIRECT: "0" };
  const keeper = cluster.actor({ session, node: "a", processes: 1, environment });
  await keeper.do("open");
  const guest = cluster.spawn([cluster.program("leaving"), "come_and_go", "160"], { session, node: "a", environment });
  const [stderr, code] = await Promise.all([guest.stderr.text(), guest.exited]);
  expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
  expect(await keeper.number("load 8 0")).toBe(160);
  await keeper.leave();
});

describe("a child forked after joining", () => {
  const FORKED = "dsm: this process was forked after joining the session; the map belongs to its parent";

  for (const [what, command] of [
    ["load", "peek 4 0"],
    ["store", "store 4 0 1"],
    ["atomic operation", "add 0 1"],
    ["load in a hole", "peek 4 8192"],
    ["load in a part of a page that is a hole", "peek 4 20000"],
  ] as const) {
    test(`ends at a ${what} with a message, and the parent is unharmed`, async () => {
      const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
      const holes = [await a.number("dig 8192 4096"), await a.number("dig 20000 100")];
      await a.do("store 4 8192 3");
      await a.do("store 4 20000 4");
      expect(await a.do(`fork ${command}`)).toBe("signal 11");
      for (const hole of holes) await a.do(`fill ${hole}`);
      await a.do("store 4 0 9");
      expect(await b.number("load 4 0")).toBe(9);
      expect(await b.number("load 4 8192")).toBe(3);
      expect(await b.number("load 4 20000")).toBe(4);
      await Promise.all([a.do("barrier"), b.do("barrier")]);
      await Promise.all([a.do("leave"), b.leave()]);
      const { code, stderr } = await a.end();
      expect(code).toBe(0);
      expect(stderr).toBe(`${FORKED} (open a session in the child instead)\n`);
    });
  }

  test("gets an error from every call, and the parent is not affected", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    for (const call of [
      "barrier",
      "wait s 1",
      "try s 1",
      "timed s 1 1",
      "post s 1",
      "dig 0 8",
      "fill 1",
      "fence",
      "leave",
    ]) {
      expect([call, await a.do(`fork ${call}`)]).toEqual([
        call,
        "exit 0 DSM_FORKED this process was forked after joining; the session belongs to its parent",
      ]);
    }
    expect((await cluster.status(a.session)).ranks.map(({ state }) => state)).toEqual(["running", "running"]);
    await a.do("add 0 1");
    await Promise.all([a.leave(), b.leave()]);
  });

  test("may open sessions of its own", async () => {
    await cluster.runWell([cluster.program("leaving"), "forked", "5"], {
      session: cluster.session(),
      nodes: ["a", "b"],
    });
  });

  test("does not keep the parent's place when the parent is killed", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    // The child outlives its parent, asleep.
    void a.ask("fork sleep 600");
    await cluster.untilState(b.session, 0, "running");
    const barrier = b.ask("barrier");
    await cluster.untilState(b.session, 1, "barrier");
    a.kill("SIGKILL");
    expect(await barrier).toBe("DSM_LOST process 0 of the session was lost (it ended without leaving)");
    await b.leave();
    for (const pid of cluster.processes(cluster.program("actor"))) process.kill(pid, "SIGKILL");
  });
});

describe("several sessions", () => {
  test("are open in one process at once, in two processes on two nodes", async () => {
    await cluster.runWell([cluster.program("leaving"), "several", "8"], {
      session: cluster.session(),
      nodes: ["a", "b"],
    });
  });

  test("with different processes in each", async () => {
    const [a, b, c] = ["a", "b", "c"].map((node) => cluster.actor({ session: "ab", processes: 2, node })) as [
      Actor,
      Actor,
      Actor,
    ];
    await Promise.all([a.do("open ab"), b.do("open ab")]);
    await Promise.all([b.do("open bc"), c.do("open bc")]);
    await Promise.all([a.do("open ca"), c.do("open ca")]);
    // Each has two handles: 0 and 1. b and c are in "bc", where b has handle 1 and c has handle 0.
    await a.do("use 0");
    await a.do("store 4 0 1");
    await b.do("store 4 0 2");
    await c.do("use 1");
    await c.do("store 4 0 3");
    await c.do("use 0");
    expect(await c.number("load 4 0")).toBe(2);
    await a.do("use 1");
    expect(await a.number("load 4 0")).toBe(3);
    await b.do("use 0");
    expect(await b.number("load 4 0")).toBe(1);
    for (const actor of [a, b, c]) {
      for (const handle of [0, 1]) {
        await actor.do(`use ${handle}`);
        await actor.do("leave");
      }
      expect(await actor.end()).toMatchObject({ code: 0, stderr: "" });
    }
  });

  test("up to the limit of a process, and one more is refused", async () => {
    const actor = cluster.actor({ session: "limit", processes: 1, node: "a" });
    const answers: string[] = [];
    for (let i = 0; i < 33; i += 1) answers.push(await actor.ask(`open limit-${i}`));
    expect(answers.slice(0, 32)).toEqual(Array.from({ length: 32 }, (_, i) => `ok ${i}`));
    expect(answers[32]).toBe("DSM_LIMIT this process has 32 sessions, the limit; leave one first");
    await actor.do("leave");
    expect(await actor.ask("open again")).toMatch(/^ok /);
    expect(await actor.end()).toMatchObject({ code: 0, stderr: "" });
  });
});
