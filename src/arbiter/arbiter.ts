/** `dsm arbiter`: the replica's shell. Carries bytes between the log, the node's processes and the map in /dev/shm. */
import { randomBytes } from "node:crypto";
import { lstatSync, renameSync } from "node:fs";
import { dirname } from "node:path";
import type { Socket } from "bun";
import { slotOf } from "../core/addresses.ts";
import type { Security } from "../core/auth.ts";
import type { Directory, FindRequest, SessionAddress } from "../core/directory.ts";
import { DsmError, Status, statusOf, systemCode } from "../core/errors.ts";
import { freeNow, PartPool } from "../core/frames.ts";
import {
  ADDRESS_FIRST,
  ARBITER_UNUSED_TIMEOUT_MS,
  CHANNELS_MAX,
  GREETING_TIMEOUT_MS,
  HEARTBEAT_TIMEOUT_MS,
  OUTBOX_HIGH,
  RECONNECT_TIMEOUT_MS,
  REFUSALS_MAX,
} from "../core/limits.ts";
import type { OrderedLog } from "../core/log.ts";
import type { OnLoss } from "../core/loss.ts";
import type { ApplyRuns } from "../core/memory.ts";
import { arbiterKey, checkName, checkProcesses } from "../core/names.ts";
import type { Order } from "../core/order.ts";
import { failStop, Outbox, type Sent } from "../core/outbox.ts";
import { encode, encodeText, Kind, ProtocolError, RING_HEADER_SIZE } from "../core/protocol.ts";
import { Replica, type ReplicaOutput } from "../core/replica.ts";
import { Ring } from "../core/ring.ts";
import type { NodeHello, Resumed, Welcome } from "../core/sequencer.ts";
import { checkSize, pageRound } from "../core/size.ts";
import { fileLocks } from "../link/file-lock.ts";
import { ownProcess } from "../link/own-process.ts";
import { canTellPeers, isOutside, isOwnPeer } from "../link/peer-user.ts";
import { sharing } from "../link/shared-memory.ts";
import { lendMemory } from "./lent-memory.ts";
import { createMap, type MapFile, removeFile, removeMap, removeStaleMaps } from "./map-file.ts";
import { FileRingLock } from "./ring-lock.ts";
import { type ServerAddress, ServerLog } from "./server-log.ts";

export interface ArbiterOptions {
  session: string;
  node: string;
  /** What the first process expects; left out: whatever the session has. */
  processes?: number;
  size?: number;
  order?: Order;
  onLoss?: OnLoss;
  elastic?: boolean;
  /** Connections that the limit of open files allows; left out: CHANNELS_MAX. */
  connectionsMax?: number;
  /** How long a broken connection to the server may last; left out: RECONNECT_TIMEOUT_MS. 0: it ends the session here. */
  reconnectMs?: number;
  /** How long a connection may be silent; left out: HEARTBEAT_TIMEOUT_MS. */
  heartbeatMs?: number;
  /** Unix socket to listen on. */
  socket: string;
  directory: Directory;
  /** How publications are applied to the map, if not in JavaScript. */
  applyRuns?: ApplyRuns | null;
  /** What the server must prove, and TLS; left out: nothing, which is enough on loopback only. */
  security?: Security;
}

export interface Arbiter {
  /** Settles when the last process of this node is gone; the process's exit code. */
  ended: Promise<number>;
  stop(): void;
}

/** How often a session whose server is not there (any more) is asked for again before we give up. */
const FIND_ATTEMPTS = 100;
/** Time between a server's end and the directory's knowledge of it. */
const FIND_PAUSE_MS = 10;

/** Joins the node to the session and listens for its processes. Throws DsmError; then nothing is left behind. */
export async function startArbiter(options: ArbiterOptions): Promise<Arbiter> {
  const bad =
    checkName("session", options.session) ??
    checkName("node", options.node) ??
    (options.processes === undefined ? null : checkProcesses(options.processes)) ??
    (options.size === undefined ? null : checkSize(options.size));
  if (bad !== null) throw new DsmError("DSM_INVALID", bad);
  removeStaleMaps();
  const shell = new ArbiterShell(options);
  await shell.start();
  return { ended: shell.ended, stop: () => shell.finish(0) };
}

interface Client {
  /** -1: there are too many, and it is told. */
  channel: number;
  outbox: Outbox;
  /** It is in another container than we. */
  outside: boolean;
  closing: boolean;
  timer: Timer;
}

type ClientSocket = Socket<Client>;

class ArbiterShell {
  readonly ended: Promise<number>;
  readonly #options: ArbiterOptions;
  readonly #clients = new Map<number, ClientSocket>();
  /** Connections of processes that have left, and wait until we close them. */
  readonly #waiting = new Set<ClientSocket>();
  readonly #pending = new Batch();
  readonly #parts = new PartPool();
  #log: OrderedLog | undefined;
  #replica: Replica | undefined;
  #map: MapFile | undefined;
  #early: Uint8Array[] = [];
  /** The map has all its bytes. */
  readonly #ready = Promise.withResolvers<void>();
  #listener: ReturnType<typeof Bun.listen<Client>> | undefined;
  #socketIdentity = "";
  /** Connections that were told there are too many, and are not closed. */
  #refusals = 0;
  #paused = false;
  #watching = false;
  /** What is pending goes out at the end of this turn of the event loop. */
  #gathering = false;
  #done = false;
  #finished = false;
  /** The server has heard of that too. */
  #over = false;
  #resolve: (code: number) => void = () => {};
  #unused: Timer | undefined;

  constructor(options: ArbiterOptions) {
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    // start() may come to wait for it only after it was rejected.
    this.#ready.promise.catch(() => {});
  }

  async start(): Promise<void> {
    const { session, node, directory } = this.#options;
    const welcome = await this.#join();
    try {
      const { size, order } = welcome.snapshot.config;
      this.#map = createMap(arbiterKey(directory.address, session, node), size, order === "pipelined");
      this.#replica = this.#makeReplica(welcome, this.#map);
      for (const bytes of this.#early.splice(0)) this.#replica.entries(bytes);
      if (this.#replica.ready) this.#ready.resolve();
      await this.#ready.promise;
      // Ended while we came: the next session of this name has an arbiter of its own.
      if (this.#done) throw new DsmError("DSM_ENDED", `session "${session}" has ended`);
      this.#listen();
    } catch (error) {
      this.finish(1);
      throw error;
    }
    this.#unused = setTimeout(() => {
      if (this.#replica?.hadProcess !== true) this.finish(0);
    }, ARBITER_UNUSED_TIMEOUT_MS);
  }

  /** Finds the session's server. One that has ended meanwhile is passed over: the directory then starts the next. */
  async #join(): Promise<Welcome> {
    const { session, node, processes, size, order, onLoss, elastic, directory, security } = this.#options;
    const { reconnectMs = RECONNECT_TIMEOUT_MS, heartbeatMs = HEARTBEAT_TIMEOUT_MS } = this.#options;
    let after: string | undefined;
    for (let attempt = 1; ; attempt += 1) {
      const request: FindRequest = { name: session };
      if (processes !== undefined) request.processes = processes;
      if (size !== undefined) request.size = size;
      if (order !== undefined) request.order = order;
      if (onLoss !== undefined) request.onLoss = onLoss;
      if (elastic === true) request.elastic = true;
      if (after !== undefined) request.after = after;
      const address: SessionAddress = await directory.find(request);
      const log = new ServerLog(
        address,
        { heartbeatMs, locate: (known) => this.#locate(address, known), parts: this.#parts, sharing },
        security,
      );
      try {
        const hello: NodeHello = {
          session,
          node,
          processes: processes ?? 0,
          size: size === undefined ? 0 : pageRound(size),
          order: order ?? "",
          onLoss: onLoss ?? "",
          elastic: elastic === true,
          secret: randomBytes(16).toString("hex"),
          ...{ reconnectMs, heartbeatMs, process: ownProcess(), resume: null },
        };
        const welcome = await log.open(hello, {
          entries: (bytes) => this.#entries(bytes),
          part: (frame) => this.#part(frame),
          interrupted: () => this.#interrupted(),
          // The first entries may come before there is a replica.
          applied: () => ({ seq: this.#replica?.confirmed ?? 0, bytes: this.#replica?.keptBytes ?? 0 }),
          position: () => (this.#replica as Replica).position,
          promise: (epoch) => (this.#replica as Replica).promise(epoch),
          state: () => (this.#replica as Replica).state(),
          resumed: (resumed) => this.#resumed(resumed),
          lost: (error) => this.#lost(error),
          drained: () => this.#settle(),
        });
        this.#log = log;
        return welcome;
      } catch (error) {
        if (!(error instanceof DsmError) || attempt === FIND_ATTEMPTS) throw error;
        if (error.code === "DSM_ENDED") after = address.instance;
        else if (error.code === "DSM_UNREACHABLE" || error.code === "DSM_AGAIN") await Bun.sleep(FIND_PAUSE_MS);
        else throw error;
      }
    }
  }

  /** The daemon knows where the server is now, or starts another one. */
  async #locate(session: SessionAddress, known: ServerAddress): Promise<ServerAddress> {
    const slot = slotOf(this.#replica?.session.config.base ?? ADDRESS_FIRST);
    return this.#options.directory.succeed({ ...session, ...known, slot });
  }

  #makeReplica(welcome: Welcome, map: MapFile): Replica {
    const ring = map.ring === null ? null : this.#makeRing(map.ring, map.descriptor);
    const output: ReplicaOutput = {
      propose: (bytes, sent) => this.#propose(bytes, sent),
      reply: (channel, bytes) => {
        const socket = this.#clients.get(channel);
        if (socket !== undefined && !socket.data.outbox.send(bytes)) socket.terminate();
      },
      close: (channel) => {
        const socket = this.#clients.get(channel);
        if (socket === undefined) return;
        this.#clients.delete(channel);
        socket.data.closing = true;
        this.#closeIfSent(socket);
      },
      token: () => randomBytes(8),
      lend: (channel, answer) => {
        const socket = this.#clients.get(channel);
        if (socket === undefined || socket.data.outbox.size > 0) return null;
        return lendMemory(socket, answer, map.bytes.length);
      },
      unmap: freeNow,
      done: () => {
        this.#done = true;
      },
    };
    const { node, applyRuns } = this.#options;
    return new Replica(welcome, node, map.path, map.bytes, map.atomics, output, ring, applyRuns, this.#parts);
  }

  #makeRing(bytes: Uint8Array, descriptor: number): Ring {
    if (fileLocks === null) {
      throw new DsmError(
        "DSM_SYSTEM",
        "an arbiter cannot serve the order pipelined while Bun runs without its JIT; unset BUN_JSC_useJIT",
      );
    }
    return new Ring(bytes, new FileRingLock(bytes.subarray(0, RING_HEADER_SIZE), fileLocks, descriptor));
  }

  /** Small frames of one event go together; large ones as they are, behind those. */
  #propose(bytes: Uint8Array, sent: Sent | undefined): void {
    const log = this.#log;
    if (sent === undefined) {
      this.#pending.add(bytes);
    } else if (log !== undefined) {
      this.#pending.flush((frames) => log.append(frames));
      log.append(bytes, sent);
    }
  }

  #entries(bytes: Uint8Array): void {
    if (this.#replica === undefined) {
      // Between the welcome and the map only what came in one chunk with it, and other nodes' joins.
      this.#early.push(new Uint8Array(bytes));
      return;
    }
    if (!this.#try(() => this.#replica?.entries(bytes))) return;
    if (this.#replica.ready) this.#ready.resolve();
    this.#settle();
  }

  #part(frame: Uint8Array<ArrayBuffer>): void {
    if (this.#replica === undefined) {
      this.#entries(frame);
      this.#parts.give(frame);
    } else this.#try(() => this.#replica?.part(frame));
  }

  /** False: the order, or the ring of our own processes' stores, is damaged, and with it this replica is of no use. */
  #try(work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#lost(new DsmError("DSM_PROTOCOL", error.message));
      return false;
    }
  }

  /**
   * A process rings only when we sleep, so a burst of stores costs few wake-ups. While anything of ours is under way we do
   * not look into the ring: when it comes back, the replica takes what has gathered, all at once. Looking all the time
   * would send a few stores at a time, and take the processor from those who store and from the server.
   */
  #watchRing(): void {
    if (this.#watching || this.#replica?.awake !== true || this.#replica.unreturnedBytes > 0) return;
    this.#watching = true;
    const look = (): void => {
      const replica = this.#replica;
      if (this.#finished || replica === undefined) return;
      let taken = 0;
      const well = this.#try(() => {
        taken = replica.takeQueued();
      });
      if (!well) return;
      const asleep = taken === 0 && replica.sleep();
      this.#watching = false;
      if (!asleep) this.#settle();
    };
    setImmediate(look);
  }

  /** Whoever has stored waits until the server is there again: its operations are kept by the replica. */
  #interrupted(): void {
    if (this.#replica?.ready === false) {
      this.#lost(new DsmError("DSM_UNREACHABLE", "the server was lost while it sent the map; join again"));
      return;
    }
    this.#replica?.interrupted();
    this.#pending.clear();
    this.#settle();
  }

  #resumed(resumed: Resumed): void {
    this.#pending.clear();
    this.#replica?.resumed(resumed);
    this.#settle();
  }

  /** Without the order nothing can go on here: everybody who waits is told, and the arbiter ends. */
  #lost(error: DsmError): void {
    if (this.#finished) return;
    this.#ready.reject(error);
    if (this.#done) {
      this.finish(0);
      return;
    }
    const frame = encode({ kind: Kind.FAIL, op: statusOf(error.code), body: encodeText(error.message) });
    for (const socket of this.#clients.values()) socket.data.outbox.send(frame);
    this.finish(1);
  }

  /**
   * After a process's frames: what they proposed goes out at once when nothing of this node is under way, else together
   * with what the other connections bring in the same turn of the event loop. Every write to the server makes it write
   * to all nodes and wakes them all.
   */
  #gather(): void {
    if (this.#gathering) return;
    if ((this.#replica?.unreturnedBytes ?? 0) <= this.#pending.size) {
      this.#settle();
      return;
    }
    this.#gathering = true;
    setImmediate(() => {
      this.#gathering = false;
      if (!this.#finished) this.#settle();
    });
  }

  /** After every event: what was proposed goes out, and the end is noticed. */
  #settle(): void {
    const log = this.#log;
    if (log?.away === true) this.#pending.clear();
    else if (log !== undefined) this.#pending.flush((bytes) => log.append(bytes));
    this.#regulate();
    this.#watchRing();
    if (this.#done) this.#finishWhenSent();
  }

  #finishWhenSent(): void {
    for (const socket of this.#clients.values()) if (socket.data.outbox.size > 0) return;
    // What was decided here in direct mode has to reach the server.
    if ((this.#log?.queued ?? 0) > 0) return;
    if (this.#log?.away === true && (this.#replica?.unreturnedBytes ?? 0) > 0) return;
    this.finish(0);
  }

  /** While the way to the server is full we take nothing more from our processes: their stores wait. */
  #regulate(): void {
    const waiting = this.#log?.away === true ? this.#replica?.unreturnedBytes : this.#log?.queued;
    const behind = (waiting ?? 0) > OUTBOX_HIGH;
    if (behind === this.#paused) return;
    this.#paused = behind;
    for (const socket of this.#clients.values()) {
      if (behind) socket.pause();
      else socket.resume();
    }
  }

  /**
   * The socket is bound under a name of its own and then renamed to the one that processes know, and only this file is
   * ever removed: an arbiter that ends can never take away the socket of the one that follows it.
   */
  #listen(): void {
    const { socket: path } = this.#options;
    // Not our process id: one of another process namespace may have the same.
    const own = `${path}.${randomBytes(3).toString("hex")}`;
    // From its first moment on the socket is this user's alone.
    const mask = process.umask(0o177);
    try {
      if (!canTellPeers(dirname(path))) throw new Error("its folder lets other users in");
      this.#listener = Bun.listen<Client>({
        unix: own,
        allowHalfOpen: true,
        socket: {
          open: (socket) => this.#open(socket),
          data: (socket, chunk) => {
            if (socket.data.closing) return;
            if (!this.#try(() => this.#replica?.receive(socket.data.channel, chunk))) return;
            freeNow(chunk);
            this.#gather();
          },
          drain: (socket) => {
            socket.data.outbox.drain();
            this.#closeIfSent(socket);
            this.#settle();
          },
          end: (socket) => this.#saidAll(socket),
          close: (socket) => this.#closed(socket),
          error: (socket, error) => {
            failStop(error);
            socket.terminate();
          },
        },
      });
      this.#socketIdentity = identity(own);
      renameSync(own, path);
    } catch (error) {
      throw new DsmError(systemCode(error), `cannot listen on ${path}: ${(error as Error).message}`);
    } finally {
      process.umask(mask);
    }
  }

  #open(socket: ClientSocket): void {
    const room = this.#clients.size < (this.#options.connectionsMax ?? CHANNELS_MAX);
    // The folder of the socket keeps other users out already, where it is ours; with --socket it may be any.
    const own = isOwnPeer(socket);
    const channel = room && own ? (this.#replica?.connect() ?? -1) : -1;
    socket.data = {
      channel,
      outbox: new Outbox((bytes) => socket.write(bytes)),
      outside: isOutside(socket),
      closing: false,
      timer: setTimeout(() => {
        if (this.#replica?.isGreeted(channel) !== true) socket.terminate();
      }, GREETING_TIMEOUT_MS),
    };
    if (this.#done || !own) {
      socket.data.closing = true;
      if (channel < 0) this.#refusals += 1;
      socket.terminate();
      return;
    }
    if (channel < 0) {
      this.#refuse(socket);
      return;
    }
    this.#clients.set(channel, socket);
    if (this.#paused) socket.pause();
  }

  #refuse(socket: ClientSocket): void {
    const text = `the arbiter has ${this.#clients.size} connections, all it can have; give it a higher limit of open files`;
    socket.data.closing = true;
    this.#refusals += 1;
    if (this.#refusals > REFUSALS_MAX) {
      socket.terminate();
      return;
    }
    socket.write(encode({ kind: Kind.FAIL, op: Status.LIMIT, body: encodeText(text) }));
    // We read on, and forget it: whoever is still writing to a closed connection does not get what it was told.
    socket.shutdown();
  }

  #closeIfSent(socket: ClientSocket): void {
    if (socket.data.closing && socket.data.outbox.size === 0) socket.end();
  }

  /**
   * Nothing more comes from there. A process that leaves waits until we close its connection: the last one until we end,
   * and one of our own container while those of others need us, which could not go on if it ended with its container.
   */
  #saidAll(socket: ClientSocket): void {
    this.#disconnected(socket);
    const needed = this.#done || (!socket.data.outside && this.#servesOutside());
    if (needed && !this.#over) this.#waiting.add(socket);
    else socket.end();
  }

  /** Of an elastic session processes come and go: there nobody waits for others. */
  #servesOutside(): boolean {
    if (this.#replica?.session.config.elastic === true) return false;
    for (const socket of this.#clients.values()) if (socket.data.outside) return true;
    return false;
  }

  #closed(socket: ClientSocket): void {
    clearTimeout(socket.data.timer);
    if (socket.data.channel < 0) this.#refusals -= 1;
    this.#waiting.delete(socket);
    this.#disconnected(socket);
  }

  #disconnected(socket: ClientSocket): void {
    const { channel } = socket.data;
    if (this.#clients.get(channel) !== socket) return;
    this.#clients.delete(channel);
    if (this.#try(() => this.#replica?.disconnect(channel))) this.#settle();
    if (this.#waiting.size > 0 && !this.#done && !this.#servesOutside()) {
      for (const waiting of this.#waiting) waiting.end();
    }
  }

  finish(code: number): void {
    if (this.#finished) return;
    this.#finished = true;
    clearTimeout(this.#unused);
    // Whoever stores from now on rings, and finds that nobody is there.
    this.#replica?.sleep();
    const { socket: path } = this.#options;
    if (this.#socketIdentity !== "" && identity(path) === this.#socketIdentity) removeFile(path);
    this.#listener?.stop();
    if (this.#map !== undefined) removeMap(this.#map);
    const end = (): void => {
      this.#over = true;
      // Last of all: the processes that wait for it may be all that keeps the container alive in which we are.
      for (const socket of [...this.#clients.values(), ...this.#waiting]) {
        clearTimeout(socket.data.timer);
        socket.end();
      }
      this.#resolve(code);
    };
    if (this.#log === undefined) end();
    else this.#log.close(end);
  }
}

/** Which file a path names, "" if none. */
function identity(path: string): string {
  try {
    const { dev, ino } = lstatSync(path);
    return `${dev}:${ino}`;
  } catch {
    return "";
  }
}

/** Frames of one event, sent together. */
class Batch {
  #bytes = new Uint8Array(64 << 10);
  #length = 0;

  add(frame: Uint8Array): void {
    const need = this.#length + frame.length;
    if (need > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(need, this.#bytes.length * 2));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(frame, this.#length);
    this.#length = need;
  }

  get size(): number {
    return this.#length;
  }

  clear(): void {
    this.#length = 0;
  }

  flush(send: (bytes: Uint8Array) => void): void {
    if (this.#length === 0) return;
    const bytes = this.#bytes.subarray(0, this.#length);
    this.#length = 0;
    send(bytes);
  }
}
