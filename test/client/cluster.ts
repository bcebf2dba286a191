/** Puppets: processes that join sessions of a cluster of the tests' own, and do what the test says. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type * as dsm from "dsm";
import { Cluster as RealCluster } from "../support/e2e-cluster.ts";

const puppet = join(import.meta.dir, "fixtures/puppet.ts");

/** What a function that runs in another process finds there. It is sent as text: it sees nothing else of the test. */
export interface Stage {
  dsm: typeof dsm;
  session: dsm.Session;
  /** Kept from one call to the next. */
  // biome-ignore lint/suspicious/noExplicitAny: each test keeps there what it likes
  state: Record<string, any>;
  /** Imports a file of fixtures/. */
  // biome-ignore lint/suspicious/noExplicitAny: typed where it is used
  load(fixture: string): Promise<any>;
}

export type Act<Args extends unknown[], Value> = (stage: Stage, ...args: Args) => Value | Promise<Value>;

export interface Command {
  id: number;
  source: string;
  args: unknown[];
}

export interface Answer {
  id: number;
  value?: unknown;
  error?: { name: string; code: string | undefined; message: string; stack: string | undefined };
}

/** An error of the other process. */
export class PuppetError extends Error {
  readonly code: string | undefined;
  constructor({ name, code, message, stack }: NonNullable<Answer["error"]>) {
    super(`${name}: ${message}`);
    this.code = code;
    if (stack) this.stack = stack;
  }
}

export class Puppet {
  readonly process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly ready: Promise<void>;
  readonly stderr: Promise<string>;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;

  constructor(environment: Record<string, string | undefined>) {
    const ready = Promise.withResolvers<unknown>();
    this.ready = ready.promise.then(() => {});
    this.#waiting.set(0, ready);
    this.process = Bun.spawn([process.execPath, puppet], {
      env: environment,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      serialization: "advanced",
      ipc: (answer: Answer) => {
        const waiting = this.#waiting.get(answer.id);
        this.#waiting.delete(answer.id);
        if (answer.error) waiting?.reject(new PuppetError(answer.error));
        else waiting?.resolve(answer.value);
      },
    });
    this.stderr = this.process.stderr.text();
    void this.process.exited.then(async (code) => {
      const said = await this.stderr;
      for (const { reject } of this.#waiting.values()) reject(new Error(`the process ended with ${code}: ${said}`));
      this.#waiting.clear();
    });
  }

  /** Runs the function there. Several may be under way at once, as long as none of them blocks the process. */
  run<Args extends unknown[], Value>(act: Act<Args, Value>, ...args: Args): Promise<Awaited<Value>> {
    const answer = Promise.withResolvers<unknown>();
    const id = this.#nextId++;
    this.#waiting.set(id, answer);
    this.process.send({ id, source: act.toString(), args } satisfies Command);
    return answer.promise as Promise<Awaited<Value>>;
  }

  /** The code of the DsmError that the function fails with; fails itself if it does not. */
  async codeOf<Args extends unknown[]>(act: Act<Args, unknown>, ...args: Args): Promise<string | undefined> {
    let value: unknown;
    try {
      value = await this.run(act, ...args);
    } catch (error) {
      if (error instanceof PuppetError) return error.code ?? error.message;
      throw error;
    }
    throw new Error(`expected an error, got ${Bun.inspect(value)}`);
  }

  /** Lets the process end by itself, and returns its exit code. */
  async end(): Promise<number> {
    this.process.disconnect();
    return this.process.exited;
  }
}

export interface Together {
  processes: number;
  /** Processes are spread over so many nodes, in turn. */
  nodes?: number;
  size?: number | string;
  environment?: Record<string, string>;
}

/** A cluster (test/support/e2e-cluster.ts) with puppets for processes. */
export class Cluster implements AsyncDisposable {
  readonly #cluster: RealCluster;
  readonly #puppets = new Set<Puppet>();

  private constructor(cluster: RealCluster) {
    this.#cluster = cluster;
  }

  static async start(): Promise<Cluster> {
    return new Cluster(await RealCluster.start());
  }

  get address(): string {
    return this.#cluster.daemonAddress;
  }

  get environment(): Record<string, string> {
    return this.#cluster.environment;
  }

  /** A name that no other session of the cluster has. */
  sessionName(): string {
    return this.#cluster.session();
  }

  /** A process that has not joined anything. */
  async puppet(environment: Record<string, string> = {}): Promise<Puppet> {
    const puppet = new Puppet({ ...this.environment, ...environment });
    this.#puppets.add(puppet);
    await puppet.ready;
    return puppet;
  }

  /** Processes that have joined a session of their own, by rank. */
  async join({ processes, nodes = 1, size = "64KiB", environment = {} }: Together): Promise<Puppet[]> {
    const session = this.sessionName();
    return Promise.all(
      Array.from({ length: processes }, async (_, rank) => {
        const node = `node-${rank % nodes}`;
        this.#cluster.addNode(node);
        const puppet = await this.puppet({ ...environment, DSM_NODE: node });
        await puppet.run(
          async (stage, options) => {
            stage.session = await stage.dsm.join(options);
          },
          { session, processes, size, rank },
        );
        return puppet;
      }),
    );
  }

  /** Sockets and locks of arbiters that are still there. */
  async leftovers(): Promise<string[]> {
    return this.#cluster.sockets();
  }

  /** Ends the processes of one test that are still there. */
  async endPuppets(): Promise<void> {
    const puppets = [...this.#puppets];
    this.#puppets.clear();
    for (const { process } of puppets) process.kill("SIGKILL");
    await Promise.all(puppets.map(({ process }) => process.exited));
  }

  /** The daemon ends in good order, and nothing is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.endPuppets();
    await this.#cluster.close();
  }
}

/** The arbiter that libdsm started for a session and node of this test. */
export function arbiterPid(session: string, node: string): number {
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    let words: string[];
    try {
      words = readFileSync(`/proc/${entry}/cmdline`, "utf8").split("\0");
    } catch {
      continue;
    }
    if (words[1] === "arbiter" && words.includes(session) && words.includes(node)) return Number(entry);
  }
  throw new Error(`no arbiter for ${session} on ${node}`);
}
