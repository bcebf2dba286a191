/** The shared token and the TLS files: where they are, and checks that no other user can read or change secrets. */
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
import type { Security, Tls } from "../../core/access/auth.ts";
import { formatToken, type JoinToken, parseToken } from "../../core/access/token.ts";
import { DsmError } from "../../core/base/errors.ts";
import { isLoopback } from "../../core/base/names.ts";
import { SETTINGS } from "../../core/base/settings.ts";
import { exactSize } from "../../core/base/size.ts";
import { shortFingerprint } from "../../transport/fingerprint.ts";
import { besideName } from "../files/temporary.ts";
import { flagOption, invalid, readSetting, valueOption, wrongValue } from "./options.ts";

export const tlsOffOption = { "tls-off": flagOption("tlsOff") };

export const tlsOptions = {
  "tls-cert": valueOption("tlsCert"),
  "tls-key": valueOption("tlsKey"),
  "tls-ca": valueOption("tlsCa"),
  ...tlsOffOption,
};

/** TlsFiles: absolute paths of the TLS files. */
export type TlsFiles = { [File in (typeof TLS_FILES)[number]]?: string };

const TLS_FILES = ["cert", "key", "ca"] as const;
const TLS_SETTINGS = { cert: "tlsCert", key: "tlsKey", ca: "tlsCa" } as const;
const TOKEN_FILE_MAX = 4096;
const PEM_FILE_MAX = 1 << 20;

type TlsArguments = { [File in keyof TlsFiles as `tls-${File}`]?: string | undefined } & {
  "tls-off"?: boolean | undefined;
};

/** readTlsOff returns whether the user has turned TLS off. Throws DSM_INVALID if TLS files are set as well. */
export function readTlsOff(args: TlsArguments = {}): boolean {
  const variable = readSetting("tlsOff");
  const off = args["tls-off"] ?? variable === true;
  if (off && Object.keys(readTlsFiles(args)).length > 0) {
    throw wrongValue(
      "TLS is turned off, but TLS files are set; leave out --tls-off and DSM_TLS_OFF, or DSM_TLS_CERT, DSM_TLS_KEY and DSM_TLS_CA",
    );
  }
  return off;
}

/**
 * readTlsFiles returns the files of the options, else those of the variables. Programs in any directory read variables,
 * so those must be absolute paths.
 */
export function readTlsFiles(args: TlsArguments = {}): TlsFiles {
  const files: TlsFiles = {};
  for (const name of TLS_FILES) {
    const given = args[`tls-${name}`];
    if (given !== undefined) {
      files[name] = resolve(given);
      continue;
    }
    const path = readSetting(TLS_SETTINGS[name]);
    if (path !== undefined) files[name] = path;
  }
  return files;
}

/**
 * readTls returns the checked contents of the files; null without files. `listens`: for a role that accepts
 * connections.
 */
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
      throw invalid(`${key} is not a private key: ${(error as Error).message}`);
    }
    if (!fits) throw invalid(`${key} is not the key of ${cert}; give the two that belong together`);
  }
  if (listens) checkTlsListens(tls);
  return tls;
}

/** checkTlsListens throws DSM_INVALID if a role cannot listen with this TLS: the certificate is missing. */
export function checkTlsListens(tls: Tls | null): void {
  if (tls !== null && tls.cert === undefined) throw noCertificate();
}

function noCertificate(): DsmError {
  return wrongValue(
    "TLS needs a certificate and its key; give --tls-cert and --tls-key, or DSM_TLS_CERT and DSM_TLS_KEY",
  );
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
    throw invalid(`${path} is not a certificate; it must be a PEM file, such as "dsm cert" makes`);
  }
}

/**
 * readSecret reads a file that only this user can read. A path that the user named may be a symbolic link, which tools
 * that renew certificates make.
 */
export function readSecret(path: string, what: "token" | "key", most: number): string {
  const links = what === "key" || path === process.env.DSM_TOKEN_FILE ? 0 : constants.O_NOFOLLOW;
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | links);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ENOENT") throw new MissingFile(`the ${what} ${path} does not exist`);
    throw invalid(`the ${what} ${path} cannot be read: ${code === "ELOOP" ? "it is a link" : code}`);
  }
  try {
    const { uid, mode, size } = fstatSync(fd);
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw invalid(`the ${what} ${path} is not a file`);
    if (uid !== process.geteuid?.()) throw invalid(`the ${what} ${path} belongs to user ${uid}; use one of your own`);
    if ((mode & 0o077) !== 0) throw invalid(`the ${what} ${path} can be read by others; chmod 600 ${path}`);
    if (size > most) throw invalid(`the ${what} ${path} is larger than ${exactSize(most)}`);
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

/** tokenPath returns $DSM_TOKEN_FILE, else $XDG_CONFIG_HOME/dsm/token, or ~/.config/dsm/token. */
export function tokenPath(): string {
  const { DSM_TOKEN_FILE } = process.env;
  if (DSM_TOKEN_FILE) {
    if (!isAbsolute(DSM_TOKEN_FILE)) {
      throw wrongValue(`DSM_TOKEN_FILE is "${DSM_TOKEN_FILE}"; give an absolute path`);
    }
    return DSM_TOKEN_FILE;
  }
  return join(configFolder(), "token");
}

/** configFolder returns $XDG_CONFIG_HOME/dsm, or ~/.config/dsm. */
export function configFolder(): string {
  const { XDG_CONFIG_HOME } = process.env;
  return join(XDG_CONFIG_HOME && isAbsolute(XDG_CONFIG_HOME) ? XDG_CONFIG_HOME : join(homedir(), ".config"), "dsm");
}

/** readTokenFile returns the token in the file; null without a file. Throws DSM_INVALID if it cannot be used. */
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
 * makeTokenFile makes the file, with the fingerprint of the daemon's authority if it has one. It adds the fingerprint
 * to an existing plain token ("extended"), and leaves a file that needs no change ("kept"). Throws DSM_INVALID if the
 * file names another authority.
 */
export function makeTokenFile(fingerprint: string | null, path = tokenPath()): "made" | "extended" | "kept" {
  try {
    const made = { token: Buffer.from(randomBytes(32).toString("hex")), fingerprint };
    if (writeSecret(path, `${formatToken(made)}\n`, "new")) return "made";
    if (fingerprint === null) return "kept";
    const there = readTokenFile(path);
    if (there === null || there.fingerprint === fingerprint) return "kept";
    checkFingerprint(there, fingerprint, `the token in ${path}`);
    // A file that the user named may have other users: dsm does not change it.
    if (path === process.env.DSM_TOKEN_FILE) return "kept";
    writeSecret(path, `${formatToken({ ...there, fingerprint })}\n`, "replace");
    return "extended";
  } catch (error) {
    if (error instanceof DsmError) throw error;
    const { code } = error as { code?: string };
    throw new DsmError("DSM_SYSTEM", `the token ${path} cannot be made: ${code}; set DSM_TOKEN, or XDG_CONFIG_HOME`);
  }
}

/** checkFingerprint throws DSM_INVALID if a token names another authority than the daemon's own. */
export function checkFingerprint(token: Pick<Security, "fingerprint">, fingerprint: string, what: string): void {
  if ((token.fingerprint ?? fingerprint) === fingerprint) return;
  throw invalid(
    `${what} names the authority ${shortFingerprint(token.fingerprint as string)}, and this machine's is ` +
      `${shortFingerprint(fingerprint)}; copy ~/.config/dsm/authority-key.pem from the machine that made the token, or leave out its fingerprint`,
  );
}

/**
 * writeSecret writes a file for this user alone, atomically. "new": it never replaces a file; it returns false if the
 * file existed. Of several concurrent calls one makes the file.
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
 * readSecurity returns token and TLS for connections with `host`. On loopback the token of the file is used only if the
 * peer demands it, so an unusable file is not an error there. Throws DSM_INVALID.
 */
export function readSecurity(
  host: string,
  tls: Tls | null = readTlsOff() ? null : readTls(readTlsFiles(), false),
  tlsOff = readTlsOff(),
): Security {
  const text = readSetting("token");
  if (text !== undefined) {
    const read = parseToken(text);
    if (typeof read === "string") throw wrongValue(`DSM_TOKEN cannot be used: ${read}`);
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

/** tokenText returns the token with its fingerprint, in the format of DSM_TOKEN and the file; null without a token. */
export function tokenText({ token, fingerprint }: Security): string | null {
  return token === null ? null : formatToken({ token, fingerprint: fingerprint ?? null });
}

/**
 * securityEnvironment returns the variables for a role that will listen at `host`. Only its user can read the
 * environment of a process; all users can read its arguments.
 */
export function securityEnvironment(security: Security, host: string, files: TlsFiles): Record<string, string> {
  const environment: Record<string, string> = {};
  const text = tokenText(security);
  if (text !== null && (security.always || !isLoopback(host))) environment.DSM_TOKEN = text;
  if (security.tlsOff === true) environment.DSM_TLS_OFF = "1";
  for (const name of TLS_FILES) {
    const path = files[name];
    if (path !== undefined) environment[SETTINGS[TLS_SETTINGS[name]].variable] = path;
  }
  return environment;
}
