/**
 * The session daemon: the directory of sessions behind an HTTP API.
 *
 *   GET    /v1/health           200 Health
 *   GET    /metrics             200 all sessions in Prometheus's text format
 *   GET    /v1/sessions         200 {"sessions": SessionSummary[]}
 *   GET    /v1/sessions/NAME    200 SessionDetail; ?heat=1: with heat
 *   GET    /v1/sessions/NAME/memory?offset=N&length=N
 *                               200 application/octet-stream: the bytes of the map as the server has them now, at most
 *                               MEMORY_READ_MAX; 409 in direct mode
 *   GET    /v1/sessions/NAME/watch?interval_ms=N
 *                               200 text/event-stream: SessionDetail with heat, every so often; 503 if too many watch
 *   POST   /v1/sessions         FindRequest: 200 SessionAddress of a session that was there, 201 of one now started
 *   PUT    /v1/sessions/NAME    Registration without its name: 201, or 200 for an instance the daemon knows
 *   DELETE /v1/sessions/NAME    204; ?instance=ID&epoch=N only if that server has the name
 *   POST   /v1/sessions/NAME/successor
 *                               SuccessionRequest without its name: 200 SessionAddress of the server that is there now
 *   POST   /v1/certificates     CertificateRequest: 200 SignedCertificate; 404 where the daemon has no authority of its own
 *   GET    /                    the dashboard, a page over this API: page.ts
 *
 * Errors are {"error": {"code", "message"}} with a status of 400 and above. Where a token is demanded, requests without
 * a proof get a challenge and 401, and answers carry the daemon's own proof: auth.ts describes the scheme. That of an
 * event stream is for its beginning, without a body. Web pages but our own
 * are refused, whatever name they reach us by.
 */
import { randomBytes } from "node:crypto";
import {
  bodyHash,
  checkListening,
  HTTP_PROOF_HEADER,
  mustProve,
  OPEN,
  RequestGuard,
  type RequestProof,
  type Security,
  TOKEN_ADVICE,
} from "../core/auth.ts";
import {
  type FindRequest,
  type Health,
  NOTHING_KNOWN,
  type Registration,
  type SessionDetail,
  type SuccessionRequest,
} from "../core/directory.ts";
import { DsmError } from "../core/errors.ts";
import {
  ADDRESS_SLOTS,
  DAEMON_IDLE_MS,
  EPOCH_MAX,
  GREETING_TIMEOUT_MS,
  MEMORY_READ_MAX,
  PROTOCOL_VERSION,
  VERSION,
  WATCH_INTERVAL_MAX_MS,
  WATCH_INTERVAL_MIN_MS,
  WATCH_INTERVAL_MS,
} from "../core/limits.ts";
import { checkOnLoss, DEFAULT_ON_LOSS, type OnLoss } from "../core/loss.ts";
import { METRICS_TYPE, metricsText } from "../core/metrics.ts";
import { checkName, checkProcesses, formatAddress, isLoopback } from "../core/names.ts";
import { checkOrder, DEFAULT_ORDER, type Order } from "../core/order.ts";
import { checkSize } from "../core/size.ts";
import { type DaemonAuthority, linkTls, listeningTls, signCertificate } from "./certificates.ts";
import { askStatus, readMemory } from "./link.ts";
import { isPagePath, type ReadPage, servePage } from "./page.ts";
import { address, type Entry, isWildcard, placeOf, START_TIMEOUT_MS, summary, Table } from "./table.ts";
import { EVENT_STREAM, Watchers } from "./watch.ts";

const BODY_MAX = 64 << 10;
const SWEEP_INTERVAL_MS = 5_000;
/** Servers that are asked for metrics at the same time. */
const ASKED_AT_ONCE = 64;

export interface DaemonOptions {
  host: string;
  /** 0: any free port. */
  port: number;
  /** Program and first arguments of `dsm server`. */
  serverCommand: string[];
  /** Started by a client, not by hand: ends by itself `idleMs` after its last session. */
  autostarted: boolean;
  /** `session`: which one the line is about. */
  log(line: string, session?: string): void;
  idleMs?: number;
  /** Calls `act` in `ms`, unless the function it returns is called before. Left out: by setTimeout. */
  setTimer?: (act: () => void, ms: number) => () => void;
  /** What its clients must prove, and TLS; left out: nothing, which is possible on loopback only. */
  security?: Security;
  /** Its own authority, by which it and the servers are known; left out: TLS as `security` has it. */
  authority?: DaemonAuthority | null;
  /** Where the files of the dashboard are; left out: there is none. */
  readPage?: ReadPage;
  /** Variables by which the servers it starts demand the same. */
  serverEnvironment?: Record<string, string>;
}

export interface Daemon {
  host: string;
  port: number;
  /** Resolves when the daemon has ended by itself or was stopped. Sessions go on. */
  ended: Promise<void>;
  stop(): void;
}

function timeout(act: () => void, ms: number): () => void {
  const timer = setTimeout(act, ms);
  return () => clearTimeout(timer);
}

/** Starts the daemon. Throws DSM_SYSTEM with `port is taken` or another reason when it cannot listen. */
export function startDaemon(options: DaemonOptions): Daemon {
  const given = options.security ?? OPEN;
  const authority = options.authority ?? null;
  /** How servers are reached. */
  const security = authority === null ? given : { ...given, tls: linkTls(authority) };
  const refused = checkListening(security, options.host);
  if (refused !== null) throw new DsmError("DSM_INVALID", refused);
  const ended = Promise.withResolvers<void>();
  const setTimer = options.setTimer ?? timeout;
  let cancelIdle = (): void => {};
  const table = new Table({
    serverCommand: options.serverCommand,
    security,
    serverEnvironment: options.serverEnvironment ?? {},
    serverHost: options.host,
    daemonAddress: () => formatAddress(isWildcard(options.host) ? loopbackOf(options.host) : options.host, port),
    log: options.log,
    changed: watchIdle,
  });
  const watchers = new Watchers();
  const answerRequest: Answer = (request, asker) =>
    answer({ table, watchers, options, security, authority }, request, asker);
  const demanded = mustProve(security, options.host) ? security.token : null;
  const server = listen(
    options,
    authority === null ? given : { ...given, tls: listeningTls(authority) },
    demanded === null ? answerRequest : guarded(demanded, options, answerRequest),
  );
  const port = server.port as number;
  const sweep = setInterval(() => void table.sweep(), SWEEP_INTERVAL_MS);
  watchIdle();

  function watchIdle(): void {
    cancelIdle();
    if (options.autostarted && table.size === 0) cancelIdle = setTimer(stop, options.idleMs ?? DAEMON_IDLE_MS);
  }

  function stop(): void {
    cancelIdle();
    clearInterval(sweep);
    watchers.stop();
    server.stop(true).then(() => ended.resolve());
  }

  return { host: options.host, port, ended: ended.promise, stop };
}

/** Who asks. */
interface Asker {
  /** Its address. */
  peer: string;
  /** When it has hung up. */
  gone: AbortSignal;
  /** Called before what may take longer than a stranger may stay: a server is started, or it watches. 0: as long as it wants. */
  mayStay(seconds: number): void;
}

type Answer = (request: Request, asker: Asker) => Promise<Response>;

interface Parts {
  table: Table;
  watchers: Watchers;
  options: DaemonOptions;
  security: Security;
  authority: DaemonAuthority | null;
}

const START_TIMEOUT_S = Math.ceil((2 * START_TIMEOUT_MS) / 1000);

/** Answers only requests that prove that they know the token, and proves in each answer that the daemon does. */
function guarded(token: Uint8Array, options: DaemonOptions, answerRequest: Answer): Answer {
  const guard = new RequestGuard(token, randomBytes(32));
  return async (request, asker) => {
    const { pathname, search } = new URL(request.url);
    const target = `${request.headers.get("host")}${pathname}${search}`;
    const signed = { method: request.method, target };
    const proof = guard.check(request.headers.get("authorization"), signed, performance.now());
    if (typeof proof === "string") throw unproven(proof, guard);
    const response = await checkedBody(request, proof)
      .then((checked) => answerRequest(checked, asker))
      .catch((error) => failure(error, options.log));
    const { status, headers } = response;
    if (headers.get("content-type") === EVENT_STREAM) {
      headers.set(HTTP_PROOF_HEADER, guard.sign(proof, status, new Uint8Array(0)));
      return new Response(response.body, { status, headers });
    }
    const bytes = await response.bytes();
    headers.set(HTTP_PROOF_HEADER, guard.sign(proof, status, bytes));
    return new Response(status === 204 ? null : bytes, { status, headers });
  };
}

function unproven(why: Exclude<ReturnType<RequestGuard["check"]>, RequestProof>, guard: RequestGuard): HttpError {
  if (why === "full") return new HttpError(503, "DSM_LIMIT", "the daemon has too many requests; try again");
  const message = {
    none: `this daemon demands a token; ${TOKEN_ADVICE}`,
    wrong: `that is not the token of this daemon; ${TOKEN_ADVICE}`,
    stale: "the challenge that the request answers was used before or has run out; ask for a new one",
  }[why];
  return new HttpError(401, "DSM_REFUSED", message, {
    "www-authenticate": guard.challenge(performance.now(), randomBytes(16)),
  });
}

/** The request with its body read, once it is the one that was proven. Nobody else's is read at all. */
async function checkedBody(request: Request, proof: RequestProof): Promise<Request> {
  const body = await readBytes(request);
  if (bodyHash(body) !== proof.body) {
    throw new HttpError(401, "DSM_REFUSED", "the body is not the one that the request proves");
  }
  const { url, method, headers } = request;
  return new Request(url, { method, headers, ...(body.length > 0 ? { body: body as Uint8Array<ArrayBuffer> } : {}) });
}

function listen(options: DaemonOptions, security: Security, answerRequest: Answer): Bun.Server<undefined> {
  const { tls } = security;
  try {
    return Bun.serve({
      hostname: options.host,
      port: options.port,
      development: false,
      // Two daemons on one port would each have half of the sessions.
      reusePort: false,
      // Above BODY_MAX, so that a body a little too large gets an answer that says so.
      maxRequestBodySize: 16 * BODY_MAX,
      ...(tls === null ? {} : { tls: { ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: true } }),
      // Who connects and asks nothing does not stay long.
      idleTimeout: GREETING_TIMEOUT_MS / 1000,
      fetch: async (request, bunServer) => {
        const peer = plainAddress(bunServer.requestIP(request)?.address ?? "");
        try {
          checkHost(request);
          checkSource(request, options, security);
          const { pathname } = new URL(request.url);
          if (options.readPage !== undefined && isPagePath(pathname)) {
            checkMethod(request, ["GET", "HEAD"]);
            return await servePage(pathname, options.readPage);
          }
          const mayStay = (seconds: number): void => bunServer.timeout(request, seconds);
          return await answerRequest(request, { peer, gone: request.signal, mayStay });
        } catch (error) {
          return failure(error, options.log);
        }
      },
    });
  } catch (error) {
    const code = (error as { code?: string }).code;
    const at = formatAddress(options.host, options.port);
    if (code === "EADDRINUSE") throw new DsmError("DSM_BUSY", `port is taken: ${at}`);
    if (code === "EACCES")
      throw new DsmError("DSM_SYSTEM", `no permission to listen on ${at}; choose a port above 1023`);
    const reason = error instanceof Error ? error.message : String(error);
    throw new DsmError("DSM_SYSTEM", `cannot listen on ${at}: ${reason}; give --host an address of this machine`);
  }
}

class HttpError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Record<string, string>;

  constructor(status: number, code: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

const HTTP_STATUS: Partial<Record<string, number>> = {
  DSM_INVALID: 400,
  DSM_REFUSED: 404,
  DSM_MISMATCH: 409,
  DSM_ENDED: 410,
  DSM_LIMIT: 503,
  DSM_SYSTEM: 503,
};

function failure(error: unknown, log: (line: string) => void): Response {
  if (error instanceof HttpError) return problem(error.status, error.code, error.message, error.headers);
  if (error instanceof DsmError) return problem(HTTP_STATUS[error.code] ?? 500, error.code, error.message);
  const message = error instanceof Error ? error.message : String(error);
  log(`a request failed: ${message}`);
  return problem(500, "DSM_SYSTEM", "the daemon failed to answer; its log has the reason");
}

function problem(status: number, code: string, message: string, headers: Record<string, string> = {}): Response {
  return Response.json({ error: { code, message } }, { status, headers });
}

/** Bun makes the URL of a request from its Host, as it is, and takes the first of several. */
function checkHost({ url, headers }: Request): void {
  if (URL.canParse(url) && !headers.get("host")?.includes(",")) return;
  throw new HttpError(400, "DSM_INVALID", "the Host header is empty, or not one host name or address");
}

/**
 * No web page but our own, which only reads, has business here. Browsers say of all they send for one where it comes
 * from; and a page whose name was made to lead to this machine still asks for that name, which is none of ours. A link
 * on any page may lead to ours, which does nothing by itself that a link could tell it.
 */
function checkSource(request: Request, options: DaemonOptions, security: Security): void {
  const { headers, method } = request;
  const { origin: own, pathname } = new URL(request.url);
  const reads = method === "GET" || method === "HEAD";
  const origin = headers.get("origin");
  const site = headers.get("sec-fetch-site");
  // Where neither TLS nor a loopback address makes a connection trustworthy, browsers say only the origin, if anything.
  const unsaid = site === null || site === "none";
  const ours = (unsaid && origin === null) || (reads && (site === null || site === "same-origin"));
  const followed = reads && headers.get("sec-fetch-dest") === "document" && isPagePath(pathname);
  if (!(ours || followed) || (origin !== null && origin !== own)) {
    throw new HttpError(403, "DSM_REFUSED", "requests from web pages are refused");
  }
  if (mustProve(security, options.host)) return;
  const name = new URL(request.url).hostname.replace(/^\[|\]$/g, "");
  if (!isLoopback(name)) {
    throw new HttpError(403, "DSM_REFUSED", `this daemon is reached by loopback addresses, not as ${name}`);
  }
}

async function answer(parts: Parts, request: Request, { peer, gone, mayStay }: Asker): Promise<Response> {
  const { table, watchers, options, security, authority } = parts;
  const url = new URL(request.url);
  const reached = url.hostname.replace(/^\[|\]$/g, "");
  /** Where the asker finds a server: on the daemon's machine, under the name by which it reached the daemon. */
  const hostOf = (entry: Entry): string => {
    if (!isWildcard(entry.host)) return entry.host;
    return entry.server || isLoopback(entry.peer) ? reached : entry.peer;
  };

  const detailOf = async (entry: Entry, withHeat: boolean): Promise<SessionDetail> => {
    const status = await askStatus(placeOf(entry), entry.port, security, withHeat);
    const { instance: _, epoch: __, ...known } = status ?? NOTHING_KNOWN;
    return { ...known, ...summary(entry, hostOf(entry)), answered: status !== null };
  };

  if (url.pathname === "/v1/health") {
    checkMethod(request, ["GET"]);
    const { autostarted } = options;
    return Response.json({
      ...{ service: "dsm", version: VERSION, protocol: PROTOCOL_VERSION, pid: process.pid, autostarted },
    } satisfies Health);
  }
  if (url.pathname === "/metrics") {
    checkMethod(request, ["GET"]);
    mayStay(START_TIMEOUT_S);
    const sessions: SessionDetail[] = [];
    const entries = table.running();
    while (entries.length > 0) {
      const some = entries.splice(0, ASKED_AT_ONCE);
      sessions.push(...(await Promise.all(some.map((entry) => detailOf(entry, false)))));
    }
    return new Response(metricsText(VERSION, sessions), { headers: { "content-type": METRICS_TYPE } });
  }
  if (url.pathname === "/v1/sessions") {
    checkMethod(request, ["GET", "POST"]);
    if (request.method === "GET") {
      return Response.json({ sessions: table.running().map((entry) => summary(entry, hostOf(entry))) });
    }
    const wanted = readFind(await readBody(request));
    mayStay(START_TIMEOUT_S);
    const { entry, created } = await table.find(wanted);
    return Response.json(address(entry, hostOf(entry)), { status: created ? 201 : 200 });
  }
  if (url.pathname === "/v1/certificates") {
    checkMethod(request, ["POST"]);
    if (authority === null) throw new HttpError(404, "DSM_REFUSED", "this daemon has no authority of its own");
    return Response.json(await signCertificate(authority, await readBody(request)));
  }
  const succession = /^\/v1\/sessions\/([^/]+)\/successor$/.exec(url.pathname);
  if (succession) {
    checkMethod(request, ["POST"]);
    const name = readName(decodeName(succession[1] as string));
    const wanted = readServer(name, await readBody(request));
    const found = await table.succeed(wanted);
    return Response.json(found instanceof Object && "registered" in found ? address(found, hostOf(found)) : found);
  }
  const view = /^\/v1\/sessions\/([^/]+)\/(memory|watch)$/.exec(url.pathname);
  if (view) {
    checkMethod(request, ["GET"]);
    const name = readName(decodeName(view[1] as string));
    const entry = table.get(name);
    if (!entry) throw missing(name);
    if (view[2] === "memory") return memory(entry, url.searchParams, security);
    const interval_ms = readQuery(url.searchParams, "interval_ms", WATCH_INTERVAL_MS);
    check(between(WATCH_INTERVAL_MIN_MS, WATCH_INTERVAL_MAX_MS, "interval_ms")(interval_ms));
    const ask = async (): Promise<SessionDetail | null> => {
      const now = table.get(name);
      // Another server of the same session goes on with it; another session of the name does not.
      return now?.instance === entry.instance ? detailOf(now, true) : null;
    };
    const response = watchers.watch(ask, interval_ms, gone);
    mayStay(0);
    return response;
  }
  const path = /^\/v1\/sessions\/([^/]+)$/.exec(url.pathname);
  if (!path) throw new HttpError(404, "DSM_REFUSED", `there is nothing at ${url.pathname}; the API is under /v1`);
  checkMethod(request, ["GET", "PUT", "DELETE"]);
  const name = readName(decodeName(path[1] as string));
  if (request.method === "PUT") {
    const registration = readRegistration(name, await readBody(request), peer);
    const created = await table.register(registration, peer);
    return Response.json(registration, { status: created ? 201 : 200 });
  }
  if (request.method === "DELETE") {
    const instance = url.searchParams.get("instance");
    const removed =
      instance === null
        ? await table.end(name)
        : table.unregister(name, instance, readQuery(url.searchParams, "epoch", 1));
    if (!removed) throw missing(name);
    return new Response(null, { status: 204 });
  }
  const entry = table.get(name);
  if (!entry) throw missing(name);
  return Response.json(await detailOf(entry, url.searchParams.get("heat") === "1"));
}

async function memory(entry: Entry, query: URLSearchParams, security: Security): Promise<Response> {
  const offset = readQuery(query, "offset", 0);
  const length = readQuery(query, "length", Math.min(MEMORY_READ_MAX, entry.size - Math.min(offset, entry.size)));
  check(between(0, entry.size - 1, "offset")(offset));
  check(between(1, Math.min(MEMORY_READ_MAX, entry.size - offset), "length")(length));
  const bytes = await readMemory(placeOf(entry), entry.port, security, offset, length).catch((error) => {
    throw error instanceof DsmError && error.code === "DSM_REFUSED"
      ? new HttpError(409, error.code, error.message)
      : error;
  });
  if (bytes === null) {
    throw new HttpError(503, "DSM_UNREACHABLE", `the server of session "${entry.name}" does not answer; try again`);
  }
  return new Response(bytes as Uint8Array<ArrayBuffer>, {
    headers: { "content-type": "application/octet-stream", "cache-control": "no-store" },
  });
}

function readQuery(query: URLSearchParams, field: string, otherwise: number): number {
  const text = query.get(field);
  if (text === null) return otherwise;
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw new DsmError("DSM_INVALID", `${field} is ${Number.isNaN(number) ? "not a whole number" : "too large"}`);
}

function missing(name: string): DsmError {
  return new DsmError("DSM_REFUSED", `there is no session "${name}"`);
}

function checkMethod(request: Request, allowed: string[]): void {
  if (allowed.includes(request.method)) return;
  const allow = allowed.join(", ");
  throw new HttpError(405, "DSM_INVALID", `${request.method} is not possible here; use ${allow}`, { allow });
}

async function readBody(request: Request): Promise<Record<string, unknown>> {
  const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json") {
    throw new HttpError(415, "DSM_INVALID", "the body must be JSON with content-type application/json");
  }
  let body: unknown;
  const bytes = await readBytes(request);
  try {
    body = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new DsmError("DSM_INVALID", "the body is not JSON");
  }
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new DsmError("DSM_INVALID", "the body is not a JSON object");
  }
  return body as Record<string, unknown>;
}

async function readBytes(request: Request): Promise<Uint8Array> {
  const tooLarge = new HttpError(413, "DSM_INVALID", `the body is larger than the limit of ${BODY_MAX} bytes`);
  if (Number(request.headers.get("content-length")) > BODY_MAX) throw tooLarge;
  const bytes = await request.bytes();
  if (bytes.length > BODY_MAX) throw tooLarge;
  return bytes;
}

function decodeName(encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    throw new DsmError("DSM_INVALID", "the session name in the path is not valid URL encoding");
  }
}

function readName(name: unknown): string {
  if (typeof name !== "string") throw new DsmError("DSM_INVALID", "name is missing or not a text");
  check(checkName("session", name));
  return name;
}

function readFind(body: Record<string, unknown>): FindRequest {
  const request: FindRequest = { name: readName(body.name) };
  if (body.processes !== undefined) request.processes = readNumber(body, "processes", checkProcesses);
  if (body.size !== undefined) request.size = readNumber(body, "size", checkSize);
  if (body.order !== undefined) request.order = readOrder(body.order);
  if (body.onLoss !== undefined) request.onLoss = readOnLoss(body.onLoss);
  if (body.elastic === true) request.elastic = true;
  if (body.after !== undefined) request.after = readInstance(body.after, "after");
  return request;
}

function readRegistration(name: string, body: Record<string, unknown>, peer: string): Registration {
  const host = readHost(body.host);
  if (isLoopback(host) && !isLoopback(peer)) {
    throw new DsmError(
      "DSM_INVALID",
      `the server listens on ${host} but the daemon is on another host; start it with --host and its own address`,
    );
  }
  return { ...readServer(name, body), pid: readNumber(body, "pid", between(1, 2 ** 31, "pid")) };
}

function readServer(name: string, body: Record<string, unknown>): SuccessionRequest {
  return {
    name,
    host: readHost(body.host),
    instance: readInstance(body.instance, "instance"),
    epoch: body.epoch === undefined ? 1 : readNumber(body, "epoch", between(1, EPOCH_MAX, "epoch")),
    port: readNumber(body, "port", between(1, 65535, "port")),
    processes: readNumber(body, "processes", checkProcesses),
    size: readNumber(body, "size", checkSize),
    order: body.order === undefined ? DEFAULT_ORDER : readOrder(body.order),
    onLoss: body.onLoss === undefined ? DEFAULT_ON_LOSS : readOnLoss(body.onLoss),
    elastic: body.elastic === true,
    slot: readNumber(body, "slot", between(0, ADDRESS_SLOTS - 1, "slot")),
  };
}

function readHost(host: unknown): string {
  if (typeof host === "string" && /^[\w.:-]{1,255}$/.test(host)) return host;
  throw new DsmError("DSM_INVALID", "host is missing or not a host name or address");
}

function readOrder(order: unknown): Order {
  if (typeof order !== "string") throw new DsmError("DSM_INVALID", "order is missing or not a text");
  check(checkOrder(order));
  return order as Order;
}

function readOnLoss(onLoss: unknown): OnLoss {
  if (typeof onLoss !== "string") throw new DsmError("DSM_INVALID", "onLoss is missing or not a text");
  check(checkOnLoss(onLoss));
  return onLoss as OnLoss;
}

function readInstance(instance: unknown, field: string): string {
  if (typeof instance === "string" && /^[0-9a-f]{16}$/.test(instance)) return instance;
  throw new DsmError("DSM_INVALID", `${field} is not an instance id of 16 hex digits`);
}

function readNumber(body: Record<string, unknown>, field: string, reason: (value: number) => string | null): number {
  const value = body[field];
  if (typeof value !== "number") throw new DsmError("DSM_INVALID", `${field} is missing or not a number`);
  check(reason(value));
  return value;
}

function between(least: number, most: number, field: string): (value: number) => string | null {
  return (value) =>
    Number.isSafeInteger(value) && value >= least && value <= most
      ? null
      : `${field} is ${value}; it must be a whole number from ${least} to ${most}`;
}

function check(reason: string | null): void {
  if (reason !== null) throw new DsmError("DSM_INVALID", reason);
}

function loopbackOf(wildcard: string): string {
  return wildcard === "::" ? "::1" : "127.0.0.1";
}

/** An IPv4 peer of a socket that listens on IPv6 too comes as "::ffff:1.2.3.4". */
function plainAddress(peer: string): string {
  return peer.startsWith("::ffff:") ? peer.slice(7) : peer;
}
