/** Objects in the map: used by threads of several processes, on one node and on two, by the calls of dsm.h and of pthreads. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { outcome } from "../support/e2e-child.ts";
import { Cluster, LIVENESS_MS } from "../support/e2e-cluster.ts";

setDefaultTimeout(4 * LIVENESS_MS);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const PROGRAMS = { "of dsm.h": "objects", "of pthreads": "objects_pthread" };

const CASES = {
  mutex: "no two threads have a mutex at once, however they ask for it",
  hasty: "threads that give up waiting for a mutex do not keep it from others",
  ring: "threads take turns by a condition variable that wakes all",
  queue: "a queue with two condition variables, each of which wakes one",
  rwlock: "readers never see half of what a writer does",
  barrier: "no thread leaves a barrier before the last has come, and one is told that it was the last",
  semaphore: "a semaphore as a lock, and one that counts",
  errors: "what may not be done is refused",
};

/** On one node the session is elastic: direct mode may end, so that the objects of pthreads are dsm's. */
const PLACES: Record<string, { nodes: string[]; environment: Record<string, string> }> = {
  "in direct mode": { nodes: ["a", "a"], environment: { DSM_DIRECT: "1", DSM_ELASTIC: "1" } },
  "in direct mode that stays": { nodes: ["a", "a"], environment: { DSM_DIRECT: "1" } },
  "on two nodes": { nodes: ["a", "b", "a"], environment: {} },
  "on two nodes, release": { nodes: ["a", "b"], environment: { DSM_ORDER: "release" } },
};

for (const [types, program] of Object.entries(PROGRAMS)) {
  for (const [place, { nodes, environment }] of Object.entries(PLACES)) {
    describe(`${types}, ${place}`, () => {
      for (const [name, what] of Object.entries(CASES)) {
        test(what, async () => {
          const said = await cluster.runWell([cluster.program(program), name, "2", "30"], {
            ...{ session: cluster.session(), nodes, size: "64KiB" },
            environment,
          });
          expect(said).toEqual(nodes.map(() => "ok\n"));
        });
      }
    });
  }
}

const DEATHS: Record<string, { nodes: string[]; environment: Record<string, string> }> = {
  "in direct mode": { nodes: ["a", "a", "a", "a"], environment: { DSM_DIRECT: "1" } },
  "in direct mode that may end": { nodes: ["a", "a", "a", "a"], environment: { DSM_DIRECT: "1", DSM_ELASTIC: "1" } },
  "on two nodes": { nodes: ["a", "b", "a", "b"], environment: {} },
};

for (const [types, program] of Object.entries(PROGRAMS)) {
  for (const [place, { nodes, environment }] of Object.entries(DEATHS)) {
    test(`${types}, ${place}: each death of an owner is told once`, async () => {
      const session = cluster.session();
      const children = nodes.map((node, rank) =>
        cluster.spawn([cluster.program(program), "deaths", "1", "25"], {
          ...{ session, rank, processes: nodes.length, node, size: "64KiB" },
          environment: { DSM_ON_LOSS: "continue", ...environment },
        }),
      );
      const [survivor, ...others] = await Promise.all(children.map(outcome));
      expect(others.map(({ signal, stderr }) => ({ signal, stderr }))).toEqual(
        others.map(() => ({ signal: "SIGKILL", stderr: "" })),
      );
      expect(survivor).toMatchObject({ code: 0, stdout: "ok\n", stderr: "" });
    });
  }
}

for (const [types, program] of Object.entries(PROGRAMS)) {
  test(`${types}, while direct mode ends: nothing that is locked or waited for is lost`, async () => {
    const session = cluster.session();
    const spawn = (node: string) =>
      cluster.spawn([cluster.program(program), "grow", "2", "60", "3"], {
        ...{ session, processes: 1, node, size: "64KiB" },
        environment: { DSM_DIRECT: "1", DSM_ELASTIC: "1" },
      });
    const children = ["a", "a", "b"].map(spawn);
    expect(await Promise.all(children.map(outcome))).toMatchObject(
      children.map(() => ({ code: 0, stdout: "ok\n", stderr: "" })),
    );
  });
}

test("of pthreads: a call that cannot go on ends its process, with the reason; a robust mutex reports it", async () => {
  const session = cluster.session();
  const children = ["a", "b"].map((node, rank) =>
    cluster.spawn([cluster.program("objects_pthread"), "loss", "1", "1"], {
      ...{ session, rank, processes: 2, node, size: "64KiB" },
    }),
  );
  const [survivor] = await Promise.all(children.map(outcome));
  expect(survivor).toMatchObject({ signal: "SIGABRT", stdout: "robust\n" });
  expect(survivor?.stderr).toStartWith("dsm: pthread_mutex_lock: process 1 of the session was lost");
});

// --- One step at a time -----------------------------------------------------------------------------------------------

const CONTINUE = { DSM_ON_LOSS: "continue" };

async function actors(nodes: string[], environment: Record<string, string> = CONTINUE): Promise<Actor[]> {
  return cluster.actors(nodes, { environment });
}

const end = (all: Actor[]): Promise<unknown> => Promise.all(all.map((actor) => actor.leave()));

const NODES = [
  ["a", "a", "a"],
  ["a", "b", "b"],
];

test.each(NODES)(
  "a mutex of a process that dies, also while its other thread waits for it (%s %s %s)",
  async (...nodes) => {
    const [a, b, c] = (await actors(nodes)) as [Actor, Actor, Actor];
    await b.do("m.lock 64");
    await b.do("begin 1 m.lock 64");
    expect(await a.ask("m.try 64")).toStartWith("DSM_AGAIN");
    expect(await b.ask("thread m.timed 64 30")).toStartWith("DSM_TIMEOUT");
    await b.do("m.unlock 64");
    await b.do("end 1");
    // Thread 1 has it and has ended: it stays locked.
    expect(await b.ask("m.unlock 64")).toStartWith("DSM_NOT_OWNER");
    expect(await c.ask("m.timed 64 30")).toStartWith("DSM_TIMEOUT");
    const waits = a.ask("m.lock 64");
    await cluster.untilState(a.session, 0, "lock");
    b.kill("SIGKILL");
    expect(await waits).toStartWith("DSM_OWNER_DIED");
    await a.do("m.unmended 64");
    expect(await c.ask("m.lock 64")).toStartWith("DSM_OWNER_DIED");
    await c.do("m.unlock 64");
    await a.do("m.lock 64");
    await a.do("m.unlock 64");
    await end([a, c]);
  },
);

test.each(NODES)("a reader that dies makes room, a writer that dies is told of (%s %s %s)", async (...nodes) => {
  const [a, b, c] = (await actors(nodes)) as [Actor, Actor, Actor];
  await b.do("rw.read 64");
  await c.do("rw.read 64");
  expect(await a.ask("rw.trywrite 64")).toStartWith("DSM_AGAIN");
  expect(await a.ask("rw.timedwrite 64 30")).toStartWith("DSM_TIMEOUT");
  const writes = a.ask("rw.write 64");
  await cluster.untilState(a.session, 0, "rwlock");
  await c.do("rw.unlock 64");
  b.kill("SIGKILL");
  // A death of a reader changes nothing that others read.
  expect(await writes).toBe("ok");
  expect(await a.ask("rw.read 64")).toStartWith("DSM_BUSY");
  expect(await c.ask("rw.tryread 64")).toStartWith("DSM_AGAIN");
  const reads = c.ask("rw.read 64");
  await cluster.untilState(a.session, 2, "rwlock");
  a.kill("SIGKILL");
  expect(await reads).toStartWith("DSM_OWNER_DIED");
  await c.do("rw.unlock 64");
  expect(await c.ask("rw.write 64")).toStartWith("DSM_OWNER_DIED");
  await c.do("rw.unmended 64");
  expect(await c.ask("rw.write 64")).toStartWith("DSM_OWNER_DIED");
  await c.do("rw.unlock 64");
  await c.do("rw.read 64");
  await c.do("rw.unlock 64");
  await end([c]);
});

test.each(NODES)("a signal is not lost with a process that dies while it waits (%s %s %s)", async (...nodes) => {
  const [a, b, c] = (await actors(nodes)) as [Actor, Actor, Actor];
  const wait = async (actor: Actor, rank: number): Promise<{ woken: Promise<string> }> => {
    await actor.do("m.lock 64");
    const woken = actor.ask("c.wait 128 64");
    await cluster.untilState(a.session, rank, "condition");
    return { woken };
  };
  await wait(b, 1);
  const { woken } = await wait(c, 2);
  b.kill("SIGKILL");
  await cluster.untilPresent(a.session, 2);
  await a.do("c.signal 128");
  expect(await woken).toBe("ok");
  expect(await a.ask("m.try 64")).toStartWith("DSM_AGAIN");
  await c.do("m.unlock 64");
  await a.do("m.lock 64");
  await a.do("m.unlock 64");
  await end([a, c]);
});

test("after a loss that ends all waits, waits of objects are refused, and what is held can be given back", async () => {
  const [a, b] = (await actors(["a", "b"], {})) as [Actor, Actor];
  await a.do("m.lock 64");
  await a.do("rw.write 128");
  await a.do("b.init 256 2");
  const meets = a.ask("b.meet 256");
  await cluster.untilState(a.session, 0, "barrier");
  b.kill("SIGKILL");
  expect(await meets).toStartWith("DSM_LOST");
  for (const command of ["m.lock 192", "rw.read 192", "s.wait 320", "b.meet 256"])
    expect(await a.ask(command)).toStartWith("DSM_LOST");
  await a.do("m.unlock 64");
  await a.do("rw.unlock 128");
  await a.do("c.broadcast 384");
  await a.do("s.post 320");
  await end([a]);
});

test.each(NODES)(
  "threads that wait when their process leaves hear of it, and a forked child too (%s %s %s)",
  async (...nodes) => {
    const [a, b, c] = (await actors(nodes)) as [Actor, Actor, Actor];
    expect(await a.ask("fork m.lock 64")).toStartWith("ok exit 0 DSM_FORKED");
    await a.do("m.lock 64");
    // One of them asks the session, the other one waits for its turn.
    for (const thread of [1, 2]) await b.do(`begin ${thread} m.lock 64`);
    await b.do("begin 3 rw.write 128");
    await b.do("end 3");
    await b.do("begin 4 s.wait 192");
    await cluster.untilState(a.session, 1, "semaphore");
    await b.do("leave");
    for (const thread of [1, 2, 4]) expect(await b.ask(`end ${thread}`)).toStartWith("DSM_LEFT");
    expect(await b.ask("m.lock 64")).toStartWith("DSM_LEFT");
    // It has left as a writer.
    expect(await c.ask("rw.read 128")).toStartWith("DSM_OWNER_DIED");
    await a.do("m.unlock 64");
    await c.do("m.lock 64");
    await c.do("m.unlock 64");
    await c.do("rw.unlock 128");
    await b.end();
    await end([a, c]);
  },
);
