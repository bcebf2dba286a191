/** Semaphores that are taken and posted without the arbiter, in direct mode: deaths, long waits, and the end of direct mode. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const DIRECT = { DSM_DIRECT: "1", DSM_ON_LOSS: "continue" };

/** How often processes are killed, in a session of its own each time. */
const TIMES = 12;

test("wherever processes are killed, each post is taken once, and none waits beside one", async () => {
  const program = cluster.program("semaphore_cells");
  for (let time = 0; time < TIMES; time += 1) {
    const session = cluster.session();
    const children = [0, 1, 2, 3].map((rank) =>
      cluster.spawn([program, "3000"], {
        ...{ session, rank, processes: 4, node: "a", size: "64KiB", environment: DIRECT },
      }),
    );
    const codes = await Promise.all(children.map((child) => child.exited));
    const errors = await Promise.all(children.map((child) => new Response(child.stderr).text()));
    expect(codes, errors.join("")).toEqual([0, 137, 0, 137]);
    const said = await new Response((children[0] as NonNullable<(typeof children)[0]>).stdout).text();
    const [posted, taken, left] = (said.match(/\d+/g) ?? []).map(Number) as [number, number, number];
    const missing = posted - taken - left;
    expect(missing, said).toBeGreaterThanOrEqual(0);
    expect(missing, said).toBeLessThanOrEqual(2);
  }
});

/** The value of the semaphore, as `dsm status` shows it. */
async function shown(session: string, name: string): Promise<number | undefined> {
  return (await cluster.status(session)).semaphores.find((one) => one.name === name)?.value;
}

async function actors(count: number, more: Record<string, string> = {}): Promise<Actor[]> {
  const nodes = Array.from({ length: count }, () => "a");
  const all = await cluster.actors(nodes, { environment: { ...DIRECT, ...more } });
  // The first time the arbiter decides; from then on the processes know the cell.
  for (const actor of all) for (const command of ["post s 0", "wait s 0"]) await actor.do(command);
  return all;
}

async function two(more: Record<string, string> = {}): Promise<[Actor, Actor]> {
  return (await actors(2, more)) as [Actor, Actor];
}

test("who waits gets what is posted, and a wait that takes long is shown", async () => {
  const [a, b] = await two();
  expect(await b.ask("try s 0")).toBe('DSM_AGAIN semaphore "s" is 0 now');
  expect(await b.ask("timed s 0 30")).toBe('DSM_TIMEOUT semaphore "s" stayed 0 for 30 ms');
  expect(await b.ask("timed s 0 250")).toBe('DSM_TIMEOUT semaphore "s" stayed 0 for 250 ms');
  // The value with which a semaphore begins counts once; what is no value is refused all the same.
  expect(await b.ask("try s 7")).toStartWith("DSM_AGAIN");
  expect(await b.ask("try s 2147483648")).toStartWith("DSM_INVALID");
  expect(await b.ask("post s 2147483648")).toStartWith("DSM_INVALID");
  const short = b.ask("wait s 0");
  await a.do("post s 0");
  expect(await short).toBe("ok");
  const long = b.ask("wait s 0");
  await cluster.untilState(a.session, 1, "semaphore");
  await a.do("post s 0");
  expect(await long).toBe("ok");
  await Promise.all([a, b].map((actor) => actor.leave()));
});

test("values that no request has told are shown", async () => {
  const [a, b] = await two();
  for (let post = 0; post < 5; post += 1) await a.do("post s 0");
  await eventually("the value is 5", async () => (await shown(a.session, "s")) === 5);
  await b.do("wait s 0");
  await eventually("the value is 4", async () => (await shown(a.session, "s")) === 4);
  await Promise.all([a, b].map((actor) => actor.leave()));
});

test("those that wait are served when one of them dies, and what others have posted stays when they go", async () => {
  const [a, b, c] = (await actors(3)) as [Actor, Actor, Actor];
  const dies = b.ask("wait s 0").catch(() => "dead");
  const waits = c.ask("wait s 0");
  b.kill("SIGKILL");
  expect(await dies).toBe("dead");
  await a.do("post s 0");
  expect(await waits).toBe("ok");
  for (let post = 0; post < 3; post += 1) await a.do("post s 0");
  await a.leave();
  for (let wait = 0; wait < 3; wait += 1) await c.do("wait s 0");
  expect(await c.ask("try s 0")).toStartWith("DSM_AGAIN");
  await c.leave();
});

test("a process that leaves keeps none from what it has posted by the cell", async () => {
  const [a, b] = await two();
  const waits = b.ask("wait s 0");
  for (let post = 0; post < 2; post += 1) await a.do("post s 0");
  await a.leave();
  expect(await waits).toBe("ok");
  await b.do("wait s 0");
  expect(await b.ask("try s 0")).toStartWith("DSM_AGAIN");
  await b.leave();
});

test("after a loss that ends all waits no wait is begun, and posts go on", async () => {
  const [a, b] = await two({ DSM_ON_LOSS: "fail" });
  const waits = a.ask("wait s 0");
  b.kill("SIGKILL");
  expect(await waits).toStartWith("DSM_LOST");
  await a.do("post s 0");
  expect(await a.ask("wait s 0")).toStartWith("DSM_LOST");
  await a.leave();
});

test("values and waits stay when direct mode ends", async () => {
  const elastic = { DSM_ELASTIC: "1" };
  const [a, b] = await two(elastic);
  for (const command of ["post t 0", "wait t 0"]) for (const actor of [a, b]) await actor.do(command);
  await a.do("post s 0");
  await a.do("post s 0");
  const waits = b.ask("wait t 0");
  const late = cluster.actor({ session: a.session, node: "b", environment: { ...DIRECT, ...elastic } });
  await late.do("open");
  expect((await cluster.status(a.session)).direct).toBe(false);
  for (let wait = 0; wait < 2; wait += 1) await late.do("wait s 0");
  expect(await late.ask("try s 0")).toStartWith("DSM_AGAIN");
  await late.do("post t 0");
  expect(await waits).toBe("ok");
  await Promise.all([a, b, late].map((actor) => actor.leave()));
});

test("when the arbiter is gone, one that waits is told", async () => {
  const [a, b] = await two();
  const waits = b.ask("wait s 0");
  process.kill(cluster.arbiter(a.session, "a"), "SIGKILL");
  expect(await waits).toStartWith("DSM_UNREACHABLE");
  await eventually("one that only posts is told", async () => (await a.ask("post s 0")).startsWith("DSM_UNREACHABLE"));
  await Promise.all([a, b].map((actor) => actor.end()));
  // A killed arbiter leaves its socket and its map to the next session, whichever it is.
  await cluster.untilSilent();
  const [one] = await cluster.actors(["c"]);
  await one?.leave();
});
