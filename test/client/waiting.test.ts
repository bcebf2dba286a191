/** Sleeping on a value of the map until a process on any node notifies the sleepers. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(120_000);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

/** Each turn waits for a processor four times, which takes long where many processes want one. */
const TURNS = 1000;

describe.each([
  ["sequential, two nodes", 2, { DSM_ORDER: "sequential" }],
  ["release, two nodes", 2, { DSM_ORDER: "release" }],
  ["pipelined, two nodes", 2, { DSM_ORDER: "pipelined" }],
  ["trapped, one node", 1, { DSM_DIRECT: "0" }],
  ["direct", 1, { DSM_DIRECT: "1" }],
])("%s", (_, nodes, environment) => {
  const two = async (): Promise<[Puppet, Puppet]> =>
    (await cluster.join({ processes: 2, nodes, environment })) as [Puppet, Puppet];

  test.each(["promise", "sync"] as const)("a ball goes to and fro and is never lost (%s)", async (form) => {
    const puppets = await two();
    const turns = puppets.map((puppet) =>
      puppet.run(
        async ({ session }, form, last) => {
          const ball = session.view(Int32Array, 4096, 1);
          for (let turn = session.rank; turn < last; turn += 2) {
            // From its own turn on no process changes it, so it sleeps on the value that it saw.
            for (let now = ball[0] as number; now !== turn; now = ball[0] as number) {
              if (form === "sync") session.waitForSync(ball, 0, now);
              else await session.waitFor(ball, 0, now);
            }
            ball[0] = turn + 1;
            session.notify(ball, 0);
          }
          await session.barrier();
          return ball[0];
        },
        form,
        TURNS,
      ),
    );
    expect(await Promise.all(turns)).toEqual([TURNS, TURNS]);
  });

  test("every width and sign is compared as it is stored", async () => {
    const [puppet] = await two();
    const outcomes = await puppet.run(async ({ session }) => {
      const outcomes: string[] = [];
      const small = [Int8Array, Uint8Array, Int16Array, Uint16Array, Int32Array, Uint32Array] as (typeof Int32Array)[];
      const timeoutMs = 0;
      for (const [i, type] of small.entries()) {
        const view = session.view(type, 64 * i, 3);
        // Its neighbours must not count.
        view.fill(-1);
        view[1] = -2;
        session.fence();
        const value = view[1] as number;
        for (const [expected, outcome] of [
          [value, "timed-out"],
          [-2, "timed-out"],
          [-1, "not-equal"],
          [value - 1, "not-equal"],
        ] as const) {
          if ((await session.waitFor(view, 1, expected, { timeoutMs })) !== outcome) outcomes.push(type.name);
          if (session.waitForSync(view, 1, expected, { timeoutMs }) !== outcome) outcomes.push(`${type.name} sync`);
        }
      }
      for (const type of [BigInt64Array, BigUint64Array] as (typeof BigInt64Array)[]) {
        const view = session.view(type, 1024, 3);
        view[1] = -(2n ** 63n) + 5n;
        session.fence();
        for (const [expected, outcome] of [
          [view[1] as bigint, "timed-out"],
          [5n, "not-equal"],
        ] as const) {
          if ((await session.waitFor(view, 1, expected, { timeoutMs })) !== outcome) outcomes.push(type.name);
          if (session.waitForSync(view, 1, expected, { timeoutMs }) !== outcome) outcomes.push(`${type.name} sync`);
        }
      }
      return outcomes;
    });
    expect(outcomes).toEqual([]);
  });

  test("so many are woken as asked for, first come first served", async () => {
    const [first, second] = await two();
    const asleep = async (count: number): Promise<void> => {
      // Each is asleep before the next one asks.
      await first.run(async ({ session, state }, count) => {
        const view = session.view(Int32Array, 0, 2);
        state.woken = [];
        state.sleeps = [];
        for (let i = 0; i < count; i += 1) {
          state.sleeps.push(session.waitFor(view, 0, 0).then((outcome) => state.woken.push(`${i} ${outcome}`)));
        }
        await session.semaphore("look", 0).post();
      }, count);
    };
    const woken = (count: number): Promise<string[]> =>
      first.run(async ({ state }, count) => {
        while (state.woken.length < count) await new Promise((resolve) => setTimeout(resolve, 1));
        return state.woken as string[];
      }, count);
    await asleep(5);
    expect(
      await second.run(({ session }) => {
        const view = session.view(Int32Array, 0, 2);
        return [session.notify(view, 1), session.notify(view, 0, 0), session.notify(view, 0, 2)];
      }),
    ).toEqual([0, 0, 2]);
    expect(await woken(2)).toEqual(["0 ok", "1 ok"]);
    expect(await second.run(({ session }) => session.notify(session.view(Int32Array), 0, 100))).toBe(3);
    expect(await woken(5)).toEqual(["0 ok", "1 ok", "2 ok", "3 ok", "4 ok"]);
    await asleep(3);
    expect(await second.run(({ session }) => session.notify(session.view(Uint8Array), 0))).toBe(3);
    await first.run(({ state }) => Promise.all(state.sleeps).then(() => {}));
    expect(await second.run(({ session }) => session.notify(session.view(Int32Array), 0))).toBe(0);
  });

  test("a sleep leaves the event loop free, and its time ends it", async () => {
    const [puppet] = await two();
    const outcomes = await puppet.run(async ({ session }) => {
      const view = session.view(Int32Array);
      const sleeping = session.waitFor(view, 0, 0);
      const timer = new Promise((resolve) => setTimeout(resolve, 1, "timer"));
      const first = await Promise.race([sleeping, timer]);
      // A notification that comes before the sleep in the log wakes no sleeper.
      for (let looks = 0; session.notify(view, 0) === 0 && looks < 60_000; looks += 1) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      return [
        first,
        await sleeping,
        await session.waitFor(view, 0, 0, { timeoutMs: 20 }),
        session.waitForSync(view, 0, 0, { timeoutMs: 5 }),
        session.notify(view, 0),
      ];
    });
    expect(outcomes).toEqual(["timer", "ok", "timed-out", "timed-out", 0]);
  });

  test("a sleep that is aborted rejects with the reason, and takes no wake-up", async () => {
    const [first, second] = await two();
    const results = await first.run(async ({ session }) => {
      const view = session.view(Int32Array);
      const reasonOf = (wait: Promise<unknown>): Promise<unknown> =>
        wait.then(
          (outcome) => outcome,
          (reason: Error) => reason.message,
        );
      const controller = new AbortController();
      const waiting = reasonOf(session.waitFor(view, 0, 0, { signal: controller.signal }));
      await session.semaphore("look", 0).post();
      controller.abort(new Error("enough"));
      const results = [await waiting, session.notify(view, 0)];
      results.push(await reasonOf(session.waitFor(view, 0, 0, { signal: controller.signal })));
      // Woken before the abort is known: the next one has it.
      const late = new AbortController();
      const aborted = reasonOf(session.waitFor(view, 0, 0, { signal: late.signal }));
      const next = session.waitFor(view, 0, 0);
      await session.semaphore("look", 0).post();
      results.push(session.notify(view, 0, 1));
      late.abort(new Error("late"));
      results.push(await aborted, await next);
      return results;
    });
    expect(results).toEqual(["enough", 0, "enough", 1, "late", "ok"]);
    expect(await second.run(({ session }) => session.notify(session.view(Int32Array), 0))).toBe(0);
  });
});

test("many sleepers on many places, all woken", async () => {
  const [first, second] = (await cluster.join({ processes: 2, nodes: 2 })) as [Puppet, Puppet];
  const sleeping = first.run(async ({ session }) => {
    const view = session.view(Int32Array);
    const outcomes = await Promise.all(Array.from({ length: 800 }, (_, i) => session.waitFor(view, i % 100, 0)));
    return outcomes.filter((outcome) => outcome !== "ok").length;
  });
  const woken = await second.run(({ session }) => {
    const view = session.view(Int32Array);
    let woken = 0;
    while (woken < 800) for (let i = 0; i < 100; i += 1) woken += session.notify(view, i);
    return woken;
  });
  expect([woken, await sleeping]).toEqual([800, 0]);
});

test("one time-out or abort among many changes nothing for the others", async () => {
  const [first, second] = (await cluster.join({ processes: 2, nodes: 2 })) as [Puppet, Puppet];
  const done = first.run(async ({ session }) => {
    const view = session.view(Int32Array);
    const counts: Record<string, number> = {};
    for (let round = 0; round < 30; round += 1) {
      const sleeps = Array.from({ length: 30 }, (_, i) => {
        const options = i % 3 === 0 ? {} : i % 3 === 1 ? { timeoutMs: i % 5 } : { signal: AbortSignal.timeout(i % 5) };
        return session.waitFor(view, 0, 0, options).catch(() => "aborted");
      });
      for (const outcome of await Promise.all(sleeps)) counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
    session.view(Int32Array)[1] = 1;
    const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
    return [total, (counts.ok ?? 0) >= 300, counts["not-equal"] ?? 0];
  });
  const notified = second.run(async ({ session }) => {
    const view = session.view(Int32Array);
    while (view[1] === 0) session.notify(view, 0, 1);
  });
  expect(await done).toEqual([900, true, 0]);
  await notified;
});

test("bad arguments", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const codes = await puppet.run(async ({ session }) => {
    const view = session.view(Int32Array, 0, 4);
    const calls: (() => unknown)[] = [
      () => session.waitFor(new Int32Array(1), 0, 0),
      () => session.waitFor(session.view(Float64Array) as never, 0, 0 as never),
      () => session.waitFor(session.view(Uint8ClampedArray) as never, 0, 0 as never),
      () => session.waitFor(session.view(DataView) as never, 0, 0 as never),
      () => session.waitFor(view, 4, 0),
      () => session.waitFor(view, -1, 0),
      () => session.waitFor(view, 0.5, 0),
      () => session.waitFor(view, 0, 0.5),
      () => session.waitFor(view, 0, 0n as never),
      () => session.waitFor(session.view(BigInt64Array), 0, 0 as never),
      () => session.waitFor(view, 0, 1, { timeoutMs: -1 }),
      () => session.waitFor(view, 0, 1, { timeoutMs: 2 ** 31 }),
      () => session.waitForSync(view, 4, 0),
      () => session.waitForSync(view, 0, 1, { timeoutMs: 0.5 }),
      () => session.notify(view, 4),
      () => session.notify(new Int32Array(4), 0),
      () => session.notify(view, 0, -1),
      () => session.notify(view, 0, 1.5),
      () => session.notify(view, 0, Number.NaN),
    ];
    const codes: string[] = [];
    for (const call of calls) {
      try {
        await call();
        codes.push(`none: ${call}`);
      } catch (error) {
        codes.push((error as import("dsm").DsmError).code ?? String(error));
      }
    }
    return codes;
  });
  expect(codes).toEqual(new Array(19).fill("DSM_INVALID"));
});
