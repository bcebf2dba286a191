/** What others see of a process's stores, and when: the order `release`, and direct mode. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { eventually } from "../support/eventually.ts";
import { Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(120_000);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

type Environment = Record<string, string>;
const together = async (
  processes: number,
  nodes: number,
  environment: Environment,
  size = "64KiB",
): Promise<Puppet[]> => cluster.join({ processes, nodes, size, environment });
const two = async (nodes: number, environment: Environment, size?: string): Promise<[Puppet, Puppet]> =>
  (await together(2, nodes, environment, size)) as [Puppet, Puppet];
/** Two processes, each a node. */
const released = (size?: string): Promise<[Puppet, Puppet]> => two(2, { DSM_ORDER: "release" }, size);

/** Two processes write every other element, round after round. Returns what each finds wrong, or "none". */
const alternate = (
  puppets: Puppet[],
  form: "promise" | "sync",
  sizes: { bytes: number; words: number; rounds: number },
): Promise<string[]> =>
  Promise.all(
    puppets.map((puppet) =>
      puppet.run(
        async ({ session }, form, sizes) => {
          const barrier = (): unknown => (form === "sync" ? session.barrierSync() : session.barrier());
          const bytes = session.view(Uint8Array, 0, sizes.bytes);
          const words = session.view(Float64Array, 32_768, sizes.words);
          for (let round = 1; round <= sizes.rounds; round += 1) {
            for (let i = session.rank; i < bytes.length; i += 2) bytes[i] = round + i;
            for (let i = 1 - session.rank; i < words.length; i += 2) words[i] = round + i / 8;
            await barrier();
            for (let i = 0; i < bytes.length; i += 1) {
              if (bytes[i] !== ((round + i) & 0xff)) return `round ${round}: byte ${i} is ${bytes[i]}`;
            }
            for (let i = 0; i < words.length; i += 1) {
              if (words[i] !== round + i / 8) return `round ${round}: word ${i} is ${words[i]}`;
            }
            await barrier();
          }
          return "none";
        },
        form,
        sizes,
      ),
    ),
  );

/** Two processes count, then hand 100 numbers on in turn. Returns what each finds wrong, or the count. */
const takeTurns = (
  puppets: Puppet[],
  offsets: { turn: number; counter: number; data: number },
  times: { count: number; turns: number },
): Promise<(string | number)[]> =>
  Promise.all(
    puppets.map((puppet) =>
      puppet.run(
        ({ session }, offsets, times) => {
          const turn = session.view(Int32Array, offsets.turn, 1);
          const counter = session.view(BigInt64Array, offsets.counter, 1);
          const data = session.view(Float64Array, offsets.data, 100);
          for (let i = 0; i < times.count; i += 1) Atomics.add(counter, 0, 1n);
          for (let mine = session.rank; mine < times.turns; mine += 2) {
            for (let now = Atomics.load(turn, 0); now !== mine; now = Atomics.load(turn, 0)) {
              session.waitForSync(turn, 0, now);
            }
            for (let i = 0; i < data.length; i += 1)
              if (data[i] !== mine) return `turn ${mine}: element ${i} is ${data[i]}`;
            data.fill(mine + 1);
            Atomics.store(turn, 0, mine + 1);
            session.notify(turn, 0);
          }
          session.barrierSync();
          return Number(counter[0]);
        },
        offsets,
        times,
      ),
    ),
  );

describe("joining", () => {
  const joinCode = (puppet: Puppet, options: import("dsm").JoinOptions) =>
    puppet.codeOf(async ({ dsm }, options) => void (await dsm.join(options)), options);

  test("with another order is refused, on the same node and on another", async () => {
    const session = cluster.sessionName();
    const [first, same, other] = await Promise.all(
      ["here", "here", "there"].map((node) => cluster.puppet({ DSM_NODE: node })),
    );
    const order = await (first as Puppet).run(
      async (stage, options) => {
        stage.session = await stage.dsm.join(options);
        return stage.session.order;
      },
      { session, processes: 1, order: "release" as const },
    );
    expect(order).toBe("release");
    for (const puppet of [same, other] as Puppet[]) {
      expect(await joinCode(puppet, { session, processes: 1, order: "sequential" })).toBe("DSM_MISMATCH");
      expect(await joinCode(puppet, { session, processes: 1, order: "release" })).toBe("DSM_FULL");
      expect(await joinCode(puppet, { session })).toBe("DSM_FULL");
    }
  });

  test("without an order takes that of the session", async () => {
    const session = cluster.sessionName();
    const [first, second] = await Promise.all([cluster.puppet({ DSM_NODE: "a" }), cluster.puppet({ DSM_NODE: "b" })]);
    const orders = await Promise.all([
      first.run(
        async ({ dsm }, session) => (await dsm.join({ session, processes: 2, order: "release" })).order,
        session,
      ),
      second.run(async ({ dsm }, session) => {
        for (;;) {
          try {
            return (await dsm.join({ session })).order;
          } catch (error) {
            // The first one has not made it yet.
            if ((error as import("dsm").DsmError).code !== "DSM_REFUSED") throw error;
          }
        }
      }, session),
    ]);
    expect(orders).toEqual(["release", "release"]);
  });

  test("the default order is sequential", async () => {
    const puppets = await together(2, 2, {});
    const orders = puppets.map((puppet) => puppet.run(({ session }) => [session.order, session.direct]));
    expect(await Promise.all(orders)).toEqual([
      ["sequential", false],
      ["sequential", false],
    ]);
  });
});

describe("release", () => {
  test("stores are seen by others after the next synchronising operation, not before", async () => {
    const [first, second] = await released();
    const seen = (): Promise<number[]> =>
      second.run(async ({ session }) => {
        // What was ordered before this is in place here after it.
        await session.semaphore("look", 0).post();
        return [...session.view(Int32Array, 400, 3)];
      });
    await first.run(({ session }) => session.view(Int32Array, 400).set([1, 2, 3]));
    expect(await seen()).toEqual([0, 0, 0]);
    await first.run(({ session }) => session.fence());
    expect(await seen()).toEqual([1, 2, 3]);
    const operations: ((stage: import("./cluster.ts").Stage) => unknown)[] = [
      ({ session }) => session.semaphore("s").post(),
      ({ session }) => session.semaphore("s").postSync(),
      ({ session }) => session.semaphore("s").wait(),
      ({ session }) => session.semaphore("s").waitSync(),
      ({ session }) => session.semaphore("s").tryWait(),
      ({ session }) => session.semaphore("s").tryWaitSync(),
      ({ session }) => session.waitFor(session.view(Int32Array), 8000, 1),
      ({ session }) => session.waitForSync(session.view(Int32Array), 8000, 1),
      ({ session }) => session.notify(session.view(Int32Array), 8000),
      ({ session }) => Atomics.add(session.view(Int32Array), 9000, 1),
      ({ session }) => void session.named("n", 8),
      ({ session }) => session.leave(),
    ];
    let before = [1, 2, 3];
    for (const [index, operation] of operations.entries()) {
      const stored = [index + 10, index + 20, index + 30];
      await first.run(({ session }, stored) => session.view(Int32Array, 400).set(stored), stored);
      expect(await seen()).toEqual(before);
      await first.run(operation);
      expect({ operation: String(operation), seen: await seen() }).toEqual({
        operation: String(operation),
        seen: stored,
      });
      before = stored;
    }
  });

  test("a captured store is published whole: over one that came between, and where it changes nothing", async () => {
    const [first, second] = await released();
    const pages = { narrow: 4096, wide: 3 * 4096 };
    await second.run(({ session }, { narrow, wide }) => {
      // Their pages are its own from here on, as they are now.
      session.view(Uint8Array)[narrow + 4000] = 1;
      session.view(Uint8Array)[wide + 4000] = 1;
    }, pages);
    await first.run(({ session }, { narrow, wide }) => {
      for (const offset of [narrow, narrow + 64]) {
        session.view(Uint8Array, offset)[0] = 0xff;
        session.view(Uint16Array, offset + 8)[0] = 0xff;
        session.view(Uint32Array, offset + 16)[0] = 0xff;
        session.view(BigUint64Array, offset + 24)[0] = 0xffn;
      }
      session.view(BigUint64Array, wide, 100).fill(0xffn);
      session.fence();
    }, pages);
    const read = async (puppet: Puppet): Promise<unknown> =>
      puppet.run(async ({ session }, { narrow, wide }) => {
        await session.barrier();
        const words = [narrow, narrow + 64].map((offset) => [
          session.view(Uint8Array, offset)[0],
          session.view(Uint16Array, offset + 8)[0],
          session.view(Uint32Array, offset + 16)[0],
          session.view(BigUint64Array, offset + 24)[0],
        ]);
        return [...words, [...new Set(session.view(BigUint64Array, wide, 100))]];
      }, pages);
    await second.run(async ({ session }, { narrow, wide }) => {
      const fs = await import("node:fs");
      session.view(Uint8Array, narrow)[0] = 0x7f;
      session.view(Uint16Array, narrow + 8)[0] = 0xff00;
      session.view(Uint32Array, narrow + 16)[0] = 0xff000000;
      session.view(BigUint64Array, narrow + 24)[0] = 0xff00000000000000n;
      // What was there when the page became its own.
      session.view(Uint8Array, narrow + 64)[0] = 0;
      session.view(Uint16Array, narrow + 72)[0] = 0;
      session.view(Uint32Array, narrow + 80)[0] = 0;
      session.view(BigUint64Array, narrow + 88)[0] = 0n;
      // One store of 800 bytes: fill() makes several, after which the page would be open.
      const path = `${(await import("node:os")).tmpdir()}/dsm-order-${process.pid}`;
      fs.writeFileSync(path, Buffer.from(new BigUint64Array(100).fill(0xff00000000000000n).buffer));
      const file = fs.openSync(path, "r");
      fs.unlinkSync(path);
      session.readSync(file, session.view(Uint8Array, wide, 800));
      fs.closeSync(file);
      session.fence();
    }, pages);
    const expected = [[0x7f, 0xff00, 0xff000000, 0xff00000000000000n], [0, 0, 0, 0n], [0xff00000000000000n]];
    expect(await Promise.all([read(first), read(second)])).toEqual([expected, expected]);
  });

  test("a process that leaves by the blocking form publishes too", async () => {
    const [first, second] = await released();
    await first.run(({ session }) => {
      session.view(Float64Array).fill(0.5);
      session.leaveSync();
    });
    const all = await second.run(async ({ session }) => {
      await session.barrier();
      return session.view(Float64Array).every((value) => value === 0.5);
    });
    expect(all).toBe(true);
  });

  test.each(["promise", "sync"] as const)(
    "elements that two processes write in turn are all right after a barrier (%s)",
    async (form) => {
      const wrong = await alternate(await released(), form, { bytes: 32_768, words: 4096, rounds: 20 });
      expect(wrong).toEqual(["none", "none"]);
    },
  );

  test("what is stored while a wait is under way hides nothing that others published before its end", async () => {
    const [first, second] = await released();
    const waits: ((stage: import("./cluster.ts").Stage) => Promise<unknown>)[] = [
      ({ session }) => session.barrier(),
      ({ session }) => session.semaphore("s", 0).wait(),
      ({ session }) => session.waitFor(session.view(Int32Array), 8000, 0),
    ];
    const ends: ((stage: import("./cluster.ts").Stage) => unknown)[] = [
      ({ session }) => session.barrier(),
      ({ session }) => session.semaphore("s", 0).post(),
      ({ session }) => {
        // Until the other one sleeps.
        while (session.notify(session.view(Int32Array), 8000) === 0);
      },
    ];
    for (const [index, wait] of waits.entries()) {
      const seen = first.run(
        async (stage, source, index) => {
          const view = stage.session.view(Int32Array, 0, 10);
          const waiting = new Function(`return (${source})`)()(stage) as Promise<unknown>;
          // Opens the page.
          view[index] = 100 + index;
          stage.state.stored = true;
          await waiting;
          return view[5 + index];
        },
        wait.toString(),
        index,
      );
      await eventually("it has stored", () => first.run(({ state }) => state.stored as boolean));
      await first.run(({ state }) => {
        state.stored = false;
      });
      await second.run(({ session }, index) => {
        session.view(Int32Array)[5 + index] = 200 + index;
      }, index);
      await second.run(ends[index] as () => unknown);
      expect({ wait: wait.toString(), seen: await seen }).toEqual({ wait: wait.toString(), seen: 200 + index });
    }
    const all = await second.run(async ({ session }) => {
      await session.semaphore("look", 0).post();
      return [...session.view(Int32Array, 0, 8)];
    });
    expect(all).toEqual([100, 101, 102, 0, 0, 200, 201, 202]);
  });

  test("a counter without atomics that a semaphore guards", async () => {
    const puppets = await released();
    await Promise.all(
      puppets.map((puppet) =>
        puppet.run(async ({ session }) => {
          const semaphore = session.semaphore("mutex");
          const counters = session.view(Float64Array, 0, 1024);
          const add = (): void => {
            (counters[0] as number) += 1;
            (counters[1023] as number) += 1;
          };
          await Promise.all(
            Array.from({ length: 200 }, () =>
              semaphore.use(async () => {
                add();
                await Promise.resolve();
              }),
            ),
          );
          for (let i = 0; i < 200; i += 1) semaphore.useSync(add);
          await session.barrier();
        }),
      ),
    );
    const counts = puppets.map((puppet) =>
      puppet.run(({ session }) => [session.view(Float64Array)[0], session.view(Float64Array)[1023]]),
    );
    expect(await Promise.all(counts)).toEqual([
      [800, 800],
      [800, 800],
    ]);
  });

  test("Atomics are atomic, and hand on what was stored before them", async () => {
    // The atomic variables have a page to themselves.
    const offsets = { turn: 4096, counter: 4096 + 64, data: 0 };
    const counts = await takeTurns(await released(), offsets, { count: 5000, turns: 2000 });
    expect(counts).toEqual([10_000, 10_000]);
  });

  test.each([
    ["JIT-compiled", {}],
    ["interpreted", { BUN_JSC_useJIT: "0" }],
  ])("Atomics.store on every integer type is an atomic operation (%s)", async (_, environment) => {
    const [first, second] = await two(2, { DSM_ORDER: "release", ...environment });
    const types = ["Int8", "Uint8", "Int16", "Uint16", "Int32", "Uint32", "BigInt64", "BigUint64"];
    for (const [index, type] of types.entries()) {
      const seen = second.run(
        ({ session }, type, index) => {
          // biome-ignore lint/suspicious/noExplicitAny: one code for all types
          const view = session.view((globalThis as any)[`${type}Array`], 8192 + 8 * index, 1) as any;
          while (Number(Atomics.load(view, 0)) !== 100);
          return session.view(Int32Array)[index];
        },
        type,
        index,
      );
      await first.run(
        ({ session }, type, index) => {
          // biome-ignore lint/suspicious/noExplicitAny: one code for all types
          const view = session.view((globalThis as any)[`${type}Array`], 8192 + 8 * index, 1) as any;
          const cast = type.startsWith("Big") ? BigInt : Number;
          // Compiled on ordinary memory first.
          const store = new Function("view", "value", "Atomics.store(view, 0, value)");
          const plain = new view.constructor(1);
          for (let i = 0; i < 100_000; i += 1) store(plain, cast(i % 100));
          session.view(Int32Array)[index] = 7;
          // Nothing follows it that would publish.
          store(view, cast(100));
        },
        type,
        index,
      );
      expect([type, await seen]).toEqual([type, 7]);
    }
  });

  test("a hole is published by its filling alone", async () => {
    const [first, second] = await released();
    const seen = (): Promise<number[]> =>
      second.run(async ({ session }) => {
        await session.semaphore("look", 0).post();
        const bytes = session.view(Uint8Array);
        return [bytes[0], bytes[4000], bytes[5000], bytes[9000], bytes[20_000]] as number[];
      });
    await first.run(async ({ session, state }) => {
      state.hole = session.hole({ offset: 4000, length: 6000 });
      session.view(Uint8Array).fill(3, 0, 32_768);
      await session.semaphore("s").wait();
    });
    expect(await seen()).toEqual([3, 0, 0, 0, 3]);
    await first.run(({ state }) => state.hole.fill());
    expect(await seen()).toEqual([3, 3, 3, 3, 3]);
  });

  test("32 MiB written element by element", async () => {
    const puppets = await released("32MiB");
    const sums = puppets.map((puppet) =>
      puppet.run(async ({ session }) => {
        const words = session.view(Uint32Array);
        for (let i = session.rank; i < words.length; i += 2) words[i] = i;
        await session.barrier();
        for (let i = 0; i < words.length; i += 1) if (words[i] !== i) return `element ${i} is ${words[i]}`;
        return "right";
      }),
    );
    expect(await Promise.all(sums)).toEqual(["right", "right"]);
  });
});

describe("pipelined", () => {
  /** Two processes, each a node. */
  const pipelined = (size?: string): Promise<[Puppet, Puppet]> => two(2, { DSM_ORDER: "pipelined" }, size);

  test("what is stored is seen elsewhere without any further operation, and after a fence it is ordered", async () => {
    const [first, second] = await pipelined();
    const seen = second.run(async ({ session }) => {
      const view = session.view(Int32Array);
      const deadline = performance.now() + 60_000;
      while (view[1] !== 7 && performance.now() < deadline) await Bun.sleep(0);
      return [session.order, session.direct, view[0], view[1]];
    });
    await first.run(({ session }) => session.view(Int32Array).set([6, 7]));
    expect(await seen).toEqual(["pipelined", false, 6, 7]);
    for (let round = 1; round <= 20; round += 1) {
      await first.run(({ session }, round) => {
        for (let i = 0; i < 1000; i += 1) session.view(Float64Array, 4096, 1000)[i] = round + i;
        session.fence();
      }, round);
      const right = await second.run(async ({ session }, round) => {
        // What was ordered before this is in place here after it.
        await session.semaphore("look", 0).post();
        return session.view(Float64Array, 4096, 1000).every((value, i) => value === round + i);
      }, round);
      expect([round, right]).toEqual([round, true]);
    }
  });

  test.each(["promise", "sync"] as const)(
    "elements that two processes write in turn are all right after a barrier (%s)",
    async (form) => {
      const wrong = await alternate(await pipelined(), form, { bytes: 4096, words: 2048, rounds: 10 });
      expect(wrong).toEqual(["none", "none"]);
    },
  );

  test("Atomics are atomic, and hand on what was stored before them", async () => {
    const offsets = { turn: 0, counter: 64, data: 128 };
    const counts = await takeTurns(await pipelined(), offsets, { count: 1000, turns: 200 });
    expect(counts).toEqual([2000, 2000]);
  });

  test("many times what the ring holds, by fill, set and element by element", async () => {
    const puppets = await pipelined("8MiB");
    const sums = puppets.map((puppet) =>
      puppet.run(async ({ session }) => {
        const half = session.view(Uint8Array, session.rank * (4 << 20), 4 << 20);
        half.fill(session.rank + 1);
        half.set(new Uint8Array(1 << 20).fill(9), 12_345);
        const words = new Uint32Array(half.buffer, half.byteOffset + (2 << 20), 50_000);
        for (let i = 0; i < words.length; i += 1) words[i] = i;
        await session.barrier();
        for (let rank = 0; rank < 2; rank += 1) {
          const expected = new Uint8Array(4 << 20).fill(rank + 1).fill(9, 12_345, 12_345 + (1 << 20));
          const numbers = new Uint32Array(expected.buffer, 2 << 20, 50_000);
          for (let i = 0; i < numbers.length; i += 1) numbers[i] = i;
          if (Buffer.compare(session.view(Uint8Array, rank * (4 << 20), 4 << 20), expected) !== 0)
            return `half ${rank}`;
        }
        return "right";
      }),
    );
    expect(await Promise.all(sums)).toEqual(["right", "right"]);
  });

  test("a hole is published by its filling alone, and what is stored around it follows the order", async () => {
    const [first, second] = await pipelined();
    await first.run(({ session, state }) => {
      state.hole = session.hole({ offset: 100, length: 9000 });
      session.view(Uint8Array).fill(3, 0, 10_000);
    });
    await second.run(({ session }) => {
      session.view(Uint8Array).fill(4, 9200, 9300);
      session.fence();
    });
    const seen = (puppet: Puppet): Promise<number[]> =>
      puppet.run(async ({ session }) => {
        await session.semaphore("look", 0).post();
        const bytes = session.view(Uint8Array);
        return [99, 100, 5000, 9099, 9100, 9250].map((at) => bytes[at] as number);
      });
    expect([await seen(first), await seen(second)]).toEqual([
      [3, 3, 3, 3, 3, 4],
      [3, 0, 0, 0, 3, 4],
    ]);
    await first.run(({ state }) => state.hole.fill());
    await first.run(({ session }) => session.view(Uint8Array).fill(5, 4999, 5002));
    const filled = [3, 3, 5, 3, 3, 4];
    expect([await seen(first), await seen(second)]).toEqual([filled, filled]);
  });
});

describe("direct mode", () => {
  const direct = (puppets: Puppet[]) =>
    Promise.all(puppets.map((puppet) => puppet.run(({ session }) => session.direct)));

  test("is chosen when all processes are on one node and none refuses", async () => {
    expect(await direct(await together(3, 1, {}))).toEqual([true, true, true]);
    expect(await direct(await together(2, 1, { DSM_ORDER: "release" }))).toEqual([true, true]);
    expect(await direct(await together(2, 1, { DSM_ORDER: "pipelined" }))).toEqual([true, true]);
    expect(await direct(await together(2, 2, {}))).toEqual([false, false]);
    expect(await direct(await together(2, 1, { DSM_DIRECT: "0" }))).toEqual([false, false]);
  });

  test("is off for all when one process does not want it", async () => {
    const session = cluster.sessionName();
    const puppets = await Promise.all([cluster.puppet(), cluster.puppet()]);
    const modes = puppets.map((puppet, index) =>
      puppet.run(
        async ({ dsm }, session, direct) => {
          const joined = await dsm.join({ session, processes: 2, direct });
          joined.view(Uint8Array)[joined.rank] = 1;
          await joined.barrier();
          return [joined.direct, joined.view(Uint8Array)[1 - joined.rank]];
        },
        session,
        index === 0,
      ),
    );
    expect(await Promise.all(modes)).toEqual([
      [false, 1],
      [false, 1],
    ]);
  });

  test.each(["sequential", "release", "pipelined"])(
    "stores, atomics, barriers, semaphores and sleeping work (%s)",
    async (order) => {
      const puppets = await together(2, 1, { DSM_ORDER: order });
      const results = puppets.map((puppet) =>
        puppet.run(async ({ session }) => {
          const { rank } = session;
          const view = session.view(Int32Array, 0, 8192);
          const counters = session.view(Int32Array, 32_768, 3);
          for (let round = 1; round <= 50; round += 1) {
            for (let i = rank; i < view.length; i += 2) view[i] = round * i;
            if ((round + rank) % 2 === 0) await session.barrier();
            else session.barrierSync();
            for (let i = 0; i < view.length; i += 1) if (view[i] !== round * i) return `round ${round}: element ${i}`;
            await session.barrier();
          }
          for (let i = 0; i < 500_000; i += 1) Atomics.add(counters, 0, 1);
          for (let i = 0; i < 200; i += 1) {
            session.semaphore("mutex").useSync(() => {
              (counters[1] as number) += 1;
            });
            await session.semaphore("mutex").use(() => {
              (counters[1] as number) += 1;
            });
          }
          for (let turn = rank; turn < 2000; turn += 2) {
            for (let now = Atomics.load(counters, 2); now !== turn; now = Atomics.load(counters, 2)) {
              await session.waitFor(counters, 2, now);
            }
            Atomics.store(counters, 2, turn + 1);
            session.notify(counters, 2);
          }
          await session.barrier();
          return [...counters];
        }),
      );
      expect(await Promise.all(results)).toEqual([
        [1_000_000, 800, 2000],
        [1_000_000, 800, 2000],
      ]);
    },
  );

  test("holes, blocks and names work", async () => {
    const [first, second] = await two(1, {});
    await first.run(({ session, state }) => {
      const grid = session.named("grid", Uint8Array, 20_000);
      state.hole = session.hole(grid);
      grid.fill(4);
    });
    const middle = () => second.run(({ session }) => session.named("grid", Uint8Array, 20_000)[10_000]);
    expect(await middle()).toBe(0);
    await first.run(({ state }) => state.hole.fill());
    expect(await middle()).toBe(4);
    const all = await second.run(({ session }) => {
      const grid = session.named("grid", Uint8Array, 20_000);
      const right = grid.every((value) => value === 4);
      session.free(grid);
      return [right, session.named("grid", Uint8Array, 20_000).every((value) => value === 0)];
    });
    expect(all).toEqual([true, true]);
  });

  test("system calls write to the map", async () => {
    const [puppet] = (await together(1, 1, {})) as [Puppet];
    const read = await puppet.run(async ({ session }) => {
      const fs = await import("node:fs");
      const descriptor = fs.openSync("/proc/self/exe", "r");
      const view = session.view(Uint8Array, 100, 4);
      fs.readSync(descriptor, view);
      fs.closeSync(descriptor);
      return [...view];
    });
    expect(read).toEqual([0x7f, 0x45, 0x4c, 0x46]);
  });

  test("a lost process is noticed", async () => {
    const [first, second] = await two(1, {});
    const barrier = first.codeOf(({ session }) => session.barrier());
    const sleep = first.codeOf(({ session }) => session.waitFor(session.view(Int32Array), 0, 0));
    second.process.kill("SIGKILL");
    expect([await barrier, await sleep]).toEqual(["DSM_LOST", "DSM_LOST"]);
  });
});
