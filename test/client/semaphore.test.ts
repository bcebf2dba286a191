/** Semaphores of the package, in every form, between processes. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(180_000);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

const two = async (): Promise<[Puppet, Puppet]> => (await cluster.join({ processes: 2, nodes: 2 })) as [Puppet, Puppet];
const alone = async (): Promise<Puppet> => (await cluster.join({ processes: 1 }))[0] as Puppet;

test("a wait leaves the event loop free until a post on another node", async () => {
  const [first, second] = await two();
  const waiting = first.run(async ({ session, state }) => {
    await session.semaphore("s", 0).wait();
    return state.ticks as number;
  });
  await first.run(
    ({ state }) =>
      new Promise<void>((resolve) => {
        state.ticks = 0;
        const timer = setInterval(() => {
          state.ticks += 1;
          if (state.ticks < 10) return;
          clearInterval(timer);
          resolve();
        }, 1);
      }),
  );
  await second.run(({ session }) => session.semaphore("s", 0).post());
  expect(await waiting).toBe(10);
});

test("every form takes and gives the same", async () => {
  const [first, second] = await two();
  await first.run(async ({ session }) => {
    const semaphore = session.semaphore("s", 2);
    await semaphore.wait();
    semaphore.waitSync();
    if (await semaphore.tryWait()) throw new Error("tryWait took what was not there");
    if (semaphore.tryWaitSync()) throw new Error("tryWaitSync took what was not there");
  });
  const sync = first.run(({ session }) => {
    session.semaphore("s", 2).waitSync();
    session.semaphore("s", 2).waitSync({ timeoutMs: 60_000 });
  });
  await second.run(async ({ session }) => {
    const semaphore = session.semaphore("s", 9);
    await semaphore.post();
    semaphore.postSync();
  });
  await sync;
  expect(
    await second.run(async ({ session }) => {
      const semaphore = session.semaphore("s");
      semaphore.postSync();
      await semaphore.post();
      return [await semaphore.tryWait(), semaphore.tryWaitSync(), semaphore.tryWaitSync(), await semaphore.tryWait()];
    }),
  ).toEqual([true, true, false, false]);
});

test("scopes exclude each other, across nodes and within a process", async () => {
  const puppets = await two();
  await Promise.all(
    puppets.map((puppet) =>
      puppet.run(async ({ session }) => {
        const semaphore = session.semaphore("mutex");
        const counter = session.view(Float64Array, 0, 2);
        const add = (): void => {
          if (counter[1] !== 0) throw new Error("two in one scope");
          counter[1] = 1;
          (counter[0] as number) += 1;
          counter[1] = 0;
        };
        const scopes = Array.from({ length: 50 }, () =>
          semaphore.use(async () => {
            add();
            await Promise.resolve();
          }),
        );
        await Promise.all(scopes);
        for (let i = 0; i < 50; i += 1) semaphore.useSync(add);
        await session.barrier();
      }),
    ),
  );
  const counts = puppets.map((puppet) => puppet.run(({ session }) => session.view(Float64Array)[0]));
  expect(await Promise.all(counts)).toEqual([200, 200]);
});

test("a scope gives its value, and posts whatever happens in it", async () => {
  const puppet = await alone();
  const results = await puppet.run(async ({ session }) => {
    const semaphore = session.semaphore("s");
    const failed = async (act: () => unknown): Promise<string> => {
      try {
        return `no error, but ${await act()}`;
      } catch (error) {
        return (error as Error).message;
      }
    };
    const fail = (): never => {
      throw new Error("on purpose");
    };
    return [
      await semaphore.use(async () => 1),
      await semaphore.use(() => 2),
      semaphore.useSync(() => 3),
      await failed(() => semaphore.use(fail)),
      await failed(() => semaphore.use(() => Promise.reject(new Error("later")))),
      await failed(() => semaphore.useSync(fail)),
      await failed(() => semaphore.useSync(async () => {})),
      semaphore.tryWaitSync(),
      semaphore.tryWaitSync(),
    ];
  });
  expect(results).toEqual([
    1,
    2,
    3,
    "on purpose",
    "later",
    "on purpose",
    'semaphore "s": useSync() was given an async function; call use()',
    true,
    false,
  ]);
});

test("a wait ends with its time, and has then taken nothing", async () => {
  const puppet = await alone();
  expect(await puppet.codeOf(({ session }) => session.semaphore("s", 0).wait({ timeoutMs: 5 }))).toBe("DSM_TIMEOUT");
  expect(await puppet.codeOf(({ session }) => session.semaphore("s", 0).wait({ timeoutMs: 0 }))).toBe("DSM_TIMEOUT");
  expect(await puppet.codeOf(({ session }) => session.semaphore("s", 0).waitSync({ timeoutMs: 5 }))).toBe(
    "DSM_TIMEOUT",
  );
  const message = puppet.run(({ session }) => session.semaphore("s", 0).waitSync({ timeoutMs: 0 })).catch(String);
  expect(await message).toContain('semaphore "s" stayed 0 for 0 ms');
  const taken = await puppet.run(async ({ session }) => {
    const semaphore = session.semaphore("s", 0);
    semaphore.postSync();
    await semaphore.wait({ timeoutMs: 60_000 });
    return semaphore.tryWait();
  });
  expect(taken).toBe(false);
});

test("a wait that is aborted rejects with the reason, and has then taken nothing", async () => {
  const puppet = await alone();
  const results = await puppet.run(async ({ session }) => {
    const semaphore = session.semaphore("s", 0);
    const reasonOf = (wait: Promise<void>): Promise<unknown> =>
      wait.then(
        () => "granted",
        (reason: Error) => reason.message ?? reason,
      );
    const controller = new AbortController();
    const waiting = reasonOf(semaphore.wait({ signal: controller.signal }));
    await Promise.resolve();
    controller.abort(new Error("enough"));
    const results = [await waiting];
    results.push(await reasonOf(semaphore.wait({ signal: controller.signal })));
    // The grant is ordered before the abort is known: it is given back.
    const late = new AbortController();
    semaphore.postSync();
    const granted = reasonOf(semaphore.wait({ signal: late.signal }));
    late.abort(new Error("late"));
    results.push(await granted, await semaphore.tryWait(), await semaphore.tryWait());
    return results;
  });
  expect(results).toEqual(["enough", "enough", "late", true, false]);
});

test("the first waiter is served first, on any node", async () => {
  const [first, second] = await two();
  const order = await first.run(async ({ session, state }) => {
    const semaphore = session.semaphore("s", 0);
    state.order = [];
    state.waits = [0, 1, 2].map((index) => semaphore.wait().then(() => state.order.push(index)));
    await session.semaphore("elsewhere").post();
    return state.order.length as number;
  });
  expect(order).toBe(0);
  const last = second.run(({ session }) => session.semaphore("s", 0).wait());
  await first.run(async ({ session, state }) => {
    const semaphore = session.semaphore("s", 0);
    for (let i = 0; i < 3; i += 1) await semaphore.post();
    await Promise.all(state.waits);
  });
  expect(await first.run(({ state }) => state.order)).toEqual([0, 1, 2]);
  await first.run(({ session }) => session.semaphore("s", 0).post());
  await last;
});

test("a post is on its way when the call returns, even if the program then blocks", async () => {
  const [first, second] = await two();
  const blocked = first.run(async ({ session }) => {
    const post = session.semaphore("there", 0).post();
    session.semaphore("back", 0).waitSync();
    await post;
  });
  await second.run(async ({ session }) => {
    await session.semaphore("there", 0).wait();
    await session.semaphore("back", 0).post();
  });
  await blocked;
});

test("many waits at once", async () => {
  const [first, second] = await two();
  const waits = first.run(({ session }) =>
    Promise.all(Array.from({ length: 500 }, () => session.semaphore("s", 0).wait())).then((all) => all.length),
  );
  await second.run(({ session }) =>
    Promise.all(Array.from({ length: 500 }, () => session.semaphore("s", 0).post())).then(() => {}),
  );
  expect(await waits).toBe(500);
});

test("bad arguments", async () => {
  const puppet = await alone();
  const codes = await puppet.run(async ({ session }) => {
    const calls: (() => unknown)[] = [
      () => session.semaphore(""),
      () => session.semaphore("a/b"),
      () => session.semaphore("x".repeat(64)),
      () => session.semaphore("s", -1),
      () => session.semaphore("s", 0.5),
      () => session.semaphore("s", 2 ** 31),
      () => session.semaphore("s").wait({ timeoutMs: -1 }),
      () => session.semaphore("s").wait({ timeoutMs: 2 ** 31 }),
      () => session.semaphore("s").waitSync({ timeoutMs: Number.NaN }),
    ];
    const codes: string[] = [];
    for (const call of calls) {
      try {
        await call();
        codes.push("none");
      } catch (error) {
        codes.push((error as import("dsm").DsmError).code);
      }
    }
    return codes;
  });
  expect(codes).toEqual(new Array(9).fill("DSM_INVALID"));
  const overflow = ({ session }: import("./cluster.ts").Stage) => session.semaphore("full", 2 ** 31 - 1).post();
  expect(await puppet.codeOf(overflow)).toBe("DSM_OVERFLOW");
  expect(await puppet.codeOf(({ session }) => session.semaphore("full").postSync())).toBe("DSM_OVERFLOW");
});
