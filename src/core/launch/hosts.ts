/**
 * The hosts on which a program runs: lists and files as Open MPI and MPICH have them, and the allocations of the
 * schedulers Slurm and PBS. All functions throw DSM_INVALID with one line that names the fault.
 */
import { DsmError } from "../base/errors.ts";
import { DEFAULT_PORT, HOST_NAME_MAX, NODES_MAX, PROCESSES_MAX } from "../base/limits.ts";
import { formatAddress } from "../base/names.ts";

export interface Host {
  /** As ssh takes it: a name or an address, preceded by the user if that is a different one: "eve@n1". */
  name: string;
  /** Number of its processes, 1 or more. */
  slots: number;
}

/** The ranks of one host: `count` of them from `first` on. */
export interface Share {
  host: string;
  first: number;
  count: number;
}

/** Parses "a:4,eve@b:2,[fe80::1]:3,c", in which c has one slot. A host that is named again gets the slots of both. */
export function parseHostList(text: string): Host[] {
  return merged(
    text.split(",").map((word) => {
      const host = word.trim();
      if (host === "") throw invalid(`the list of hosts "${text}" has an empty place; write it as a:4,b:4`);
      return parseHost(host, undefined);
    }),
  );
}

/** Parses lines of "host", "host:4" or "host slots=4"; a # begins a comment. */
export function parseHostfile(text: string): Host[] {
  const hosts: Host[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const [name, ...words] = (line.split("#")[0] as string).trim().split(/\s+/) as [string, ...string[]];
    if (name === "") continue;
    try {
      const slots = words.length === 0 ? undefined : /^slots=(\d+)$/.exec(words.join(""))?.[1];
      if (words.length > 0 && slots === undefined) {
        throw invalid(`"${words.join(" ")}" is not understood; write HOST, HOST:N or HOST slots=N`);
      }
      hosts.push(parseHost(name, slots));
    } catch (error) {
      throw error instanceof DsmError ? invalid(`line ${index + 1}: ${error.message}`) : error;
    }
  }
  if (hosts.length === 0) throw invalid("it names no host");
  return merged(hosts);
}

/** Parses a file with one line for each slot, as $PBS_NODEFILE. */
export function parseNodefile(text: string): Host[] {
  const names = text.split("\n").map((line) => line.trim());
  const hosts = names.filter((name) => name !== "").map((name) => ({ name: checkedName(name), slots: 1 }));
  if (hosts.length === 0) throw invalid("it names no host");
  return merged(hosts);
}

/**
 * Parses SLURM_JOB_NODELIST and SLURM_TASKS_PER_NODE: "n[01-03,7],big" and "4(x3),2(x2)". Without the second: one each.
 */
export function parseSlurm(nodes: string, tasks: string | undefined): Host[] {
  const names = expandNodelist(nodes);
  const slots = tasks === undefined ? names.map(() => 1) : expandTasks(tasks);
  if (slots.length !== names.length) {
    throw invalid(`"${nodes}" are ${names.length} nodes, but "${tasks}" are tasks of ${slots.length}`);
  }
  return merged(names.map((name, index) => ({ name: checkedName(name), slots: slots[index] as number })));
}

/**
 * The settings of a task that Slurm's srun has started, as DSM_ variables: its step is a session. {} where there is no
 * step. A step on several nodes looks for the daemon where srun was called. native/src/api/config.c does the same.
 */
export function slurmStep(environment: Record<string, string | undefined>): Record<string, string> {
  const job = environment.SLURM_JOB_ID;
  const step = environment.SLURM_STEP_ID;
  const tasks = environment.SLURM_STEP_NUM_TASKS;
  const rank = environment.SLURM_PROCID;
  if (!job || !step || !tasks || !rank) return {};
  const node = environment.SLURMD_NODENAME;
  const home = Number(environment.SLURM_STEP_NUM_NODES) > 1 ? environment.SLURM_LAUNCH_NODE_IPADDR : undefined;
  return {
    DSM_SESSION: `slurm-${job}.${step}`,
    DSM_PROCESSES: tasks,
    DSM_RANK: rank,
    ...(node ? { DSM_NODE: node } : {}),
    ...(home ? { DSM_DAEMON: formatAddress(home, DEFAULT_PORT) } : {}),
  };
}

/** Expands a list that Slurm has compressed: n[01-03,7]-[a,b] is a product, and leading zeros are kept. */
export function expandNodelist(text: string): string[] {
  const names: string[] = [];
  for (const word of splitOutside(text)) {
    const parts = word.split(/(\[[^[\]]*\])/);
    if (word === "" || /[[\]]/.test(parts.filter((_, index) => index % 2 === 0).join(""))) throw badNodelist(text);
    let made = [""];
    for (const [index, part] of parts.entries()) {
      const choices = index % 2 === 0 ? [part] : expandRanges(part.slice(1, -1), text);
      if (made.length * choices.length > NODES_MAX) throw tooManyHosts();
      made = made.flatMap((start) => choices.map((choice) => start + choice));
    }
    names.push(...made);
    if (names.length > NODES_MAX) throw tooManyHosts();
  }
  return names;
}

/** Splits at the commas outside brackets. */
function splitOutside(text: string): string[] {
  return text.split(/,(?![^[\]]*\])/);
}

function expandRanges(text: string, whole: string): string[] {
  const made: string[] = [];
  for (const range of text.split(",")) {
    const match = /^(\d{1,15})(?:-(\d{1,15}))?$/.exec(range);
    if (match === null) throw badNodelist(whole);
    const [low, high] = [match[1] as string, match[2] ?? (match[1] as string)];
    if (Number(high) < Number(low)) throw badNodelist(whole);
    if (Number(high) - Number(low) >= NODES_MAX) throw tooManyHosts();
    for (let number = Number(low); number <= Number(high); number += 1) {
      made.push(String(number).padStart(low.length, "0"));
    }
    if (made.length > NODES_MAX) throw tooManyHosts();
  }
  return made;
}

/** Expands "4(x2),3" to 4, 4, 3. */
export function expandTasks(text: string): number[] {
  const made: number[] = [];
  for (const word of text.split(",")) {
    const match = /^(\d{1,6})(?:\(x(\d{1,6})\))?$/.exec(word);
    const times = Number(match?.[2] ?? 1);
    const tasks = Number(match?.[1] ?? 0);
    if (tasks < 1 || times < 1) throw invalid(`"${text}" is no list of tasks such as 4(x2),3`);
    if (made.length + times > NODES_MAX) throw tooManyHosts();
    made.push(...Array<number>(times).fill(tasks));
  }
  return made;
}

/**
 * Places ranks: fills the slots of the first host, then of the next, until all `processes` have one. If `oversubscribe`
 * allows it, the ranks beyond all slots go to the hosts in turns. Hosts without a rank are left out.
 */
export function placeRanks(hosts: readonly Host[], processes: number, oversubscribe: boolean): Share[] {
  const slots = totalSlots(hosts);
  if (processes > slots && !oversubscribe) {
    throw invalid(
      `${processes} processes for ${slots} slots; write how many each host is to have, as a:4,b:4, or add --oversubscribe`,
    );
  }
  const counts: number[] = [];
  let left = processes;
  for (const host of hosts) {
    const count = Math.min(host.slots, left);
    counts.push(count);
    left -= count;
  }
  const [each, rest] = [Math.floor(left / hosts.length), left % hosts.length];
  let first = 0;
  const shares: Share[] = [];
  for (const [index, host] of hosts.entries()) {
    const count = (counts[index] as number) + each + (index < rest ? 1 : 0);
    if (count > 0) shares.push({ host: host.name, first, count });
    first += count;
  }
  return shares;
}

export function totalSlots(hosts: readonly Host[]): number {
  return hosts.reduce((sum, { slots }) => sum + slots, 0);
}

/** The host's name without user and brackets: "eve@[fe80::1]" is fe80::1. */
export function bareHost(name: string): string {
  return name.slice(name.lastIndexOf("@") + 1).replace(/^\[(.*)\]$/, "$1");
}

/** Parses a host. `slots`, if given, else the number after its colon, else 1. */
function parseHost(text: string, slots: string | undefined): Host {
  const match = /^((?:[^@\s]*@)?(?:\[[^\]\s]*\]|[^:\s]*))(?::([^:]*))?$/.exec(text);
  if (match === null) throw badHost(text);
  if (match[2] !== undefined && slots !== undefined) throw invalid(`"${text}" and slots=${slots} both say how many`);
  const count = slots ?? match[2] ?? "1";
  if (!/^\d{1,6}$/.test(count) || Number(count) < 1 || Number(count) > PROCESSES_MAX) {
    throw invalid(`"${text}": ${JSON.stringify(count)} is no number of slots; give 1 to ${PROCESSES_MAX}`);
  }
  return { name: checkedName(match[1] as string), slots: Number(count) };
}

/** Checks a name: it becomes an argument of ssh, so it must not look like an option or mean something to a shell. */
function checkedName(name: string): string {
  const good = /^(?:[A-Za-z0-9_][\w.-]*@)?(?:[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.]+\])$/.test(name);
  if (!good) throw badHost(name);
  if (name.length > HOST_NAME_MAX) throw invalid(`the host name "${name.slice(0, 32)}..." is too long`);
  return name;
}

function merged(hosts: readonly Host[]): Host[] {
  const slots = new Map<string, number>();
  for (const host of hosts) slots.set(host.name, (slots.get(host.name) ?? 0) + host.slots);
  if (slots.size > NODES_MAX) throw tooManyHosts();
  return [...slots].map(([name, count]) => ({ name, slots: count }));
}

const badHost = (text: string): DsmError =>
  invalid(`"${text}" is no host; write HOST or HOST:N, and an IPv6 address in brackets, as [fe80::1]:4`);
const badNodelist = (text: string): DsmError => invalid(`"${text}" is no list of nodes such as n[01-04,7],big`);
const tooManyHosts = (): DsmError => invalid(`more than ${NODES_MAX} hosts; a session has at most ${NODES_MAX} nodes`);

function invalid(message: string): DsmError {
  return new DsmError("DSM_INVALID", message);
}
