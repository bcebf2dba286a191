/** `dsm run` over many hosts: prepares them, starts the ranks, passes input, output and signals, and ends them all. */
import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { basename, resolve } from "node:path";
import { DsmError } from "../../../core/base/errors.ts";
import { LAUNCH_FRAME_MAX } from "../../../core/base/limits.ts";
import { parseAddress } from "../../../core/base/names.ts";
import { exactSize } from "../../../core/base/size.ts";
import type { Share } from "../../../core/launch/hosts.ts";
import { statFields } from "../../../core/launch/process.ts";
import { Launch, type LaunchFrame } from "../../../core/launch/start-frames.ts";
import { type NodeOrders, readNodeProblem, readRankEnd, readRankJoins } from "../../../core/launch/start-messages.ts";
import { isHere } from "../../settings/host-options.ts";
import { invalid } from "../../settings/options.ts";
import { messages } from "../../terminal/messages.ts";
import { OutputPrefix } from "../output-prefix.ts";
import { isPath } from "../program.ts";
import { RunGuard } from "../run-guard.ts";
import { UNSEEN } from "../run-records.ts";
import { StuckJoinWatch } from "../stuck-join.ts";
import { END_TIMEOUT_MS, ProcessTerminator } from "../termination.ts";
import { CopyProgress } from "./copy-progress.ts";
import { nodeName, openProgram } from "./program-file.ts";
import { endRunDaemon, type RunDaemon, startRunDaemon } from "./run-daemon.ts";
import { type Binary, NodeConnection, ownBinary } from "./ssh-node.ts";

/** How long a host may take to report its end, after its processes were killed or it was told to end. */
const FAREWELL_TIMEOUT_MS = 10_000;
const INPUT_CHUNK = 64 << 10;

export interface HostsRun {
  shares: Share[];
  session: string;
  /** Program and arguments, as on the command line. */
  words: string[];
  /** The program's file is to be copied to the hosts. */
  copy: boolean;
  /** Variables of the ranks, beside those of their hosts. */
  environment: Record<string, string>;
  tag: boolean;
  /** The others go on when a process fails, or a host is lost. */
  continues: boolean;
  ssh: string[];
  /** The address of this machine for the hosts; left out: the one that the first of them sees. */
  interface: string | undefined;
  /** Address of an existing daemon; null: a daemon is started for this run alone. */
  daemon: string | null;
  /** Starts the server of a restored session; null: none is restored. `host`: the address on which it listens. */
  server: ((host: string, daemon: string, environment: Record<string, string>) => Promise<Bun.Subprocess>) | null;
}

/** Returns the exit code of the first rank that failed, 0 if none did. Throws DsmError if the run could not begin. */
export function runOnHosts(run: HostsRun): Promise<number> {
  return new MultiHostRun(run).run();
}

/**
 * MultiHostRun: from the first connection to the last farewell.
 *
 *   connect to all hosts -> find or start the daemon -> send orders -> pass frames until all hosts are done -> leave
 *
 * Invariant: it returns or throws only when all connections have ended or were given up, and the daemon of this run has.
 */
class MultiHostRun {
  readonly #run: HostsRun;
  readonly #links: NodeConnection[] = [];
  readonly #output: OutputPrefix;
  readonly #lines = new Map<string, ReturnType<OutputPrefix["lines"]>>();
  readonly #done = new Set<NodeConnection>();
  #daemon: RunDaemon | null = null;
  #begun = false;
  /** A host did not report its end in time, or the output has no reader. */
  #gaveUp = false;
  #giveUp: ReturnType<typeof setTimeout> | undefined;
  readonly #terminator = new ProcessTerminator({
    send: (signal) => Promise.all(this.#links.map((link) => link.send(Launch.SIGNAL, 0, signal))),
    interruptedMs: 0,
    underway: () => this.#askEnded(),
    goesOn: () => this.#run.continues && this.#ranks.running.size > 0,
    begun: () => this.#begun,
    abandon: () => {
      for (const link of this.#links) link.close();
      this.#leaveIn(END_TIMEOUT_MS);
    },
    killed: () => this.#leaveIn(FAREWELL_TIMEOUT_MS),
  });
  /** `running`: those that have not ended, as far as is known; `joins`: how they join, once one has ended. */
  readonly #ranks: { running: Set<number>; joins: StuckJoinWatch };
  /** For each host that was asked which of its ranks have ended: the function to call when it has answered. */
  readonly #asked = new Map<NodeConnection, () => void>();
  /** Failures whose cause is not known yet. */
  readonly #judged: Promise<void>[] = [];
  #inputTaken: (more: boolean) => void = () => {};
  readonly #progress = new CopyProgress();

  constructor(run: HostsRun) {
    this.#run = run;
    const processes = processesOf(run);
    this.#ranks = {
      running: new Set(Array.from({ length: processes }, (_, rank) => rank)),
      joins: new StuckJoinWatch(processes, this.#terminator),
    };
    this.#output = new OutputPrefix(run.tag, (exitCode) => this.#terminator.fail(exitCode));
  }

  async run(): Promise<number> {
    this.#terminator.passSignals();
    // For daemon and server; the ranks are ended by their hosts.
    let guard: RunGuard | null = null;
    let server: Bun.Subprocess | null = null;
    try {
      const first = await this.#connect();
      if (this.#terminator.failure !== 0) return this.#terminator.failure;
      const { daemon: given, interface: chosen, shares } = this.#run;
      this.#daemon = await startRunDaemon({ given, seen: first, chosen, shares });
      const { address, token, process: ownDaemon } = this.#daemon;
      if (ownDaemon !== null || this.#run.server !== null) guard = await RunGuard.start();
      if (ownDaemon !== null) guard?.addRole(ownDaemon.pid);
      if (this.#run.server !== null) {
        const environment = token === null ? {} : { DSM_TOKEN: token };
        server = await this.#run.server((parseAddress(address) as { host: string }).host, address, environment);
        guard?.addRole(server.pid);
      }
      if (this.#terminator.failure === 0) await this.#sendOrders(address, token);
      await Promise.all(this.#links.map((link) => link.ended));
      await Promise.all(this.#judged);
      return this.#terminator.failure;
    } catch (error) {
      // A start that was interrupted may fail for that reason.
      if (this.#terminator.failure !== 0 && error instanceof DsmError) return this.#terminator.failure;
      this.#terminator.failure ||= 1;
      throw error;
    } finally {
      await this.#leave();
      this.#terminator.stop();
      this.#ranks.joins.stop();
      clearTimeout(this.#giveUp);
      if (!this.#gaveUp) await this.#output.flush();
      if (this.#daemon !== null) {
        await endRunDaemon(this.#daemon, this.#run.session, this.#terminator.failure !== 0);
      }
      server?.kill();
      await server?.exited;
      await guard?.done();
    }
  }

  /** Connects to all hosts. Returns the address of this machine as the first other machine sees it. */
  async #connect(): Promise<string | null> {
    const { shares, ssh } = this.#run;
    const far = shares.map(({ host }) => !isHere(host));
    const binary: Binary | null = far.includes(true) ? await ownBinary() : null;
    for (const [index, share] of shares.entries()) {
      const { host } = share;
      const link: NodeConnection = new NodeConnection({
        host,
        remote: far[index] ? { ssh, binary: binary as Binary } : null,
        handle: (frame) => this.#handle(link, share, frame),
        copied: (bytes) => this.#progress.copied(host, bytes, (binary as Binary).size),
      });
      this.#links.push(link);
      void link.ended.then(() => this.#lost(link, share));
    }
    const hellos = await Promise.all(this.#links.map((link) => link.hello));
    this.#progress.end();
    const index = far.indexOf(true);
    return index < 0 ? null : (hellos[index]?.connection.split(" ")[0] ?? "");
  }

  async #sendOrders(daemon: string, token: string | null): Promise<void> {
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
          throw invalid(
            `arguments and environment have ${text.length} bytes; the limit is ${exactSize(LAUNCH_FRAME_MAX)}`,
          );
        }
        await link.send(Launch.ORDERS, 0, text);
        for (let at = 0; file !== null && at < file.size; at += INPUT_CHUNK) {
          await link.send(Launch.PROGRAM, 0, await file.slice(at, Math.min(at + INPUT_CHUNK, file.size)).bytes());
        }
      }),
    );
  }

  async #handle(link: NodeConnection, { first, count }: Share, frame: LaunchFrame): Promise<void> {
    const { rank, payload } = frame;
    if (OF_RANK.has(frame.kind) && !(rank >= first && rank < first + count))
      throw new RangeError("a frame of another host's rank");
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
        this.#endOf([rank]);
        const who = `process ${rank} on ${link.host}`;
        this.#judged.push(this.#terminator.ended(who, code, signal as NodeJS.Signals | null, unseen ? UNSEEN : null));
        break;
      }
      case Launch.JOINS:
        this.#ranks.joins.update(rank, readRankJoins(frame));
        break;
      case Launch.PROBLEM: {
        const { message, exitCode } = readNodeProblem(frame);
        const advice = exitCode === 127 && !this.#run.copy ? "; --copy copies the program's file to all hosts" : "";
        if (!this.#terminator.isEnding) messages.error(`${link.host}: ${message}${advice}`);
        this.#done.add(link);
        link.close();
        this.#terminator.fail(exitCode);
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

  /** Resolves when each host has reported the ranks that had ended on it, or its connection has ended. */
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

  #linesOf(rank: number, fd: 1 | 2): ReturnType<OutputPrefix["lines"]> {
    const key = `${rank} ${fd}`;
    const known = this.#lines.get(key);
    if (known !== undefined) return known;
    const made = this.#output.lines(rank, fd);
    this.#lines.set(key, made);
    return made;
  }

  /** Notes that ranks have ended. From the first on another one may wait for it in vain. */
  #endOf(ranks: number[]): void {
    const { running } = this.#ranks;
    const isFirst = running.size === processesOf(this.#run);
    for (const rank of ranks) running.delete(rank);
    if (isFirst) for (const link of this.#links) void link.send(Launch.WATCH_JOINS);
  }

  /** Handles the end of a connection; before its host was done, that is a failure. */
  #lost(link: NodeConnection, { first, count }: Share): void {
    if (this.#done.has(link) || !this.#begun || this.#gaveUp) return;
    this.#done.add(link);
    const ranks = Array.from({ length: count }, (_, index) => first + index);
    this.#endOf(ranks);
    const why = link.lastWords === "" ? "" : ` (${link.lastWords})`;
    this.#terminator.lost(`the connection to ${link.host} was lost${why}`, 1);
    for (const rank of ranks) this.#ranks.joins.setGone(rank);
  }

  /** Gives up the remaining connections after that time. */
  #leaveIn(milliseconds: number): void {
    this.#terminator.stop();
    clearTimeout(this.#giveUp);
    this.#giveUp = setTimeout(() => {
      this.#gaveUp = true;
      this.#terminator.failure ||= 128 + constants.signals.SIGKILL;
      for (const link of this.#links) link.kill();
    }, milliseconds);
  }

  /** Sends standard input to rank 0, a chunk at a time: the next when rank 0 has taken the last. */
  async #feed(link: NodeConnection): Promise<void> {
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
        // A standard input that cannot be read counts as ended.
      }
    }
    void link.send(Launch.INPUT);
  }

  /** Closes all connections and waits until the hosts have ended what they started. */
  async #leave(): Promise<void> {
    this.#progress.end();
    for (const link of this.#links) link.close();
    this.#leaveIn(FAREWELL_TIMEOUT_MS);
    await Promise.all(this.#links.map((link) => link.ended));
    if (this.#gaveUp) return;
    for (const lines of this.#lines.values()) await lines.end();
  }
}

const processesOf = ({ shares }: HostsRun): number => shares.reduce((sum, { count }) => sum + count, 0);

/** Kinds of frames that concern one rank. */
const OF_RANK: ReadonlySet<number> = new Set([Launch.STDOUT, Launch.STDERR, Launch.EXIT, Launch.JOINS]);

/** Whether the terminal belongs to another process group: reading from it would stop us. */
function isBackground(): boolean {
  if (!process.stdin.isTTY) return false;
  const [, , group, , , foreground] = statFields(readFileSync("/proc/self/stat", "latin1"));
  return group !== foreground;
}
