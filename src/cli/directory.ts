/** The session daemon as its clients see it: HTTP calls, and starting a local daemon where none listens. */
import { randomBytes } from "node:crypto";
import { FetchError, ofetch } from "ofetch";
import {
  answerProof,
  equalProofs,
  HTTP_PROOF_HEADER,
  mustProve,
  NONCE_SIZE,
  plainText,
  readChallenge,
  type Security,
  signRequest,
  TOKEN_ADVICE,
} from "../core/auth.ts";
import type {
  CertificateRequest,
  Directory,
  FindRequest,
  Health,
  Registration,
  SessionAddress,
  SessionSummary,
  SignedCertificate,
  SuccessionRequest,
} from "../core/directory.ts";
import { inheritedEnvironment } from "../core/environment.ts";
import { type DsmCode, DsmError, Status } from "../core/errors.ts";
import { DAEMON_IDLE_MS, PROTOCOL_VERSION } from "../core/limits.ts";
import { formatAddress, isLoopback, parseAddress } from "../core/names.ts";
import { parseForeign, readAddress, readDetail, readHealth, readSummary } from "../core/status-check.ts";
import { ROLE_NAMES, type Tls } from "../core/tls.ts";
import { findAuthority } from "../link/pinned.ts";
import { readSecurity, shortFingerprint } from "./security.ts";
import { selfCommand } from "./self.ts";

/** The daemon itself answers at once; only starting a server takes longer. */
const ANSWER_TIMEOUT_MS = 10_000;
const FIND_TIMEOUT_MS = 40_000;
const AUTOSTART_TIMEOUT_MS = 15_000;
/** How often a daemon may vanish (ending for lack of sessions) just as it is asked. */
const ATTEMPTS_MAX = 3;

export interface DirectoryOptions {
  /** "host:port" */
  address: string;
  /** Whether to start a daemon at a loopback address where nothing listens. */
  autostart: boolean;
  /** What the daemon must prove, and TLS; left out: as the user's settings have it. */
  security?: Security;
  /** Gets a line when something happened that the user should know. */
  note?(text: string): void;
}

export function createDirectory(options: DirectoryOptions): Directory {
  const { address } = options;
  const parsed = parseAddress(address);
  if (!parsed) throw new DsmError("DSM_INVALID", `daemon address "${address}" is not HOST:PORT`);
  const { host, port } = parsed;
  const security = options.security ?? readSecurity(host);
  const { token, fingerprint = null, tlsOff = false } = security;
  /** As the user gave it, or that of the authority which the token names. Undefined: not known yet. */
  let tls: Tls | null | undefined = security.tls ?? (tlsOff ? null : undefined);
  const autostart = options.autostart && isLoopback(host);
  let greeted: Promise<Health> | null = null;
  /** Whether the daemon demands a token; null: it has not been asked yet. */
  let demands: boolean | null = null;

  /** What to do when the token here is older than the daemon's authority. */
  const copyAgain = `copy the daemon's token here again: scp ${host}:.config/dsm/token ~/.config/dsm/token`;
  const origin = (): string => `${tls ? "https" : "http"}://${formatAddress(host, port)}`;

  /**
   * Finds out how the daemon is spoken to, before anything is said to it. Beyond loopback that is by TLS, with the
   * authority that the token names, unless the user has said otherwise. On loopback it is without, where nobody is on the
   * way; a daemon on all addresses has TLS there, too, and is found by useAuthority().
   */
  async function settleTls(): Promise<void> {
    if (tls !== undefined) return;
    if (isLoopback(host)) {
      tls = null;
      return;
    }
    if (token === null) throw tokenNeeded();
    if (fingerprint === null) {
      throw new DsmError(
        "DSM_REFUSED",
        `the token names no authority by which the session daemon at ${address} could be known; ${copyAgain} ` +
          "(or set DSM_TOKEN=TOKEN:FINGERPRINT, DSM_TLS_CA, or DSM_TLS_OFF=1 for a daemon without TLS)",
      );
    }
    await useAuthority(fingerprint);
  }

  async function useAuthority(named: string): Promise<void> {
    const found = await findAuthority(host, port, named, ANSWER_TIMEOUT_MS);
    if ("authority" in found) {
      tls = { ca: found.authority, serverName: ROLE_NAMES.daemon };
      return;
    }
    if ("error" in found) throw transportError(found.error);
    if (found.failure === "silent") throw unreachable("it takes connections but does not answer");
    if (found.failure === "other") {
      throw new DsmError(
        "DSM_REFUSED",
        `what listens at ${address} does not have the authority that the token names (${shortFingerprint(named)}): it may be ` +
          `another machine that takes its place; if the daemon was set up anew, ${copyAgain}`,
      );
    }
    throw new DsmError(
      "DSM_REFUSED",
      `what listens at ${address} does not speak TLS, and the token names an authority: start the daemon without ` +
        "--tls-off, or set DSM_TLS_OFF=1 here too, and let others on the way read and change what is sent",
    );
  }

  function tokenNeeded(): DsmError {
    return new DsmError("DSM_REFUSED", `the session daemon at ${address} needs a token; ${TOKEN_ADVICE}`);
  }

  async function send(method: Method, url: URL, body: string | null, timeout: number, authorization?: string) {
    try {
      return await ofetch.raw(url.href, {
        ...{ method, timeout, retry: 0, redirect: "manual", responseType: "text", ignoreResponseError: true },
        headers: {
          ...(body === null ? {} : { "content-type": "application/json" }),
          ...(authorization === undefined ? {} : { authorization }),
        },
        ...(body === null ? {} : { body }),
        // Bun's own option of fetch().
        ...(tls ? ({ tls: { ...tls, rejectUnauthorized: true } } as object) : {}),
      });
    } catch (error) {
      throw error instanceof FetchError ? transportError(error) : error;
    }
  }

  /** A challenge of the daemon's, or null where it demands no token. */
  async function challenge(): Promise<string | null> {
    if (token === null || demands === false) return null;
    const { status, headers } = await send("GET", new URL("/v1/health", origin()), null, ANSWER_TIMEOUT_MS);
    const nonce = status === 401 ? readChallenge(headers.get("www-authenticate")) : null;
    if (nonce === null && mustProve(security, host)) {
      if (status === 401 || status === 200) throw unproven();
      throw foreign();
    }
    demands = nonce !== null;
    return nonce;
  }

  /** One call, as it is: null for 404. */
  async function call<Answer>(
    method: Method,
    path: string,
    content?: object,
    timeout = ANSWER_TIMEOUT_MS,
  ): Promise<Answer | null> {
    if (token === null && mustProve(security, host)) throw tokenNeeded();
    const url = new URL(`/v1${path}`, origin());
    const body = content === undefined ? null : JSON.stringify(content);
    const nonce = await challenge();
    const target = `${url.host}${url.pathname}${url.search}`;
    const signed =
      nonce === null
        ? null
        : signRequest(token as Uint8Array, { method, target }, nonce, randomBytes(NONCE_SIZE), Buffer.from(body ?? ""));
    const { status, headers, _data } = await send(method, url, body, timeout, signed?.authorization);
    const text = String(_data ?? "");
    if (signed !== null && status !== 401) {
      const proof = answerProof(token as Uint8Array, signed.proof, status, Buffer.from(text));
      if (!equalProofs(Buffer.from(headers.get(HTTP_PROOF_HEADER) ?? ""), Buffer.from(proof))) throw unproven();
    }
    if (status === 204) return {} as Answer;
    if (status < 400) return readJson(text) as Answer;
    const { code, message } = readProblem(text);
    if (status === 404) return null;
    if (status === 401) demands = null;
    throw new DsmError(code, status === 401 ? `the session daemon at ${address}: ${message}` : message);
  }

  function unproven(): DsmError {
    return new DsmError(
      "DSM_REFUSED",
      `what listens at ${address} does not prove that it knows the token; check the address, and that both have the same`,
    );
  }

  function readJson(text: unknown): object {
    try {
      const value = parseForeign(String(text));
      if (typeof value === "object" && value !== null) return value;
    } catch {
      // Not JSON: below.
    }
    throw foreign();
  }

  function readProblem(data: unknown): { code: DsmCode; message: string } {
    const { error } = readJson(data) as { error?: { code?: unknown; message?: unknown } };
    if (typeof error?.code !== "string" || typeof error.message !== "string") throw foreign();
    const known = error.code.slice(4) in Status;
    return { code: known ? (error.code as DsmCode) : "DSM_REFUSED", message: plainText(error.message) };
  }

  /** What the daemon said, if it is what it must be. */
  function checked<Answer>(read: (value: unknown) => Answer | null, value: unknown): Answer {
    const answer = read(value);
    if (answer === null) throw foreign();
    return answer;
  }

  function foreign(advice = ""): DsmError {
    return new DsmError(
      "DSM_PROTOCOL",
      `something other than a dsm daemon is listening on ${address}; ` +
        `set DSM_DAEMON or --daemon to the daemon's address${advice}`,
    );
  }

  function noTls(reason: string): DsmError {
    const advice =
      security.tls !== null
        ? "check DSM_TLS_CA, and what the daemon was started with"
        : "check the clocks of both machines, and whether another one takes the daemon's place";
    return new DsmError("DSM_REFUSED", `no TLS with the session daemon at ${address}: ${reason}; ${advice}`);
  }

  function transportError(error: Error): Error {
    const cause = (error instanceof FetchError ? error.cause : error) as
      | { code?: string; name?: string; message?: string }
      | undefined;
    const code = cause?.code;
    if (code === "ECONNREFUSED" || code === "ConnectionRefused") return new Refused();
    if (tls && code !== undefined && TLS_ERROR.test(code)) {
      const otherName = code === "ERR_TLS_CERT_ALTNAME_INVALID";
      return noTls(
        otherName ? `its certificate is not for ${tls.serverName ?? host}` : (cause?.message?.split(".")[0] ?? code),
      );
    }
    if (code === "ECONNRESET" || code === "ConnectionClosed") return new Reset();
    if (cause?.name === "TimeoutError" || cause?.name === "AbortError") {
      return unreachable("it takes connections but does not answer");
    }
    if (code === "ENOTFOUND" || code === "DNSException" || code === "EAI_AGAIN") {
      return unreachable("there is no such host");
    }
    // Whatever else comes of reading an answer is an answer that is not HTTP.
    if (
      code !== undefined &&
      !/^(E(HOST|NET|CONN|TIMED|ADDR|ACCES|PERM)|FailedToOpenSocket|ConnectionTimeout)/.test(code)
    ) {
      return foreign();
    }
    return unreachable(cause?.message ?? error.message);
  }

  function unreachable(reason: string): DsmError {
    const cure = isLoopback(host)
      ? 'start one with "dsm daemon"'
      : "check the address, and that the daemon there was started with --host";
    return new DsmError("DSM_UNREACHABLE", `the session daemon at ${address} cannot be reached: ${reason}; ${cure}`);
  }

  async function greet(): Promise<Health> {
    await settleTls();
    const health = checked(readHealth, await call("GET", "/health"));
    if (health.protocol !== PROTOCOL_VERSION) {
      throw new DsmError(
        "DSM_VERSION",
        `the session daemon at ${address} (dsm ${health.version}) speaks protocol version ${health.protocol}, ` +
          `this is version ${PROTOCOL_VERSION}; install the same dsm on both`,
      );
    }
    return health;
  }

  /** Makes sure once that a dsm daemon of our version answers, starts one if allowed, and then makes the call. */
  async function ask<Answer>(request: () => Promise<Answer>): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      try {
        greeted ??= greet();
        await greeted;
        return await request();
      } catch (error) {
        const hadGreeted = await greeted?.then(
          () => true,
          () => false,
        );
        greeted = null;
        if (error instanceof Reset && tls === null && !tlsOff && fingerprint !== null) {
          await useAuthority(fingerprint);
          continue;
        }
        if (attempt < ATTEMPTS_MAX && error instanceof Reset) continue;
        if (error instanceof Reset) {
          if (tls) throw noTls("it closes the connection, which it does when it refuses our certificate");
          // A daemon that never greeted and hangs up on us speaks something else.
          const advice = tlsOff
            ? "leave out --tls-off and DSM_TLS_OFF"
            : "set DSM_TLS_CA, or copy its ~/.config/dsm/token here";
          throw hadGreeted ? unreachable("it closes the connection") : foreign(`; if it is one with TLS, ${advice}`);
        }
        if (!(error instanceof Refused)) throw error;
        if (!autostart || attempt >= ATTEMPTS_MAX) throw unreachable("nothing is listening there");
        if (await startLocalDaemon(host, port)) {
          const seconds = DAEMON_IDLE_MS / 1000;
          options.note?.(`started a session daemon at ${address}; it ends ${seconds} s after its last session`);
        }
      }
    }
  }

  const path = (name: string): string => `/sessions/${encodeURIComponent(name)}`;

  return {
    address,
    health: () => ask(greet),
    async find(request: FindRequest) {
      const found = await ask(() => call<SessionAddress>("POST", "/sessions", request, FIND_TIMEOUT_MS));
      if (found) return checked(readAddress, found);
      throw new DsmError(
        "DSM_REFUSED",
        `there is no session "${request.name}" at ${address}; say how many processes it has to start it`,
      );
    },
    async succeed({ name, ...request }: SuccessionRequest) {
      const found = await ask(() => call<SessionAddress>("POST", `${path(name)}/successor`, request, FIND_TIMEOUT_MS));
      if (found) return checked(readAddress, found);
      throw new DsmError("DSM_ENDED", `session "${name}" has ended`);
    },
    async register({ name, ...registration }: Registration) {
      await ask(() => call("PUT", path(name), registration));
    },
    async remove(name: string, server?: { instance: string; epoch: number }) {
      const query = server === undefined ? "" : `?instance=${server.instance}&epoch=${server.epoch}`;
      return (await ask(() => call("DELETE", `${path(name)}${query}`))) !== null;
    },
    async list() {
      const answer = await ask(() => call<{ sessions: SessionSummary[] }>("GET", "/sessions"));
      if (!Array.isArray(answer?.sessions)) throw foreign();
      return answer.sessions.map((session) => checked(readSummary, session));
    },
    async get(name: string) {
      const found = await ask(() => call("GET", path(name)));
      return found === null ? null : checked(readDetail, found);
    },
    async security() {
      await ask(greet);
      return { ...security, tls: tls ?? null };
    },
    async certify(request: CertificateRequest) {
      const signed = await ask(() => call<SignedCertificate>("POST", "/certificates", request));
      if (signed === null) return null;
      const { certificate, authority, life_ms } = signed;
      if ([certificate, authority].some((text) => typeof text !== "string") || !(life_ms > 0)) throw foreign();
      return signed;
    },
  };
}

/** Codes of OpenSSL for certificates that are not taken, and of handshakes that fail. */
const TLS_ERROR = /^(EPROTO|CERT_|ERR_TLS|UNABLE_TO|SELF_SIGNED|DEPTH_ZERO|INVALID_|PATH_LENGTH|HOSTNAME_|ERROR_IN_)/;

type Method = "GET" | "POST" | "PUT" | "DELETE";

class Refused extends Error {}
class Reset extends Error {}

/** True when the daemon that now listens is ours; false when somebody else was faster. Throws when there is none. */
async function startLocalDaemon(host: string, port: number): Promise<boolean> {
  const address = formatAddress(host, port);
  const child = Bun.spawn({
    cmd: [...selfCommand(), "daemon", "--autostarted", `--host=${host}`, `--port=${port}`],
    cwd: "/",
    env: inheritedEnvironment(process.env),
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), AUTOSTART_TIMEOUT_MS);
  try {
    const said = await firstLine(child.stdout);
    if (said.startsWith("ready ")) {
      child.unref();
      return true;
    }
    // It ended without getting there. Either another process started a daemon at the same moment, which the next
    // attempt will find, or the reason is in its error message.
    const reason = (await firstLine(child.stderr)).replace(/^dsm: /, "");
    await child.exited;
    if (reason.startsWith("a dsm daemon is already running") || reason.startsWith("something else is listening")) {
      return false;
    }
    throw new DsmError(
      "DSM_UNREACHABLE",
      `a session daemon at ${address} could not be started: ${reason || "it gave no reason"}`,
    );
  } finally {
    clearTimeout(timer);
  }
}

/** What comes up to the first end of a line, or to the end. */
export async function firstLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  const reader = stream.getReader();
  try {
    while (!text.includes("\n") && text.length < 4096) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
  return text.split("\n")[0] as string;
}
