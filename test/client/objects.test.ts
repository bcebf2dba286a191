/** Objects in the map: what one process sees of them, in the promise forms and the Sync forms. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(180_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

const PLACES = [
  ["in direct mode", { processes: 2, nodes: 1 }],
  ["on two nodes", { processes: 2, nodes: 2 }],
  ["on two nodes, release", { processes: 2, nodes: 2, environment: { DSM_ORDER: "release" } }],
] as const;

/** Pairs of the outcome of the promise form and of the Sync form. */
const pairs = (outcomes: unknown[]): [unknown, unknown][] =>
  Array.from({ length: outcomes.length / 2 }, (_, i) => [outcomes[2 * i], outcomes[2 * i + 1]]);

const twice = (outcome: unknown): [unknown, unknown] => [outcome, outcome];

/** Without addresses. */
const plain = (outcomes: unknown[]): unknown[] =>
  outcomes.map((one) => (typeof one === "string" ? one.replace(/ at 0x[0-9a-f]+/g, "") : one));

describe.each(PLACES)("%s", (_, place) => {
  test("both forms say the same of what another process has", async () => {
    const [first, second] = (await cluster.join(place)) as [Puppet, Puppet];
    await first.run(async ({ session }) => {
      await session.mutexAt(0).lock();
      session.rwlockAt(64).write.lockSync();
    });
    const others = await second.run(async ({ session, load }) => {
      const { outcomes } = await load("outcomes.ts");
      const mutex = session.mutexAt(0);
      const { read, write } = session.rwlockAt(64);
      const semaphore = session.semaphoreAt(128);
      const barrier = session.barrierAt(192);
      const cond = session.condAt(256);
      const full = session.semaphoreAt(320);
      full.init(2147483647);
      return outcomes([
        ...[mutex, read, write].flatMap((lock) => [
          ...[() => lock.lock({ timeoutMs: 3 }), () => lock.lockSync({ timeoutMs: 3 })],
          ...[() => lock.tryLock(), () => lock.tryLockSync()],
          ...[() => lock.unlock(), () => lock.unlockSync()],
        ]),
        ...[() => semaphore.wait({ timeoutMs: 3 }), () => semaphore.waitSync({ timeoutMs: 3 })],
        ...[() => semaphore.tryWait(), () => semaphore.tryWaitSync()],
        ...[() => full.post(), () => full.postSync()],
        ...[() => barrier.wait({ timeoutMs: 3 }), () => barrier.waitSync({ timeoutMs: 3 })],
        ...[() => cond.wait(mutex), () => cond.waitSync(mutex)],
      ]);
    });
    const locks = ["mutex", "reader-writer lock", "reader-writer lock"].flatMap((lock) => [
      twice(`DSM_TIMEOUT the ${lock}: the wait was not over within 3 ms`),
      twice(false),
      twice(`DSM_NOT_OWNER this thread does not have the ${lock}`),
    ]);
    expect(pairs(plain(others))).toEqual([
      ...locks,
      twice("DSM_TIMEOUT the semaphore stayed 0 for 3 ms"),
      twice(false),
      twice("DSM_OVERFLOW the semaphore has its largest value already"),
      twice("DSM_TIMEOUT 1 of 2 were not in the barrier within 3 ms"),
      twice("DSM_NOT_OWNER this thread does not have the mutex"),
    ]);
    const own = await first.run(async ({ session, load }) => {
      const { outcomes } = await load("outcomes.ts");
      const mutex = session.mutexAt(0);
      const { read, write } = session.rwlockAt(64);
      return outcomes([
        ...[mutex, read, write].flatMap((lock) => [
          ...[() => lock.lock(), () => lock.lockSync()],
          ...[() => lock.tryLock(), () => lock.tryLockSync()],
        ]),
        ...[() => read.unlock(), () => read.unlockSync()],
        // Unlocked by the other form than locked.
        ...[() => mutex.unlockSync(), () => write.unlock()],
      ]);
    });
    const already = ["mutex", "reader-writer lock", "reader-writer lock"].flatMap((lock) => [
      twice(`DSM_BUSY this thread has the ${lock} already`),
      twice(`DSM_BUSY this thread has the ${lock} already`),
    ]);
    expect(pairs(plain(own))).toEqual([
      ...already,
      twice("DSM_NOT_OWNER this thread does not have the reader-writer lock"),
      twice(undefined),
    ]);
  });

  test("a wait for a mutex leaves the event loop free, and goes on when the other process unlocks", async () => {
    const [first, second] = (await cluster.join(place)) as [Puppet, Puppet];
    await first.run(({ session }) => session.mutexAt(0).lockSync());
    await second.run(({ session, state }) => {
      const mutex = session.mutexAt(0);
      state.got = mutex.lock();
      state.busy = [mutex.lock(), mutex.tryLock()].map((wait) => wait.catch((error) => error.message));
    });
    // It answers while its promise waits.
    const busy = await second.run(async ({ session, state, load }) => {
      const { outcomes } = await load("outcomes.ts");
      return [...(await Promise.all(state.busy)), ...(await outcomes([() => session.mutexAt(0).lockSync()]))];
    });
    expect(plain(busy)).toEqual([
      "this thread waits for the mutex already",
      "this thread waits for the mutex already",
      "DSM_BUSY this thread waits for the mutex already",
    ]);
    await first.run(({ session }) => session.mutexAt(0).unlock());
    expect(await second.run(({ state }) => state.got)).toBe("ok");
    expect(await second.run(({ session }) => session.mutexAt(0).unlock())).toBeUndefined();
  });

  test("an aborted lock is not taken; one that was granted is given back", async () => {
    const [first, second] = (await cluster.join(place)) as [Puppet, Puppet];
    const aborted = await second.run(async ({ session }) => {
      const results: unknown[] = [];
      const { read, write } = session.rwlockAt(64);
      for (const lock of [session.mutexAt(0), read, write]) {
        const controller = new AbortController();
        const wait = lock.lock({ signal: controller.signal }).catch((error: Error) => error.message);
        controller.abort(new Error("enough"));
        results.push(await wait);
      }
      return results;
    });
    expect(aborted).toEqual(["enough", "enough", "enough"]);
    const free = await first.run(async ({ session }) => [
      await session.mutexAt(0).tryLock(),
      await session.rwlockAt(64).write.tryLock(),
    ]);
    expect(free).toEqual(["ok", "ok"]);
  });

  test("a wait for a condition variable has the mutex again: signalled, timed out, aborted", async () => {
    const [first, second] = (await cluster.join(place)) as [Puppet, Puppet];
    const outcomes = await second.run(async ({ session }) => {
      const mutex = session.mutexAt(0);
      const cond = session.condAt(64);
      const results: unknown[] = [];
      await mutex.use(async () => {
        results.push(await cond.wait(mutex, { timeoutMs: 3 }));
        results.push(cond.waitSync(mutex, { timeoutMs: 3 }));
        const controller = new AbortController();
        const wait = cond.wait(mutex, { signal: controller.signal }).catch((error: Error) => error.message);
        controller.abort(new Error("enough"));
        results.push(await wait);
        results.push(await mutex.lock().catch((error: { code: string }) => error.code));
      });
      return results;
    });
    expect(outcomes).toEqual(["timed-out", "timed-out", "enough", "DSM_BUSY"]);
    await second.run(async ({ session, state }) => {
      const mutex = session.mutexAt(0);
      await mutex.lock();
      state.woken = session.condAt(64).wait(mutex);
      // The mutex is free while this thread waits, for its other promises as well.
      await mutex.use(() => {});
    });
    // It has the mutex as soon as it is signalled and the mutex is free.
    await first.run(({ session }) => session.mutexAt(0).use(() => session.condAt(64).signalSync()));
    const woken = await second.run(async ({ session, state }) => [await state.woken, session.mutexAt(0).unlockSync()]);
    expect(woken).toEqual(["ok", undefined]);
  });
});

test("promises of one thread take turns at a condition variable, a semaphore and a barrier", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const results = await puppet.run(async ({ session }) => {
    const mutex = session.mutexAt(0);
    const cond = session.condAt(64);
    const semaphore = session.semaphoreAt(128);
    const barrier = session.barrierAt(192);
    const words = session.view(Int32Array, 320, 1);
    const waits = [0, 1, 2].map(async (i) => {
      // One after the other: the thread has the mutex only once.
      while ((await mutex.tryLock().catch(() => false)) === false) await Bun.sleep(0);
      while (words[0] !== i) await cond.wait(mutex);
      words[0] = i + 1;
      await cond.broadcast();
      await mutex.unlock();
    });
    await Promise.all(waits);
    semaphore.init(2);
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 6 }, () =>
        semaphore.use(async () => {
          inside += 1;
          most = Math.max(most, inside);
          await Bun.sleep(1);
          inside -= 1;
        }),
      ),
    );
    barrier.init(3);
    const last = await Promise.all([barrier.wait(), barrier.wait(), barrier.wait()]);
    const others = [barrier.wait({ timeoutMs: 500 }).catch((error: { code: string }) => error.code)];
    return [words[0], most, last.filter(Boolean).length, ...(await Promise.all(others))];
  });
  expect(results).toEqual([3, 2, 1, "DSM_TIMEOUT"]);
});

test("a program that awaits only free locks lets its timers run", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const locked = await puppet.run(async ({ session }) => {
    let isOver = false;
    setTimeout(() => {
      isOver = true;
    }, 1);
    let count = 0;
    while (!isOver) await session.mutexAt(0).use(() => (count += 1));
    isOver = false;
    setTimeout(() => {
      isOver = true;
    }, 1);
    while (!isOver) await session.lock("a").use(() => (count += 1));
    return count;
  });
  expect(locked).toBeGreaterThan(1);
});

test("a free lock that the node knows costs no request in direct mode", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const requests = await puppet.run(async ({ session }) => {
    const semaphore = session.semaphoreAt(64);
    semaphore.init(1);
    const used = [session.lock("a"), session.mutexAt(0), session.semaphore("s", 1), semaphore];
    const counted: number[] = [];
    for (const one of used) {
      await one.use(() => {});
      // Nothing but microtasks is needed: a request would need a turn of the event loop.
      let turns = 0;
      const turn = setImmediate(() => {
        turns += 1;
      });
      for (let i = 0; i < 8; i += 1) await one.use(() => {});
      counted.push(turns);
      clearImmediate(turn);
    }
    return counted;
  });
  expect(requests).toEqual([0, 0, 0, 0]);
});

test("use() unlocks in any case, and its error is the scope's", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const results = await puppet.run(async ({ session, load }) => {
    const { outcomes } = await load("outcomes.ts");
    const mutex = session.mutexAt(0);
    const { read, write } = session.rwlockAt(64);
    const results: unknown[] = [];
    for (const lock of [mutex, read, write]) {
      results.push(
        ...(await outcomes([
          () =>
            lock.use(() => {
              throw new Error("scope");
            }),
          () =>
            lock.useSync(() => {
              throw new Error("scope");
            }),
          () => lock.useSync(async () => {}),
          () => lock.use(async () => 5),
        ])),
      );
      await using held = await lock.hold();
      results.push(held.outcome);
    }
    results.push(mutex.tryLockSync(), write.tryLockSync());
    return results;
  });
  const each = (label: string) => [
    ...["Error: scope", "Error: scope"],
    `DSM_INVALID the ${label}: useSync() was given an async function; call use()`,
    ...[5, "ok"],
  ];
  expect(plain(results)).toEqual([
    ...each("mutex"),
    ...each("reader-writer lock"),
    ...each("reader-writer lock"),
    ...["ok", "ok"],
  ]);
});

test("a wrong argument gets one line", async () => {
  const [puppet] = (await cluster.join({ processes: 1, environment: { DSM_SIZE: "64KiB" } })) as [Puppet];
  const errors = await puppet.run(async ({ session, load }) => {
    const { outcomes } = await load("outcomes.ts");
    // biome-ignore lint/suspicious/noExplicitAny: the wrong types are what is tested
    const any = session as any;
    const mutex = session.mutexAt(0);
    const cond = session.condAt(64);
    return outcomes([
      () => session.mutexAt(8),
      () => session.condAt(-64),
      () => session.rwlockAt(65_536),
      () => session.semaphoreAt(0.5),
      () => any.mutexAt("0"),
      () => any.mutexAt(undefined),
      () => session.barrierAt(new Uint8Array(64)),
      () => session.mutexAt(session.view(Uint8Array, 64, 8)),
      () => session.mutexAt(session.view(Uint8Array, 8, 64)),
      () => session.semaphoreAt(128).init(-1),
      () => session.barrierAt(128).init(65_537),
      () => any.condAt(64).wait(session.lock("a")),
      () => any.condAt(64).waitSync(undefined),
      () => mutex.lock({ timeoutMs: -1 }),
      () => cond.wait(mutex, { timeoutMs: 0.5 }),
      () => cond.waitSync(mutex, { timeoutMs: 2 ** 31 }),
    ]);
  });
  const milliseconds = "give 0 to 2147483647 milliseconds";
  expect(plain(errors)).toEqual([
    "DSM_INVALID a mutex cannot lie at byte 8; give a multiple of 64",
    "DSM_INVALID a condition variable cannot lie at byte -64; give a multiple of 64",
    "DSM_INVALID a reader-writer lock at byte 65536 ends behind the map, which has 65536 bytes",
    "DSM_INVALID a semaphore cannot lie at byte 0.5; give a multiple of 64",
    'DSM_INVALID a mutex cannot lie at "0"; give a byte of the map, or a view',
    "DSM_INVALID a mutex cannot lie at undefined; give a byte of the map, or a view",
    "DSM_INVALID the view is not over this session's buffer",
    "DSM_INVALID the view has 8 bytes; a mutex needs 64",
    "DSM_INVALID a mutex cannot lie at byte 8; give a multiple of 64",
    "DSM_INVALID the semaphore: value -1; give 0 to 2147483647",
    "DSM_INVALID the barrier: count 65537; give 0 to 65536",
    "DSM_INVALID wait() was given no mutex that lies in the map; give a MapMutex",
    "DSM_INVALID wait() was given no mutex that lies in the map; give a MapMutex",
    `DSM_INVALID timeoutMs is -1; ${milliseconds}`,
    `DSM_INVALID timeoutMs is 0.5; ${milliseconds}`,
    `DSM_INVALID timeoutMs is 2147483648; ${milliseconds}`,
  ]);
});

test("after leaving each call says so", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const codes = await puppet.run(async ({ session }) => {
    const mutex = session.mutexAt(0);
    const cond = session.condAt(64);
    const { read, write } = session.rwlockAt(128);
    const semaphore = session.semaphoreAt(192);
    const barrier = session.barrierAt(256);
    await mutex.lock();
    barrier.init(2);
    const waits: Promise<unknown>[] = [semaphore.wait(), barrier.wait(), cond.wait(mutex)];
    const ended = Promise.allSettled(waits);
    await session.leave();
    const calls = [
      ...[mutex, read, write].flatMap((lock) => [
        ...[() => lock.lock(), () => lock.lockSync(), () => lock.tryLock(), () => lock.tryLockSync()],
        ...[() => lock.unlock(), () => lock.unlockSync(), () => lock.use(() => {})],
      ]),
      ...[() => cond.wait(mutex), () => cond.waitSync(mutex), () => cond.signal(), () => cond.broadcastSync()],
      ...[() => semaphore.wait(), () => semaphore.postSync(), () => semaphore.init(1), () => semaphore.post()],
      ...[() => barrier.wait(), () => barrier.waitSync(), () => barrier.init(1), () => session.mutexAt(0)],
    ];
    const codes = new Set<unknown>();
    for (const call of calls) {
      try {
        await call();
        codes.add(String(call));
      } catch (error) {
        codes.add((error as { code: string }).code);
      }
    }
    for (const one of await ended) codes.add((one as { reason?: { code: string } }).reason?.code);
    return [...codes];
  });
  expect(codes).toEqual(["DSM_LEFT"]);
});

test("fields of a struct: each where the layout says, in arrays too", async () => {
  const puppets = await cluster.join({ processes: 2, nodes: 2 });
  const seen = await Promise.all(
    puppets.map((puppet) =>
      puppet.run(async ({ dsm, session }) => {
        const { dsmBarrier, dsmCond, dsmMutex, dsmRwlock, dsmSemaphore, i32, struct } = dsm;
        const task = struct({ id: i32, lock: dsmMutex });
        const shared = session.struct("state", {
          ...{ first: i32, guard: dsmMutex, changed: dsmCond, table: dsmRwlock, free: dsmSemaphore, step: dsmBarrier },
          ...{ last: i32, locks: dsmMutex.array(3), tasks: task.array(2) },
        });
        const base = shared.$bytes.byteOffset;
        for (const lock of [shared.guard, ...shared.locks, ...shared.tasks.map((one) => one.lock)]) {
          for (let i = 0; i < 10; i += 1) await lock.use(() => (shared.last += 1));
        }
        await shared.step.wait();
        const { guard, changed, table, free, step, locks, tasks } = shared;
        const places = [guard, changed, table, free, step, ...locks, ...tasks.map(({ lock }) => lock)];
        return {
          places: places.map(({ offset }) => offset - base),
          size: shared.$bytes.length,
          json: JSON.stringify(shared),
          same: shared.guard === guard && shared.locks[0] === locks[0],
        };
      }),
    ),
  );
  // Each field is guarded by another lock, so that some additions may be lost: only places are compared.
  for (const { places, size, json, same } of seen) {
    expect(places).toEqual([64, 128, 192, 256, 320, 448, 512, 576, 704, 832]);
    expect(size).toBe(896);
    expect(JSON.parse(json)).toEqual({ first: 0, last: expect.any(Number), tasks: [{ id: 0 }, { id: 0 }] });
    expect(same).toBe(true);
  }
});
