/** Common parts of all requests to the daemon: checks of the origin, known methods, and the form of errors. */
import { DsmError } from "../core/base/errors.ts";
import { isLoopback } from "../core/base/names.ts";
import type { Problem } from "../core/messages/daemon-api.ts";

/** An error with an HTTP status of its own. */
export class HttpError extends Error {
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

/** failure returns the answer to a request that failed. Details that are not for the client go to the log. */
export function failure(error: unknown, log: (line: string) => void): Response {
  if (error instanceof HttpError) return problem(error.status, error.code, error.message, error.headers);
  if (error instanceof DsmError) return problem(HTTP_STATUS[error.code] ?? 500, error.code, error.message);
  const message = error instanceof Error ? error.message : String(error);
  log(`a request failed: ${message}`);
  return problem(500, "DSM_SYSTEM", "the daemon failed to answer; its log has the reason");
}

function problem(status: number, code: string, message: string, headers: Record<string, string> = {}): Response {
  return Response.json({ error: { code, message } } satisfies Problem, { status, headers });
}

/**
 * checkHost refuses an invalid Host. Bun makes the URL of a request from it unchecked, and takes the first of several.
 */
export function checkHost({ url, headers }: Request): void {
  if (URL.canParse(url) && !headers.get("host")?.includes(",")) return;
  throw new HttpError(400, "DSM_INVALID", "the Host header is empty, or not one host name or address");
}

/**
 * checkSource refuses requests of web pages other than the dashboard, which only reads. Browsers send the origin of the
 * page with each request. A page that uses DNS rebinding to reach this machine still sends its own host name, which is
 * refused. A link on any page may lead to the dashboard, which has no effect by itself.
 */
export function checkSource(
  { headers, method, url }: Request,
  { isPage, needsLoopbackName }: { isPage: boolean; needsLoopbackName: boolean },
): void {
  const { origin: own, hostname } = new URL(url);
  const reads = method === "GET" || method === "HEAD";
  const origin = headers.get("origin");
  const site = headers.get("sec-fetch-site");
  // Without TLS or a loopback address browsers send at most the origin.
  const unsaid = site === null || site === "none";
  const ours = (unsaid && origin === null) || (reads && (site === null || site === "same-origin"));
  const followed = reads && headers.get("sec-fetch-dest") === "document" && isPage;
  if (!(ours || followed) || (origin !== null && origin !== own)) {
    throw new HttpError(403, "DSM_REFUSED", "requests from web pages are refused");
  }
  const name = bareHost(hostname);
  if (needsLoopbackName && !isLoopback(name)) {
    throw new HttpError(403, "DSM_REFUSED", `this daemon is reached by loopback addresses, not as ${name}`);
  }
}

/** bareHost returns the host of a URL without the brackets of an IPv6 address. */
export const bareHost = (hostname: string): string => hostname.replace(/^\[|\]$/g, "");

export function checkMethod({ method }: Request, allowed: string[]): void {
  if (allowed.includes(method)) return;
  const allow = allowed.join(", ");
  throw new HttpError(405, "DSM_INVALID", `${method} is not possible here; use ${allow}`, { allow });
}

/**
 * plainAddress returns an IPv4 address in its usual form: sockets that listen on IPv6, too, report "::ffff:1.2.3.4".
 */
export function plainAddress(peer: string): string {
  return peer.startsWith("::ffff:") ? peer.slice(7) : peer;
}
