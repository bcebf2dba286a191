/**
 * Connection: one socket of the server, of an arbiter or a reader (status, snapshot, trace).
 *
 *     unproven ----> open ----> welcomed (an arbiter's) ----> closing: the queue is sent ----> closed
 *     refused: FAIL, half-closed, read until the peer closes
 *
 * Invariant: at most one of the handshake, lease, stall and trace timers runs.
 */
import { randomBytes } from "node:crypto";
import type { Socket } from "bun";
import { LinkGuard, NONCE_SIZE } from "../core/access/auth.ts";
import { HEARTBEATS } from "../core/base/limits.ts";
import { Outbox, type Sent } from "../core/wire/outbox.ts";

export type ConnectionSocket = Socket<Connection>;

export interface ConnectionOptions {
  id: number;
  /** The connection came by the Unix socket. */
  isLocal: boolean;
  /** The token that the peer must prove to know; null: none. */
  token: Uint8Array | null;
  /** Maximum bytes in the send queue. */
  outboxLimit: number;
}

export interface HeartbeatOptions {
  timeoutMs: number;
  /** Whether the server reads the connection: while it does not, silence means nothing. */
  isRead: () => boolean;
  /** Sends a heartbeat; called when the send queue is empty. */
  beat: () => void;
}

export class Connection {
  readonly id: number;
  readonly isLocal: boolean;
  readonly guard: LinkGuard;
  readonly outbox: Outbox;
  /** The connection is in the broadcast set. */
  isWelcomed = false;
  /** There are too many connections. */
  isRefused = false;
  isClosing = false;
  /** The peer has mapped the server's memory, and gets references to parts. */
  peerMapsParts = false;
  isTracing = false;
  /** Its snapshot waits until no lock is leased. */
  awaitsLeases = false;
  readonly #socket: ConnectionSocket;
  #timer: Timer | undefined;
  #heartbeat: Timer | undefined;
  /** Heartbeat periods since anything was received. */
  #silentPeriods = 0;

  constructor(socket: ConnectionSocket, { id, isLocal, token, outboxLimit }: ConnectionOptions) {
    this.id = id;
    this.isLocal = isLocal;
    this.#socket = socket;
    this.outbox = new Outbox((bytes) => socket.write(bytes), outboxLimit);
    this.guard = new LinkGuard(token, randomBytes(NONCE_SIZE), (bytes) => this.outbox.send(bytes));
  }

  /** `onSent`: see Outbox.send(). */
  send(bytes: Uint8Array, onSent?: Sent): void {
    if (!this.outbox.send(bytes, onSent)) this.terminate();
  }

  /** Sets the connection's timer anew. */
  setTimer(delay_ms: number, work: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(work, delay_ms);
  }

  clearTimer(): void {
    clearTimeout(this.#timer);
  }

  /** Calls `beat` HEARTBEATS times in `timeoutMs`, and terminates a connection that is silent for that long. */
  startHeartbeat({ timeoutMs, isRead, beat }: HeartbeatOptions): void {
    this.#heartbeat = setInterval(() => {
      this.#silentPeriods = isRead() ? this.#silentPeriods + 1 : 0;
      if (this.#silentPeriods > HEARTBEATS) this.terminate();
      else if (this.outbox.size === 0) beat();
    }, timeoutMs / HEARTBEATS);
  }

  /** Something was received: the silence is over. */
  resetSilence(): void {
    this.#silentPeriods = 0;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Sends the reason for refusing the connection, and closes it. */
  refuse(fail: Uint8Array): void {
    this.#socket.write(fail);
    // Half-close and drain: closing with unread input sends RST, which would discard the FAIL frame.
    this.#socket.shutdown();
  }

  closeWhenSent(): void {
    this.isClosing = true;
    this.closeIfSent();
  }

  closeIfSent(): void {
    if (this.isClosing && this.outbox.size === 0) this.end();
  }

  end(): void {
    this.#socket.end();
  }

  terminate(): void {
    this.#socket.terminate();
  }

  /** The socket is closed. */
  onClose(): void {
    this.outbox.clear();
    clearTimeout(this.#timer);
    clearInterval(this.#heartbeat);
  }
}
