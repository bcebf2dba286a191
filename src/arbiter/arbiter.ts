/**
 * `dsm arbiter`: the shell of the replica. It carries bytes between the log (reconnecting-log.ts), the node's processes
 * (process-listener.ts) and the map in /dev/shm (map-file.ts).
 *
 *     joining ----> loading (the map may be on its way) ----> listening ----> ended
 *        '------------------ DsmError, nothing is left behind ------------------^
 */
import { randomBytes } from "node:crypto";
import { dirname } from "node:path";
import { type Order, usesRing } from "../core/base/consistency.ts";
import { DsmError, statusOf } from "../core/base/errors.ts";
import { ARBITER_UNUSED_TIMEOUT_MS, CHANNELS_MAX, LEASE_ASK_INTERVAL_MS, OUTBOX_HIGH } from "../core/base/limits.ts";
import { arbiterKey, checkName, checkProcesses } from "../core/base/names.ts";
import { checkSize } from "../core/base/size.ts";
import type { ApplyRuns } from "../core/memory/map-bytes.ts";
import { nodeInUse, type Welcome } from "../core/messages/node-handshake.ts";
import { Replica } from "../core/replica/replica.ts";
import { closeRing, Ring } from "../core/replica/store-ring.ts";
import { encode, encodeText, ProtocolError } from "../core/wire/frame.ts";
import { detachBuffer, PartPool } from "../core/wire/frame-reader.ts";
import { Kind } from "../core/wire/kinds.ts";
import { RING_HEADER_SIZE } from "../core/wire/ring-layout.ts";
import { fileLocks } from "../transport/file-lock.ts";
import { wakeFutex } from "../transport/futex.ts";
import { leaseTime } from "../transport/lease-clock.ts";
import { type JoinOptions, joinSession } from "./join-session.ts";
import { lendMemory } from "./lent-memory.ts";
import { createMap, type MapFile, removeMap, removeStaleMaps, usersOfMaps } from "./map-file.ts";
import { ProcessListener } from "./process-listener.ts";
import { ProposalBatcher } from "./proposal-batcher.ts";
import type { ReconnectingLog } from "./reconnecting-log.ts";
import { FileRingLock } from "./ring-lock.ts";
import { RingPoller } from "./ring-poller.ts";

export interface ArbiterOptions extends JoinOptions {
  /** Maximum of connections, from the limit of open files; left out: CHANNELS_MAX. */
  connectionsMax?: number;
  /** Unix socket to listen on. */
  socket: string;
  /** A faster implementation of MapBytes.publish(), or null. */
  applyRuns?: ApplyRuns | null;
}

export interface Arbiter {
  /** Settles when the last process of this node has gone, with the exit code. */
  ended: Promise<number>;
  stop(): void;
}

/** Under `release`: how long what processes have published may wait in the ring if no process asks for it. */
const RELEASE_PAUSE_MS = 10;
/** How often the log is told of barriers that processes have passed by themselves. */
const NOTE_BARRIERS_MS = 1_000;

/** Joins the node to the session and listens for its processes. Throws DsmError; then nothing is left behind. */
export async function startArbiter(options: ArbiterOptions): Promise<Arbiter> {
  const bad =
    checkName("session", options.session) ??
    checkName("node", options.node) ??
    (options.processes === undefined ? null : checkProcesses(options.processes)) ??
    (options.size === undefined ? null : checkSize(options.size));
  if (bad !== null) throw new DsmError("DSM_INVALID", bad);
  removeStaleMaps();
  const parts = new PartPool();
  const key = arbiterKey(options.directory.address, options.session, options.node);
  const { welcome, log } = await joinSession(options, parts).catch((error) => {
    throw secondArbiter(error, options, key);
  });
  const { size, order } = welcome.snapshot.config;
  let map: MapFile | undefined;
  let shell: ArbiterShell;
  try {
    map = createMap(key, size, usesRing(order));
    shell = new ArbiterShell({ ...options, welcome, log, map, parts });
  } catch (error) {
    if (map !== undefined) removeMap(map);
    log.close(() => {});
    throw error;
  }
  await shell.start();
  return { ended: shell.ended, stop: () => shell.finish(0) };
}

/**
 * Why this arbiter was refused as the second one of its node, if the maps on this host tell: its process did not find
 * the first one.
 */
function secondArbiter(error: unknown, { session, node, socket }: ArbiterOptions, key: string): unknown {
  const isThere = nodeInUse(node, session);
  if (!(error instanceof DsmError) || !error.message.startsWith(isThere)) return error;
  const own = process.geteuid?.();
  const users = usersOfMaps(key);
  if (own !== undefined && users.includes(own)) {
    return new DsmError(
      error.code,
      `${isThere}, and its arbiter does not listen in ${dirname(socket)}; give all processes the same XDG_RUNTIME_DIR ` +
        "(containers share it, or /tmp), or set DSM_NODE to another name",
    );
  }
  if (users.length === 0) return error;
  return new DsmError(
    error.code,
    `${isThere}, for user ${users.join(" and user ")}, and this is user ${own}; each user needs an arbiter, and so a ` +
      "node, of their own: set DSM_NODE to another name",
  );
}

interface ShellOptions extends ArbiterOptions {
  welcome: Welcome;
  log: ReconnectingLog;
  map: MapFile;
  parts: PartPool;
}

class ArbiterShell {
  readonly ended: Promise<number>;
  readonly #session: string;
  readonly #log: ReconnectingLog;
  readonly #map: MapFile;
  readonly #replica: Replica;
  readonly #listener: ProcessListener;
  readonly #batcher: ProposalBatcher;
  readonly #poller: RingPoller;
  /** Settles when the map has all its bytes. */
  readonly #ready = Promise.withResolvers<void>();
  /** The last process of this node has gone, or the session has ended. */
  #isDone = false;
  #isFinished = false;
  #resolve: (code: number) => void = () => {};
  #unusedTimer: Timer | undefined;
  #barrierTimer: Timer | undefined;
  /** Runs while this node has leases. */
  #leaseTimer: Timer | undefined;

  /** The owner calls start() next. */
  constructor(options: ShellOptions) {
    this.#session = options.session;
    this.#log = options.log;
    this.#map = options.map;
    this.ended = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    // start() may await it only after it was rejected.
    this.#ready.promise.catch(() => {});
    this.#batcher = new ProposalBatcher(options.log);
    this.#replica = this.#makeReplica(options);
    const attempt = (work: () => void): boolean => this.#attempt(work);
    const afterEvent = (): void => this.#afterEvent();
    const isLazy = options.welcome.snapshot.config.order === "release";
    const schedule = isLazy ? (work: () => void) => setTimeout(work, RELEASE_PAUSE_MS) : setImmediate;
    this.#poller = new RingPoller(this.#replica, { attempt, afterEvent, schedule });
    this.#listener = new ProcessListener(this.#replica, {
      path: options.socket,
      connectionsMax: options.connectionsMax ?? CHANNELS_MAX,
      mapPath: options.map.path,
      isElastic: options.welcome.snapshot.config.elastic === true,
      attempt,
      afterRequests: () => this.#batcher.gather(this.#replica.bytesInFlight, afterEvent),
      afterEvent,
      isDone: () => this.#isDone,
    });
  }

  async start(): Promise<void> {
    try {
      this.#log.follow(this.#replica, {
        afterEvent: () => this.#afterEvent(),
        lost: (error) => this.#lost(error),
      });
      if (this.#replica.ready) this.#ready.resolve();
      await this.#ready.promise;
      // The session ended during the join: the next session of this name gets an arbiter of its own.
      if (this.#isDone) throw new DsmError("DSM_ENDED", `session "${this.#session}" has ended`);
      this.#listener.listen();
    } catch (error) {
      this.finish(1);
      throw error;
    }
    this.#unusedTimer = setTimeout(() => {
      if (!this.#replica.hadProcess) this.finish(0);
    }, ARBITER_UNUSED_TIMEOUT_MS);
    this.#barrierTimer = setInterval(() => {
      if (this.#replica.notePassedBarriers()) this.#afterEvent();
    }, NOTE_BARRIERS_MS);
  }

  #makeReplica({ welcome, node, map, applyRuns = null, parts }: ShellOptions): Replica {
    return new Replica(
      welcome,
      {
        propose: (bytes, onSent) => this.#batcher.propose(bytes, onSent),
        reply: (channel, bytes) => this.#listener.reply(channel, bytes),
        close: (channel) => this.#listener.close(channel),
        now_ms: () => performance.now(),
        token: () => randomBytes(8),
        lend: (channel, answer) => {
          const socket = this.#listener.idleSocket(channel);
          return socket === null ? null : lendMemory(socket, answer, map.bytes.length);
        },
        unmap: detachBuffer,
        wakeCell: (at) => wakeFutex(map.cells, at),
        done: () => {
          this.#isDone = true;
        },
      },
      {
        nodeName: node,
        mapPath: map.path,
        memory: map.bytes,
        atomics: map.atomics,
        cells: map.cells,
        ring: map.ring === null ? null : makeRing(map.ring, map.descriptor, welcome.snapshot.config.order),
        applyRuns,
        parts,
      },
    );
  }

  /** Runs the work. False: the log, or the ring of the node's stores, is damaged, and this replica is of no use. */
  #attempt(work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#lost(new DsmError("DSM_PROTOCOL", error.message));
      return false;
    }
  }

  /** Ends the arbiter, which cannot continue without the log: tells the waiting processes why. */
  #lost(error: DsmError): void {
    if (this.#isFinished) return;
    this.#ready.reject(error);
    if (this.#isDone) {
      this.finish(0);
      return;
    }
    this.#listener.broadcast(encode({ kind: Kind.FAIL, op: statusOf(error.code), body: encodeText(error.message) }));
    this.finish(1);
  }

  /** Runs after every event: sends what was proposed, and checks for the end. */
  #afterEvent(): void {
    if (this.#isFinished) return;
    if (this.#replica.ready) this.#ready.resolve();
    this.#renewLeases();
    this.#batcher.flush();
    // Backpressure: read no more from the processes while the connection to the server is congested.
    const waiting = this.#log.away ? this.#replica.bytesInFlight : this.#log.queued;
    this.#listener.paused = waiting > OUTBOX_HIGH;
    this.#poller.poll();
    if (this.#isDone) this.#finishWhenSent();
  }

  /** Asks the server whether this node still has its place, as long as it has leases. */
  #renewLeases(): void {
    const { leases, confirmed } = this.#replica;
    if (leaseTime === null || !leases.mustRenew) return;
    leases.renew(leaseTime(), confirmed);
    this.#leaseTimer ??= setTimeout(() => {
      this.#leaseTimer = undefined;
      this.#renewLeases();
      this.#batcher.flush();
    }, LEASE_ASK_INTERVAL_MS);
  }

  #finishWhenSent(): void {
    if (!this.#listener.hasSentAll) return;
    // Operations that this node decided in direct mode must reach the server first.
    if (this.#log.queued > 0) return;
    if (this.#log.away && this.#replica.bytesInFlight > 0) return;
    this.finish(0);
  }

  finish(code: number): void {
    if (this.#isFinished) return;
    this.#isFinished = true;
    clearTimeout(this.#unusedTimer);
    clearInterval(this.#barrierTimer);
    clearTimeout(this.#leaseTimer);
    this.#replica.leases.retire();
    this.#poller.stop();
    this.#listener.stop();
    removeMap(this.#map);
    this.#log.close(() => {
      this.#listener.end();
      this.#resolve(code);
    });
  }
}

/** The ring in these bytes of the map's file; null: the processes of the node are to do without. */
function makeRing(bytes: Uint8Array, descriptor: number, order: Order): Ring | null {
  if (fileLocks === null && order === "release") {
    closeRing(bytes);
    return null;
  }
  if (fileLocks === null) {
    throw new DsmError(
      "DSM_SYSTEM",
      "an arbiter cannot serve the order pipelined while Bun runs without its JIT; unset BUN_JSC_useJIT",
    );
  }
  return new Ring(bytes, new FileRingLock(bytes.subarray(0, RING_HEADER_SIZE), fileLocks, descriptor));
}
