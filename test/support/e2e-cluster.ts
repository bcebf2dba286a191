/**
 * Cluster: a dsm cluster for one test file: a daemon at a free port, and private run-time, cache and temporary
 * directories. Everything that it starts has its run-time directory in the environment, by which leftovers are found.
 */
import { expect } from "bun:test";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { arbiterKey, arbiterSocketPath } from "../../src/core/base/names.ts";
import type { SessionDetail, SessionSummary } from "../../src/core/messages/daemon-api.ts";
import { Actor } from "./e2e-actor.ts";
import { type Child, type Outcome, outcome } from "./e2e-child.ts";
import { eventually } from "./eventually.ts";

export { eventually, LIVENESS_MS } from "./eventually.ts";

export const ROOT = join(import.meta.dir, "../..");
export const DSM = join(ROOT, "dist/dsm");

export interface ProcessOptions {
  session: string;
  /** Left out: DSM_PROCESSES is not set. */
  processes?: number;
  /** Left out: DSM_SIZE is not set. */
  size?: string;
  node?: string;
  rank?: number;
  environment?: Record<string, string>;
}

export interface SessionOptions extends Omit<ProcessOptions, "processes" | "rank" | "node"> {
  /** The node of each process. */
  nodes: string[];
}

export interface ClusterOptions {
  /** Address the daemon listens on. */
  host?: string;
  /** Put before the daemon's command, and before what asks it: `ip netns exec`, or what makes it another user's. */
  as?: string[];
  /** The dsm program. */
  dsm?: string;
  /** Whose the run-time folder is. */
  user?: number;
  /** Variables of all it starts, such as DSM_TOKEN. */
  environment?: Record<string, string>;
}

export class Cluster {
  readonly #host: string;
  readonly #as: string[];
  readonly #dsm: string;
  readonly folder: string;
  readonly runtime: string;
  readonly environment: Record<string, string>;
  daemonAddress = "";
  readonly #children = new Set<Child>();
  #daemon: Child | undefined;
  /** What the daemons have logged: a line for each session. */
  #log = "";
  readonly #nodes = new Set<string>([hostname(), ...Array.from({ length: 32 }, (_, i) => `${hostname()}-${i}`)]);
  /** By which the daemon was called. */
  readonly #addresses = new Set<string>();
  #sessions = 0;

  private constructor({ host = "127.0.0.1", as = [], dsm = DSM, user, environment = {} }: ClusterOptions) {
    this.#host = host;
    this.#as = as;
    this.#dsm = dsm;
    // Short, and in /tmp whatever TMPDIR says: a Unix socket's path has at most 107 bytes.
    this.folder = mkdtempSync("/tmp/dsm-e2e-");
    this.runtime = join(this.folder, "run");
    mkdirSync(this.runtime, { mode: 0o700 });
    if (user !== undefined) {
      chmodSync(this.folder, 0o755);
      chownSync(this.runtime, user, user);
    }
    const kept = Object.entries(process.env).filter(([name]) => !name.startsWith("DSM_"));
    this.environment = {
      ...(Object.fromEntries(kept) as Record<string, string>),
      XDG_RUNTIME_DIR: this.runtime,
      XDG_CACHE_HOME: join(this.folder, "cache"),
      // The user who runs the tests may have a token.
      XDG_CONFIG_HOME: join(this.folder, "config"),
      TMPDIR: this.folder,
      NO_COLOR: "1",
      // Programs of tests store as they must, and what they say on stderr is compared.
      DSM_QUIET: "1",
      DSM_BIN: dsm,
      ...environment,
    };
  }

  static async start(options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(options);
    await cluster.startDaemon();
    return cluster;
  }

  /** Starts the daemon; again, after killDaemon(). */
  async startDaemon(port = 0): Promise<void> {
    this.#daemon = this.#spawn([...this.#as, this.#dsm, "daemon", `--host=${this.#host}`, `--port=${port}`], {});
    const said = await readUntil(this.#daemon.stdout, "\n");
    this.daemonAddress = said.replace("dsm daemon: listening on ", "").trim();
    this.environment.DSM_DAEMON = this.daemonAddress;
    void this.#collect(this.#daemon.stderr);
  }

  async #collect(stderr: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stderr) this.#log += decoder.decode(chunk, { stream: true });
  }

  /** Ends the daemon as nothing else would: by SIGKILL. */
  async killDaemon(): Promise<void> {
    this.#daemon?.kill("SIGKILL");
    await this.#daemon?.exited;
  }

  /** A session name of its own. */
  session(): string {
    this.#sessions += 1;
    return `s${this.#sessions}`;
  }

  /** Maps of this node are looked for, too. Known anyway: the nodes of spawn() and of `dsm run --nodes`. */
  addNode(node: string): void {
    this.#nodes.add(node);
  }

  /** A process of a session, without `dsm run`. */
  spawn(command: string[], options: ProcessOptions): Child {
    const { session, processes, size, node, rank, environment } = options;
    if (node !== undefined) this.addNode(node);
    return this.#spawn(command, {
      DSM_SESSION: session,
      ...(processes === undefined ? {} : { DSM_PROCESSES: String(processes) }),
      ...(size === undefined ? {} : { DSM_SIZE: size }),
      ...(node === undefined ? {} : { DSM_NODE: node }),
      ...(rank === undefined ? {} : { DSM_RANK: String(rank) }),
      ...environment,
    });
  }

  #spawn(command: string[], environment: Record<string, string>): Child {
    const env = { ...this.environment, ...environment };
    if (env.DSM_DAEMON !== undefined) this.#addresses.add(env.DSM_DAEMON);
    const child = Bun.spawn({
      cmd: command,
      cwd: this.folder,
      env,
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#children.add(child);
    void child.exited.then(() => this.#children.delete(child));
    return child;
  }

  /** Any other command with the cluster's environment, to its end. */
  async command(command: string[], environment: Record<string, string> = {}): Promise<Outcome> {
    return outcome(this.#spawn(command, environment));
  }

  /** `dsm` itself, to its end. */
  async dsm(args: string[], environment: Record<string, string> = {}): Promise<Outcome> {
    return this.command([DSM, ...args], environment);
  }

  /** A program as all processes of one session, to their end. When one fails, the others are ended. */
  async run(command: string[], options: SessionOptions): Promise<Outcome[]> {
    const { nodes, ...rest } = options;
    const children = nodes.map((node, rank) => this.spawn(command, { ...rest, node, rank, processes: nodes.length }));
    for (const child of children) {
      void child.exited.then((code) => {
        if (code !== 0) for (const other of children) other.kill();
      });
    }
    return Promise.all(children.map(outcome));
  }

  /** Like run(), and all must end well; returns what each printed. */
  async runWell(command: string[], options: SessionOptions): Promise<string[]> {
    const outcomes = await this.run(command, options);
    expect(outcomes.map(({ code, signal, stderr }) => ({ code, signal, stderr }))).toEqual(
      outcomes.map(() => ({ code: 0, signal: null, stderr: "" })),
    );
    return outcomes.map(({ stdout }) => stdout);
  }

  /** One actor on each of the nodes, all in one new session. */
  async actors(nodes: string[], options: Partial<SessionOptions> = {}): Promise<Actor[]> {
    const session = options.session ?? this.session();
    const actors = nodes.map((node, rank) => this.actor({ ...options, session, node, rank, processes: nodes.length }));
    await Promise.all(actors.map((actor) => actor.do("open")));
    return actors;
  }

  /** A process that does what it is told, and has not opened its session yet. */
  actor(options: ProcessOptions, command = [this.program("actor")]): Actor {
    return new Actor(this.spawn(command, { size: "64KiB", ...options }), options.session);
  }

  readonly #programs = new Map<string, string>();

  /** The path of a C program of test/e2e/programs, compiled when it is first needed. */
  program(name: string): string {
    const made = this.#programs.get(name);
    if (made !== undefined) return made;
    const path = join(this.folder, name);
    const native = join(ROOT, "native");
    const { exitCode, stderr } = Bun.spawnSync([
      ...["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"],
      ...[`-I${native}/include`, join(ROOT, `test/e2e/programs/${name}.c`), "-o", path],
      ...[`-L${native}/build`, "-ldsm", "-lpthread", `-Wl,-rpath,${native}/build`],
    ]);
    if (exitCode !== 0) throw new Error(`${name}.c does not compile:\n${stderr.toString()}`);
    this.#programs.set(name, path);
    return path;
  }

  async status(session: string): Promise<SessionDetail> {
    return (await this.#ask(session)) as SessionDetail;
  }

  async sessions(): Promise<SessionSummary[]> {
    return ((await this.#ask()) as { sessions: SessionSummary[] }).sessions;
  }

  /** By HTTP, or by `dsm sessions` where the test itself cannot reach the daemon, or would need token and TLS. */
  async #ask(...name: string[]): Promise<unknown> {
    const { DSM_TOKEN, DSM_TLS_CA } = this.environment;
    const far = this.#as.length > 0 || !this.#host.startsWith("127.");
    if (far || DSM_TOKEN !== undefined || DSM_TLS_CA !== undefined) {
      const { code, stdout, stderr } = await this.command([...this.#as, this.#dsm, "sessions", ...name, "--json"]);
      if (code !== 0) throw new Error(stderr);
      return JSON.parse(stdout);
    }
    const path = ["sessions", ...name.map(encodeURIComponent)].join("/");
    const response = await fetch(`http://${this.daemonAddress}/v1/${path}`);
    if (!response.ok) throw new Error(`${name}: ${await response.text()}`);
    return response.json();
  }

  /** Waits until the rank is where it is said to be; nothing tells a third party of it, so it is asked. */
  async untilState(session: string, rank: number, state: string): Promise<void> {
    await eventually(`rank ${rank} of ${session} is in state ${state}`, async () => {
      const { ranks } = await this.status(session);
      return ranks.find((one) => one.rank === rank)?.state === state;
    });
  }

  /** Waits until so many processes have joined. */
  async untilPresent(session: string, present: number): Promise<void> {
    await eventually(`${present} processes are in ${session}`, async () => {
      if (!(await this.sessions()).some(({ name }) => name === session)) return false;
      return (await this.status(session)).present === present;
    });
  }

  /** Path of the socket of a session's arbiter on a node. */
  arbiterSocket(session: string, node: string): string {
    return arbiterSocketPath(join(this.runtime, "dsm"), this.daemonAddress, session, node);
  }

  /** Ids of the living processes of the cluster that have all these words among their arguments. */
  processes(...words: string[]): number[] {
    return clusterProcesses(this.runtime)
      .filter(({ args }) => words.every((word) => args.includes(word)))
      .map(({ pid }) => pid);
  }

  /** The one arbiter of a session on a node. */
  arbiter(session: string, node: string): number {
    const [pid, ...others] = this.processes("arbiter", session, node);
    if (pid === undefined || others.length > 0)
      throw new Error(`${1 + others.length} arbiters of ${session} on ${node}`);
    return pid;
  }

  /** Waits for the end of all sessions, and sees to it that they leave nothing behind. For after every test. */
  async settled(): Promise<void> {
    for (const child of this.#children) if (child !== this.#daemon) child.kill("SIGKILL");
    await Promise.all([...this.#children].filter((child) => child !== this.#daemon).map((child) => child.exited));
    await eventually("no process is left", () => this.#left().length === 0).catch((error) => {
      const left = this.#left();
      for (const { pid } of left) process.kill(pid, "SIGKILL");
      throw new Error(`${(error as Error).message}: ${left.map(({ args }) => args.join(" ")).join("; ")}`);
    });
    await eventually("the daemon has no session", async () => (await this.sessions()).length === 0);
    expect({ sockets: this.sockets(), maps: this.maps() }).toEqual({ sockets: [], maps: [] });
  }

  #left(): { pid: number; args: string[] }[] {
    return clusterProcesses(this.runtime).filter(({ pid }) => pid !== this.#daemon?.pid);
  }

  /**
   * Waits until no process listens in the run-time directory: the socket of a killed arbiter refuses once it has ended.
   */
  async untilSilent(): Promise<void> {
    const paths = this.sockets().filter((name) => name.endsWith(".sock"));
    for (const name of paths) {
      await eventually(`no process listens at ${name}`, () => this.#refuses(join(this.runtime, "dsm", name)));
    }
  }

  #refuses(path: string): Promise<boolean> {
    return new Promise((resolve) => {
      const refused = (): void => resolve(true);
      const listens = (socket: { end(): void }): void => {
        socket.end();
        resolve(false);
      };
      Bun.connect({ unix: path, socket: { open: listens, data() {}, connectError: refused } }).catch(refused);
    });
  }

  /** Files in the run-time folder: sockets and locks. */
  sockets(): string[] {
    try {
      return readdirSync(join(this.runtime, "dsm"));
    } catch {
      return [];
    }
  }

  /** Map files of this cluster's sessions. */
  maps(): string[] {
    const names = readdirSync("/dev/shm").filter((name) => name.startsWith("dsm"));
    if (names.length === 0) return [];
    const sessions = new Set([...this.#log.matchAll(/session "([^"]*)"/g)].map((match) => match[1] as string));
    const keys = [...sessions].flatMap((session) =>
      [...this.#nodes].flatMap((node) => [...this.#addresses].map((address) => arbiterKey(address, session, node))),
    );
    return names.filter((name) => keys.some((key) => name.includes(key)));
  }

  /** After the last test: the daemon ends in good order, and with it everything. */
  async close(): Promise<void> {
    try {
      await this.settled();
      const daemon = this.#daemon;
      daemon?.kill("SIGTERM");
      expect(await daemon?.exited).toBe(0);
      expect(clusterProcesses(this.runtime)).toEqual([]);
    } finally {
      this.#daemon?.kill("SIGKILL");
      rmSync(this.folder, { recursive: true, force: true });
    }
  }
}

/** Living processes with that run-time folder in their environment. One that has ended shows none. */
export function clusterProcesses(runtime: string): { pid: number; args: string[] }[] {
  const mark = `XDG_RUNTIME_DIR=${runtime}\0`;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        if (!`${readFileSync(`/proc/${name}/environ`, "latin1")}\0`.includes(mark)) return [];
        const args = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0").slice(0, -1);
        return [{ pid: Number(name), args }];
      } catch {
        return [];
      }
    });
}

export async function readUntil(stream: ReadableStream<Uint8Array>, end: string): Promise<string> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let said = "";
  while (!said.includes(end)) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`it ended after "${said}"`);
    said += decoder.decode(value, { stream: true });
  }
  reader.releaseLock();
  return said;
}
