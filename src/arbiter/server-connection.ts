/**
 * ServerConnection: one connection of the arbiter to a server of its session.
 *
 *     connecting ---- WELCOME ----> welcomed ----> closed
 *         '------- FAIL, timeout, lost connection ---^
 *
 * While it is connecting, a server that recovers may ask for this node's state. Once welcomed, it hands entries to the
 * receiver that follows it, acknowledges what that has received, and exchanges heartbeats with the server.
 *
 * Invariants: the receiver gets every frame behind the WELCOME once, in sequence; follow() is called in the turn of the
 * event loop in which open() settles, so the frames kept until then are no more than came in one chunk with the
 * WELCOME; `onClosed` is the last call.
 */
import type { Socket } from "bun";
import type { Security } from "../core/access/tls.ts";
import { DsmError, statusCode } from "../core/base/errors.ts";
import { FRAME_MAX, OUTBOX_HIGH, WELCOME_MAX } from "../core/base/limits.ts";
import { formatAddress } from "../core/base/names.ts";
import type { NodeHello } from "../core/messages/node-handshake.ts";
import { At, FailAt, HEADER_SIZE, PingAt, PublishAt, WelcomeAt } from "../core/wire/at.ts";
import { bodyText, encode, encodeJson, ProtocolError } from "../core/wire/frame.ts";
import { detachBuffer, FrameReader, type PartPool } from "../core/wire/frame-reader.ts";
import { encodeHandshake } from "../core/wire/handshake.ts";
import { Kind, PingOp, PublishOp } from "../core/wire/kinds.ts";
import { Outbox, rethrowIfBug, type Sent } from "../core/wire/outbox.ts";
import type { Sharing } from "../core/wire/shared-parts.ts";
import type { LinkEnd } from "../transport/greet-server.ts";
import { dialServer, type Route, type ServerAddress } from "./dial-server.ts";
import { type DeliveryEvents, EntryDelivery, type EntryReceiver } from "./entry-delivery.ts";
import { Heartbeat } from "./heartbeat.ts";
import { PartExchange } from "./part-exchange.ts";

/** Smaller parts are copied by the receiver. */
const OWN_PART_MIN = 64 << 10;

/** Reason a connection ended; completes the sentence "the server of session X at Y ...". */
export class ConnectionLost extends Error {}

/** Events for the owner of a followed connection; `afterEvent` also when the server takes more bytes again. */
export interface ConnectionEvents extends DeliveryEvents {
  /** DsmError: the server refuses this node. */
  onClosed(why: ConnectionLost | DsmError): void;
}

export interface ConnectionOptions {
  address: ServerAddress & { instance: string };
  security: Security;
  hello: NodeHello;
  /** Maximum wait for the WELCOME; each PING of a recovering server extends it. */
  welcomeTimeoutMs: number;
  /** Memory of the parts of large publications. */
  parts: PartPool;
  /** How parts go to and from a server on this host; null: over the connection. */
  sharing: Sharing | null;
  /** The frames with all that a server needs to take over. Null: a new node has no state to hand over. */
  state: (() => Iterator<Uint8Array>) | null;
}

export interface OpenedConnection {
  /** The body of the WELCOME. */
  welcome: string;
  connection: ServerConnection;
}

export class ServerConnection {
  readonly #options: ConnectionOptions;
  #state: "connecting" | "welcomed" | "closed" = "connecting";
  readonly #opened = Promise.withResolvers<OpenedConnection>();
  #socket: { socket: Socket; outbox: Outbox; route: Route } | null = null;
  readonly #reader: FrameReader;
  #parts: PartExchange;
  readonly #heartbeat: Heartbeat;
  readonly #welcomeTimer: Timer;
  /** The part of this node's state that is still to be sent. */
  #outgoingState: Iterator<Uint8Array> | null = null;
  /** The entries behind the WELCOME. */
  readonly #delivery = new EntryDelivery(() => setImmediate(() => Bun.gc(false)));
  /** Null before follow(), and after drop(). */
  #events: ConnectionEvents | null = null;
  /** The reason why the connection was closed before follow(). */
  #closedEarly: ConnectionLost | DsmError | null = null;

  private constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#reader = new FrameReader(WELCOME_MAX, options.parts);
    this.#parts = new PartExchange(options.parts, null);
    this.#heartbeat = new Heartbeat({
      timeoutMs: options.hello.heartbeatMs,
      onIdle: () => {
        if (this.queued === 0) this.#acknowledge(PingOp.BEAT);
      },
      onSilence: () => this.#close(new ConnectionLost("does not answer")),
    });
    this.#welcomeTimer = setTimeout(() => this.#close(new ConnectionLost("does not answer")), options.welcomeTimeoutMs);
  }

  /**
   * Settles with the server's WELCOME. Throws ConnectionLost, or the DsmError with which the server refuses the node.
   */
  static open(options: ConnectionOptions): Promise<OpenedConnection> {
    const connection = new ServerConnection(options);
    connection.#dial();
    return connection.#opened.promise;
  }

  /** Bytes in the send queue. */
  get queued(): number {
    return this.#socket?.outbox.size ?? 0;
  }

  /** Whether the server ends with the arbiter's container. */
  get isInside(): boolean {
    return this.#socket?.route.isInside ?? false;
  }

  /** Passes the entries after the WELCOME to the receiver from now on; may call the events at once. */
  follow(receiver: EntryReceiver, events: ConnectionEvents): void {
    this.#events = events;
    const offer = this.#parts.offer();
    if (offer !== null) this.send(offer);
    this.#delivery.follow(receiver, events);
    if (this.#closedEarly !== null) events.onClosed(this.#closedEarly);
  }

  /** Sends whole frames; `bytes` is valid during the call only, or, with `onSent`, until that is called. */
  send(bytes: Uint8Array, onSent?: Sent): void {
    this.#heartbeat.sent();
    const outbox = this.#socket?.outbox;
    if (outbox === undefined) {
      onSent?.(true);
      return;
    }
    // A part stays at its place until it has come back from the server, or is no longer needed.
    const reference = onSent === undefined ? null : this.#parts.reference(bytes);
    let isAccepted: boolean;
    if (reference === null) isAccepted = outbox.send(bytes, onSent);
    else {
      isAccepted = outbox.send(reference);
      onSent?.(!isAccepted);
    }
    if (!isAccepted) this.#close(new ConnectionLost("takes no more"));
  }

  /** Tells the server that this node needs its place no more. The server then closes the connection. */
  leave(): void {
    this.#delivery.stop();
    this.send(encode({ kind: Kind.PING, op: PingOp.LEAVING }));
  }

  /** Closes the connection once the queue is sent; no event follows. */
  end(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#delivery.stop();
    this.#stopTimers();
    this.#socket?.socket.end();
  }

  /** Closes the connection at once; no event follows. */
  drop(): void {
    this.#events = null;
    this.#close(new ConnectionLost("was given up"));
  }

  #dial(): void {
    const { address, security, hello } = this.#options;
    dialServer(address, security, encodeHandshake(Kind.HELLO, encodeJson(hello)), {
      open: (socket, route) => this.#open(socket, route),
      data: (chunk) => this.#data(chunk),
      drain: () => {
        this.#socket?.outbox.drain();
        this.#sendState();
        this.#events?.afterEvent();
      },
      refused: (error) => this.#refuse(error),
      over: (end) => this.#over(end),
    });
  }

  #open(socket: Socket, route: Route): ((bytes: Uint8Array) => void) | null {
    if (this.#state === "closed") return null;
    this.#socket = { socket, outbox: new Outbox((bytes) => socket.write(bytes)), route };
    if (route.isLocal) this.#parts = new PartExchange(this.#options.parts, this.#options.sharing);
    return (bytes) => this.send(bytes);
  }

  #over({ how, words, error }: LinkEnd): void {
    if (how === "failed") rethrowIfBug(error as Error);
    const { host, port } = this.#options.address;
    const noTls = `no TLS with the server at ${formatAddress(host, port)}: ${tlsReason(error)}`;
    this.#close(how === "untrusted" ? new DsmError("DSM_REFUSED", noTls) : new ConnectionLost(words));
  }

  #refuse(error: unknown): void {
    if (error instanceof DsmError || error instanceof ConnectionLost) this.#close(error);
    else if (error instanceof ProtocolError) this.#close(notAServer(this.#options.address, error));
    else throw error;
  }

  #close(why: ConnectionLost | DsmError): void {
    if (this.#state === "closed") return;
    const wasWelcomed = this.#state === "welcomed";
    this.#state = "closed";
    this.#delivery.stop();
    this.#stopTimers();
    this.#socket?.socket.terminate();
    this.#socket?.outbox.clear();
    this.#parts.close();
    // A frame of the reader may be in use further up the stack.
    queueMicrotask(() => this.#reader.end());
    if (!wasWelcomed) this.#opened.reject(why);
    else if (this.#events === null) this.#closedEarly = why;
    else this.#events.onClosed(why);
  }

  #stopTimers(): void {
    clearTimeout(this.#welcomeTimer);
    this.#heartbeat.stop();
  }

  #data(chunk: Uint8Array): void {
    this.#heartbeat.received();
    if (this.#state === "closed") return;
    if (this.#state === "welcomed" && !this.#delivery.isFollowed) throw new Error("a connection that is not followed");
    try {
      this.#read(chunk);
      detachBuffer(chunk);
    } catch (error) {
      this.#refuse(error);
    }
  }

  #read(chunk: Uint8Array): void {
    /** Consecutive entries of the chunk that are passed on at once: [from, to). */
    let from = 0;
    let to = 0;
    /** The server measures the round trip. */
    let isAsked = false;
    const deliverRun = (): void => {
      if (to > from) this.#delivery.entries(chunk.subarray(from, to));
      to = from;
    };
    // Entries may follow the WELCOME in one chunk.
    this.#reader.push(chunk, (view, at, size, bytes) => {
      if (this.#state === "closed") return;
      const kind = view.getUint8(at + At.kind);
      if (this.#state === "connecting" || kind === Kind.FAIL) {
        deliverRun();
        this.#handshakeFrame(kind, view, at, size, bytes);
        return;
      }
      if (kind === Kind.PING && view.getUint8(at + PingAt.op) === PingOp.ASK) isAsked = true;
      const part = kind === Kind.PUBLISH ? view.getUint8(at + PublishAt.part) : PublishOp.FINAL;
      const isOwnPart = part === PublishOp.PART && size >= OWN_PART_MIN;
      if (bytes === chunk && kind !== Kind.SHARE && part !== PublishOp.PART_IN_SHARED_MEMORY && !isOwnPart) {
        if (to === from) from = at;
        to = at + size;
        return;
      }
      deliverRun();
      if (kind === Kind.SHARE) this.#handleShare(view, at);
      else if (part === PublishOp.PART_IN_SHARED_MEMORY) this.#deliverPart(this.#copyPart(view, at));
      else if (isOwnPart) this.#deliverPart(this.#reader.take(at, size, bytes));
      else this.#delivery.entries(bytes.subarray(at, at + size));
    });
    deliverRun();
    if (this.#isWelcomed) this.#acknowledgeChunk(isAsked);
  }

  get #isWelcomed(): boolean {
    return this.#state === "welcomed";
  }

  #handshakeFrame(kind: number, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const length = Math.min(view.getUint32(at + WelcomeAt.bodyLength, true), size - HEADER_SIZE);
    const body = bodyText(bytes, at + HEADER_SIZE, length);
    switch (kind) {
      case Kind.FAIL:
        throw new DsmError(statusCode(view.getUint8(at + FailAt.status)), body);
      case Kind.PING:
        // The server is alive and waits for other nodes.
        this.#welcomeTimer.refresh();
        return;
      case Kind.STATE:
        if (this.#options.state === null) throw new ProtocolError("it asks a new node for its state");
        this.#outgoingState = this.#options.state();
        this.#sendState();
        return;
      case Kind.WELCOME:
        this.#welcome(body, view.getUint8(at + WelcomeAt.isResume) === 1);
        return;
      default:
        throw new ProtocolError("no welcome");
    }
  }

  #welcome(body: string, isResume: boolean): void {
    if (isResume !== (this.#options.hello.resume !== null)) throw new ProtocolError("the welcome is for another node");
    this.#state = "welcomed";
    this.#reader.limit = FRAME_MAX;
    clearTimeout(this.#welcomeTimer);
    this.#heartbeat.start();
    this.#opened.resolve({ welcome: body, connection: this });
  }

  /** Sends as much of this node's state as the connection takes. */
  #sendState(): void {
    while (this.#outgoingState !== null && this.#state !== "closed" && this.queued < OUTBOX_HIGH) {
      const piece = this.#outgoingState.next();
      if (piece.done === true) this.#outgoingState = null;
      else this.send(piece.value);
    }
  }

  #deliverPart(part: Uint8Array<ArrayBuffer>): void {
    if (!this.#delivery.part(part)) this.#parts.give(part);
  }

  #handleShare(view: DataView, at: number): void {
    const answer = this.#parts.handleShare(view, at);
    if (answer !== null) this.send(answer);
  }

  #copyPart(view: DataView, at: number): Uint8Array<ArrayBuffer> {
    const part = this.#parts.copy(view, at);
    if (part === null) throw new ConnectionLost("went on without us");
    return part;
  }

  #acknowledgeChunk(isAsked: boolean): void {
    if (isAsked) this.#acknowledge(PingOp.ANSWER);
    else if (this.#delivery.needsAcknowledgement) this.#acknowledge(PingOp.BEAT);
  }

  #acknowledge(op: number): void {
    this.send(encode({ kind: Kind.PING, op, offset: this.#delivery.acknowledge() }));
  }
}

/** The error for a peer that does not speak the protocol. */
export function notAServer({ host, port }: ServerAddress, error: ProtocolError): DsmError {
  const address = formatAddress(host, port);
  return new DsmError("DSM_PROTOCOL", `${address} is not a dsm server: ${error.message}; check DSM_DAEMON`);
}

function tlsReason(error: Error | null): string {
  const code = (error as { code?: string } | null)?.code;
  if (code === "EPROTO") return "it does not speak TLS, or refuses our certificate (DSM_TLS_CERT)";
  return error?.message || code || "its certificate is not good";
}
