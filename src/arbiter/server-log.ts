/**
 * The embedded engine of an OrderedLog, seen from an arbiter: `dsm server` over TCP. A connection that breaks, or on
 * which nothing comes any more, is made again until the time for that is over.
 */
import type { Socket } from "bun";
import { OPEN, type Security } from "../core/auth.ts";
import { DsmError, statusCode } from "../core/errors.ts";
import { FrameReader, freeNow, type PartPool } from "../core/frames.ts";
import { Borrowed, encodeAccept, type Sharing } from "../core/lending.ts";
import {
  ACK_BYTES,
  FAREWELL_TIMEOUT_MS,
  FRAME_MAX,
  GREETING_TIMEOUT_MS,
  HEARTBEATS,
  OUTBOX_HIGH,
  RECONNECT_PAUSE_MAX_MS,
  RECONNECT_PAUSE_MIN_MS,
  WELCOME_MAX,
} from "../core/limits.ts";
import type { LogFollower, OrderedLog } from "../core/log.ts";
import { formatAddress, serverSocketName } from "../core/names.ts";
import { failStop, Outbox, type Sent } from "../core/outbox.ts";
import {
  bodyText,
  encode,
  encodeGreeting,
  encodeJson,
  HEADER_SIZE,
  Kind,
  PingOp,
  ProtocolError,
  PublishOp,
} from "../core/protocol.ts";
import type { NodeHello, Welcome } from "../core/sequencer.ts";
import { parseResumed, parseWelcome } from "../core/welcome.ts";
import { greetServer, type LinkEnd } from "../link/greet-server.ts";
import { isContained } from "../link/own-process.ts";
import { isOutside, isOwnPeer, tellsPeers } from "../link/peer-user.ts";

/** Smaller parts are copied by who keeps them. */
const OWN_PART_MIN = 64 << 10;

/**
 * After so many bytes of entries garbage is collected. Each part of a publication leaves small objects behind, of which the
 * collector would let megabytes come together.
 */
const COLLECT_BYTES = 32 << 20;

/** One attempt to come back has at least this long. */
const RESUME_TIMEOUT_MIN_MS = 1_000;

/** Why a connection is no more, in words that follow "the server of session ... at ...". */
class Broken extends Error {}

interface Connection {
  readonly queued: number;
  /** `sent`: see append(). */
  send(bytes: Uint8Array, sent?: Sent): void;
  /** The server ends with the container that we are in. */
  readonly inside: boolean;
  /** What was sent still goes out. */
  end(): void;
}

interface Handlers {
  /** The first frame, and whether it is for one that came back. */
  welcomed(body: string, resumed: boolean): void;
  entries(bytes: Uint8Array): void;
  part(frame: Uint8Array<ArrayBuffer>): void;
  drained(): void;
  /** The last call. DsmError: the server does not want us (any more). */
  closed(why: Broken | DsmError): void;
  /** The last entry that came, and the bytes of all that did. */
  applied(): { seq: number; bytes: number };
  /** All that a server needs to take over. */
  state(): Iterator<Uint8Array>;
}

export interface ServerAddress {
  host: string;
  port: number;
  epoch: number;
}

export interface ServerLogOptions {
  heartbeatMs: number;
  /** Where the session's server is now: asked when it cannot be reached. Throws DsmError. */
  locate(known: ServerAddress): Promise<ServerAddress>;
  /** Memory for the parts of large publications that the follower gets, who gives it back, and of those it appends. */
  parts: PartPool;
  /** How parts go to and from a server on this host; null: over the connection. */
  sharing: Sharing | null;
}

export class ServerLog implements OrderedLog {
  readonly #instance: string;
  #address: ServerAddress;
  readonly #options: ServerLogOptions;
  #connection: Connection | null = null;
  #closed = false;
  #onClosed: () => void = () => {};

  readonly #security: Security;

  constructor(address: ServerAddress & { instance: string }, options: ServerLogOptions, security: Security = OPEN) {
    this.#instance = address.instance;
    this.#address = address;
    this.#security = security;
    this.#options = options;
  }

  get queued(): number {
    return this.#connection?.queued ?? 0;
  }

  get away(): boolean {
    return this.#connection === null;
  }

  /** Throws DSM_UNREACHABLE when nobody is there (any more), else what the server says against us. */
  async open(hello: NodeHello, follower: LogFollower): Promise<Welcome> {
    try {
      return parseWelcome(await this.#connect(hello, follower, false), hello);
    } catch (error) {
      throw this.#explain(hello, error);
    }
  }

  append(bytes: Uint8Array, sent?: Sent): void {
    if (this.#connection === null) sent?.(true);
    else this.#connection.send(bytes, sent);
  }

  close(closed: () => void): void {
    const connection = this.#connection;
    const once = this.#closed;
    this.#closed = true;
    if (once || connection === null) {
      closed();
      return;
    }
    connection.send(encode({ kind: Kind.PING, op: PingOp.LEAVING }));
    if (!connection.inside) {
      connection.end();
      closed();
      return;
    }
    const timer = setTimeout(() => {
      connection.end();
      closed();
    }, FAREWELL_TIMEOUT_MS);
    this.#onClosed = () => {
      clearTimeout(timer);
      closed();
    };
  }

  #explain(hello: NodeHello, error: unknown): unknown {
    if (!(error instanceof Broken)) return error;
    const address = formatAddress(this.#address.host, this.#address.port);
    return new DsmError("DSM_UNREACHABLE", `the server of session "${hello.session}" at ${address} ${error.message}`);
  }

  /** Settles with the server's welcome. From then on the end of the connection goes to #interrupted(). */
  #connect(hello: NodeHello, follower: LogFollower, resumes: boolean): Promise<string> {
    return new Promise((resolve, reject) => {
      let connection: Connection | null = null;
      const greeting = encodeGreeting(Kind.HELLO, encodeJson(hello));
      const { heartbeatMs } = this.#options;
      const greetingMs = resumes ? Math.max(heartbeatMs, RESUME_TIMEOUT_MIN_MS) : GREETING_TIMEOUT_MS;
      connection = connect(
        this.#instance,
        this.#address,
        this.#security,
        greeting,
        greetingMs,
        heartbeatMs,
        this.#options.parts,
        this.#options.sharing,
        {
          welcomed: (body, resumed) => {
            if (resumed !== resumes) throw new ProtocolError("the welcome is for somebody else");
            this.#connection = connection;
            // Entries follow at once: the follower must know before they come.
            if (resumes) follower.resumed(parseResumed(body));
            resolve(body);
          },
          entries: (bytes) => {
            if (!this.#closed) follower.entries(bytes);
          },
          part: (frame) => {
            if (!this.#closed) follower.part(frame);
          },
          drained: () => follower.drained(),
          applied: () => follower.applied(),
          state: () => follower.state(),
          closed: (why) => {
            if (this.#connection === connection && connection !== null) {
              this.#connection = null;
              if (this.#closed) this.#onClosed();
              else this.#interrupted(hello, follower, why);
            } else {
              reject(why);
            }
          },
        },
      );
    });
  }

  #interrupted(hello: NodeHello, follower: LogFollower, why: Broken | DsmError): void {
    if (why instanceof DsmError || hello.reconnectMs === 0) {
      follower.lost(this.#explain(hello, why) as DsmError);
      return;
    }
    follower.interrupted();
    void this.#reconnect(hello, follower);
  }

  async #reconnect(hello: NodeHello, follower: LogFollower): Promise<void> {
    const deadline = performance.now() + hello.reconnectMs;
    for (let pause = RECONNECT_PAUSE_MIN_MS; ; pause = Math.min(2 * pause, RECONNECT_PAUSE_MAX_MS)) {
      try {
        await this.#connect({ ...hello, resume: follower.position() }, follower, true);
        return;
      } catch (error) {
        if (this.#closed) return;
        if (!(error instanceof Broken) && !(error instanceof DsmError)) throw error;
        const mayPass = error instanceof Broken || error.code === "DSM_AGAIN";
        if (!mayPass || performance.now() >= deadline) {
          follower.lost(this.#explain(hello, error) as DsmError);
          return;
        }
      }
      await Bun.sleep(pause);
      if (!(await this.#locate(hello, follower))) return;
    }
  }

  /** Asks where the server is now. False: there is nothing to go on with. */
  async #locate(hello: NodeHello, follower: LogFollower): Promise<boolean> {
    if (this.#closed) return false;
    let found = this.#address;
    try {
      found = await this.#options.locate(this.#address);
    } catch (error) {
      if (!(error instanceof DsmError)) throw error;
      if (error.code === "DSM_ENDED" && !this.#closed) {
        const message = `the server of session "${hello.session}" is gone, and the session with it`;
        follower.lost(new DsmError("DSM_UNREACHABLE", message));
        return false;
      }
      // Without a daemon the server may still be where it was.
    }
    if (this.#closed) return false;
    // From here on an older server is not listened to, whatever becomes of this one.
    if (follower.promise(found.epoch)) this.#address = found;
    return true;
  }
}

function tlsReason(error: Error | null): string {
  const code = (error as { code?: string } | null)?.code;
  if (code === "EPROTO") return "it does not speak TLS, or refuses our certificate (DSM_TLS_CERT)";
  return error?.message || code || "its certificate is not good";
}

/** By the server's Unix socket if it is on this host, and ours, else by TCP. */
function connect(
  instance: string,
  { host, port, epoch }: ServerAddress,
  security: Security,
  greeting: Uint8Array,
  greetingMs: number,
  heartbeatMs: number,
  parts: PartPool,
  sharing: Sharing | null,
  handlers: Handlers,
): Connection {
  let socket: Socket | undefined;
  let outbox: Outbox | undefined;
  let welcomed = false;
  let ended = false;
  /** Heartbeats since anything came, whether anything was sent since the last, and bytes acknowledged. */
  let silent = 0;
  let sent = false;
  let acknowledged = 0;
  /** Bytes when garbage was collected last. */
  let collected = 0;
  let heartbeat: Timer | undefined;
  /** It is the server's Unix socket. */
  let local = false;
  let inside = false;
  /** Memory of the server's in which parts lie, and whether it has ours. */
  const borrowed = new Borrowed();
  let borrows = false;

  const close = (why: Broken | DsmError): void => {
    if (ended) return;
    ended = true;
    clearTimeout(timer);
    clearInterval(heartbeat);
    socket?.terminate();
    outbox?.clear();
    borrowed.close();
    // Its frame may be being handled.
    queueMicrotask(() => reader.end());
    handlers.closed(why);
  };
  const timer = setTimeout(() => close(new Broken("does not answer")), greetingMs);
  /** The state that a server that takes over wants, as far as it was not sent. */
  let state: Iterator<Uint8Array> | null = null;
  const handOver = (): void => {
    while (state !== null && !ended && (outbox?.size ?? 0) < OUTBOX_HIGH) {
      const piece = state.next();
      if (piece.done === true) state = null;
      else send(piece.value);
    }
  };
  const send = (bytes: Uint8Array, left?: Sent): void => {
    sent = true;
    // A part stays where it is until it has come back from the server, or nobody wants it any more.
    const reference = borrows && left !== undefined ? parts.reference(bytes) : null;
    let taken = true;
    if (outbox === undefined) left?.(true);
    else if (reference === null) taken = outbox.send(bytes, left);
    else {
      taken = outbox.send(reference);
      left?.(!taken);
    }
    if (!taken) close(new Broken("takes no more"));
  };
  const acknowledge = (op: number = PingOp.BEAT): void => {
    const { seq, bytes } = handlers.applied();
    acknowledged = bytes;
    send(encode({ kind: Kind.PING, op, offset: seq }));
  };
  const beat = (): void => {
    silent += 1;
    if (silent > HEARTBEATS) close(new Broken("does not answer"));
    else if (!sent && outbox?.size === 0) acknowledge();
    sent = false;
  };

  const share = (view: DataView, at: number): void => {
    const heard = borrowed.heard(local ? sharing : null, view, at);
    if (heard === "borrows") borrows = true;
    else if (heard === "lends") send(encodeAccept());
  };
  const borrow = (view: DataView, at: number): void => {
    const part = borrowed.copy(view, at, parts);
    if (part === null) throw new Broken("went on without us");
    handlers.part(part);
  };

  const reader = new FrameReader(WELCOME_MAX, parts);
  const read = (chunk: Uint8Array): void => {
    /** Entries that lie side by side in the chunk and are handed over at once: [from, to). */
    let from = 0;
    let to = 0;
    /** The server measures how long an answer takes. */
    let asked = false;
    const handOn = (): void => {
      if (to > from && !ended) handlers.entries(chunk.subarray(from, to));
      to = from;
    };
    // Entries may follow the welcome in one chunk.
    reader.push(chunk, (view, at, size, bytes) => {
      if (ended) return;
      const kind = view.getUint8(at + 4);
      if (welcomed && kind !== Kind.FAIL) {
        if (kind === Kind.PING && view.getUint8(at + 5) === PingOp.ASK) asked = true;
        const isLent = kind === Kind.PUBLISH && view.getUint8(at + 5) === PublishOp.LENT;
        if (isLent || kind === Kind.SHARE) {
          handOn();
          if (isLent) borrow(view, at);
          else share(view, at);
          return;
        }
        const isPart = kind === Kind.PUBLISH && view.getUint8(at + 5) === PublishOp.MORE && size >= OWN_PART_MIN;
        if (bytes === chunk && !isPart) {
          if (to === from) from = at;
          to = at + size;
          return;
        }
        handOn();
        if (isPart) handlers.part(reader.take(at, size, bytes));
        else handlers.entries(bytes.subarray(at, at + size));
        return;
      }
      handOn();
      const body = bodyText(bytes, at + HEADER_SIZE, Math.min(view.getUint32(at + 32, true), size - HEADER_SIZE));
      if (kind === Kind.FAIL) throw new DsmError(statusCode(view.getUint8(at + 5)), body);
      if (kind === Kind.PING) {
        // It waits for others.
        timer.refresh();
        return;
      }
      if (kind === Kind.STATE) {
        state = handlers.state();
        handOver();
        return;
      }
      if (kind !== Kind.WELCOME) throw new ProtocolError("no welcome");
      welcomed = true;
      reader.limit = FRAME_MAX;
      clearTimeout(timer);
      heartbeat = setInterval(beat, heartbeatMs / HEARTBEATS);
      handlers.welcomed(body, view.getUint8(at + 5) === 1);
      const offer = local && sharing !== null ? parts.offer(sharing) : null;
      if (offer !== null) send(offer);
    });
    handOn();
    if (ended || !welcomed) return;
    if (asked) acknowledge(PingOp.ANSWER);
    else if (handlers.applied().bytes - acknowledged >= ACK_BYTES) acknowledge();
    if (acknowledged - collected >= COLLECT_BYTES) {
      collected = acknowledged;
      setImmediate(() => Bun.gc(false));
    }
  };

  const refuse = (error: unknown): void => {
    if (error instanceof DsmError || error instanceof Broken) close(error);
    else if (error instanceof ProtocolError) {
      const address = formatAddress(host, port);
      close(new DsmError("DSM_PROTOCOL", `what listens at ${address} is no dsm server: ${error.message}`));
    } else throw error;
  };

  const common = {
    open: (connected: Socket): typeof send | null => {
      socket = connected;
      if (ended) return null;
      outbox = new Outbox((bytes) => connected.write(bytes));
      return send;
    },
    data: (chunk: Uint8Array): void => {
      silent = 0;
      if (ended) return;
      try {
        read(chunk);
        freeNow(chunk);
      } catch (error) {
        refuse(error);
      }
    },
    drain: (): void => {
      outbox?.drain();
      handOver();
      handlers.drained();
    },
    refused: refuse,
    over: ({ how, words, error }: LinkEnd): void => {
      if (how === "failed") failStop(error as Error);
      const noTls = `no TLS with the server at ${formatAddress(host, port)}: ${tlsReason(error)}`;
      close(how === "untrusted" ? new DsmError("DSM_REFUSED", noTls) : new Broken(words));
    },
  };
  const overTcp = (): void => {
    if (ended) return;
    greetServer({ host, port }, security, greeting, {
      ...common,
      open: (connected) => {
        connected.setNoDelay(true);
        return common.open(connected);
      },
    });
  };
  const overUnix = (): void => {
    let own = false;
    let tried = false;
    const unix = serverSocketName(instance, epoch, port);
    greetServer({ host, port, unix }, security, greeting, {
      ...common,
      open: (connected) => {
        own = isOwnPeer(connected);
        local = own;
        inside = own && isContained && !isOutside(connected);
        return own ? common.open(connected) : null;
      },
      over: (end) => {
        if (own) common.over(end);
        else if (!tried) {
          tried = true;
          overTcp();
        }
      },
    });
  };
  if (tellsPeers) overUnix();
  else overTcp();

  return {
    get queued() {
      return outbox?.size ?? 0;
    },
    get inside() {
      return inside;
    },
    send,
    end: () => {
      ended = true;
      clearTimeout(timer);
      clearInterval(heartbeat);
      socket?.end();
    },
  };
}
