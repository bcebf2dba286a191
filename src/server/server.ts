/** `dsm server`: the sequencer's shell. Carries bytes between TCP connections and the core, and nothing else. */
import { randomBytes } from "node:crypto";
import type { Socket, TCPSocketListener } from "bun";
import { checkListening, LinkGuard, mustProve, NONCE_SIZE, OPEN, type Security } from "../core/auth.ts";
import type { Directory } from "../core/directory.ts";
import { DsmError, Status } from "../core/errors.ts";
import { freeNow } from "../core/frames.ts";
import type { SessionImage } from "../core/image.ts";
import {
  ADDRESS_FIRST,
  ADDRESS_SLOTS,
  ADDRESS_STRIDE,
  DEFAULT_SIZE,
  GREETING_TIMEOUT_MS,
  LINKS_MAX,
  OUTBOX_HIGH,
  OUTBOX_MAX,
  PICTURE_STALL_MS,
  REFUSALS_MAX,
  UNPROVEN_LINKS_MAX,
  UNUSED_AGAIN_TIMEOUT_MS,
  UNUSED_TIMEOUT_MS,
} from "../core/limits.ts";
import { DEFAULT_ON_LOSS, type OnLoss } from "../core/loss.ts";
import type { ApplyRuns } from "../core/memory.ts";
import { checkName, checkProcesses, fnv1a64 } from "../core/names.ts";
import { DEFAULT_ORDER, type Order } from "../core/order.ts";
import { failStop, Outbox } from "../core/outbox.ts";
import { encode, encodeText, Kind, ProtocolError } from "../core/protocol.ts";
import { Sequencer, type SequencerOutput, STAGED_PER_MAP_BYTE } from "../core/sequencer.ts";
import { checkSize, pageRound } from "../core/size.ts";

export interface ServerOptions {
  session: string;
  processes: number;
  /** Bytes; rounded up to whole pages. */
  size?: number;
  /** How strictly stores are ordered; left out: DEFAULT_ORDER. */
  order?: Order;
  /** What happens when a process dies; left out: DEFAULT_ON_LOSS. */
  onLoss?: OnLoss;
  host: string;
  /** 0: any free port. */
  port: number;
  /** Processes may join while it runs. */
  elastic?: boolean;
  /** What the session begins with: an image, and the bytes of its map, which are the server's from then on. */
  restore?: { image: SessionImage; map: Uint8Array };
  /** Connections that the limit of open files allows; left out: LINKS_MAX. */
  connectionsMax?: number;
  /** Where the server registers itself; null: nowhere. */
  directory: Directory | null;
  /** Which run of the session's name; left out: a new one. */
  instance?: string;
  /** Address slot of the map; left out: chosen by the session's name. */
  slot?: number;
  /** How publications are applied to the map, if not in JavaScript. */
  applyRuns?: ApplyRuns | null;
  /** Ends the server when no process has come after UNUSED_TIMEOUT_MS. For servers nobody watches. */
  endUnused?: boolean;
  /** What arbiters must prove, and TLS; left out: nothing, which is possible on loopback only. */
  security?: Security;
}

export interface Server {
  host: string;
  port: number;
  /** Settles when the session has ended and everybody was told; the process's exit code. */
  ended: Promise<number>;
  stop(): void;
}

interface Link {
  id: number;
  guard: LinkGuard;
  outbox: Outbox;
  welcomed: boolean;
  /** There are too many, and it is told. */
  refused: boolean;
  closing: boolean;
  timer: Timer;
}

type LinkSocket = Socket<Link>;

const PIECES_AT_ONCE = 4;

/** Starts the server of a new session. Throws DsmError when an option is bad, the port is taken or memory is short. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const size = pageRound(options.size ?? DEFAULT_SIZE);
  const bad = checkName("session", options.session) ?? checkProcesses(options.processes) ?? checkSize(size);
  if (bad !== null) throw new DsmError("DSM_INVALID", bad);
  if (options.restore !== undefined && options.restore.map.length !== size) {
    throw new DsmError("DSM_MISMATCH", `the snapshot has a map of ${options.restore.map.length} bytes, not ${size}`);
  }
  const slot = options.slot ?? Number(BigInt(`0x${fnv1a64(options.session)}`) % BigInt(ADDRESS_SLOTS));
  if (!(slot >= 0 && slot < ADDRESS_SLOTS)) throw new DsmError("DSM_INVALID", `slot ${slot} is not possible`);
  const order = options.order ?? DEFAULT_ORDER;
  const onLoss = options.onLoss ?? DEFAULT_ON_LOSS;
  const security = options.security ?? OPEN;
  const refused = checkListening(security, options.host);
  if (refused !== null) throw new DsmError("DSM_INVALID", refused);
  const instance = options.instance ?? randomBytes(8).toString("hex");

  const server = new ServerShell(
    {
      name: options.session,
      instance,
      processes: options.processes,
      size,
      base: ADDRESS_FIRST + slot * ADDRESS_STRIDE,
      order,
      onLoss,
      ...(options.elastic === true ? { elastic: true } : {}),
    },
    options.restore?.map ?? allocate(size),
    options.restore?.image ?? null,
    options.connectionsMax ?? LINKS_MAX,
    options.applyRuns ?? null,
  );
  const { host, port } = server.listen(options.host, options.port, security);
  if (options.directory !== null) {
    const registration = {
      name: options.session,
      instance,
      host,
      port,
      pid: process.pid,
      processes: options.processes,
      size,
      order,
      onLoss,
      elastic: options.elastic === true,
      slot,
    };
    try {
      await options.directory.register(registration);
    } catch (error) {
      server.stop();
      throw error;
    }
  }
  if (options.endUnused === true) server.endUnused();
  const { directory } = options;
  const ended = server.ended.then(async (code) => {
    // The session is over either way; a daemon that is gone knows nothing of it any more.
    await directory?.remove(options.session, instance).catch(() => false);
    return code;
  });
  return { host, port, ended, stop: () => server.stop() };
}

function allocate(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch {
    throw new DsmError("DSM_NO_MEMORY", `no memory for a map of ${size} bytes; choose a smaller size`);
  }
}

class ServerShell {
  readonly ended: Promise<number>;
  readonly #sequencer: Sequencer;
  readonly #sockets = new Map<number, LinkSocket>();
  /** Links that have to prove themselves first, the oldest first. The sequencer knows nothing of them. */
  readonly #unproven = new Set<LinkSocket>();
  /** What is demanded of links, or null. */
  #token: Uint8Array | null = null;
  #listener: TCPSocketListener<Link> | undefined;
  /** What a link may be behind by: one largest publication comes on top, because it goes out as a whole. */
  readonly #outboxLimit: number;
  readonly #connectionsMax: number;
  /** Whose bytes are being handled. */
  #asker: LinkSocket | undefined;
  #nextLink = 1;
  /** Connections that were told there are too many, and are not closed. */
  #refusals = 0;
  #tls = false;
  #paused = false;
  #finishing = false;
  #finish: (code: number) => void = () => {};
  #unused: Timer | undefined;
  #endsUnused = false;

  constructor(
    config: ConstructorParameters<typeof Sequencer>[0],
    memory: Uint8Array,
    image: SessionImage | null,
    connectionsMax: number,
    applyRuns: ApplyRuns | null,
  ) {
    this.#connectionsMax = connectionsMax;
    this.ended = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.#outboxLimit = OUTBOX_MAX + memory.length * STAGED_PER_MAP_BYTE;
    const output: SequencerOutput = {
      send: (id, bytes) => {
        const socket = this.#sockets.get(id);
        if (socket !== undefined) this.#send(socket, bytes);
      },
      broadcast: (bytes, sent, last) => this.#broadcast(bytes, sent, last),
      close: (id) => {
        const socket = this.#sockets.get(id);
        if (socket !== undefined) this.#close(socket);
      },
      ended: () => {
        this.#finishing = true;
        this.#listener?.stop();
      },
    };
    this.#sequencer = new Sequencer(config, memory, output, applyRuns);
    if (image !== null) this.#sequencer.session.adopt(image);
  }

  listen(host: string, port: number, security: Security): { host: string; port: number } {
    this.#token = mustProve(security, host) ? security.token : null;
    const { tls } = security;
    this.#tls = tls !== null;
    try {
      const listener = Bun.listen<Link>({
        hostname: host,
        port,
        ...(tls === null ? {} : { tls: { ...tls, requestCert: tls.ca !== undefined, rejectUnauthorized: true } }),
        socket: {
          open: (socket) => this.#open(socket),
          // Data comes behind this only. A client without a good certificate is closed by Bun; we do not rely on that.
          handshake: (socket, success) => {
            if (!success || (tls?.ca !== undefined && !socket.authorized)) socket.terminate();
          },
          data: (socket, chunk) => this.#data(socket, chunk),
          drain: (socket) => {
            socket.data.outbox.drain();
            this.#closeIfSent(socket);
            this.#sendPicture(socket);
            this.#regulate();
            this.#checkFinished();
          },
          close: (socket) => this.#closed(socket),
          error: (socket, error) => {
            failStop(error);
            socket.terminate();
          },
        },
      });
      this.#listener = listener;
      return { host, port: listener.port };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new DsmError("DSM_SYSTEM", `cannot listen on ${host}:${port}: ${reason}`);
    }
  }

  endUnused(timeoutMs: number = UNUSED_TIMEOUT_MS): void {
    this.#endsUnused = true;
    clearTimeout(this.#unused);
    this.#unused = setTimeout(() => {
      if (!this.#sequencer.hadProcess && this.#sockets.size === this.#unproven.size) this.stop();
    }, timeoutMs);
  }

  stop(): void {
    clearTimeout(this.#unused);
    this.#listener?.stop(true);
    for (const socket of [...this.#sockets.values()]) socket.terminate();
    this.#finish(0);
  }

  #open(socket: LinkSocket): void {
    const id = this.#nextLink;
    this.#nextLink += 1;
    socket.setNoDelay(true);
    const outbox = new Outbox((bytes) => socket.write(bytes), this.#outboxLimit);
    const full = this.#sockets.size >= Math.min(this.#connectionsMax, LINKS_MAX);
    socket.data = {
      id,
      guard: new LinkGuard(this.#token, randomBytes(NONCE_SIZE), (bytes) => outbox.send(bytes)),
      outbox,
      welcomed: false,
      refused: full && this.#unproven.size === 0,
      closing: false,
      timer: setTimeout(() => {
        if (!this.#sequencer.isWelcomed(id)) socket.terminate();
      }, GREETING_TIMEOUT_MS),
    };
    if (socket.data.refused) {
      this.#refuse(socket);
      return;
    }
    this.#sockets.set(id, socket);
    if (this.#token === null) {
      this.#connect(socket);
      return;
    }
    this.#unproven.add(socket);
    // Strangers that keep connections can displace each other, and nobody who has proven who it is.
    const [oldest] = this.#unproven;
    if (full || this.#unproven.size > UNPROVEN_LINKS_MAX) oldest?.terminate();
  }

  #connect(socket: LinkSocket): void {
    if (!this.#sequencer.connect(socket.data.id)) socket.terminate();
    else if (this.#paused) socket.pause();
  }

  #data(socket: LinkSocket, chunk: Uint8Array): void {
    const link = socket.data;
    if (link.closing) return;
    if (link.guard.open) {
      this.#asker = socket;
      this.#sequencer.receive(link.id, chunk);
      this.#asker = undefined;
      freeNow(chunk);
      this.#sendPicture(socket);
    } else {
      this.#authenticate(socket, chunk);
    }
    this.#regulate();
    this.#checkFinished();
  }

  #authenticate(socket: LinkSocket, chunk: Uint8Array): void {
    const { id, guard, outbox } = socket.data;
    try {
      const rest = guard.receive(chunk);
      if (!guard.open) return;
      if (this.#unproven.delete(socket)) this.#connect(socket);
      if (rest.length > 0) this.#sequencer.receive(id, rest);
      this.#sendPicture(socket);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      outbox.send(encode({ kind: Kind.FAIL, op: error.status, body: encodeText(error.message) }));
      this.#close(socket);
    }
  }

  #send(socket: LinkSocket, bytes: Uint8Array, sent?: () => void): void {
    const link = socket.data;
    if (!link.welcomed && this.#sequencer.isWelcomed(link.id)) link.welcomed = true;
    if (!link.outbox.send(bytes, sent)) socket.terminate();
  }

  #broadcast(bytes: Uint8Array, sent: (() => void) | undefined, last: number | undefined): void {
    let waiting = 1;
    const sentToOne =
      sent &&
      ((): void => {
        waiting -= 1;
        if (waiting === 0) sent();
      });
    const sendTo = (socket: LinkSocket): void => {
      if (!socket.data.welcomed) return;
      waiting += 1;
      // Until the others have nearly all: #releaseHeld().
      if (socket.data.id === last) socket.data.outbox.held = true;
      this.#send(socket, bytes, sentToOne);
    };
    // Whose process waits gets it first: waking the others takes time too.
    const asker = this.#asker;
    if (asker !== undefined) sendTo(asker);
    for (const socket of this.#sockets.values()) if (socket !== asker) sendTo(socket);
    sentToOne?.();
  }

  /** Lets those go on that were held back, when nobody else is far behind. */
  #releaseHeld(): void {
    let held = false;
    for (const { data } of this.#sockets.values()) {
      held ||= data.outbox.held;
      if (!data.outbox.held && data.outbox.size > OUTBOX_HIGH) return;
    }
    if (!held) return;
    for (const socket of this.#sockets.values()) {
      if (!socket.data.outbox.held) continue;
      socket.data.outbox.held = false;
      this.#closeIfSent(socket);
    }
  }

  /** While any link is far behind we read from none: writers wait, queues stay bounded. */
  #regulate(): void {
    this.#releaseHeld();
    let behind = false;
    for (const socket of this.#sockets.values()) behind ||= socket.data.outbox.size > OUTBOX_HIGH;
    if (behind === this.#paused) return;
    this.#paused = behind;
    for (const socket of this.#sockets.values()) {
      if (this.#unproven.has(socket)) continue;
      if (behind) socket.pause();
      else socket.resume();
    }
  }

  /**
   * A few pieces of a picture whenever the link has taken what it got, and then everybody else has a turn: so it neither
   * fills a queue nor holds up the order.
   */
  #sendPicture(socket: LinkSocket): void {
    const link = socket.data;
    if (!this.#sequencer.hasPicture(link.id) || link.outbox.size > 0) return;
    clearTimeout(link.timer);
    let more = true;
    for (let piece = 0; more && piece < PIECES_AT_ONCE && link.outbox.size === 0; piece += 1) {
      more = this.#sequencer.nextPiece(link.id);
    }
    if (!more) {
      this.#close(socket);
      return;
    }
    link.timer = setTimeout(() => socket.terminate(), PICTURE_STALL_MS);
    if (link.outbox.size === 0) setImmediate(() => this.#sendPicture(socket));
  }

  #refuse(socket: LinkSocket): void {
    const text = `the session's server has ${this.#sockets.size} connections, all it can have`;
    socket.data.closing = true;
    this.#refusals += 1;
    // Over TLS nothing can be said before the handshake.
    if (this.#refusals > REFUSALS_MAX || this.#tls) {
      socket.terminate();
      return;
    }
    socket.write(encode({ kind: Kind.FAIL, op: Status.LIMIT, body: encodeText(text) }));
    // We read on, and forget it: whoever is still writing to a closed connection does not get what it was told.
    socket.shutdown();
  }

  #close(socket: LinkSocket): void {
    socket.data.closing = true;
    this.#closeIfSent(socket);
  }

  #closeIfSent(socket: LinkSocket): void {
    if (socket.data.closing && socket.data.outbox.size === 0) socket.end();
  }

  #closed(socket: LinkSocket): void {
    const link = socket.data;
    this.#unproven.delete(socket);
    clearTimeout(link.timer);
    if (link.refused) this.#refusals -= 1;
    if (!this.#sockets.delete(link.id)) return;
    this.#sequencer.disconnect(link.id);
    if (this.#endsUnused && link.welcomed && !this.#sequencer.hadProcess) this.endUnused(UNUSED_AGAIN_TIMEOUT_MS);
    this.#regulate();
    this.#checkFinished();
  }

  /** After the end: everybody has all entries, then the connections go. */
  #checkFinished(): void {
    if (!this.#finishing) return;
    for (const socket of this.#sockets.values()) if (socket.data.outbox.size > 0) return;
    for (const socket of [...this.#sockets.values()]) socket.end();
    clearTimeout(this.#unused);
    this.#finish(0);
  }
}
