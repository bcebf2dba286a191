/** Api: the page's client of the daemon's API. It only reads. */

import { plainToken } from "../../core/access/token.ts";
import type { Health, SessionDetail, SessionSummary } from "../../core/messages/daemon-api.ts";
import { Prover, WrongToken } from "./proof.ts";

/** Interval of samples that the daemon sends. */
const WATCH_INTERVAL_MS = 500;
/** Interval of samples that the page requests: an event stream is not possible where each request must be proven. */
const POLL_INTERVAL_MS = 1_000;
/** Pause before another attempt when the daemon does not answer. */
const RETRY_MS = 1_000;

/** The daemon demands a token. `wrong`: the given one is not its token. */
export class TokenNeeded extends Error {
  readonly wrong: boolean;

  constructor(wrong: boolean) {
    super("the daemon demands a token");
    this.wrong = wrong;
  }
}

/** The daemon answered with an error. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface Watcher {
  sample(detail: SessionDetail): void;
  /** The session no longer exists. */
  ended(): void;
  /** The daemon does not answer. The client tries again. */
  lost(): void;
  tokenNeeded(error: TokenNeeded): void;
}

export class Api {
  #prover: Prover | null = null;

  async useToken(token: string): Promise<void> {
    // The file also has a fingerprint after the token, by which programs verify the daemon.
    this.#prover = await Prover.create(plainToken(token.trim()));
  }

  async #get(path: string): Promise<Uint8Array<ArrayBuffer>> {
    const { status, body } = this.#prover === null ? await plainGet(path) : await this.#proven(this.#prover, path);
    if (status < 400) return body;
    let message = `the daemon answered ${status}`;
    try {
      message = JSON.parse(new TextDecoder().decode(body)).error.message;
    } catch {
      // The body is not an error of the daemon.
    }
    throw new Refused(status, message);
  }

  async #proven(prover: Prover, path: string) {
    try {
      return await prover.get(path);
    } catch (error) {
      if (!(error instanceof WrongToken)) throw error;
      this.#prover = null;
      throw new TokenNeeded(true);
    }
  }

  async #json<Answer>(path: string): Promise<Answer> {
    return JSON.parse(new TextDecoder().decode(await this.#get(path)));
  }

  health(): Promise<Health> {
    return this.#json("/v1/health");
  }

  async sessions(): Promise<SessionSummary[]> {
    return (await this.#json<{ sessions: SessionSummary[] }>("/v1/sessions")).sessions;
  }

  /** A session with the status of its ranks. */
  session(name: string): Promise<SessionDetail> {
    return this.#json(`/v1/sessions/${encodeURIComponent(name)}`);
  }

  /** Bytes of the map as the server has them now. */
  memory(name: string, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    return this.#get(`/v1/sessions/${encodeURIComponent(name)}/memory?offset=${offset}&length=${length}`);
  }

  /** Samples of a session, until the signal is aborted or the session has ended. */
  watch(name: string, watcher: Watcher, signal: AbortSignal): void {
    void (this.#prover === null ? this.#listen(name, watcher, signal) : this.#poll(name, watcher, signal));
  }

  async #poll(name: string, watcher: Watcher, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const good = await this.#sampleOnce(name, watcher, signal);
      if (good === "stop") return;
      await pause(good ? POLL_INTERVAL_MS : RETRY_MS, signal);
    }
  }

  async #sampleOnce(name: string, watcher: Watcher, signal: AbortSignal): Promise<boolean | "stop"> {
    try {
      const detail = await this.#json<SessionDetail>(`/v1/sessions/${encodeURIComponent(name)}?heat=1`);
      if (!signal.aborted) watcher.sample(detail);
      return true;
    } catch (error) {
      if (signal.aborted) return "stop";
      if (error instanceof TokenNeeded) {
        watcher.tokenNeeded(error);
        return "stop";
      }
      if (error instanceof Refused && error.status === 404) {
        watcher.ended();
        return "stop";
      }
      watcher.lost();
      return false;
    }
  }

  /** Receives server-sent events. When they stop, a plain request finds the reason. */
  async #listen(name: string, watcher: Watcher, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await events(
        `/v1/sessions/${encodeURIComponent(name)}/watch?interval_ms=${WATCH_INTERVAL_MS}`,
        (data) => watcher.sample(JSON.parse(data)),
        signal,
      );
      if (signal.aborted) return;
      if ((await this.#sampleOnce(name, watcher, signal)) === "stop") return;
      await pause(RETRY_MS, signal);
    }
  }
}

async function plainGet(path: string) {
  const response = await fetch(path);
  if (response.status === 401) throw new TokenNeeded(false);
  return { status: response.status, body: new Uint8Array(await response.arrayBuffer()) };
}

/** Resolves when the event stream has ended or could not be opened. */
function events(path: string, take: (data: string) => void, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const source = new EventSource(path);
    const end = () => {
      source.close();
      signal.removeEventListener("abort", end);
      resolve();
    };
    source.onmessage = (event) => take(event.data);
    source.onerror = end;
    signal.addEventListener("abort", end);
  });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });
}
