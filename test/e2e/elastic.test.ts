/** Elastic sessions: processes join while they run, leave, and come again. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const ranks = async (actor: Actor): Promise<string> => (await actor.do("describe")).split(" ").slice(0, 2).join(" of ");

for (const order of ["sequential", "release", "pipelined"]) {
  test(`${order}: a process that joins later, on the same node or another, has the memory and takes part`, async () => {
    const SIZE = 16 << 20;
    const environment = { DSM_ORDER: order, DSM_ELASTIC: "1", DSM_ON_LOSS: "continue" };
    const common = { session: cluster.session(), size: "16MiB", environment };
    const a = cluster.actor({ ...common, node: "a", processes: 1 });
    await a.do("open");
    expect(await ranks(a)).toBe("0 of 1");
    const grid = await a.number("named grid 64");
    await a.do(`publish 4096 ${SIZE / 2} 5`);
    await a.do("add 0 3");
    await a.do("fence");
    for (let round = 0; round < 2; round += 1) {
      const others = ["a", "b", "c"].map((node) => cluster.actor({ ...common, node }));
      const opened = others.map((actor) => actor.do("open"));
      // It goes on meanwhile.
      for (let i = 0; i < 50; i += 1) await a.do(`store 8 ${SIZE - 4096 + 8 * i} ${round + 1}`);
      await Promise.all(opened);
      expect((await Promise.all(others.map(ranks))).map((one) => Number(one[0])).sort()).toEqual([1, 2, 3]);
      await a.do("fence");
      for (const actor of others) {
        expect(await actor.number(`count 4096 ${SIZE / 2} 5`)).toBe(SIZE / 2);
        expect(await actor.number(`count ${SIZE - 4096} 400 ${round + 1}`)).toBe(50);
        expect(await actor.number("named grid 64")).toBe(grid);
        await actor.do("add 0 1");
      }
      await Promise.all([a, ...others].map((actor) => actor.do("barrier")));
      for (const actor of [a, ...others]) expect((await ranks(actor)).slice(1)).toBe(" of 4");
      expect(await a.number("load 8 0")).toBe(3 + 3 * (round + 1));
      await others[1]?.do("store 4 64 9");
      await others[1]?.do("fence");
      expect(await others[2]?.number("load 4 64")).toBe(9);
      const [first, ...rest] = others as [Actor, ...Actor[]];
      await first.do("lock door");
      first.kill("SIGKILL");
      expect(await a.ask("lock door")).toMatch(/^DSM_OWNER_DIED process [123] /);
      await a.do("unlock door");
      await Promise.all(rest.map((actor) => actor.leave()));
      await a.do("barrier");
      expect(await ranks(a)).toBe("0 of 1");
    }
    await a.leave();
  });
}

test("many come and go at once, each adds 1, and nothing is lost", async () => {
  const environment = { DSM_ELASTIC: "1" };
  const session = cluster.session();
  const a = cluster.actor({ session, node: "a", processes: 1, environment });
  await a.do("open");
  await Promise.all(
    ["a", "b", "c", "b"].map(async (node) => {
      for (let turn = 0; turn < 4; turn += 1) {
        const actor = cluster.actor({ session, node });
        await actor.do("open");
        for (let i = 0; i < 5; i += 1) await actor.do("add 0 1");
        await actor.leave();
      }
    }),
  );
  expect(await a.number("load 8 0")).toBe(80);
  expect((await cluster.dsm(["sessions", session])).stdout).toMatch(/^processes +1, elastic$/m);
  await a.leave();
});

test("in TypeScript: processes says how many were in the last barrier", async () => {
  const write = (name: string, text: string): string => {
    const path = join(cluster.folder, name);
    writeFileSync(
      path,
      `import { join } from "dsm";\nconst session = await join();\nconst cell = session.view(Int32Array);\n${text}`,
    );
    return path;
  };
  const first = write(
    "first.ts",
    `console.log(session.processes, session.direct);
     await session.waitFor(cell, 0, 0);
     await session.barrier();
     console.log(session.processes);
     await session.waitFor(cell, 0, 1);
     session.barrierSync();
     console.log(session.processes);
     await session.leave();`,
  );
  const second = write(
    "second.ts",
    `cell[0] = 1;
     session.notify(cell, 0);
     await session.barrier();
     console.log(session.rank, session.processes);
     await session.leave();`,
  );
  const grown = cluster.dsm(["run", "--elastic", "-n", "1", "--session", "grows", "--", first]);
  await cluster.untilPresent("grows", 1);
  await cluster.untilState("grows", 0, "sleeping");
  const other = await cluster.dsm(["run", "-n", "1", "--session", "grows", "--", second], { DSM_NODE: "other" });
  expect(other).toMatchObject({ code: 0, stdout: "1 2\n", stderr: "" });
  const last = cluster.actor({ session: "grows", node: "c", size: "1MiB" });
  await last.do("open");
  await last.do("store 4 0 2");
  await last.do("wakeall 0");
  await last.leave();
  expect(await grown).toMatchObject({ code: 0, stdout: "1 true\n2\n1\n", stderr: "" });
});

test("a later process does not make a session elastic", async () => {
  const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
  const late = cluster.actor({ session: a.session, node: "a", environment: { DSM_ELASTIC: "1" } });
  expect(await late.ask("open")).toMatch(
    /^DSM_MISMATCH session ".*" is not elastic; its first process has to ask for that$/,
  );
  const wrong = cluster.actor({ session: a.session, node: "a", environment: { DSM_ELASTIC: "maybe" } });
  expect(await wrong.ask("open")).toBe('DSM_INVALID DSM_ELASTIC is "maybe"; set 0 or 1');
  await Promise.all([late.end(), wrong.end()]);
  await Promise.all([a.leave(), b.leave()]);
});
