/**
 * Connections: all sockets of the server, between the listeners and the core.
 *
 * Invariants: the core knows only connections that have proven themselves; unproven connections compete for a quota of
 * their own, so they displace each other and no proven one; at most REFUSALS_MAX refused connections are open; while
 * one connection lags, the server reads from no node, so that queues stay bounded.
 */
import type { SocketHandler } from "bun";
import { Status } from "../core/base/errors.ts";
import { GREETING_TIMEOUT_MS, LINKS_MAX, OUTBOX_HIGH, REFUSALS_MAX, UNPROVEN_LINKS_MAX } from "../core/base/limits.ts";
import { encode, encodeText, ProtocolError } from "../core/wire/frame.ts";
import { detachBuffer, type PartPool } from "../core/wire/frame-reader.ts";
import { Kind } from "../core/wire/kinds.ts";
import { rethrowIfBug } from "../core/wire/outbox.ts";
import { Connection, type ConnectionSocket } from "./connection.ts";

/** Events of connections that have proven themselves. */
export interface ConnectionEvents {
  /** False: there are too many. */
  connect(id: number): boolean;
  receive(connection: Connection, chunk: Uint8Array): void;
  /** The send queue is empty again. */
  onDrain(connection: Connection): void;
  onClose(connection: Connection): void;
  /** Whether the connection is a node's. */
  isWelcomed(id: number): boolean;
  /** After each of these. */
  afterEvent(): void;
}

export interface ConnectionsOptions {
  /** Maximum of connections, from the limit of open files; LINKS_MAX holds, too. */
  connectionsMax: number;
  /** Maximum bytes in the send queue of one connection. */
  outboxLimit: number;
  /** Memory of the parts of large publications. */
  parts: PartPool;
  events: ConnectionEvents;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #all = new Map<number, Connection>();
  /** Oldest first. */
  readonly #unproven = new Set<Connection>();
  /** The token that peers must prove to know; null: none. */
  #token: Uint8Array | null = null;
  /** The connection whose bytes are being handled. */
  #requester: Connection | undefined;
  #nextId = 1;
  #refusals = 0;
  #isPaused = false;
  #isClosed = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  /** Sets the token that new connections must prove to know; null: none. */
  set token(token: Uint8Array | null) {
    this.#token = token;
  }

  get(id: number): Connection | undefined {
    return this.#all.get(id);
  }

  /** Whether no connection has proven itself. */
  get areAllUnproven(): boolean {
    return this.#all.size === this.#unproven.size;
  }

  /** Whether all send queues are empty. */
  get hasSentAll(): boolean {
    for (const { outbox } of this.#all.values()) if (outbox.size > 0) return false;
    return true;
  }

  /** `isOwnPeer`: for the Unix socket, whether the peer belongs to the server's user; null: for the TCP listener. */
  handlers(isOwnPeer: ((socket: object) => boolean) | null, usesTls: () => boolean): SocketHandler<Connection> {
    const { events } = this.#options;
    return {
      open: (socket) => {
        this.#open(socket, isOwnPeer !== null, usesTls());
        if (isOwnPeer?.(socket) === false) socket.terminate();
      },
      data: ({ data: connection }, chunk) => this.#data(connection, chunk),
      drain: ({ data: connection }) => {
        connection.outbox.drain();
        connection.closeIfSent();
        events.onDrain(connection);
        events.afterEvent();
      },
      close: ({ data: connection }) => this.#close(connection),
      error: (socket, error) => {
        rethrowIfBug(error);
        socket.terminate();
      },
    };
  }

  #open(socket: ConnectionSocket, isLocal: boolean, isTls: boolean): void {
    const id = this.#nextId;
    this.#nextId += 1;
    socket.setNoDelay(true);
    const { connectionsMax, outboxLimit, events } = this.#options;
    const isFull = this.#all.size >= Math.min(connectionsMax, LINKS_MAX);
    const connection = new Connection(socket, { id, isLocal, token: this.#token, outboxLimit });
    socket.data = connection;
    connection.setTimer(GREETING_TIMEOUT_MS, () => {
      if (!events.isWelcomed(id)) connection.terminate();
    });
    if (isFull && this.#unproven.size === 0) {
      this.#refuse(connection, isTls);
      return;
    }
    this.#all.set(id, connection);
    if (this.#token === null) {
      this.#connect(connection);
      return;
    }
    this.#unproven.add(connection);
    const [oldest] = this.#unproven;
    if (isFull || this.#unproven.size > UNPROVEN_LINKS_MAX) oldest?.terminate();
  }

  #refuse(connection: Connection, isTls: boolean): void {
    const text = `the session's server has ${this.#all.size} connections, all it can have`;
    connection.isRefused = true;
    connection.isClosing = true;
    this.#refusals += 1;
    // Over TLS no FAIL can be sent before the TLS handshake.
    if (this.#refusals > REFUSALS_MAX || isTls) connection.terminate();
    else connection.refuse(encode({ kind: Kind.FAIL, op: Status.LIMIT, body: encodeText(text) }));
  }

  #connect(connection: Connection): void {
    if (!this.#options.events.connect(connection.id)) connection.terminate();
  }

  #data(connection: Connection, chunk: Uint8Array): void {
    if (connection.isClosing) return;
    connection.resetSilence();
    const { events } = this.#options;
    if (connection.guard.open) {
      this.#requester = connection;
      events.receive(connection, chunk);
      this.#requester = undefined;
      detachBuffer(chunk);
    } else {
      this.#authenticate(connection, chunk);
    }
    events.afterEvent();
  }

  #authenticate(connection: Connection, chunk: Uint8Array): void {
    try {
      const rest = connection.guard.receive(chunk);
      if (!connection.guard.open) return;
      if (this.#unproven.delete(connection)) this.#connect(connection);
      if (rest.length > 0) this.#options.events.receive(connection, rest);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      connection.outbox.send(encode({ kind: Kind.FAIL, op: error.status, body: encodeText(error.message) }));
      connection.closeWhenSent();
    }
  }

  #close(connection: Connection): void {
    connection.onClose();
    this.#unproven.delete(connection);
    if (connection.isRefused) this.#refusals -= 1;
    if (!this.#all.delete(connection.id) || this.#isClosed) return;
    this.#options.events.onClose(connection);
    this.#options.events.afterEvent();
  }

  /** Adds the connection to the broadcast set. It is terminated when it is silent for `heartbeatMs`; 0: never. */
  welcome(id: number, heartbeatMs: number, beat: () => void): void {
    const connection = this.#all.get(id);
    if (connection === undefined) return;
    connection.isWelcomed = true;
    if (this.#isPaused) connection.pause();
    if (heartbeatMs <= 0) return;
    connection.startHeartbeat({ timeoutMs: heartbeatMs, isRead: () => !this.#isPaused, beat });
  }

  /**
   * Sends to every welcomed connection but `except`. `onSent`: called when the bytes are no longer used; left out: they
   * are used during the call only.
   */
  broadcast(bytes: Uint8Array, onSent: (() => void) | undefined, except: number | undefined): void {
    const reference = onSent === undefined ? null : this.#options.parts.reference(bytes);
    let waiting = 1;
    const onSentToOne =
      onSent &&
      ((): void => {
        waiting -= 1;
        if (waiting === 0) onSent();
      });
    const sendTo = (connection: Connection): void => {
      if (!connection.isWelcomed || connection.id === except) return;
      // A part stays at its place until all nodes have applied it: see retained-frames.ts.
      if (reference !== null && connection.peerMapsParts) {
        connection.send(reference);
        return;
      }
      waiting += 1;
      connection.send(bytes, onSentToOne);
    };
    // Send to the requester's node first: it is on the critical path, and waking the others takes time.
    const requester = this.#requester;
    if (requester !== undefined) sendTo(requester);
    for (const connection of this.#all.values()) if (connection !== requester) sendTo(connection);
    onSentToOne?.();
  }

  /** Backpressure: reads from no node while one lags, or while `mustWait`. Writers wait, so queues stay bounded. */
  regulate(mustWait: boolean): void {
    let isPaused = mustWait;
    for (const { outbox } of this.#all.values()) isPaused ||= outbox.size > OUTBOX_HIGH;
    if (isPaused === this.#isPaused) return;
    this.#isPaused = isPaused;
    for (const connection of this.#all.values()) {
      // Always read a connection that is not welcomed: a node may be joining or coming back.
      if (!connection.isWelcomed) continue;
      connection.resetSilence();
      if (isPaused) connection.pause();
      else connection.resume();
    }
  }

  /** Sends to every welcomed connection. */
  sendToNodes(bytes: Uint8Array): void {
    for (const connection of [...this.#all.values()]) if (connection.isWelcomed) connection.send(bytes);
  }

  /** Closes all connections, each once its queue is sent. No event follows. */
  end(): void {
    this.#isClosed = true;
    for (const connection of [...this.#all.values()]) connection.end();
  }

  /** Closes all connections at once. */
  terminate(): void {
    for (const connection of [...this.#all.values()]) connection.terminate();
  }
}
