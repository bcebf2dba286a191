/** `dsm why` on a program that really hangs. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(90_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

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
