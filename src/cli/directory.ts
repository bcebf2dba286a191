/** The session daemon as its clients see it: HTTP calls, and starting a local daemon where none listens. */
import { FetchError, ofetch } from "ofetch";
import type {
  Directory,
  FindRequest,
  Health,
  Registration,
  SessionAddress,
  SessionDetail,
  SessionSummary,
} from "../core/directory.ts";
import { type DsmCode, DsmError, Status } from "../core/errors.ts";
import { DAEMON_IDLE_MS, PROTOCOL_VERSION } from "../core/limits.ts";
import { formatAddress, isLoopback, parseAddress } from "../core/names.ts";
import { inheritedEnvironment } from "../daemon/spawn.ts";
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
  /** Gets a line when something happened that the user should know. */
  note?(text: string): void;
}

export function createDirectory(options: DirectoryOptions): Directory {
  const { address } = options;
  const parsed = parseAddress(address);
  if (!parsed) throw new DsmError("DSM_INVALID", `daemon address "${address}" is not HOST:PORT`);
  const { host, port } = parsed;
  const base = `http://${formatAddress(host, port)}/v1`;
  const autostart = options.autostart && isLoopback(host);
  let greeted: Promise<Health> | null = null;

  /** One call, as it is: null for 404. */
  async function call<Answer>(
    method: "GET" | "POST" | "PUT" | "DELETE",
    path: string,
    body?: object,
    timeout = ANSWER_TIMEOUT_MS,
  ): Promise<Answer | null> {
    try {
      const response = await ofetch.raw(`${base}${path}`, {
        ...{ method, timeout, retry: 0, redirect: "manual", responseType: "text" },
        ...(body ? { body } : {}),
      });
      if (response.status === 204) return {} as Answer;
      return readJson(response._data) as Answer;
    } catch (error) {
      if (!(error instanceof FetchError)) throw error;
      if (error.status === undefined) throw transportError(error);
      const { code, message } = readProblem(error.data);
      if (error.status === 404) return null;
      throw new DsmError(code, message);
    }
  }

  function readJson(text: unknown): object {
    try {
      const value = JSON.parse(String(text));
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
    return { code: known ? (error.code as DsmCode) : "DSM_REFUSED", message: error.message };
  }

  function foreign(): DsmError {
    return new DsmError(
      "DSM_PROTOCOL",
      `something other than a dsm daemon is listening on ${address}; ` +
        "set DSM_DAEMON or --daemon to the daemon's address",
    );
  }

  function transportError(error: FetchError): Error {
    const cause = error.cause as { code?: string; name?: string; message?: string } | undefined;
    const code = cause?.code;
    if (code === "ECONNREFUSED" || code === "ConnectionRefused") return new Refused();
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
    const health = await call<Health>("GET", "/health");
    if (health?.service !== "dsm") throw foreign();
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
        if (attempt < ATTEMPTS_MAX && error instanceof Reset) continue;
        // A daemon that never greeted and hangs up on us speaks something else.
        if (error instanceof Reset) throw hadGreeted ? unreachable("it closes the connection") : foreign();
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
      if (found) return found;
      throw new DsmError(
        "DSM_REFUSED",
        `there is no session "${request.name}" at ${address}; say how many processes it has to start it`,
      );
    },
    async register({ name, ...registration }: Registration) {
      await ask(() => call("PUT", path(name), registration));
    },
    async remove(name: string, instance?: string) {
      const query = instance === undefined ? "" : `?instance=${instance}`;
      return (await ask(() => call("DELETE", `${path(name)}${query}`))) !== null;
    },
    async list() {
      const answer = await ask(() => call<{ sessions: SessionSummary[] }>("GET", "/sessions"));
      if (!Array.isArray(answer?.sessions)) throw foreign();
      return answer.sessions;
    },
    get: (name: string) => ask(() => call<SessionDetail>("GET", path(name))),
  };
}

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
