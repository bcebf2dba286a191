/** What the daemon says of a session whose true figures are known. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { WATCHERS_MAX } from "../../src/core/base/limits.ts";
import type { RankStatus, SessionDetail } from "../../src/core/messages/daemon-api.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";

setDefaultTimeout(90_000);

const KIB = 1024;
let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const url = (session: string, rest: string): string =>
  `http://${cluster.daemonAddress}/v1/sessions/${encodeURIComponent(session)}${rest}`;

async function detail(session: string): Promise<SessionDetail> {
  return (await (await fetch(url(session, "?heat=1"))).json()) as SessionDetail;
}

async function pair(): Promise<[Actor, Actor]> {
  return (await cluster.actors(["one", "two"])) as [Actor, Actor];
}

test("counts, states, semaphores, locks, blocks, heat and bytes are those of the session", async () => {
  const [a, b] = await pair();
  const { session } = a;
  const before = await detail(session);
  for (let i = 0; i < 10; i += 1) await a.do(`store 8 ${0x1000 + 8 * i} ${i + 1}`);
  await b.do("add 0x2000 5");
  await b.do("store 4 0x2010 7");
  const [grid] = [await a.number("named grid 4096"), await b.number("named grid 4096")];
  await a.do("lock queue");
  await b.do("post gate 0");
  await b.do("begin 0 lock queue");
  await cluster.untilState(session, 1, "lock");
  const blocked = await detail(session);
  expect(blocked).toMatchObject({
    ...{ answered: true, started: true, direct: false, present: 2 },
    locks: [{ name: "queue", owner: 0, waiters: [1] }],
    semaphores: [{ name: "gate", value: 1, waiters: [] }],
    blocks: [{ name: "grid", offset: grid, size: 4096 }],
    ...{ semaphoresLeftOut: 0, locksLeftOut: 0, blocksLeftOut: 0 },
  });
  const [first, second] = blocked.ranks as [RankStatus, RankStatus];
  expect(first).toMatchObject({ rank: 0, node: "one", pid: a.pid, state: "running", holds: ["queue"] });
  expect(second).toMatchObject({ rank: 1, node: "two", pid: b.pid, state: "lock", on: "queue" });
  // Each joined, named a block and took a lock; the rest is what it wrote.
  expect(first).toMatchObject({ entries: 10 + 3, bytes: 80 });
  expect(second).toMatchObject({ entries: 2 + 4, bytes: 12 });
  expect(blocked.bytes - before.bytes).toBe(92);
  expect(blocked.entries).toBe(first.entries + second.entries);
  expect(blocked.time_ms).toBeGreaterThanOrEqual(before.time_ms);
  expect(blocked.started_ms).toBeGreaterThanOrEqual(before.started_ms);
  expect(first.lastWriteMs).toBeGreaterThanOrEqual(second.lastWriteMs as number);

  const heat = blocked.heat as NonNullable<SessionDetail["heat"]>;
  expect([heat.cell, heat.writers.length]).toEqual([64, (64 * KIB) / 64]);
  const hot = heat.writes.flatMap((writes, cell) => (writes > 0 ? [[cell * 64, heat.writers[cell], writes]] : []));
  expect(hot).toEqual([
    [0x1000, 0, 8],
    [0x1040, 0, 2],
    [0x2000, 1, 2],
  ]);
  const later = await detail(session);
  expect((later.ranks[1] as RankStatus).stateMs).toBeGreaterThanOrEqual(second.stateMs);

  const memory = await fetch(url(session, "/memory?offset=4096&length=80"));
  expect(memory.headers.get("content-type")).toBe("application/octet-stream");
  const words = new BigUint64Array(await memory.arrayBuffer());
  expect([...words]).toEqual([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n, 9n, 10n]);

  await a.do("unlock queue");
  await b.do("end 0");
  await b.do("unlock queue");
  await a.do("begin 0 barrier");
  await cluster.untilState(session, 0, "barrier");
  expect((await detail(session)).barriers).toBe(0);
  await b.do("barrier");
  await a.do("end 0");
  expect((await detail(session)).barriers).toBe(1);
  const metrics = await fetch(`http://${cluster.daemonAddress}/metrics`);
  expect(metrics.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
  const lines = (await metrics.text()).split("\n");
  expect(lines).toContain(`dsm_session_barriers_total{session="${session}"} 1`);
  expect(lines).toContain(`dsm_rank_written_bytes_total{session="${session}",rank="0",node="one"} 80`);
  await eventually("both nodes have a round trip", async () =>
    (await detail(session)).ranks.every(({ roundTripUs }) => (roundTripUs ?? 0) > 0),
  );
  await Promise.all([a.leave(), b.leave()]);
});

test("what is not in the map is not read, and in direct mode nothing", async () => {
  const [a, b] = await pair();
  const problem = async (session: string, query: string) => {
    const answer = await fetch(url(session, query));
    return [answer.status, ((await answer.json()) as { error: { message: string } }).error.message];
  };
  const range = (most: number): string => `it must be a whole number from 1 to ${most}`;
  expect(await problem(a.session, "/memory?offset=65536&length=1")).toEqual([
    ...[400, "offset is 65536; it must be a whole number from 0 to 65535"],
  ]);
  expect(await problem(a.session, "/memory?offset=65535&length=2")).toEqual([400, `length is 2; ${range(1)}`]);
  expect(await problem(a.session, "/memory?offset=x")).toEqual([400, "offset is not a whole number"]);
  expect((await fetch(url("nobody", "/memory"))).status).toBe(404);
  expect((await fetch(url(a.session, "/memory"), { method: "POST" })).status).toBe(405);
  await Promise.all([a.leave(), b.leave()]);
  const [direct] = (await cluster.actors(["one"])) as [Actor];
  const [status, message] = await problem(direct.session, "/memory?offset=0&length=8");
  expect([status, message]).toEqual([409, expect.stringContaining("direct mode")]);
  await direct.leave();
});

/** Reads server-sent events. */
async function* events(response: Response): AsyncGenerator<{ event: string; data: SessionDetail }> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of response.body as ReadableStream<Uint8Array>) {
    const whole = (rest + decoder.decode(chunk, { stream: true })).split("\n\n");
    rest = whole.pop() as string;
    for (const text of whole) {
      const event = /^event: (.*)$/m.exec(text)?.[1] ?? "message";
      yield { event, data: JSON.parse(/^data: (.*)$/m.exec(text)?.[1] as string) };
    }
  }
}

test("watchers get samples periodically, and the end", async () => {
  const [a, b] = await pair();
  const response = await fetch(url(a.session, "/watch?interval_ms=100"));
  expect([response.status, response.headers.get("content-type")]).toEqual([200, "text/event-stream"]);
  let seen = 0;
  let last = "";
  let isLeaving = false;
  for await (const { event, data } of events(response)) {
    last = event;
    if (event === "end") break;
    seen += 1;
    expect(data).toMatchObject({ name: a.session, answered: true });
    expect(data.heat?.cell).toBe(64);
    if (seen === 1) await a.do("store 8 0 1");
    // What was sent before the store may be read after it.
    else if (data.ranks[0]?.bytes === 8 && !isLeaving) {
      isLeaving = true;
      await Promise.all([a.leave(), b.leave()]);
    }
  }
  expect([last, isLeaving]).toEqual(["end", true]);
});

test("watchers have a limit, and one that disconnects does not count", async () => {
  const [a, b] = await pair();
  const watch = (signal: AbortSignal) => fetch(url(a.session, "/watch?interval_ms=60000"), { signal });
  const leaving = new AbortController();
  const staying = new AbortController();
  const some = await Promise.all(Array.from({ length: WATCHERS_MAX - 1 }, () => watch(leaving.signal)));
  const one = await watch(staying.signal);
  expect([...some, one].every(({ status }) => status === 200)).toBe(true);
  const refused = await watch(staying.signal);
  expect([refused.status, await refused.text()]).toEqual([503, expect.stringContaining("its limit")]);
  leaving.abort();
  await eventually("there is room again", async () => {
    const controller = new AbortController();
    const { status } = await watch(controller.signal);
    controller.abort();
    return status === 200;
  });
  staying.abort();
  for (const bad of ["0", "99", "60001", "x"]) {
    expect((await fetch(url(a.session, `/watch?interval_ms=${bad}`))).status).toBe(400);
  }
  await Promise.all([a.leave(), b.leave()]);
});
