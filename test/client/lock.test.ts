/** Locks of the package, in every form, between processes. */
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

type Environment = Record<string, string>;

async function puppets(nodes: number, environment: Environment = {}): Promise<[Puppet, Puppet]> {
  return (await cluster.join({ processes: 2, nodes, environment })) as [Puppet, Puppet];
}

test("every form locks and unlocks the same lock, and refuses a process that is not the owner", async () => {
  const [first, second] = await puppets(2);
  expect(
    await first.run(async ({ session, dsm }) => {
      const lock = session.lock("l");
      const said: unknown[] = [session.onLoss, await lock.tryLock()];
      const code = async (act: () => unknown): Promise<string> => {
        try {
          await act();
          return "nothing";
        } catch (error) {
          return error instanceof dsm.DsmError ? error.code : String(error);
        }
      };
      for (const act of [() => lock.lock(), () => lock.lockSync(), () => lock.tryLock(), () => lock.tryLockSync()]) {
        said.push(await code(act));
      }
      lock.unlockSync();
      said.push(
        await code(() => lock.unlock()),
        await code(() => lock.unlockSync()),
        await code(() => session.lock("a/b")),
      );
      said.push(lock.lockSync({ timeoutMs: 60_000 }), lock.name);
      return said;
    }),
  ).toEqual([
    ...["fail", "ok", "DSM_BUSY", "DSM_BUSY", "DSM_BUSY", "DSM_BUSY"],
    ...["DSM_NOT_OWNER", "DSM_NOT_OWNER", "DSM_INVALID", "ok", "l"],
  ]);
  expect(await second.run(({ session }) => session.lock("l").tryLockSync())).toBe(false);
  expect(await second.run(({ session }) => session.lock("l").tryLock())).toBe(false);
  expect(await second.codeOf(({ session }) => session.lock("l").lock({ timeoutMs: 20 }))).toBe("DSM_TIMEOUT");
  expect(await second.codeOf(({ session }) => session.lock("l").lockSync({ timeoutMs: 20 }))).toBe("DSM_TIMEOUT");
  const waiting = second.run(({ session }) => session.lock("l").lock());
  await first.run(({ session }) => session.lock("l").unlock());
  expect(await waiting).toBe("ok");
});

test("an aborted wait takes nothing, and the lock goes to the next waiter", async () => {
  const [first, second] = await puppets(2);
  await first.run(({ session }) => session.lock("l").lock());
  expect(
    await second.run(async ({ session }) => {
      const controller = new AbortController();
      const waiting = session.lock("l").lock({ signal: controller.signal });
      setTimeout(() => controller.abort(new Error("enough")), 5);
      return waiting.catch((error: Error) => error.message);
    }),
  ).toBe("enough");
  await first.run(({ session }) => session.lock("l").unlock());
  expect(await second.run(({ session }) => session.lock("l").tryLock())).toBe("ok");
});

for (const [what, nodes, environment] of [
  ["over two nodes", 2, {}],
  ["over two nodes, under release", 2, { DSM_ORDER: "release" }],
  ["in direct mode", 1, {}],
] as [string, number, Environment][]) {
  test(`what a lock guards is changed by one at a time, and seen by the next: ${what}`, async () => {
    const both = await puppets(nodes, environment);
    await Promise.all(
      both.map((puppet) =>
        puppet.run(async ({ session }) => {
          const view = session.view(Uint32Array);
          for (let round = 0; round < 40; round += 1) {
            await session.lock("sum").use(() => {
              view[0] = (view[0] as number) + 1;
            });
            session.lock("sum").useSync(() => {
              view[0] = (view[0] as number) + 1;
            });
          }
          await session.barrier();
        }),
      ),
    );
    for (const puppet of both) expect(await puppet.run(({ session }) => session.view(Uint32Array)[0])).toBe(160);
  });

  test(`a lock of the dead passes on in a session that continues: ${what}`, async () => {
    const [first, second] = await puppets(nodes, { ...environment, DSM_ON_LOSS: "continue" });
    await first.run(async ({ session }) => {
      for (const name of ["a", "b", "c"]) await session.lock(name).lock();
    });
    const waiting = second.run(({ session }) => session.lock("a").lock());
    first.process.kill("SIGKILL");
    expect(await waiting).toBe("owner-died");
    expect(
      await second.run(async ({ session }) => {
        const said: unknown[] = [session.onLoss];
        const fail = (outcome: string): never => {
          throw new Error(outcome);
        };
        // An owner that does not make the state consistent passes the lock on as inconsistent.
        said.push(
          await session
            .lock("b")
            .use(fail)
            .catch((error: Error) => error.message),
        );
        try {
          session.lock("b").useSync(fail);
        } catch (error) {
          said.push((error as Error).message);
        }
        said.push(
          session.lock("b").useSync((outcome) => outcome),
          session.lock("b").useSync((outcome) => outcome),
        );
        const c = session.lock("c");
        said.push(c.tryLockSync());
        c.unlockSync({ mended: false });
        said.push(c.lockSync());
        await c.unlock({ mended: false });
        said.push(await c.tryLock());
        await c.unlock();
        said.push(await c.lock());
        session.barrierSync();
        await session.barrier();
        return said;
      }),
    ).toEqual([
      ...["continue", "owner-died", "owner-died", "owner-died", "ok"],
      ...["owner-died", "owner-died", "owner-died", "ok"],
    ]);
  });
}

test("in a session that fails, waiting for a lock fails and unlocking goes on", async () => {
  const [first, second] = await puppets(2);
  await first.run(({ session }) => session.lock("theirs").lock());
  await second.run(({ session }) => session.lock("ours").lock());
  const waiting = second.codeOf(({ session }) => session.lock("theirs").lock());
  first.process.kill("SIGKILL");
  expect(await waiting).toBe("DSM_LOST");
  await second.run(({ session }) => session.lock("ours").unlock());
  expect(await second.codeOf(({ session }) => session.lock("ours").lockSync())).toBe("DSM_LOST");
});
