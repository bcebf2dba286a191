/** Dispatches requests from Bun.serve to handlers: common checks, and the proof if a token is demanded. */
import { mustProve } from "../core/access/auth.ts";
import type { Security } from "../core/access/tls.ts";
import { checkHost, checkMethod, checkSource, failure, HttpError, plainAddress } from "./http.ts";
import { PAGE_PATHS, type ReadPage, servePage } from "./page.ts";
import { ProofGate } from "./request-proof.ts";
import { type Handler, nameIn, type Routes } from "./routes.ts";

/** A route of Bun.serve for all methods. The dispatcher answers unknown methods with the list of known ones. */
export type ServerRoute = (request: Request, server: Bun.Server<undefined>) => Promise<Response>;

export interface DispatchOptions {
  /** Address at which the daemon listens. */
  host: string;
  security: Security;
  log(line: string): void;
}

export class Dispatcher {
  readonly #log: (line: string) => void;
  /** Null: the daemon demands no token. */
  readonly #gate: ProofGate | null;
  readonly #needsLoopbackName: boolean;

  constructor({ host, security, log }: DispatchOptions) {
    this.#log = log;
    const demands = mustProve(security, host);
    this.#gate = demands && security.token !== null ? new ProofGate(security.token, log) : null;
    // Without a token, the requested host name distinguishes a web page from a client.
    this.#needsLoopbackName = !demands;
  }

  /** Routes of the dashboard. They are the same for all clients and need no proof. */
  pages(read: ReadPage): Record<string, ServerRoute> {
    const routes = PAGE_PATHS.map((path): [string, ServerRoute] => [
      path,
      (request) =>
        this.#checked(request, true, () => {
          checkMethod(request, ["GET", "HEAD"]);
          return servePage(path, read);
        }),
    ]);
    return Object.fromEntries(routes);
  }

  api(routes: Routes): Record<string, ServerRoute> {
    return Object.fromEntries(Object.entries(routes).map(([path, methods]) => [path, this.#route(path, methods)]));
  }

  #route(path: string, methods: Partial<Record<string, Handler>>): ServerRoute {
    return (request, server) => {
      const peer = plainAddress(server.requestIP(request)?.address ?? "");
      const { signal: gone } = request;
      const mayStay = (seconds: number): void => server.timeout(request, seconds);
      return this.#proven(request, (proven) => {
        const url = new URL(proven.url);
        checkMethod(proven, Object.keys(methods));
        const name = nameIn(path, url.pathname);
        // Bun matches the path as it was sent; the proof covers the path without "." and "..".
        if (name === null) throw nothingAt(url.pathname);
        return (methods[proven.method] as Handler)({ request: proven, url, name, peer, gone, mayStay });
      });
    };
  }

  /** Answers requests without a route. */
  readonly unknown: ServerRoute = (request) =>
    this.#proven(request, ({ url }) => {
      throw nothingAt(new URL(url).pathname);
    });

  #proven(request: Request, answer: (proven: Request) => Response | Promise<Response>): Promise<Response> {
    return this.#checked(request, false, () =>
      this.#gate === null ? answer(request) : this.#gate.pass(request, async (proven) => answer(proven)),
    );
  }

  async #checked(request: Request, isPage: boolean, answer: () => Response | Promise<Response>): Promise<Response> {
    try {
      checkHost(request);
      checkSource(request, { isPage, needsLoopbackName: this.#needsLoopbackName });
      return await answer();
    } catch (error) {
      return failure(error, this.#log);
    }
  }
}

function nothingAt(pathname: string): HttpError {
  return new HttpError(404, "DSM_REFUSED", `there is nothing at ${pathname}; the API is under /v1`);
}
