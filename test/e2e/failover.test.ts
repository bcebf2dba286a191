/** Connections that break or fall silent, servers that die or stop, daemons that die: sessions go on. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, DSM, eventually } from "../support/e2e-cluster.ts";
import { NodeProxy } from "../support/e2e-proxy.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
const proxies: NodeProxy[] = [];
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(async () => {
  await cluster.settled();
  for (const proxy of proxies.splice(0)) proxy.close();
});
afterAll(() => cluster.close());

/** How long a silence may last: longer than a process that runs goes without the processor on a busy machine. */
const SILENCE_MS = 2000;
const HEARTBEAT = { DSM_HEARTBEAT_TIMEOUT_MS: String(SILENCE_MS) };
const ROUNDS = 200;

/** A session whose arbiters reach the server through a proxy. */
async function throughProxy(
  environment: Record<string, string> = {},
  size = 65536,
): Promise<[NodeProxy, Actor, Actor]> {
  const proxy = new NodeProxy(cluster.daemonAddress);
  proxies.push(proxy);
  const through = { ...environment, DSM_DAEMON: proxy.address };
  const [a, b] = (await cluster.actors(["a", "b"], { environment: through, size: `${size}` })) as [Actor, Actor];
  expect(proxy.connections).toBe(2);
  return [proxy, a, b];
}

const serverOf = async (session: string): Promise<number> => (await cluster.status(session)).pid;

/** Both add, store and meet in barriers while `disturb` does what it does; then nothing is lost or done twice. */
async function work(a: Actor, b: Actor, disturb: (round: number) => void | Promise<void>): Promise<void> {
  const each = async (actor: Actor, place: number): Promise<void> => {
    for (let round = 1; round <= ROUNDS; round += 1) {
      if (actor === a) await disturb(round);
      expect(await actor.ask("add 0 1")).toMatch(/^ok /);
      await actor.do(`store 4 ${place} ${round}`);
      if (round % 100 === 0) {
        await actor.do("barrier");
        expect(await actor.number(`load 4 ${place === 64 ? 128 : 64}`)).toBeGreaterThanOrEqual(round);
        await actor.do(`publish 4096 8192 ${round / 100}`);
      }
    }
    await actor.do("barrier");
  };
  await Promise.all([each(a, 64), each(b, 128)]);
  for (const actor of [a, b]) {
    expect(await actor.number("load 8 0")).toBe(2 * ROUNDS);
    expect(await actor.number("load 4 64")).toBe(ROUNDS);
    expect(await actor.number("load 4 128")).toBe(ROUNDS);
    expect(await actor.number(`count 4096 8192 ${ROUNDS / 100}`)).toBe(8192);
  }
  await Promise.all([a.do("barrier"), b.do("barrier")]);
  await Promise.all([a.leave(), b.leave()]);
}

/** Both publish all of the map in turn, again and again, while `disturb` does what it does in the middle of it. */
async function publish(
  a: Actor,
  b: Actor,
  size: number,
  disturb: (round: number) => void | Promise<void>,
): Promise<void> {
  for (let round = 1; round <= 12; round += 1) {
    const [one, other] = round % 2 === 0 ? [a, b] : [b, a];
    const published = one.do(`publish 0 ${size} ${round}`);
    await disturb(round);
    await published;
    await Promise.all([a.do("barrier"), b.do("barrier")]);
    for (const actor of [one, other]) expect(await actor.number(`count 0 ${size} ${round}`)).toBe(size);
    await Promise.all([a.do("barrier"), b.do("barrier")]);
  }
  await Promise.all([a.leave(), b.leave()]);
}

describe("a connection between arbiter and server", () => {
  test("that is cut again and again is made again, and nothing is lost or done twice", async () => {
    const [proxy, a, b] = await throughProxy();
    await work(a, b, (round) => {
      if (round % 30 === 0) proxy.cut();
    });
    expect(proxy.connections).toBeGreaterThan(6);
  });

  test("that is cut in the middle of large publications is made again, and they are there as a whole", async () => {
    const size = 4 << 20;
    const [proxy, a, b] = await throughProxy({}, size);
    await publish(a, b, size, async (round) => {
      await Bun.sleep(round % 4);
      proxy.cut();
    });
    expect(proxy.connections).toBeGreaterThan(6);
  });

  test("on which no data pass is closed and made again", async () => {
    const [proxy, a, b] = await throughProxy(HEARTBEAT);
    await work(a, b, async (round) => {
      if (round === 50) proxy.silence();
    });
  });

  test("that is not made again in time ends the session for its node, and the others learn of the loss", async () => {
    const [proxy, a, b] = await throughProxy({ DSM_RECONNECT_TIMEOUT_MS: "0" });
    const barrier = a.ask("barrier");
    await cluster.untilState(a.session, 0, "barrier");
    proxy.cut();
    expect(await barrier).toMatch(/^DSM_UNREACHABLE /);
    expect(await b.ask("barrier")).toMatch(/^DSM_UNREACHABLE /);
  });
});

test("an arbiter that is stopped for longer than a silence may last comes back", async () => {
  const [a, b] = (await cluster.actors(["a", "b"], { environment: HEARTBEAT })) as [Actor, Actor];
  const arbiter = cluster.arbiter(a.session, "a");
  await work(a, b, async (round) => {
    if (round !== 50) return;
    process.kill(arbiter, "SIGSTOP");
    await Bun.sleep(2 * SILENCE_MS);
    process.kill(arbiter, "SIGCONT");
  });
});

describe("a server", () => {
  for (const order of ["sequential", "release", "pipelined"]) {
    test(`that is killed again and again is followed by others: ${order} order`, async () => {
      const [a, b] = (await cluster.actors(["a", "b"], { environment: { DSM_ORDER: order } })) as [Actor, Actor];
      const { session } = a;
      await work(a, b, async (round) => {
        if (round % 100 === 50) process.kill(await serverOf(session), "SIGKILL");
      });
    });
  }

  test("that is killed in the middle of large publications is followed by others, and they are there as a whole", async () => {
    const [a, b] = (await cluster.actors(["a", "b"], { size: "4MiB" })) as [Actor, Actor];
    const { session } = a;
    await publish(a, b, 4 << 20, async (round) => {
      if (round % 4 !== 3) return;
      const pid = await serverOf(session);
      process.kill(pid, "SIGKILL");
    });
  });

  test("that is killed together with an arbiter: what the others were told stays, and they learn of the loss", async () => {
    const environment = { DSM_ON_LOSS: "continue", DSM_RECONNECT_TIMEOUT_MS: "10000" };
    const actors = await cluster.actors(["a", "b", "c"], { environment });
    const [a, b, c] = actors as [Actor, Actor, Actor];
    await b.do("lock door");
    for (let round = 1; round <= 20; round += 1) {
      await Promise.all([a.do("add 0 1"), b.do("add 0 1"), c.do("add 0 1")]);
      await a.do(`store 4 64 ${round}`);
    }
    const doomed = [await serverOf(a.session), cluster.arbiter(a.session, "b")];
    for (const pid of doomed) process.kill(pid, "SIGKILL");
    await a.do("store 4 128 7");
    expect(await c.ask("lock door")).toMatch(/^DSM_OWNER_DIED process 1 /);
    expect(await c.number("load 8 0")).toBe(60);
    expect([await c.number("load 4 64"), await c.number("load 4 128")]).toEqual([20, 7]);
    expect(await b.ask("barrier")).toMatch(/^DSM_UNREACHABLE /);
    await Promise.all([a.do("barrier"), c.do("barrier")]);
    await Promise.all([a.leave(), c.leave()]);
    await b.end();
    await cluster.untilSilent();
    // Clears away what the arbiter left.
    const [next] = await cluster.actors(["b"]);
    await next?.leave();
  });

  test("of an elastic session that is killed is followed by another, and processes that join then have everything", async () => {
    const session = cluster.session();
    const environment = { DSM_ELASTIC: "1" };
    const [a, b] = ["a", "b"].map((node) => cluster.actor({ session, node, processes: 1, environment })) as [
      Actor,
      Actor,
    ];
    await a.do("open");
    await b.do("open");
    await b.do("store 4 64 7");
    process.kill(await serverOf(session), "SIGKILL");
    await a.do("store 4 128 8");
    const c = cluster.actor({ session, node: "c", environment });
    await c.do("open");
    expect([await c.number("load 4 64"), await c.number("load 4 128")]).toEqual([7, 8]);
    await Promise.all([a, b, c].map((actor) => actor.do("barrier")));
    await Promise.all([a, b, c].map((actor) => actor.leave()));
  });

  test("that only stops, out of reach of the daemon, ends an elastic session, whose nodes are not all known", async () => {
    const session = cluster.session();
    const old = cluster.spawn([DSM, "server", "--size=64KiB", "--elastic"], { session, processes: 1 });
    await eventually("the session is there", async () =>
      (await cluster.sessions()).some(({ name }) => name === session),
    );
    const environment = { ...HEARTBEAT, DSM_ELASTIC: "1", DSM_DIRECT: "0", DSM_RECONNECT_TIMEOUT_MS: "4000" };
    const a = cluster.actor({ session, node: "a", processes: 1, environment });
    await a.do("open");
    old.kill("SIGSTOP");
    expect(await a.ask("barrier")).toMatch(/^DSM_UNREACHABLE /);
  });

  test("that is killed while a session is direct is followed by another", async () => {
    const [a, b] = (await cluster.actors(["a", "a"])) as [Actor, Actor];
    const { session } = a;
    expect((await cluster.status(session)).direct).toBe(true);
    await work(a, b, async (round) => {
      if (round === 50) process.kill(await serverOf(session), "SIGKILL");
    });
  });

  test("that stops, is replaced and wakes up again is ignored by all, and ends", async () => {
    const session = cluster.session();
    // By hand: the daemon cannot end it.
    const old = cluster.spawn([DSM, "server", "--size=64KiB"], { session, processes: 2 });
    await eventually("the session is there", async () =>
      (await cluster.sessions()).some(({ name }) => name === session),
    );
    const [a, b] = (await cluster.actors(["a", "b"], { session, environment: HEARTBEAT })) as [Actor, Actor];
    expect(await serverOf(session)).toBe(old.pid);
    await work(a, b, async (round) => {
      if (round === 50) old.kill("SIGSTOP");
      if (round === 180) {
        expect((await cluster.status(session)).epoch).toBe(2);
        old.kill("SIGCONT");
        expect(await old.exited).toBe(0);
      }
    });
  });
});

describe("a daemon that is killed", () => {
  test("and started again learns of the sessions that go on", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    const port = Number(cluster.daemonAddress.split(":")[1]);
    await cluster.killDaemon();
    await cluster.startDaemon(port);
    const known = async (): Promise<boolean> => (await cluster.sessions()).some(({ name }) => name === a.session);
    await eventually("the daemon knows the session", known);
    // And can start another server for it.
    await work(a, b, async (round) => {
      if (round === 50) process.kill(await serverOf(a.session), "SIGKILL");
    });
  });

  test("and then the server: the new daemon, which need not know it, starts another", async () => {
    const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
    const port = Number(cluster.daemonAddress.split(":")[1]);
    const server = await serverOf(a.session);
    await cluster.killDaemon();
    await cluster.startDaemon(port);
    // Before, or just when, it tells the new daemon of itself.
    process.kill(server, "SIGKILL");
    await work(a, b, () => {});
  });
});
