/** Options of the subcommands: checked strictly, and read from DSM_ variables where they are not given. */
import { parseArgs } from "node:util";
import type { ArgsDef } from "citty";
import { DsmError } from "../core/errors.ts";
import { DEFAULT_HOST, DEFAULT_PORT, HEARTBEAT_TIMEOUT_MIN_MS, RECONNECT_TIMEOUT_MAX_MS } from "../core/limits.ts";
import { checkOnLoss, ON_LOSS, type OnLoss } from "../core/loss.ts";
import { checkName, checkProcesses, formatAddress, parseAddress } from "../core/names.ts";
import { checkOrder, ORDERS, type Order } from "../core/order.ts";
import { checkSize, parseSize } from "../core/size.ts";
import { nearest } from "./suggest.ts";

/** The command line itself is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  /** Whether the message says what to do already. */
  readonly advised: boolean;

  constructor(message: string, advised = false) {
    super(message);
    this.advised = advised;
  }
}

export const daemonOption = {
  daemon: {
    type: "string",
    description: `Address of the session daemon [DSM_DAEMON, else ${DEFAULT_HOST}:${DEFAULT_PORT}]`,
    valueHint: "HOST:PORT",
  },
} as const satisfies ArgsDef;

export const jsonOption = {
  json: { type: "boolean", description: "Print JSON" },
} as const satisfies ArgsDef;

type ParseOptions = NonNullable<NonNullable<Parameters<typeof parseArgs>[0]>["options"]>;

function parseOptions(args: ArgsDef): ParseOptions {
  const options: ParseOptions = { help: { type: "boolean", short: "h" } };
  for (const [name, definition] of Object.entries(args)) {
    if (definition.type === "positional") continue;
    const alias = "alias" in definition ? definition.alias : undefined;
    const short = (Array.isArray(alias) ? alias : [alias]).find((one) => one?.length === 1);
    options[name] = { type: definition.type === "boolean" ? "boolean" : "string", ...(short ? { short } : {}) };
  }
  return options;
}

/** What the hint of an argument that may be given several times ends in. */
export const MANY = "...";

/** Throws UsageError for options the command does not have, values left out, and arguments too many. */
export function checkArguments(rawArgs: string[], args: ArgsDef): void {
  const named = Object.values(args).filter((definition) => definition.type === "positional");
  const most = named.some(({ valueHint }) => valueHint?.endsWith(MANY)) ? Number.POSITIVE_INFINITY : named.length;
  try {
    const { positionals } = parseArgs({
      args: rawArgs,
      options: parseOptions(args),
      strict: true,
      allowPositionals: true,
      allowNegative: true,
    });
    if (positionals.length > most) throw new UsageError(`unexpected argument "${positionals[most]}"`);
    const missing = Object.entries(args).filter(
      ([, { type, required }]) => type === "positional" && required !== false,
    )[positionals.length];
    if (missing) throw new UsageError(`${missing[1].valueHint ?? missing[0].toUpperCase()} is missing`);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const { code, message } = error as { code?: string; message: string };
    const unknown = code === "ERR_PARSE_ARGS_UNKNOWN_OPTION" ? /'(-[^']+)'/.exec(message)?.[1] : undefined;
    if (unknown !== undefined) throw unknownOption(unknown, args);
    throw new UsageError((message.split(". ")[0] as string).replace(/^./, (letter) => letter.toLowerCase()));
  }
}

function unknownOption(given: string, args: ArgsDef): UsageError {
  const names = Object.entries(parseOptions(args)).flatMap(([name, { type }]) =>
    type === "boolean" ? [name, `no-${name}`] : [name],
  );
  const meant = given.startsWith("--") ? nearest(given.slice(2), names) : null;
  return new UsageError(`unknown option ${given}${meant === null ? "" : `; did you mean --${meant}?`}`, meant !== null);
}

/** All values of an option that may be repeated. */
export function repeatedOption(rawArgs: string[], args: ArgsDef, name: string): string[] {
  const options = parseOptions(args);
  const { values } = parseArgs({
    args: rawArgs,
    options: { ...options, [name]: { ...options[name], type: "string", multiple: true } },
    strict: false,
    allowPositionals: true,
  });
  return (values[name] ?? []) as string[];
}

/** Where a program of its own begins in the arguments: after "--", or at the first argument that is no option. */
export function splitProgram(rawArgs: string[], args: ArgsDef): { own: string[]; program: string[] } {
  const { tokens } = parseArgs({
    args: rawArgs,
    options: parseOptions(args),
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  for (const token of tokens) {
    if (token.kind === "option-terminator") {
      return { own: rawArgs.slice(0, token.index), program: rawArgs.slice(token.index + 1) };
    }
    if (token.kind === "positional") return { own: rawArgs.slice(0, token.index), program: rawArgs.slice(token.index) };
  }
  return { own: rawArgs, program: [] };
}

/** What the command line says, else the variable; an empty variable counts as not set. */
export function fromEnvironment(given: string | undefined, variable: string): string | undefined {
  if (given !== undefined) return given;
  const value = process.env[variable];
  return value === "" ? undefined : value;
}

export function readDaemon(given: string | undefined): { host: string; port: number; address: string } {
  const text = fromEnvironment(given, "DSM_DAEMON") ?? formatAddress(DEFAULT_HOST, DEFAULT_PORT);
  const parsed = parseAddress(text) ?? parseAddress(`${text}:${DEFAULT_PORT}`);
  if (!parsed) throw invalid(`daemon address "${text}" is not HOST:PORT, such as ${DEFAULT_HOST}:${DEFAULT_PORT}`);
  return { ...parsed, address: formatAddress(parsed.host, parsed.port) };
}

export const orderOption = {
  order: {
    type: "string",
    description: `How strictly stores are ordered: ${ORDERS.join(", ")} [DSM_ORDER, else sequential]`,
    valueHint: "ORDER",
  },
} as const;

export const onLossOption = {
  "on-loss": {
    type: "string",
    description: `What happens when a process dies: ${ON_LOSS.join(", ")} [DSM_ON_LOSS, else fail]`,
    valueHint: "ANSWER",
  },
} as const;

export const elasticOption = {
  elastic: { type: "boolean", description: "Processes may join while it runs, leave, and come again [DSM_ELASTIC]" },
} as const;

export function readElastic(given: boolean | undefined): boolean {
  return given ?? process.env.DSM_ELASTIC === "1";
}

export const restoreOption = {
  restore: {
    type: "string",
    description: "Begin with the memory and state of this snapshot (see dsm snapshot)",
    valueHint: "FILE",
  },
} as const;

export const autostartOption = {
  autostart: {
    type: "boolean",
    default: true,
    description: "Start a local daemon if none is running [DSM_AUTOSTART]",
    negativeDescription: "Never start a daemon [DSM_AUTOSTART=0]",
  },
} as const;

export function readAutostart(given: boolean | undefined): boolean {
  return given !== false && process.env.DSM_AUTOSTART !== "0";
}

export function readName(kind: "session" | "node", name: string): string {
  return checked(name, checkName(kind, name));
}

export function readProcesses(text: string): number {
  const processes = readWhole("processes", text);
  return checked(processes, checkProcesses(processes));
}

export function readSize(text: string): number {
  const size = parseSize(text);
  return checked(size, checkSize(size));
}

export function readOrder(text: string): Order {
  checked(text, checkOrder(text));
  return text as Order;
}

export function readOnLoss(text: string): OnLoss {
  checked(text, checkOnLoss(text));
  return text as OnLoss;
}

export function readPort(text: string): number {
  const port = readWhole("port", text);
  return checked(port, port <= 65535 ? null : `port ${text} does not exist; the last one is 65535`);
}

export function readReconnectTimeout(text: string): number {
  const ms = readWhole("DSM_RECONNECT_TIMEOUT_MS", text);
  const most = RECONNECT_TIMEOUT_MAX_MS;
  return checked(ms, ms <= most ? null : `DSM_RECONNECT_TIMEOUT_MS ${text} is too long; the longest is ${most}`);
}

export function readHeartbeatTimeout(text: string): number {
  const ms = readWhole("DSM_HEARTBEAT_TIMEOUT_MS", text);
  const [least, most] = [HEARTBEAT_TIMEOUT_MIN_MS, RECONNECT_TIMEOUT_MAX_MS];
  const good = ms >= least && ms <= most;
  return checked(ms, good ? null : `DSM_HEARTBEAT_TIMEOUT_MS ${text} is not possible; use ${least} to ${most}`);
}

export function readWhole(what: string, text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw invalid(`${what} "${text}" is ${Number.isNaN(number) ? "not a whole number" : "too large"}`);
}

export function invalid(message: string): DsmError {
  return new DsmError("DSM_INVALID", message);
}

function checked<Value>(value: Value, reason: string | null): Value {
  if (reason !== null) throw invalid(reason);
  return value;
}
