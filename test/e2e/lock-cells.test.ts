/** Locks that are taken without the arbiter, in direct mode: owners that die, waiters, and the end of direct mode. */
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

/** How often the owners of a lock are killed, in a session of its own each time. */
const TIMES = 12;

test("wherever its owners are killed, no two have it at once, and each death is told once at most", async () => {
  const program = cluster.program("lock_cells");
  for (let time = 0; time < TIMES; time += 1) {
    const session = cluster.session();
    const start = (rank: number) =>
      cluster.spawn([program, "3000", "20000"], {
        ...{ session, rank, processes: 4, node: "a", size: "64KiB", environment: DIRECT },
      });
    const [first, ...others] = [0, 1, 2, 3].map(start);
    const codes = await Promise.all(others.map((child) => child.exited));
    expect(codes).toEqual([137, 137, 137]);
    const { stdout, stderr } = first as NonNullable<typeof first>;
    expect(await first?.exited, await new Response(stderr).text()).toBe(0);
    const deaths = Number(/^deaths (\d+)$/m.exec(await new Response(stdout).text())?.[1]);
    expect(deaths).toBeLessThanOrEqual(3);
  }
});

/** Starts a process on each of the nodes, in one session. Returns what each says: its sections, and all until then. */
async function compete(nodes: string[], sections: number): Promise<[own: number, all: number][]> {
  const program = cluster.program("contended_locks");
  const session = cluster.session();
  const environment = { ...DIRECT, DSM_ELASTIC: "1" };
  const processes = nodes.map((node, n) =>
    cluster.spawn([program, String(nodes.length), String(sections), String(n)], {
      ...{ session, processes: 1, node, size: "64KiB", environment },
    }),
  );
  return Promise.all(
    processes.map(async ({ exited, stdout, stderr }) => {
      const [text, complaint] = await Promise.all([new Response(stdout).text(), new Response(stderr).text()]);
      expect(await exited, complaint).toBe(0);
      const [own = 0, all = 0] = text.trim().split(" ").map(Number);
      return [own, all] as [number, number];
    }),
  );
}

const sumOf = (numbers: number[]): number => numbers.reduce((sum, number) => sum + number, 0);

test("no two have it at once, and none waits for ever, whichever way they ask for it", async () => {
  const said = await compete(["a", "a", "a", "a"], 2000);
  expect(sumOf(said.map(([own]) => own))).toBe(Math.max(...said.map(([, all]) => all)));
});

test("nor when direct mode ends meanwhile", async () => {
  const said = await compete(["a", "a", "a", "b"], 300);
  expect(sumOf(said.map(([own]) => own))).toBe(Math.max(...said.map(([, all]) => all)));
});

async function two(more: Record<string, string> = {}): Promise<[Actor, Actor]> {
  const actors = (await cluster.actors(["a", "a"], { environment: { ...DIRECT, ...more } })) as [Actor, Actor];
  // The first time the arbiter decides; from then on the processes know the cell.
  for (const actor of actors) for (const command of ["lock m", "unlock m"]) await actor.do(command);
  return actors;
}

test("who waits gets it when its owner gives it back, or dies with it", async () => {
  const [a, b] = await two();
  await a.do("lock m");
  expect(await b.ask("trylock m")).toStartWith("DSM_AGAIN");
  // The owner keeps it: who waits asks the arbiter, and its time is over.
  expect(await b.ask("timedlock m 50")).toStartWith("DSM_TIMEOUT");
  expect(await a.ask("lock m")).toStartWith("DSM_BUSY");
  expect(await b.ask("unlock m")).toStartWith("DSM_NOT_OWNER");
  const waits = b.ask("lock m");
  await cluster.untilState(a.session, 1, "lock");
  await a.do("unlock m");
  expect(await waits).toBe("ok");
  await b.do("unlock m");
  await b.do("lock m");
  b.kill("SIGKILL");
  expect(await a.ask("lock m")).toStartWith("DSM_OWNER_DIED");
  await a.do("unlock m");
  await a.do("lock m");
  await a.do("unlock m");
  await a.leave();
});

test("a process that leaves with it tells the next owner", async () => {
  const [a, b] = await two();
  await a.do("lock m");
  await a.leave();
  expect(await b.ask("lock m")).toStartWith("DSM_OWNER_DIED");
  await b.do("unlock m");
  await b.leave();
});

test("after a loss that ends all waits it is refused, also where it was free", async () => {
  const [a, b] = await two({ DSM_ON_LOSS: "fail" });
  await a.do("lock n");
  await a.do("unlock n");
  b.kill("SIGKILL");
  await eventually("the loss is known", async () => (await a.ask("lock n")).startsWith("DSM_LOST"));
  expect(await a.ask("lock m")).toStartWith("DSM_LOST");
  await a.leave();
});

test("its owner still has it when direct mode ends, and another node waits for it", async () => {
  const elastic = { DSM_ELASTIC: "1" };
  const [a, b] = await two(elastic);
  await a.do("lock m");
  const late = cluster.actor({ session: a.session, node: "b", environment: { ...DIRECT, ...elastic } });
  await late.do("open");
  expect((await cluster.status(a.session)).direct).toBe(false);
  expect(await late.ask("trylock m")).toStartWith("DSM_AGAIN");
  const waits = late.ask("lock m");
  await cluster.untilState(a.session, 2, "lock");
  await a.do("unlock m");
  expect(await waits).toBe("ok");
  expect(await b.ask("trylock m")).toStartWith("DSM_AGAIN");
  await late.do("unlock m");
  await Promise.all([a, b, late].map((actor) => actor.leave()));
});

test("who waits for one that is not given back learns that the arbiter is gone", async () => {
  const [a, b] = await two();
  await a.do("lock m");
  const waits = b.ask("lock m");
  process.kill(cluster.arbiter(a.session, "a"), "SIGKILL");
  expect(await waits).toStartWith("DSM_UNREACHABLE");
  await Promise.all([a, b].map((actor) => actor.end()));
  await cluster.untilSilent();
  const [one] = await cluster.actors(["c"]);
  await one?.leave();
});

test("when the arbiter is gone, so is the session, also for one that only takes free locks", async () => {
  const [a, b] = await two();
  process.kill(cluster.arbiter(a.session, "a"), "SIGKILL");
  await eventually("it is told", async () => {
    const answer = await a.ask("lock m");
    if (answer === "ok") await a.ask("unlock m");
    return answer.startsWith("DSM_UNREACHABLE");
  });
  await Promise.all([a, b].map((actor) => actor.end()));
  // A killed arbiter leaves its socket and its map to the next session, whichever it is.
  await cluster.untilSilent();
  const [one] = await cluster.actors(["c"]);
  await one?.leave();
});
