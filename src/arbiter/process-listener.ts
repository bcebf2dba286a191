/**
 * ProcessListener: the Unix socket on which this node's processes connect, and their connections. It carries bytes
 * between them and the channels of the replica.
 *
 *     refused: FAIL, half-closed, read until the process closes
 *     open ---- the process has sent all ----> gone from the channels ----> closed
 *                                                    '---- is needed: held open until the arbiter ends ---^
 *     open ---- the process has closed it without leaving ----> waited for: until it has ended ----> gone from the channels
 *
 * Invariants: the socket is bound under a random name and then renamed to the one that processes know, and only this
 * file is ever removed, so an ending arbiter never removes the socket of the next one; each channel has one connection;
 * at most REFUSALS_MAX refused connections are open.
 */
import { randomBytes } from "node:crypto";
import { lstatSync, renameSync } from "node:fs";
import { dirname } from "node:path";
import type { Socket } from "bun";
import { DsmError, Status, systemCode } from "../core/base/errors.ts";
import { GREETING_TIMEOUT_MS, REFUSALS_MAX, RUNS_ON_MAX_MS } from "../core/base/limits.ts";
import { encode, encodeText } from "../core/wire/frame.ts";
import { detachBuffer } from "../core/wire/frame-reader.ts";
import { Kind } from "../core/wire/kinds.ts";
import { Outbox, rethrowIfBug } from "../core/wire/outbox.ts";
import { PeerProcess } from "../transport/peer-process.ts";
import { canTellPeers, isOutside, isOwnPeer, pidOfPeer } from "../transport/peer-user.ts";
import { removeFile, removeUnlocked } from "./map-file.ts";

/** Receives the bytes of connections: the replica. */
export interface Channels {
  /** A new connection. Returns its number, or -1: too many. */
  connect(): number;
  /** Whether the process on the channel has sent its handshake. */
  isGreeted(channel: number): boolean;
  receive(channel: number, chunk: Uint8Array): void;
  disconnect(channel: number): void;
  /** Whether the end of the channel is taken for the end of a process that has not left the session. */
  isOfRunning(channel: number): boolean;
}

export interface ListenerOptions {
  /** Path of the socket, which processes know. */
  path: string;
  connectionsMax: number;
  /** Path of the map, which a process of the session has mapped. */
  mapPath: string;
  /** In an elastic session, processes of other containers do not need this arbiter to the end. */
  isElastic: boolean;
  /** Runs the work; false: it failed, and the arbiter ends. */
  attempt(work: () => void): boolean;
  /** Requests were received. */
  afterRequests(): void;
  /** A connection takes bytes again, or is gone. */
  afterEvent(): void;
  /** The session is over for this node. */
  isDone(): boolean;
}

interface Client {
  /** -1: refused. */
  channel: number;
  outbox: Outbox;
  /** Its process; 0: it is in another container than the arbiter, or not known. */
  pid: number;
  /** The process is in another container than the arbiter. */
  isOutside: boolean;
  isClosing: boolean;
  handshakeTimer: Timer;
}

type ClientSocket = Socket<Client>;

/** Intervals at which a process that has closed its connection is looked for: 1 ms at first, then this. */
const LOOK_OFTEN_MS = 50;
const LOOK_INTERVAL_MS = 20;

export class ProcessListener {
  readonly #options: ListenerOptions;
  readonly #channels: Channels;
  /** By channel. */
  readonly #clients = new Map<number, ClientSocket>();
  /** Connections of processes that have sent all, held open until the arbiter ends. */
  readonly #held = new Set<ClientSocket>();
  /** Timers of processes that have closed their connection and have not ended, by channel. */
  readonly #running = new Map<number, Timer>();
  #listener: ReturnType<typeof Bun.listen<Client>> | undefined;
  #socketIdentity = "";
  #refusals = 0;
  #isPaused = false;
  #isOver = false;

  constructor(channels: Channels, options: ListenerOptions) {
    this.#channels = channels;
    this.#options = options;
  }

  /** Binds the socket. Throws DsmError. */
  listen(): void {
    const { path } = this.#options;
    // Random, because processes of two process namespaces may have the same process id.
    const own = `${path}.${randomBytes(3).toString("hex")}`;
    // The umask keeps other users out from the socket's creation on.
    const mask = process.umask(0o177);
    try {
      if (!canTellPeers(dirname(path))) throw new Error("its folder lets other users in");
      this.#listener = Bun.listen<Client>({ unix: own, allowHalfOpen: true, socket: this.#handlers() });
      this.#socketIdentity = identity(own);
      renameSync(own, path);
    } catch (error) {
      throw new DsmError(systemCode(error), `cannot listen on ${path}: ${(error as Error).message}`);
    } finally {
      process.umask(mask);
    }
  }

  #handlers() {
    return {
      open: (socket: ClientSocket) => this.#open(socket),
      data: (socket: ClientSocket, chunk: Uint8Array) => {
        if (socket.data.isClosing) return;
        if (!this.#options.attempt(() => this.#channels.receive(socket.data.channel, chunk))) return;
        detachBuffer(chunk);
        this.#options.afterRequests();
      },
      drain: (socket: ClientSocket) => {
        socket.data.outbox.drain();
        this.#closeIfSent(socket);
        this.#options.afterEvent();
      },
      end: (socket: ClientSocket) => this.#onEnd(socket),
      close: (socket: ClientSocket) => this.#onClose(socket),
      error: (socket: ClientSocket, error: Error) => {
        rethrowIfBug(error);
        socket.terminate();
      },
    };
  }

  // --- What the replica has it do ----------------------------------------------------------------------------------

  reply(channel: number, bytes: Uint8Array): void {
    const socket = this.#clients.get(channel);
    if (socket !== undefined && !socket.data.outbox.send(bytes)) socket.terminate();
  }

  /** Closes the channel's connection after what was sent. */
  close(channel: number): void {
    const socket = this.#clients.get(channel);
    if (socket === undefined) return;
    this.#clients.delete(channel);
    socket.data.isClosing = true;
    this.#closeIfSent(socket);
  }

  /** The channel's connection if its queue is empty: then a descriptor can be sent at once. */
  idleSocket(channel: number): object | null {
    const socket = this.#clients.get(channel);
    return socket === undefined || socket.data.outbox.size > 0 ? null : socket;
  }

  /** Sends to all connections. */
  broadcast(frame: Uint8Array): void {
    for (const socket of this.#clients.values()) socket.data.outbox.send(frame);
  }

  /** Whether all queues are empty. */
  get hasSentAll(): boolean {
    for (const socket of this.#clients.values()) if (socket.data.outbox.size > 0) return false;
    return true;
  }

  /** Pauses or resumes reading from the processes, whose stores wait meanwhile. */
  set paused(isPaused: boolean) {
    if (isPaused === this.#isPaused) return;
    this.#isPaused = isPaused;
    for (const socket of this.#clients.values()) {
      if (isPaused) socket.pause();
      else socket.resume();
    }
  }

  /**
   * Stops listening, and removes the socket if it is still this arbiter's; also the lock of the process that started the
   * arbiter, if that was killed before it could.
   */
  stop(): void {
    const { path } = this.#options;
    if (this.#socketIdentity !== "" && identity(path) === this.#socketIdentity) removeFile(path);
    removeUnlocked(path.replace(/\.sock$/, ".lock"));
    this.#listener?.stop();
  }

  /**
   * Closes all connections. This is the arbiter's last act: the waiting processes may be all that keeps the arbiter's
   * container alive.
   */
  end(): void {
    this.#isOver = true;
    for (const timer of this.#running.values()) clearTimeout(timer);
    for (const socket of [...this.#clients.values(), ...this.#held]) {
      clearTimeout(socket.data.handshakeTimer);
      socket.end();
    }
  }

  // --- Connections -------------------------------------------------------------------------------------------------

  #open(socket: ClientSocket): void {
    const hasRoom = this.#clients.size < this.#options.connectionsMax;
    // The socket's folder keeps other users out where it is dsm's own; with --socket it may be any folder.
    const isOwn = isOwnPeer(socket);
    const channel = hasRoom && isOwn ? this.#channels.connect() : -1;
    socket.data = {
      channel,
      outbox: new Outbox((bytes) => socket.write(bytes)),
      pid: pidOfPeer(socket),
      isOutside: isOutside(socket),
      isClosing: false,
      handshakeTimer: setTimeout(() => {
        if (!this.#channels.isGreeted(channel)) socket.terminate();
      }, GREETING_TIMEOUT_MS),
    };
    if (this.#options.isDone() || !isOwn) {
      socket.data.isClosing = true;
      if (channel < 0) this.#refusals += 1;
      socket.terminate();
      return;
    }
    if (channel < 0) {
      this.#refuse(socket);
      return;
    }
    this.#clients.set(channel, socket);
    if (this.#isPaused) socket.pause();
  }

  #refuse(socket: ClientSocket): void {
    const text = `the arbiter has ${this.#clients.size} connections, all it can have; give it a higher limit of open files`;
    socket.data.isClosing = true;
    this.#refusals += 1;
    if (this.#refusals > REFUSALS_MAX) {
      socket.terminate();
      return;
    }
    socket.write(encode({ kind: Kind.FAIL, op: Status.LIMIT, body: encodeText(text) }));
    // Half-close and drain: closing with unread input sends RST, which would discard the FAIL frame.
    socket.shutdown();
  }

  #closeIfSent(socket: ClientSocket): void {
    if (socket.data.isClosing && socket.data.outbox.size === 0) socket.end();
  }

  /**
   * The process has sent all. A leaving process waits until its connection is closed. The last process waits until the
   * arbiter ends; so does a process of the arbiter's container while processes of other containers need this arbiter,
   * which would end with its container.
   */
  #onEnd(socket: ClientSocket): void {
    this.#disconnect(socket);
    const isNeeded = this.#options.isDone() || (!socket.data.isOutside && this.#servesOutside());
    if (isNeeded && !this.#isOver) this.#held.add(socket);
    else socket.end();
  }

  #servesOutside(): boolean {
    if (this.#options.isElastic) return false;
    for (const socket of this.#clients.values()) if (socket.data.isOutside) return true;
    return false;
  }

  #onClose(socket: ClientSocket): void {
    clearTimeout(socket.data.handshakeTimer);
    if (socket.data.channel < 0) this.#refusals -= 1;
    this.#held.delete(socket);
    this.#disconnect(socket);
  }

  #disconnect(socket: ClientSocket): void {
    const { channel } = socket.data;
    if (this.#clients.get(channel) !== socket) return;
    this.#clients.delete(channel);
    const peer = this.#channels.isOfRunning(channel) ? PeerProcess.of(socket, socket.data.pid) : null;
    if (peer === null) this.#ended(channel);
    else this.#awaitEnd(channel, peer);
    if (this.#held.size > 0 && !this.#options.isDone() && !this.#servesOutside()) {
      for (const socket of this.#held) socket.end();
    }
  }

  #ended(channel: number): void {
    if (this.#options.attempt(() => this.#channels.disconnect(channel))) this.#options.afterEvent();
  }

  /**
   * A process that has closed its connection has ended, or is about to. If it runs on, what it has stays its own until it
   * ends, for RUNS_ON_MAX_MS at most: it may be using what its locks guard.
   */
  #awaitEnd(channel: number, peer: PeerProcess): void {
    const since_ms = performance.now();
    const look = (): void => {
      const waited_ms = performance.now() - since_ms;
      const isOver = this.#isOver || waited_ms >= RUNS_ON_MAX_MS;
      if (!isOver && !peer.hasEnded && !peer.lacks(this.#options.mapPath)) {
        this.#running.set(channel, setTimeout(look, waited_ms < LOOK_OFTEN_MS ? 1 : LOOK_INTERVAL_MS));
        return;
      }
      this.#running.delete(channel);
      peer.close();
      if (!this.#isOver) this.#ended(channel);
    };
    look();
  }
}

/** The identity of the file at that path; "": there is none. */
function identity(path: string): string {
  try {
    const { dev, ino } = lstatSync(path);
    return `${dev}:${ino}`;
  } catch {
    return "";
  }
}
