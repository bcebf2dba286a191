/** A session of the package: joining, views, barriers, leaving. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { eventually } from "../support/eventually.ts";
import { arbiterPid, Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(60_000);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

const two = async (nodes = 2): Promise<[Puppet, Puppet]> =>
  (await cluster.join({ processes: 2, nodes })) as [Puppet, Puppet];
const alone = async (): Promise<Puppet> => (await cluster.join({ processes: 1 }))[0] as Puppet;

/** Runs a file of fixtures/ as a program. */
const program = (fixture: string, environment: Record<string, string>) =>
  Bun.spawn([process.execPath, join(import.meta.dir, "fixtures", fixture)], {
    env: { ...cluster.environment, ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });

describe("joining", () => {
  test("gives each process its rank and the same map", async () => {
    const puppets = await cluster.join({ processes: 3, nodes: 2, size: "10KiB" });
    const facts = await Promise.all(
      puppets.map((puppet) =>
        puppet.run(({ session }) => {
          const { rank, processes, node, size, address, buffer } = session;
          return { rank, processes, node, size, address, bytes: buffer.byteLength };
        }),
      ),
    );
    const address = facts[0]?.address as bigint;
    expect(typeof address).toBe("bigint");
    const common = { processes: 3, size: 12288, bytes: 12288, address };
    expect(facts).toEqual([
      { ...common, rank: 0, node: "node-0" },
      { ...common, rank: 1, node: "node-1" },
      { ...common, rank: 2, node: "node-0" },
    ]);
  });

  test("takes its settings from the environment", async () => {
    const session = cluster.sessionName();
    const environment = { DSM_SESSION: session, DSM_PROCESSES: "2", DSM_SIZE: "8KiB" };
    const puppets = await Promise.all([
      cluster.puppet({ ...environment, DSM_NODE: "left", DSM_RANK: "1" }),
      cluster.puppet({ ...environment, DSM_NODE: "right", DSM_RANK: "0" }),
    ]);
    const facts = await Promise.all(
      puppets.map((puppet) =>
        puppet.run(async ({ dsm }) => {
          const { name, node, rank, processes, size } = await dsm.join();
          return { name, node, rank, processes, size };
        }),
      ),
    );
    expect(facts).toEqual([
      { name: session, node: "left", rank: 1, processes: 2, size: 8192 },
      { name: session, node: "right", rank: 0, processes: 2, size: 8192 },
    ]);
  });

  test("leaves the event loop free", async () => {
    const session = cluster.sessionName();
    const [first, second] = await Promise.all([cluster.puppet(), cluster.puppet()]);
    const act = async ({ dsm }: { dsm: typeof import("dsm") }, session: string): Promise<number> =>
      (await dsm.join({ session, processes: 2, size: 4096 })).rank;
    const joining = first.run(act, session);
    // Timers go off there, and it answers, while it is joining.
    expect(await first.run(() => new Promise((resolve) => setTimeout(resolve, 20, "free")))).toBe("free");
    expect([...(await Promise.all([joining, second.run(act, session)]))].sort()).toEqual([0, 1]);
  });

  test("many sessions at once, whatever the order each process joins them in", async () => {
    const names = Array.from({ length: 8 }, () => cluster.sessionName());
    const puppets = await Promise.all([cluster.puppet({ DSM_NODE: "a" }), cluster.puppet({ DSM_NODE: "b" })]);
    const seen = puppets.map((puppet, index) =>
      puppet.run(
        async ({ dsm }, names, index) => {
          const joins = names.map((session) => dsm.join({ session, processes: 2, size: 4096, rank: index }));
          const sessions = await Promise.all(joins);
          sessions.forEach((session, i) => {
            session.view(Uint8Array)[index] = index === 0 ? i + 1 : 8 - i;
          });
          await Promise.all(sessions.map((session) => session.barrier()));
          const seen = sessions.map((session) => [...session.view(Uint8Array, 0, 2)]);
          await Promise.all(sessions.map((session) => session.leave()));
          return seen;
        },
        index === 0 ? names : names.toReversed(),
        index,
      ),
    );
    const expected = names.map((_, i) => [i + 1, i + 1]);
    expect(await seen[0]).toEqual(expected);
    expect(await seen[1]).toEqual(expected.toReversed());
  });

  test("a session after another in one process", async () => {
    const puppet = await cluster.puppet();
    const sums = await puppet.run(async ({ dsm }, session) => {
      const sums: number[] = [];
      for (let i = 0; i < 20; i += 1) {
        const joined = await dsm.join({ session, processes: 1, size: 4096 });
        const view = joined.view(Uint8Array, 0, 8);
        view[i % 8] = i + 1;
        sums.push(view.reduce((sum, value) => sum + value, 0));
        await joined.leave();
      }
      return sums;
    }, cluster.sessionName());
    // Each begins with zeros.
    expect(sums).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
  });
});

describe("joining fails", () => {
  const codeOfJoin = (puppet: Puppet, options: import("dsm").JoinOptions) =>
    puppet.codeOf(async ({ dsm }, options) => void (await dsm.join(options)), options);

  test("with what the session does not fit, or has no room for", async () => {
    const session = cluster.sessionName();
    const [first, other] = await Promise.all([cluster.puppet(), cluster.puppet()]);
    await first.run(async (stage, session) => {
      stage.session = await stage.dsm.join({ session, processes: 1, size: 4096 });
    }, session);
    expect(await codeOfJoin(other, { session, processes: 2, size: 4096 })).toBe("DSM_MISMATCH");
    expect(await codeOfJoin(other, { session, processes: 1, size: 8192 })).toBe("DSM_MISMATCH");
    expect(await codeOfJoin(other, { session, processes: 1, size: 4096 })).toBe("DSM_FULL");
    expect(await codeOfJoin(other, { session })).toBe("DSM_FULL");
  });

  test("when the others do not come", async () => {
    const puppet = await cluster.puppet();
    const options = { session: cluster.sessionName(), processes: 2, size: 4096, joinTimeoutMs: 200 };
    expect(await codeOfJoin(puppet, options)).toBe("DSM_TIMEOUT");
  });

  test("with a session that is not there, a daemon that is not there, a setting that is wrong", async () => {
    const puppet = await cluster.puppet();
    const session = cluster.sessionName();
    expect(await codeOfJoin(puppet, { session })).toBe("DSM_REFUSED");
    expect(await codeOfJoin(puppet, { session, processes: 1, daemon: "127.0.0.1:1", autostart: false })).toBe(
      "DSM_UNREACHABLE",
    );
    expect(await codeOfJoin(puppet, {})).toBe("DSM_INVALID");
    expect(await codeOfJoin(puppet, { session: "a/b", processes: 1 })).toBe("DSM_INVALID");
  });

  test("without the library or the program, and says what to do", async () => {
    const withoutLibrary = await cluster.puppet({ DSM_LIBRARY: "/nowhere/libdsm.so" });
    const join = withoutLibrary.run(async ({ dsm }) => void (await dsm.join({ session: "s", processes: 1 })));
    expect(await join.catch(String)).toContain('DSM_LIBRARY is "/nowhere/libdsm.so", but there is no such file');
    const noLibrary = await cluster.puppet({ DSM_LIBRARY: import.meta.path });
    expect(await noLibrary.run(async ({ dsm }) => void (await dsm.join({ session: "s" }))).catch(String)).toContain(
      "npm run build",
    );
    const withoutProgram = await cluster.puppet({ DSM_BIN: "/nowhere/dsm" });
    const options = { session: cluster.sessionName(), processes: 1 };
    expect(await codeOfJoin(withoutProgram, options)).toBe("DSM_SYSTEM");
  });
});

describe("views", () => {
  test("of every type, over all or part of the map", async () => {
    const puppet = await alone();
    const shapes = await puppet.run(({ session }) =>
      [
        session.view(Float64Array),
        session.view(Int16Array, 6),
        session.view(BigUint64Array, 8, 3),
        session.view(DataView, 5),
        session.view(DataView, 5, 7),
        session.view(Uint8Array, session.size),
      ].map((view) => [view.constructor.name, view.byteOffset, view.byteLength, view.buffer === session.buffer]),
    );
    expect(shapes).toEqual([
      ["Float64Array", 0, 65536, true],
      ["Int16Array", 6, 65530, true],
      ["BigUint64Array", 8, 24, true],
      ["DataView", 5, 65531, true],
      ["DataView", 5, 7, true],
      ["Uint8Array", 65536, 0, true],
    ]);
  });

  test("that do not fit are refused", async () => {
    const puppet = await alone();
    const codes = await puppet.run(({ session }) => {
      const wrong: [number, number?][] = [
        [4],
        [-8],
        [0.5],
        [Number.NaN],
        [65544],
        [0, 8193],
        [65536, 1],
        [8, -1],
        [8, 1.5],
        [0, Number.POSITIVE_INFINITY],
      ];
      return wrong.map(([offset, length]) => {
        try {
          return session.view(Float64Array, offset, length).length;
        } catch (error) {
          return (error as import("dsm").DsmError).code;
        }
      });
    });
    expect(codes).toEqual(new Array(10).fill("DSM_INVALID"));
  });

  test("are typed", () => {
    type Session = import("dsm").Session;
    // Compiled, not run: the type checker is what is tested.
    const check = (session: Session): void => {
      const floats: Float64Array<ArrayBuffer> = session.view(Float64Array);
      const bigs: BigInt64Array<ArrayBuffer> = session.view(BigInt64Array, 8, 1);
      const data: DataView<ArrayBuffer> = session.view(DataView, 3);
      // @ts-expect-error An element of this one is a bigint.
      const number: number = session.view(BigUint64Array)[0];
      void [floats, bigs, data, number];
    };
    expect(check).toBeFunction();
  });
});

describe("barriers", () => {
  test("time out and are withdrawn, in every form; the next barrier still waits for that process", async () => {
    const [first, second] = (await cluster.join({ processes: 2, nodes: 2 })) as [Puppet, Puppet];
    expect(await first.codeOf(({ session }) => session.barrier({ timeoutMs: 20 }))).toBe("DSM_TIMEOUT");
    expect(await first.codeOf(({ session }) => session.barrierSync({ timeoutMs: 20 }))).toBe("DSM_TIMEOUT");
    expect(await first.codeOf(({ session }) => session.barrier({ timeoutMs: -1 }))).toBe("DSM_INVALID");
    expect(await first.codeOf(({ session }) => session.barrierSync({ timeoutMs: -1 }))).toBe("DSM_INVALID");
    const reason = await first.run(async ({ session }) => {
      const controller = new AbortController();
      const barrier = session.barrier({ signal: controller.signal });
      controller.abort(new Error("enough"));
      return barrier.then(String, (error: Error) => error.message);
    });
    expect(reason).toBe("enough");
    const waits = second.run(({ session }) => session.barrier({ timeoutMs: 2_000_000_000 }));
    await first.run(({ session }) => session.barrierSync({ timeoutMs: 2_000_000_000 }));
    await waits;
  });

  test("wait for all, leave the event loop free, and are one at a time", async () => {
    const [first, second] = await two();
    const waiting = first.run(async ({ session, state }) => {
      state.ticks = 0;
      const timer = setInterval(() => {
        state.ticks += 1;
      }, 1);
      await session.barrier();
      clearInterval(timer);
      return session.view(Int32Array)[0];
    });
    const ticks = (): Promise<number> => first.run(({ state }) => state.ticks);
    await eventually("the timer goes on", async () => (await ticks()) >= 20);
    expect(await first.codeOf(({ session }) => session.barrier())).toBe("DSM_BUSY");
    expect(await first.codeOf(({ session }) => session.barrierSync())).toBe("DSM_BUSY");
    await second.run(({ session }) => {
      session.view(Int32Array)[0] = 42;
      session.barrierSync();
    });
    expect(await waiting).toBe(42);
  });

  test("in every mix of forms", async () => {
    const puppets = await cluster.join({ processes: 3, nodes: 2 });
    const counts = await Promise.all(
      puppets.map((puppet) =>
        puppet.run(async ({ session }) => {
          const view = session.view(Int32Array);
          for (let round = 1; round <= 30; round += 1) {
            view[session.rank] = round;
            if ((round + session.rank) % 2 === 0) await session.barrier();
            else session.barrierSync();
            for (let rank = 0; rank < session.processes; rank += 1) {
              if (view[rank] !== round) return `round ${round}: process ${rank} is at ${view[rank]}`;
            }
            await session.barrier();
          }
          return "done";
        }),
      ),
    );
    expect(counts).toEqual(["done", "done", "done"]);
  });

  test("go on without a process that leaves, and fail when one is lost", async () => {
    const [first, second, third] = (await cluster.join({ processes: 3, nodes: 3 })) as [Puppet, Puppet, Puppet];
    const barriers = [first, second].map((puppet) => puppet.run(({ session }) => session.barrier()));
    await third.run(({ session }) => session.leave());
    await Promise.all(barriers);
    const lost = first.codeOf(({ session }) => session.barrier());
    const waiting = first.codeOf(({ session }) => session.semaphore("s", 0).wait());
    const sleeping = first.codeOf(({ session }) => session.waitFor(session.view(Int32Array), 0, 0));
    second.process.kill("SIGKILL");
    expect(await lost).toBe("DSM_LOST");
    expect(await waiting).toBe("DSM_LOST");
    expect(await sleeping).toBe("DSM_LOST");
    expect(await first.codeOf(({ session }) => session.barrierSync())).toBe("DSM_LOST");
    await first.run(({ session }) => session.leave());
  });
});

describe("leaving", () => {
  test("ends everything but reading", async () => {
    const [first, second] = await two();
    await second.run(({ session }) => session.view(Uint8Array).fill(7, 100, 200));
    const codes = await first.run(async ({ session }) => {
      const semaphore = session.semaphore("s");
      const hole = session.hole({ offset: 4096, length: 4096 });
      const view = session.view(Int32Array);
      await session.semaphore("order").post();
      await session.leave();
      const calls: (() => unknown)[] = [
        () => session.view(Uint8Array),
        () => session.barrier(),
        () => session.barrierSync(),
        () => session.semaphore("s"),
        () => session.hole({ offset: 0, length: 1 }),
        () => session.fence(),
        () => session.alloc(8),
        () => session.named("n", 8),
        () => session.free(view),
        () => session.waitFor(view, 0, 0),
        () => session.waitForSync(view, 0, 0),
        () => session.notify(view, 0),
        () => session.leave(),
        () => session.leaveSync(),
        () => semaphore.wait(),
        () => semaphore.waitSync(),
        () => semaphore.waitSync({ timeoutMs: 1 }),
        () => semaphore.tryWait(),
        () => semaphore.tryWaitSync(),
        () => semaphore.post(),
        () => semaphore.postSync(),
        () => semaphore.use(() => {}),
        () => semaphore.useSync(() => {}),
        () => hole.fill(),
        () => hole.fillSync(),
      ];
      const codes = new Set<string>();
      for (const call of calls) {
        try {
          await call();
          codes.add(`none: ${call}`);
        } catch (error) {
          codes.add((error as import("dsm").DsmError).code);
        }
      }
      const bytes = new Uint8Array(session.buffer);
      return [...codes, bytes[99], bytes[100], bytes[199], bytes[200], session.rank, session.size, session.processes];
    });
    expect(codes).toEqual(["DSM_LEFT", 0, 7, 7, 0, 0, 65536, 2]);
    // The other goes on alone.
    await second.run(({ session }) => session.barrierSync());
  });

  test("rejects what is under way", async () => {
    const [first] = await two();
    const barrier = first.codeOf(({ session }) => session.barrier());
    const wait = first.codeOf(({ session }) => session.semaphore("s", 0).wait());
    const sleep = first.codeOf(({ session }) => session.waitFor(session.view(Int32Array), 0, 0));
    await first.run(({ session }) => session.leave());
    expect([await barrier, await wait, await sleep]).toEqual(["DSM_LEFT", "DSM_LEFT", "DSM_LEFT"]);
  });

  test.each(["0", "1"])("a store after it ends the program with a message (DSM_DIRECT=%s)", async (direct) => {
    const [puppet] = (await cluster.join({ processes: 1, environment: { DSM_DIRECT: direct } })) as [Puppet];
    const store = puppet.run(({ session }) => {
      const view = session.view(Uint8Array);
      session.leaveSync();
      view[0] = 1;
    });
    expect(await store.catch(String)).toContain("dsm: ");
    expect(await puppet.process.exited).not.toBe(0);
  });

  test("at the end of a scope", async () => {
    const puppet = await cluster.puppet();
    for (const scope of ["awaitUsing", "using", "usingThatLeft"]) {
      const code = await puppet.run(
        async ({ dsm, load }, scope, options) => (await load("scopes.ts"))[scope](dsm, options),
        scope,
        {
          session: cluster.sessionName(),
          processes: 1,
          size: 4096,
        },
      );
      expect([scope, code]).toEqual([scope, "DSM_LEFT"]);
    }
  });
});

test("nothing is left behind when all have left", async () => {
  const puppets = await two();
  await Promise.all(puppets.map((puppet) => puppet.run(({ session }) => session.leave())));
  expect(await Promise.all(puppets.map((puppet) => puppet.end()))).toEqual([0, 0]);
  // The arbiters end on their own account.
  await eventually("nothing is left", async () => (await cluster.leftovers()).length === 0);
});

describe("the program's life", () => {
  test("an idle session does not prolong it", async () => {
    const idle = program("idle.ts", { DSM_SESSION: cluster.sessionName(), DSM_PROCESSES: "1" });
    expect(await idle.stdout.text()).toBe("ended by itself\n");
    expect([await idle.exited, await idle.stderr.text()]).toEqual([0, ""]);
  });

  test("a pending barrier does", async () => {
    const session = cluster.sessionName();
    const pending = program("pending.ts", { DSM_SESSION: session, DSM_PROCESSES: "2" });
    const other = await cluster.puppet();
    await other.run(async ({ dsm }, session) => {
      const joined = await dsm.join({ session, processes: 2 });
      await joined.barrier();
      await joined.leave();
    }, session);
    expect(await pending.stdout.text()).toBe("joined\nthrough the barrier\n");
    expect(await pending.exited).toBe(0);
  });

  test("waits reject when the arbiter has ended", async () => {
    const [first] = await two();
    const barrier = first.codeOf(({ session }) => session.barrier());
    const wait = first.codeOf(({ session }) => session.semaphore("s", 0).wait());
    const name = await first.run(({ session }) => session.name);
    process.kill(arbiterPid(name, "node-0"), "SIGKILL");
    expect([await barrier, await wait]).toEqual(["DSM_UNREACHABLE", "DSM_UNREACHABLE"]);
    expect(await first.codeOf(({ session }) => session.barrier())).toBe("DSM_UNREACHABLE");
    expect(await first.codeOf(({ session }) => session.barrierSync())).toBe("DSM_UNREACHABLE");
    expect(await first.codeOf(({ session }) => session.leave())).toBe("DSM_UNREACHABLE");
    // The map is still there to read.
    expect(await first.run(({ session }) => new Uint8Array(session.buffer)[0])).toBe(0);
  });

  test("the end of a scope does not hide that the arbiter has ended", async () => {
    const puppet = await cluster.puppet({ DSM_NODE: "here" });
    for (const scope of ["awaitUsingBroken", "usingBroken"]) {
      const session = cluster.sessionName();
      const broken = puppet.codeOf(
        async ({ dsm, state, load }, scope, session) => {
          const { promise, resolve } = Promise.withResolvers<void>();
          state.joined = promise;
          await (await load("scopes.ts"))[scope](dsm, { session, processes: 1, size: 4096 }, resolve);
        },
        scope,
        session,
      );
      await puppet.run(({ state }) => state.joined);
      process.kill(arbiterPid(session, "here"), "SIGKILL");
      expect(await broken).toBe("DSM_UNREACHABLE");
    }
  });

  test("a wild pointer ends it as without dsm", async () => {
    const crash = async (environment: Record<string, string>) => {
      const wild = program("wild.ts", environment);
      const stderr = await wild.stderr.text();
      await wild.exited;
      return { signal: wild.signalCode, report: stderr.match(/^.*(?:panic|Segmentation fault at address).*$/gm) };
    };
    const without = await crash({});
    expect(without.report?.join()).toContain("0xDEAD0");
    expect(await crash({ DSM_SESSION: cluster.sessionName(), DSM_PROCESSES: "1" })).toEqual(without);
  });
});
