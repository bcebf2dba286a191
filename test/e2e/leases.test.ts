/** Locks that stay with the node that had them last: owners, arbiters and nodes that die or are cut off, and what it saves. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { LEASE_MS } from "../../src/core/base/limits.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM, eventually, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(6 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const CONTINUE = { DSM_ON_LOSS: "continue" };

/** Processes of those nodes; the lock m is leased to the first one's node. */
async function leased(nodes: string[], environment: Record<string, string> = {}): Promise<Actor[]> {
  const actors = await cluster.actors(nodes, { environment: { ...CONTINUE, DSM_DIRECT: "0", ...environment } });
  const [first] = actors as [Actor];
  await use(first, 3);
  const { entries } = await cluster.status(first.session);
  await use(first, 5);
  expect((await cluster.status(first.session)).entries).toBe(entries);
  return actors;
}

async function use(actor: Actor, times: number): Promise<void> {
  for (let time = 0; time < times; time += 1) for (const command of ["lock m", "unlock m"]) await actor.do(command);
}

describe("two nodes, each with two processes that increment under one lock:", () => {
  test.each(["sequential", "release", "pipelined"])("%s", async (order) => {
    const program = cluster.program("lock_cells");
    await cluster.runWell([program, "150", "0"], {
      ...{ session: cluster.session(), nodes: ["a", "a", "b", "b"], size: "64KiB" },
      environment: { ...CONTINUE, DSM_ORDER: order },
    });
  });

  test.each(["sequential", "release", "pipelined"])("%s, and owners are killed", async (order) => {
    const program = cluster.program("lock_cells");
    for (let time = 0; time < 4; time += 1) {
      const session = cluster.session();
      const children = ["a", "a", "b", "b"].map((node, rank) =>
        cluster.spawn([program, "200", "300000"], {
          ...{ session, rank, processes: 4, node, size: "64KiB", environment: { ...CONTINUE, DSM_ORDER: order } },
        }),
      );
      const [first, ...others] = children as [(typeof children)[0], ...typeof children];
      expect(await Promise.all(others.map((child) => child.exited))).toEqual([137, 137, 137]);
      const [said, errors] = await Promise.all([first.stdout.text(), first.stderr.text()]);
      expect(await first.exited, errors).toBe(0);
      expect(Number(/^deaths (\d+)$/m.exec(said)?.[1])).toBeLessThanOrEqual(3);
    }
  });
});

test("a lock that one node takes again and again costs no entries, however many nodes there are", async () => {
  const nodes = ["a", "b", "c", "d", "e", "f", "g", "h"];
  const actors = await cluster.actors(nodes, { environment: CONTINUE });
  const [first] = actors as [Actor];
  const { entries } = await cluster.status(first.session);
  await use(first, 1000);
  expect((await cluster.status(first.session)).entries - entries).toBeLessThanOrEqual(50);
  await Promise.all(actors.map((actor) => actor.leave()));
});

test("another node gets it when its owner gives it back, or dies with it, and hears of no other death", async () => {
  const [a, a2, b] = (await leased(["a", "a", "b"])) as [Actor, Actor, Actor];
  await a.do("lock m");
  expect(await b.ask("trylock m")).toStartWith("DSM_AGAIN");
  expect(await b.ask("timedlock m 50")).toStartWith("DSM_TIMEOUT");
  expect(await b.ask("unlock m")).toStartWith("DSM_NOT_OWNER");
  expect(await a.ask("lock m")).toStartWith("DSM_BUSY");
  const waits = b.ask("lock m");
  await cluster.untilState(a.session, 2, "lock");
  await a.do("unlock m");
  expect(await waits).toBe("ok");
  await b.do("unlock m");
  await use(a, 3);
  expect(await b.ask("trylock m")).toBe("ok");
  await b.do("unlock m");
  await use(a, 3);
  await a.do("lock m");
  a.kill("SIGKILL");
  expect(await b.ask("lock m")).toStartWith("DSM_OWNER_DIED");
  await b.do("unlock m");
  expect(await a2.ask("lock m")).toBe("ok");
  await a2.do("unlock m");
  await Promise.all([a2, b].map((actor) => actor.leave()));
});

test("a process that leaves with it tells the next owner; one that leaves without it does not", async () => {
  const [a, a2, b] = (await leased(["a", "a", "b"])) as [Actor, Actor, Actor];
  await a.do("lock m");
  await a.leave();
  expect(await b.ask("lock m")).toStartWith("DSM_OWNER_DIED");
  await b.do("unlock m");
  await use(a2, 3);
  await a2.leave();
  expect(await b.ask("lock m")).toBe("ok");
  await b.do("unlock m");
  await b.leave();
});

test("after a loss that ends all waits the processes of other nodes are refused, too", async () => {
  const [a, b] = (await leased(["a", "b"], { DSM_ON_LOSS: "fail" })) as [Actor, Actor];
  b.kill("SIGKILL");
  await eventually("the loss is known", async () => {
    const answer = await a.ask("lock m");
    if (answer === "ok") await a.do("unlock m");
    return answer.startsWith("DSM_LOST");
  });
  await a.leave();
});

test("when its arbiter is killed, its processes take it no more before another node gets it", async () => {
  const [a, b] = (await leased(["a", "b"])) as [Actor, Actor];
  process.kill(cluster.arbiter(a.session, "a"), "SIGKILL");
  expect(await b.ask("lock m")).toStartWith("DSM_OWNER_DIED");
  expect(await a.ask("lock m")).toStartWith("DSM_UNREACHABLE");
  await b.do("unlock m");
  await b.leave();
  await a.end();
  await cluster.untilSilent();
  // A killed arbiter leaves its socket and its map to the next session, whichever it is.
  const [one] = await cluster.actors(["c"]);
  await one?.leave();
});

test("when its node is cut off, its processes take it no more before another node gets it", async () => {
  const impatient = { DSM_HEARTBEAT_TIMEOUT_MS: "1000", DSM_RECONNECT_TIMEOUT_MS: "1" };
  const [a, b] = (await leased(["a", "b"], impatient)) as [Actor, Actor];
  const arbiter = cluster.arbiter(a.session, "a");
  process.kill(arbiter, "SIGSTOP");
  try {
    const from = performance.now();
    expect(await b.ask("lock m")).toStartWith("DSM_OWNER_DIED");
    expect(performance.now() - from).toBeGreaterThan(LEASE_MS);
    const late = a.ask("lock m");
    process.kill(arbiter, "SIGCONT");
    expect(await late).toStartWith("DSM_UNREACHABLE");
  } finally {
    process.kill(arbiter, "SIGCONT");
  }
  await b.do("unlock m");
  await b.leave();
  await a.end();
});

test("a snapshot knows which lock is free, and which one a process has", async () => {
  const [a, b] = (await leased(["a", "b"])) as [Actor, Actor];
  for (const command of ["lock n", "unlock n", "lock n", "unlock n", "lock n"]) await a.do(command);
  const file = join(cluster.folder, "picture");
  const { code, stderr } = await cluster.dsm(["snapshot", a.session, file]);
  expect(code, stderr).toBe(0);
  await a.do("unlock n");
  await Promise.all([a, b].map((actor) => actor.leave()));
  await cluster.settled();

  const session = cluster.session();
  const server = cluster.spawn([DSM, "server", "--restore", file, "--session", session], { session });
  await eventually("it has registered", async () => (await cluster.sessions()).some(({ name }) => name === session));
  const [c, d] = (await cluster.actors(["a", "b"], { session, environment: CONTINUE })) as [Actor, Actor];
  expect(await c.ask("lock m")).toBe("ok");
  expect(await d.ask("lock n")).toStartWith("DSM_OWNER_DIED");
  await c.do("unlock m");
  await d.do("unlock n");
  await Promise.all([c, d].map((actor) => actor.leave()));
  expect(await server.exited).toBe(0);
});
