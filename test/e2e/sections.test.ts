/** Sections under a lock, order `release`: what they publish is seen by the next owner, whole, and costs few entries. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(6 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const environment = { DSM_ORDER: "release", DSM_DIRECT: "0", DSM_ON_LOSS: "continue" };

test.each([
  ["one node", ["a", "a", "a"]],
  ["two nodes", ["a", "a", "b"]],
  ["three nodes", ["a", "b", "c"]],
])(
  "the next owner has all that the ones before it stored, in small and in large publications: %s",
  async (_, nodes) => {
    await cluster.runWell([cluster.program("sections"), "turns", "60"], {
      ...{ session: cluster.session(), nodes, size: "1MiB", environment },
    });
  },
);

test("a section that its process has ended is seen whole, one in which it is killed is told as such", async () => {
  for (let time = 0; time < 4; time += 1) {
    const session = cluster.session();
    const children = ["a", "a", "b", "b"].map((node, rank) =>
      cluster.spawn([cluster.program("sections"), "killed", "200"], {
        ...{ session, rank, processes: 4, node, size: "1MiB", environment },
      }),
    );
    const [first, ...others] = children as [(typeof children)[0], ...typeof children];
    expect(await Promise.all(others.map((child) => child.exited))).toEqual([137, 137, 137]);
    const errors = await first.stderr.text();
    expect(await first.exited, errors).toBe(0);
  }
});

test("an unlock does not wait for the arbiter, and the processes of its node see at once what it publishes", async () => {
  const [a, a2, b] = (await cluster.actors(["a", "a", "b"], { environment })) as [Actor, Actor, Actor];
  const arbiter = cluster.arbiter(a.session, "a");
  const section = async (value: number): Promise<number> => {
    // A word, and more bytes than a register has, for which the process makes the page its own.
    const stores = [`store 8 0x100 ${value}`, `stos 0x2000 200 ${value}`];
    for (const command of ["lock m", ...stores, "unlock m"]) await a.do(command);
    await a2.do("lock m");
    expect(await a2.number("peek 1 0x20c7")).toBe(value);
    const seen = await a2.number("peek 8 0x100");
    await a2.do("unlock m");
    return seen;
  };
  // From then on the lock stays with the node.
  for (let value = 1; value <= 3; value += 1) expect(await section(value)).toBe(value);
  let isInTime = false;
  for (let value = 4; value < 24 && !isInTime; value += 1) {
    process.kill(arbiter, "SIGSTOP");
    try {
      // A lease ends where the arbiter does not answer for long.
      const seen = section(value);
      isInTime = await Promise.race([seen.then(() => true), Bun.sleep(1000).then(() => false)]);
      process.kill(arbiter, "SIGCONT");
      expect(await seen).toBe(value);
    } finally {
      process.kill(arbiter, "SIGCONT");
    }
  }
  expect(isInTime).toBe(true);
  await b.do("lock m");
  expect(await b.number("peek 8 0x100")).toBe(await a.number("load 8 0x100"));
  await b.do("unlock m");
  await Promise.all([a, a2, b].map((actor) => actor.leave()));
});

test("a thousand sections with a store each cost at most 50 entries", async () => {
  const session = cluster.session();
  const [a, b] = ["a", "b"].map((node, rank) =>
    cluster.actor({ session, node, rank, processes: 2, size: "1MiB", environment }, [
      ...[cluster.program("sections"), "alone", "1000"],
    ]),
  );
  if (a === undefined || b === undefined) throw new Error("there are two");
  await a.do("go");
  const { entries } = await cluster.status(session);
  await a.do("go");
  expect((await cluster.status(session)).entries - entries).toBeLessThanOrEqual(50);
  const ended = await Promise.all([a.end(), b.end()]);
  expect(ended).toMatchObject([
    { code: 0, stderr: "" },
    { code: 0, stderr: "" },
  ]);
});
