/**
 * A machine that runs out of room in /dev/shm or of file descriptors. The process that asks gets an error; others go
 * on.
 */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { CHANNEL_REQUESTS_MAX, WAITING_MAX } from "../../src/core/base/limits.ts";
import { encode, encodeText } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { JOINED } from "../../src/core/wire/process-hello.ts";
import { processHello } from "../support/core-cluster.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually, ROOT } from "../support/e2e-cluster.ts";
import { Peer, type Reply } from "../support/e2e-peer.ts";
import { needs } from "../support/needs.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const descriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

/** From now on the process may have so many descriptors. */
function limitFiles(pid: number, files: number): void {
  const { exitCode, stderr } = Bun.spawnSync(["prlimit", `--pid=${pid}`, `--nofile=${files}:1000`]);
  if (exitCode !== 0) throw new Error(stderr.toString());
}

/** A command whose processes, and those they start, may have so many descriptors. */
const withFiles = (files: number, ...command: string[]): string[] => [
  "sh",
  "-c",
  `ulimit -n ${files} && exec "$@"`,
  "sh",
  ...command,
];

/** The same with a /dev/shm of their own. */
const withShm = (size: string, ...command: string[]): string[] => [
  ...["unshare", "-m", "sh", "-c", `mount -t tmpfs -o size=${size} none /dev/shm && exec "$@"`, "sh"],
  ...command,
];

const mounting = needs("namespaces");

mounting.test("a map that does not fit in /dev/shm: joining says so, and the other node is not harmed", async () => {
  const session = cluster.session();
  const common = { session, processes: 2, size: "4MiB" };
  const a = cluster.actor({ ...common, node: "a" });
  const opening = a.do("open");
  await cluster.untilPresent(session, 1);
  const small = cluster.actor({ ...common, node: "b" }, withShm("2m", cluster.program("actor")));
  expect(await small.ask("open")).toMatch(
    /^DSM_NO_MEMORY a map of 4\.5 MiB does not fit in \/dev\/shm, where 2 MiB of 2 MiB are free [^\n]*; choose a smaller --size, or give it more room \(docker run --shm-size\)$/,
  );
  expect(await small.end()).toMatchObject({ code: 0, stderr: "" });
  const b = cluster.actor({ ...common, node: "b" });
  await Promise.all([opening, b.do("open")]);
  await Promise.all([a.do("barrier"), b.do("barrier")]);
  await Promise.all([a.leave(), b.leave()]);
});

for (const order of ["sequential", "release", "pipelined"]) {
  mounting.test(
    `${order}: a /dev/shm that fills up when the map is there does no harm: its memory is reserved`,
    async () => {
      const SIZE = 1 << 20;
      const common = { session: cluster.session(), processes: 2, size: "1MiB", environment: { DSM_ORDER: order } };
      const a = cluster.actor({ ...common, node: "a" }, withShm("4m", cluster.program("actor")));
      const b = cluster.actor({ ...common, node: "b" });
      await Promise.all([a.do("open"), b.do("open")]);
      const fill = ["sh", "-c", "head -c 16m /dev/zero > /dev/shm/rest"];
      const { exitCode } = Bun.spawnSync(["nsenter", `--target=${a.pid}`, "--mount", ...fill], { stderr: "ignore" });
      expect(exitCode).not.toBe(0);
      await b.do(`publish 0 ${SIZE} 3`);
      expect(await a.number(`count 0 ${SIZE} 3`)).toBe(SIZE);
      await a.do(`stos 0 ${SIZE} 4`);
      await a.do("publish 4096 8192 5");
      await a.do("add 0 0");
      await a.do("fence");
      expect(await b.number("count 4096 8192 5")).toBe(8192);
      expect(await b.number(`count 0 ${SIZE} 4`)).toBe(SIZE - 8192);
      await Promise.all([a.leave(), b.leave()]);
    },
  );
}

for (const order of ["sequential", "release", "pipelined"]) {
  test(`${order}: a process out of descriptors: a call that wants one says so, stores and all else go on`, async () => {
    const environment = { DSM_ORDER: order };
    const [a, b] = (await cluster.actors(["a", "b"], { environment })) as [Actor, Actor];
    limitFiles(a.pid, descriptors(a.pid));
    const none = "DSM_LIMIT no further connection to the arbiter: Too many open files";
    for (const call of ["barrier", "wait s 1", "post s", "lock l"])
      expect([call, await a.ask(call)]).toEqual([call, none]);
    if (order !== "release")
      expect(await a.ask("dig 0 8192")).toBe("DSM_LIMIT cannot make the memory of holes: Too many open files");
    // Several threads have one connection between them.
    for (let thread = 0; thread < 8; thread += 1) await a.do(`begin ${thread} stos ${thread * 512} 512 ${thread + 1}`);
    for (let thread = 0; thread < 8; thread += 1) await a.do(`end ${thread}`);
    await a.do("add 8192 3");
    await a.do("add 8192 3");
    limitFiles(a.pid, 100);
    await a.do("fence");
    for (let thread = 0; thread < 8; thread += 1) {
      expect(await b.number(`count ${thread * 512} 512 ${thread + 1}`)).toBe(512);
    }
    expect(await b.number("load 8 8192")).toBe(6);
    await a.do("publish 0 8192 7");
    await Promise.all([a.do("barrier"), b.do("barrier")]);
    expect(await b.number("count 0 8192 7")).toBe(8192);
    await Promise.all([a.leave(), b.leave()]);
  });
}

test("a process that has no descriptors left to join with says so and leaves nothing behind", async () => {
  const session = cluster.session();
  const a = cluster.actor({ session, processes: 2, node: "a" });
  const opening = a.do("open");
  await cluster.untilPresent(session, 1);
  // None for the connection, or too few for what follows it: no process must be lost by that.
  for (const more of [0, 1, 2, 4]) {
    const b = cluster.actor({ session, processes: 2, node: "a" });
    await b.ask("sleep 0");
    limitFiles(b.pid, descriptors(b.pid) + more);
    expect(await b.ask("open")).toMatch(/^DSM_LIMIT .*Too many open files$/);
    expect(await b.end()).toMatchObject({ code: 0, stderr: "" });
  }
  const b = cluster.actor({ session, processes: 2, node: "a" });
  await b.ask("sleep 0");
  limitFiles(b.pid, descriptors(b.pid) + 5);
  await Promise.all([opening, b.do("open")]);
  await b.do("store 4 0 1");
  await Promise.all([a.leave(), b.leave()]);
});

test.each([
  ["Bun", process.execPath],
  ["Node", "node"],
])(
  "a program on %s that has too few descriptors to join with is told DSM_LIMIT, however many it has",
  async (_, runtime) => {
    const program = join(ROOT, "test/client/fixtures/few-files.mjs");
    const ends = new Map<string, number>();
    for (let more = 1; more <= 16; more += 1) {
      const child = cluster.spawn([runtime, program, String(more)], { session: cluster.session(), processes: 1 });
      expect(await child.exited).toBe(0);
      const said = (await child.stdout.text()).trim();
      expect([more, said]).toEqual([more, expect.stringMatching(/^(ok$|DSM_LIMIT .*([Tt]oo many open files|EMFILE))/)]);
      const word = said.split(" ")[0] as string;
      ends.set(word, (ends.get(word) ?? 0) + 1);
    }
    expect([...ends.keys()].sort()).toEqual(["DSM_LIMIT", "ok"]);
  },
);

test("an arbiter at its limit of connections refuses one more with a reason, and serves the others", async () => {
  const common = { session: cluster.session(), processes: 2 };
  // 60 files are 12 connections: 2 of each process are in use, and each waiting thread wants one.
  const a = cluster.actor({ ...common, node: "a" }, withFiles(60, cluster.program("actor")));
  const opening = a.do("open");
  await cluster.untilPresent(common.session, 1);
  const b = cluster.actor({ ...common, node: "b" });
  await Promise.all([opening, b.do("open")]);
  for (let thread = 0; thread < 10; thread += 1) await a.do(`begin ${thread} wait gate 0`);
  await eventually("ten wait", async () => {
    const report = await cluster.command(["true"]).then(() => cluster.status(common.session));
    return report.entries >= 2 + 10;
  });
  expect(await a.ask("barrier")).toBe(
    "DSM_LIMIT no further connection to the arbiter: the arbiter has all the connections it can have; it needs a higher limit of open files",
  );
  await a.do("store 4 0 7");
  await a.do("add 0 1");
  expect(await b.number("load 4 0")).toBe(8);
  // One more process is told as well.
  const late = cluster.actor({ ...common, node: "a" });
  expect(await late.ask("open")).toMatch(/^DSM_LIMIT the arbiter has 12 connections, all it can have/);
  await late.end();
  for (let thread = 0; thread < 10; thread += 1) await b.do("post gate");
  for (let thread = 0; thread < 10; thread += 1) expect(await a.ask(`end ${thread}`)).toBe("ok");
  await Promise.all([a.do("barrier"), b.do("barrier")]);
  await Promise.all([a.leave(), b.leave()]);
});

test("an arbiter that may open hardly any files does not begin, and says so", async () => {
  const a = cluster.actor({ session: cluster.session(), processes: 1 }, withFiles(40, cluster.program("actor")));
  expect(await a.ask("open")).toBe("DSM_LIMIT the arbiter may open 40 files; it needs 56 or more (ulimit -n)");
  await a.end();
});

test("a server at its limit of connections refuses one more with a reason, and serves the others", async () => {
  const processes = 10;
  const session = cluster.session();
  const server = cluster.spawn(withFiles(57, cluster.environment.DSM_BIN as string, "server", "--size=64KiB"), {
    session,
    processes,
  });
  await eventually("the server has registered", async () =>
    (await cluster.sessions()).some(({ name }) => name === session),
  );
  // No arbiter looks for another server when this one ends; one that is not admitted yet begins another session.
  const environment = { DSM_RECONNECT_TIMEOUT_MS: "0", DSM_JOIN_TIMEOUT_MS: "20000" };
  const actors = Array.from({ length: processes }, (_, i) =>
    cluster.actor({ session, processes, node: `n${i}`, environment }),
  );
  const opened = actors.map((actor) => actor.ask("open"));
  const answers = await Promise.race([
    Promise.all(opened),
    // Nine are in and wait for the tenth.
    Promise.any(opened),
  ]);
  expect(answers).toMatch(/^DSM_LIMIT the session's server has 9 connections, all it can have$/);
  server.kill();
  for (const answer of await Promise.all(opened)) expect(answer).toMatch(/^DSM_(LIMIT|UNREACHABLE|TIMEOUT) /);
  await Promise.all(actors.map((actor) => actor.end()));
});

test("a daemon out of descriptors cannot start a server, says so, and goes on", async () => {
  const [a] = (await cluster.actors(["a"])) as [Actor];
  const daemon = cluster.processes("daemon")[0] as number;
  // What asks it is a connection, too; the pipe to a server is what cannot be had.
  limitFiles(daemon, descriptors(daemon) + 1);
  const other = cluster.actor({ session: cluster.session(), processes: 1 });
  expect(await other.ask("open")).toMatch(/^DSM_SYSTEM the server of session ".*" cannot be started: .*EMFILE/);
  await other.end();
  await a.do("barrier");
  limitFiles(daemon, 1000);
  const [again] = (await cluster.actors(["a"])) as [Actor];
  await Promise.all([a.leave(), again.leave()]);
});

test("a process without memory for a page of its hole ends with a message, and only it", async () => {
  const preload = join(cluster.folder, "no_room.so");
  const source = join(ROOT, "test/e2e/programs/no_room.c");
  const { code, stderr } = await cluster.command([
    ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"],
    ...[source, "-o", preload],
  ]);
  expect([code, stderr]).toEqual([0, ""]);
  const common = { session: cluster.session(), processes: 2 };
  const a = cluster.actor({ ...common, node: "a" });
  const b = cluster.actor({ ...common, node: "b", environment: { LD_PRELOAD: preload } });
  await Promise.all([a.do("open"), b.do("open")]);
  await b.do("store 4 0 1");
  await b.do("dig 4096 4096");
  // Loads there go on.
  expect(await b.number("load 4 4096")).toBe(0);
  void b.ask("store 4 4096 7");
  const end = await b.end();
  expect(end).toMatchObject({ signal: "SIGBUS", stderr: expect.stringMatching(/^dsm: .*memory.*\n$/) });
  expect(await a.ask("barrier")).toMatch(/^DSM_LOST process [01] /);
  expect([await a.number("load 4 0"), await a.number("load 4 4096")]).toEqual([1, 0]);
  await a.leave();
});

test("a session at its limit of waiters: one more is refused, others go on, and later processes are admitted", async () => {
  const session = cluster.session();
  // Not in direct mode, which lasts until all who may write to the map have closed it.
  const environment = { DSM_ELASTIC: "1", DSM_ON_LOSS: "continue", DSM_DIRECT: "0" };
  const a = cluster.actor({ session, node: "a", processes: 1, environment });
  await a.do("open");
  // A process that keeps to the frames, but not to what a library would let it do.
  const socket = { unix: cluster.arbiterSocket(session, "a") };
  const greedy = await Peer.connect(socket);
  greedy.send(processHello(session, process.pid));
  const joined = (await greedy.frame()) as Reply;
  expect([joined.kind, joined.op]).toEqual([Kind.REPLY, 0]);
  const token = joined.body.slice(JOINED.token[0], JOINED.token[0] + 8);
  const waits = Buffer.concat(
    Array.from({ length: CHANNEL_REQUESTS_MAX }, (_, tag) =>
      encode({ kind: Kind.SEM_WAIT, tag, body: encodeText(`gate ${tag % 100}`) }),
    ),
  );
  for (let channel = 0; channel < WAITING_MAX / CHANNEL_REQUESTS_MAX; channel += 1) {
    const peer = await Peer.connect(socket);
    peer.send(encodeHandshake(Kind.ATTACH, token, { rank: 1, tag: 1 }));
    expect((await peer.frame())?.op).toBe(0);
    peer.send(waits);
  }
  const limit = /^DSM_LIMIT a limit of the session is reached \(.*waiting requests/;
  await eventually("all of them wait", async () => limit.test(await a.ask("timed other 0 1")));
  expect(await a.ask("wait other 0")).toMatch(limit);
  await a.do("store 8 0 7");
  await a.do("lock free");
  await a.do("try ready 1");
  const late = cluster.actor({ session, node: "b" });
  await late.do("open");
  expect(await late.number("load 8 0")).toBe(7);
  expect(await late.ask("lock free")).toMatch(limit);
  // With the one that waits too much goes all its waiting.
  greedy.end();
  await eventually("there is room again", async () => (await a.ask("timed other 0 1")).startsWith("DSM_TIMEOUT"));
  await Promise.all([a.do("barrier"), late.do("barrier")]);
  await Promise.all([a.leave(), late.leave()]);
});
