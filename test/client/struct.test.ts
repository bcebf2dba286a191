/** session.struct(): between processes on two nodes, in every order and in direct mode. Its types: struct-types.ts. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Cluster, type Puppet } from "./cluster.ts";

// Real processes, on machines that may be busy.
setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

const barrier = (puppets: Puppet[]) =>
  Promise.all(puppets.map((puppet) => puppet.run(({ session }) => session.barrier())));

/** Two processes that have opened the same struct, as `state.shared`. */
async function pair(order: string, nodes: number): Promise<[Puppet, Puppet]> {
  const puppets = await cluster.join({
    processes: 2,
    nodes,
    environment: { DSM_ORDER: order, DSM_ON_LOSS: "continue" },
  });
  await Promise.all(
    puppets.map((puppet) =>
      puppet.run(({ dsm, session, state }) => {
        const { bool, f32, f64, i8, i16, i32, i64, mutex, struct, u8, u16, u32, u64, utf8 } = dsm;
        state.shared = session.struct("state", {
          ...{ a: i8, b: i16, c: i32, d: i64, e: u8, f: u16, g: u32, h: u64, i: f32, j: f64, k: bool },
          name: utf8(8),
          row: u16.array(3),
          grid: f64.array(2, 3),
          cube: i8.array(2, 2, 2),
          lock: mutex,
          point: { x: f64, deep: { n: u8, m: i32 } },
          points: struct({ id: u8, x: f64, lock: mutex }).array(3),
        });
      }),
    ),
  );
  return puppets as [Puppet, Puppet];
}

describe.each([
  ["sequential", 2],
  ["release", 2],
  ["pipelined", 2],
  ["sequential", 1], // direct mode
])("order %s, nodes: %d", (order, nodes) => {
  test("one assigns fields of every type, and the other reads them", async () => {
    const [one, two] = await pair(order, nodes);
    await one.run(({ state: { shared } }) => {
      const values = {
        ...{ a: -8, b: -1600, c: -2_000_000_000, d: -(2n ** 60n), e: 200, f: 60_000, g: 4_000_000_000, h: 2n ** 63n },
        ...{ i: 0.5, j: 3, k: true },
      };
      // Backwards: a store that is too wide would be seen on what was stored before.
      for (const [name, value] of Object.entries(values).reverse()) shared[name] = value;
      shared.j += 0.25;
      shared.name = "Grün";
      shared.row[2] = 7;
      shared.grid[1 * 3 + 2] = 1.5;
      shared.grid.row(0).fill(0.25);
      shared.cube.row(1, 0)[1] = -3;
      Object.assign(shared.point.deep, { n: 255, m: -9 });
      shared.point.x = -1;
      for (const [i, point] of shared.points.entries()) Object.assign(point, { id: i + 1, x: i / 4 });
    });
    await barrier([one, two]);
    const read = await two.run(({ state: { shared } }) => {
      const { a, b, c, d, e, f, g, h, i, j, k, name, row, grid, cube, point, points } = shared;
      return {
        ...{ a, b, c, d, e, f, g, h, i, j, k, name, row: [...row], grid: [...grid], cube: [...cube] },
        shapes: [grid.shape, cube.shape, cube.row(1).length, cube.row(1, 0)[1]],
        point: [point.x, point.deep.n, point.deep.m],
        points: points.map(({ id, x }: { id: number; x: number }) => [id, x]),
        same: [shared.row === row, shared.point === point, shared.points[0] === points[0]],
        shown: Bun.inspect(point),
      };
    });
    expect(read).toEqual({
      ...{ a: -8, b: -1600, c: -2_000_000_000, d: -(2n ** 60n), e: 200, f: 60_000, g: 4_000_000_000, h: 2n ** 63n },
      ...{ i: 0.5, j: 3.25, k: true, name: "Grün", row: [0, 0, 7], grid: [0.25, 0.25, 0.25, 0, 0, 1.5] },
      ...{ cube: [0, 0, 0, 0, 0, -3, 0, 0], shapes: [[2, 3], [2, 2, 2], 4, -3], point: [-1, 255, -9] },
      ...{
        points: [
          [1, 0],
          [2, 0.25],
          [3, 0.5],
        ],
        same: [true, true, true],
      },
      shown: "{\n  x: -1,\n  deep: {\n    n: 255,\n    m: -9,\n  },\n}",
    });
  });

  test("atomic operations of both are one after the other, and a sleeper is woken", async () => {
    const puppets = await pair(order, nodes);
    const rounds = 200;
    const asleep = puppets[0].run(({ state: { shared } }) => shared.$atomic.a.waitFor(0));
    await Promise.all(
      puppets.map((puppet) =>
        puppet.run(({ state: { shared } }, rounds) => {
          for (let i = 0; i < rounds; i++) {
            shared.$atomic.c.add(2);
            shared.$atomic.h.sub(1n);
            shared.points[2].$atomic.id.add(1);
          }
        }, rounds),
      ),
    );
    await barrier(puppets);
    const said = await puppets[1].run(async ({ state: { shared } }) => {
      const { b, c, d, e, f, g, h } = shared.$atomic;
      const results = [c.load(), h.load(), shared.points[2].$atomic.id.load(), shared.points[1].id];
      results.push(b.store(-5), b.exchange(12), b.and(6), b.or(3), b.xor(1), b.load());
      results.push(d.compareExchange(0n, -7n), d.compareExchange(0n, 1n), d.load());
      results.push(e.sub(1), e.load(), f.add(65_535), f.add(2), f.load(), g.sub(1), g.load());
      results.push(await d.waitFor(0n), d.waitForSync(-7n, { timeoutMs: 1 }));
      shared.$atomic.a.store(1);
      results.push(shared.$atomic.a.notify());
      return results;
    });
    expect(said).toEqual([
      ...[800, 2n ** 64n - 400n, 400 % 256, 0],
      ...[-5, -5, 12, 4, 7, 6],
      ...[0n, -7n, -7n],
      ...[0, 255, 0, 65_535, 1, 0, 2 ** 32 - 1],
      ...["not-equal", "timed-out", 1],
    ]);
    expect(await asleep).toBe("ok");
  });
});

test("atomic operations are atomic under release, too, where the same page is full of plain stores", async () => {
  const puppets = await cluster.join({ processes: 2, nodes: 2, environment: { DSM_ORDER: "release" } });
  await Promise.all(
    puppets.map((puppet) =>
      puppet.run(async ({ dsm, session }) => {
        const { i32, struct, u8 } = dsm;
        const slots = u8.array(100);
        const inner = struct({ count: i32, slots: struct({ mine: slots }).array(2) });
        const shared = session.struct("s", {
          count: i32,
          mine: struct({ slots }).array(2),
          far: u8.array(5000),
          inner,
        });
        await session.barrier();
        for (let round = 0; round < 20; round++) {
          for (let i = 0; i < 100; i++) {
            shared.mine[session.rank]!.slots[i] = round;
            shared.inner.slots[session.rank]!.mine[i] = round;
          }
          shared.inner.$atomic.count.add(1);
          shared.$atomic.count.add(1);
        }
        await session.barrier();
      }),
    ),
  );
  const read = await puppets[1]?.run(({ dsm, session }) => {
    const { i32, struct, u8 } = dsm;
    const slots = u8.array(100);
    const inner = struct({ count: i32, slots: struct({ mine: slots }).array(2) });
    const shared = session.struct("s", { count: i32, mine: struct({ slots }).array(2), far: u8.array(5000), inner });
    return [shared.count, shared.inner.count, ...shared.mine.map(({ slots }) => slots[99])];
  });
  expect(read).toEqual([40, 40, 19, 19]);
});

test("+= of a field under its lock by both, and locks of an array's structs are one each", async () => {
  const puppets = await pair("sequential", 2);
  const add = (puppet: Puppet) =>
    puppet.run(async ({ state: { shared } }) => {
      for (let i = 0; i < 50; i++) await shared.lock.use(() => (shared.j += 1));
      for (let i = 0; i < 50; i++) {
        await using held = await shared.lock.hold();
        if (held.outcome === "ok") shared.j += 1;
      }
    });
  await Promise.all(puppets.map(add));
  // Under the lock: a plain load may be older than the other node's last stores.
  expect(await puppets[1].run(({ state: { shared } }) => shared.lock.use(() => shared.j as number))).toBe(200);
  expect(
    await puppets[0].run(async ({ session, state: { shared } }) => [
      ...[shared.lock.name, shared.points[0].lock.name, shared.points[2].lock.name],
      ...[shared.points[0].lock.tryLockSync(), shared.points[2].lock.tryLockSync()],
      await session.lock("state.points[1].lock").tryLock(),
    ]),
  ).toEqual(["state.lock", "state.points[0].lock", "state.points[2].lock", "ok", "ok", "ok"]);
});

test.each(["mended", "markConsistent"] as const)(
  "hold() unlocks, and passes owner-died on until %s()",
  async (call) => {
    const [one, two] = await pair("sequential", 2);
    await one.run(({ state: { shared } }) => shared.lock.lock());
    const waiting = two.run(async ({ state: { shared } }, call) => {
      const outcomes: string[] = [];
      for (const mend of [false, true, false]) {
        const held = await shared.lock.hold();
        outcomes.push(held.outcome);
        if (mend) held[call]();
        await held[Symbol.asyncDispose]();
        await held[Symbol.asyncDispose](); // a second time: nothing
      }
      return outcomes;
    }, call);
    one.process.kill("SIGKILL");
    expect(await waiting).toEqual(["owner-died", "owner-died", "ok"]);
  },
);

test("texts are as long as they may be, and what is too long leaves what was there", async () => {
  const [one, two] = await pair("sequential", 2);
  const assign = (text: unknown) =>
    one.run(({ state: { shared } }, text) => void Object.assign(shared, { name: text }), text);
  const seen = () =>
    two.run(({ state: { shared } }) => {
      // Has its place behind what the other has stored, so that is here too.
      shared.$atomic.c.add(0);
      const block = shared.$bytes as Uint8Array;
      const at = shared.row.byteOffset - shared.$bytes.byteOffset - 9;
      return [shared.name, Buffer.from(block.subarray(at, at + 8)).toString("hex")];
    });
  await assign("1234567");
  expect(await seen()).toEqual(["1234567", "3132333435363700"]);
  await assign("äöü");
  expect(await seen()).toEqual(["äöü", "c3a4c3b6c3bc0000"]);
  await assign("🦊");
  expect(await seen()).toEqual(["🦊", "f09fa68a00000000"]);
  for (const [wrong, message] of [
    ["12345678", "state.name holds 7 bytes of UTF-8; the text has 8"],
    ["1234äö", "state.name holds 7 bytes of UTF-8; the text has 8"],
    ["🦊🦊", "state.name holds 7 bytes of UTF-8; the text has 8"],
    ["a\0b", "zero character"],
    [5, "state.name is text; it was given 5"],
  ] as const) {
    await expect(assign(wrong)).rejects.toMatchObject({
      code: "DSM_INVALID",
      message: expect.stringContaining(message),
    });
  }
  expect(await seen()).toEqual(["🦊", "f09fa68a00000000"]);
  await assign("");
  expect(await seen()).toEqual(["", "0000000000000000"]);
  // What a C program may have left there: no end, and half a character.
  await one.run(({ state: { shared } }) => {
    const at = shared.row.byteOffset - shared.$bytes.byteOffset - 9;
    shared.$bytes.set(Buffer.from("abcdeäö").subarray(0, 8), at);
  });
  expect((await seen())[0]).toBe("abcdeä\ufffd");
});

test("processes that define it differently get an error, whichever comes first", async () => {
  const [one, two] = (await cluster.join({ processes: 2, nodes: 2 })) as [Puppet, Puppet];
  const fields = (puppet: Puppet, text: string) =>
    puppet.run(({ dsm, session }, text) => {
      const fields = new Function(...Object.keys(dsm), `return ${text}`)(...Object.values(dsm));
      session.struct("s", fields);
    }, text);
  await fields(one, "{ a: i32, b: f64, lock: mutex }");
  await fields(two, "struct({ a: i32, b: f64, lock: mutex })");
  for (const other of [
    "{ b: f64, a: i32, lock: mutex }",
    "{ a: u32, b: f64, lock: mutex }",
    "{ a: i32, b: f64 }",
    "{ a: i32 }",
  ]) {
    await expect(fields(two, other)).rejects.toMatchObject({
      code: "DSM_MISMATCH",
      message: expect.stringMatching(
        /struct "s" has other fields in this session \(layout [0-9a-f]{16}, here [0-9a-f]{16}\)/,
      ),
    });
  }
});

test("names that blocks or locks cannot have, and what is no field of it", async () => {
  const [puppet] = (await cluster.join({ processes: 1, size: "64KiB" })) as [Puppet];
  const failures = await puppet.run(({ dsm, session }) => {
    const { mutex, struct, u8, f64 } = dsm;
    const shared = session.struct("ok", { a: u8.array(2, 3), s: { b: u8 } });
    const acts: (() => unknown)[] = [
      () => session.struct("a/b", { a: u8 }),
      () => session.struct("x".repeat(57), { a: u8 }),
      () => session.struct("x".repeat(50), { a: u8, alongfieldname: mutex }),
      () => session.struct("x".repeat(53), { a: u8, b: struct({ c: u8, lock: mutex }).array(100) }),
      () => session.struct("large", { a: f64.array(8192) }),
      () => shared.a.row(),
      () => shared.a.row(2),
      () => shared.a.row(0, 0),
    ];
    return acts.map((act) => {
      try {
        return act();
      } catch (error) {
        return `${(error as { code?: string }).code}: ${(error as Error).message}`;
      }
    });
  });
  expect(failures).toEqual([
    'DSM_INVALID: struct "a/b": the block name has a slash; leave it out',
    expect.stringMatching(/^DSM_INVALID: struct "x+": the block name has 64 bytes; the limit is 63/),
    expect.stringMatching(/^DSM_INVALID: struct "x+": the lock name has 65 bytes; the limit is 63/),
    expect.stringMatching(/^DSM_INVALID: struct "x+": the lock name has 64 bytes; the limit is 63/),
    expect.stringMatching(/^DSM_NO_MEMORY: /),
    "DSM_INVALID: row() of an array of 2 dimensions takes 1 to 1 indices",
    "DSM_INVALID: there is no row 2; dimension 0 has 2",
    "DSM_INVALID: row() of an array of 2 dimensions takes 1 to 1 indices",
  ]);
  // Assigning what is an object is an error, not a silent loss.
  await expect(
    puppet.run(({ dsm, session }) => {
      const shared = session.struct("ok", { a: dsm.u8.array(2, 3), s: { b: dsm.u8 } }) as { s: unknown };
      shared.s = { b: 1 };
    }),
  ).rejects.toMatchObject({ code: "DSM_INVALID", message: expect.stringContaining("ok.s cannot be assigned") });
});

test("what is no field is refused, with the field that may be meant", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const said = await puppet.run(({ dsm: { f64, i32, struct, u8 }, session }) => {
    const names = "abcdefghij".split("").map((name) => [name.repeat(4), u8]);
    // biome-ignore lint/suspicious/noExplicitAny: what the types forbid
    const shared: any = session.struct("state", {
      ...{ turn: i32, sum: f64, at: { x: f64 }, parts: struct({ left: u8 }).array(2) },
    });
    // biome-ignore lint/suspicious/noExplicitAny: what the types forbid
    const many: any = session.struct("many", Object.fromEntries(names));
    const failure = (act: () => unknown): string => {
      try {
        return `none: ${act()}`;
      } catch (error) {
        const { code, message } = error as { code?: string; message: string };
        return code === undefined ? "a TypeError" : `${code}: ${message}`;
      }
    };
    shared.turn = 7;
    return {
      refused: [
        ...[() => (shared.trun = 1), () => (shared.at.y = 1), () => (shared.parts[1].lft = 1)],
        () => Object.assign(shared, { turn: 8, other: 1 }),
        // A program that is not a module, where an assignment that is refused may be silent.
        () => new Function("shared", "shared.sums = 1; return shared.sums")(shared),
        () => Object.defineProperty(shared, "other", { value: 1 }),
        () => (many.unlike = 1),
      ].map(failure),
      // What is only read, as runtimes and libraries do to any object, is as in any object.
      read: [shared.then, shared.turn, "turn" in shared, typeof shared.toString, Object.keys(shared).length],
    };
  });
  const first = "aaaa, bbbb, cccc, dddd, eeee, ffff, gggg, hhhh";
  expect(said).toEqual({
    refused: [
      'DSM_INVALID: state has no field "trun"; did you mean "turn"?',
      'DSM_INVALID: state.at has no field "y"; did you mean "x"?',
      'DSM_INVALID: state.parts[1] has no field "lft"; did you mean "left"?',
      'DSM_INVALID: state has no field "other"; it has turn, sum, at, parts',
      'DSM_INVALID: state has no field "sums"; did you mean "sum"?',
      "a TypeError",
      `DSM_INVALID: many has no field "unlike"; it has ${first} and others`,
    ],
    read: [undefined, 8, true, "function", 0],
  });
});

test("JSON.stringify and util.inspect show the fields", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const [json, inspected, of] = await puppet.run(
    async ({ dsm: { bool, f64, i64, mutex, struct, u8, utf8 }, session }) => {
      const shared = session.struct("shown", {
        ...{ on: bool, big: i64, name: utf8(8), grid: f64.array(2, 2), bigs: i64.array(2), lock: mutex },
        ...{ at: { x: f64 }, parts: struct({ a: u8 }).array(2) },
      });
      Object.assign(shared, { on: true, big: 2n ** 62n, name: "Ada" });
      shared.grid.row(1)[0] = 0.5;
      shared.bigs[1] = -1n;
      shared.at.x = Number.NaN;
      shared.parts[1]!.a = 3;
      const { inspect } = await import("node:util");
      return [JSON.stringify(shared), inspect(shared), inspect(session)];
    },
  );
  expect(of).toMatch(/processes: 1,/);
  expect(of).not.toContain("barrier");
  expect(json).toBe(
    '{"on":true,"big":"4611686018427387904","name":"Ada","grid":[0,0,0.5,0],"bigs":["0","-1"],"at":{"x":null},' +
      '"parts":[{"a":0},{"a":3}]}',
  );
  for (const shown of [
    "on: true",
    "big: 4611686018427387904n",
    'name: "Ada"',
    "x: NaN",
    "a: 3",
    'lock: Lock "shown.lock"',
  ]) {
    expect(inspected?.replaceAll("'", '"')).toContain(shown);
  }
});

test("a store to a field costs about what a store to a typed array costs", async () => {
  const [puppet] = (await cluster.join({ processes: 1 })) as [Puppet];
  const ratio = await puppet.run(({ dsm, session }) => {
    const { f64, i32 } = dsm;
    const shared = session.struct("fast", { turn: i32, sum: f64, at: { x: f64 } });
    const view = session.alloc(Float64Array, 2);
    // Time of the processor, not of the clock: others may be running.
    const time = (act: (rounds: number) => void): number => {
      const begin = process.cpuUsage();
      act(1_000_000);
      const { user, system } = process.cpuUsage(begin);
      return user + system;
    };
    const byField = (rounds: number): void => {
      for (let i = 0; i < rounds; i++) {
        shared.sum += i;
        shared.at.x += 1;
      }
    };
    const byView = (rounds: number): void => {
      for (let i = 0; i < rounds; i++) {
        view[0]! += i;
        view[1]! += 1;
      }
    };
    const best = (act: (rounds: number) => void): number => Math.min(...Array.from({ length: 9 }, () => time(act)));
    const [fields, views] = [best(byField), best(byView)];
    if (shared.sum !== view[0] || shared.at.x !== view[1]) throw new Error("the sums differ");
    return fields / views;
  });
  // As a rule it is 1.0; by a proxy it would be above 50.
  expect(ratio).toBeLessThan(10);
});
