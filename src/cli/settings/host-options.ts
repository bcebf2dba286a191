/** The hosts of `dsm run`: named by its options, or allocated by the scheduler under which it runs. */
import { readFileSync } from "node:fs";
import { hostname, networkInterfaces } from "node:os";
import { DsmError } from "../../core/base/errors.ts";
import { isLoopback } from "../../core/base/names.ts";
import {
  bareHost,
  type Host,
  parseHostfile,
  parseHostList,
  parseNodefile,
  parseSlurm,
} from "../../core/launch/hosts.ts";
import { invalid, readValue, UsageError, valueOption, wrongValue } from "./options.ts";

export const hostOptions = {
  hosts: {
    type: "string",
    alias: "H",
    description: "Hosts to start them on by ssh, and how many on each: a:4,b:4",
    valueHint: "LIST",
  },
  hostfile: {
    type: "string",
    description: "The same from a file, a line for each: HOST, HOST:N or HOST slots=N",
    valueHint: "FILE",
  },
  oversubscribe: { type: "boolean", description: "Allow more processes than the hosts have slots" },
  interface: {
    type: "string",
    description: "Address or interface of this machine that all hosts reach [the one the first host sees]",
    valueHint: "ADDRESS",
  },
  ssh: valueOption("ssh"),
  copy: { type: "boolean", description: "Copy the program's file to every host, for this run" },
  env: {
    type: "string",
    description: "Variable for the processes, NAME or NAME=VALUE; may be repeated",
    valueHint: "VARIABLE",
  },
} as const;

export interface ChosenHosts {
  hosts: Host[];
  /** Number of processes that the scheduler demands; undefined: one for each slot. */
  processes?: number;
  /** Chosen by the scheduler, not by the user. */
  allocated: boolean;
}

/** chooseHosts returns the hosts; null: this machine. Throws UsageError, or DSM_INVALID for a file. */
export function chooseHosts(
  args: { hosts?: string | undefined; hostfile?: string | undefined; nodes?: string | undefined },
  environment: Record<string, string | undefined>,
): ChosenHosts | null {
  const { hosts, hostfile } = args;
  if (hosts !== undefined && hostfile !== undefined) throw new UsageError("give --hosts or --hostfile, not both");
  if (hosts !== undefined || hostfile !== undefined) {
    if (args.nodes !== undefined) throw new UsageError("--nodes is for simulated nodes; with hosts each one is a node");
    if (hosts !== undefined) return { hosts: readValue(() => parseHostList(hosts)), allocated: false };
    return { hosts: fromFile("hostfile", hostfile as string, parseHostfile), allocated: false };
  }
  if (args.nodes !== undefined) return null;
  const { SLURM_JOB_NODELIST, SLURM_TASKS_PER_NODE, SLURM_NTASKS, SLURM_STEP_NUM_TASKS, PBS_NODEFILE } = environment;
  // A task that srun has started with others must not start all of them again.
  if (SLURM_JOB_NODELIST && !(Number(SLURM_STEP_NUM_TASKS ?? 1) > 1)) {
    const allocation = parseSlurm(SLURM_JOB_NODELIST, SLURM_TASKS_PER_NODE || undefined);
    const tasks = Number(SLURM_NTASKS);
    return { hosts: allocation, allocated: true, ...(tasks > 0 ? { processes: tasks } : {}) };
  }
  if (PBS_NODEFILE) return { hosts: fromFile("$PBS_NODEFILE", PBS_NODEFILE, parseNodefile), allocated: true };
  return null;
}

function fromFile(what: string, path: string, parse: (text: string) => Host[]): Host[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw invalid(`the ${what} ${path} cannot be read: ${(error as { code?: string }).code}`);
  }
  try {
    return parse(text);
  } catch (error) {
    throw error instanceof DsmError ? invalid(`the ${what} ${path}: ${error.message}`) : error;
  }
}

/** isHere returns whether `name` is a local name or address of this machine. By any other name it is reached by ssh. */
export function isHere(name: string): boolean {
  // Another user needs ssh.
  if (name.includes("@")) return false;
  const host = bareHost(name).toLowerCase();
  const own = hostname().toLowerCase();
  if (isLoopback(host) || host === own || localAddresses().includes(host)) return true;
  const short = (full: string): string => full.split(".")[0] as string;
  // "n1" and "n1.cluster" are the same, "n1.here" and "n1.there" are not.
  return host.includes(".") !== own.includes(".") && short(host) === short(own) && !/^[\d.]+$/.test(host);
}

export function localAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address));
}

/**
 * interfaceAddress returns the address that --interface names: an address of this machine, or the first of an
 * interface.
 */
export function interfaceAddress(given: string): string {
  const [first] = networkInterfaces()[given] ?? [];
  if (first !== undefined) return first.address;
  const address = bareHost(given);
  if (isLoopback(address) || localAddresses().includes(address)) return address;
  throw wrongValue(
    `"${given}" is neither an address nor an interface of this machine; its addresses are ${localAddresses().join(", ")}`,
  );
}

/** readVariables parses `--env`: NAME=VALUE, or NAME with its value in `environment`. */
export function readVariables(given: readonly string[], environment: Record<string, string | undefined>) {
  const variables: Record<string, string> = {};
  for (const text of given) {
    const [, name, value] = /^([^=]+)(?:=(.*))?$/s.exec(text) ?? [];
    const found = value ?? (name === undefined ? undefined : environment[name]);
    if (name === undefined || name.includes("\0")) throw wrongValue(`--env "${text}" is not NAME or NAME=VALUE`);
    if (found === undefined)
      throw wrongValue(`--env ${name}: there is no such variable here; give --env ${name}=VALUE`);
    variables[name] = found;
  }
  return variables;
}
