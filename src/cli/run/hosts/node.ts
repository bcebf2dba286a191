/** `dsm node`, which `dsm run --hosts` starts on each host: it takes orders from standard input, and ends with it. */
import { closeSync, openSync, unlinkSync, writeFileSync } from "node:fs";
import { chmod, mkdtemp, open, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { DsmError } from "../../../core/base/errors.ts";
import { VERSION } from "../../../core/base/limits.ts";
import { parseAddress } from "../../../core/base/names.ts";
import { inheritedEnvironment } from "../../../core/launch/environment.ts";
import { Launch, type LaunchFrame, LaunchReader, launchFrame } from "../../../core/launch/start-frames.ts";
import {
  type NodeHello,
  type NodeOrders,
  type RankEnd,
  readNodeOrders,
  readSignal,
} from "../../../core/launch/start-messages.ts";
import { runtimeFiles } from "../../install/assets.ts";
import { selfEnvironment } from "../../install/executable.ts";
import { UsageError } from "../../settings/options.ts";
import { runtimeDirectory } from "../../settings/runtime-directory.ts";
import { readSecurity } from "../../settings/security.ts";
import { daemonClient } from "../../user-daemon-client.ts";
import { JoinMonitor } from "../join-monitor.ts";
import { preloadEnvironment } from "../library-preload.ts";
import { writeAll } from "../output-prefix.ts";
import { endsUnderway, livingRanks, signalRank } from "../process-group.ts";
import { findProgram, type Program } from "../program.ts";
import { RunGuard } from "../run-guard.ts";
import { RunRecords } from "../run-records.ts";

/** How long the ranks may take to end after the connection has gone, before they are killed. */
const END_TIMEOUT_MS = 2_000;
/** How long output may still come from pipes that a process has left open in its children. */
const OUTPUT_TIMEOUT_MS = 1_000;

export async function runNode(): Promise<number> {
  if (process.stdin.isTTY) throw new UsageError('"dsm node" is started by "dsm run --hosts" only');
  await new Node().run();
  return 0;
}

class Node {
  readonly #ranks: Bun.Subprocess[] = [];
  /** Ranks of which processes may be living; signals go to these. */
  readonly #present = new Set<number>();
  readonly #outputs: Promise<void>[] = [];
  #monitor: JoinMonitor | null = null;
  /** A rank has ended, here or on another host. */
  #watchesJoins = false;
  #input: Bun.FileSink | null = null;
  #orders: NodeOrders | null = null;
  /** The program's file while it arrives; `left`: the bytes still to come. */
  #file: { path: string; left: number; handle: Awaited<ReturnType<typeof open>> } | null = null;
  #folder: string | null = null;
  /** No further rank may be started. */
  #over = false;
  #ending = false;
  #done: Promise<void> = Promise.resolve();
  /** Frames go out one after the other. */
  #last: Promise<void> = Promise.resolve();

  async run(): Promise<void> {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => this.#end());
    const hello: NodeHello = { version: VERSION, connection: process.env.SSH_CONNECTION ?? "" };
    void this.#send(Launch.HELLO, 0, hello);
    try {
      const reader = new LaunchReader();
      for await (const chunk of Bun.stdin.stream()) {
        for (const frame of reader.push(chunk)) await this.#take(frame);
      }
    } finally {
      // `dsm run` has ended, or needs nothing more.
      this.#end();
      await this.#done;
      if (this.#folder !== null) await rm(this.#folder, { recursive: true, force: true });
    }
  }

  async #take(frame: LaunchFrame): Promise<void> {
    switch (frame.kind) {
      case Launch.ORDERS:
        await this.#order(readNodeOrders(frame));
        break;
      case Launch.PROGRAM:
        await this.#receive(frame.payload);
        break;
      case Launch.SIGNAL:
        this.#signal(readSignal(frame));
        break;
      case Launch.ASK_ENDED:
        void this.#tellEnded();
        break;
      case Launch.WATCH_JOINS:
        this.#watchesJoins = true;
        this.#monitor?.start();
        break;
      case Launch.INPUT:
        void this.#feed(frame.payload);
        break;
    }
  }

  async #order(orders: NodeOrders): Promise<void> {
    this.#orders = orders;
    if (orders.file === null) {
      this.#done = this.#start(orders, orders.words);
      return;
    }
    try {
      this.#folder = await mkdtemp(join(tmpdir(), "dsm-run-"));
      const path = join(this.#folder, basename(orders.words[0] as string));
      this.#file = { path, left: orders.file.size, handle: await open(path, "wx", 0o700) };
      await this.#receive(new Uint8Array(0));
    } catch (error) {
      await this.#refuse(`the program cannot be copied: ${(error as Error).message}`, 1);
    }
  }

  async #receive(bytes: Uint8Array): Promise<void> {
    const file = this.#file;
    if (file === null || this.#orders === null) return;
    try {
      for (let at = 0; at < bytes.length; ) at += (await file.handle.write(bytes, at)).bytesWritten;
      file.left -= bytes.length;
      if (file.left > 0) return;
      this.#file = null;
      await file.handle.close();
      await chmod(file.path, 0o700);
      this.#done = this.#start(this.#orders, [file.path, ...this.#orders.words.slice(1)]);
    } catch (error) {
      this.#file = null;
      await this.#refuse(`the program cannot be copied: ${(error as Error).message}`, 1);
    }
  }

  async #start(orders: NodeOrders, words: string[]): Promise<void> {
    let token: number | null = null;
    try {
      const variables = { ...inheritedEnvironment(process.env), ...orders.environment, DSM_NODE: orders.node };
      token = this.#setEnvironment(variables, orders);
      const { host } = parseAddress(orders.daemon) as { host: string };
      const security = readSecurity(host);
      await daemonClient({ address: orders.daemon, autostart: false, security }).health();
      try {
        process.chdir(orders.folder);
      } catch {
        process.chdir(homedir());
      }
      const program = await findProgram(words);
      if ("error" in program) {
        await this.#refuse(program.error, program.exitCode);
        return;
      }
      await this.#runRanks(orders, program);
    } catch (error) {
      if (!(error instanceof DsmError)) throw error;
      const reached = error.code !== "DSM_UNREACHABLE";
      const advice = "; give an address that all hosts reach with --interface, and let its firewall pass it";
      await this.#refuse(`${error.message}${reached ? "" : advice}`, 1);
    } finally {
      if (token !== null) closeSync(token);
    }
  }

  /** Sets the variables of the ranks and their arbiters. Returns the descriptor of the token's file; null: no token. */
  #setEnvironment(variables: Record<string, string>, orders: NodeOrders): number | null {
    for (const name of Object.keys(process.env)) if (!(name in variables)) delete process.env[name];
    delete variables.DSM_TOKEN;
    delete process.env.DSM_TOKEN;
    let token: number | null = null;
    if (orders.token !== null) {
      // A file without a name: only this user's processes can open it, and it goes with this process.
      const path = join(runtimeDirectory(), `t-${crypto.randomUUID()}`);
      writeFileSync(path, orders.token, { flag: "wx", mode: 0o600 });
      token = openSync(path, "r");
      unlinkSync(path);
      variables.DSM_TOKEN_FILE = `/proc/${process.pid}/fd/${token}`;
    }
    Object.assign(process.env, variables, { DSM_DAEMON: orders.daemon, DSM_AUTOSTART: "0" });
    return token;
  }

  async #runRanks(orders: NodeOrders, program: Program): Promise<void> {
    const { libraryPath } = await this.#library(program);
    const environment: Record<string, string> = {
      ...(process.env as Record<string, string>),
      ...selfEnvironment(),
      ...libraryPath,
      ...program.environment,
    };
    Object.assign(environment, await preloadEnvironment(program, environment));
    const records = new RunRecords(orders.count);
    const guard = await RunGuard.start();
    const monitor = new JoinMonitor({
      ranks: this.#ranks,
      records,
      report: (slot, joins) => {
        const { pid } = this.#ranks[slot] as Bun.Subprocess;
        if (joins.isGone && this.#present.delete(pid)) guard.gone(pid);
        void this.#send(Launch.JOINS, orders.first + slot, joins);
      },
    });
    this.#monitor = monitor;
    if (this.#watchesJoins) monitor.start();
    const endings: Promise<void>[] = [];
    for (let rank = orders.first; rank < orders.first + orders.count && !this.#over; rank++) {
      let child: Bun.Subprocess;
      const record = records.environment(rank - orders.first);
      guard.starts(record);
      try {
        child = Bun.spawn({
          cmd: program.command,
          env: { ...environment, DSM_RANK: String(rank), ...record },
          stdin: rank === 0 ? "pipe" : "ignore",
          stdout: "pipe",
          stderr: "pipe",
          detached: true,
        });
      } catch (error) {
        await this.#refuse(`process ${rank} cannot be started: ${(error as Error).message}`, 126);
        this.#end();
        break;
      }
      guard.started(child.pid);
      this.#ranks.push(child);
      this.#present.add(child.pid);
      if (rank === 0) this.#input = child.stdin as Bun.FileSink;
      this.#outputs.push(this.#copy(Launch.STDOUT, rank, child.stdout as ReadableStream<Uint8Array>));
      this.#outputs.push(this.#copy(Launch.STDERR, rank, child.stderr as ReadableStream<Uint8Array>));
      endings.push(
        child.exited.then(async () => {
          monitor.start();
          const { exitCode: code, signalCode: signal } = child;
          const end: RankEnd = { code, signal, unseen: records.isUnseen(rank - orders.first, signal) };
          await this.#send(Launch.EXIT, rank, end);
        }),
      );
    }
    void this.#send(Launch.STARTED);
    await Promise.all(endings);
    monitor.stop();
    this.#monitor = null;
    await this.#endGroups();
    monitor.look();
    records.close();
    await guard.done();
    await Promise.race([Promise.all(this.#outputs), Bun.sleep(OUTPUT_TIMEOUT_MS)]);
    await this.#send(Launch.DONE);
  }

  /** Lets a program that is linked with libdsm.so find the one of this dsm where none is installed. */
  async #library(program: Program): Promise<{ libraryPath: Record<string, string> }> {
    if (program.environment.DSM_LIBRARY !== undefined) return { libraryPath: {} };
    const folder = dirname((await runtimeFiles()).library);
    const given = process.env.LD_LIBRARY_PATH;
    return { libraryPath: { LD_LIBRARY_PATH: given ? `${given}:${folder}` : folder } };
  }

  async #copy(kind: Launch, rank: number, stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const chunk of stream) await this.#send(kind, rank, chunk);
  }

  async #feed(bytes: Uint8Array): Promise<void> {
    const input = this.#input;
    let taken = input !== null;
    try {
      if (bytes.length === 0) await input?.end();
      else {
        input?.write(bytes);
        await input?.flush();
      }
    } catch {
      taken = false;
    }
    await this.#send(Launch.INPUT_TAKEN, 0, taken ? "" : "no more");
  }

  /** Reports the ranks that are ending by their EXIT, and then that it has done so. */
  async #tellEnded(): Promise<void> {
    await endsUnderway(this.#ranks);
    await this.#send(Launch.ENDED_TOLD);
  }

  #signal(signal: NodeJS.Signals): void {
    if (signal === "SIGTERM" || signal === "SIGKILL") this.#over = true;
    for (const pid of this.#present) signalRank(pid, signal);
  }

  /** Ends all ranks, and kills those that do not end in time. */
  #end(): void {
    this.#over = true;
    if (this.#ending) return;
    this.#ending = true;
    // A stopped process handles SIGTERM only after SIGCONT.
    for (const signal of ["SIGTERM", "SIGCONT"] as const) this.#signal(signal);
    setTimeout(() => this.#signal("SIGKILL"), END_TIMEOUT_MS);
  }

  /** Ends the processes that the ranks have left running. The kernel does not report their end, so this polls. */
  async #endGroups(): Promise<void> {
    const alive = (): boolean => livingRanks([...this.#present]).size > 0;
    if (!alive()) return;
    this.#end();
    while (alive()) await Bun.sleep(10);
  }

  async #refuse(message: string, exitCode: number): Promise<void> {
    await this.#send(Launch.PROBLEM, 0, { message, exitCode });
  }

  #send(kind: Launch, rank = 0, payload: Uint8Array | string | object = ""): Promise<void> {
    this.#last = this.#last.then(async () => {
      try {
        await writeAll(1, launchFrame(kind, rank, payload));
      } catch {
        // `dsm run` is gone: end all ranks.
        this.#end();
      }
    });
    return this.#last;
  }
}
