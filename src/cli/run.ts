import { constants, hostname } from "node:os";
import { inheritedEnvironment } from "../core/environment.ts";
import { DsmError } from "../core/errors.ts";
import { placeRanks, totalSlots } from "../core/hosts.ts";
import { NAME_MAX } from "../core/limits.ts";
import { command } from "./command.ts";
import { CrashRecords, UNSEEN } from "./crash-records.ts";
import { createDirectory } from "./directory.ts";
import { END_TIMEOUT_MS, Ending } from "./ending.ts";
import { chooseHosts, hostOptions, isHere, readVariables } from "./host-options.ts";
import { runOnHosts } from "./hosts-run.ts";
import { preloadEnvironment, preloadOption } from "./library-preload.ts";
import { lines } from "./lines.ts";
import { logFormatOption, messages, useLogFormat } from "./messages.ts";
import {
  autostartOption,
  daemonOption,
  elasticOption,
  fromEnvironment,
  invalid,
  onLossOption,
  orderOption,
  readDaemon,
  readElastic,
  readName,
  readOnLoss,
  readOrder,
  readProcesses,
  readSize,
  readWhole,
  repeatedOption,
  restoreOption,
  UsageError,
} from "./options.ts";
import { anyLives, endsUnderway, signalGroup } from "./process-group.ts";
import { findProgram, type Program } from "./program.ts";
import { type Progress, startProgress } from "./progress.ts";
import { readTlsOff, tlsOffOption } from "./security.ts";
import { selfCommand, selfEnvironment } from "./self.ts";
import { readSnapshotImage } from "./snapshot-file.ts";
import { LineOutput } from "./tag.ts";

const DEFAULT_SIZE_TEXT = "1MiB";
/** How long output may still come from pipes that a process left open to somebody else. */
const OUTPUT_TIMEOUT_MS = 1_000;

const runArgs = {
  processes: {
    type: "string",
    alias: "n",
    description: "Processes to start [DSM_PROCESSES]",
    valueHint: "N",
  },
  nodes: {
    type: "string",
    description: "Simulated nodes to spread them over, in blocks of ranks [1]",
    valueHint: "N",
  },
  session: { type: "string", description: "Name of the session [DSM_SESSION, else a new one]", valueHint: "SESSION" },
  size: {
    type: "string",
    description: `Shared memory, such as 65536, 64KiB, 1GiB [DSM_SIZE, else ${DEFAULT_SIZE_TEXT}]`,
    valueHint: "BYTES",
  },
  ...orderOption,
  ...onLossOption,
  ...elasticOption,
  ...restoreOption,
  ...hostOptions,
  ...daemonOption,
  ...autostartOption,
  ...preloadOption,
  ...tlsOffOption,
  ...logFormatOption,
  tag: { type: "boolean", description: "Begin every line of output with the rank, as [0]" },
  program: {
    type: "positional",
    required: false,
    description: "Program and its arguments, which are all that follows",
    valueHint: "PROGRAM",
  },
} as const;

export default command({
  meta: {
    name: "run",
    description: "Start a program as the processes of one session",
  },
  args: runArgs,
  takesProgram: true,
  manual: {
    details: [
      "The processes get DSM_SESSION, DSM_PROCESSES, DSM_RANK and what else the library needs to join. Standard input goes to process 0; signals go to all. The first process that fails ends the others, and its exit code is that of dsm run.",
      'A program that ends in .ts or .js runs on the built-in Bun and can import "dsm"; one that ends in .py runs on python3 and can import dsm. Nothing needs to be installed for either. Everything else is an executable: looked for in the PATH, or given with a slash.',
      "With --hosts or --hostfile, and in an allocation of Slurm or PBS, the processes are started on those hosts over ssh, each of which is a node. A host that has not this very dsm gets a copy of it. The program must be there at the same path, if --copy does not take it along. The processes get the DSM_ variables, what their host gives to who logs in, and what --env names.",
    ],
    examples: [
      { does: "4 processes on 2 simulated nodes", line: "dsm run -n 4 --nodes 2 -- hello.ts" },
      {
        does: "A C program with 1 GiB of shared memory, every line of output marked with its rank",
        line: "dsm run -n 2 --size 1GiB --order release --tag -- ./heat --steps 100",
      },
      { does: "8 processes on two other machines, over ssh", line: "dsm run --hosts n1:4,n2:4 -- ./heat" },
      { does: "Go on from a saved session", line: "dsm run --restore heat.snap -- ./heat" },
    ],
    exits: {
      "126": "The program is there but cannot be started.",
      "127": "There is no such program.",
      "128+N": "A process was ended by signal N. Any other code is that of the first process that failed.",
    },
  },
  async run({ args, rawArgs }) {
    useLogFormat(args["log-format"], "run", fromEnvironment(args.session, "DSM_SESSION"));
    const programArgs = rawArgs.slice(rawArgs.indexOf("--") + 1);
    if (programArgs.length === 0) throw new UsageError("no program given");
    const saved = args.restore === undefined ? undefined : readSnapshotImage(args.restore).config;
    // For all that is started from here on, and on other hosts.
    if (readTlsOff(args)) process.env.DSM_TLS_OFF = "1";
    const chosen = chooseHosts(args, process.env);
    const slots = chosen === null ? undefined : (chosen.processes ?? totalSlots(chosen.hosts));
    const given = fromEnvironment(args.processes, "DSM_PROCESSES") ?? saved?.processes.toString() ?? slots?.toString();
    if (given === undefined) throw new UsageError("the number of processes is missing; give -n N");
    const processes = readProcesses(given);
    const shares = chosen === null ? null : placeRanks(chosen.hosts, processes, args.oversubscribe === true);
    // In an allocation of this machine alone nothing is to be reached.
    const far = shares !== null && !(chosen?.allocated && shares.every(({ host }) => isHere(host)));
    const nodes = readWhole("nodes", args.nodes ?? "1");
    if (nodes < 1 || nodes > processes) {
      throw invalid(`${nodes} nodes for ${processes} processes; give 1 to ${processes} nodes`);
    }
    const size = fromEnvironment(args.size, "DSM_SIZE") ?? saved?.size.toString() ?? DEFAULT_SIZE_TEXT;
    readSize(size);
    const order = fromEnvironment(args.order, "DSM_ORDER");
    if (order !== undefined) readOrder(order);
    const onLoss = fromEnvironment(args["on-loss"], "DSM_ON_LOSS");
    if (onLoss !== undefined) readOnLoss(onLoss);
    const elastic = readElastic(args.elastic) || saved?.elastic === true;
    const daemon = readDaemon(args.daemon);
    const session = readName("session", fromEnvironment(args.session, "DSM_SESSION") ?? `run-${crypto.randomUUID()}`);
    useLogFormat(args["log-format"], "run", session);

    const variables = readVariables(
      repeatedOption(rawArgs.slice(0, rawArgs.indexOf("--")), runArgs, "env"),
      process.env,
    );
    const settings: Record<string, string> = {
      DSM_SESSION: session,
      DSM_PROCESSES: String(processes),
      DSM_SIZE: size,
      ...(order === undefined ? {} : { DSM_ORDER: order }),
      ...(onLoss === undefined ? {} : { DSM_ON_LOSS: onLoss }),
      ...(elastic ? { DSM_ELASTIC: "1" } : {}),
      ...(args.preload ? {} : { DSM_PRELOAD: "0" }),
    };
    const options = {
      ...{ session, processes, size },
      ...(order === undefined ? {} : { order }),
      ...(onLoss === undefined ? {} : { "on-loss": onLoss }),
    };
    const { restore } = args;
    if (far) {
      return await runOnHosts({
        ...{ shares, session, words: programArgs, tag: args.tag === true, copy: args.copy === true },
        environment: { ...travelling(process.env), ...settings, ...variables },
        ssh: readWords("ssh", fromEnvironment(args.ssh, "DSM_SSH") ?? "ssh"),
        interface: args.interface,
        daemon: fromEnvironment(args.daemon, "DSM_DAEMON") === undefined ? null : daemon.address,
        server:
          restore === undefined
            ? null
            : (host, address, environment) =>
                restoredServer(restore, { ...options, host, daemon: address }, elastic, false, environment),
      });
    }
    for (const option of ["hosts", "hostfile", "oversubscribe", "interface", "ssh", "copy"] as const) {
      if (args[option] !== undefined && chosen === null)
        throw new UsageError(`--${option} needs --hosts or --hostfile`);
    }

    const program = await findProgram(programArgs);
    if ("error" in program) {
      messages.error(program.error);
      return program.exitCode;
    }
    const server =
      restore === undefined
        ? null
        : await restoredServer(restore, { ...options, daemon: daemon.address }, elastic, args.autostart);
    const environment: Record<string, string> = {
      ...(process.env as Record<string, string>),
      ...settings,
      DSM_DAEMON: daemon.address,
      ...selfEnvironment(),
      ...(args.autostart ? {} : { DSM_AUTOSTART: "0" }),
      ...program.environment,
      ...variables,
    };
    Object.assign(environment, await preloadEnvironment(program, environment));
    const code = await new Run(program, environment, processes, nodes, args.tag === true).done;
    if (code !== 0) await removeUnjoined(daemon.address, session);
    // By now the session has ended, or nobody came to it.
    server?.kill();
    await server?.exited;
    return code;
  },
});

/** Variables that mean this machine, or are handed over in another way. */
const STAYING = ["TOKEN", "TOKEN_FILE", "BIN", "LIBRARY", "RUN_RECORD", "NODE", "RANK", "SSH", "DAEMON", "AUTOSTART"];

/** The settings of dsm that go along to other hosts. */
function travelling(environment: Record<string, string | undefined>): Record<string, string> {
  const kept = Object.entries(environment).filter(
    ([name, value]) => /^DSM_/.test(name) && value !== undefined && !STAYING.includes(name.slice(4)),
  );
  return Object.fromEntries(kept) as Record<string, string>;
}

function readWords(option: string, text: string): string[] {
  const words = text.trim().split(/\s+/);
  if (words[0] === "") throw new UsageError(`--${option} is empty`);
  return words;
}

/** All processes of one `dsm run`. Each leads a session of its own, so that a signal reaches all it has started. */
class Run {
  /** Exit code of the first that failed; 0 if none did. */
  readonly done: Promise<number>;
  readonly #ranks: Bun.Subprocess[] = [];
  /** Those whose end has not been seen yet. */
  readonly #living = new Set<Bun.Subprocess>();
  readonly #outputs: Promise<void>[] = [];
  readonly #records: CrashRecords;
  readonly #ending = new Ending({
    send: (signal) => {
      for (const child of this.#ranks) signalGroup(child.pid, signal);
    },
    interruptedMs: END_TIMEOUT_MS,
    underway: () => endsUnderway(this.#living),
  });

  constructor(program: Program, environment: Record<string, string>, processes: number, nodes: number, tag: boolean) {
    this.#ending.passSignals();
    this.#records = new CrashRecords(processes);
    this.done = this.#run(program, environment, processes, nodes, tag);
  }

  async #run(
    program: Program,
    environment: Record<string, string>,
    processes: number,
    nodes: number,
    tag: boolean,
  ): Promise<number> {
    const output = tag ? new LineOutput(true, () => this.#ending.fail(128 + constants.signals.SIGPIPE)) : null;
    const endings: Promise<void>[] = [];
    for (let rank = 0; rank < processes && this.#ending.failure === 0; rank++) {
      let child: Bun.Subprocess;
      try {
        child = Bun.spawn({
          cmd: program.command,
          env: {
            ...environment,
            DSM_RANK: String(rank),
            ...this.#records.environment(rank),
            ...(nodes > 1 ? { DSM_NODE: nodeName(Math.floor((rank * nodes) / processes)) } : {}),
          },
          stdin: rank === 0 ? "inherit" : "ignore",
          stdout: output ? "pipe" : "inherit",
          stderr: output ? "pipe" : "inherit",
          detached: true,
        });
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        messages.error(`process ${rank} cannot be started: ${reason}`);
        this.#ending.fail(126);
        break;
      }
      this.#ranks.push(child);
      this.#living.add(child);
      if (output) {
        this.#outputs.push(output.copy(rank, 1, child.stdout as ReadableStream<Uint8Array>));
        this.#outputs.push(output.copy(rank, 2, child.stderr as ReadableStream<Uint8Array>));
      }
      const ended = (): Promise<void> => {
        this.#living.delete(child);
        const why = this.#records.isUnseen(rank, child.signalCode) ? UNSEEN : null;
        return this.#ending.ended(`process ${rank}`, child.exitCode, child.signalCode, why);
      };
      endings.push(child.exited.then(ended));
    }
    await Promise.all(endings);
    await this.#endGroups();
    this.#ending.stop();
    this.#records.close();
    if (output) {
      await Promise.race([Promise.all(this.#outputs), Bun.sleep(OUTPUT_TIMEOUT_MS)]);
      await output.flush();
    }
    return this.#ending.failure;
  }

  /** Ends what the ranks have left running behind them. Nothing tells when a group is empty, so it is asked. */
  async #endGroups(): Promise<void> {
    const alive = (): boolean => anyLives(this.#ranks.map(({ pid }) => pid));
    if (!alive()) return;
    this.#ending.end();
    while (alive()) await Bun.sleep(10);
  }
}

function nodeName(index: number): string {
  const suffix = `-${index}`;
  return `${hostname().slice(0, NAME_MAX - suffix.length)}${suffix}`;
}

/** Starts the server of a session that begins with a snapshot, and waits until it is known to the daemon. */
async function restoredServer(
  file: string,
  options: Record<string, string | number>,
  elastic: boolean,
  autostart: boolean,
  environment: Record<string, string> = {},
): Promise<Bun.Subprocess> {
  const words = Object.entries(options).map(([option, value]) => `--${option}=${value}`);
  const server = Bun.spawn({
    cmd: [
      ...selfCommand(),
      "server",
      `--restore=${file}`,
      "--report-progress",
      ...words,
      ...(elastic ? ["--elastic"] : []),
      ...(autostart ? [] : ["--no-autostart"]),
    ],
    env: { ...inheritedEnvironment(process.env), ...environment },
    stdio: ["ignore", "pipe", "pipe"],
    // A signal to our group is passed on to the processes; the server ends behind them.
    detached: true,
  });
  let progress: Progress | undefined;
  let ready = false;
  for await (const line of lines(server.stdout)) {
    const [, done, total] = /^progress (\d+) (\d+)$/.exec(line) ?? [];
    if (done === undefined) {
      ready = line.startsWith("dsm server: ");
      break;
    }
    progress ??= startProgress(`reading ${file}`, Number(total));
    progress.at(Number(done));
  }
  progress?.end();
  if (ready) return server;
  const reason = (await server.stderr.text())
    .trim()
    .split("\n")
    .at(-1)
    ?.replace(/^dsm: /, "");
  await server.exited;
  throw new DsmError("DSM_SYSTEM", reason || "the server of the restored session did not start");
}

/** Processes that failed before they joined leave a session nobody will come to. */
async function removeUnjoined(address: string, session: string): Promise<void> {
  try {
    const directory = createDirectory({ address, autostart: false });
    const detail = await directory.get(session);
    if (detail?.answered && detail.present === 0) await directory.remove(session);
  } catch (error) {
    // Without a daemon there is no session either.
    if (!(error instanceof DsmError)) throw error;
  }
}
