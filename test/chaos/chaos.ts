/**
 * Chaos: sessions of real processes over several nodes (test/chaos/programs/work.c) that are killed, stopped and cut
 * off, one session after the other. Whatever happens, of each session these must hold:
 *
 * - every process ends, successfully or with a clear error that the faults of the session explain;
 * - no process reads what was not written (the program itself checks);
 * - what survivors read in the counters is all that was acknowledged, and nothing that was not asked for;
 * - no process, socket or map is left, and the next session works.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Order } from "../../src/core/base/consistency.ts";
import { Random } from "../support/core-random.ts";
import type { Child } from "../support/e2e-child.ts";
import { Cluster, eventually, LIVENESS_MS } from "../support/e2e-cluster.ts";
import { compileProgram } from "../support/e2e-program.ts";
import { NodeProxy } from "../support/e2e-proxy.ts";

const COUNTERS = 4;
const ROUNDS_AT = 2 * COUNTERS;

type Fault =
  | { kind: "kill"; rank: number }
  | { kind: "pause"; rank: number; ms: number }
  | { kind: "pause arbiter"; node: string; ms: number }
  | { kind: "pause server"; ms: number }
  | { kind: "kill arbiter"; node: string }
  | { kind: "kill server" }
  | { kind: "delay"; ms: number }
  | { kind: "cut" }
  | { kind: "silence" };

/** What a session goes on after as if nothing had been. */
const SURVIVED: ReadonlySet<Fault["kind"]> = new Set([
  ...(["pause", "pause arbiter", "pause server", "delay", "cut", "silence", "kill server"] as const),
]);
/** A silence that lasts longer breaks a connection; a pause may be shorter or longer. */
const HEARTBEAT_MS = 1000;
/** How often it is looked whether a session goes on again. */
const LOOK_MS = 2;

interface Plan {
  /** The node of each process. Those of node "a" reach the server through the proxy. */
  nodes: string[];
  order: Order;
  seed: number;
  /** What is done, and how long after the one before. */
  faults: { afterMs: number; fault: Fault }[];
  /** How long it goes on after the last one. */
  restMs: number;
}

/** What one session was, and how it ended. */
export interface Round {
  plan: string;
  ends: string[];
  rounds: number;
  acknowledged: number;
  faults: Fault["kind"][];
  /** From the death of a server to the next operation that was acknowledged, each time nothing else was wrong. */
  recoveriesMs: number[];
}

function makePlan(seed: number): Plan {
  const random = new Random(seed);
  const names = ["a", "b", "c"].slice(0, random.between(2, 3));
  const nodes = Array.from({ length: random.between(names.length, 5) }, (_, at) => names[at % names.length] as string);
  const pick = (): Fault => {
    const rank = random.below(nodes.length);
    const ms = random.oneIn(6) ? random.between(HEARTBEAT_MS, 2.5 * HEARTBEAT_MS) : random.between(20, 400);
    const node = random.pick(names);
    // What lets all go on is more common: what ends the session comes last anyway.
    return random.pick<Fault>([
      { kind: "pause", rank, ms },
      { kind: "pause", rank, ms },
      { kind: "pause arbiter", node, ms },
      { kind: "pause arbiter", node, ms },
      { kind: "pause server", ms },
      { kind: "delay", ms: random.between(1, 20) },
      { kind: "silence" },
      { kind: "kill", rank },
      { kind: "kill", rank },
      { kind: "kill", rank },
      { kind: "kill arbiter", node },
      { kind: "kill server" },
      { kind: "cut" },
    ]);
  };
  return {
    nodes,
    order: random.pick(["sequential", "release", "pipelined"] as const),
    seed,
    faults: Array.from({ length: random.oneIn(12) ? 0 : random.between(1, 3) }, () => ({
      afterMs: random.between(0, 300),
      fault: pick(),
    })),
    restMs: random.between(0, 300),
  };
}

const describe = ({ nodes, order, faults }: Plan): string =>
  `${nodes.join("")} ${order}: ${faults.map(({ fault }) => Object.values(fault).join(" ")).join(", ") || "nothing"}`;

/** A process of the session and what it has said. */
class Worker {
  readonly child: Child;
  readonly node: string;
  readonly lines: string[] = [];
  readonly log: string;
  readonly stderr: Promise<string>;
  readonly ended: Promise<void>;
  alive = true;
  #heard = Promise.withResolvers<void>();

  constructor(child: Child, node: string, log: string) {
    this.child = child;
    this.node = node;
    this.log = log;
    this.stderr = child.stderr.text();
    this.ended = this.#read();
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of this.child.stdout) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() as string;
      this.lines.push(...lines);
      this.#wake();
    }
    await this.child.exited;
    this.alive = false;
    this.#wake();
  }

  #wake(): void {
    this.#heard.resolve();
    this.#heard = Promise.withResolvers();
  }

  /** Waits until it has said a line that begins so, or has ended. */
  async said(...words: string[]): Promise<void> {
    while (this.alive && !this.lines.some((line) => words.some((word) => line.startsWith(word))))
      await this.#heard.promise;
  }

  tell(line: string): void {
    if (!this.alive) return;
    // One that ends meanwhile does not hear it, and needs not.
    try {
      void Promise.resolve(this.child.stdin.write(`${line}\n`)).catch(() => {});
      void Promise.resolve(this.child.stdin.flush()).catch(() => {});
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EPIPE") throw error;
    }
  }

  signal(signal: NodeJS.Signals): void {
    if (this.alive) this.child.kill(signal);
  }
}

function signal(pid: number | undefined, name: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, name);
  } catch {
    // It has ended.
  }
}

/** How long it takes until the server, which is killed now, has a successor and some process has counted on. */
async function recovery(workers: readonly Worker[]): Promise<number | null> {
  const begin = performance.now();
  const counted = async (worker: Worker): Promise<bigint> =>
    new BigUint64Array(await Bun.file(worker.log).arrayBuffer())
      .subarray(COUNTERS, 2 * COUNTERS)
      .reduce((sum, count) => sum + count, 0n);
  // What was under way when it died may still be acknowledged.
  const total = async (): Promise<bigint> => (await Promise.all(workers.map(counted))).reduce((a, b) => a + b);
  await Bun.sleep(10 * LOOK_MS);
  const before = await total();
  while (workers.every(({ alive }) => alive) && performance.now() < begin + LIVENESS_MS) {
    if ((await total()) > before) return performance.now() - begin;
    await Bun.sleep(LOOK_MS);
  }
  return null;
}

/** Rejects when it takes longer than anything may, with what is the matter. */
async function inTime<Value>(what: string, promise: Promise<Value>, state: () => string): Promise<Value> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} takes for ever: ${state()}`)), LIVENESS_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export class Chaos {
  readonly #cluster: Cluster;
  readonly #program: string;
  readonly #proxy: NodeProxy;

  private constructor(cluster: Cluster, program: string) {
    this.#cluster = cluster;
    this.#program = program;
    this.#proxy = new NodeProxy(cluster.daemonAddress);
  }

  private static async start(): Promise<Chaos> {
    const cluster = await Cluster.start();
    return new Chaos(cluster, await compileProgram(cluster, "test/chaos/programs/work.c"));
  }

  /** Every session until `work` has enough of it; throws what breaks a promise. */
  static async run(work: (chaos: Chaos) => Promise<void>): Promise<void> {
    const chaos = await Chaos.start();
    let failure: unknown;
    await work(chaos).catch((error) => {
      failure = error;
    });
    chaos.#proxy.close();
    await chaos.#cluster.close().catch((error) => {
      // What is left behind of a session that failed says no more than its own failure.
      failure ??= error;
    });
    if (failure !== undefined) throw failure;
  }

  /**
   * One session; what is done to it follows from the seed, how far it is then does not. Throws when a promise is
   * broken.
   */
  async round(seed: number): Promise<Round> {
    const plan = makePlan(seed);
    try {
      return await this.#play(plan);
    } catch (error) {
      throw new Error(`seed ${seed} (${describe(plan)}): ${(error as Error).message}`, { cause: error });
    }
  }

  /** A role that was killed is gone only when the kernel has closed all it had open. */
  async #gone(pid: number): Promise<void> {
    await eventually(`process ${pid} has ended`, () => {
      try {
        const zombie = /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
        return zombie && readdirSync(`/proc/${pid}/task`).length === 1;
      } catch {
        return true;
      }
    });
  }

  async #play(plan: Plan): Promise<Round> {
    const { nodes } = plan;
    const session = this.#cluster.session();
    this.#proxy.delayMs = [0, 0];
    this.#proxy.seed = plan.seed;
    const workers = this.#start(session, plan);
    const state = (): string =>
      workers
        .map(({ lines, alive }, rank) => `${rank} ${alive ? "alive" : "ended"} after "${lines.at(-1)}"`)
        .join("; ");
    await inTime("the start", Promise.all(workers.map((worker) => worker.said("ready", "failed"))), state);
    if (workers.some(({ lines }) => lines[0] !== "ready")) throw new Error(`the session does not start: ${state()}`);

    const server = (await this.#cluster.status(session)).pid;
    const killed: number[] = [];
    const recoveries: Promise<number | null>[] = [];
    const undisturbed = plan.faults.every(({ fault }) => ["kill server", "delay", "cut"].includes(fault.kind));
    for (const { afterMs, fault } of plan.faults) {
      await Bun.sleep(afterMs);
      if (fault.kind === "kill server" && undisturbed) recoveries.push(recovery(workers));
      await this.#commit(fault, session, server, workers, killed);
    }
    const recovered = await Promise.all(recoveries);
    await Bun.sleep(plan.restMs);
    for (const worker of workers) worker.tell("stop");
    // A process that knows of a loss reads the counters once no process counts.
    await inTime(
      "the session's end",
      Promise.all(workers.map((worker) => worker.said("lost", "done", "failed", "wrong"))),
      state,
    );
    for (const worker of workers) worker.tell("read");
    await inTime("the processes' end", Promise.all(workers.map(({ ended }) => ended)), state);

    const result = await this.#judge(plan, workers);
    for (const pid of killed) await this.#gone(pid);
    await this.#after();
    return {
      ...{ plan: describe(plan), ...result, ends: result.ends.map((end, rank) => `${nodes[rank]} ${end}`) },
      faults: plan.faults.map(({ fault }) => fault.kind),
      recoveriesMs: recovered.filter((ms) => ms !== null),
    };
  }

  #start(session: string, { nodes, order, seed }: Plan): Worker[] {
    return nodes.map((node, rank) => {
      const log = join(this.#cluster.folder, `${session}-${rank}.log`);
      const daemon = node === "a" ? { DSM_DAEMON: this.#proxy.address } : {};
      const child = this.#cluster.spawn([this.#program, log, String(seed)], {
        ...{ session, node, rank, processes: nodes.length, size: "256KiB" },
        environment: { DSM_ORDER: order, DSM_HEARTBEAT_TIMEOUT_MS: String(HEARTBEAT_MS), ...daemon },
      });
      return new Worker(child, node, log);
    });
  }

  async #commit(fault: Fault, session: string, server: number, workers: Worker[], killed: number[]): Promise<void> {
    const arbiter = (node: string): number | undefined => this.#cluster.processes("arbiter", session, node)[0];
    const pause = async (pid: number | undefined, ms: number): Promise<void> => {
      if (pid === undefined) return;
      signal(pid, "SIGSTOP");
      await Bun.sleep(ms);
      signal(pid, "SIGCONT");
    };
    const kill = (pid: number | undefined): void => {
      if (pid !== undefined) killed.push(pid);
      signal(pid, "SIGKILL");
    };
    switch (fault.kind) {
      case "kill":
        workers[fault.rank]?.signal("SIGKILL");
        return;
      case "pause":
        return pause(workers[fault.rank]?.alive ? workers[fault.rank]?.child.pid : undefined, fault.ms);
      case "pause arbiter":
        return pause(arbiter(fault.node), fault.ms);
      case "pause server":
        return pause(server, fault.ms);
      case "kill arbiter":
        kill(arbiter(fault.node));
        return;
      case "kill server":
        kill(server);
        return;
      case "delay":
        this.#proxy.delayMs = [0, fault.ms];
        return;
      case "cut":
        this.#proxy.cut();
        return;
      case "silence":
        this.#proxy.silence();
    }
  }

  /** Whether every process ended as the faults explain, and the counters are right. */
  async #judge(plan: Plan, workers: Worker[]): Promise<Pick<Round, "ends" | "acknowledged" | "rounds">> {
    const faults = plan.faults.map(({ fault }) => fault).filter(({ kind }) => !SURVIVED.has(kind));
    const mayLose = faults.length > 0;
    const logs = await Promise.all(
      workers.map(async ({ log }) => new BigUint64Array(await Bun.file(log).arrayBuffer())),
    );
    const sum = (first: number, counter: number): bigint =>
      logs.reduce((all, log) => all + (log[first + counter] as bigint), 0n);
    const ends: string[] = [];
    for (const [rank, worker] of workers.entries()) {
      const { exitCode, signalCode } = worker.child;
      const stderr = await worker.stderr;
      const last = worker.lines.at(-1) ?? "";
      const how = `rank ${rank} on ${worker.node} ended with ${signalCode ?? exitCode}, "${worker.lines.join(" | ")}", "${stderr}"`;
      const wasKilled = faults.some((fault) => fault.kind === "kill" && fault.rank === rank);
      const arbiterGone = faults.some(
        (fault) =>
          fault.kind === "kill server" ||
          (fault.kind === "kill arbiter" && fault.node === worker.node) ||
          (fault.kind === "cut" && worker.node === "a"),
      );
      const word = last.split(" ")[0] as string;
      if (signalCode === "SIGKILL" && wasKilled) {
        ends.push("killed");
      } else if (exitCode === 0 && stderr === "" && (word === "done" || (word === "read" && mayLose))) {
        ends.push(word === "read" ? "lost" : "done");
        if (word === "read" && !/^lost process \d+ of the session was lost/.test(worker.lines.at(-2) ?? ""))
          throw new Error(how);
        const read = last.split(" ").slice(1).map(BigInt);
        for (let counter = 0; counter < COUNTERS; counter += 1) {
          const [least, most] = [sum(COUNTERS, counter), sum(0, counter)];
          const value = read[counter] as bigint;
          if (value < least || value > most) throw new Error(`${how}: counter ${counter} must be ${least} to ${most}`);
          // Where all have ended well there is nothing that may or may not have happened.
          if (!mayLose && least !== most)
            throw new Error(`${most} of counter ${counter} were asked for, ${least} acknowledged`);
        }
      } else if (arbiterGone && exitCode === 3 && stderr === "" && /^failed DSM_(UNREACHABLE|LOST) \S/.test(last)) {
        ends.push("failed");
      } else if (arbiterGone && signalCode === "SIGBUS" && /^(dsm: .*\S\n)+$/.test(stderr)) {
        // A store or an atomic operation has no other way to say so; each thread that is in one does.
        ends.push("failed in a store");
      } else {
        throw new Error(how);
      }
    }
    const acknowledged = Number(
      Array.from({ length: COUNTERS }, (_, counter) => sum(COUNTERS, counter)).reduce((a, b) => a + b),
    );
    return { ends, acknowledged, rounds: Math.max(...logs.map((log) => Number(log[ROUNDS_AT]))) };
  }

  /** The next session works, on the same nodes (which clears away what killed roles left), and leaves nothing. */
  async #after(): Promise<void> {
    this.#proxy.delayMs = [0, 0];
    const session = this.#cluster.session();
    const plan: Plan = { nodes: ["a", "b", "c"], order: "sequential", seed: 0, faults: [], restMs: 0 };
    const workers = this.#start(session, plan);
    const state = (): string => `the session after: ${workers.map(({ lines }) => lines.at(-1)).join("; ")}`;
    await inTime("the next session", Promise.all(workers.map((worker) => worker.said("ready", "failed"))), state);
    for (const worker of workers) worker.tell("stop");
    await inTime("the next session's end", Promise.all(workers.map(({ ended }) => ended)), state);
    const { ends } = await this.#judge(plan, workers);
    if (ends.some((end) => end !== "done")) throw new Error(state());
    await this.#cluster.settled();
  }
}
