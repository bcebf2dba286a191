/** `dsm run`: checks the options, then starts the processes by ../run/local-run.ts, or over ssh by ../run/hosts. */
import { DsmError } from "../../core/base/errors.ts";
import { isLoopback } from "../../core/base/names.ts";
import { SETTINGS, type Setting, type SettingName } from "../../core/base/settings.ts";
import { travellingEnvironment } from "../../core/launch/environment.ts";
import { placeRanks, totalSlots } from "../../core/launch/hosts.ts";
import { command } from "../command.ts";
import { readSnapshotImage } from "../files/snapshot-file.ts";
import { selfEnvironment } from "../install/executable.ts";
import { runOnHosts } from "../run/hosts/multi-host-run.ts";
import { preloadEnvironment, preloadOption } from "../run/library-preload.ts";
import { LocalRun } from "../run/local-run.ts";
import { findProgram } from "../run/program.ts";
import { startRestoredServer } from "../run/restored-server.ts";
import { chooseHosts, hostOptions, interfaceAddress, isHere, readVariables } from "../settings/host-options.ts";
import {
  autostartOption,
  daemonOption,
  elasticOption,
  fromEnvironment,
  onLossOption,
  orderOption,
  readDaemon,
  readElastic,
  readSetting,
  readValue,
  readWhole,
  repeatedOption,
  restoreOption,
  UsageError,
  valueOption,
  wrongValue,
} from "../settings/options.ts";
import { readTlsOff, tlsOffOption } from "../settings/security.ts";
import { newSessionName } from "../settings/session-name.ts";
import { logFormatOption, messages, useLogFormat } from "../terminal/messages.ts";
import { daemonClient } from "../user-daemon-client.ts";

const DEFAULT_SIZE_TEXT = "1MiB";

const runArgs = {
  processes: { ...valueOption("processes", { does: "Processes to start" }), alias: "n" },
  nodes: {
    type: "string",
    description: "Simulated nodes to spread them over, in blocks of ranks [1]",
    valueHint: "N",
  },
  session: valueOption("session", { otherwise: "a new one" }),
  size: valueOption("size", { otherwise: DEFAULT_SIZE_TEXT }),
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
    description: "Program; everything after it is passed to it",
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
      "The processes get DSM_SESSION, DSM_PROCESSES, DSM_RANK and the other variables that the library needs to join. Standard input goes to process 0; signals go to all. The first process that fails ends the others, and its exit code is that of dsm run. With --on-loss continue the others go on, and the exit code is the same.",
      "A process that ends without joining, while another one waits for it to join, is a failure, too; not so in an elastic session. When dsm run itself is killed, its processes end.",
      'A program that ends in .ts or .js runs on the built-in Bun and can import "dsm"; one that ends in .py runs on python3 and can import dsm. Nothing needs to be installed for either. Everything else is an executable: looked for in the PATH, or given with a slash.',
      "With --hosts or --hostfile, and in an allocation of Slurm or PBS, the processes are started on those hosts over ssh, each of which is a node. A host without this version of dsm gets a copy of it. The program must be at the same path there, unless --copy sends it. The processes get the DSM_ variables, the environment of a login on their host, and the variables that --env names.",
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
      "126": "The program exists but cannot be started.",
      "127": "There is no such program.",
      "1": "A process waited to join with one that had ended, or a host was lost; or as that of the first process that failed.",
      "128+N": "A process was ended by signal N. Any other code is that of the first process that failed.",
    },
  },
  async run({ args, rawArgs }) {
    useLogFormat(args["log-format"], "run", fromEnvironment(args.session, "DSM_SESSION"));
    const programArgs = rawArgs.slice(rawArgs.indexOf("--") + 1);
    if (programArgs.length === 0) throw new UsageError("no program given");
    const saved = args.restore === undefined ? undefined : readSnapshotImage(args.restore).config;
    // All processes that this one starts read it, here and on other hosts.
    if (readTlsOff(args)) process.env.DSM_TLS_OFF = "1";
    const chosen = chooseHosts(args, process.env);
    const slots = chosen === null ? undefined : (chosen.processes ?? totalSlots(chosen.hosts));
    const processes = readSetting("processes", args.processes) ?? saved?.processes ?? slots;
    if (processes === undefined) throw new UsageError("the number of processes is missing; give -n N");
    const shares =
      chosen === null ? null : readValue(() => placeRanks(chosen.hosts, processes, args.oversubscribe === true));
    // An allocation of this machine alone needs no other host.
    const far = shares !== null && !(chosen?.allocated && shares.every(({ host }) => isHere(host)));
    const nodes = readWhole("nodes", args.nodes ?? "1");
    if (nodes < 1 || nodes > processes) {
      throw wrongValue(`${nodes} nodes for ${processes} processes; give 1 to ${processes} nodes`);
    }
    readSetting("size", args.size);
    // The processes get the text as the user gave it.
    const size = fromEnvironment(args.size, SETTINGS.size.variable) ?? saved?.size.toString() ?? DEFAULT_SIZE_TEXT;
    const order = readSetting("order", args.order);
    const onLoss = readSetting("onLoss", args["on-loss"]);
    const continues = (onLoss ?? saved?.onLoss) === "continue";
    const elastic = readElastic(args.elastic) || saved?.elastic === true;
    const daemon = readDaemon(args.daemon);
    checkInherited(args);
    const session = readSetting("session", args.session) ?? newSessionName("run");
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
      const hasDaemon = readSetting("daemon", args.daemon) !== undefined;
      if (hasDaemon && isLoopback(daemon.host) && !shares.every(({ host }) => isHere(host))) {
        throw wrongValue(
          `the daemon at ${daemon.address} is reached from here only; leave it out, or give one that all hosts reach`,
        );
      }
      return await runOnHosts({
        ...{ shares, session, words: programArgs, tag: args.tag === true, copy: args.copy === true, continues },
        environment: { ...travellingEnvironment(process.env), ...settings, ...variables },
        ssh: readWords("ssh", readSetting("ssh", args.ssh) ?? SETTINGS.ssh.fallback),
        interface: args.interface === undefined ? undefined : interfaceAddress(args.interface),
        daemon: hasDaemon ? daemon.address : null,
        server:
          restore === undefined
            ? null
            : (host, address, environment) =>
                startRestoredServer({
                  file: restore,
                  elastic,
                  autostart: false,
                  environment,
                  options: { ...options, host, daemon: address },
                }),
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
        : await startRestoredServer({
            file: restore,
            elastic,
            autostart: args.autostart !== false,
            options: { ...options, daemon: daemon.address },
          });
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
    const run = { program, environment, processes, nodes, tag: args.tag === true, continues, server };
    const code = await new LocalRun(run).done;
    if (code !== 0) await removeUnjoined(daemon.address, session);
    // By now the session has ended, or no process has joined it.
    server?.kill();
    await server?.exited;
    return code;
  },
});

/**
 * checkInherited reads the flags and numbers that the processes inherit as variables, so that a wrong one is an error of
 * this command line and not of every process. DSM_RANK is not inherited.
 */
function checkInherited(args: Record<string, unknown>): void {
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const { kind, option }: Setting = SETTINGS[name];
    if (name === "rank" || (kind !== "flag" && kind !== "whole")) continue;
    readSetting(name, option === undefined ? undefined : (args[option] as string | boolean | undefined));
  }
}

function readWords(option: string, text: string): string[] {
  const words = text.trim().split(/\s+/);
  if (words[0] === "") throw new UsageError(`--${option} is empty`);
  return words;
}

/**
 * removeUnjoined removes the session if no process has joined it: processes that fail before they join leave it behind.
 */
async function removeUnjoined(address: string, session: string): Promise<void> {
  try {
    const directory = daemonClient({ address, autostart: false });
    const detail = await directory.get(session);
    if (detail?.answered && detail.present === 0) await directory.remove(session);
  } catch (error) {
    // No daemon, no session.
    if (!(error instanceof DsmError)) throw error;
  }
}
