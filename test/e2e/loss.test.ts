/** What becomes of a session when one of its processes or arbiters dies, by its on_loss. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { arbiterKey } from "../../src/core/base/names.ts";
import { RING, RING_HEADER_SIZE, RING_SIZE } from "../../src/core/wire/ring-layout.ts";
import { stateOf } from "../cli/dsm.ts";
import { arbiterGone, storeLost } from "../support/arbiter-gone.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const CONTINUE = { DSM_ON_LOSS: "continue" };

async function three(
  nodes: string[],
  environment: Record<string, string>,
  size = "64KiB",
): Promise<[Actor, Actor, Actor]> {
  return (await cluster.actors(nodes, { environment, size })) as [Actor, Actor, Actor];
}

const leave = async (...actors: Actor[]): Promise<void> =>
  void (await Promise.all(actors.map((actor) => actor.leave())));

for (const [where, nodes, environment] of [
  ["on two nodes", ["a", "b", "b"], CONTINUE],
  ["on two nodes, under release", ["a", "b", "b"], { ...CONTINUE, DSM_ORDER: "release" }],
  ["on two nodes, pipelined", ["a", "b", "b"], { ...CONTINUE, DSM_ORDER: "pipelined" }],
  ["in direct mode", ["a", "a", "a"], CONTINUE],
] as [string, string[], Record<string, string>][]) {
  describe(`a session that continues, ${where}`, () => {
    test("goes on without the dead: barriers count survivors, waits go on, locks pass on", async () => {
      const [a, b, c] = await three(nodes, environment);
      expect(await a.ask("onloss")).toBe("ok continue");
      for (const name of ["one", "two"]) await c.do(`lock ${name}`);
      await c.do("begin 0 wait other 0");
      const lock = a.ask("lock one");
      await b.do("begin 0 wait gate 0");
      const barrier = b.ask("barrier");
      await cluster.untilState(a.session, 0, "lock");
      await cluster.untilState(a.session, 1, "barrier");
      const { stdout } = await cluster.dsm(["sessions", a.session]);
      expect(stdout).toMatch(/^on loss +continue$/m);
      expect(stdout).toMatch(/^0 .* waiting for lock "one" for [\d.]+ \w+$/m);
      expect(stdout).toMatch(/^2 .*; has lock "one", "two"$/m);
      c.kill("SIGKILL");
      const died = "DSM_OWNER_DIED process 2 ended while it had the lock; what it guards may be half done";
      expect(await lock).toBe(died);
      await a.do("barrier");
      expect(await barrier).toBe("ok");
      expect(await b.ask("trylock one")).toBe('DSM_AGAIN another process has lock "one" now');
      expect(await b.ask("timedlock one 20")).toBe('DSM_TIMEOUT other processes had lock "one" for 20 ms');
      expect(await a.ask("lock one")).toBe('DSM_BUSY this process has lock "one", or waits for it, already');
      await a.do("unmended one");
      expect(await b.ask("timedlock one 1000000")).toBe(died);
      await b.do("unlock one");
      expect(await a.ask("trylock one")).toBe("ok");
      expect(await b.ask("trylock two")).toBe(died);
      expect(await b.ask("unlock one")).toBe('DSM_NOT_OWNER this process does not have lock "one"');
      // The semaphore that was waited for all along.
      await a.do("post gate");
      expect(await b.ask("end 0")).toBe("ok");
      await a.do("store 4 0 7");
      await Promise.all([a.do("barrier"), b.do("barrier")]);
      expect(await b.number("load 4 0")).toBe(7);
      await leave(a, b);
    });

    test("never sees what the dead had in an unfilled hole", async () => {
      const [a, b, c] = await three(nodes, environment);
      await c.do("store 4 8 1");
      await c.do("fence");
      // In direct mode only whole pages are private.
      await c.do("dig 4096 8192");
      await c.do("stos 4096 8192 7");
      await c.do("lock done");
      c.kill("SIGKILL");
      expect(await b.ask("lock done")).toMatch(/^DSM_OWNER_DIED /);
      for (const actor of [a, b]) {
        expect(await actor.number("load 4 8")).toBe(1);
        expect(await actor.number("count 4096 8192 0")).toBe(8192);
      }
      await b.do("stos 4096 8192 3");
      await b.do("unlock done");
      await a.do("lock done");
      expect(await a.number("count 4096 8192 3")).toBe(8192);
      await leave(a, b);
    });
  });
}

test("a publication of which the process dies in the midst is there as a whole or not at all", async () => {
  const SIZE = 4 << 20;
  for (let round = 0; round < 3; round += 1) {
    const [a, b, c] = await three(["a", "b", "b"], CONTINUE, "4MiB");
    await c.do(`publish 0 ${SIZE} 1`);
    for (let value = 2; value < 60; value += 1) void c.ask(`publish 0 ${SIZE} ${value}`);
    await eventually("some are published", async () => (await a.number("load 1 0")) >= 2 + round);
    c.kill("SIGKILL");
    await c.end();
    // The barrier is passed when the order has the loss, and so all there is of the dead.
    await Promise.all([a.do("barrier"), b.do("barrier")]);
    const last = await a.number("load 1 0");
    expect(last).toBeGreaterThanOrEqual(2);
    for (const actor of [a, b]) expect(await actor.number(`count 0 ${SIZE} ${last}`)).toBe(SIZE);
    await leave(a, b);
  }
});

test("all processes must give the same policy, and a valid one", async () => {
  const session = cluster.session();
  const common = { session, processes: 2 };
  const first = cluster.actor({ ...common, node: "a", environment: CONTINUE });
  const opening = first.do("open");
  await cluster.untilPresent(session, 1);
  for (const [node, environment, answer] of [
    ["a", { DSM_ON_LOSS: "fail" }, /^DSM_MISMATCH session ".*" answers a loss with continue, not fail/],
    ["b", { DSM_ON_LOSS: "fail" }, /^DSM_MISMATCH session ".*" answers a loss with continue, not fail/],
    ["b", { DSM_ON_LOSS: "shrug" }, /^DSM_INVALID "shrug" is no answer to a loss; choose fail or continue$/],
  ] as const) {
    const other = cluster.actor({ ...common, node, environment });
    expect(await other.ask("open")).toMatch(answer);
    await other.end();
  }
  const second = cluster.actor({ ...common, node: "b" });
  await Promise.all([opening, second.do("open")]);
  expect(await second.ask("onloss")).toBe("ok continue");
  await leave(first, second);
  const { code, stderr } = await cluster.dsm(["run", "-n", "1", "--on-loss", "never", "--", "true"]);
  expect([code, stderr]).toEqual([2, 'dsm: invalid on-loss policy "never"; use fail or continue\n']);
});

describe("an arbiter that is killed", () => {
  for (const order of ["sequential", "release", "pipelined"]) {
    for (const onLoss of ["fail", "continue"]) {
      test(`${order}, ${onLoss}: its processes' calls fail at once, their stores end them, and for others they are lost`, async () => {
        const environment = { DSM_ORDER: order, DSM_ON_LOSS: onLoss };
        const [a, b, c] = await three(["a", "b", "b"], environment);
        await b.do("lock one");
        await c.do("store 4 0 5");
        await c.do("fence");
        await b.do("store 4 4096 6");
        await c.do("begin 0 wait gate 0");
        const waiting = c.ask("lock one");
        const other = a.ask("lock one");
        await cluster.untilState(a.session, 0, "lock");
        await cluster.untilState(a.session, 2, "semaphore");
        process.kill(cluster.arbiter(a.session, "b"), "SIGKILL");
        const gone = `DSM_UNREACHABLE ${arbiterGone(a.session)}`;
        expect(await waiting).toBe(gone);
        expect(await c.ask("end 0")).toBe(gone);
        expect(await other).toMatch(onLoss === "fail" ? /^DSM_LOST process [12] / : /^DSM_OWNER_DIED process [12] /);
        // Every synchronising operation says so, also where stores wait to be published.
        for (const call of ["barrier", "post s", "lock two", "unlock one", "fence", "dig 0 8192", "trylock two"]) {
          expect([call, await b.ask(call)]).toEqual([call, gone]);
        }
        // What it has stored can still be read, and so saved.
        expect(await b.number("peek 4 0")).toBe(5);
        expect(await b.number("peek 4 4096")).toBe(6);
        void b.ask("store 4 4096 7");
        void c.ask("add 0 1");
        for (const actor of [b, c]) {
          const { signal, stderr } = await actor.end();
          expect(signal).toBe("SIGBUS");
          expect(stderr).toBe(storeLost(a.session));
        }
        await a.leave();
        await clear();
      });
    }
  }

  test("pipelined: a process that only stores is told, too, even if the arbiter was awake and no doorbell rings", async () => {
    const [a, b, c] = await three(["a", "b", "b"], { DSM_ORDER: "pipelined", ...CONTINUE });
    await b.do("store 4 4096 1");
    await b.do("fence");
    const arbiter = cluster.arbiter(a.session, "b");
    const key = arbiterKey(cluster.daemonAddress, a.session, "b");
    const map = readdirSync("/dev/shm").find((name) => name.includes(key)) as string;
    const ring = Bun.mmap(join("/dev/shm", map), { shared: true }).subarray(-(RING_HEADER_SIZE + RING_SIZE));
    process.kill(arbiter, "SIGSTOP");
    await eventually("the arbiter stands", () => stateOf(arbiter) === "T");
    new DataView(ring.buffer, ring.byteOffset).setUint32(RING.sleeping[0], 0, true);
    process.kill(arbiter, "SIGKILL");
    // It ends when the kernel comes to it; until then stores succeed.
    await eventually("a store finds out", async () => (await b.ask("store 4 4096 2").catch(() => "ended")) !== "ok");
    expect((await b.end()).signal).toBe("SIGBUS");
    // Not because the ring was full.
    const place = (field: "tail" | "head"): number =>
      new DataView(ring.buffer, ring.byteOffset).getUint32(RING[field][0], true);
    expect((place("tail") - place("head")) >>> 0).toBeLessThan(RING_SIZE / 2);
    c.kill("SIGKILL");
    await c.end();
    await a.leave();
    await clear();
  });

  test("in direct mode: calls fail at once, and stores go on in the memory that is left", async () => {
    const [a, b, c] = await three(["a", "a", "a"], {});
    const barrier = a.ask("barrier");
    await b.do("lock one");
    const lock = c.ask("lock one");
    await cluster.untilState(a.session, 0, "barrier");
    await cluster.untilState(a.session, 2, "lock");
    process.kill(cluster.arbiter(a.session, "a"), "SIGKILL");
    const gone = `DSM_UNREACHABLE ${arbiterGone(a.session)}`;
    expect([await barrier, await lock]).toEqual([gone, gone]);
    for (const call of ["barrier", "unlock one", "wait s 1", "fence", "dig 0 4096"])
      expect(await b.ask(call)).toBe(gone);
    await a.do("store 4 0 7");
    expect(await b.number("peek 4 0")).toBe(7);
    await b.do("add 0 1");
    expect(await c.number("peek 4 0")).toBe(8);
    for (const actor of [a, b, c]) {
      expect(await actor.ask("leave")).toBe(gone);
      expect(await actor.number("peek 4 0")).toBe(8);
      expect(await actor.end()).toMatchObject({ code: 0, stderr: "" });
    }
    await clear();
  });
});

/** A killed arbiter leaves its socket and its map to the next session, whichever it is. */
async function clear(): Promise<void> {
  await cluster.untilSilent();
  const [one] = await cluster.actors(["c"]);
  await one?.leave();
}
