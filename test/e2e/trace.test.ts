/** `dsm trace` on a session that does what the test says. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { TraceEvent } from "../../src/core/observe/trace.ts";
import type { Actor } from "../support/e2e-actor.ts";
import type { Child } from "../support/e2e-child.ts";
import { Cluster, DSM, eventually } from "../support/e2e-cluster.ts";
import { checkTraceEvents } from "../support/trace-events.ts";

setDefaultTimeout(90_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

interface Trace {
  displayTimeUnit: string;
  traceEvents: TraceEvent[];
  otherData: { session: string; dropped: number };
}

function read(file: string): Trace {
  const trace = JSON.parse(readFileSync(file, "utf8")) as Trace;
  expect(trace.displayTimeUnit).toBe("ms");
  checkTraceEvents(trace.traceEvents);
  return trace;
}

/** What is on disk of a trace that is under way. */
const part = (file: string): string | undefined =>
  readdirSync(cluster.folder)
    .map((name) => join(cluster.folder, name))
    .find((path) => path.startsWith(`${file}.`));

/** Begins a trace; the file has something when the server has said that it has begun. */
async function begin(session: string, file: string): Promise<Child> {
  const child = cluster.spawn([DSM, "trace", session, "--out", file, "--seconds", "600", "--json"], { session });
  await eventually("the trace has begun", () => {
    const path = part(file);
    return path !== undefined && statSync(path).size > 0;
  });
  return child;
}

test("the waits and stores of a program are in it, with their ranks, places and sizes", async () => {
  const [a, b] = (await cluster.actors(["one", "two"])) as [Actor, Actor];
  const { session } = a;
  const file = join(cluster.folder, "trace.json");
  await b.do("begin 0 barrier");
  await cluster.untilState(session, 1, "barrier");
  const child = await begin(session, file);
  const second = await cluster.dsm(["trace", session, "--out", `${file}2`]);
  expect([second.code, second.stderr]).toEqual([1, "dsm: the session is being traced already; try again\n"]);
  for (let i = 0; i < 5; i += 1) await a.do(`store 8 ${0x100 + 8 * i} 1`);
  const hole = await a.do("dig 0x2000 0x2000");
  await a.do("stos 0x2000 0x1800 7");
  await a.do(`fill ${hole}`);
  await a.do("barrier");
  await b.do("end 0");
  await b.do("add 0x40 1");
  await b.do("begin 0 wait gate 0");
  await cluster.untilState(session, 1, "semaphore");
  child.kill("SIGINT");
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  expect({ stderr, code }).toEqual({ stderr: "", code: 0 });
  const { traceEvents, otherData } = read(file);
  expect(JSON.parse(stdout)).toMatchObject({
    session,
    file,
    events: traceEvents.length,
    dropped: 0,
    serverLost: false,
  });
  expect(otherData).toMatchObject({ session, dropped: 0 });
  expect(part(file)).toBeUndefined();

  const threads = new Map(
    traceEvents.filter(({ name }) => name === "thread_name").map(({ pid, tid, args }) => [args?.name, `${pid} ${tid}`]),
  );
  const [one, two] = [threads.get(`rank 0 (process ${a.pid})`), threads.get(`rank 1 (process ${b.pid})`)];
  const on = (lane: string | undefined) => traceEvents.filter(({ pid, tid }) => `${pid} ${tid}` === lane);
  const instants = (lane: string | undefined) =>
    on(lane)
      .filter(({ ph, cat }) => ph === "i" && cat !== "operation")
      .map(({ name, args }) => [name, args]);
  expect(instants(one)).toEqual([
    ...[0, 1, 2, 3, 4].map((i) => ["store", { offset: `0x${(0x100 + 8 * i).toString(16)}`, bytes: 8 }]),
    ["publication", { bytes: 0x1800 }],
  ]);
  expect(instants(two)).toEqual([["atomic", { offset: "0x40", bytes: 8 }]]);
  const spans = on(two).filter(({ ph }) => ph === "X");
  expect(spans.map(({ name, args }) => [name, args])).toEqual([
    ["in barrier", { "waited before the trace, ms": expect.any(Number) }],
    ['waits for semaphore "gate"', { unfinished: "it still waits" }],
  ]);
  // It had waited when the trace began, and was let go when the other came, behind all it wrote.
  const [barrier] = spans as [TraceEvent];
  const last = on(one).filter(({ name }) => name === "publication")[0] as TraceEvent;
  expect(barrier.ts).toBe(0);
  expect((barrier.ts as number) + (barrier.dur as number)).toBeGreaterThanOrEqual(last.ts as number);
  await a.do("post gate 0");
  await b.do("end 0");
  await Promise.all([a.leave(), b.leave()]);
});

test("it ends after its time, and with the session", async () => {
  const [a, b] = (await cluster.actors(["one", "two"])) as [Actor, Actor];
  const { session } = a;
  const file = join(cluster.folder, "short.json");
  const short = await cluster.dsm(["trace", session, "--out", file, "--seconds", "0.2"]);
  expect(short).toMatchObject({ code: 0, stderr: "" });
  expect(short.stdout).toMatch(/^[\d,]+ events of session "[^"]+" in [2-9]\d\d ms: .* in .*short\.json/);
  read(file);
  const child = await begin(session, file);
  await Promise.all([a.leave(), b.leave()]);
  expect(await child.exited).toBe(0);
  const leaves = read(file).traceEvents.filter(({ name }) => name === "leave");
  expect(leaves).toHaveLength(2);
});

test("that its server was lost is said, and that the session goes on", async () => {
  const [a, b] = (await cluster.actors(["one", "two"])) as [Actor, Actor];
  const { session } = a;
  const file = join(cluster.folder, "lost.json");
  const child = await begin(session, file);
  await a.do("store 8 0x100 1");
  process.kill((await cluster.status(session)).pid, "SIGKILL");
  const [stdout, stderr, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  const said = `dsm: the server of session "${session}" was lost, and another one takes over: the trace ends there; trace it again\n`;
  expect({ stderr, code }).toEqual({ stderr: said, code: 0 });
  const { traceEvents } = read(file);
  expect(JSON.parse(stdout)).toMatchObject({ events: traceEvents.length, serverLost: true });
  await Promise.all([a.do("barrier"), b.do("barrier")]);
  await Promise.all([a.leave(), b.leave()]);
});

test("what is wrong with the command is said, and no file is left", async () => {
  const file = join(cluster.folder, "none.json");
  const refused = async (...args: string[]): Promise<string> => {
    const { code, stderr } = await cluster.dsm(["trace", ...args]);
    expect(code).toBeGreaterThan(0);
    return stderr;
  };
  expect(await refused("nobody", "--out", file)).toContain('there is no session "nobody"');
  expect(await refused("nobody")).toContain("give --out FILE");
  expect(await refused("nobody", "--out", file, "--seconds", "0")).toContain("0.1 to 3600");
  const [a, b] = (await cluster.actors(["one", "two"])) as [Actor, Actor];
  expect(await refused(a.session, "--out", "/nonexistent/x")).toContain("cannot be written");
  expect(existsSync(file)).toBe(false);
  await Promise.all([a.leave(), b.leave()]);
});
