/** `dsm run` over many hosts: a daemon and a server here, a `dsm node` on each host, and one way out for all of them. */
import { randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { constants } from "node:os";
import { basename, resolve } from "node:path";
import { inheritedEnvironment } from "../core/environment.ts";
import { DsmError } from "../core/errors.ts";
import { bareHost, type Share } from "../core/hosts.ts";
import { Launch, type LaunchFrame, type NodeOrders, readNodeProblem, readRankEnd } from "../core/launch.ts";
import { LAUNCH_FRAME_MAX, NAME_MAX, VERSION } from "../core/limits.ts";
import { isLoopback, parseAddress } from "../core/names.ts";
import { statFields } from "../core/process.ts";
import { formatSize } from "../core/size.ts";
import { parseToken } from "../core/token.ts";
import { UNSEEN } from "./crash-records.ts";
import { warnReadable } from "./daemon.ts";
import { createDirectory, firstLine } from "./directory.ts";
import { END_TIMEOUT_MS, Ending } from "./ending.ts";
import { interfaceAddress, isHere, localAddresses } from "./host-options.ts";
import { messages } from "./messages.ts";
import { type Binary, NodeLink, ownBinary } from "./node-link.ts";
import { invalid } from "./options.ts";
import { isPath } from "./program.ts";
import { type Progress, startProgress } from "./progress.ts";
import { readSecurity, readTlsOff, tokenText } from "./security.ts";
import { selfCommand } from "./self.ts";
import { LineOutput } from "./tag.ts";

/** How long a host may take to say that all is over there, after its processes were killed or it was told to end. */
const FAREWELL_TIMEOUT_MS = 10_000;
const INPUT_CHUNK = 64 << 10;

export interface HostsRun {
  shares: Share[];
  session: string;
  /** Program and arguments, as on the command line. */
  words: string[];
  /** The program's file is to be copied to the hosts. */
  copy: boolean;
  /** Variables for the ranks, beside those the hosts have. */
  environment: Record<string, string>;
  tag: boolean;
  ssh: string[];
  /** The address here that the hosts are to use; left out: the one that the first of them sees. */
  interface: string | undefined;
  /** A daemon that is there already; null: one for this run alone. */
  daemon: string | null;
  /** Starts the server of a restored session, where there is one. `host`: the address it is to listen on. */
  server: ((host: string, daemon: string, environment: Record<string, string>) => Promise<Bun.Subprocess>) | null;
}

/** Returns the exit code: of the first rank that failed, 0 if none did. Throws DsmError when it could not begin. */
export function runOnHosts(run: HostsRun): Promise<number> {
  return new Conductor(run).run();
}

/** The daemon of one run, and how to reach it. */
interface Home {
  address: string;
  token: string | null;
  process: Bun.Subprocess | null;
}

class Conductor {
  readonly #run: HostsRun;
  readonly #links: NodeLink[] = [];
  readonly #output: LineOutput;
  readonly #lines = new Map<string, ReturnType<LineOutput["lines"]>>();
  readonly #done = new Set<NodeLink>();
  #home: Home | null = null;
  #begun = false;
  /** A host did not say that all is over there, or nobody takes the output. */
  #gaveUp = false;
  #giveUp: ReturnType<typeof setTimeout> | undefined;
  readonly #ending = new Ending({
    send: (signal) => Promise.all(this.#links.map((link) => link.send(Launch.SIGNAL, 0, signal))),
    interruptedMs: 0,
    underway: () => this.#askEnded(),
    begun: () => this.#begun,
    abandon: () => {
      for (const link of this.#links) link.close();
      this.#leaveIn(END_TIMEOUT_MS);
    },
    killed: () => this.#leaveIn(FAREWELL_TIMEOUT_MS),
  });
  /** For each host that was asked which of its ranks have ended: what to call when it has told. */
  readonly #asked = new Map<NodeLink, () => void>();
  /** Failures whose cause is looked for. */
  readonly #judged: Promise<void>[] = [];
  #inputTaken: (more: boolean) => void = () => {};
  readonly #progress = new CopyProgress();

  constructor(run: HostsRun) {
    this.#run = run;
    this.#output = new LineOutput(run.tag, () => this.#ending.fail(128 + constants.signals.SIGPIPE));
  }

  async run(): Promise<number> {
    this.#ending.passSignals();
    let server: Bun.Subprocess | null = null;
    try {
      const first = await this.#connect();
      if (this.#ending.failure !== 0) return this.#ending.failure;
      this.#home = await this.#settle(first);
      const { address, token } = this.#home;
      if (this.#run.server !== null) {
        const environment = token === null ? {} : { DSM_TOKEN: token };
        server = await this.#run.server((parseAddress(address) as { host: string }).host, address, environment);
      }
      if (this.#ending.failure === 0) await this.#order(address, token);
      await Promise.all(this.#links.map((link) => link.ended));
      await Promise.all(this.#judged);
      return this.#ending.failure;
    } catch (error) {
      // What was interrupted may well have failed for that reason.
      if (this.#ending.failure !== 0 && error instanceof DsmError) return this.#ending.failure;
      this.#ending.failure ||= 1;
      throw error;
    } finally {
      await this.#leave();
      this.#ending.stop();
      clearTimeout(this.#giveUp);
      if (!this.#gaveUp) await this.#output.flush();
      await this.#closeHome();
      server?.kill();
      await server?.exited;
    }
  }

  /** Reaches all hosts. Returns the address here by which the first that is another machine has been reached. */
  async #connect(): Promise<string | null> {
    const { shares, ssh } = this.#run;
    const far = shares.map(({ host }) => !isHere(host));
    const binary: Binary | null = far.includes(true) ? await ownBinary() : null;
    for (const [index, share] of shares.entries()) {
      const { host } = share;
      const link: NodeLink = new NodeLink({
        host,
        remote: far[index] ? { ssh, binary: binary as Binary } : null,
        handle: (frame) => this.#handle(link, share, frame),
        copied: (bytes) => this.#progress.copied(host, bytes, (binary as Binary).size),
      });
      this.#links.push(link);
      void link.ended.then(() => this.#lost(link));
    }
    const hellos = await Promise.all(this.#links.map((link) => link.hello));
    this.#progress.end();
    const index = far.indexOf(true);
    return index < 0 ? null : (hellos[index]?.connection.split(" ")[0] ?? "");
  }

  /** The daemon, at an address that the hosts reach. `seen`: ours as the first of them sees it; null: all are here. */
  async #settle(seen: string | null): Promise<Home> {
    const given = this.#run.daemon;
    if (given !== null) {
      const { host } = parseAddress(given) as { host: string };
      if (isLoopback(host) && seen !== null) {
        throw invalid(
          `the daemon at ${given} is reached from here only; leave it out, or give one that all hosts reach`,
        );
      }
      return { address: given, token: tokenText(readSecurity(host)), process: null };
    }
    const token = randomBytes(32).toString("hex");
    const host = this.#ownAddress(seen);
    if (readTlsOff()) warnReadable(host, null);
    const child = Bun.spawn({
      // On its own it would end a minute after the session, whatever became of us.
      cmd: [...selfCommand(), "daemon", "--autostarted", `--host=${host}`, "--port=0"],
      cwd: "/",
      env: { ...inheritedEnvironment(process.env), DSM_TOKEN: token },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    const said = await firstLine(child.stdout);
    const [ready, address, fingerprint] = said.split(" ");
    if (ready === "ready" && address !== undefined) {
      // With the fingerprint of the authority that the daemon has made for this run.
      return { address, token: fingerprint === undefined ? token : `${token}:${fingerprint}`, process: child };
    }
    const reason = (await firstLine(child.stderr)).replace(/^dsm: /, "");
    await child.exited;
    throw new DsmError("DSM_SYSTEM", `no session daemon could be started at ${host}: ${reason || "it gave no reason"}`);
  }

  #ownAddress(seen: string | null): string {
    if (this.#run.interface !== undefined) return interfaceAddress(this.#run.interface);
    if (seen === null) return "127.0.0.1";
    // Behind a translator of addresses or a host on the way the far side sees an address that is not ours.
    if (localAddresses().includes(seen)) return seen;
    const why =
      seen === "" ? "does not say by which address it was reached" : `was reached by ${seen}, which is not ours`;
    const host = this.#run.shares.find((share) => !isHere(share.host))?.host;
    throw invalid(`${host} ${why}; give the address of this machine that all hosts reach with --interface`);
  }

  async #order(daemon: string, token: string | null): Promise<void> {
    const { shares, environment, words } = this.#run;
    const [name, ...rest] = words as [string, ...string[]];
    const file = this.#run.copy ? openProgram(name) : null;
    // A path means the same file everywhere, and a name is looked for in the PATH of each host.
    const command = file !== null ? basename(name) : isPath(name) ? resolve(name) : name;
    this.#begun = true;
    await Promise.all(
      this.#links.map(async (link, index) => {
        const { first, count, host } = shares[index] as Share;
        const orders: NodeOrders = {
          ...{ first, count, daemon, token, environment, folder: process.cwd() },
          node: nodeName(host, index, shares),
          words: [command, ...rest],
          file: file === null ? null : { size: file.size },
        };
        const text = new TextEncoder().encode(JSON.stringify(orders));
        if (text.length > LAUNCH_FRAME_MAX) {
          throw invalid(`arguments and environment have ${text.length} bytes; the limit is ${LAUNCH_FRAME_MAX}`);
        }
        await link.send(Launch.ORDERS, 0, text);
        for (let at = 0; file !== null && at < file.size; at += INPUT_CHUNK) {
          await link.send(Launch.PROGRAM, 0, await file.slice(at, Math.min(at + INPUT_CHUNK, file.size)).bytes());
        }
      }),
    );
  }

  async #handle(link: NodeLink, { first, count }: Share, frame: LaunchFrame): Promise<void> {
    const { rank, payload } = frame;
    const ofRank = frame.kind === Launch.STDOUT || frame.kind === Launch.STDERR || frame.kind === Launch.EXIT;
    if (ofRank && !(rank >= first && rank < first + count)) throw new RangeError("a frame of another host's rank");
    switch (frame.kind) {
      case Launch.STARTED:
        if (first === 0) void this.#feed(link);
        break;
      case Launch.STDOUT:
      case Launch.STDERR: {
        const fd = frame.kind === Launch.STDOUT ? 1 : 2;
        await this.#linesOf(rank, fd).push(payload);
        break;
      }
      case Launch.INPUT_TAKEN:
        this.#inputTaken(payload.length === 0);
        break;
      case Launch.EXIT: {
        const { code, signal, unseen } = readRankEnd(frame);
        const who = `process ${rank} on ${link.host}`;
        this.#judged.push(this.#ending.ended(who, code, signal as NodeJS.Signals | null, unseen ? UNSEEN : null));
        break;
      }
      case Launch.PROBLEM: {
        const { message, exitCode } = readNodeProblem(frame);
        const advice = exitCode === 127 && !this.#run.copy ? "; --copy copies the program's file to all hosts" : "";
        if (this.#ending.failure === 0) messages.error(`${link.host}: ${message}${advice}`);
        this.#done.add(link);
        link.close();
        this.#ending.fail(exitCode);
        break;
      }
      case Launch.ENDED_TOLD:
        this.#asked.get(link)?.();
        break;
      case Launch.DONE:
        this.#done.add(link);
        link.close();
        break;
    }
  }

  /** Resolves when every host has told of the ranks that had ended on it, or has none any more. */
  #askEnded(): Promise<unknown> {
    const asked = this.#links.filter((link) => !this.#done.has(link));
    return Promise.all(
      asked.map((link) => {
        const told = new Promise<void>((resolve) => this.#asked.set(link, resolve));
        void link.send(Launch.ASK_ENDED);
        return Promise.race([told, link.ended]);
      }),
    );
  }

  #linesOf(rank: number, fd: 1 | 2): ReturnType<LineOutput["lines"]> {
    const key = `${rank} ${fd}`;
    const known = this.#lines.get(key);
    if (known !== undefined) return known;
    const made = this.#output.lines(rank, fd);
    this.#lines.set(key, made);
    return made;
  }

  /** A connection has ended; before its host was done, that is a failure. */
  #lost(link: NodeLink): void {
    if (this.#done.has(link) || !this.#begun || this.#gaveUp) return;
    const why = link.lastWords === "" ? "" : ` (${link.lastWords})`;
    if (this.#ending.failure === 0) messages.error(`the connection to ${link.host} was lost${why}`);
    this.#ending.fail(1);
  }

  /** Gives up, after that time, the connections that are still there. */
  #leaveIn(milliseconds: number): void {
    this.#ending.stop();
    clearTimeout(this.#giveUp);
    this.#giveUp = setTimeout(() => {
      this.#gaveUp = true;
      this.#ending.failure ||= 128 + constants.signals.SIGKILL;
      for (const link of this.#links) link.kill();
    }, milliseconds);
  }

  /** Standard input goes to rank 0, a piece at a time: the next when it has taken the last. */
  async #feed(link: NodeLink): Promise<void> {
    if (!isBackground()) {
      try {
        for await (const chunk of Bun.stdin.stream()) {
          for (let at = 0; at < chunk.length; at += INPUT_CHUNK) {
            const taken = new Promise<boolean>((resolve) => {
              this.#inputTaken = resolve;
            });
            void link.send(Launch.INPUT, 0, chunk.subarray(at, at + INPUT_CHUNK));
            if (!(await taken)) return;
          }
        }
      } catch {
        // A standard input that cannot be read has ended.
      }
    }
    void link.send(Launch.INPUT);
  }

  /** Closes all connections and waits until the far sides have ended what they had started. */
  async #leave(): Promise<void> {
    this.#progress.end();
    for (const link of this.#links) link.close();
    this.#leaveIn(FAREWELL_TIMEOUT_MS);
    await Promise.all(this.#links.map((link) => link.ended));
    if (this.#gaveUp) return;
    for (const lines of this.#lines.values()) await lines.end();
  }

  /** The session may be there still, if somebody failed; the daemon is there if it was for this run. */
  async #closeHome(): Promise<void> {
    const home = this.#home;
    if (home === null) return;
    const { host } = parseAddress(home.address) as { host: string };
    const own = home.process !== null;
    const known = home.token === null ? null : parseToken(home.token);
    const settings = readSecurity(host);
    const security = known === null || typeof known === "string" ? settings : { ...settings, ...known, always: true };
    try {
      const directory = createDirectory({ address: home.address, autostart: false, security });
      const detail = own || this.#ending.failure !== 0 ? await directory.get(this.#run.session) : null;
      // In somebody else's daemon it may be somebody else's session.
      if (detail !== null && (own || (detail.answered && detail.present === 0))) {
        await directory.remove(this.#run.session);
      }
    } catch (error) {
      // Without a daemon there is no session either.
      if (!(error instanceof DsmError)) throw error;
    }
    home.process?.kill("SIGTERM");
    await home.process?.exited;
  }
}

/** Names of nodes are shorter than those of hosts, and two users of one host are two nodes. */
function nodeName(host: string, index: number, shares: readonly Share[]): string {
  const name = bareHost(host);
  const unique = shares.every((share, other) => other === index || bareHost(share.host) !== name);
  if (unique && name.length <= NAME_MAX) return name;
  const suffix = `-${index}`;
  return `${name.slice(0, NAME_MAX - suffix.length)}${suffix}`;
}

function openProgram(name: string): Bun.BunFile {
  const path = isPath(name) ? resolve(name) : Bun.which(name, { PATH: process.env.PATH ?? "" });
  if (path === null) throw invalid(`program "${name}" was not found in the PATH; give its path to copy it`);
  try {
    if (!statSync(path).isFile()) throw invalid(`program "${name}" is not a file; --copy copies one file`);
  } catch (error) {
    if (error instanceof DsmError) throw error;
    throw invalid(`there is no program "${name}" to copy`);
  }
  return Bun.file(path);
}

/** Whether the terminal belongs to somebody else: reading from it would stop us. */
function isBackground(): boolean {
  if (!process.stdin.isTTY) return false;
  const [, , group, , , foreground] = statFields(readFileSync("/proc/self/stat", "latin1"));
  return group !== foreground;
}

/** On a terminal a bar for all hosts together, elsewhere a line for each. */
class CopyProgress {
  readonly #bytes = new Map<string, number>();
  #bar: Progress | null = null;

  copied(host: string, bytes: number, size: number): void {
    if (process.stderr.isTTY) this.#bar ??= startProgress("copying dsm to the hosts", size);
    else if (!this.#bytes.has(host)) messages.info(`copying dsm ${VERSION} (${formatSize(size)}) to ${host}`);
    this.#bytes.set(host, bytes);
    this.#bar?.at(Math.min(...this.#bytes.values()));
  }

  end(): void {
    this.#bar?.end();
    this.#bar = null;
  }
}
