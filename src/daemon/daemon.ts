/**
 * The session daemon: a directory of sessions behind an HTTP API, which starts their servers. README.md has the API.
 *
 * A request passes dispatch.ts (where it comes from, the proof of the token) and comes to its handler in routes.ts,
 * which asks the registry of sessions (registry.ts) or, through it, a server (server-probe.ts).
 */
import { checkListening, OPEN } from "../core/access/auth.ts";
import type { Security } from "../core/access/tls.ts";
import { DsmError } from "../core/base/errors.ts";
import { DAEMON_IDLE_MS, GREETING_TIMEOUT_MS } from "../core/base/limits.ts";
import { formatAddress } from "../core/base/names.ts";
import { type DaemonAuthority, linkTls, listeningTls } from "./certificates.ts";
import { Dispatcher, type ServerRoute } from "./dispatch.ts";
import type { ReadPage } from "./page.ts";
import { SessionRegistry } from "./registry.ts";
import { BODY_MAX } from "./request-bodies.ts";
import { apiRoutes } from "./routes.ts";
import { isWildcard } from "./session-record.ts";
import { Watchers } from "./watch.ts";

const SWEEP_INTERVAL_MS = 5_000;

export interface DaemonOptions {
  host: string;
  /** 0: any free port. */
  port: number;
  /** Program and first arguments of `dsm server`. */
  serverCommand: string[];
  /** File of that program. Default: that of its name. */
  serverFile?: string | undefined;
  /** Whether a client started it: then it ends `idleMs` after its last session. */
  autostarted: boolean;
  /** Logs a line. `session`: the session that it is about. */
  log(line: string, session?: string): void;
  idleMs?: number;
  /** Calls `act` after `ms` unless the returned function is called before. Default: setTimeout. */
  setTimer?: (act: () => void, ms: number) => () => void;
  /** Token that clients must prove, and TLS. Default: none, which is possible on loopback only. */
  security?: Security;
  /** Authority that signs the certificates of daemon and servers. Default: TLS of `security`. */
  authority?: DaemonAuthority | null;
  /** Reads the files of the dashboard. Default: no dashboard. */
  readPage?: ReadPage;
  /** Variables by which the servers that it starts demand the same token and TLS. */
  serverEnvironment?: Record<string, string>;
}

export interface Daemon {
  host: string;
  port: number;
  /** Resolves when the daemon has ended. Sessions go on. */
  ended: Promise<void>;
  stop(): void;
}

function timeout(act: () => void, ms: number): () => void {
  const timer = setTimeout(act, ms);
  return () => clearTimeout(timer);
}

/**
 * startDaemon starts the daemon. Throws DSM_BUSY if the port is taken, DSM_SYSTEM if it cannot listen for another
 * reason.
 */
export function startDaemon(options: DaemonOptions): Daemon {
  const given = options.security ?? OPEN;
  const authority = options.authority ?? null;
  /** Token and TLS of connections to servers. */
  const security = authority === null ? given : { ...given, tls: linkTls(authority) };
  const refused = checkListening(security, options.host);
  if (refused !== null) throw new DsmError("DSM_INVALID", refused);
  const ended = Promise.withResolvers<void>();
  const setTimer = options.setTimer ?? timeout;
  let cancelIdle = (): void => {};
  const registry = new SessionRegistry({
    serverCommand: options.serverCommand,
    serverFile: options.serverFile,
    security,
    serverEnvironment: options.serverEnvironment ?? {},
    serverHost: options.host,
    daemonAddress: () => formatAddress(isWildcard(options.host) ? loopbackOf(options.host) : options.host, port),
    log: options.log,
    changed: watchIdle,
  });
  const watchers = new Watchers();
  const { autostarted } = options;
  const dispatcher = new Dispatcher({ host: options.host, security, log: options.log });
  const server = listen(options, authority === null ? given : { ...given, tls: listeningTls(authority) }, {
    routes: {
      ...(options.readPage === undefined ? {} : dispatcher.pages(options.readPage)),
      ...dispatcher.api(apiRoutes({ registry, watchers, security, authority, autostarted })),
    },
    fetch: dispatcher.unknown,
  });
  const port = server.port as number;
  const sweep = setInterval(() => void registry.sweep(), SWEEP_INTERVAL_MS);
  watchIdle();

  function watchIdle(): void {
    cancelIdle();
    if (autostarted && registry.size === 0) cancelIdle = setTimer(stop, options.idleMs ?? DAEMON_IDLE_MS);
  }

  function stop(): void {
    cancelIdle();
    clearInterval(sweep);
    watchers.stop();
    server.stop(true).then(() => ended.resolve());
  }

  return { host: options.host, port, ended: ended.promise, stop };
}

function listen(
  options: DaemonOptions,
  security: Security,
  answers: { routes: Record<string, ServerRoute>; fetch: ServerRoute },
): Bun.Server<undefined> {
  const { tls } = security;
  try {
    return Bun.serve({
      hostname: options.host,
      port: options.port,
      development: false,
      // With two daemons on one port each would know half of the sessions.
      reusePort: false,
      // Above BODY_MAX, so that a body that is slightly too large gets a helpful answer.
      maxRequestBodySize: 16 * BODY_MAX,
      ...(tls === null ? {} : { tls: { ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: true } }),
      // Closes connections of clients that send no request.
      idleTimeout: GREETING_TIMEOUT_MS / 1000,
      ...answers,
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

function loopbackOf(wildcard: string): string {
  return wildcard === "::" ? "::1" : "127.0.0.1";
}
