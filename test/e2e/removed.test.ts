/** What the processes of a session say that `dsm remove` has ended: what happened and what to do, in every language. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { Cluster, DSM, readUntil } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const removedText = (session: string): string =>
  `session "${session}" was ended by dsm remove, or by a signal to its server; start its processes again for a new session`;

async function remove(session: string): Promise<void> {
  expect(await cluster.dsm(["remove", session])).toMatchObject({ code: 0 });
}

for (const order of ["sequential", "release", "pipelined"]) {
  test(`C, ${order}: waits that are under way, later calls, leaving, and stores`, async () => {
    const environment = { DSM_ORDER: order };
    const [a, b, c] = await cluster.actors(["a", "a", "b"], { environment });
    if (a === undefined || b === undefined || c === undefined) throw new Error("no actors");
    const barrier = a.ask("barrier");
    await cluster.untilState(a.session, 0, "barrier");
    await remove(a.session);
    const removed = `DSM_UNREACHABLE ${removedText(a.session)}`;
    expect(await barrier).toBe(removed);
    // The first call of this process finds a connection that has ended.
    for (const call of ["post s", "barrier", "wait s 0", "fence"])
      expect([call, await b.ask(call)]).toEqual([call, removed]);
    expect(await a.ask("leave")).toBe(removed);
    expect(await b.ask("leave")).toBe(removed);
    for (const actor of [a, b]) expect(await actor.end()).toMatchObject({ code: 0, stderr: "" });
    // An atomic operation is ordered at once, in every order.
    void c.ask("add 0 1");
    expect(await c.end()).toMatchObject({
      signal: "SIGBUS",
      stderr: `dsm: a store cannot be shared any more: ${removedText(a.session)}\n`,
    });
  });
}

test("C: the first call after it is to leave", async () => {
  const [a] = await cluster.actors(["a"]);
  if (a === undefined) throw new Error("no actor");
  await remove(a.session);
  expect(await a.ask("leave")).toBe(`DSM_UNREACHABLE ${removedText(a.session)}`);
  await a.end();
});

const PROGRAMS = {
  "waits.ts": `
    import { join } from "dsm";
    const session = await join();
    console.log("up", session.rank);
    await session.semaphore("never", 0).wait();`,
  "waits-sync.ts": `
    import { join } from "dsm";
    const session = await join();
    console.log("up", session.rank);
    session.semaphore("never", 0).waitSync();`,
  "waits.py": `
import dsm
session = dsm.join()
print("up", session.rank, flush=True)
session.semaphore("never", 0).wait()
`,
};

for (const [name, text] of Object.entries(PROGRAMS)) {
  test(`${name}, under dsm run`, async () => {
    const program = join(cluster.folder, name);
    writeFileSync(program, text);
    const session = cluster.session();
    const run = cluster.spawn([DSM, "run", "--session", session, "-n", "1", "--", program], {
      session,
      node: hostname(),
    });
    await readUntil(run.stdout, "up 0\n");
    await cluster.untilState(session, 0, "semaphore");
    await remove(session);
    const [stderr, code] = await Promise.all([run.stderr.text(), run.exited]);
    expect(code).toBe(1);
    expect(stderr).toContain(`Error: ${removedText(session)}\n`);
    expect(stderr).toMatch(/\ndsm: process 0 \(pid \d+\) ended with exit code 1\n$/);
  });
}
