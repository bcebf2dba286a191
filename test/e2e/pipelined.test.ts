/** The order `pipelined` between real processes: what arrives, and who dies or stops where. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { RING, RING_ARBITER } from "../../src/core/wire/ring-layout.ts";
import { storeLost } from "../support/arbiter-gone.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";
import { RingHeader, ringNumber, statesOf, stop } from "../support/ring-header.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const environment = { DSM_ORDER: "pipelined" };
/** What actors have. */
const SIZE = 64 << 10;
const actors = (nodes: string[]): Promise<Actor[]> => cluster.actors(nodes, { environment });
const three = async (): Promise<[Actor, Actor, Actor]> => (await actors(["a", "b", "b"])) as [Actor, Actor, Actor];

const ringOf = (session: string, node: string): RingHeader =>
  new RingHeader(cluster.daemonAddress, session, node, SIZE);

/** How often the process has given the processor away. */
function pausesOf(pid: number): number {
  return Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

/** Waits until the arbiter has found the lock taken some times: it pauses in between. */
async function untilItHasWaited(arbiter: number): Promise<void> {
  const before = pausesOf(arbiter);
  await eventually("the arbiter has waited for the lock", () => pausesOf(arbiter) > before + 100);
}

/** Both nodes see the same stores of a row, and no more come. */
async function expectSameTrail(actors: Actor[], offset: number): Promise<number> {
  // What is asked of both comes after all that was queued on either.
  for (const actor of actors) await actor.do("fence");
  const [first, ...others] = await Promise.all(actors.map((actor) => actor.number(`trailed ${offset}`)));
  for (const other of others) expect(other).toBe(first as number);
  return first as number;
}

test("whatever is stored arrives: more than the ring holds, in large and in small pieces, in several runs", async () => {
  await cluster.runWell([cluster.program("pipelined"), "values"], {
    session: cluster.session(),
    nodes: ["a", "b", "b"],
    size: "12MiB",
    environment,
  });
});

test("words that threads of all processes store to are never torn, and end the same everywhere", async () => {
  const [first, ...others] = await cluster.runWell([cluster.program("pipelined"), "words"], {
    session: cluster.session(),
    nodes: ["a", "b", "b"],
    size: "64KiB",
    environment,
  });
  expect(first).toMatch(/^[0-9a-f]{16}\n$/);
  expect(others).toEqual([first as string, first as string]);
});

test("long runs that processes of two nodes store over each other end the same everywhere", async () => {
  const [first, ...others] = await cluster.runWell([cluster.program("pipelined"), "runs"], {
    session: cluster.session(),
    nodes: ["a", "b", "b"],
    size: "256KiB",
    environment,
  });
  expect(first).toMatch(/^[0-9a-f]{16}\n$/);
  expect(others).toEqual([first as string, first as string]);
});

test.each(["file", "stdio"])("what the kernel writes to the map arrives (%s)", async (name) => {
  const [wanted, seen] = await cluster.runWell([cluster.program("kernel_io"), name, "plain"], {
    session: cluster.session(),
    nodes: ["a", "b"],
    size: "1MiB",
    environment,
  });
  expect(seen).toBe(wanted as string);
});

test("the session says its order", async () => {
  const [a] = (await actors(["a", "b"])) as [Actor, Actor];
  expect((await cluster.status(a.session)).order).toBe("pipelined");
  const { stdout } = await cluster.dsm(["sessions", a.session]);
  expect(stdout).toContain("pipelined");
});

test("in direct mode there is no ring", async () => {
  const both = await actors(["a", "a"]);
  for (const { pid } of both) {
    const mappings = readFileSync(`/proc/${pid}/maps`, "latin1").split("\n");
    // The map and the lock cells.
    expect(mappings.filter((line) => line.includes("/dev/shm/dsm"))).toHaveLength(2);
  }
});

describe("a process that is stopped", () => {
  test("while it has the lock holds up its node, and then all go on", async () => {
    const [a, b, c] = await three();
    using ring = ringOf(a.session, "b");
    await c.do("begin 0 flood 32768");
    await c.do(`seize ${ring.lock} ${ringNumber(c.pid)}`);
    await stop(c.pid);
    await a.do("store 8 4096 5");
    const store = b.do("store 8 8192 6");
    const fence = b.do("fence");
    await untilItHasWaited(cluster.arbiter(a.session, "b"));
    expect(ring.owner).toBe(ringNumber(c.pid));
    process.kill(c.pid, "SIGCONT");
    await c.do(`release ${ring.lock}`);
    await Promise.all([store, fence]);
    await a.do("fence");
    expect(await b.number("load 8 4096")).toBe(5);
    expect(await a.number("load 8 8192")).toBe(6);
  });

  test("and whose first thread has ended keeps the lock", async () => {
    const [a, b, c] = await three();
    using ring = ringOf(a.session, "b");
    await c.do("hand_over");
    await c.do("begin 0 flood 32768");
    await eventually("its first thread has ended", () => statesOf(c.pid).includes("Z"));
    await c.do(`seize ${ring.lock} ${ringNumber(c.pid)}`);
    await stop(c.pid);
    await a.do("store 8 4096 5");
    await untilItHasWaited(cluster.arbiter(a.session, "b"));
    expect(ring.owner).toBe(ringNumber(c.pid));
    process.kill(c.pid, "SIGCONT");
    await c.do(`release ${ring.lock}`);
    await a.do("fence");
    expect(await b.number("load 8 4096")).toBe(5);
  });
});

describe("a process that is killed", () => {
  for (const [where, early, isThere] of [
    ["before its record is in the ring", 1, 0],
    ["when its record is in the ring and the map is not written", 0, 1],
  ] as const) {
    test(`while it has the lock, ${where}: its node goes on, and what it stored before is there`, async () => {
      const [a, b, c] = await three();
      using ring = ringOf(a.session, "b");
      const number = ringNumber(c.pid);
      await c.do("begin 0 trail 0");
      await eventually("it stores", async () => (await b.number("peek 8 0")) > 0);
      await c.do("store 8 32760 9");
      await c.do(`doom 32768 ${early}`);
      await c.ask("store 8 32768 1").catch(() => {});
      expect((await c.end()).signal).toBe("SIGSEGV");
      expect(await b.ask("barrier")).toMatch(/^DSM_LOST process 2 /);
      expect(await expectSameTrail([a, b], 0)).toBeGreaterThan(0);
      expect(ring.owner).not.toBe(number);
      for (const actor of [a, b]) {
        expect(await actor.number("load 8 32760")).toBe(9);
        expect(await actor.number("load 8 32768")).toBe(isThere);
      }
      await b.do("stos 0 512 7");
      await b.do("fence");
      expect(await a.number("count 0 512 7")).toBe(512);
      await Promise.all([a.leave(), b.leave()]);
    });
  }

  test("one after the other, anywhere in a burst: the stores of each are there up to one of them", async () => {
    const nodes = ["a", "b", ...Array.from({ length: 6 }, () => "b")];
    const [a, b, ...storing] = (await actors(nodes)) as [Actor, Actor, ...Actor[]];
    // Stores from the other node as well, so that the arbiter takes the lock.
    await a.do("begin 0 trail 32768");
    for (const [i, actor] of storing.entries()) void actor.ask(`trail ${512 * i}`);
    for (const [i, actor] of storing.entries()) {
      await eventually("it stores", async () => (await b.number(`peek 8 ${512 * i}`)) > 0);
      actor.kill("SIGKILL");
      await actor.end();
    }
    expect(await b.ask("barrier")).toMatch(/^DSM_LOST /);
    for (const i of storing.keys()) expect(await expectSameTrail([a, b], 512 * i)).toBeGreaterThan(0);
    await b.leave();
  });

  test("or becomes another program while one of its threads stores: its node goes on", async () => {
    const [a, b, ...becoming] = (await actors(["a", "b", "b", "b", "b"])) as [Actor, Actor, ...Actor[]];
    for (const [i, actor] of becoming.entries()) {
      await actor.do(`begin 0 trail ${512 * i}`);
      await actor.do("begin 1 flood 32768");
      await eventually("it stores", async () => (await b.number(`peek 8 ${512 * i}`)) > 0);
      void actor.ask("become cat");
    }
    expect(await b.ask("barrier")).toMatch(/^DSM_LOST /);
    for (const i of becoming.keys()) {
      expect((await cluster.status(a.session)).ranks[2 + i]?.state).toMatch(/^(running|lost)$/);
      await cluster.untilState(a.session, 2 + i, "lost");
      expect(await expectSameTrail([a, b], 512 * i)).toBeGreaterThan(0);
    }
    await Promise.all([a.leave(), b.leave()]);
  });
});

describe("an arbiter that is killed", () => {
  const gone = (session: string): string => storeLost(session);

  for (const withLock of [false, true]) {
    test(`${withLock ? "with the lock" : "in a burst"} ends a process that stores; the others learn of it at their next call`, async () => {
      const [a, b, c] = await three();
      using ring = ringOf(a.session, "b");
      const arbiter = cluster.arbiter(a.session, "b");
      await a.do("begin 0 trail 1024");
      void c.ask("trail 0");
      if (withLock) {
        await stop(arbiter);
        await b.do(`seize ${ring.lock} ${RING_ARBITER} 1`);
      }
      process.kill(arbiter, "SIGKILL");
      const { signal, stderr } = await c.end();
      expect({ signal, stderr }).toEqual({ signal: "SIGBUS", stderr: gone(a.session) });
      for (const call of ["fence", "barrier"]) expect(await b.ask(call)).toMatch(/^DSM_UNREACHABLE /);
      expect(await a.ask("barrier")).toMatch(/^DSM_LOST /);
      a.kill("SIGKILL");
      // The next arbiter of the user removes what this one left behind.
      const [next] = await cluster.actors(["b"]);
      await next?.leave();
    });
  }
});

test("a process that corrupts the ring ends the session on its node, and on no other", async () => {
  for (const [place, value] of [
    [RING.tail, 12],
    [RING.tail, 0x12345678],
  ] as const) {
    const [a, b] = (await actors(["a", "b"])) as [Actor, Actor];
    using ring = ringOf(a.session, "b");
    await b.do("store 8 0 1");
    await b.do("fence");
    ring.set(place, value);
    expect(await b.ask("fence")).toMatch(/^DSM_/);
    expect(await b.ask("fence")).toMatch(/^DSM_UNREACHABLE /);
    expect(await a.ask("barrier")).toMatch(/^DSM_LOST /);
    expect(await a.number("load 8 0")).toBe(1);
    await a.leave();
    await b.end();
  }
});
