/** Parts that are killed or stopped: who is told what, and what is left behind. */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OUTBOX_HIGH } from "../../src/core/base/limits.ts";
import { arbiterGone, storeLost } from "../support/arbiter-gone.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

async function three(): Promise<[Actor, Actor, Actor]> {
  return (await cluster.actors(["a", "b", "b"])) as [Actor, Actor, Actor];
}

/** A killed arbiter leaves its socket and its map to the next session, whichever it is. */
async function clear(): Promise<void> {
  await cluster.untilSilent();
  const [one] = await cluster.actors(["c"]);
  await one?.leave();
}

const serverOf = async (session: string): Promise<number> => (await cluster.status(session)).pid;

describe("a process that is killed", () => {
  for (const [what, before] of [
    ["doing nothing", []],
    ["with open holes", ["dig 100 5000", "stos 100 5000 7"]],
    ["with a thread that waits", ["begin 0 wait other 0"]],
  ] as const) {
    test(`${what}: those in a barrier or waiting for a semaphore are told which one it was`, async () => {
      const [a, b, c] = await three();
      for (const command of before) await c.do(command);
      const barrier = a.ask("barrier");
      const wait = b.ask("wait s 0");
      await cluster.untilState(a.session, 0, "barrier");
      await cluster.untilState(a.session, 1, "semaphore");
      c.kill("SIGKILL");
      const lost = "DSM_LOST process 2 of the session was lost (it ended without leaving)";
      expect(await barrier).toBe(lost);
      expect(await wait).toBe(lost);
      // Later waits fail, too.
      expect(await b.ask("barrier")).toBe(lost);
      expect(await a.ask("wait s 5")).toBe(lost);
      expect(await a.ask("timed s 5 1000000")).toBe(lost);
      // Memory, posts and leaving go on.
      await b.do("store 4 0 5");
      await b.do("add 0 1");
      await a.do("post s");
      const hole = await b.number("dig 4000 500");
      await b.do("stos 4000 500 3");
      await b.do(`fill ${hole}`);
      expect(await a.number("load 4 0")).toBe(6);
      expect(await a.number("load 1 4499")).toBe(3);
      expect((await cluster.status(a.session)).ranks.map(({ state }) => state)).toEqual(["running", "running", "lost"]);
      await Promise.all([a.leave(), b.leave()]);
    });
  }

  test("that ends without leaving is lost, too", async () => {
    const [a, b, c] = await three();
    expect(await c.end()).toMatchObject({ code: 0, stderr: "" });
    expect(await a.ask("barrier")).toMatch(/^DSM_LOST process 2 /);
    await Promise.all([a.leave(), b.leave()]);
  });

  test("while it joins gives up its place", async () => {
    const session = cluster.session();
    const options = { session, processes: 2, node: "a" };
    const first = cluster.actor(options);
    void first.ask("open");
    await cluster.untilPresent(session, 1);
    const second = cluster.actor({ ...options, node: "b" });
    first.kill("SIGKILL");
    await eventually("its place is free", async () => (await cluster.sessions()).every(({ name }) => name !== session));
    const third = cluster.actor(options);
    await Promise.all([second.do("open"), third.do("open")]);
    await Promise.all([second.do("barrier"), third.do("barrier")]);
    await Promise.all([second.leave(), third.leave()]);
  });

  test("in the midst of storing leaves whole stores only", async () => {
    const [a, b, c] = await three();
    void c.ask("storm 0");
    let last = 0;
    await eventually("the stores come", async () => {
      last = await a.number("load 8 0");
      return last > 50;
    });
    c.kill("SIGKILL");
    await c.end();
    expect(await a.ask("barrier")).toMatch(/^DSM_LOST process 2 /);
    const final = await a.number("load 8 0");
    expect(final).toBeGreaterThanOrEqual(last);
    expect(await b.number("load 8 0")).toBe(final);
    await Promise.all([a.leave(), b.leave()]);
  });
});

describe("an arbiter that is killed", () => {
  test("its processes' calls fail, stores end them with a message, and other nodes learn of the loss", async () => {
    const [a, b, c] = await three();
    await b.do("store 4 0 5");
    const hole = await b.number("dig 8192 4096");
    await b.do("store 4 8192 1");
    const waiting = a.ask("barrier");
    const barrier = b.ask("barrier");
    await cluster.untilState(a.session, 0, "barrier");
    await cluster.untilState(a.session, 1, "barrier");
    process.kill(cluster.arbiter(a.session, "b"), "SIGKILL");
    const gone = `DSM_UNREACHABLE ${arbiterGone(a.session)}`;
    expect(await barrier).toBe(gone);
    expect(await waiting).toMatch(/^DSM_LOST process [12] of the session was lost/);
    for (const call of ["barrier", "wait s 1", "post s", "try s", "timed s 0 5", `fill ${hole}`, "dig 0 10", "fence"]) {
      expect([call, await b.ask(call)]).toEqual([call, gone]);
    }
    // What was there can be read, before leaving and after.
    expect(await b.number("peek 4 0")).toBe(5);
    expect(await b.ask("leave")).toBe(gone);
    expect(await b.number("peek 4 0")).toBe(5);
    expect(await b.end()).toMatchObject({ code: 0, stderr: "" });

    void c.ask("store 4 0 6");
    const { signal, stderr } = await c.end();
    expect(signal).toBe("SIGBUS");
    expect(stderr).toBe(storeLost(a.session));
    await a.leave();
    await clear();
  });

  test("an atomic operation ends its process likewise", async () => {
    const [a, b, c] = await three();
    process.kill(cluster.arbiter(a.session, "b"), "SIGKILL");
    void b.ask("add 0 1");
    void c.ask("stos 0 100 1");
    for (const actor of [b, c]) {
      const { signal, stderr } = await actor.end();
      expect(signal).toBe("SIGBUS");
      expect(stderr).toContain("is gone");
    }
    await a.leave();
    await clear();
  });

  for (const order of ["sequential", "pipelined", "release"])
    test.each([16, 4096, 200_000])(`${order}: a copy of %d bytes ends its process likewise`, async (size) => {
      const environment = { DSM_ORDER: order, DSM_DIRECT: "0" };
      const [a] = await cluster.actors(["a"], { size: "1MiB", environment });
      if (a === undefined) throw new Error("no actor");
      await a.do(`memset 0 ${size} 1`);
      expect(await a.number(`count 0 ${size} 1`)).toBe(size);
      process.kill(cluster.arbiter(a.session, "a"), "SIGKILL");
      expect(await a.ask("barrier")).toMatch(/^DSM_UNREACHABLE /);
      void a.ask(`memset 4096 ${size} 2`);
      expect(await a.end()).toMatchObject({ signal: "SIGBUS", stderr: storeLost(a.session) });
      await clear();
    });
});

test("a server that is killed: another one takes over, and processes notice only a pause", async () => {
  const [a, b, c] = await three();
  await a.do("store 4 64 5");
  const barrier = b.ask("barrier");
  await cluster.untilState(a.session, 1, "barrier");
  process.kill(await serverOf(a.session), "SIGKILL");
  await c.do("store 4 0 6");
  expect([await a.number("load 4 0"), await c.number("peek 4 64")]).toEqual([6, 5]);
  await Promise.all([a.do("barrier"), c.do("barrier")]);
  expect(await barrier).toBe("ok");
  expect((await cluster.status(a.session)).epoch).toBe(2);
  await Promise.all([a, b, c].map((actor) => actor.leave()));
});

test("a daemon that is killed: sessions go on to their end, and the next daemon starts new ones", async () => {
  const [a, b, c] = await three();
  const port = Number(cluster.daemonAddress.split(":")[1]);
  await cluster.killDaemon();
  await a.do("store 4 0 5");
  expect(await b.number("load 4 0")).toBe(5);
  await Promise.all([a, b, c].map((actor) => actor.do("barrier")));
  await cluster.startDaemon(port);
  await Promise.all([a, b, c].map((actor) => actor.leave()));
  const again = await cluster.actors(["a", "b"], { session: a.session });
  await Promise.all(again.map((actor) => actor.do("barrier")));
  await Promise.all(again.map((actor) => actor.leave()));
});

describe("when everything is killed at once", () => {
  for (const [what, sameName] of [
    ["the next session of the name", true],
    ["the next session of any name", false],
  ] as const) {
    test(`${what} works, and clears away what was left`, async () => {
      const [a, b, c] = await three();
      await Promise.all([a, b, c].map((actor) => actor.do("store 8 0 7")));
      const mapsBefore = cluster.maps();
      expect(mapsBefore).toHaveLength(2);
      expect(cluster.sockets()).toHaveLength(2);
      const roles = [cluster.arbiter(a.session, "a"), cluster.arbiter(a.session, "b"), await serverOf(a.session)];
      // Stopped first: none is to see the others' end.
      const all = [...roles, a.pid, b.pid, c.pid];
      for (const signal of ["SIGSTOP", "SIGKILL"] as const) for (const pid of all) process.kill(pid, signal);
      await Promise.all([a, b, c].map((actor) => actor.end()));
      await eventually("the roles have ended", () => roles.every((pid) => !isAlive(pid)));
      // The maps may be gone already: any arbiter of this user that starts, wherever, removes them.
      expect(cluster.sockets()).toHaveLength(2);

      const next = await cluster.actors(["a", "b"], sameName ? { session: a.session } : {});
      expect(cluster.maps().filter((name) => mapsBefore.includes(name))).toEqual([]);
      expect(await next[0]?.number("load 8 0")).toBe(0);
      await Promise.all(next.map((actor) => actor.do("barrier")));
      await Promise.all(next.map((actor) => actor.leave()));
    });
  }
});

test("what was killed before it got so far is cleared away too: locks, and sockets that had no name yet", async () => {
  await clear();
  const folder = join(cluster.runtime, "dsm");
  for (const name of ["a-00.lock", "a-02.other"]) writeFileSync(join(folder, name), "");
  const bind = "import socket, sys\nfor path in sys.argv[1:]: socket.socket(socket.AF_UNIX).bind(path)";
  const [old, young] = ["a-01.sock.0123ab", "a-03.sock.4567cd"].map((name) => join(folder, name)) as [string, string];
  expect(Bun.spawnSync(["python3", "-c", bind, old, young]).exitCode).toBe(0);
  utimesSync(old, 1, 1);
  await clear();
  // The arbiter that did it ends a moment after its last process. What is none of ours stays, and so does a socket that
  // may be
  // about to get its name.
  await eventually("only that is left", () => cluster.sockets().sort().join() === "a-02.other,a-03.sock.4567cd");
  for (const path of [join(folder, "a-02.other"), young]) unlinkSync(path);
});

test("an arbiter that is stopped makes writers wait: queues stay bounded, and then all goes on", async () => {
  const MIB = 1 << 20;
  const [a, b] = (await cluster.actors(["a", "b"], { size: "16MiB" })) as [Actor, Actor];
  const [server, mine, slow] = [
    await serverOf(a.session),
    cluster.arbiter(a.session, "a"),
    cluster.arbiter(a.session, "b"),
  ];
  // All memory of the map is in use before it is measured.
  await a.do(`publish 0 ${16 * MIB} 1`);
  await b.do("load 1 0");
  const before = new Map([server, mine].map((pid) => [pid, residentBytes(pid)]));

  process.kill(slow, "SIGSTOP");
  // 512 MiB: far more than may be queued anywhere.
  const rounds = 32;
  let published = 0;
  const publishing = (async () => {
    for (let i = 2; i < 2 + rounds; i += 1) {
      await a.do(`publish 0 ${16 * MIB} ${i}`);
      published += 1;
    }
  })();
  // No process reports that it waits: all wait when they sleep for a while without using the processor. One that only
  // gets
  // none is ready to run.
  const peak = new Map(before);
  let still = 0;
  let used = "";
  await eventually("the writer waits", async () => {
    await Bun.sleep(10);
    for (const pid of [server, mine]) peak.set(pid, Math.max(peak.get(pid) as number, residentBytes(pid)));
    const now = [server, mine, a.pid].map(processorTime).join();
    still = now === used && [server, mine, a.pid].every(sleeps) ? still + 1 : 0;
    used = now;
    return still === 40;
  });
  expect(published).toBeLessThan(rounds);
  // A queue of OUTBOX_HIGH, what was under way when it was full, publications that are kept until all nodes have them
  // or
  // they have come back, and a garbage collector's generosity.
  const most = 64 * MIB + 2 * OUTBOX_HIGH + 3 * 16 * MIB;
  for (const [pid, bytes] of peak) expect(bytes - (before.get(pid) as number)).toBeLessThan(most);

  process.kill(slow, "SIGCONT");
  await publishing;
  for (const actor of [a, b]) expect(await actor.number(`count 0 ${16 * MIB} ${rounds + 1}`)).toBe(16 * MIB);
  await Promise.all([a.do("barrier"), b.do("barrier")]);
  await Promise.all([a.leave(), b.leave()]);
});

const isAlive = (pid: number): boolean =>
  readdirSync("/proc").includes(String(pid)) && statusOf(pid, "State")[0] !== "Z";

function statusOf(pid: number, field: string): string {
  try {
    return (
      new RegExp(`^${field}:\\s*(.*)$`, "m").exec(readFileSync(join("/proc", String(pid), "status"), "utf8"))?.[1] ?? ""
    );
  } catch {
    return "Z";
  }
}

/** Of the process's own memory: the map in /dev/shm does not count. */
const residentBytes = (pid: number): number => Number.parseInt(statusOf(pid, "RssAnon"), 10) * 1024;

/** Whether no thread of the process runs, or could. */
const sleeps = (pid: number): boolean =>
  readdirSync(`/proc/${pid}/task`).every((task) =>
    /^State:\s+[SDT]/m.test(readFileSync(`/proc/${pid}/task/${task}/status`, "utf8")),
  );

/** Clock ticks the process has run. */
function processorTime(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}
