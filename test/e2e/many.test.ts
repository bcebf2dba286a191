/** Many sessions, many processes, much memory. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, statfsSync } from "node:fs";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(240_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

test("ten sessions at once, each of 2 processes on 2 nodes", async () => {
  const sessions = Array.from({ length: 10 }, () => cluster.session());
  const all = await Promise.all(sessions.map((session) => cluster.actors(["a", "b"], { session })));
  expect((await cluster.sessions()).map(({ name }) => name).sort()).toEqual(sessions.toSorted());
  // Each has its own memory, semaphores and barriers; all of them at work at the same time.
  await Promise.all(
    all.map(async ([a, b], i) => {
      await a?.do(`store 4 0 ${i + 1}`);
      const wait = b?.do("wait go 0");
      await a?.do("post go");
      await wait;
      await Promise.all([a?.do("barrier"), b?.do("barrier")]);
      expect(await b?.number("peek 4 0")).toBe(i + 1);
    }),
  );
  const addresses = await Promise.all(all.map(async ([a]) => (await a?.do("describe"))?.split(" ")[2]));
  expect(new Set(addresses).size).toBe(10);
  await Promise.all(all.flat().map((actor) => actor.leave()));
});

test("200 sessions of one name in a row, in one pair of processes on 2 nodes", async () => {
  await cluster.runWell([cluster.program("leaving"), "in_a_row", "200"], {
    ...{ session: cluster.session(), nodes: ["a", "b"], size: "16KiB" },
  });
});

test("32 processes on 4 nodes in one session, started all at once, with one arbiter on each node", async () => {
  const nodes = Array.from({ length: 32 }, (_, i) => "abcd"[i % 4] as string);
  const actors = await cluster.actors(nodes);
  const session = actors[0]?.session as string;
  for (const node of "abcd") cluster.arbiter(session, node);
  expect(cluster.processes("arbiter")).toHaveLength(4);
  expect(cluster.processes("server", `--session=${session}`)).toHaveLength(1);

  const { ranks } = await cluster.status(session);
  expect(ranks.map(({ rank, node }) => `${rank} ${node}`)).toEqual(nodes.map((node, rank) => `${rank} ${node}`));
  for (let round = 1; round <= 3; round += 1) {
    await Promise.all(
      actors.map(async (actor, i) => {
        await actor.do(`store 8 ${8 * i} ${round}`);
        for (let k = 0; k < 10; k += 1) await actor.do("add 4096 1");
        const hole = await actor.number(`dig ${8192 + 100 * i} 100`);
        await actor.do(`stos ${8192 + 100 * i} 100 ${round}`);
        await actor.do(`fill ${hole}`);
        await actor.do("barrier");
      }),
    );
    for (const actor of actors) {
      expect(await actor.number("peek 8 4096")).toBe(320 * round);
      expect(await actor.number(`count 8192 3200 ${round}`)).toBe(3200);
      expect(await actor.number(`count 0 256 ${round}`)).toBe(32);
    }
  }
  await Promise.all(actors.map((actor) => actor.leave()));
});

test("32 processes on one node fill holes over the whole map, all at once", async () => {
  const size = 2 << 20;
  const actors = await cluster.actors([...Array.from({ length: 32 }, () => "a"), "b"], { size: "2MiB" });
  for (const [i, actor] of actors.entries()) {
    await actor.do(`dig 0 ${size}`);
    await actor.do(`stos 0 ${size} ${i + 1}`);
  }
  await Promise.all(actors.map((actor) => actor.do("fill 1")));
  const last = await actors[0]?.number("load 1 0");
  for (const actor of actors) expect(await actor.number(`count 0 ${size} ${last}`)).toBe(size);
  await Promise.all(actors.map((actor) => actor.leave()));
});

test("many processes that start at once, session after session, never have two arbiters on a node", async () => {
  for (let i = 0; i < 5; i += 1) {
    const nodes = Array.from({ length: 12 }, (_, k) => (k < 8 ? "a" : "b"));
    const actors = await cluster.actors(nodes, { session: "again" });
    cluster.arbiter("again", "a");
    cluster.arbiter("again", "b");
    await Promise.all(actors.map((actor) => actor.do("add 0 1")));
    expect(await actors[0]?.number("load 8 0")).toBe(12);
    // The next session of the name begins while this one ends.
    await Promise.all(actors.map((actor) => actor.leave()));
  }
});

/** The server has the map once, each of two nodes once, and each process a copy of what it left with. */
const GIB = 2 ** 30;
const available = Number(/MemAvailable:\s+(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]) * 1024;
const { bavail, bsize } = statfsSync("/dev/shm");
const fits = available > 5 * GIB && bavail * bsize > 2.5 * GIB;

test.skipIf(!fits)("a map of 1 GiB on 2 nodes (needs 5 GiB of memory)", async () => {
  const [a, b] = await cluster.actors(["a", "b"], { size: "1GiB" });
  for (const offset of [0, 12345678, GIB / 2 - 4, GIB - 8]) {
    await a?.do(`store 8 ${offset} ${offset + 1}`);
    expect(await b?.number(`load 8 ${offset}`)).toBe(offset + 1);
  }
  expect(await b?.number(`add ${GIB - 16} 5`)).toBe(0);
  // A hole over all of it, of which 64 MiB and the last page change.
  const hole = await b?.number(`dig 0 ${GIB}`);
  await b?.do(`stos ${GIB / 4} ${64 << 20} 1`);
  await b?.do(`store 1 ${GIB - 100} 9`);
  await b?.do(`fill ${hole}`);
  expect(await a?.number(`count ${GIB / 4 - 4096} ${(64 << 20) + 8192} 1`)).toBe(64 << 20);
  expect(await a?.number(`load 1 ${GIB - 100}`)).toBe(9);
  expect(await a?.number(`load 8 ${GIB - 16}`)).toBe(5);
  await a?.leave();
  await b?.leave();
});
