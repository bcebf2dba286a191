/** What join() is asked to do: its options, completed from the environment and checked. */
import { DsmError } from "../core/errors.ts";
import { slurmStep } from "../core/hosts.ts";
import { DEFAULT_PORT, JOIN_TIMEOUT_MS } from "../core/limits.ts";
import { checkOnLoss, type OnLoss } from "../core/loss.ts";
import { checkName, checkProcesses, formatAddress, parseAddress } from "../core/names.ts";
import { checkOrder, type Order } from "../core/order.ts";
import { checkSize, parseSize } from "../core/size.ts";

/** How to join a session. What is given here wins over the environment variable named with each option. */
export interface JoinOptions {
  /**
   * Name of the session: 1 to 63 bytes of UTF-8, no "/", no control characters, separators of lines or marks of direction.
   * `DSM_SESSION`. Required, except in a
   * task that Slurm's srun has started: its step is then the session, and its tasks are the processes and their ranks.
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
  /** Wished rank, given if it is free. `DSM_RANK`. Left out: the lowest that is free. */
  rank?: number | undefined;
  /** How long to wait for the others, in milliseconds. `DSM_JOIN_TIMEOUT_MS`. Left out: 300000, five minutes. */
  joinTimeoutMs?: number | undefined;
  /** Whether to start a daemon where none listens on a loopback address. `DSM_AUTOSTART` (0 or 1). Left out: true. */
  autostart?: boolean | undefined;
  /** Path of the dsm program that plays the arbiter. `DSM_BIN`. Left out: the package's own, else the one in the PATH. */
  binary?: string | undefined;
  /**
   * How strictly stores are ordered, the same for all who join. `DSM_ORDER`. "sequential": every store of its own, in
   * one order. "release": stores are published together by the next synchronising operation of the process that made
   * them. "pipelined": stores are queued, and ordered while the process goes on. See `Session`. Left out: whatever the session has, "sequential" for a new one.
   */
  order?: Order | undefined;
  /**
   * What happens when a process dies without leaving, the same for all who join. `DSM_ON_LOSS`. "fail": waits of all
   * others, pending and later ones, reject with DSM_LOST. "continue": the others go on, barriers count those that are
   * there, and locks of the dead pass on with "owner-died". Left out: whatever the session has, "fail" for a new one.
   */
  onLoss?: OnLoss | undefined;
  /**
   * True: processes may join the session while it runs, leave, and come again; `processes` is how many it begins with.
   * `DSM_ELASTIC` (0 or 1). Left out: whatever the session is, a new one is not.
   */
  elastic?: boolean | undefined;
  /**
   * False: no direct mode, in which processes that are all on one node store to the map without being trapped. One
   * process that says so is enough, and ends that of an elastic session. `DSM_DIRECT` (0 or 1). Left out: true.
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

const UINT32_MAX = 0xffffffff;

/** Where a value came from, for messages, and the value: undefined when nobody gave one. */
interface Given {
  from: string;
  value: unknown;
}

/** Throws DsmError DSM_INVALID, which names the option or variable that is wrong. */
export function readConfig(options: JoinOptions, environment: Record<string, string | undefined>): JoinConfig {
  const step = options.session === undefined && !environment.DSM_SESSION ? slurmStep(environment) : {};
  const given = (option: keyof JoinOptions, variable: string): Given => {
    if (options[option] !== undefined) return { from: option, value: options[option] };
    // A variable that is set to nothing counts as not set.
    return { from: variable, value: environment[variable] || step[variable] || undefined };
  };

  const session = readName("session", given("session", "DSM_SESSION"));
  if (session === null) throw invalid('no session named; give join({ session: "name" }) or set DSM_SESSION');
  const processes = readWhole(given("processes", "DSM_PROCESSES"), checkProcesses) ?? 0;
  const rank =
    readWhole(given("rank", "DSM_RANK"), (value) => {
      if (value < 0) return `rank is ${value}; ranks begin at 0`;
      if (processes > 0 && value >= processes) return `rank is ${value}; the last of ${processes} is ${processes - 1}`;
      return value > 0x7fffffff ? `rank is ${value}; no session has so many processes` : null;
    }) ?? -1;
  const joinTimeoutMs =
    readWhole(given("joinTimeoutMs", "DSM_JOIN_TIMEOUT_MS"), (value) =>
      value < 1 || value > UINT32_MAX ? `joinTimeoutMs is ${value}; give 1 to ${UINT32_MAX} milliseconds` : null,
    ) ?? JOIN_TIMEOUT_MS;
  return {
    session,
    processes,
    size: readSize(given("size", "DSM_SIZE")),
    node: readName("node", given("node", "DSM_NODE")),
    daemon: readDaemon(given("daemon", "DSM_DAEMON")),
    rank,
    joinTimeoutMs,
    autostart: readFlag(given("autostart", "DSM_AUTOSTART")) ?? true,
    binary: readText(given("binary", "DSM_BIN")),
    order: readOrder(given("order", "DSM_ORDER")),
    onLoss: readOnLoss(given("onLoss", "DSM_ON_LOSS")),
    elastic: readFlag(given("elastic", "DSM_ELASTIC")) ?? false,
    direct: readFlag(given("direct", "DSM_DIRECT")) ?? true,
  };
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

function readOrder(given: Given): Order | null {
  const order = readText(given);
  const wrong = order === null ? null : checkOrder(order);
  if (wrong !== null) throw invalid(`${given.from}: ${wrong}`);
  return order as Order | null;
}

function readOnLoss(given: Given): OnLoss | null {
  const onLoss = readText(given);
  const wrong = onLoss === null ? null : checkOnLoss(onLoss);
  if (wrong !== null) throw invalid(`${given.from}: ${wrong}`);
  return onLoss as OnLoss | null;
}

function readFlag({ from, value }: Given): boolean | null {
  if (value === undefined) return null;
  if (value === true || value === "1") return true;
  if (value === false || value === "0") return false;
  throw invalid(`${from} is ${show(value)}; give ${from.startsWith("DSM_") ? "1 or 0" : "true or false"}`);
}

const show = (value: unknown): string => (typeof value === "string" ? `"${value}"` : String(value));

/** A caller's mistake. */
export function invalid(message: string): DsmError {
  return new DsmError("DSM_INVALID", message);
}
