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
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import type { ArgsDef } from "citty";
import { checkToken, type Security, type Tls } from "../core/auth.ts";
import { DsmError } from "../core/errors.ts";
import { isLoopback } from "../core/names.ts";
import { fromEnvironment, invalid } from "./options.ts";
import { besideName } from "./temporary.ts";

export const tlsOptions = {
  "tls-cert": { type: "string", description: "Certificate, as PEM [DSM_TLS_CERT]", valueHint: "FILE" },
  "tls-key": { type: "string", description: "Its private key, as PEM [DSM_TLS_KEY]", valueHint: "FILE" },
  "tls-ca": {
    type: "string",
    description: "Authority whose certificates are demanded of the others, as PEM [DSM_TLS_CA]",
    valueHint: "FILE",
  },
} as const satisfies ArgsDef;

/** Where the TLS files are: absolute paths. */
export type TlsFiles = { [File in keyof Tls]: string };

const TLS_VARIABLES = { cert: "DSM_TLS_CERT", key: "DSM_TLS_KEY", ca: "DSM_TLS_CA" } as const;
const TOKEN_FILE_MAX = 4096;
const PEM_FILE_MAX = 1 << 20;

/** The options' files, or the variables'. Those are read by programs in any folder, so they must be absolute. */
export function readTlsFiles(args: { [Option in keyof typeof tlsOptions]?: string | undefined } = {}): TlsFiles {
  const files: TlsFiles = {};
  for (const [name, variable] of Object.entries(TLS_VARIABLES) as [keyof Tls, string][]) {
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
  if ((cert === undefined) !== (key === undefined) || (listens && cert === undefined)) {
    throw invalid(
      "TLS needs a certificate and its key; give --tls-cert and --tls-key, or DSM_TLS_CERT and DSM_TLS_KEY",
    );
  }
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
  return tls;
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
function readSecret(path: string, what: "token" | "key", most: number): string {
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

class MissingFile extends DsmError {
  constructor(message: string) {
    super("DSM_INVALID", message);
  }
}

/** $DSM_TOKEN_FILE, else $XDG_CONFIG_HOME/dsm/token, or ~/.config/dsm/token. */
export function tokenPath(): string {
  const { XDG_CONFIG_HOME, DSM_TOKEN_FILE } = process.env;
  if (DSM_TOKEN_FILE) {
    if (!isAbsolute(DSM_TOKEN_FILE)) {
      throw invalid(`DSM_TOKEN_FILE is "${DSM_TOKEN_FILE}"; give the whole path, from / on`);
    }
    return DSM_TOKEN_FILE;
  }
  const base = XDG_CONFIG_HOME && isAbsolute(XDG_CONFIG_HOME) ? XDG_CONFIG_HOME : join(homedir(), ".config");
  return join(base, "dsm", "token");
}

/** The token in the file; null when there is none. Throws DSM_INVALID when it cannot be used. */
export function readTokenFile(path = tokenPath()): Uint8Array | null {
  let text: string;
  try {
    text = readSecret(path, "token", TOKEN_FILE_MAX).trim();
  } catch (error) {
    if (error instanceof MissingFile && path !== process.env.DSM_TOKEN_FILE) return null;
    throw error;
  }
  const wrong = checkToken(text);
  if (wrong !== null) throw invalid(`the token in ${path} cannot be used: ${wrong}`);
  return new TextEncoder().encode(text);
}

/** Makes the file, whole or not at all; of several who do so at once, one makes it. True when this call did. */
export function makeTokenFile(path = tokenPath()): boolean {
  const temporary = besideName(path, "new");
  try {
    mkdirSync(join(path, ".."), { recursive: true, mode: 0o700 });
    writeFileSync(temporary, `${randomBytes(32).toString("hex")}\n`, { flag: "wx", mode: 0o600 });
    try {
      linkSync(temporary, path);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === "EEXIST") return false;
      throw error;
    } finally {
      unlinkSync(temporary);
    }
  } catch (error) {
    const { code } = error as { code?: string };
    throw new DsmError("DSM_SYSTEM", `the token ${path} cannot be made: ${code}; set DSM_TOKEN, or XDG_CONFIG_HOME`);
  }
}

/**
 * What is shown to and asked of whoever is at `host`. A token file counts on loopback only where the other side asks,
 * so one that cannot be used is no error there. Throws DSM_INVALID.
 */
export function readSecurity(host: string, tls: Tls | null = readTls(readTlsFiles(), false)): Security {
  const text = fromEnvironment(undefined, "DSM_TOKEN");
  if (text !== undefined) {
    const wrong = checkToken(text);
    if (wrong !== null) throw invalid(`DSM_TOKEN cannot be used: ${wrong}`);
    return { token: new TextEncoder().encode(text), always: true, tls };
  }
  try {
    return { token: readTokenFile(), always: false, tls };
  } catch (error) {
    if (!(error instanceof DsmError) || !isLoopback(host)) throw error;
    return { token: null, always: false, tls };
  }
}

/**
 * Variables for a role that is started to listen at `host` in turn. The environment of a process can be read by its
 * user alone; its arguments by everybody.
 */
export function securityEnvironment(security: Security, host: string, files: TlsFiles): Record<string, string> {
  const environment: Record<string, string> = {};
  if (security.token !== null && (security.always || !isLoopback(host))) {
    environment.DSM_TOKEN = new TextDecoder().decode(security.token);
  }
  for (const [name, variable] of Object.entries(TLS_VARIABLES) as [keyof Tls, string][]) {
    const path = files[name];
    if (path !== undefined) environment[variable] = path;
  }
  return environment;
}
