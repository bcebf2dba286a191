/**
 * The session daemon: the directory of sessions behind an HTTP API.
 *
 *   GET    /v1/health           200 Health
 *   GET    /v1/sessions         200 {"sessions": SessionSummary[]}
 *   GET    /v1/sessions/NAME    200 SessionDetail
 *   POST   /v1/sessions         FindRequest: 200 SessionAddress of a session that was there, 201 of one now started
 *   PUT    /v1/sessions/NAME    Registration without its name: 201, or 200 for an instance the daemon knows
 *   DELETE /v1/sessions/NAME    204; ?instance=ID only if that instance has the name
 *
 * Errors are {"error": {"code", "message"}} with a status of 400 and above.
 */
import type { FindRequest, Health, Registration, ServerStatus, SessionDetail } from "../core/directory.ts";
import { DsmError } from "../core/errors.ts";
import { ADDRESS_SLOTS, DAEMON_IDLE_MS, PROTOCOL_VERSION, VERSION } from "../core/limits.ts";
import { checkOnLoss, DEFAULT_ON_LOSS, type OnLoss } from "../core/loss.ts";
import { checkName, checkProcesses, formatAddress, isLoopback } from "../core/names.ts";
import { checkOrder, DEFAULT_ORDER, type Order } from "../core/order.ts";
import { checkSize } from "../core/size.ts";
import { askStatus } from "./link.ts";
import { address, type Entry, START_TIMEOUT_MS, summary, Table } from "./table.ts";

const BODY_MAX = 64 << 10;
const SWEEP_INTERVAL_MS = 5_000;

export interface DaemonOptions {
  host: string;
  /** 0: any free port. */
  port: number;
  /** Program and first arguments of `dsm server`. */
  serverCommand: string[];
  /** Started by a client, not by hand: ends by itself `idleMs` after its last session. */
  autostarted: boolean;
  log(line: string): void;
  idleMs?: number;
}

export interface Daemon {
  host: string;
  port: number;
  /** Resolves when the daemon has ended by itself or was stopped. Sessions go on. */
  ended: Promise<void>;
  stop(): void;
}

/** Starts the daemon. Throws DSM_SYSTEM with `port is taken` or another reason when it cannot listen. */
export function startDaemon(options: DaemonOptions): Daemon {
  const ended = Promise.withResolvers<void>();
  let idle: ReturnType<typeof setTimeout> | undefined;
  const table = new Table({
    serverCommand: options.serverCommand,
    serverHost: options.host,
    daemonAddress: () => formatAddress(isWildcard(options.host) ? loopbackOf(options.host) : options.host, port),
    log: options.log,
    changed: watchIdle,
  });
  const server = listen(options, (request, peer) => answer(table, options, request, peer));
  const port = server.port as number;
  const sweep = setInterval(() => void table.sweep(), SWEEP_INTERVAL_MS);
  watchIdle();

  function watchIdle(): void {
    clearTimeout(idle);
    if (options.autostarted && table.size === 0) idle = setTimeout(stop, options.idleMs ?? DAEMON_IDLE_MS);
  }

  function stop(): void {
    clearTimeout(idle);
    clearInterval(sweep);
    server.stop(true).then(() => ended.resolve());
  }

  return { host: options.host, port, ended: ended.promise, stop };
}

type Answer = (request: Request, peer: string) => Promise<Response>;

function listen(options: DaemonOptions, answerRequest: Answer): Bun.Server<undefined> {
  try {
    return Bun.serve({
      hostname: options.host,
      port: options.port,
      development: false,
      // Two daemons on one port would each have half of the sessions.
      reusePort: false,
      // Above BODY_MAX, so that a body a little too large gets an answer that says so.
      maxRequestBodySize: 16 * BODY_MAX,
      idleTimeout: Math.ceil((2 * START_TIMEOUT_MS) / 1000),
      fetch: async (request, bunServer) => {
        const peer = plainAddress(bunServer.requestIP(request)?.address ?? "");
        try {
          return await answerRequest(request, peer);
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

async function answer(table: Table, options: DaemonOptions, request: Request, peer: string): Promise<Response> {
  // Browsers send Origin with whatever a web page asks them to do; no page has business here.
  if (request.headers.has("origin")) throw new HttpError(403, "DSM_REFUSED", "requests from web pages are refused");
  const url = new URL(request.url);
  const reached = url.hostname.replace(/^\[|\]$/g, "");
  const hostOf = (entry: Entry): string => {
    if (!isWildcard(entry.host)) return entry.host;
    return entry.server || isLoopback(entry.peer) ? reached : entry.peer;
  };

  if (url.pathname === "/v1/health") {
    checkMethod(request, ["GET"]);
    const { autostarted } = options;
    return Response.json({
      ...{ service: "dsm", version: VERSION, protocol: PROTOCOL_VERSION, pid: process.pid, autostarted },
    } satisfies Health);
  }
  if (url.pathname === "/v1/sessions") {
    checkMethod(request, ["GET", "POST"]);
    if (request.method === "GET") {
      return Response.json({ sessions: table.running().map((entry) => summary(entry, hostOf(entry))) });
    }
    const { entry, created } = await table.find(readFind(await readBody(request)));
    return Response.json(address(entry, hostOf(entry)), { status: created ? 201 : 200 });
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
        ? await table.end(name, (entry) => isLoopback(entry.peer) || entry.peer === reached)
        : table.unregister(name, instance);
    if (!removed) throw missing(name);
    return new Response(null, { status: 204 });
  }
  const entry = table.get(name);
  if (!entry) throw missing(name);
  const host = hostOf(entry);
  const status = await askStatus(host, entry.port);
  const { started, direct, present, entries, bytes, ranks } = status ?? UNKNOWN;
  return Response.json({
    ...summary(entry, host),
    ...{ answered: status !== null, started, direct, present, entries, bytes, ranks },
  } satisfies SessionDetail);
}

const UNKNOWN: ServerStatus = { started: false, direct: false, present: 0, entries: 0, bytes: 0, ranks: [] };

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
  const tooLarge = new HttpError(413, "DSM_INVALID", `the body is larger than the limit of ${BODY_MAX} bytes`);
  if (Number(request.headers.get("content-length")) > BODY_MAX) throw tooLarge;
  const bytes = await request.bytes();
  if (bytes.length > BODY_MAX) throw tooLarge;
  let body: unknown;
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
  const host = body.host;
  if (typeof host !== "string" || !/^[\w.:-]{1,255}$/.test(host)) {
    throw new DsmError("DSM_INVALID", "host is missing or not a host name or address");
  }
  if (isLoopback(host) && !isLoopback(peer)) {
    throw new DsmError(
      "DSM_INVALID",
      `the server listens on ${host} but the daemon is on another host; start it with --host and its own address`,
    );
  }
  return {
    name,
    host,
    instance: readInstance(body.instance, "instance"),
    port: readNumber(body, "port", between(1, 65535, "port")),
    pid: readNumber(body, "pid", between(1, 2 ** 31, "pid")),
    processes: readNumber(body, "processes", checkProcesses),
    size: readNumber(body, "size", checkSize),
    order: body.order === undefined ? DEFAULT_ORDER : readOrder(body.order),
    onLoss: body.onLoss === undefined ? DEFAULT_ON_LOSS : readOnLoss(body.onLoss),
    elastic: body.elastic === true,
    slot: readNumber(body, "slot", between(0, ADDRESS_SLOTS - 1, "slot")),
  };
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

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

function loopbackOf(wildcard: string): string {
  return wildcard === "::" ? "::1" : "127.0.0.1";
}

/** An IPv4 peer of a socket that listens on IPv6 too comes as "::ffff:1.2.3.4". */
function plainAddress(peer: string): string {
  return peer.startsWith("::ffff:") ? peer.slice(7) : peer;
}
