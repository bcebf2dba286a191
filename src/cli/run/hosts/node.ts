/** What `dsm run --hosts` starts on every host: takes its orders from standard input, and ends with it. */
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
import { daemonClient } from "../../daemon-client.ts";
import { runtimeFiles } from "../../install/assets.ts";
import { selfEnvironment } from "../../install/executable.ts";
import { UsageError } from "../../settings/options.ts";
import { runtimeDirectory } from "../../settings/runtime-directory.ts";
import { readSecurity } from "../../settings/security.ts";
import { CrashRecords } from "../crash-records.ts";
import { preloadEnvironment } from "../library-preload.ts";
import { writeAll } from "../output-prefix.ts";
import { anyLives, endsUnderway, signalGroup } from "../process-group.ts";
import { findProgram, type Program } from "../program.ts";

/** How long the ranks may take to end after the connection has gone, before they are killed. */
const END_TIMEOUT_MS = 2_000;
/** How long output may still come from pipes that a process left open to its children. */
const OUTPUT_TIMEOUT_MS = 1_000;

export async function runNode(): Promise<number> {
  if (process.stdin.isTTY) throw new UsageError('"dsm run --hosts" starts it, and speaks to it');
  await new Node().run();
  return 0;
}

class Node {
  readonly #ranks: Bun.Subprocess[] = [];
  readonly #outputs: Promise<void>[] = [];
  #input: Bun.FileSink | null = null;
  #orders: NodeOrders | null = null;
  /** Where the program's file is being written to, and what is still to come of it. */
  #file: { path: string; left: number; handle: Awaited<ReturnType<typeof open>> } | null = null;
  #folder: string | null = null;
  /** No rank is to be started any more. */
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
      // The other end has gone, or has had all it wants.
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

  /** What the ranks, and with them their arbiters, get. Returns the descriptor that keeps the token there. */
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
    const records = new CrashRecords(orders.count);
    const endings: Promise<void>[] = [];
    for (let rank = orders.first; rank < orders.first + orders.count && !this.#over; rank++) {
      let child: Bun.Subprocess;
      try {
        child = Bun.spawn({
          cmd: program.command,
          env: { ...environment, DSM_RANK: String(rank), ...records.environment(rank - orders.first) },
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
      this.#ranks.push(child);
      if (rank === 0) this.#input = child.stdin as Bun.FileSink;
      this.#outputs.push(this.#copy(Launch.STDOUT, rank, child.stdout as ReadableStream<Uint8Array>));
      this.#outputs.push(this.#copy(Launch.STDERR, rank, child.stderr as ReadableStream<Uint8Array>));
      endings.push(
        child.exited.then(async () => {
          const { exitCode: code, signalCode: signal } = child;
          const end: RankEnd = { code, signal, unseen: records.isUnseen(rank - orders.first, signal) };
          await this.#send(Launch.EXIT, rank, end);
        }),
      );
    }
    void this.#send(Launch.STARTED);
    await Promise.all(endings);
    records.close();
    await this.#endGroups();
    await Promise.race([Promise.all(this.#outputs), Bun.sleep(OUTPUT_TIMEOUT_MS)]);
    await this.#send(Launch.DONE);
  }

  /** A program that is linked with libdsm.so finds the one that belongs to this dsm where none is installed. */
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

  /** The EXIT of a rank is on its way before anything else is done about its end. */
  async #tellEnded(): Promise<void> {
    await endsUnderway(this.#ranks);
    await this.#send(Launch.ENDED_TOLD);
  }

  #signal(signal: NodeJS.Signals): void {
    if (signal === "SIGTERM" || signal === "SIGKILL") this.#over = true;
    for (const child of this.#ranks) signalGroup(child.pid, signal);
  }

  /** Ends all ranks, and kills those that do not listen. */
  #end(): void {
    this.#over = true;
    if (this.#ending) return;
    this.#ending = true;
    // One that is stopped does not hear the first.
    for (const signal of ["SIGTERM", "SIGCONT"] as const) this.#signal(signal);
    setTimeout(() => this.#signal("SIGKILL"), END_TIMEOUT_MS);
  }

  /** Ends what the ranks have left running behind them. Nothing tells when a group is empty, so it is asked. */
  async #endGroups(): Promise<void> {
    const alive = (): boolean => anyLives(this.#ranks.map(({ pid }) => pid));
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
