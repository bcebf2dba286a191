/** The shared token and the TLS files: where they are, and that nobody else can read or change what is secret. */
import { createPrivateKey, randomBytes, X509Certificate } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import type { ArgsDef } from "citty";
import type { Security, Tls } from "../core/auth.ts";
import { DsmError } from "../core/errors.ts";
import { isLoopback } from "../core/names.ts";
import { formatToken, type JoinToken, parseToken } from "../core/token.ts";
import { fromEnvironment, invalid } from "./options.ts";
import { besideName } from "./temporary.ts";

export const tlsOffOption = {
  "tls-off": {
    type: "boolean",
    description: "No TLS: others on the way can read and change what is sent [DSM_TLS_OFF=1]",
  },
} as const satisfies ArgsDef;

export const tlsOptions = {
  "tls-cert": { type: "string", description: "Certificate, as PEM [DSM_TLS_CERT]", valueHint: "FILE" },
  "tls-key": { type: "string", description: "Its private key, as PEM [DSM_TLS_KEY]", valueHint: "FILE" },
  "tls-ca": {
    type: "string",
    description: "Authority whose certificates are demanded of the others, as PEM [DSM_TLS_CA]",
    valueHint: "FILE",
  },
  ...tlsOffOption,
} as const satisfies ArgsDef;

/** Where the TLS files are: absolute paths. */
export type TlsFiles = { [File in (typeof TLS_FILES)[number]]?: string };

const TLS_FILES = ["cert", "key", "ca"] as const;
const TLS_VARIABLES = { cert: "DSM_TLS_CERT", key: "DSM_TLS_KEY", ca: "DSM_TLS_CA" } as const;
const TOKEN_FILE_MAX = 4096;
const PEM_FILE_MAX = 1 << 20;

type TlsArguments = { [File in keyof TlsFiles as `tls-${File}`]?: string | undefined } & {
  "tls-off"?: boolean | undefined;
};

/** Whether the user has turned TLS off. Throws DSM_INVALID when there are files for it, too. */
export function readTlsOff(args: TlsArguments = {}): boolean {
  const variable = fromEnvironment(undefined, "DSM_TLS_OFF");
  if (variable !== undefined && variable !== "0" && variable !== "1") {
    throw invalid(`DSM_TLS_OFF is "${variable}"; it must be 0 or 1`);
  }
  const off = args["tls-off"] ?? variable === "1";
  if (off && Object.keys(readTlsFiles(args)).length > 0) {
    throw invalid(
      "TLS is turned off, and there are files for it; leave out --tls-off and DSM_TLS_OFF, or DSM_TLS_CERT, DSM_TLS_KEY and DSM_TLS_CA",
    );
  }
  return off;
}

/** The options' files, or the variables'. Those are read by programs in any folder, so they must be absolute. */
export function readTlsFiles(args: TlsArguments = {}): TlsFiles {
  const files: TlsFiles = {};
  for (const [name, variable] of Object.entries(TLS_VARIABLES) as [keyof TlsFiles, string][]) {
    const given = args[`tls-${name}`];
    if (given !== undefined) {
      files[name] = resolve(given);
      continue;
    }
    const path = fromEnvironment(undefined, variable);
    if (path === undefined) continue;
    if (!isAbsolute(path)) throw invalid(`${variable} is "${path}"; give the whole path, from / on`);
    files[name] = path;
  }
  return files;
}

/** What the files hold, checked; null without files. `listens`: for a role that takes connections. */
export function readTls(files: TlsFiles, listens: boolean): Tls | null {
  const { cert, key, ca } = files;
  if (cert === undefined && key === undefined && ca === undefined) return null;
  if ((cert === undefined) !== (key === undefined)) throw noCertificate();
  const tls: Tls = {};
  if (ca !== undefined) tls.ca = readCertificate(ca).text;
  if (cert !== undefined && key !== undefined) {
    const { text, certificate } = readCertificate(cert);
    tls.cert = text;
    tls.key = readSecret(key, "key", PEM_FILE_MAX);
    let fits: boolean;
    try {
      fits = certificate.checkPrivateKey(createPrivateKey(tls.key));
    } catch (error) {
      throw invalid(`${key} is no private key: ${(error as Error).message}`);
    }
    if (!fits) throw invalid(`${key} is not the key of ${cert}; give the two that belong together`);
  }
  if (listens) checkTlsListens(tls);
  return tls;
}

/** Throws DSM_INVALID when nothing could listen with it. */
export function checkTlsListens(tls: Tls | null): void {
  if (tls !== null && tls.cert === undefined) throw noCertificate();
}

function noCertificate(): DsmError {
  return invalid("TLS needs a certificate and its key; give --tls-cert and --tls-key, or DSM_TLS_CERT and DSM_TLS_KEY");
}

export function readCertificate(path: string): { text: string; certificate: X509Certificate } {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw invalid(`the certificate ${path} cannot be read: ${(error as { code?: string }).code}`);
  }
  try {
    return { text, certificate: new X509Certificate(text) };
  } catch {
    throw invalid(`${path} is no certificate; it must be a PEM file, such as "dsm cert" makes`);
  }
}

/** A file that only this user can read. What the user names may be a link, as tools that renew certificates make them. */
export function readSecret(path: string, what: "token" | "key", most: number): string {
  const links = what === "key" || path === process.env.DSM_TOKEN_FILE ? 0 : constants.O_NOFOLLOW;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | links);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ENOENT") throw new MissingFile(`the ${what} ${path} is not there`);
    throw invalid(`the ${what} ${path} cannot be read: ${code === "ELOOP" ? "it is a link" : code}`);
  }
  try {
    const { uid, mode, size } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw invalid(`the ${what} ${path} is not a file`);
    if (uid !== process.geteuid?.()) throw invalid(`the ${what} ${path} belongs to user ${uid}; use one of your own`);
    if ((mode & 0o077) !== 0) throw invalid(`the ${what} ${path} can be read by others; chmod 600 ${path}`);
    if (size > most) throw invalid(`the ${what} ${path} is larger than ${most} bytes`);
    return readFileSync(fd, "utf8");
  } finally {
    closeSync(fd);
  }
}

export class MissingFile extends DsmError {
  constructor(message: string) {
    super("DSM_INVALID", message);
  }
}

/** $DSM_TOKEN_FILE, else $XDG_CONFIG_HOME/dsm/token, or ~/.config/dsm/token. */
export function tokenPath(): string {
  const { DSM_TOKEN_FILE } = process.env;
  if (DSM_TOKEN_FILE) {
    if (!isAbsolute(DSM_TOKEN_FILE)) {
      throw invalid(`DSM_TOKEN_FILE is "${DSM_TOKEN_FILE}"; give the whole path, from / on`);
    }
    return DSM_TOKEN_FILE;
  }
  return join(configFolder(), "token");
}

/** $XDG_CONFIG_HOME/dsm, or ~/.config/dsm. */
export function configFolder(): string {
  const { XDG_CONFIG_HOME } = process.env;
  return join(XDG_CONFIG_HOME && isAbsolute(XDG_CONFIG_HOME) ? XDG_CONFIG_HOME : join(homedir(), ".config"), "dsm");
}

/** The token in the file; null when there is none. Throws DSM_INVALID when it cannot be used. */
export function readTokenFile(path = tokenPath()): JoinToken | null {
  let text: string;
  try {
    text = readSecret(path, "token", TOKEN_FILE_MAX).trim();
  } catch (error) {
    if (error instanceof MissingFile && path !== process.env.DSM_TOKEN_FILE) return null;
    throw error;
  }
  const read = parseToken(text);
  if (typeof read === "string") throw invalid(`the token in ${path} cannot be used: ${read}`);
  return read;
}

/**
 * Makes the file, with the fingerprint of the daemon's authority if it has one; a plain token that is there gets it.
 * "kept": it was there, as it is to be. Throws DSM_INVALID when it names another authority.
 */
export function makeTokenFile(fingerprint: string | null, path = tokenPath()): "made" | "extended" | "kept" {
  try {
    const made = { token: Buffer.from(randomBytes(32).toString("hex")), fingerprint };
    if (writeSecret(path, `${formatToken(made)}\n`, "new")) return "made";
    if (fingerprint === null) return "kept";
    const there = readTokenFile(path);
    if (there === null || there.fingerprint === fingerprint) return "kept";
    checkFingerprint(there, fingerprint, `the token in ${path}`);
    // A file that the user named may be anybody's.
    if (path === process.env.DSM_TOKEN_FILE) return "kept";
    writeSecret(path, `${formatToken({ ...there, fingerprint })}\n`, "replace");
    return "extended";
  } catch (error) {
    if (error instanceof DsmError) throw error;
    const { code } = error as { code?: string };
    throw new DsmError("DSM_SYSTEM", `the token ${path} cannot be made: ${code}; set DSM_TOKEN, or XDG_CONFIG_HOME`);
  }
}

/** Throws DSM_INVALID when a token names another authority than the daemon's own. */
export function checkFingerprint(token: Pick<Security, "fingerprint">, fingerprint: string, what: string): void {
  if ((token.fingerprint ?? fingerprint) === fingerprint) return;
  throw invalid(
    `${what} names the authority ${shortFingerprint(token.fingerprint as string)}, and this machine's is ` +
      `${shortFingerprint(fingerprint)}; copy ~/.config/dsm/authority-key.pem from the machine that made the token, or leave out its fingerprint`,
  );
}

/** Enough of it to compare by eye. */
export function shortFingerprint(fingerprint: string): string {
  return `${fingerprint.slice(0, 16)}…`;
}

/**
 * Writes a file for this user alone, whole or not at all. "new": of several that do so at once, one makes it, and false
 * says that it was there.
 */
export function writeSecret(path: string, text: string, how: "new" | "replace"): boolean {
  const temporary = besideName(path, "new");
  mkdirSync(join(path, ".."), { recursive: true, mode: 0o700 });
  writeFileSync(temporary, text, { flag: "wx", mode: 0o600 });
  try {
    if (how === "replace") {
      renameSync(temporary, path);
      return true;
    }
    linkSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    if (how === "new" && (error as { code?: string }).code === "EEXIST") return false;
    throw error;
  }
  unlinkSync(temporary);
  return true;
}

/**
 * What is shown to and asked of the other side at `host`. A token file counts on loopback only where the other side asks,
 * so one that cannot be used is no error there. Throws DSM_INVALID.
 */
export function readSecurity(
  host: string,
  tls: Tls | null = readTlsOff() ? null : readTls(readTlsFiles(), false),
  tlsOff = readTlsOff(),
): Security {
  const text = fromEnvironment(undefined, "DSM_TOKEN");
  if (text !== undefined) {
    const read = parseToken(text);
    if (typeof read === "string") throw invalid(`DSM_TOKEN cannot be used: ${read}`);
    return { ...read, always: true, tls, tlsOff };
  }
  const none = { token: null, fingerprint: null };
  try {
    return { ...(readTokenFile() ?? none), always: false, tls, tlsOff };
  } catch (error) {
    if (!(error instanceof DsmError) || !isLoopback(host)) throw error;
    return { ...none, always: false, tls, tlsOff };
  }
}

/** The token with its fingerprint, as DSM_TOKEN and the file have it; null: there is none. */
export function tokenText({ token, fingerprint }: Security): string | null {
  return token === null ? null : formatToken({ token, fingerprint: fingerprint ?? null });
}

/**
 * Variables for a role that is started to listen at `host` in turn. The environment of a process can be read by its
 * user alone; its arguments by everybody.
 */
export function securityEnvironment(security: Security, host: string, files: TlsFiles): Record<string, string> {
  const environment: Record<string, string> = {};
  const text = tokenText(security);
  if (text !== null && (security.always || !isLoopback(host))) environment.DSM_TOKEN = text;
  if (security.tlsOff === true) environment.DSM_TLS_OFF = "1";
  for (const [name, variable] of Object.entries(TLS_VARIABLES) as [keyof TlsFiles, string][]) {
    const path = files[name];
    if (path !== undefined) environment[variable] = path;
  }
  return environment;
}
