/**
 * Every setting of dsm: its variable, its option, its type, its limits, its default, and its meaning.
 *
 * Derived from this table: options of the commands and how they are read (cli/settings/options.ts), join()'s settings
 * (client/config.ts), requests to the daemon and what all processes must agree on (core/messages/session-settings.ts), the
 * options with which it starts a server (daemon/server-launch.ts), the variables that a started process gets (core/launch/environment.ts), the manual's ENVIRONMENT,
 * the lists in src/cli/README.md and examples/reference/configuration.md, and native/src/base/settings.h for C (scripts/settings.ts). A new setting is a new
 * entry.
 */
import { checkOrder, DEFAULT_ORDER, ORDERS, type Order } from "./consistency.ts";
import {
  DEFAULT_HOST,
  DEFAULT_PORT,
  DEFAULT_SIZE,
  HEARTBEAT_TIMEOUT_MIN_MS,
  HEARTBEAT_TIMEOUT_MS,
  JOIN_TIMEOUT_MS,
  PROCESSES_MAX,
  RECONNECT_TIMEOUT_MAX_MS,
  RECONNECT_TIMEOUT_MS,
  SIZE_MAX,
} from "./limits.ts";
import { checkOnLoss, DEFAULT_ON_LOSS, ON_LOSS, type OnLoss } from "./loss-policy.ts";
import { checkName, checkProcesses } from "./names.ts";
import { checkSize, sizeMismatch } from "./size.ts";

/** "flag": 0 or 1. "size": bytes, with or without a unit. "path": an absolute path. "address": HOST or HOST:PORT. */
export type SettingKind = "flag" | "whole" | "size" | "name" | "choice" | "address" | "path" | "text";

/** Headings under which the reference lists settings. */
export const TOPICS = {
  session: "The session of a process (set by `dsm run`; an option of the program's own call wins):",
  daemon: "Finding the daemon and waiting:",
  security: "Token and TLS ([Security](security.md)):",
  programs: "Programs:",
} as const;

export interface Setting {
  variable: `DSM_${string}`;
  topic: keyof typeof TOPICS;
  kind: SettingKind;
  /** Its meaning, for the manual: without the default, with the unit. */
  meaning: string;
  /** Option of the commands that take it, without its dashes. A flag that is on by default has its --no- form. */
  option?: string;
  /** Placeholder of the option's value in help; completion uses it, too. */
  hint?: string;
  /** What the option does, for help. */
  does?: string;
  /** For a flag that is on by default: what its --no- form does. */
  doesNot?: string;
  /**
   * Field of requests to the daemon: all processes of a session must agree on the setting. `differs` says that they do
   * not; it follows "session NAME".
   */
  json?: string;
  differs?: (has: unknown, wished: unknown) => string;
  /** It is an option of join(), by the name of the entry, and a member of dsm_config. */
  join?: true;
  /** Limits of a "whole" or "size". */
  least?: number;
  most?: number;
  choices?: readonly string[];
  /** The default. Left out: none, or the session's value. */
  fallback?: string | number | boolean;
  /** The default in words, where `fallback` does not say it. */
  otherwise?: string;
  /**
   * Scope: a user's settings are inherited by all processes that dsm starts; a host's do not travel; a process's are
   * set by dsm.
   */
  of?: "user" | "host" | "process";
  /** The reason why a value of that kind cannot be used, or null. */
  check?: (value: never) => string | null;
}

const UINT32_MAX = 0xffffffff;

export const SETTINGS = {
  session: {
    variable: "DSM_SESSION",
    topic: "session",
    kind: "name",
    option: "session",
    hint: "SESSION",
    json: "name",
    join: true,
    does: "Name of the session",
    meaning: "Name of the session.",
    check: (name: string) => checkName("session", name),
  },
  processes: {
    variable: "DSM_PROCESSES",
    topic: "session",
    kind: "whole",
    option: "processes",
    hint: "N",
    json: "processes",
    join: true,
    least: 1,
    most: PROCESSES_MAX,
    does: "Processes the session is for",
    meaning: "How many processes the session waits for.",
    check: checkProcesses,
    differs: (has, wished) => `is for ${has} processes, not ${wished}; give all the same number`,
  },
  size: {
    variable: "DSM_SIZE",
    topic: "session",
    kind: "size",
    option: "size",
    hint: "BYTES",
    json: "size",
    join: true,
    least: 1,
    most: SIZE_MAX,
    fallback: DEFAULT_SIZE,
    otherwise: "1MiB for a new session",
    does: "Shared memory, such as 65536, 64KiB, 1GiB",
    meaning: "Size of the shared memory, such as 65536, 64KiB or 1GiB.",
    check: checkSize,
    differs: (has, wished) => sizeMismatch(Number(has), Number(wished)),
  },
  order: {
    variable: "DSM_ORDER",
    topic: "session",
    kind: "choice",
    option: "order",
    hint: "ORDER",
    json: "order",
    join: true,
    choices: ORDERS,
    fallback: DEFAULT_ORDER,
    otherwise: `${DEFAULT_ORDER} for a new session`,
    does: `How strictly stores are ordered: ${ORDERS.join(", ")}`,
    meaning: `${ORDERS.join(", ")}: how strictly stores are ordered, the same for all processes.`,
    check: checkOrder,
    differs: (has, wished) => `has the order ${has}, not ${wished}; give all the same order`,
  },
  onLoss: {
    variable: "DSM_ON_LOSS",
    topic: "session",
    kind: "choice",
    option: "on-loss",
    hint: "POLICY",
    json: "onLoss",
    join: true,
    choices: ON_LOSS,
    fallback: DEFAULT_ON_LOSS,
    otherwise: `${DEFAULT_ON_LOSS} for a new session`,
    does: `What happens when a process dies: ${ON_LOSS.join(", ")}`,
    meaning: `${ON_LOSS.join(", ")}: what happens when a process dies, the same for all processes.`,
    check: checkOnLoss,
    differs: (has, wished) => `answers a loss with ${has}, not ${wished}; give all the same on_loss`,
  },
  elastic: {
    variable: "DSM_ELASTIC",
    topic: "session",
    kind: "flag",
    option: "elastic",
    json: "elastic",
    join: true,
    fallback: false,
    does: "Processes may join while it runs, leave, and come again",
    meaning: "1: processes may join while the session runs; the first process has to ask for it.",
    differs: () => "is not elastic; its first process has to ask for that",
  },
  direct: {
    variable: "DSM_DIRECT",
    topic: "session",
    kind: "flag",
    join: true,
    fallback: true,
    meaning: "0: stores are trapped even if all processes are on one node; one process that sets it is enough.",
  },
  node: {
    variable: "DSM_NODE",
    topic: "session",
    kind: "name",
    option: "node",
    hint: "NAME",
    join: true,
    of: "host",
    otherwise: "the host's name",
    does: "Name of this node",
    meaning: "Name of this node; several names make one host several nodes.",
    check: (name: string) => checkName("node", name),
  },
  rank: {
    variable: "DSM_RANK",
    topic: "session",
    kind: "whole",
    join: true,
    of: "host",
    least: 0,
    most: PROCESSES_MAX - 1,
    meaning: "Wished rank, given if it is free.",
  },
  daemon: {
    variable: "DSM_DAEMON",
    topic: "daemon",
    kind: "address",
    option: "daemon",
    hint: "HOST:PORT",
    join: true,
    of: "host",
    fallback: `${DEFAULT_HOST}:${DEFAULT_PORT}`,
    does: "Address of the session daemon",
    meaning: "Address of the daemon.",
  },
  autostart: {
    variable: "DSM_AUTOSTART",
    topic: "daemon",
    kind: "flag",
    option: "autostart",
    join: true,
    of: "host",
    fallback: true,
    does: "Start a local daemon if none is running",
    doesNot: "Never start a daemon",
    meaning: "0: never start a local daemon.",
  },
  joinTimeoutMs: {
    variable: "DSM_JOIN_TIMEOUT_MS",
    topic: "daemon",
    kind: "whole",
    join: true,
    fallback: JOIN_TIMEOUT_MS,
    least: 1,
    most: UINT32_MAX,
    meaning: "How long to wait for the other processes, in milliseconds.",
  },
  reconnectTimeoutMs: {
    variable: "DSM_RECONNECT_TIMEOUT_MS",
    topic: "daemon",
    kind: "whole",
    fallback: RECONNECT_TIMEOUT_MS,
    least: 0,
    most: RECONNECT_TIMEOUT_MAX_MS,
    meaning: "How long a broken connection to the server may last, in milliseconds. 0: not at all.",
  },
  heartbeatTimeoutMs: {
    variable: "DSM_HEARTBEAT_TIMEOUT_MS",
    topic: "daemon",
    kind: "whole",
    fallback: HEARTBEAT_TIMEOUT_MS,
    least: HEARTBEAT_TIMEOUT_MIN_MS,
    most: RECONNECT_TIMEOUT_MAX_MS,
    meaning: "A connection on which nothing came for this long is broken, in milliseconds.",
  },
  token: {
    variable: "DSM_TOKEN",
    topic: "security",
    kind: "text",
    of: "user",
    otherwise: "the token file",
    meaning: "The shared token, TOKEN:FINGERPRINT as in the file, instead of that one; demanded on loopback too.",
  },
  tokenFile: {
    variable: "DSM_TOKEN_FILE",
    topic: "security",
    kind: "path",
    of: "user",
    otherwise: "~/.config/dsm/token",
    meaning: "Absolute path of another file with the token.",
  },
  tlsCa: {
    variable: "DSM_TLS_CA",
    topic: "security",
    kind: "path",
    option: "tls-ca",
    hint: "FILE",
    of: "user",
    does: "Authority whose certificates are demanded of the others, as PEM",
    meaning: "Absolute path of the authority's certificate, as PEM. With this, certificate and key: TLS everywhere.",
  },
  tlsCert: {
    variable: "DSM_TLS_CERT",
    topic: "security",
    kind: "path",
    option: "tls-cert",
    hint: "FILE",
    of: "user",
    does: "Certificate, as PEM",
    meaning: "Absolute path of this host's certificate.",
  },
  tlsKey: {
    variable: "DSM_TLS_KEY",
    topic: "security",
    kind: "path",
    option: "tls-key",
    hint: "FILE",
    of: "user",
    does: "Its private key, as PEM",
    meaning: "Absolute path of its private key.",
  },
  tlsOff: {
    variable: "DSM_TLS_OFF",
    topic: "security",
    kind: "flag",
    option: "tls-off",
    of: "user",
    fallback: false,
    does: "No TLS: an attacker on the network can read and change all traffic",
    meaning: "1: no TLS, with a daemon that was started with --tls-off.",
  },
  ssh: {
    variable: "DSM_SSH",
    topic: "programs",
    kind: "text",
    option: "ssh",
    hint: "COMMAND",
    of: "host",
    fallback: "ssh",
    does: "ssh with its options",
    meaning: "ssh with its options, for dsm run --hosts.",
  },
  preload: {
    variable: "DSM_PRELOAD",
    topic: "programs",
    kind: "flag",
    option: "preload",
    fallback: true,
    does: "Load libdsm into the processes before all else, by LD_PRELOAD",
    doesNot: "Leave LD_PRELOAD as it is",
    meaning: "0: dsm run does not load libdsm into its processes by LD_PRELOAD.",
  },
  binary: {
    variable: "DSM_BIN",
    topic: "programs",
    kind: "path",
    join: true,
    of: "host",
    otherwise: "the package's own, or dsm in the PATH",
    meaning: "Path of the dsm program, for programs that cannot find it.",
  },
  library: {
    variable: "DSM_LIBRARY",
    topic: "programs",
    kind: "path",
    of: "host",
    meaning: "Path of libdsm.so, for Python and JavaScript programs; dsm run sets it.",
  },
  quiet: {
    variable: "DSM_QUIET",
    topic: "session",
    kind: "flag",
    fallback: false,
    meaning: "1: no notes and no advice on stderr, such as that a hole would be faster.",
  },
  burst: {
    variable: "DSM_BURST",
    topic: "programs",
    kind: "flag",
    fallback: true,
    meaning:
      "0: each store to the map is a trap of its own. Otherwise the code around a store goes on in a copy, and the " +
      "stores of a loop are published together.",
  },
  runRecord: {
    variable: "DSM_RUN_RECORD",
    topic: "programs",
    kind: "text",
    of: "process",
    meaning: "Where a process of dsm run records its joins and its end; dsm run sets it.",
  },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof SETTINGS;

interface ValueOfKind {
  flag: boolean;
  whole: number;
  size: number;
  name: string;
  choice: string;
  address: string;
  path: string;
  text: string;
}

/** The type of a setting's value once it is read: bytes for a size, HOST:PORT for an address. */
export type SettingValue<Name extends SettingName> = Name extends "order"
  ? Order
  : Name extends "onLoss"
    ? OnLoss
    : ValueOfKind[(typeof SETTINGS)[Name]["kind"]];

/** The reason why a value is not valid, in one line, or null. `from`: where the user gave the value, for that line. */
export function checkSetting(name: SettingName, value: string | number | boolean, from: string): string | null {
  const { check, kind, least, most }: Setting = SETTINGS[name];
  if (check !== undefined) return check(value as never);
  if (kind !== "whole" || least === undefined || most === undefined) return null;
  const isPossible = (value as number) >= least && (value as number) <= most;
  return isPossible ? null : `${from} is ${value}; give ${least} to ${most}`;
}

/** The default in words; undefined: there is none. */
export function defaultText(name: SettingName): string | undefined {
  const { fallback, otherwise }: Setting = SETTINGS[name];
  if (otherwise !== undefined || fallback === undefined) return otherwise;
  return typeof fallback === "boolean" ? String(Number(fallback)) : String(fallback);
}

/** The setting's meaning, limits and default. */
export function settingText(name: SettingName): string {
  const { meaning, kind, least, most }: Setting = SETTINGS[name];
  const fallback = kind === "flag" ? undefined : defaultText(name);
  const limits = kind === "whole" && least !== undefined && most !== undefined ? ` From ${least} to ${most}.` : "";
  return `${meaning}${limits}${fallback === undefined ? "" : ` Default: ${fallback}.`}`;
}
