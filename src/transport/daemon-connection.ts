/**
 * DaemonConnection: calls of the daemon's HTTP API with TLS, proofs of the token on both sides, errors, and attempts.
 *
 * A call passes these steps, and repeats them at each attempt:
 *
 * greet (once, and again after a failed connection) -> challenge -> sign -> request -> check the answer's proof ->
 * parse
 *
 * ofetch makes the attempts. It retries only a connection that failed before an answer, so it never repeats a call that
 * the daemon has answered; find, register, remove and succession are idempotent. Between two attempts #recover() starts
 * a daemon or switches to TLS if that can help. Other failures end a call at once with a DsmError of DaemonErrors.
 */
import { randomBytes } from "node:crypto";
import { type FetchContext, FetchError, ofetch } from "ofetch";
import {
  answerProof,
  equalProofs,
  HTTP_PROOF_HEADER,
  mustProve,
  NONCE_SIZE,
  plainText,
  type RequestProof,
  readChallenge,
  type Security,
  signRequest,
} from "../core/access/auth.ts";
import { ROLE_NAMES, type Tls } from "../core/access/tls.ts";
import { type DsmCode, DsmError, Status } from "../core/base/errors.ts";
import { PROTOCOL_VERSION } from "../core/base/limits.ts";
import { formatAddress, isLoopback, parseAddress } from "../core/base/names.ts";
import type { Health } from "../core/messages/daemon-api.ts";
import { parseForeign, readHealth } from "../core/messages/status-check.ts";
import { type ConnectionFailure, DaemonErrors } from "./daemon-errors.ts";
import { findAuthority } from "./pinned.ts";

/** Time limit of a call. The daemon answers at once, except when it starts a server. */
const ANSWER_TIMEOUT_MS = 10_000;
/** Retries for daemons that end, for lack of sessions, just as a call reaches them. */
const ATTEMPTS_MAX = 3;
/** ofetch represents a failed connection by this status. An answer with it is not retried. */
const CONNECTION_FAILED = 500;
const UNAUTHORIZED = 401;
const NOT_FOUND = 404;
const HEALTH = "/health";

export interface DaemonConnectionOptions {
  /** "host:port" */
  address: string;
  /** The token, and the TLS settings of the user. */
  security: Security;
  /**
   * Starts a daemon if nothing listens at a loopback address. Resolves to false if another process was faster; throws
   * DsmError if no daemon runs afterwards. Null: never start one.
   */
  startDaemon: ((host: string, port: number) => Promise<boolean>) | null;
  /** Called after startDaemon has started one. */
  onStarted?(): void;
}

export interface Call {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** Path after /v1. */
  path: string;
  /** Sent as JSON. */
  content?: object;
  timeoutMs?: number;
  /** Parses the JSON of the answer. Default: a parser that removes control characters for terminals. */
  parse?: (text: string) => unknown;
}

export class DaemonConnection {
  readonly errors: DaemonErrors;
  readonly #options: DaemonConnectionOptions;
  readonly #host: string;
  readonly #port: number;
  /** TLS of the user's settings, or with the authority that the token names. Undefined: not known yet. */
  #tls: Tls | null | undefined;
  #greeted: Promise<Health> | null = null;
  /** Whether the daemon demands a token; null: not known yet. */
  #demandsToken: boolean | null = null;

  /** Throws DSM_INVALID for an invalid address. */
  constructor(options: DaemonConnectionOptions) {
    const parsed = parseAddress(options.address);
    if (!parsed) throw new DsmError("DSM_INVALID", `daemon address "${options.address}" is not HOST:PORT`);
    const { tls, tlsOff = false } = options.security;
    this.#options = options;
    this.#host = parsed.host;
    this.#port = parsed.port;
    this.#tls = tls ?? (tlsOff ? null : undefined);
    this.errors = new DaemonErrors(options.address, parsed.host, tls !== null);
  }

  /** Returns the TLS that the daemon uses. Greets it first. */
  async tls(): Promise<Tls | null> {
    await this.#greet();
    return this.#tls ?? null;
  }

  /** Greets the daemon now, even if it was greeted before. */
  health(): Promise<Health> {
    this.#greeted = null;
    return this.#greet();
  }

  /**
   * Returns null for 404, {} for an answer without content, else its JSON, which the caller checks. Throws DsmError.
   */
  async call({
    method,
    path,
    content,
    timeoutMs = ANSWER_TIMEOUT_MS,
    parse = parseForeign,
  }: Call): Promise<object | null> {
    const body = content === undefined ? undefined : JSON.stringify(content);
    let proof: RequestProof | null = null;
    try {
      const response = await ofetch.raw<object, "json">(path, {
        method,
        ...(body === undefined ? {} : { body }),
        ...this.#attempts,
        retryStatusCodes: [CONNECTION_FAILED, UNAUTHORIZED],
        // The proof covers the bytes of the answer: it is checked before they are parsed.
        parseResponse: (text) => text,
        onRequest: async (context) => {
          const nonce = await this.#challenge(path);
          const url = await this.#prepare(context, path, timeoutMs);
          const signed = nonce === null ? null : this.#sign(method, url, nonce, body ?? "");
          proof = signed?.proof ?? null;
          context.options.headers.delete("authorization");
          if (signed !== null) context.options.headers.set("authorization", signed.authorization);
        },
        onRequestError: (context) => this.#recover(context, path),
        onResponse: ({ response }) => {
          const text = String(response._data ?? "");
          if (proof !== null && response.status !== UNAUTHORIZED) this.#checkProof(response, proof, text);
          if (response.status < 400 && response.status !== 204) response._data = this.#read(text, parse);
        },
        onResponseError: ({ response, options }) => {
          const problem = this.#problem(response.status, String(response._data ?? ""));
          if (response.status === NOT_FOUND) return;
          if (response.status !== UNAUTHORIZED) throw problem;
          // A restarted daemon may demand a token that its predecessor did not.
          const canProve = this.#demandsToken === false && this.#options.security.token !== null;
          this.#demandsToken = null;
          if (!canProve || options.retry === 0) throw problem;
        },
      });
      return response._data ?? {};
    } catch (error) {
      if (error instanceof FetchError && error.status === NOT_FOUND) return null;
      throw this.#ending(error);
    }
  }

  #greet(): Promise<Health> {
    if (this.#greeted !== null) return this.#greeted;
    const greeting = this.#askHealth();
    this.#greeted = greeting;
    greeting.catch(() => {
      if (this.#greeted === greeting) this.#greeted = null;
    });
    return greeting;
  }

  async #askHealth(): Promise<Health> {
    const health = readHealth(await this.call({ method: "GET", path: HEALTH }));
    if (health === null) throw this.errors.notDaemon();
    if (health.protocol !== PROTOCOL_VERSION) throw this.errors.otherVersion(health);
    return health;
  }

  readonly #attempts = { retry: ATTEMPTS_MAX - 1, redirect: "manual" } as const;

  /** Prepares each request: address, TLS, and a time limit that includes the body of the answer. */
  async #prepare(context: FetchContext, path: string, timeoutMs: number): Promise<URL> {
    if (path !== HEALTH) await this.#greet();
    if (this.#tls === undefined) await this.#settleTls();
    const tls = this.#tls ?? null;
    const url = new URL(`/v1${path}`, `${tls ? "https" : "http"}://${formatAddress(this.#host, this.#port)}`);
    context.request = url.href;
    context.options.signal = AbortSignal.timeout(timeoutMs);
    // An option of fetch() that only Bun has.
    if (tls) Object.assign(context.options, { tls: { ...tls, rejectUnauthorized: true } });
    return url;
  }

  /** Returns a challenge of the daemon, or null if it demands no token. */
  async #challenge(path: string): Promise<string | null> {
    const { security } = this.#options;
    const needed = mustProve(security, this.#host);
    if (security.token === null && needed) throw this.errors.tokenNeeded();
    if (path !== HEALTH) await this.#greet();
    if (security.token === null || this.#demandsToken === false) return null;
    let answer: { status: number; headers: Headers };
    try {
      answer = await ofetch.raw(HEALTH, {
        ...this.#attempts,
        responseType: "text",
        ignoreResponseError: true,
        onRequest: async (context) => {
          if (path !== HEALTH) await this.#greet();
          await this.#prepare(context, HEALTH, ANSWER_TIMEOUT_MS);
        },
        onRequestError: (context) => this.#recover(context, path),
      });
    } catch (error) {
      throw this.#ending(error);
    }
    const { status, headers } = answer;
    const nonce = status === UNAUTHORIZED ? readChallenge(headers.get("www-authenticate")) : null;
    if (nonce === null && needed) {
      throw status === UNAUTHORIZED || status === 200 ? this.errors.unproven() : this.errors.notDaemon();
    }
    this.#demandsToken = nonce !== null;
    return nonce;
  }

  #sign(method: string, url: URL, nonce: string, body: string): { authorization: string; proof: RequestProof } {
    const target = `${url.host}${url.pathname}${url.search}`;
    const token = this.#options.security.token as Uint8Array;
    return signRequest(token, { method, target }, nonce, randomBytes(NONCE_SIZE), Buffer.from(body));
  }

  #checkProof({ status, headers }: Response, proof: RequestProof, text: string): void {
    const wanted = answerProof(this.#options.security.token as Uint8Array, proof, status, Buffer.from(text));
    if (!equalProofs(Buffer.from(headers.get(HTTP_PROOF_HEADER) ?? ""), Buffer.from(wanted))) {
      throw this.errors.unproven();
    }
  }

  #read(text: string, parse: (text: string) => unknown): object {
    try {
      const value = parse(text);
      if (typeof value === "object" && value !== null) return value;
    } catch {
      // Not JSON: reported below.
    }
    throw this.errors.notDaemon();
  }

  /** Returns the error that the daemon reports. Throws if the answer is not the error of a daemon. */
  #problem(status: number, text: string): DsmError {
    const { error } = this.#read(text, parseForeign) as { error?: { code?: unknown; message?: unknown } };
    if (typeof error?.code !== "string" || typeof error.message !== "string") throw this.errors.notDaemon();
    const code = error.code.slice(4) in Status ? (error.code as DsmCode) : "DSM_REFUSED";
    const message = plainText(error.message);
    const { address } = this.#options;
    return new DsmError(code, status === UNAUTHORIZED ? `the session daemon at ${address}: ${message}` : message);
  }

  /** Handles a failed connection. Returns if another attempt may succeed, else throws a DsmError. */
  async #recover({ error, options }: FetchContext & { error: Error }, path: string): Promise<void> {
    const failure = this.errors.classify(error, this.#tls ?? null);
    if (failure instanceof DsmError) throw failure;
    const isLast = options.retry === 0;
    const wasGreeted = path !== HEALTH;
    if (wasGreeted) this.#greeted = null;
    if (failure === "refused") {
      const { startDaemon } = this.#options;
      if (isLast || startDaemon === null || !isLoopback(this.#host)) throw this.#final(failure, wasGreeted);
      if (await startDaemon(this.#host, this.#port)) this.#options.onStarted?.();
      return;
    }
    const { fingerprint = null, tlsOff = false } = this.#options.security;
    if (this.#tls === null && !tlsOff && fingerprint !== null) await this.#useAuthority(fingerprint);
    else if (isLast) throw this.#final(failure, wasGreeted);
  }

  #final(failure: "refused" | "reset", wasGreeted: boolean): DsmError {
    if (failure === "refused") return this.errors.unreachable("nothing is listening there");
    if (this.#tls) {
      return this.errors.noTls("it closes the connection, which it does when it refuses our certificate");
    }
    if (wasGreeted) return this.errors.unreachable("it closes the connection");
    // A peer that closes the connection before it greets is not a daemon.
    const advice = this.#options.security.tlsOff
      ? "leave out --tls-off and DSM_TLS_OFF"
      : "set DSM_TLS_CA, or copy its ~/.config/dsm/token here";
    return this.errors.notDaemon(`; if it is one with TLS, ${advice}`);
  }

  /** Returns the error of a call: a DsmError unchanged, an error of reading the answer in words. */
  #ending(error: unknown): unknown {
    if (error instanceof DsmError || !(error instanceof Error)) return error;
    const cause = error instanceof FetchError && error.cause instanceof Error ? error.cause : error;
    // Not an error of the connection, but a bug.
    if (!("code" in cause) && cause.name !== "TimeoutError" && cause.name !== "AbortError") return error;
    const failure: ConnectionFailure = this.errors.classify(cause, this.#tls ?? null);
    return failure instanceof DsmError ? failure : this.#final(failure, true);
  }

  /**
   * Decides on TLS before the first request. Beyond loopback it uses TLS with the authority that the token names,
   * unless the settings differ. On loopback it starts without TLS, as no other machine sees the traffic; a daemon that
   * listens on all addresses has TLS there, too, and #useAuthority() finds it.
   */
  async #settleTls(): Promise<void> {
    if (isLoopback(this.#host)) {
      this.#tls = null;
      return;
    }
    const { token, fingerprint = null } = this.#options.security;
    if (token === null) throw this.errors.tokenNeeded();
    if (fingerprint === null) throw this.errors.tokenWithoutAuthority();
    await this.#useAuthority(fingerprint);
  }

  /** Throws the error that ends the call, or an Error of a failed connection. */
  async #useAuthority(fingerprint: string): Promise<void> {
    const found = await findAuthority(this.#host, this.#port, fingerprint, ANSWER_TIMEOUT_MS);
    if ("authority" in found) {
      this.#tls = { ca: found.authority, serverName: ROLE_NAMES.daemon };
      return;
    }
    if ("error" in found) {
      const failure = this.errors.classify(found.error, null);
      throw failure instanceof DsmError ? failure : this.#final(failure, false);
    }
    if (found.failure === "silent") throw this.errors.silent();
    throw found.failure === "other" ? this.errors.otherAuthority(fingerprint) : this.errors.plainOnly();
  }
}
