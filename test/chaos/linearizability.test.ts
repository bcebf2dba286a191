/**
 * Atomic operations, stores, semaphores and locks of real processes on several nodes are linearizable, whichever
 * process is killed.
 */
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Random } from "../support/core-random.ts";
import { Cluster, eventually } from "../support/e2e-cluster.ts";
import { compileProgram } from "../support/e2e-program.ts";
import {
  type Call,
  checkHistory,
  type LockOperation,
  lock,
  semaphore,
  type WordOperation,
  word,
} from "../support/linearizability.ts";
import { type History, type HistoryOptions, record, SEMAPHORE_VALUE } from "./history.ts";

setDefaultTimeout(120_000);

/** Of what the processes ask for; when it is done what, is up to the machine. */
const SEED = 1;

let cluster: Cluster;
let program: string;
beforeAll(async () => {
  cluster = await Cluster.start();
  program = await compileProgram(cluster, "test/chaos/programs/history.c");
});
afterEach(() => cluster.settled());
afterAll(() => cluster.close());

async function recorded(options: Omit<HistoryOptions, "seed">): Promise<History> {
  const history = await record(cluster, program, { ...options, seed: SEED });
  const wrong =
    checkHistory(word, history.words) ??
    checkHistory(semaphore(SEMAPHORE_VALUE), history.semaphores) ??
    checkHistory(lock, history.locks);
  if (wrong !== null) {
    const show = (_: string, value: unknown): unknown =>
      typeof value === "bigint" ? `0x${value.toString(16)}` : value;
    throw new Error(`no order explains ${JSON.stringify(wrong, show, 1)}`);
  }
  return history;
}

/** How often operations on one object were under way at the same time: without that a history says little. */
function overlaps(calls: readonly Call<unknown>[]): number {
  const latest = new Map<number, bigint>();
  let count = 0;
  for (const { object, invoked, returned } of calls.toSorted((a, b) => (a.invoked < b.invoked ? -1 : 1))) {
    const end = latest.get(object) ?? 0n;
    if (invoked < end) count += 1;
    if (returned !== null && returned > end) latest.set(object, returned);
  }
  return count;
}

const endedWell = { code: 0, signal: null, stdout: "", stderr: "" };

describe("linearizable:", () => {
  test("sequential order, three nodes; and the same history with one wrong result is not", async () => {
    const nodes = ["a", "b", "c", "a", "b", "c"];
    const history = await recorded({ nodes, order: "sequential", operations: 2000, threads: 2 });
    expect(history.outcomes).toEqual(nodes.map(() => endedWell));
    expect(history.words.length + history.semaphores.length).toBe(24_000);
    expect(overlaps(history.words)).toBeGreaterThan(5000);

    const random = new Random(SEED);
    const returnOf = ({ returned }: Call<WordOperation>): bigint => returned as bigint;
    const writerOf = ({ operation }: Call<WordOperation>): bigint => (operation.result as bigint) >> 16n;
    const told = history.words.filter(({ operation }) => operation.result !== null && operation.result > 0xffffn);
    for (let round = 0; round < 10; round += 1) {
      // A value that was there once, and was seen replaced before the operation was called. It never comes back: all
      // but its low bits are its writer's own.
      const victim = random.pick(told.slice(told.length / 2));
      const before = told.filter((call) => call.object === victim.object && returnOf(call) < victim.invoked);
      const replaced = before.reduce((latest, call) => (call.invoked > latest.invoked ? call : latest));
      const old = before.filter((call) => returnOf(call) < replaced.invoked && writerOf(call) !== writerOf(replaced));
      const stale = random.pick(old).operation.result as bigint;
      expect(refused(history, victim, stale)).toBe(true);
      // A value that never was.
      expect(refused(history, victim, 0x7fn << 56n)).toBe(true);
    }
  });

  for (const order of ["release", "pipelined"] as const) {
    test(`${order} order, two nodes`, async () => {
      const nodes = ["a", "b", "a", "b"];
      const history = await recorded({ nodes, order, operations: 2000, threads: 2 });
      expect(history.outcomes).toEqual(nodes.map(() => endedWell));
    });
  }

  test("sequential order, while the server is killed again and again", async () => {
    const nodes = ["a", "b", "c", "a"];
    let deaths = 0;
    const disturb = async (session: string, isOver: () => boolean): Promise<void> => {
      while (deaths < 3 && !isOver()) {
        const before = await cluster.status(session).catch(() => null);
        if (before === null) continue;
        process.kill(before.pid, "SIGKILL");
        deaths += 1;
        await eventually("another server is further, or all have ended", async () => {
          const now = await cluster.status(session).catch(() => null);
          return isOver() || (now !== null && now.pid !== before.pid && now.entries > before.entries + 200);
        });
      }
    };
    const history = await recorded({ nodes, order: "sequential", operations: 2000, threads: 2, disturb });
    expect(history.outcomes).toEqual(nodes.map(() => endedWell));
    expect(deaths).toBeGreaterThan(0);
  });

  for (const order of ["sequential", "pipelined"] as const) {
    test(`locks under ${order} order, with owners killed; and the same history with one wrong result is not`, async () => {
      const nodes = ["a", "b", "c", "a", "b", "c"];
      const dies = { 1: 300, 3: 600, 5: 900 };
      const history = await recorded({ nodes, order, operations: 1500, threads: 2, dies, locks: true });
      const killed = { code: null, signal: "SIGKILL", stdout: "", stderr: "" };
      expect(history.outcomes).toMatchObject(nodes.map((_, rank) => (rank in dies ? killed : endedWell)));
      const taken = history.locks.filter(({ operation }) => operation.kind === "lock" && operation.result === "ok");
      expect(taken.length).toBeGreaterThan(300);
      expect(overlaps(history.locks)).toBeGreaterThan(300);
      const results = new Set(history.locks.map(({ operation }) => operation.result));
      for (const result of ["ok", "died", "again", "timeout", "busy", "not-owner"] as const)
        expect(results).toContain(result);

      const random = new Random(SEED);
      const deaths = history.locks.filter(({ operation }) => operation.kind === "die");
      const early = taken.filter((call) => deaths.every(({ invoked }) => (call.returned as bigint) < invoked));
      for (let round = 0; round < 10; round += 1) {
        const victim = random.pick(early);
        // Changes: no owner had died; another process had it; it was not given to the process that unlocked it later.
        expect(refusedLock(history, victim, { ...victim.operation, result: "died" })).toBe(true);
        expect(refusedLock(history, victim, { ...victim.operation, result: "busy" })).toBe(true);
        expect(refusedLock(history, victim, { ...victim.operation, owner: 9 })).toBe(true);
      }
    });
  }

  test("direct mode", async () => {
    const nodes = ["a", "a", "a"];
    const history = await recorded({ nodes, order: "sequential", operations: 2000, threads: 2 });
    expect(history.outcomes).toEqual(nodes.map(() => endedWell));
  });

  for (const order of ["sequential", "release", "pipelined"] as const) {
    test(`${order} order, with processes killed in the midst of it`, async () => {
      const nodes = ["a", "b", "c", "a", "b"];
      const dies = { 1: 400, 3: 900 };
      const history = await recorded({ nodes, order, operations: 1500, threads: 2, dies });
      const killed = { code: null, signal: "SIGKILL", stdout: "", stderr: "" };
      expect(history.outcomes).toMatchObject(nodes.map((_, rank) => (rank in dies ? killed : endedWell)));
      const results = history.semaphores.map(({ operation }) => operation.result);
      expect(results).toContain("lost");
      // Each thread of those killed may have had one under way, the others have ended all.
      const pending = [...history.words, ...history.semaphores].filter(({ returned }) => returned === null);
      expect(pending.length).toBeLessThanOrEqual(4);
    });
  }
});

function refused(history: History, victim: Call<WordOperation>, result: bigint): boolean {
  const changed = { ...victim, operation: { ...victim.operation, result } };
  const others = history.words.filter((call) => call.object === victim.object && call !== victim);
  return checkHistory(word, [...others, changed]) !== null;
}

function refusedLock(history: History, victim: Call<LockOperation>, operation: LockOperation): boolean {
  const others = history.locks.filter((call) => call.object === victim.object && call !== victim);
  return checkHistory(lock, [...others, { ...victim, operation }]) !== null;
}
