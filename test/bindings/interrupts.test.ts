/** Python: ^C, and any handler that raises, ends a wait at once; the wait is then as if it had not begun. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Cluster, DSM, ROOT } from "../support/e2e-cluster.ts";
import { eventually } from "../support/eventually.ts";

// Real processes, on machines that may be busy.
setDefaultTimeout(240_000);

const PROGRAMS = join(import.meta.dir, "programs");
const INTERRUPTS = ["python3", join(PROGRAMS, "interrupts.py")];
const PYTHON = {
  ...{ PYTHONPATH: join(ROOT, "native/bindings/python"), PYTHONDONTWRITEBYTECODE: "1" },
  DSM_LIBRARY: join(ROOT, "native/build/libdsm.so"),
};

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

/** The lines that a process writes, one after the other. */
async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
}

test.each([
  ["on two nodes", ["a", "b"], "sequential"],
  ["in direct mode, under release", ["a", "a"], "release"],
])("of each kind, %s", async (_, nodes, order) => {
  const session = cluster.session();
  const environment = { ...PYTHON, DSM_ORDER: order };
  const common = { session, processes: 2, size: "64KiB", environment };
  const waiter = cluster.spawn([...INTERRUPTS, "all"], { ...common, node: nodes[0] as string, rank: 0 });
  const holder = cluster.actor({ ...common, node: nodes[1] as string, rank: 1 }, [
    "python3",
    join(PROGRAMS, "locks.py"),
  ]);
  const lines = linesOf(waiter.stdout);
  const next = async (): Promise<string | undefined> => (await lines.next()).value;
  expect(await holder.ask("lock")).toBe("locked, repaired 0");
  waiter.stdin.write("go\n");
  waiter.stdin.flush();
  const kinds = ["lock", "semaphore", "sleeping", "barrier"].flatMap((kind) => [kind, kind]);
  for (const kind of kinds) {
    expect(await next()).toBe(`waiting ${kind}`);
    await cluster.untilState(session, 0, kind);
    // Handlers that do not raise run, too, and the wait goes on.
    waiter.kill("SIGUSR1");
    expect(await next()).toBe("handled");
    waiter.kill("SIGUSR2");
    expect(await next()).toBe("leaving: DSM_BUSY");
    await cluster.untilState(session, 0, kind);
    waiter.kill("SIGINT");
    expect(await next()).toBe(`interrupted ${kind}`);
  }
  expect(await next()).toBe("waiting holes");
  waiter.kill("SIGUSR1");
  expect(await next()).toBe("handled");
  waiter.kill("SIGINT");
  expect(await next()).toBe("interrupted holes");
  expect(await next()).toBe("free the lock");
  expect(await holder.ask("unlock")).toBe("unlocked");
  expect(await next()).toBe("locked");
  expect(await holder.ask("leave")).toBe("left");
  expect(await waiter.exited).toBe(0);
  expect(await waiter.stderr.text()).toBe("");
  await holder.end();
});

test("while the server does not answer", async () => {
  const session = cluster.session();
  // The same server goes on after that: no other one takes over meanwhile.
  const environment = { ...PYTHON, DSM_HEARTBEAT_TIMEOUT_MS: "120000" };
  const common = { session, processes: 2, size: "64KiB", environment };
  const waiter = cluster.spawn([...INTERRUPTS, "lost"], { ...common, node: "a", rank: 0 });
  const holder = cluster.actor({ ...common, node: "b", rank: 1 }, ["python3", join(PROGRAMS, "locks.py")]);
  const lines = linesOf(waiter.stdout);
  const next = async (): Promise<string | undefined> => (await lines.next()).value;
  const go = (): void => {
    waiter.stdin.write("go\n");
    waiter.stdin.flush();
  };
  expect(await holder.ask("lock")).toBe("locked, repaired 0");
  go();
  expect(await next()).toBe("waiting lock");
  await cluster.untilState(session, 0, "lock");
  const server = (await cluster.status(session)).pid;
  process.kill(server, "SIGSTOP");
  try {
    waiter.kill("SIGINT");
    expect(await next()).toBe("interrupted lock");
    expect(await next()).toBe("waiting free lock");
    waiter.kill("SIGINT");
    expect(await next()).toBe("interrupted free lock");
    expect(await next()).toBe("waiting semaphore");
    waiter.kill("SIGINT");
    expect(await next()).toBe("interrupted semaphore");
    expect(await next()).toBe("waiting barrier");
    waiter.kill("SIGINT");
    expect(await next()).toBe("interrupted barrier");
  } finally {
    process.kill(server, "SIGCONT");
  }
  expect(await holder.ask("unlock")).toBe("unlocked");
  go();
  expect([await next(), await next(), await next()]).toEqual(["semaphore None", "lock DSM_OK", "lock DSM_OK"]);
  expect(await holder.ask("leave")).toBe("left");
  expect(await waiter.exited).toBe(0);
  await holder.end();
});

test("joining", async () => {
  const session = cluster.session();
  const common = { session, processes: 2, size: "64KiB", environment: PYTHON };
  const child = cluster.spawn([...INTERRUPTS, "join"], { ...common, node: "a" });
  const lines = linesOf(child.stdout);
  expect((await lines.next()).value).toBe("waiting join");
  await eventually("it has a session to wait for", async () =>
    (await cluster.sessions()).some(({ name }) => name === session),
  );
  child.kill("SIGINT");
  expect((await lines.next()).value).toBe("interrupted join");
  expect(await child.exited).toBe(0);
});

test("^C of dsm run reaches the waits of all its processes", async () => {
  const child = cluster.spawn([DSM, "run", "-n2", "--nodes=2", "--", ...INTERRUPTS, "once"], {
    session: cluster.session(),
    environment: { ...PYTHON, PYTHONUNBUFFERED: "1" },
  });
  const lines = linesOf(child.stdout);
  const two = async (): Promise<unknown[]> => [(await lines.next()).value, (await lines.next()).value];
  expect(await two()).toEqual(["waiting semaphore", "waiting semaphore"]);
  child.kill("SIGINT");
  expect(await two()).toEqual(["interrupted semaphore", "interrupted semaphore"]);
  expect(await child.exited).toBe(0);
});

test("a handler that raises at any moment leaves no lock and no semaphore taken", async () => {
  const [said] = await cluster.runWell([...INTERRUPTS, "stress"], {
    ...{ session: cluster.session(), nodes: ["a"], size: "64KiB", environment: PYTHON },
  });
  expect(said).toBe("ok\n");
});
