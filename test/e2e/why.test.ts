/** `dsm why` on a program that really hangs. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { RankStatus } from "../../src/core/messages/daemon-api.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";

setDefaultTimeout(90_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

test("after the loss of the server it still knows who wrote last, and since when ranks wait", async () => {
  const began = performance.now();
  const [a, b, c] = (await cluster.actors(["one", "one", "two"])) as [Actor, Actor, Actor];
  const { session } = a;
  await c.do("store 8 0x100 1");
  for (const actor of [a, b]) await actor.do("begin 0 barrier");
  const rankOf = async (rank: number): Promise<RankStatus> => (await cluster.status(session)).ranks[rank] as RankStatus;
  // The server puts off the broadcast of such an entry for a tenth of that.
  await eventually("the ranks have waited for a second", async () => {
    return (await rankOf(0)).stateMs > 1000 && (await rankOf(1)).stateMs > 1000;
  });
  const before = await cluster.status(session);
  process.kill(before.pid, "SIGKILL");
  const killed = performance.now();
  await eventually("another server knows the session", async () => {
    // While the next server starts, the daemon has none to show.
    const now = await cluster.status(session).catch(() => null);
    return now !== null && now.epoch > before.epoch && now.answered;
  });
  const sinceKilledMs = performance.now() - killed;
  const after = await cluster.status(session);
  const sinceBegunMs = performance.now() - began;
  for (const rank of after.ranks) {
    const was = before.ranks[rank.rank] as RankStatus;
    expect([rank.state, rank.entries, rank.bytes]).toEqual([was.state, was.entries, was.bytes]);
    expect(rank.stateMs).toBeGreaterThan(sinceKilledMs);
    expect(rank.stateMs).toBeLessThan(sinceBegunMs);
  }
  const { lastWriteMs } = after.ranks[2] as RankStatus;
  expect(lastWriteMs).toBeGreaterThan(sinceKilledMs);
  expect(lastWriteMs).toBeLessThan(sinceBegunMs);
  expect(after.started_ms).toBeGreaterThan(sinceKilledMs);
  expect(after.knownMs).toBeUndefined();
  expect((await cluster.dsm(["why", session])).stdout).toMatch(
    new RegExp(
      `^ranks 0 and 1 have been in barrier 1, the first for [\\d.]+ \\w+; not there: rank 2 \\(node two, pid ${c.pid}\\) last wrote [\\d.]+ \\w+ ago\n$`,
    ),
  );
  await c.do("barrier");
  for (const actor of [a, b]) await actor.do("end 0");
  await Promise.all([a, b, c].map((actor) => actor.leave()));
});

test("it names the ranks that have not arrived, a deadlock, and says when no process waits", async () => {
  const actors = (await cluster.actors(["one", "one", "two", "two"])) as [Actor, Actor, Actor, Actor];
  const [a, b, c, d] = actors;
  const { session } = a;
  const why = () => cluster.dsm(["why", session]);
  await c.do("store 8 0x100 1");
  expect(await why()).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^no process waits: 4 processes run, the last write was [\d.]+ \w+ ago\n$/),
  });

  for (const actor of [a, b, d]) await actor.do("begin 0 barrier");
  for (const rank of [0, 1, 3]) await cluster.untilState(session, rank, "barrier");
  const hanging = await why();
  expect(hanging).toMatchObject({ code: 3, stderr: "" });
  expect(hanging.stdout).toMatch(
    new RegExp(
      `^ranks 0, 1 and 3 have been in barrier 1, the first for [\\d.]+ \\w+; not there: rank 2 \\(node two, pid ${c.pid}\\) last wrote [\\d.]+ \\w+ ago\n$`,
    ),
  );
  await c.do("barrier");
  for (const actor of [a, b, d]) await actor.do("end 0");

  await a.do("lock x");
  await c.do("lock y");
  await a.do("begin 0 timedlock y 60000");
  await c.do("begin 0 timedlock x 60000");
  await cluster.untilState(session, 0, "lock");
  await cluster.untilState(session, 2, "lock");
  const json = await cluster.dsm(["why", session, "--json"]);
  expect(json.code).toBe(3);
  expect(JSON.parse(json.stdout)).toMatchObject({
    ...{ session, waits: true },
    findings: [
      { kind: "deadlock", waiting: [0, 2], for: [2, 0] },
      { kind: "lock", waiting: [2], for: [0] },
      { kind: "lock", waiting: [0], for: [2] },
    ],
  });
  expect((await why()).stdout).toStartWith(
    `deadlock: rank 0 (node one, pid ${a.pid}) has lock "x" and waits for lock "y"; rank 2 (node two, pid ${c.pid}) has lock "y"`,
  );
  await a.do("unlock x");
  await c.do("end 0");
  await c.do("unlock x");
  await c.do("unlock y");
  await a.do("end 0");
  await a.do("unlock y");
  await Promise.all(actors.map((actor) => actor.leave()));
  expect((await cluster.dsm(["why", session])).stderr).toContain("there is no session");
  expect(await cluster.dsm(["why"])).toMatchObject({
    code: 1,
    stderr: `dsm: no session runs at ${cluster.daemonAddress}\n`,
  });
});
