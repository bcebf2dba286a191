/** The barrier, passed without the arbiter, in direct mode: processes that die, join, leave and give up, and its end. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually, LIVENESS_MS, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const DIRECT = { DSM_DIRECT: "1", DSM_ON_LOSS: "continue" };
const ELASTIC = { ...DIRECT, DSM_ELASTIC: "1" };

/** How often processes are killed in it, in a session of its own each time. */
const TIMES = 8;

interface Started {
  exited: Promise<number>;
  stderr: ReadableStream<Uint8Array>;
}

function start(session: string, processes: number, what: string[], environment: Record<string, string>): Started {
  const options = { session, processes, node: "a", size: "64KiB", environment };
  return cluster.spawn([cluster.program("barrier_cells"), ...what], options) as Started;
}

async function expectCode(code: number, children: Started[]): Promise<void> {
  for (const { exited, stderr } of children) {
    const text = new Response(stderr).text();
    expect(await exited, await text).toBe(code);
  }
}

for (const processes of [1, 2, 3, 6]) {
  for (const kind of ["rounds", "timed"]) {
    test(`no process passes it before another has come: ${kind}, ${processes} processes`, async () => {
      const session = cluster.session();
      const count = kind === "timed" ? "300" : "3000";
      const all = Array.from({ length: processes }, () => start(session, processes, [kind, count], DIRECT));
      await expectCode(0, all);
    });
  }
}

test("some come by the promise form, which asks the arbiter, and some do not", async () => {
  const options = { session: cluster.session(), processes: 3, node: "a", size: "64KiB", environment: DIRECT };
  const argv = [process.execPath, join(ROOT, "test/e2e/programs/barriers.ts"), "400"];
  await expectCode(
    0,
    [0, 1, 2].map(() => cluster.spawn(argv, options) as Started),
  );
});

test("wherever processes are killed, the others go on, and pass none before another has come", async () => {
  for (let time = 0; time < TIMES; time += 1) {
    const session = cluster.session();
    const spawn = (rank: number) =>
      cluster.spawn([cluster.program("barrier_cells"), "killed", "1000"], {
        ...{ session, rank, processes: 4, node: "a", size: "64KiB", environment: DIRECT },
      }) as Started;
    const [first, ...others] = [0, 1, 2, 3].map(spawn) as [Started, ...Started[]];
    await expectCode(137, others);
    await expectCode(0, [first]);
  }
});

test("processes join and leave while others are in it", async () => {
  const session = cluster.session();
  const guests = 12;
  const hosts = [0, 1].map(() => start(session, 2, ["host", `${guests}`], ELASTIC));
  for (let come = 0; come < guests; come += 3) {
    await expectCode(
      0,
      [1, 2, 3].map(() => start(session, 2, ["guest", "60"], ELASTIC)),
    );
  }
  await expectCode(0, hosts);
});

async function three(more: Record<string, string> = {}): Promise<[Actor, Actor, Actor]> {
  const actors = (await cluster.actors(["a", "a", "a"], { environment: { ...DIRECT, ...more } })) as [
    Actor,
    Actor,
    Actor,
  ];
  // The first one is the arbiter's; from then on the processes have the cell.
  for (let time = 0; time < 3; time += 1) await Promise.all(actors.map((actor) => actor.do("barrier")));
  return actors;
}

const passed = async (session: string): Promise<number> => (await cluster.status(session)).barriers;

test("those who watch the session see a long wait, and how many were passed", async () => {
  const [a, b, c] = await three();
  await eventually("all are counted", async () => (await passed(a.session)) === 3);
  const waits = [a, b].map((actor) => actor.do("barrier"));
  for (const rank of [0, 1]) await cluster.untilState(a.session, rank, "barrier");
  expect(await passed(a.session)).toBe(3);
  await Promise.all([...waits, c.do("barrier")]);
  expect(await passed(a.session)).toBe(4);
  await Promise.all([a, b, c].map((actor) => actor.do("barrier")));
  // Who leaves tells of those before.
  await c.leave();
  expect(await passed(a.session)).toBe(5);
  await Promise.all([a, b].map((actor) => actor.leave()));
});

test("who gives up is told who was not in it, and the next one waits for that process again", async () => {
  const [a, b, c] = await three();
  for (const time of [0, 60, 250]) {
    const waits = b.do("timedbarrier 2000000000");
    if (time === 0) await cluster.untilState(a.session, 1, "barrier");
    const who = time === 0 ? /^DSM_TIMEOUT process 2 was not/ : /^DSM_TIMEOUT process(es 1 and)? 2 w/;
    expect(await a.ask(`timedbarrier ${time}`)).toMatch(who);
    const last = [a, c].map((actor) => actor.do("barrier"));
    await Promise.all([waits, ...last]);
  }
  await Promise.all([a, b, c].map((actor) => actor.leave()));
});

test("one thread of a process at a time is in it", async () => {
  const [a, b, c] = await three();
  await a.do("begin 1 barrier");
  await cluster.untilState(a.session, 0, "barrier");
  expect(await a.ask("barrier")).toBe("DSM_BUSY this process is in a barrier already");
  await Promise.all([b, c].map((actor) => actor.do("barrier")));
  expect(await a.do("end 1")).toBe("");
  await Promise.all([a, b, c].map((actor) => actor.leave()));
});

test("who waits goes on without one that leaves or dies, and after a loss it may fail", async () => {
  const [a, b, c] = await three();
  const waits = [a, b].map((actor) => actor.do("barrier"));
  await c.leave();
  await Promise.all(waits);
  await Promise.all([a, b].map((actor) => actor.do("barrier")));
  const alone = a.do("barrier");
  b.kill("SIGKILL");
  await alone;
  await a.do("barrier");
  await a.leave();
  const [d, e, f] = await three({ DSM_ON_LOSS: "fail" });
  const fails = [d, e].map((actor) => actor.ask("barrier"));
  f.kill("SIGKILL");
  for (const answer of await Promise.all(fails)) expect(answer).toStartWith("DSM_LOST");
  expect(await d.ask("barrier")).toStartWith("DSM_LOST");
  await Promise.all([d, e].map((actor) => actor.leave()));
});

test("those in it when direct mode ends wait for the process of another node, too", async () => {
  const [a, b, c] = await three({ DSM_ELASTIC: "1" });
  const waits = [a, b].map((actor) => actor.do("barrier"));
  const late = cluster.actor({ session: a.session, node: "b", environment: ELASTIC });
  await late.do("open");
  expect((await cluster.status(a.session)).direct).toBe(false);
  const third = c.do("barrier");
  for (const rank of [0, 1, 2]) await cluster.untilState(a.session, rank, "barrier");
  await Promise.all([...waits, third, late.do("barrier")]);
  expect(await passed(a.session)).toBe(4);
  await Promise.all([a, b, c, late].map((actor) => actor.leave()));
});

test("when the arbiter is gone, so is the session, also for those who only pass barriers", async () => {
  const actors = await three();
  const [a] = actors;
  process.kill(cluster.arbiter(a.session, "a"), "SIGKILL");
  await eventually("they are told", async () => {
    const answers = await Promise.all(actors.map((actor) => actor.ask("barrier")));
    return answers.every((answer) => answer.startsWith("DSM_UNREACHABLE"));
  });
  await Promise.all(actors.map((actor) => actor.end()));
  await cluster.untilSilent();
  const [one] = await cluster.actors(["c"]);
  await one?.leave();
});
