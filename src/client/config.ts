/** The options of join(), completed from the environment and checked. */

import type { Order } from "../core/base/consistency.ts";
import { DsmError } from "../core/base/errors.ts";
import { DEFAULT_PORT } from "../core/base/limits.ts";
import type { OnLoss } from "../core/base/loss-policy.ts";
import { checkName, checkProcesses, formatAddress, parseAddress } from "../core/base/names.ts";
import { nearest } from "../core/base/nearest.ts";
import { checkSetting, SETTINGS } from "../core/base/settings.ts";
import { checkSize, parseSize } from "../core/base/size.ts";
import { slurmStep } from "../core/launch/hosts.ts";

/** Options for joining a session. An option overrides the environment variable named with it. */
export interface JoinOptions {
  /**
   * Name of the session: 1 to 63 bytes of UTF-8, no "/", no control characters, line separators or bidirectional marks.
   * `DSM_SESSION`. Required, except in a task that Slurm's srun has started: its step is then the session, and its
   * tasks are the processes and their ranks.
   */
  session?: string | undefined;
  /**
   * Processes in the session, 1 to 1024; join() waits for all of them. `DSM_PROCESSES`. Left out: whatever the session
   * has, which must then exist already.
   */
  processes?: number | undefined;
  /**
   * Shared memory in bytes, or with a unit of 1024: 65536, "64KiB", "16MiB", "1GiB". Rounded up to whole pages of 4096
   * bytes; at most 4 GiB. `DSM_SIZE`. Left out: whatever the session has, 1 MiB for a new one.
   */
  size?: number | string | undefined;
  /** Name of this node. `DSM_NODE`. Left out: the host's name. Different names make one host act as several nodes. */
  node?: string | undefined;
  /** Address of the session daemon, "host:port". `DSM_DAEMON`. Left out: 127.0.0.1:4200. */
  daemon?: string | undefined;
  /** Requested rank, assigned if it is free. `DSM_RANK`. Left out: the lowest free rank. */
  rank?: number | undefined;
  /**
   * How long to wait for the other processes, in milliseconds. `DSM_JOIN_TIMEOUT_MS`. Left out: 300000, five
   * minutes.
   */
  joinTimeoutMs?: number | undefined;
  /** Whether to start a daemon where none listens on a loopback address. `DSM_AUTOSTART` (0 or 1). Left out: true. */
  autostart?: boolean | undefined;
  /**
   * Path of the dsm program that runs as the arbiter. `DSM_BIN`. Left out: the package's own, else the one in the
   * PATH.
   */
  binary?: string | undefined;
  /**
   * The consistency model, the same for all processes. `DSM_ORDER`. "sequential": every store is ordered by itself, in
   * one total order. "release": the next synchronising operation of a process publishes its stores together.
   * "pipelined": stores are queued, and ordered while the process continues. See `Session`. Left out: that of the
   * session, "sequential" for a new one.
   */
  order?: Order | undefined;
  /**
   * The policy for a process that dies without leaving, the same for all processes. `DSM_ON_LOSS`. "fail": waits of all
   * other processes, pending and later ones, reject with DSM_LOST. "continue": the others go on, barriers count the
   * processes that are present, and locks of the dead process pass on with "owner-died". Left out: that of the session,
   * "fail" for a new one.
   */
  onLoss?: OnLoss | undefined;
  /**
   * True: processes may join the session while it runs, leave, and rejoin; `processes` is the number it starts with.
   * `DSM_ELASTIC` (0 or 1). Left out: as the session is; a new one is not elastic.
   */
  elastic?: boolean | undefined;
  /**
   * False: no direct mode (in which processes that are all on one node store to the map without traps). One process
   * with false is enough, and ends the direct mode of an elastic session. `DSM_DIRECT` (0 or 1). Left out: true.
   */
  direct?: boolean | undefined;
}

/** Options that are complete and correct. */
export interface JoinConfig {
  session: string;
  /** 0: whatever the session has. */
  processes: number;
  /** 0: whatever the session has. */
  size: number;
  /** Null: the library's default. */
  node: string | null;
  daemon: string | null;
  /** -1: any. */
  rank: number;
  joinTimeoutMs: number;
  autostart: boolean;
  /** Null: the package's own, or what libdsm finds. */
  binary: string | null;
  /** Null: whatever the session has. */
  order: Order | null;
  /** Null: whatever the session has. */
  onLoss: OnLoss | null;
  /** False: whatever the session is. */
  elastic: boolean;
  direct: boolean;
}

/** Where a value came from, for messages, and the value: undefined when it was not given. */
interface Given {
  from: string;
  value: unknown;
}

/** Throws DsmError DSM_INVALID, which names the option or variable that is wrong. */
export function readConfig(options: JoinOptions, environment: Record<string, string | undefined>): JoinConfig {
  checkNames(options);
  const step = options.session === undefined && !environment[SETTINGS.session.variable] ? slurmStep(environment) : {};
  const given = (option: keyof JoinOptions): Given => {
    if (options[option] !== undefined) return { from: option, value: options[option] };
    const { variable } = SETTINGS[option];
    // A variable that is set to the empty string counts as not set.
    return { from: variable, value: environment[variable] || step[variable] || undefined };
  };

  const session = readName("session", given("session"));
  if (session === null)
    throw invalid(
      'no session named; start the program with dsm run, give join({ session: "name" }) or set DSM_SESSION',
    );
  const processes = readWhole(given("processes"), checkProcesses) ?? 0;
  const rank =
    readWhole(given("rank"), (value) => {
      if (value < 0) return `rank is ${value}; ranks begin at 0`;
      if (processes > 0 && value >= processes) return `rank is ${value}; the last of ${processes} is ${processes - 1}`;
      return value > 0x7fffffff ? `rank is ${value}; no session has so many processes` : null;
    }) ?? -1;
  const joinTimeoutMs = readWhole(given("joinTimeoutMs"), (value) =>
    checkSetting("joinTimeoutMs", value, "joinTimeoutMs"),
  );
  return {
    session,
    processes,
    size: readSize(given("size")),
    node: readName("node", given("node")),
    daemon: readDaemon(given("daemon")),
    rank,
    joinTimeoutMs: joinTimeoutMs ?? SETTINGS.joinTimeoutMs.fallback,
    autostart: readFlag(given("autostart")) ?? SETTINGS.autostart.fallback,
    binary: readText(given("binary")),
    order: readChoice<Order>("order", given("order")),
    onLoss: readChoice<OnLoss>("onLoss", given("onLoss")),
    elastic: readFlag(given("elastic")) ?? SETTINGS.elastic.fallback,
    direct: readFlag(given("direct")) ?? SETTINGS.direct.fallback,
  };
}

const OPTIONS: readonly string[] = Object.keys({
  ...{ session: 1, processes: 1, size: 1, node: 1, daemon: 1, rank: 1, joinTimeoutMs: 1, autostart: 1, binary: 1 },
  ...{ order: 1, onLoss: 1, elastic: 1, direct: 1 },
} satisfies Record<keyof JoinOptions, 1>);

function checkNames(options: JoinOptions): void {
  if (typeof options !== "object" || options === null) {
    throw invalid(`the options of join() are ${show(options)}; give an object, such as { session: "name" }`);
  }
  for (const name of Object.keys(options)) {
    if (OPTIONS.includes(name)) continue;
    const meant = nearest(name, OPTIONS);
    const advice = meant === null ? `it has ${OPTIONS.join(", ")}` : `did you mean ${meant}?`;
    throw invalid(`join() has no option "${name}"; ${advice}`);
  }
}

function readText({ from, value }: Given): string | null {
  if (value === undefined) return null;
  if (typeof value !== "string") throw invalid(`${from} is ${show(value)}; give a string`);
  return value;
}

function readName(kind: "session" | "node", given: Given): string | null {
  const name = readText(given);
  const wrong = name === null ? null : checkName(kind, name);
  if (wrong !== null) throw invalid(wrong);
  return name;
}

function readDaemon(given: Given): string | null {
  const text = readText(given);
  if (text === null) return null;
  const address = parseAddress(text) ?? parseAddress(`${text}:${DEFAULT_PORT}`);
  if (address === null) throw invalid(`${given.from} is "${text}"; give HOST:PORT, such as 127.0.0.1:${DEFAULT_PORT}`);
  return formatAddress(address.host, address.port);
}

function readWhole({ from, value }: Given, check: (value: number) => string | null): number | null {
  if (value === undefined) return null;
  const number = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
  if (!Number.isInteger(number)) throw invalid(`${from} is ${show(value)}; give a whole number`);
  const wrong = check(number as number);
  if (wrong !== null) throw invalid(wrong);
  return number as number;
}

function readSize({ from, value }: Given): number {
  if (value === undefined) return 0;
  if (typeof value !== "string" && typeof value !== "number") {
    throw invalid(`${from} is ${show(value)}; give a number of bytes or a text such as "64KiB"`);
  }
  const size = typeof value === "string" ? parseSize(value) : value;
  const wrong = checkSize(size);
  if (wrong !== null) throw invalid(wrong);
  return size;
}

function readChoice<Choice extends string>(name: "order" | "onLoss", given: Given): Choice | null {
  const choice = readText(given);
  const wrong = choice === null ? null : checkSetting(name, choice, given.from);
  if (wrong !== null) throw invalid(`${given.from}: ${wrong}`);
  return choice as Choice | null;
}

function readFlag({ from, value }: Given): boolean | null {
  if (value === undefined) return null;
  if (value === true || value === "1") return true;
  if (value === false || value === "0") return false;
  throw invalid(`${from} is ${show(value)}; give ${from.startsWith("DSM_") ? "1 or 0" : "true or false"}`);
}

const show = (value: unknown): string => (typeof value === "string" ? `"${value}"` : String(value));

/** invalid returns the error for a wrong argument. */
export function invalid(message: string): DsmError {
  return new DsmError("DSM_INVALID", message);
}
