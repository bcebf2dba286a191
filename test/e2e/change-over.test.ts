/** An elastic session in direct mode, and another node that comes while its processes write: nothing is missed. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { arbiterGone, storeLost } from "../support/arbiter-gone.ts";
import type { Actor } from "../support/e2e-actor.ts";
import type { Child } from "../support/e2e-child.ts";
import { Cluster, DSM, eventually, ROOT } from "../support/e2e-cluster.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
beforeAll(async () => {
  cluster = await Cluster.start();
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

const SCRIPT = join(ROOT, "test/e2e/programs/change_over.ts");
const ENVIRONMENT = { DSM_ELASTIC: "1", DSM_ON_LOSS: "continue", DSM_QUIET: "1" };

/** Whether a process has said so many lines, and what. */
class Talk {
  readonly child: Child;
  readonly #lines: string[] = [];
  #wake = Promise.withResolvers<void>();
  #over = false;

  constructor(child: Child) {
    this.child = child;
    void this.#read();
  }

  async #read(): Promise<void> {
    let rest = "";
    for await (const chunk of this.child.stdout) {
      const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
      rest = lines.pop() as string;
      this.#lines.push(...lines);
      this.#wake.resolve();
      this.#wake = Promise.withResolvers();
    }
    this.#over = true;
    this.#wake.resolve();
  }

  async says(line: string): Promise<void> {
    while (!this.#lines.includes(line)) {
      if (this.#over) throw new Error(`it ended without "${line}": ${await this.child.stderr.text()}`);
      await this.#wake.promise;
    }
  }

  async endsWell(): Promise<void> {
    await this.child.exited;
    const { exitCode, signalCode, stderr } = this.child;
    expect([exitCode, signalCode, await stderr.text()]).toEqual([0, null, ""]);
  }
}

interface Start {
  session: string;
  order: string;
  node: string;
  rank?: number;
  processes?: number;
}

function start(command: string[], { session, order, node, rank, processes }: Start): Talk {
  const environment = { ...ENVIRONMENT, DSM_ORDER: order };
  const place = { session, size: "4MiB", node, environment };
  const more = { ...(rank !== undefined && { rank }), ...(processes !== undefined && { processes }) };
  return new Talk(cluster.spawn(command, { ...place, ...more }));
}

const inC = (...words: string[]): string[] => [cluster.program("change_over"), ...words];
const inTypeScript = (session: string, ...words: string[]): string[] => [
  ...[DSM, "run", "-n", "1", "--session", session, "--", SCRIPT],
  ...words,
];

for (const order of ["sequential", "release", "pipelined"]) {
  test(`${order}: programs in C and TypeScript write on as if nothing happened`, async () => {
    const session = cluster.session();
    const place = { session, order, node: "a" };
    const first = start(inC("write", "2"), { ...place, rank: 0, processes: 1 });
    await first.says("writes");
    // One that comes later on the same node shares the map, too.
    const second = start(inTypeScript(session, "write", "2"), place);
    await second.says("writes");
    expect((await cluster.status(session)).direct).toBe(true);
    const late = start(order === "release" ? inTypeScript(session, "late", "2") : inC("late", "2"), {
      ...place,
      node: "b",
    });
    await Promise.all([first.says("traps"), second.says("traps"), late.says("done")]);
    await Promise.all([first, second, late].map((talk) => talk.endsWell()));
  });
}

test("a process that is stopped holds it up, and one that is killed does not", async () => {
  const session = cluster.session();
  const place = { session, order: "sequential", node: "a" };
  const writers = [0, 1].map((rank) => start(inC("write", "2", "1"), { ...place, rank, processes: 2 }));
  const [first, second] = writers as [Talk, Talk];
  await Promise.all(writers.map((talk) => talk.says("writes")));
  second.child.kill("SIGSTOP");
  const late = start(inC("late", "2", "1"), { ...place, node: "b" });
  await first.says("traps");
  const { direct, present } = await cluster.status(session);
  expect([direct, present]).toEqual([true, 2]);
  second.child.kill("SIGKILL");
  await Promise.all([first, late].map((talk) => talk.endsWell()));
  await second.child.exited;
});

test("a server that dies in the midst of it is followed by one that brings it to its end", async () => {
  const session = cluster.session();
  const place = { session, order: "sequential", node: "a" };
  const writers = [0, 1].map((rank) => start(inC("write", "2"), { ...place, rank, processes: 2 }));
  const [first, second] = writers as [Talk, Talk];
  await Promise.all(writers.map((talk) => talk.says("writes")));
  second.child.kill("SIGSTOP");
  const late = start(inC("late", "2"), { ...place, node: "b" });
  await first.says("traps");
  const { pid } = await cluster.status(session);
  process.kill(pid, "SIGKILL");
  second.child.kill("SIGCONT");
  await Promise.all([first, second, late].map((talk) => talk.endsWell()));
});

test("a process that gives up during it is not lost, and an arbiter that dies takes its processes with it", async () => {
  const environment = { DSM_ELASTIC: "1" };
  const session = cluster.session();
  const [a, stopped] = [0, 1].map((rank) => cluster.actor({ session, node: "a", rank, processes: 2, environment })) as [
    Actor,
    Actor,
  ];
  await Promise.all([a.do("open"), stopped.do("open")]);
  stopped.kill("SIGSTOP");
  const late = cluster.actor({ session, node: "b", environment: { DSM_JOIN_TIMEOUT_MS: "1500" } });
  expect(await late.ask("open")).toMatch(/^DSM_TIMEOUT /);
  await late.end();
  stopped.kill("SIGCONT");
  await Promise.all([a.do("barrier"), stopped.do("barrier")]);
  await stopped.leave();
  await a.leave();

  const other = cluster.actor({ session: cluster.session(), node: "a", processes: 1, environment });
  await other.do("open");
  await other.do("store 4 0 7");
  process.kill(cluster.arbiter(other.session, "a"), "SIGKILL");
  const gone = `DSM_UNREACHABLE ${arbiterGone(other.session)}`;
  expect(await other.ask("barrier")).toBe(gone);
  expect(await other.number("peek 4 0")).toBe(7);
  // The thread that closes the map hears of it by itself.
  await eventually("a store finds out", async () => (await other.ask("store 4 0 8").catch(() => "ended")) !== "ok");
  const { signal, stderr } = await other.end();
  expect([signal, stderr]).toEqual(["SIGBUS", storeLost(other.session)]);
  // A killed arbiter leaves its socket and its map to the next session, whichever it is.
  await cluster.untilSilent();
  const [one] = await cluster.actors(["c"]);
  await one?.leave();
});
