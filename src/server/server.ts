/** `dsm server`: the sequencer's shell. Carries bytes between TCP connections and the core, and nothing else. */
import { randomBytes } from "node:crypto";
import type { Socket, UnixSocketListener } from "bun";
import { addressOf } from "../core/addresses.ts";
import { checkListening, LinkGuard, mustProve, NONCE_SIZE, OPEN, type Security, type Tls } from "../core/auth.ts";
import type { Directory } from "../core/directory.ts";
import { DsmError, Status, systemCode } from "../core/errors.ts";
import { freeNow, PartPool } from "../core/frames.ts";
import type { SessionImage } from "../core/image.ts";
import type { Sharing } from "../core/lending.ts";
import {
  ADDRESS_SLOTS,
  ADDRESS_WIDE_SLOTS,
  DEFAULT_SIZE,
  GREETING_TIMEOUT_MS,
  HEARTBEAT_TIMEOUT_MS,
  HEARTBEATS,
  JOINING_SETTLE_MS,
  LINKS_MAX,
  OUTBOX_HIGH,
  OUTBOX_MAX,
  PICTURE_STALL_MS,
  RECONNECT_TIMEOUT_MS,
  RECOVERY_BEAT_MS,
  REFUSALS_MAX,
  REGISTER_INTERVAL_MS,
  TRACE_INTERVAL_MS,
  UNPROVEN_LINKS_MAX,
  UNUSED_AGAIN_TIMEOUT_MS,
  UNUSED_TIMEOUT_MS,
} from "../core/limits.ts";
import { DEFAULT_ON_LOSS, type OnLoss } from "../core/loss.ts";
import type { ApplyRuns } from "../core/memory.ts";
import { checkName, checkProcesses, fnv1a64, serverSocketName } from "../core/names.ts";
import { DEFAULT_ORDER, type Order } from "../core/order.ts";
import { failStop, Outbox, type Sent } from "../core/outbox.ts";
import { encode, encodeText, Kind, ProtocolError } from "../core/protocol.ts";
import { type Recovered, Recovery, type RecoveryConfig } from "../core/recovery.ts";
import { type AwayNode, Sequencer, type SequencerOutput, STAGED_PER_MAP_BYTE } from "../core/sequencer.ts";
import type { SessionConfig } from "../core/session.ts";
import { checkSize, pageRound } from "../core/size.ts";
import { hasEnded, isContained, isInside } from "../link/own-process.ts";
import { Listener } from "./listening.ts";

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
  /** Which server of the session this is; left out: the first. */
  epoch?: number;
  /** Of a later one: whether the one before is known to be gone, or only does not answer. */
  predecessor?: "gone" | "silent";
  /** Address slot of the map; left out: chosen by the session's name. */
  slot?: number;
  /**
   * Whether our own user is at the other end of a Unix socket: then arbiters on this host may come by one, which costs half
   * of what TCP does. Null, or left out: by TCP only.
   */
  isOwnPeer?: ((socket: object) => boolean) | null;
  /** How the parts of large publications go to and from arbiters that come by the Unix socket; null, or left out: through it. */
  sharing?: Sharing | null;
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
  /** Connections that come from now on get that certificate; those that are there go on. */
  useTls(tls: Tls): void;
}

/** The time since 1970, which does not go back when somebody sets the clock. */
const now_ms = (): number => performance.timeOrigin + performance.now();

/** How often the arbiter of a node that is away is looked for on this host. */
const AWAY_WATCH_MS = 20;

interface AwayTimers {
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
  /** It came by the Unix socket, and has our memory mapped. */
  local: boolean;
  borrows: boolean;
  tracing: boolean;
  timer: Timer;
  heartbeat: Timer | undefined;
  /** Heartbeats since anything came. */
  silent: number;
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
  const slot = options.slot ?? Number(BigInt(`0x${fnv1a64(options.session)}`) % BigInt(ADDRESS_WIDE_SLOTS));
  if (!(slot >= 0 && slot < ADDRESS_SLOTS)) throw new DsmError("DSM_INVALID", `slot ${slot} is not possible`);
  const order = options.order ?? DEFAULT_ORDER;
  const onLoss = options.onLoss ?? DEFAULT_ON_LOSS;
  const security = options.security ?? OPEN;
  const refused = checkListening(security, options.host);
  if (refused !== null) throw new DsmError("DSM_INVALID", refused);
  const instance = options.instance ?? randomBytes(8).toString("hex");
  const epoch = options.epoch ?? 1;

  const server = new ServerShell(
    epoch,
    options.predecessor !== "silent",
    {
      name: options.session,
      instance,
      processes: options.processes,
      size,
      base: addressOf(slot),
      order,
      onLoss,
      ...(options.elastic === true ? { elastic: true } : {}),
    },
    options.restore?.map ?? allocate(size),
    options.restore?.image ?? null,
    options.connectionsMax ?? LINKS_MAX,
    options.applyRuns ?? null,
    options.sharing ?? null,
  );
  const { host, port } = server.listen(options.host, options.port, security);
  if (options.isOwnPeer) server.listenHere(serverSocketName(instance, epoch, port), options.isOwnPeer);
  if (options.directory !== null) {
    const registration = {
      name: options.session,
      ...{ instance, epoch, host, port },
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
    // A daemon that has begun anew learns of us, and we learn of a server that has taken over.
    const registering = setInterval(() => {
      options.directory?.register(registration).catch((error) => {
        if (error instanceof DsmError && error.code === "DSM_ENDED") server.replaced();
      });
    }, REGISTER_INTERVAL_MS);
    void server.over.then(() => clearInterval(registering));
  }
  if (options.endUnused === true) server.endUnused();
  const { directory } = options;
  // The session is over either way; a daemon that is gone knows nothing of it any more.
  const removed = server.over.then((isOurs) =>
    isOurs ? directory?.remove(options.session, { instance, epoch }).catch(() => false) : false,
  );
  const ended = server.ended.then(async (code) => {
    await removed;
    return code;
  });
  return { host, port, ended, stop: () => server.stop(), useTls: (tls) => server.useTls(tls) };
}

function allocate(size: number): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch {
    throw new DsmError("DSM_NO_MEMORY", `no memory for a map of ${size} bytes; choose a smaller size`);
  }
}

class ServerShell {
  /** Settles when everybody was told of the end. */
  readonly ended: Promise<number>;
  /** Settles when this server has nothing more to do. False: the session goes on with another one. */
  readonly over: Promise<boolean>;
  readonly #away = new Map<number, AwayTimers>();
  readonly #name: string;
  /** A server that takes over first learns the order, then goes on with it. */
  #sequencer: Sequencer | null = null;
  #recovery: Recovery | null = null;
  #recoveryTimers: AwayTimers | null = null;
  readonly #config: SessionConfig;
  readonly #applyRuns: ApplyRuns | null;
  readonly #sharing: Sharing | null;
  readonly #parts = new PartPool();
  readonly #memory: Uint8Array;
  readonly #sockets = new Map<number, LinkSocket>();
  /** Links that have to prove themselves first, the oldest first. The sequencer knows nothing of them. */
  readonly #unproven = new Set<LinkSocket>();
  /** What is demanded of links, or null. */
  #token: Uint8Array | null = null;
  #listener: Listener<Link> | undefined;
  #localListener: UnixSocketListener<Link> | undefined;
  /** What a link may be behind by: one largest publication comes on top, because it goes out as a whole. */
  readonly #outboxLimit: number;
  readonly #connectionsMax: number;
  /** Whose bytes are being handled. */
  #asker: LinkSocket | undefined;
  #nextLink = 1;
  /** Connections that were told there are too many, and are not closed. */
  #refusals = 0;
  #paused = false;
  #finishing = false;
  #closed = false;
  #finish: (code: number) => void = () => {};
  #end: (isOurs: boolean) => void = () => {};
  #unused: Timer | undefined;
  #endsUnused = false;

  /** `epoch`: above 1 it takes over; `certain`: its predecessor is known to be gone. */
  constructor(
    epoch: number,
    certain: boolean,
    config: SessionConfig,
    memory: Uint8Array,
    image: SessionImage | null,
    connectionsMax: number,
    applyRuns: ApplyRuns | null,
    sharing: Sharing | null,
  ) {
    this.#sharing = sharing;
    this.#connectionsMax = connectionsMax;
    this.ended = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.over = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#name = config.name;
    this.#config = config;
    this.#memory = memory;
    this.#outboxLimit = OUTBOX_MAX + memory.length * STAGED_PER_MAP_BYTE;
    this.#applyRuns = applyRuns;
    if (epoch === 1) {
      this.#sequencer = this.#sequence(null);
      if (image !== null) this.#sequencer.session.adopt(image);
    } else this.#recovery = this.#recover({ config, epoch, certain });
  }

  /** Waits for the nodes of the session, then goes on where the farthest of them is. */
  #recover(known: RecoveryConfig): Recovery {
    let waitMs = 0;
    let timeout: Timer | undefined;
    let stall: Timer | undefined;
    const recovery = new Recovery(known, this.#memory, {
      ...this.#toLinks(),
      waits: (reconnectMs) => {
        if (reconnectMs > waitMs) wait(reconnectMs);
      },
      failed: () => this.#close(true),
      recovered: (recovered, greetings) => {
        this.#recoveryTimers?.stop();
        this.#recovery = null;
        const sequencer = this.#sequence(recovered);
        this.#sequencer = sequencer;
        // In turn: each may lead to anything.
        for (const id of greetings.keys()) sequencer.connect(id);
        for (const [id, greeting] of greetings) sequencer.receive(id, greeting);
        if (sequencer.session.phase === "ended") this.#ended();
        this.#regulate();
        this.#checkFinished();
      },
    });
    const begun = performance.now();
    const wait = (ms: number): void => {
      waitMs = ms;
      clearTimeout(timeout);
      timeout = setTimeout(
        () => {
          recovery.expire();
          stall ??= setInterval(() => recovery.expire(), HEARTBEAT_TIMEOUT_MS);
        },
        Math.max(0, ms - (performance.now() - begun)),
      );
    };
    // Nobody at all: as long as everybody waits who has said nothing else.
    timeout = setTimeout(() => recovery.expire(), RECONNECT_TIMEOUT_MS);
    const settle = setTimeout(() => recovery.settle(), JOINING_SETTLE_MS);
    const beat = setInterval(() => recovery.beat(), RECOVERY_BEAT_MS);
    this.#recoveryTimers = {
      stop: () => {
        for (const timer of [timeout, settle]) clearTimeout(timer);
        for (const timer of [stall, beat]) clearInterval(timer);
      },
    };
    return recovery;
  }

  #sequence(recovered: Recovered | null): Sequencer {
    const output = this.#output();
    return new Sequencer(this.#config, this.#memory, output, this.#applyRuns, recovered, now_ms(), this.#parts);
  }

  #toLinks(): Pick<SequencerOutput, "send" | "close" | "drop" | "stop"> {
    return {
      // Once the bytes that ask for it have been handled.
      stop: () => setImmediate(() => this.stop()),
      send: (id, bytes) => {
        const socket = this.#sockets.get(id);
        if (socket !== undefined) this.#send(socket, bytes);
      },
      close: (id) => {
        const socket = this.#sockets.get(id);
        if (socket !== undefined) this.#closeLink(socket);
      },
      drop: (id) => this.#sockets.get(id)?.terminate(),
    };
  }

  #output(): SequencerOutput {
    return {
      ...this.#toLinks(),
      broadcast: (bytes, sent, except) => this.#broadcast(bytes, sent, except),
      sharing: (id) => (this.#sockets.get(id)?.data.local === true ? this.#sharing : null),
      borrows: (id) => {
        const socket = this.#sockets.get(id);
        if (socket !== undefined) socket.data.borrows = true;
      },
      welcomed: (id, heartbeatMs) => {
        const socket = this.#sockets.get(id);
        if (socket !== undefined) this.#welcomed(socket, heartbeatMs);
      },
      detains: (leaver, others) => isContained && isInside(leaver) && !others.every(isInside),
      away: (node, place) => this.#awaits(node, place),
      settled: (node) => {
        this.#away.get(node)?.stop();
        this.#away.delete(node);
      },
      replaced: () => this.replaced(),
      ended: () => this.#ended(),
    };
  }

  #ended(): void {
    this.#finishing = true;
    this.#end(true);
  }

  get #core(): Sequencer | Recovery {
    return (this.#sequencer ?? this.#recovery) as Sequencer | Recovery;
  }

  /** The session goes on with another server: nobody is told anything by this one. */
  replaced(): void {
    if (this.#closed) return;
    for (const socket of [...this.#sockets.values()]) socket.terminate();
    this.#close(false);
  }

  listen(host: string, port: number, security: Security): { host: string; port: number } {
    this.#token = mustProve(security, host) ? security.token : null;
    try {
      const listener = new Listener<Link>(host, port, security.tls, this.#handlers(null));
      this.#listener = listener;
      return { host, port: listener.port };
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new DsmError(systemCode(error), `cannot listen on ${host}:${port}: ${reason}`);
    }
  }

  useTls(tls: Tls): void {
    if (!this.#closed) this.#listener?.useTls(tls);
  }

  /** For arbiters on this host. Without it they come by TCP. */
  listenHere(name: string, isOwnPeer: (socket: object) => boolean): void {
    try {
      this.#localListener = Bun.listen<Link>({ unix: name, socket: this.#handlers(isOwnPeer) });
    } catch {
      // Somebody has the name.
    }
  }

  /** `isOwnPeer`: of the Unix socket. */
  #handlers(isOwnPeer: ((socket: object) => boolean) | null) {
    return {
      open: (socket: LinkSocket) => {
        this.#open(socket, isOwnPeer !== null);
        if (isOwnPeer?.(socket) === false) socket.terminate();
      },
      data: (socket: LinkSocket, chunk: Uint8Array) => this.#data(socket, chunk),
      drain: (socket: LinkSocket) => {
        socket.data.outbox.drain();
        this.#closeIfSent(socket);
        this.#sendPicture(socket);
        this.#regulate();
        this.#checkFinished();
      },
      close: (socket: LinkSocket) => this.#linkClosed(socket),
      error: (socket: LinkSocket, error: Error) => {
        failStop(error);
        socket.terminate();
      },
    };
  }

  endUnused(timeoutMs: number = UNUSED_TIMEOUT_MS): void {
    this.#endsUnused = true;
    clearTimeout(this.#unused);
    this.#unused = setTimeout(() => {
      if (this.#sequencer?.hadProcess === false && this.#sockets.size === this.#unproven.size) this.stop();
    }, timeoutMs);
  }

  /** Ends the session for everybody: nobody is to look for another server. */
  stop(): void {
    if (this.#closed) return;
    const why = encodeText(`the server of session "${this.#name}" was stopped`);
    for (const socket of [...this.#sockets.values()]) {
      if (socket.data.welcomed) this.#send(socket, encode({ kind: Kind.FAIL, op: Status.UNREACHABLE, body: why }));
    }
    this.#close(true);
  }

  #close(isOurs: boolean): void {
    this.#closed = true;
    this.#recoveryTimers?.stop();
    clearTimeout(this.#unused);
    this.#listener?.stop();
    this.#localListener?.stop();
    for (const { stop } of this.#away.values()) stop();
    for (const socket of [...this.#sockets.values()]) socket.end();
    this.#end(isOurs);
    this.#finish(0);
  }

  #welcomed(socket: LinkSocket, heartbeatMs: number): void {
    const link = socket.data;
    link.welcomed = true;
    if (this.#paused) socket.pause();
    if (heartbeatMs > 0) link.heartbeat = setInterval(() => this.#beat(socket), heartbeatMs / HEARTBEATS);
  }

  /** Says that we are there, measures how long the answer takes, and finds a link of which nothing is heard any more. */
  #beat(socket: LinkSocket): void {
    const link = socket.data;
    // While we do not read we hear nothing.
    link.silent = this.#paused ? 0 : link.silent + 1;
    if (link.silent > HEARTBEATS) {
      socket.terminate();
      return;
    }
    if (link.outbox.size === 0) {
      this.#tellTime();
      this.#sequencer?.beat(link.id);
    }
  }

  #tellTime(): void {
    if (this.#sequencer !== null) this.#sequencer.clock = now_ms();
  }

  /** Keeps the node's place until its time is over, or until its arbiter is seen to have ended. */
  #awaits(node: number, { reconnectMs, process }: AwayNode): void {
    const giveUp = (): void => {
      this.#tellTime();
      this.#sequencer?.giveUp(node);
      this.#regulate();
      this.#checkFinished();
    };
    const timeout = setTimeout(giveUp, reconnectMs);
    // The kernel closes a process's connections a moment before it counts as ended.
    const watch = setInterval(() => {
      if (hasEnded(process)) giveUp();
    }, AWAY_WATCH_MS);
    this.#away.set(node, {
      stop: () => {
        clearTimeout(timeout);
        clearInterval(watch);
      },
    });
  }

  #open(socket: LinkSocket, local: boolean): void {
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
      ...{ local, borrows: false, tracing: false },
      ...{ heartbeat: undefined, silent: 0 },
      timer: setTimeout(() => {
        if (!this.#core.isWelcomed(id)) socket.terminate();
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
    if (!this.#core.connect(socket.data.id)) socket.terminate();
  }

  #data(socket: LinkSocket, chunk: Uint8Array): void {
    const link = socket.data;
    if (link.closing) return;
    link.silent = 0;
    if (link.guard.open) {
      this.#asker = socket;
      this.#tellTime();
      this.#core.receive(link.id, chunk);
      this.#asker = undefined;
      freeNow(chunk);
      this.#sendPicture(socket);
      this.#beginTrace(socket);
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
      this.#tellTime();
      if (rest.length > 0) this.#core.receive(id, rest);
      this.#sendPicture(socket);
      this.#beginTrace(socket);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      outbox.send(encode({ kind: Kind.FAIL, op: error.status, body: encodeText(error.message) }));
      this.#closeLink(socket);
    }
  }

  #send(socket: LinkSocket, bytes: Uint8Array, sent?: Sent): void {
    if (!socket.data.outbox.send(bytes, sent)) socket.terminate();
  }

  #broadcast(bytes: Uint8Array, sent: (() => void) | undefined, except: number | undefined): void {
    const reference = sent === undefined ? null : this.#parts.reference(bytes);
    let waiting = 1;
    const sentToOne =
      sent &&
      ((): void => {
        waiting -= 1;
        if (waiting === 0) sent();
      });
    const sendTo = (socket: LinkSocket): void => {
      if (!socket.data.welcomed || socket.data.id === except) return;
      // A part stays where it is until all nodes have applied it: see Tail.
      if (reference !== null && socket.data.borrows) {
        this.#send(socket, reference);
        return;
      }
      waiting += 1;
      this.#send(socket, bytes, sentToOne);
    };
    // Whose process waits gets it first: waking the others takes time too.
    const asker = this.#asker;
    if (asker !== undefined) sendTo(asker);
    for (const socket of this.#sockets.values()) if (socket !== asker) sendTo(socket);
    sentToOne?.();
  }

  /** While any node is far behind, or away for long, we read from none: writers wait, queues stay bounded. */
  #regulate(): void {
    let behind = this.#sequencer?.full ?? false;
    for (const socket of this.#sockets.values()) behind ||= socket.data.outbox.size > OUTBOX_HIGH;
    if (behind === this.#paused) return;
    this.#paused = behind;
    for (const socket of this.#sockets.values()) {
      // Whoever comes (back) has to be heard.
      if (!socket.data.welcomed) continue;
      socket.data.silent = 0;
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
    const sequencer = this.#sequencer;
    if (sequencer?.hasPicture(link.id) !== true || link.outbox.size > 0) return;
    clearTimeout(link.timer);
    let more = true;
    for (let piece = 0; more && piece < PIECES_AT_ONCE && link.outbox.size === 0; piece += 1) {
      more = sequencer.nextPiece(link.id);
    }
    if (!more) {
      this.#closeLink(socket);
      return;
    }
    link.timer = setTimeout(() => socket.terminate(), PICTURE_STALL_MS);
    if (link.outbox.size === 0) setImmediate(() => this.#sendPicture(socket));
  }

  /** Who traces gets what has happened every so often, as long as it takes it. */
  #beginTrace(socket: LinkSocket): void {
    const link = socket.data;
    if (link.tracing || this.#sequencer?.traces(link.id) !== true) return;
    link.tracing = true;
    clearTimeout(link.timer);
    let stalled_ms = 0;
    const send = (): void => {
      stalled_ms = link.outbox.size > 0 ? stalled_ms + TRACE_INTERVAL_MS : 0;
      if (stalled_ms > PICTURE_STALL_MS) {
        socket.terminate();
        return;
      }
      if (stalled_ms === 0) this.#sequencer?.sendTrace(true);
      link.timer = setTimeout(send, TRACE_INTERVAL_MS);
    };
    link.timer = setTimeout(send, TRACE_INTERVAL_MS);
  }

  #refuse(socket: LinkSocket): void {
    const text = `the session's server has ${this.#sockets.size} connections, all it can have`;
    socket.data.closing = true;
    this.#refusals += 1;
    // Over TLS nothing can be said before the handshake.
    if (this.#refusals > REFUSALS_MAX || this.#listener?.usesTls === true) {
      socket.terminate();
      return;
    }
    socket.write(encode({ kind: Kind.FAIL, op: Status.LIMIT, body: encodeText(text) }));
    // We read on, and forget it: whoever is still writing to a closed connection does not get what it was told.
    socket.shutdown();
  }

  #closeLink(socket: LinkSocket): void {
    socket.data.closing = true;
    this.#closeIfSent(socket);
  }

  #closeIfSent(socket: LinkSocket): void {
    if (socket.data.closing && socket.data.outbox.size === 0) socket.end();
  }

  #linkClosed(socket: LinkSocket): void {
    const link = socket.data;
    link.outbox.clear();
    this.#unproven.delete(socket);
    clearTimeout(link.timer);
    clearInterval(link.heartbeat);
    if (link.refused) this.#refusals -= 1;
    if (!this.#sockets.delete(link.id) || this.#closed) return;
    this.#tellTime();
    this.#core.disconnect(link.id);
    if (this.#endsUnused && link.welcomed && this.#sequencer?.hadProcess === false) {
      this.endUnused(UNUSED_AGAIN_TIMEOUT_MS);
    }
    this.#regulate();
    this.#checkFinished();
  }

  /** After the end: everybody has all entries, then the connections go. */
  #checkFinished(): void {
    if (!this.#finishing || this.#sequencer?.awaited !== false) return;
    this.#sequencer.sendTrace(false);
    for (const socket of this.#sockets.values()) if (socket.data.outbox.size > 0) return;
    this.#close(true);
  }
}
