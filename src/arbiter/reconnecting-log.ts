/**
 * ReconnectingLog: the session's log, as the arbiter follows it. Keeps one ServerConnection at a time. When that is
 * lost it connects again, to the same server or to its successor, until RetryPolicy gives up.
 *
 * Invariants: the follower gets every entry once, in sequence, over all connections; it is told of an interruption
 * before a change of connection, and of the resumption after it; the log never connects to a server older than the
 * newest one found.
 */
import type { Security } from "../core/access/tls.ts";
import { DsmError } from "../core/base/errors.ts";
import { FAREWELL_TIMEOUT_MS, GREETING_TIMEOUT_MS } from "../core/base/limits.ts";
import { formatAddress } from "../core/base/names.ts";
import type { NodeHello, ResumeReply, ResumeRequest, Welcome } from "../core/messages/node-handshake.ts";
import type { SessionConfig } from "../core/messages/session-state.ts";
import { parseResumed, parseWelcome } from "../core/messages/welcome.ts";
import { ProtocolError } from "../core/wire/frame.ts";
import type { PartPool } from "../core/wire/frame-reader.ts";
import type { Sent } from "../core/wire/outbox.ts";
import type { Sharing } from "../core/wire/shared-parts.ts";
import type { ServerAddress } from "./dial-server.ts";
import type { EntryReceiver } from "./entry-delivery.ts";
import { RetryPolicy } from "./retry-policy.ts";
import { ConnectionLost, notAServer, type OpenedConnection, ServerConnection } from "./server-connection.ts";

/** Minimum duration of an attempt to reconnect. */
const RESUME_TIMEOUT_MIN_MS = 1_000;

/** LogFollower: the component that follows the log, which is the replica. */
export interface LogFollower extends EntryReceiver {
  /** Whether the follower has the whole map: before, it cannot continue on another connection. */
  readonly ready: boolean;
  /** The position from which the follower continues. */
  readonly position: ResumeRequest;
  /** Promises to follow no server of an older epoch. False: the follower follows a newer one already. */
  promise(epoch: number): boolean;
  /** The frames with all that a server needs to take over. */
  state(): Iterator<Uint8Array>;
  /** No entries come for a while, and frames appended meanwhile are dropped. */
  interrupted(): void;
  /** Entries follow again. The follower appends once more what the server has not ordered. Throws ProtocolError. */
  resumed(reply: ResumeReply): void;
}

/** Events for the log's owner. */
export interface LogEvents {
  /** The follower was called, or append() may be called again. */
  afterEvent(): void;
  /** The last call: no more entries will come. DSM_ENDED: because the session has ended. */
  lost(error: DsmError): void;
}

export interface LogOptions {
  address: ServerAddress & { instance: string };
  security: Security;
  hello: NodeHello;
  /** Finds the session's server when it cannot be reached. Throws DsmError. */
  locate(known: ServerAddress, config: SessionConfig): Promise<ServerAddress>;
  /** Memory of the parts of large publications. */
  parts: PartPool;
  /** How parts go to and from a server on this host; null: over the connection. */
  sharing: Sharing | null;
}

export class ReconnectingLog {
  readonly #options: LogOptions;
  readonly #config: SessionConfig;
  #address: ServerAddress;
  #connection: ServerConnection | null;
  #isClosed = false;
  #onFarewell: () => void = () => {};

  private constructor(options: LogOptions, config: SessionConfig, connection: ServerConnection) {
    this.#options = options;
    this.#config = config;
    this.#address = options.address;
    this.#connection = connection;
  }

  /**
   * Makes the node a member of the session. The caller must then call follow(). Throws DSM_UNREACHABLE when no server
   * answers, else the DsmError with which the server refuses the node.
   */
  static async open(options: LogOptions): Promise<{ welcome: Welcome; log: ReconnectingLog }> {
    const { address, hello } = options;
    try {
      const { welcome: body, connection } = await openConnection(options, address, hello, null);
      try {
        const welcome = parseWelcome(body, hello);
        return { welcome, log: new ReconnectingLog(options, welcome.snapshot.config, connection) };
      } catch (error) {
        connection.drop();
        throw error instanceof ProtocolError ? notAServer(address, error) : error;
      }
    } catch (error) {
      throw explain(address, hello, error);
    }
  }

  /** Bytes passed to append() that have not been sent. */
  get queued(): number {
    return this.#connection?.queued ?? 0;
  }

  /** Whether the log is interrupted. */
  get away(): boolean {
    return this.#connection === null;
  }

  /** Passes the entries after the state in the WELCOME to the follower. Must be called once. */
  follow(follower: LogFollower, events: LogEvents): void {
    if (this.#connection !== null) this.#attach(this.#connection, follower, events);
  }

  /**
   * Proposes whole frames; `bytes` is valid during the call only, or, with `onSent`, until that is called. While the
   * log is interrupted the frames are dropped: the follower appends them again when it is resumed.
   */
  append(bytes: Uint8Array, onSent?: Sent): void {
    if (this.#connection === null) onSent?.(true);
    else this.#connection.send(bytes, onSent);
  }

  /** Gives up the node's place. Calls back when the other nodes no longer need this process. */
  close(closed: () => void): void {
    const connection = this.#connection;
    const wasClosed = this.#isClosed;
    this.#isClosed = true;
    if (wasClosed || connection === null) {
      closed();
      return;
    }
    connection.leave();
    if (!connection.isInside) {
      connection.end();
      closed();
      return;
    }
    const timer = setTimeout(() => {
      connection.end();
      closed();
    }, FAREWELL_TIMEOUT_MS);
    this.#onFarewell = () => {
      clearTimeout(timer);
      closed();
    };
  }

  #attach(connection: ServerConnection, follower: LogFollower, events: LogEvents): void {
    connection.follow(follower, {
      afterEvent: () => events.afterEvent(),
      onDamage: (error) => events.lost(new DsmError("DSM_PROTOCOL", error.message)),
      onClosed: (why) => {
        this.#connection = null;
        if (this.#isClosed) this.#onFarewell();
        else this.#interrupted(why, follower, events);
      },
    });
  }

  #interrupted(why: ConnectionLost | DsmError, follower: LogFollower, events: LogEvents): void {
    const { hello } = this.#options;
    if (why instanceof DsmError || hello.reconnectMs === 0) {
      events.lost(explain(this.#address, hello, why) as DsmError);
      return;
    }
    if (!follower.ready) {
      events.lost(new DsmError("DSM_UNREACHABLE", "the server was lost while it sent the map; join again"));
      return;
    }
    follower.interrupted();
    events.afterEvent();
    void this.#reconnect(follower, events);
  }

  async #reconnect(follower: LogFollower, events: LogEvents): Promise<void> {
    const { hello } = this.#options;
    const retries = new RetryPolicy(hello.reconnectMs, performance.now());
    for (;;) {
      if (this.#isClosed) return;
      try {
        const resuming = { ...hello, resume: follower.position };
        const opened = await openConnection(this.#options, this.#address, resuming, () => follower.state());
        this.#resume(opened, follower, events);
        return;
      } catch (error) {
        if (this.#isClosed) return;
        if (!(error instanceof ConnectionLost) && !(error instanceof DsmError)) throw error;
        const pauseMs = retries.pauseAfter(error, performance.now());
        if (pauseMs === null) {
          events.lost(explain(this.#address, hello, error) as DsmError);
          return;
        }
        await Bun.sleep(pauseMs);
      }
      if (!(await this.#locate(follower, events))) return;
    }
  }

  #resume({ welcome, connection }: OpenedConnection, follower: LogFollower, events: LogEvents): void {
    if (this.#isClosed) {
      connection.leave();
      connection.end();
      return;
    }
    this.#connection = connection;
    try {
      follower.resumed(parseResumed(welcome));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#connection = null;
      connection.drop();
      events.lost(notAServer(this.#address, error));
      return;
    }
    events.afterEvent();
    this.#attach(connection, follower, events);
  }

  /** Asks where the server is now. False: the session cannot continue here. */
  async #locate(follower: LogFollower, events: LogEvents): Promise<boolean> {
    if (this.#isClosed) return false;
    let found = this.#address;
    try {
      found = await this.#options.locate(this.#address, this.#config);
    } catch (error) {
      if (!(error instanceof DsmError)) throw error;
      if (error.code === "DSM_ENDED" && !this.#isClosed) {
        const message = `the server of session "${this.#options.hello.session}" is gone, and the session with it`;
        events.lost(new DsmError("DSM_UNREACHABLE", message));
        return false;
      }
      // Without a daemon the server may still be at its old address.
    }
    if (this.#isClosed) return false;
    // From here on the node follows no older server, whatever becomes of this one.
    if (follower.promise(found.epoch)) this.#address = found;
    return true;
  }
}

function openConnection(
  { address: { instance }, security, parts, sharing }: LogOptions,
  address: ServerAddress,
  hello: NodeHello,
  state: (() => Iterator<Uint8Array>) | null,
): Promise<OpenedConnection> {
  const isResuming = hello.resume !== null;
  const welcomeTimeoutMs = isResuming ? Math.max(hello.heartbeatMs, RESUME_TIMEOUT_MIN_MS) : GREETING_TIMEOUT_MS;
  return ServerConnection.open({
    address: { ...address, instance },
    security,
    hello,
    welcomeTimeoutMs,
    parts,
    sharing,
    state,
  });
}

/** Explains why there is no log: a lost connection as a sentence, any other error unchanged. */
function explain({ host, port }: ServerAddress, hello: NodeHello, error: unknown): unknown {
  if (!(error instanceof ConnectionLost)) return error;
  const address = formatAddress(host, port);
  return new DsmError("DSM_UNREACHABLE", `the server of session "${hello.session}" at ${address} ${error.message}`);
}
