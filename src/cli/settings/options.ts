/**
 * Options of the subcommands: checked strictly, with DSM_ variables as their defaults. Options that are settings are
 * made from core/base/settings.ts and read by readSetting().
 */
import { isAbsolute } from "node:path";
import { parseArgs } from "node:util";
import type { ArgsDef } from "citty";
import { DsmError } from "../../core/base/errors.ts";
import { DEFAULT_PORT } from "../../core/base/limits.ts";
import { checkName, formatAddress, parseAddress } from "../../core/base/names.ts";
import { nearest } from "../../core/base/nearest.ts";
import {
  checkSetting,
  defaultText,
  SETTINGS,
  type Setting,
  type SettingKind,
  type SettingName,
  type SettingValue,
} from "../../core/base/settings.ts";
import { parseSize } from "../../core/base/size.ts";
import { SESSION_SETTINGS, type SessionSetting, type SessionSettings } from "../../core/messages/session-settings.ts";

/** UsageError: the command line, or a variable, is wrong. Its exit code is 2. */
export class UsageError extends DsmError {
  /** Whether the message already says what to do. */
  readonly advised: boolean;

  constructor(message: string, advised = false) {
    super("DSM_INVALID", message);
    this.advised = advised;
  }
}

/** wrongValue returns the error for an option, argument or variable whose value cannot be used. */
export function wrongValue(message: string): UsageError {
  return new UsageError(message, true);
}

/** readValue returns what `read` makes of an option, argument or variable. Its DsmError becomes a UsageError. */
export function readValue<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    throw error instanceof DsmError && !(error instanceof UsageError) ? wrongValue(error.message) : error;
  }
}

/** Help texts of an option that differ from the table of settings for one command. */
interface OptionWords {
  does?: string;
  /** Value that holds when it is left out. */
  otherwise?: string;
}

/** valueOption returns the option of a setting that has a value, for the arguments of a command. */
export function valueOption(name: SettingName, words: OptionWords = {}): ValueOption {
  const { variable, hint, does = "" }: Setting = SETTINGS[name];
  const otherwise = words.otherwise ?? defaultText(name);
  return {
    type: "string",
    description: `${words.does ?? does} [${variable}${otherwise === undefined ? "" : `, else ${otherwise}`}]`,
    valueHint: hint as string,
  };
}

interface ValueOption {
  type: "string";
  description: string;
  valueHint: string;
}

/**
 * flagOption returns the option of a setting that is 0 or 1 as a variable. If it is on by default, help shows
 * --no-NAME.
 */
export function flagOption(name: SettingName): FlagOption {
  const { variable, does = "", doesNot, fallback }: Setting = SETTINGS[name];
  const description = `${does} [${variable}=1]`;
  if (fallback !== true) return { type: "boolean", description };
  return { type: "boolean", default: true, description, negativeDescription: `${doesNot} [${variable}=0]` };
}

interface FlagOption {
  type: "boolean";
  default?: boolean;
  description: string;
  negativeDescription?: string;
}

export const daemonOption = { daemon: valueOption("daemon") };

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

/** The arguments as the parser sees them, the wrong ones too. */
function tokensOf(rawArgs: string[], args: ArgsDef) {
  const options = parseOptions(args);
  return parseArgs({ args: rawArgs, options, strict: false, allowPositionals: true, tokens: true }).tokens;
}

/** End of the hint of an argument that may be given several times. */
export const MANY = "...";

/** Stands for a positional that was left out before others. No argument can have this value. */
export const LEFT_OUT = "\0";

/**
 * alignPositionals inserts LEFT_OUT where arguments such as `[SESSION] FILE` come without the first: the parser fills
 * them from the left.
 */
export function alignPositionals(rawArgs: string[], args: ArgsDef): string[] {
  const given = tokensOf(rawArgs, args).filter(({ kind }) => kind === "positional");
  const [first] = given;
  const named = Object.values(args).filter(({ type }) => type === "positional");
  const isLeading = named[0]?.required === false && named.some(({ required }) => required !== false);
  if (!isLeading || first === undefined || given.length >= named.length) return rawArgs;
  const missing = new Array<string>(named.length - given.length).fill(LEFT_OUT);
  return [...rawArgs.slice(0, first.index), ...missing, ...rawArgs.slice(first.index)];
}

/** checkArguments throws UsageError for unknown options, missing values, and missing or unexpected arguments. */
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

/** repeatedOption returns all values of an option that may be repeated. */
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

/**
 * splitProgram splits the arguments where a program begins: after "--", or at the first argument that is not an option.
 */
export function splitProgram(rawArgs: string[], args: ArgsDef): { own: string[]; program: string[] } {
  for (const token of tokensOf(rawArgs, args)) {
    if (token.kind === "option-terminator") {
      return { own: rawArgs.slice(0, token.index), program: rawArgs.slice(token.index + 1) };
    }
    if (token.kind === "positional") return { own: rawArgs.slice(0, token.index), program: rawArgs.slice(token.index) };
  }
  return { own: rawArgs, program: [] };
}

/** fromEnvironment returns the given value, else the variable. An empty variable counts as not set. */
export function fromEnvironment(given: string | undefined, variable: string): string | undefined {
  if (given !== undefined) return given;
  const value = process.env[variable];
  return value === "" ? undefined : value;
}

/**
 * readSetting returns the checked value of a setting: from the command line, else from its variable; undefined if
 * neither is set. Throws UsageError, which names the option or the variable.
 */
export function readSetting<Name extends SettingName>(
  name: Name,
  given?: string | boolean | undefined,
): SettingValue<Name> | undefined {
  const { variable, option, kind, fallback }: Setting = SETTINGS[name];
  // A flag that is on by default is true when its option was not given.
  const isGiven = given !== undefined && !(fallback === true && given === true);
  const from = isGiven ? `--${option}` : variable;
  const raw = isGiven ? given : fromEnvironment(undefined, variable);
  if (raw === undefined) return undefined;
  const value = typeof raw === "boolean" ? raw : readValue(() => READERS[kind](raw, from));
  return checked(value, checkSetting(name, value, from)) as SettingValue<Name>;
}

/** Parsers from text to value, by kind. */
const READERS: Record<SettingKind, (text: string, from: string) => string | number | boolean> = {
  flag(text, from) {
    if (text === "0" || text === "1") return text === "1";
    throw wrongValue(`${from} is "${text}"; it must be 0 or 1`);
  },
  whole: (text, from) => readWhole(from, text, from.endsWith("_MS") ? "milliseconds" : undefined),
  size: parseSize,
  address: (text) => addressOf(text).address,
  path(text, from) {
    if (isAbsolute(text)) return text;
    throw wrongValue(`${from} is "${text}"; give an absolute path`);
  },
  name: String,
  choice: String,
  text: String,
};

function addressOf(text: string): { host: string; port: number; address: string } {
  const parsed = parseAddress(text) ?? parseAddress(`${text}:${DEFAULT_PORT}`);
  if (!parsed) throw wrongValue(`daemon address "${text}" is not HOST:PORT, such as ${SETTINGS.daemon.fallback}`);
  return { ...parsed, address: formatAddress(parsed.host, parsed.port) };
}

export function readDaemon(given: string | undefined): { host: string; port: number; address: string } {
  return addressOf(readSetting("daemon", given) ?? SETTINGS.daemon.fallback);
}

/** Options of the settings that all processes of a session share, by the names that the table gives them. */
export const sessionOptions = Object.fromEntries(
  SESSION_SETTINGS.map(([name]) => {
    const { option, kind }: Setting = SETTINGS[name];
    return [option, kind === "flag" ? flagOption(name) : valueOption(name)];
  }),
) as { [Name in SessionSetting as OptionOf<Name>]: KindOf<Name> extends "flag" ? FlagOption : ValueOption };

type OptionOf<Name extends SessionSetting> = (typeof SETTINGS)[Name]["option"];
type KindOf<Name extends SessionSetting> = (typeof SETTINGS)[Name]["kind"];

/** These settings, as options, variables or else the saved session have them; without those that none has. */
export function readSessionSettings(
  args: { [Name in SessionSetting as OptionOf<Name>]?: string | boolean | undefined },
  saved: Partial<SessionSettings> = {},
): Partial<SessionSettings> {
  const found = SESSION_SETTINGS.flatMap(([name, field]) => {
    const value = readSetting(name, args[SETTINGS[name].option]);
    // A flag of the saved session stays.
    const chosen = value === false ? (saved[field] ?? value) : (value ?? saved[field]);
    return chosen === undefined ? [] : [[field, chosen]];
  });
  return Object.fromEntries(found) as Partial<SessionSettings>;
}

export const orderOption = { order: valueOption("order") };

export const onLossOption = { "on-loss": valueOption("onLoss") };

export const elasticOption = { elastic: flagOption("elastic") };

export function readElastic(given: boolean | undefined): boolean {
  return readSetting("elastic", given) ?? SETTINGS.elastic.fallback;
}

export const restoreOption = {
  restore: {
    type: "string",
    description: "Begin with the memory and state of this snapshot (see dsm snapshot)",
    valueHint: "FILE",
  },
} as const;

export const autostartOption = { autostart: flagOption("autostart") };

export function readAutostart(given: boolean | undefined): boolean {
  return readSetting("autostart", given) ?? SETTINGS.autostart.fallback;
}

export function readName(kind: "session" | "node", name: string): string {
  return checked(name, checkName(kind, name));
}

export function readPort(text: string): number {
  const port = readWhole("port", text);
  return checked(port, port <= 65535 ? null : `port ${text} does not exist; the last one is 65535`);
}

export function readWhole(what: string, text: string, unit?: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  const whole = `a whole number${unit === undefined ? "" : ` of ${unit}`}`;
  throw wrongValue(`${what} "${text}" is ${Number.isNaN(number) ? `not ${whole}` : "too large"}`);
}

/** invalid returns the error for what is wrong in a file, or with this machine. Its exit code is 1. */
export function invalid(message: string): DsmError {
  return new DsmError("DSM_INVALID", message);
}

function checked<Value>(value: Value, reason: string | null): Value {
  if (reason !== null) throw wrongValue(reason);
  return value;
}
