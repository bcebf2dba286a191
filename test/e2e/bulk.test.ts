/** Much published at once: every byte arrives, no byte that was not written, and all of it or nothing. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const MIB = 1 << 20;

const released = (nodes: string[]) => ({
  ...{ session: cluster.session(), nodes, size: "1MiB", environment: { DSM_ORDER: "release" } },
});

test("two processes on two nodes write bytes of the same doubles and integers between barriers", async () => {
  await cluster.runWell([cluster.program("bulk"), "interleaved"], released(["a", "b"]));
});

test("two holes over the same words, filled at once, each bring the bytes that were written in them", async () => {
  const [a, b] = (await cluster.actors(["a", "b"])) as [Actor, Actor];
  const holes = await Promise.all([a, b].map((actor) => actor.number("dig 4096 8192")));
  for (let at = 0; at < 100; at += 1) await (at % 3 === 0 ? a : b).do(`store 1 ${4096 + 7 * at} ${1 + at}`);
  await Promise.all([a.do(`fill ${holes[0]}`), b.do(`fill ${holes[1]}`)]);
  await Promise.all([a.do("barrier"), b.do("barrier")]);
  for (const actor of [a, b]) {
    for (let at = 0; at < 100; at += 1) expect(await actor.number(`peek 1 ${4096 + 7 * at}`)).toBe(1 + at);
    expect(await actor.number("count 4096 8192 0")).toBe(8192 - 100);
  }
  await Promise.all([a.leave(), b.leave()]);
});

test("a word of which some bytes are published is never seen torn", async () => {
  await cluster.runWell([cluster.program("bulk"), "torn"], released(["a", "a", "b"]));
});

test("of a process killed in the middle of a large publication nothing is seen, and nothing is left", async () => {
  const [a, b, c] = (await cluster.actors(["a", "a", "b"], { size: "32MiB" })) as [Actor, Actor, Actor];
  const hole = await a.number(`dig 4096 ${24 * MIB}`);
  await a.do(`stos 4096 ${24 * MIB} 6`);
  // While its arbiter takes nothing a process is never further than its staging area is large, which is 2 MiB.
  const arbiter = cluster.arbiter(a.session, "a");
  process.kill(arbiter, "SIGSTOP");
  const filled = a.ask(`fill ${hole}`).then(
    () => "filled",
    () => "killed",
  );
  const smaps = (pid: number): string => readFileSync(`/proc/${pid}/smaps`, "latin1");
  // The staging area lies behind the 32 MiB of the map.
  const staged = /^\S+ \S+ 02000000 [^\n]*memfd:dsm-holes[\s\S]*?\nRss: +(\d+) kB/m;
  await eventually("the process has put parts there", () => Number(staged.exec(smaps(a.pid))?.[1]) >= 512);
  a.kill("SIGKILL");
  expect(await filled).toBe("killed");
  process.kill(arbiter, "SIGCONT");
  await cluster.untilState(a.session, 0, "lost");
  for (const actor of [b, c]) expect(await actor.number(`count 0 ${32 * MIB} 6`)).toBe(0);
  expect(smaps(arbiter)).not.toContain("dsm-holes");
  // The same place, by others of the same node and of the other, as if nothing had been.
  for (const [actor, other, value] of [
    [b, c, 7],
    [c, b, 8],
  ] as const) {
    const again = await actor.number(`dig 100 ${9 * MIB}`);
    await actor.do(`stos 100 ${9 * MIB} ${value}`);
    await actor.do(`fill ${again}`);
    // Behind it in the order, so it is on the other node too.
    await other.do("add 0 1");
    expect(await other.number(`count 0 ${32 * MIB} ${value}`)).toBe(9 * MIB);
  }
  await Promise.all([b.leave(), c.leave()]);
});

/** Bytes that a process has touched of memory in which parts of publications lie: its own, and the other side's. */
function partsSeen(pid: number): number[] {
  const own = readdirSync(`/proc/${pid}/fd`).some((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith("/memfd:dsm-parts");
    } catch {
      return false;
    }
  });
  expect(own).toBe(true);
  const smaps = readFileSync(`/proc/${pid}/smaps`, "latin1");
  return [...smaps.matchAll(/memfd:dsm-parts[\s\S]*?\nRss: +(\d+) kB/g)].map(([, kib]) => Number(kib) * 1024);
}

test("between nodes of one host large publications go through shared memory", async () => {
  const [a, b] = (await cluster.actors(["a", "b"], { size: "16MiB" })) as [Actor, Actor];
  const { pid: server } = await cluster.status(a.session);
  const [one, other] = ["a", "b"].map((node) => cluster.arbiter(a.session, node)) as [number, number];
  for (let round = 1; round <= 3; round += 1) await a.do(`publish 0 ${16 * MIB} ${round}`);
  await b.do("add 0 1");
  // The server has its own and those of two arbiters, one of which publishes nothing.
  expect(partsSeen(server).filter((bytes) => bytes >= 16 * MIB).length).toBe(2);
  expect(partsSeen(server).length).toBe(3);
  expect(partsSeen(one).filter((bytes) => bytes >= 16 * MIB).length).toBe(1);
  expect(partsSeen(other).filter((bytes) => bytes >= 16 * MIB).length).toBe(2);
  await a.leave();
  await b.leave();
});

test("a process that publishes a few MiB does not wait for a node that is stopped", async () => {
  const [a, b, c] = (await cluster.actors(["a", "b", "c"], { size: "8MiB" })) as [Actor, Actor, Actor];
  const slow = cluster.arbiter(a.session, "c");
  const hole = await a.number(`dig 0 ${3 * MIB}`);
  await a.do(`stos 0 ${3 * MIB} 6`);
  process.kill(slow, "SIGSTOP");
  try {
    await a.do(`fill ${hole}`);
    await b.do("add 8388600 1");
    for (const actor of [a, b]) expect(await actor.number(`count 0 ${8 * MIB} 6`)).toBe(3 * MIB);
  } finally {
    process.kill(slow, "SIGCONT");
  }
  await c.do("add 8388600 1");
  expect(await c.number(`count 0 ${8 * MIB} 6`)).toBe(3 * MIB);
  await Promise.all([a.leave(), b.leave(), c.leave()]);
});
