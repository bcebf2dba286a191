/** Semaphores and barriers in C, over two nodes. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

async function two(): Promise<[Actor, Actor]> {
  return (await cluster.actors(["a", "b"])) as [Actor, Actor];
}

async function leave(actors: Actor[]): Promise<void> {
  await Promise.all(actors.map((actor) => actor.leave()));
}

describe("a semaphore", () => {
  test("has the value of its first use, and later ones change nothing", async () => {
    const [a, b] = await two();
    await a.do("try three 3");
    await b.do("try three 0");
    await a.do("try three 100");
    expect(await b.ask("try three 100")).toBe('DSM_AGAIN semaphore "three" is 0 now');
    await a.do("post three 100");
    await b.do("wait three 0");
    expect(await a.ask("try three 5")).toMatch(/^DSM_AGAIN /);
    // A post may be the first use, too.
    await b.do("post two 1");
    await a.do("try two");
    await a.do("try two");
    expect(await a.ask("try two")).toMatch(/^DSM_AGAIN /);
    await leave([a, b]);
  });

  test("serves waiters in the order of their arrival", async () => {
    const actors = await cluster.actors(["a", "b", "a", "b", "c"]);
    const [poster, ...waiters] = actors as [Actor, ...Actor[]];
    const order: number[] = [];
    const waits: Promise<void>[] = [];
    for (const [i, waiter] of waiters.entries()) {
      waits.push(waiter.do("wait gate 0").then(() => void order.push(i)));
      await cluster.untilState(poster.session, i + 1, "semaphore");
    }
    const report = (await cluster.status(poster.session)).ranks;
    expect(report.slice(1).map(({ state, on }) => `${state} ${on}`)).toEqual(waiters.map(() => "semaphore gate"));
    for (const [i, wait] of waits.entries()) {
      expect(order).toHaveLength(i);
      await poster.do("post gate");
      await wait;
    }
    expect(order).toEqual([0, 1, 2, 3]);
    await leave(actors);
  });

  test("a timed wait gives up, and gives up its place", async () => {
    const [a, b] = await two();
    expect(await a.ask("timed t 0 0")).toBe('DSM_TIMEOUT semaphore "t" stayed 0 for 0 ms');
    expect(await a.ask("timed t 0 30")).toBe('DSM_TIMEOUT semaphore "t" stayed 0 for 30 ms');
    await b.do("post t");
    expect(await b.ask("try t")).toBe("ok");
    expect(await b.ask("try t")).toMatch(/^DSM_AGAIN /);
    // What is there is taken at once, and what comes in time is taken, too.
    await b.do("post t");
    await a.do("timed t 0 0");
    const wait = a.do("timed t 0 2000000000");
    await cluster.untilState(a.session, 0, "semaphore");
    await b.do("post t");
    await wait;
    await leave([a, b]);
  });

  test("a post that meets a timeout is never lost: it is taken or it stays", async () => {
    const [a, b] = await two();
    let taken = 0;
    for (let i = 0; i < 60; i += 1) {
      const wait = a.ask(`timed race 0 ${i % 3}`);
      await b.do("post race");
      if ((await wait) === "ok") taken += 1;
    }
    let left = 0;
    while ((await b.ask("try race")) === "ok") left += 1;
    expect(taken + left).toBe(60);
    await leave([a, b]);
  });

  test("several threads of a process wait, while others of it go on", async () => {
    const [a, b] = await two();
    for (let i = 0; i < 8; i += 1) await a.do(`begin ${i} wait pool 0`);
    await cluster.untilState(a.session, 0, "semaphore");
    await a.do("store 4 0 1");
    expect(await b.number("load 4 0")).toBe(1);
    for (let i = 0; i < 8; i += 1) await b.do("post pool");
    for (let i = 0; i < 8; i += 1) expect(await a.do(`end ${i}`)).toBe("");
    expect(await a.ask("try pool")).toMatch(/^DSM_AGAIN /);
    await leave([a, b]);
  });

  test("sees what was stored before the post", async () => {
    const [a, b] = await two();
    for (let i = 1; i <= 50; i += 1) {
      const wait = b.do("wait ping 0");
      await a.do(`store 8 0 ${i}`);
      await a.do("post ping");
      await wait;
      expect(await b.number("peek 8 0")).toBe(i);
    }
    await leave([a, b]);
  });

  test("cannot pass its largest value", async () => {
    const [a, b] = await two();
    expect(await a.ask(`try full ${2 ** 31}`)).toMatch(/^DSM_INVALID the initial value 2147483648 is beyond the limit/);
    await a.do(`try full ${2 ** 31 - 1}`);
    await b.do("post full");
    expect(await b.ask("post full")).toMatch(/^DSM_OVERFLOW /);
    await leave([a, b]);
  });
});

describe("a barrier", () => {
  test("waits for all, and shows what all have stored before it", async () => {
    const actors = await cluster.actors(["a", "a", "b", "c"]);
    for (let round = 1; round <= 10; round += 1) {
      await Promise.all(
        actors.map(async (actor, i) => {
          await actor.do(`store 4 ${4 * i} ${round}`);
          await actor.do("barrier");
          for (let j = 0; j < actors.length; j += 1) expect(await actor.number(`peek 4 ${4 * j}`)).toBe(round);
          await actor.do("barrier");
        }),
      );
    }
    await leave(actors);
  });

  for (const environment of [{}, { DSM_ORDER: "release" }, { DSM_ORDER: "pipelined" }]) {
    test(`a timed one gives up, and the next one waits for that process again: ${JSON.stringify(environment)}`, async () => {
      const [a, b] = (await cluster.actors(["a", "b"], { environment })) as [Actor, Actor];
      for (const time of [0, 30]) {
        const timeout = `DSM_TIMEOUT process 1 was not in the barrier within ${time} ms`;
        expect(await a.ask(`timedbarrier ${time}`)).toBe(timeout);
      }
      expect(await a.ask("timedbarrier 2147483648")).toMatch(/^DSM_INVALID a timeout of 2147483648 ms is beyond/);
      const waits = b.do("timedbarrier 2000000000");
      await cluster.untilState(a.session, 1, "barrier");
      expect((await cluster.status(a.session)).ranks[0]?.state).toBe("running");
      await a.do("store 4 0 7");
      await a.do("barrier");
      await waits;
      expect(await b.number("peek 4 0")).toBe(7);
      await leave([a, b]);
    });
  }

  test("a timed one that gives up says who was not in it", async () => {
    const actors = await cluster.actors(["a", "b", "a", "b"]);
    const [a, b, c, d] = actors as [Actor, Actor, Actor, Actor];
    const waits = b.do("barrier");
    await cluster.untilState(a.session, 1, "barrier");
    expect(await a.ask("timedbarrier 20")).toBe("DSM_TIMEOUT processes 2 and 3 were not in the barrier within 20 ms");
    await Promise.all([waits, a.do("barrier"), c.do("barrier"), d.do("barrier")]);
    await leave(actors);
  });

  test("a timeout that meets the last one coming: all pass it, or none", async () => {
    const [a, b] = await two();
    for (let i = 0; i < 60; i += 1) {
      const timed = a.ask(`timedbarrier ${i % 3}`);
      const waits = b.do("barrier");
      const passed = (await timed) === "ok";
      if (!passed) await a.do("barrier");
      await waits;
    }
    await leave([a, b]);
  });

  test("holds until the last one comes, and its ranks are shown as waiting", async () => {
    const actors = (await cluster.actors(["a", "b", "b"])) as [Actor, Actor, Actor];
    const [a, b, c] = actors;
    let released = 0;
    const waits = [a, b].map(async (actor) => {
      await actor.do("barrier");
      released += 1;
    });
    for (const rank of [0, 1]) await cluster.untilState(a.session, rank, "barrier");
    // The one who has not come shows that the session goes on, and that the others do not.
    await c.do("store 4 0 1");
    expect(released).toBe(0);
    await c.do("barrier");
    await Promise.all(waits);
    await leave(actors);
  });

  test("does not wait for a process that leaves", async () => {
    const actors = (await cluster.actors(["a", "b", "b"])) as [Actor, Actor, Actor];
    const [a, b, c] = actors;
    const waits = [a.do("barrier"), b.do("barrier")];
    for (const rank of [0, 1]) await cluster.untilState(a.session, rank, "barrier");
    await c.leave();
    await Promise.all(waits);
    await Promise.all([a.do("barrier"), b.do("barrier")]);
    await b.leave();
    await a.do("barrier");
    await a.leave();
  });

  test("is a call of the process: a second thread in it gets an error", async () => {
    const [a, b] = await two();
    await a.do("begin 0 barrier");
    await cluster.untilState(a.session, 0, "barrier");
    expect(await a.ask("barrier")).toBe("DSM_BUSY this process is in a barrier already");
    await b.do("barrier");
    await a.do("end 0");
    await leave([a, b]);
  });

  test("a thread that waits is let go when its process leaves", async () => {
    const [a, b] = await two();
    await a.do("begin 0 barrier");
    await a.do("begin 1 wait never 0");
    await cluster.untilState(a.session, 0, "barrier");
    await a.do("leave");
    for (const thread of [0, 1]) expect(await a.ask(`end ${thread}`)).toMatch(/^DSM_(LEFT|UNREACHABLE) /);
    await b.leave();
  });
});
