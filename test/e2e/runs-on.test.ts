/** A process that closes all its descriptors and runs on: what it has stays its own until it ends. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import type { Child } from "../support/e2e-child.ts";
import { Cluster, eventually, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const code = (letter: string): string => String(letter.charCodeAt(0));

/** The process that has the lock, and has gone on to `said`, and another one of its session. */
async function two(how: string, said: string): Promise<[Child, Actor]> {
  const session = cluster.session();
  const options = { session, processes: 2, node: "a", size: "64KiB" };
  const environment = { DSM_DIRECT: "1", DSM_ON_LOSS: "continue" };
  const child = cluster.spawn([cluster.program("runs_on"), how], { ...options, rank: 0, environment });
  const other = cluster.actor({ ...options, rank: 1, environment });
  await other.do("open");
  await says(other, "h");
  await other.do(`store 1 0 ${code("g")}`);
  if (said !== "") await says(other, said);
  return [child, other];
}

const says = (other: Actor, letter: string): Promise<void> =>
  eventually(`it says ${letter}`, async () => (await other.number("peek 1 0")) === letter.charCodeAt(0));

test("the lock stays with it, and dsm why says so", async () => {
  const [child, other] = await two("cell", "c");
  expect(await other.ask("trylock m")).toStartWith("DSM_AGAIN");
  const waits = other.ask("lock m");
  await cluster.untilState(other.session, 1, "lock");
  const { stdout } = await cluster.dsm(["why", other.session]);
  expect(stdout).toContain(`lock "m"`);
  expect(stdout).toContain(`which rank 0 (node a, pid ${child.pid}) has`);
  child.kill("SIGKILL");
  expect(await waits).toStartWith("DSM_OWNER_DIED");
  await other.do("unlock m");
  await other.leave();
});

test("it gives the lock back by its cell", async () => {
  const [child, other] = await two("cell", "c");
  await other.do(`store 1 0 ${code("u")}`);
  await says(other, "d");
  expect(await other.ask("lock m")).toBe("ok");
  await other.do("unlock m");
  await other.do(`store 1 0 ${code("e")}`);
  expect(await child.exited).toBe(0);
  await other.leave();
});

test("after 10 seconds it counts as lost", async () => {
  const [child, other] = await two("request", "c");
  expect(await other.ask("trylock m")).toStartWith("DSM_AGAIN");
  expect(await other.ask("lock m")).toStartWith("DSM_OWNER_DIED");
  expect(child.exitCode).toBeNull();
  child.kill("SIGKILL");
  await other.do("unlock m");
  await other.leave();
});

test("one that begins another program counts as lost at once", async () => {
  const [child, other] = await two("exec", "");
  expect(await other.ask("lock m")).toStartWith("DSM_OWNER_DIED");
  expect(child.exitCode).toBeNull();
  child.kill("SIGKILL");
  await other.do("unlock m");
  await other.leave();
});
