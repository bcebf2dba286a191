/** Client of the session daemon: DaemonApi over HTTP. DaemonConnection makes the calls. */
import type { Security } from "../core/access/auth.ts";
import { DsmError } from "../core/base/errors.ts";
import type {
  CertificateRequest,
  DaemonApi,
  FindRequest,
  Health,
  Registration,
  SessionAddress,
  SessionDetail,
  SessionSummary,
  SignedCertificate,
  SuccessionRequest,
} from "../core/messages/daemon-api.ts";
import { readAddress, readDetail, readSummary } from "../core/messages/status-check.ts";
import { DaemonConnection, type DaemonConnectionOptions } from "./daemon-connection.ts";

/** Calls that may start a server take longer. */
const FIND_TIMEOUT_MS = 40_000;

const pathOf = (name: string): string => `/sessions/${encodeURIComponent(name)}`;

/** createDaemonClient throws DSM_INVALID for an invalid address. It sends nothing before the first call. */
export function createDaemonClient(options: DaemonConnectionOptions): DaemonApi {
  return new DaemonClient(options);
}

class DaemonClient implements DaemonApi {
  readonly address: string;
  readonly #security: Security;
  readonly #connection: DaemonConnection;

  constructor(options: DaemonConnectionOptions) {
    this.address = options.address;
    this.#security = options.security;
    this.#connection = new DaemonConnection(options);
  }

  health(): Promise<Health> {
    return this.#connection.health();
  }

  async find(content: FindRequest): Promise<SessionAddress> {
    const found = await this.#connection.call({
      method: "POST",
      path: "/sessions",
      content,
      timeoutMs: FIND_TIMEOUT_MS,
    });
    if (found !== null) return this.#checked(readAddress, found);
    throw new DsmError(
      "DSM_REFUSED",
      `there is no session "${content.name}" at ${this.address}; say how many processes it has to start it`,
    );
  }

  async findOrStartSuccessor({ name, ...content }: SuccessionRequest): Promise<SessionAddress> {
    const found = await this.#connection.call({
      method: "POST",
      path: `${pathOf(name)}/successor`,
      content,
      timeoutMs: FIND_TIMEOUT_MS,
    });
    if (found !== null) return this.#checked(readAddress, found);
    throw new DsmError("DSM_ENDED", `session "${name}" has ended`);
  }

  async register({ name, ...content }: Registration): Promise<void> {
    await this.#connection.call({ method: "PUT", path: pathOf(name), content });
  }

  async remove(name: string, server?: { instance: string; epoch: number }): Promise<boolean> {
    const query = server === undefined ? "" : `?instance=${server.instance}&epoch=${server.epoch}`;
    return (await this.#connection.call({ method: "DELETE", path: `${pathOf(name)}${query}` })) !== null;
  }

  async list(): Promise<SessionSummary[]> {
    const answer = (await this.#connection.call({ method: "GET", path: "/sessions" })) as { sessions?: unknown } | null;
    if (!Array.isArray(answer?.sessions)) throw this.#connection.errors.notDaemon();
    return answer.sessions.map((session) => this.#checked(readSummary, session));
  }

  async get(name: string): Promise<SessionDetail | null> {
    const found = await this.#connection.call({ method: "GET", path: pathOf(name) });
    return found === null ? null : this.#checked(readDetail, found);
  }

  async security(): Promise<Security> {
    return { ...this.#security, tls: await this.#connection.tls() };
  }

  async certify(content: CertificateRequest): Promise<SignedCertificate | null> {
    const path = "/certificates";
    // PEM contains line ends, so use JSON.parse, which keeps them.
    const signed = await this.#connection.call({ method: "POST", path, content, parse: JSON.parse });
    return signed === null ? null : this.#checked(readSigned, signed);
  }

  /** Returns the answer if it is valid. */
  #checked<Answer>(read: (value: unknown) => Answer | null, value: unknown): Answer {
    const answer = read(value);
    if (answer === null) throw this.#connection.errors.notDaemon();
    return answer;
  }
}

function readSigned(value: unknown): SignedCertificate | null {
  const { certificate, authority, life_ms } = value as { [Field in keyof SignedCertificate]?: unknown };
  if (typeof certificate !== "string" || typeof authority !== "string") return null;
  return typeof life_ms === "number" && life_ms > 0 ? { certificate, authority, life_ms } : null;
}
