/** What a program is told does not depend on the form of the call: the promise forms and the Sync forms say the same. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { arbiterGone } from "../support/arbiter-gone.ts";
import { arbiterPid, Cluster, type Puppet } from "./cluster.ts";

// They start real processes, on machines that may be busy.
setDefaultTimeout(180_000);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.endPuppets());
afterAll(() => cluster[Symbol.asyncDispose]());

/** Pairs of the outcome of the promise form and of the Sync form. */
const pairs = (outcomes: unknown[]): [unknown, unknown][] =>
  Array.from({ length: outcomes.length / 2 }, (_, i) => [outcomes[2 * i], outcomes[2 * i + 1]]);

const twice = (outcome: unknown): [unknown, unknown] => [outcome, outcome];

test("of what other processes have, and of what the arbiter refuses", async () => {
  const [first, second] = (await cluster.join({ processes: 2, nodes: 2 })) as [Puppet, Puppet];
  await first.run(({ session }) => session.lock("l").lock());
  const others = await second.run(async ({ session, load }) => {
    const { outcomes } = await load("outcomes.ts");
    const lock = session.lock("l");
    const semaphore = session.semaphore("s", 0);
    const full = session.semaphore("full", 2147483647);
    const turn = session.alloc(Int32Array, 1);
    return outcomes([
      ...[() => lock.lock({ timeoutMs: 3 }), () => lock.lockSync({ timeoutMs: 3 })],
      ...[() => lock.tryLock(), () => lock.tryLockSync()],
      ...[() => lock.unlock(), () => lock.unlockSync()],
      ...[() => semaphore.wait({ timeoutMs: 3 }), () => semaphore.waitSync({ timeoutMs: 3 })],
      ...[() => semaphore.tryWait(), () => semaphore.tryWaitSync()],
      ...[() => full.post(), () => full.postSync()],
      ...[() => session.barrier({ timeoutMs: 3 }), () => session.barrierSync({ timeoutMs: 3 })],
      ...[() => session.waitFor(turn, 0, 1), () => session.waitForSync(turn, 0, 1)],
      () => session.waitFor(turn, 0, 0, { timeoutMs: 3 }),
      () => session.waitForSync(turn, 0, 0, { timeoutMs: 3 }),
    ]);
  });
  expect(pairs(others)).toEqual([
    twice('DSM_TIMEOUT other processes had lock "l" for 3 ms'),
    twice(false),
    twice('DSM_NOT_OWNER this process does not have lock "l"'),
    twice('DSM_TIMEOUT semaphore "s" stayed 0 for 3 ms'),
    twice(false),
    twice("DSM_OVERFLOW the semaphore has its largest value already"),
    twice("DSM_TIMEOUT process 0 was not in the barrier within 3 ms"),
    twice("not-equal"),
    twice("timed-out"),
  ]);
  const own = await first.run(async ({ session, state, load }) => {
    const { outcomes } = await load("outcomes.ts");
    const lock = session.lock("l");
    // The other process leaves below: this barrier is passed then.
    state.barrier = session.barrier();
    return outcomes([
      ...[() => lock.lock(), () => lock.lockSync()],
      ...[() => lock.tryLock(), () => lock.tryLockSync()],
      ...[() => session.barrier(), () => session.barrierSync()],
    ]);
  });
  expect(pairs(own)).toEqual([
    twice('DSM_BUSY this process has lock "l", or waits for it, already'),
    twice('DSM_BUSY this process has lock "l", or waits for it, already'),
    twice("DSM_BUSY this process is in a barrier already"),
  ]);
  await second.run(({ session }) => session.leave());
  const left = await second.run(async ({ session, load }) => {
    const { outcomes } = await load("outcomes.ts");
    return outcomes([() => session.barrier(), () => session.barrierSync()]);
  });
  const leaving = `DSM_LEFT this process has left session "${await first.run(({ session }) => session.name)}"`;
  expect(pairs(left)).toEqual([twice(leaving)]);
  await first.run(({ state }) => state.barrier as Promise<void>);
});

test("of a process that was lost, and of one that died with a lock", async () => {
  for (const onLoss of ["fail", "continue"]) {
    const [first, second] = (await cluster.join({ processes: 2, environment: { DSM_ON_LOSS: onLoss } })) as [
      Puppet,
      Puppet,
    ];
    const rank = await second.run(async ({ session }) => {
      for (const name of ["a", "b", "c", "d"]) await session.lock(name).lock();
      return session.rank;
    });
    second.process.kill("SIGKILL");
    await second.process.exited;
    const told = await first.run(async ({ session, load }) => {
      const { outcomes } = await load("outcomes.ts");
      const [a, b, c, d] = ["a", "b", "c", "d"].map((name) => session.lock(name));
      return outcomes([
        ...[() => a!.lock(), () => b!.lockSync()],
        // By now the loss is known: these do not wait.
        ...[() => c!.tryLock(), () => d!.tryLockSync()],
        ...[() => session.barrier(), () => session.barrierSync()],
      ]);
    });
    const lost = `DSM_LOST process ${rank} of the session was lost (it ended without leaving)`;
    expect(pairs(told)).toEqual(
      onLoss === "fail"
        ? [twice(lost), twice(lost), twice(lost)]
        : [twice("owner-died"), twice("owner-died"), twice(undefined)],
    );
    await cluster.endPuppets();
  }
});

test("of an arbiter that has ended", async () => {
  const [puppet] = (await cluster.join({ processes: 1, environment: { DSM_DIRECT: "0" } })) as [Puppet];
  const { name, node } = await puppet.run(({ session }) => ({ name: session.name, node: session.node }));
  // Without an end of its own: it ends when the connection does.
  const waiting = puppet.codeOf(({ session }) => session.semaphore("s", 0).wait());
  process.kill(arbiterPid(name, node), "SIGKILL");
  expect(await waiting).toBe("DSM_UNREACHABLE");
  const told = await puppet.run(async ({ session, load }) => {
    const { outcomes } = await load("outcomes.ts");
    const lock = session.lock("l");
    const semaphore = session.semaphore("s", 0);
    return outcomes([
      ...[() => lock.lock(), () => lock.lockSync()],
      ...[() => semaphore.post(), () => semaphore.postSync()],
      ...[() => session.barrier(), () => session.barrierSync()],
    ]);
  });
  const gone = twice(`DSM_UNREACHABLE ${arbiterGone(name)}`);
  expect(pairs(told)).toEqual([gone, gone, gone]);
  // A killed arbiter leaves its socket, which the next one removes.
  const [next] = (await cluster.join({ processes: 1 })) as [Puppet];
  await next.run(({ session }) => session.leave());
});
