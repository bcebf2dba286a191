/** The HTTP API of the daemon: the handler of each method and path. README.md has the table. */
import type { Security } from "../core/access/tls.ts";
import { DsmError } from "../core/base/errors.ts";
import {
  MEMORY_READ_MAX,
  PROTOCOL_VERSION,
  VERSION,
  WATCH_INTERVAL_MAX_MS,
  WATCH_INTERVAL_MIN_MS,
  WATCH_INTERVAL_MS,
} from "../core/base/limits.ts";
import { isLoopback } from "../core/base/names.ts";
import { type Health, NOTHING_KNOWN, type SessionDetail } from "../core/messages/daemon-api.ts";
import { METRICS_TYPE, metricsText } from "../core/observe/metrics.ts";
import { type DaemonAuthority, signCertificate } from "./certificates.ts";
import { bareHost, HttpError } from "./http.ts";
import { type SessionRegistry, START_TIMEOUT_MS } from "./registry.ts";
import {
  readCertificateRequest,
  readFind,
  readName,
  readQuery,
  readRegistration,
  readSuccession,
} from "./request-bodies.ts";
import { askStatus, readMemory } from "./server-probe.ts";
import { isWildcard, placeOf, publicAddress, publicSummary, type SessionRecord } from "./session-record.ts";
import type { Watchers } from "./watch.ts";

/** Servers that are asked for metrics at the same time. */
const ASKED_AT_ONCE = 64;
const START_TIMEOUT_S = Math.ceil((2 * START_TIMEOUT_MS) / 1000);

export interface ApiParts {
  registry: SessionRegistry;
  watchers: Watchers;
  /** Token and TLS of connections to servers. */
  security: Security;
  authority: DaemonAuthority | null;
  /** Whether a client started the daemon. */
  autostarted: boolean;
}

/** A request, and the properties of its client. */
export interface Call {
  request: Request;
  url: URL;
  /** The name of the session in the path; "": the path has none. */
  name: string;
  /** Address of the client. */
  peer: string;
  /** Aborted when the client has disconnected. */
  gone: AbortSignal;
  /** Extends the idle timeout for an answer that takes longer than the default; 0: no limit. */
  mayStay(seconds: number): void;
}

export type Handler = (call: Call) => Response | Promise<Response>;

/** Path, as Bun.serve has it, and method. */
export type Routes = Record<string, Partial<Record<string, Handler>>>;

export function apiRoutes({ registry, watchers, security, authority, autostarted }: ApiParts): Routes {
  /** The host at which a client finds a server: on the daemon's machine, the name by which it reached the daemon. */
  const hostFor = ({ url }: Call, record: SessionRecord): string => {
    if (!isWildcard(record.host)) return record.host;
    return record.server || isLoopback(record.peer) ? bareHost(url.hostname) : record.peer;
  };

  const detailFor = async (call: Call, record: SessionRecord, withHeat: boolean): Promise<SessionDetail> => {
    const summary = publicSummary(record, hostFor(call, record));
    if (!record.running) {
      const isStarting = record.orphaned === null;
      return { ...NOTHING_KNOWN, ...summary, answered: false, ...(isStarting ? { phase: "recovering" } : {}) };
    }
    const status = await askStatus(placeOf(record), record.port, security, withHeat);
    const { instance: _, epoch: __, ...known } = status ?? NOTHING_KNOWN;
    return { ...known, ...summary, answered: status !== null && status.phase !== "recovering" };
  };

  const recordOf = ({ name }: Call): SessionRecord => {
    const record = registry.get(name);
    if (!record) throw missing(name);
    return record;
  };

  return {
    "/v1/health": {
      GET: () =>
        Response.json({
          ...{ service: "dsm", version: VERSION, protocol: PROTOCOL_VERSION, pid: process.pid, autostarted },
        } satisfies Health),
    },
    "/metrics": {
      GET: async (call) => {
        call.mayStay(START_TIMEOUT_S);
        const sessions: SessionDetail[] = [];
        const records = registry.running();
        while (records.length > 0) {
          const some = records.splice(0, ASKED_AT_ONCE);
          sessions.push(...(await Promise.all(some.map((record) => detailFor(call, record, false)))));
        }
        return new Response(metricsText(VERSION, sessions), { headers: { "content-type": METRICS_TYPE } });
      },
    },
    "/v1/sessions": {
      GET: (call) => {
        const sessions = registry.running().map((record) => publicSummary(record, hostFor(call, record)));
        return Response.json({ sessions });
      },
      POST: async (call) => {
        const wanted = await readFind(call.request);
        call.mayStay(START_TIMEOUT_S);
        const { record, created } = await registry.find(wanted);
        return Response.json(publicAddress(record, hostFor(call, record)), { status: created ? 201 : 200 });
      },
    },
    "/v1/sessions/:name": {
      GET: async (call) => {
        const withHeat = call.url.searchParams.get("heat") === "1";
        return Response.json(await detailFor(call, recordOf(call), withHeat));
      },
      PUT: async ({ name, request, peer }) => {
        const registration = await readRegistration(name, request, peer);
        const created = await registry.register(registration, peer);
        return Response.json(registration, { status: created ? 201 : 200 });
      },
      DELETE: async ({ name, url }) => {
        const instance = url.searchParams.get("instance");
        const removed =
          instance === null
            ? await registry.end(name)
            : registry.unregister(name, instance, readQuery(url.searchParams, { field: "epoch", otherwise: 1 }));
        if (!removed) throw missing(name);
        return new Response(null, { status: 204 });
      },
    },
    "/v1/sessions/:name/successor": {
      POST: async (call) => {
        const wanted = await readSuccession(call.name, call.request);
        const found = await registry.findOrStartSuccessor(wanted);
        return Response.json("registered" in found ? publicAddress(found, hostFor(call, found)) : found);
      },
    },
    "/v1/sessions/:name/memory": {
      GET: (call) => memory(recordOf(call), call.url.searchParams, security),
    },
    "/v1/sessions/:name/watch": {
      GET: (call) => {
        const { name, url, gone } = call;
        const { instance } = recordOf(call);
        const interval_ms = readQuery(url.searchParams, {
          ...{ field: "interval_ms", otherwise: WATCH_INTERVAL_MS },
          ...{ least: WATCH_INTERVAL_MIN_MS, most: WATCH_INTERVAL_MAX_MS },
        });
        const ask = async (): Promise<SessionDetail | null> => {
          const now = registry.get(name);
          // A successor continues the stream of the session; another session of that name does not.
          return now?.instance === instance ? detailFor(call, now, true) : null;
        };
        const response = watchers.watch(ask, interval_ms, gone);
        call.mayStay(0);
        return response;
      },
    },
    "/v1/certificates": {
      POST: async ({ request }) => {
        if (authority === null) throw new HttpError(404, "DSM_REFUSED", "this daemon has no authority of its own");
        return Response.json(await signCertificate(authority, await readCertificateRequest(request)));
      },
    },
  };
}

async function memory(record: SessionRecord, query: URLSearchParams, security: Security): Promise<Response> {
  const offset = readQuery(query, { field: "offset", otherwise: 0, most: record.size - 1 });
  const most = Math.min(MEMORY_READ_MAX, record.size - offset);
  const length = readQuery(query, { field: "length", otherwise: most, least: 1, most });
  const bytes = await readMemory(placeOf(record), record.port, security, offset, length).catch((error) => {
    throw error instanceof DsmError && error.code === "DSM_REFUSED"
      ? new HttpError(409, error.code, error.message)
      : error;
  });
  if (bytes === null) {
    throw new HttpError(503, "DSM_UNREACHABLE", `the server of session "${record.name}" does not answer; try again`);
  }
  return new Response(bytes as Uint8Array<ArrayBuffer>, {
    headers: { "content-type": "application/octet-stream", "cache-control": "no-store" },
  });
}

function missing(name: string): DsmError {
  return new DsmError("DSM_REFUSED", `there is no session "${name}"`);
}

/**
 * nameIn returns the segment of `pathname` for ":name" in the route, decoded; "" if the route has none; null if the
 * path does not match.
 */
export function nameIn(route: string, pathname: string): string | null {
  const wanted = route.split("/");
  const given = pathname.split("/");
  if (wanted.length !== given.length) return null;
  if (!wanted.every((segment, index) => segment === ":name" || segment === given[index])) return null;
  const at = wanted.indexOf(":name");
  return at < 0 ? "" : readName(given[at] as string);
}
