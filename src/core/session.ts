/**
 * The session as a replicated state machine. Server and arbiters feed it the same ordered operations and so hold the
 * same ranks, semaphores, barriers and bytes at the same sequence number. It decides everything; what must be told to
 * somebody comes out through `Effects`.
 *
 * The order itself is sequential consistency by total-order broadcast with local reads (Attiya and Welch, "Sequential
 * consistency versus linearizability", ACM TOCS 1994): a process goes on only when its own operation was applied on
 * its own node.
 */
import { Status } from "./errors.ts";
import { type Block, Heap } from "./heap.ts";
import type { SessionImage } from "./image.ts";
import {
  LOCKS_MAX,
  PAGE_SIZE,
  PROCESSES_MAX,
  SEMAPHORE_VALUE_MAX,
  SEMAPHORES_MAX,
  SIZE_MAX,
  WAITING_JOINS_MAX,
  WAITING_MAX,
} from "./limits.ts";
import type { OnLoss } from "./loss.ts";
import type { MapBytes } from "./memory.ts";
import { checkName } from "./names.ts";
import type { Order } from "./order.ts";
import {
  type AtomicOp,
  bodyText,
  CopyOp,
  getUint64,
  HEADER_SIZE,
  Kind,
  runLength,
  runOffset,
  runSize,
} from "./protocol.ts";

export interface SessionConfig {
  name: string;
  /** Tells two sessions of one name, one after the other, apart. */
  instance: string;
  processes: number;
  /** Bytes of the map, whole pages. */
  size: number;
  /** Address of the map in every process. */
  base: number;
  order: Order;
  onLoss: OnLoss;
  /** Processes may join while it runs, leave, and come again; `processes` is how many it begins with. */
  elastic?: boolean;
}

export interface Effects {
  /** These bytes of the map were written, before the request is answered. Called only while `watching`. */
  wrote(offset: number, length: number): void;
  watching: boolean;
  /**
   * The request that `node` tagged `tag` is answered. `aux` is the rank for a join, the lost rank for LOST,
   * who had the lock before for OWNER_DIED. After an
   * atomic operation `session.old` holds the value before it, after an allocation or a wake `session.value` the result,
   * after a barrier how many were in it.
   */
  complete(node: number, tag: number, status: Status, aux: number): void;
  /** A join got its rank; its answer comes when the session starts. */
  ranked(node: number, tag: number, rank: number): void;
  /** A rank is gone from `node`. */
  gone(node: number, rank: number): void;
  /** Every process has left: nothing can follow. */
  ended(): void;
}

export type Phase = "joining" | "running" | "ended";
export type RankState = "joining" | "running" | "left" | "lost";

interface Process {
  rank: number;
  node: number;
  nodeName: string;
  pid: number;
  state: RankState;
  joinTag: number;
  /** Tag of the barrier it is in, or -1. */
  barrierTag: number;
}

interface Waiter {
  node: number;
  tag: number;
  rank: number;
}

/** Requests that wait, first come first served. */
interface Queue {
  waiters: Waiter[];
}

interface Semaphore extends Queue {
  name: string;
  value: number;
}

/** A lock belongs to a process. It passes on when its owner unlocks it, and also when its owner is gone. */
interface Lock extends Queue {
  name: string;
  /** Rank, or -1. */
  owner: number;
  /** Rank that went while it had the lock, if what that left behind has not been put in order since; -1: none. */
  died: number;
}

/** Those who sleep on a place of the map until somebody wakes them there. */
interface Sleepers extends Queue {
  offset: number;
}

/** Everything but the bytes of the map, as plain data. */
export interface SessionSnapshot {
  config: SessionConfig;
  phase: Phase;
  seq: number;
  published: number;
  barriers: number;
  lostRank: number;
  direct: boolean;
  /** The end of direct mode has begun: some of the map may be in the order already. */
  copying: boolean;
  mayBeDirect: boolean;
  processes: Process[];
  semaphores: Semaphore[];
  locks: Lock[];
  sleepers: Sleepers[];
  blocks: Block[];
  waitingJoins: Waiter[];
  /** The session began with an image, and with the bytes of its map. */
  restored: boolean;
  /** How many entries of each node, by its number, are in the order, or GIVEN_UP. */
  ordered: number[];
}

/** In place of the number of entries of a node that was away too long: nothing of it can follow. */
export const GIVEN_UP = -1;

export interface RankReport {
  rank: number;
  node: string;
  pid: number;
  state: "joining" | "running" | "barrier" | "semaphore" | "lock" | "sleeping" | "left" | "lost";
  /** Name of the semaphore or lock waited on, or the place in the map slept on. */
  on?: string;
  /** Names of the locks it has; left out if none. */
  holds?: string[];
}

const waiterKey = (node: number, tag: number): number => node * 2 ** 32 + tag;

export class Session {
  readonly config: SessionConfig;
  /** The node whose map this is: what it copies into the order is there already. -1: no node's. */
  node = -1;
  /** The value before the last atomic operation, 16 bytes little-endian. */
  readonly old = new DataView(new ArrayBuffer(16));
  readonly #memory: MapBytes;
  readonly #effects: Effects;
  #phase: Phase = "joining";
  #seq = 0;
  #published = 0;
  #barriers = 0;
  #lostRank = -1;
  #direct = false;
  #copying = false;
  #mayBeDirect = true;
  /** By rank. */
  readonly #processes = new Map<number, Process>();
  readonly #semaphores = new Map<string, Semaphore>();
  readonly #locks = new Map<string, Lock>();
  readonly #sleepers = new Map<number, Sleepers>();
  /** Which queue each waiting request is in. */
  readonly #waits = new Map<number, Queue>();
  #heap: Heap;
  #value = 0;
  #waitingJoins: Waiter[] = [];
  #restored = false;
  #ordered: number[] = [];

  constructor(config: SessionConfig, memory: MapBytes, effects: Effects) {
    if (config.processes < 1 || config.processes > PROCESSES_MAX) throw new RangeError("session: processes");
    if (config.size < 1 || config.size > SIZE_MAX || config.size % PAGE_SIZE !== 0 || memory.size !== config.size)
      throw new RangeError("session: size");
    this.config = config;
    this.#heap = new Heap(config.size);
    this.#memory = memory;
    this.#effects = effects;
  }

  get phase(): Phase {
    return this.#phase;
  }
  /** Number of the last entry applied. */
  get seq(): number {
    return this.#seq;
  }
  /** Bytes that stores, atomics and publications have written. */
  get published(): number {
    return this.#published;
  }
  /**
   * Direct mode: when the session started all processes were on one node and none refused. They share the map itself,
   * the hardware keeps it coherent, and no store is ever ordered here. In an elastic session it may end: see
   * change-over.ts.
   */
  get direct(): boolean {
    return this.#direct;
  }
  /** What the last allocation or wake gives its issuer. */
  get value(): number {
    return this.#value;
  }
  get lostRank(): number {
    return this.#lostRank;
  }
  /** How many barriers everybody has passed. */
  get barriers(): number {
    return this.#barriers;
  }
  get blocks(): readonly Block[] {
    return this.#heap.blocks;
  }

  /** How many of the node's operations have been ordered: whether one more is to be asked for again. GIVEN_UP: none. */
  orderedOf(node: number): number {
    return this.#ordered[node] ?? 0;
  }

  /** Numbers of the nodes that have processes here. */
  get nodes(): number[] {
    return [...new Set(this.#present().map(({ node }) => node))];
  }

  /** Whether `rank` lives on `node` and may issue operations. */
  mayIssue(rank: number, node: number): boolean {
    const process = this.#processes.get(rank);
    return process !== undefined && process.node === node && process.state === "running";
  }

  /** Whether everybody who has joined is still here. */
  get everybodyHere(): boolean {
    return this.#present().length === this.config.processes;
  }

  /** How many processes have joined and not gone. */
  get present(): number {
    return this.#present().length;
  }

  /** Ranks of `node` that have neither left nor been lost. */
  presentOn(node: number): number[] {
    const ranks: number[] = [];
    for (const process of this.#processes.values()) {
      if (process.node === node && isPresent(process)) ranks.push(process.rank);
    }
    return ranks;
  }

  /**
   * Applies the entry at `at`, which checkOperation() has found well formed. A part of a publication that is not the
   * last writes its bytes and changes nothing else: nobody's request is answered and the sequence number stays.
   */
  apply(view: DataView, at: number): void {
    const kind = view.getUint8(at + 4);
    const offset = kind >= Kind.STORE && kind <= Kind.ATOMIC ? getUint64(view, at + 24) : 0;
    const tag = view.getUint32(at + 8, true);
    const node = view.getUint32(at + 12, true);
    if (kind !== Kind.PUBLISH || view.getUint8(at + 5) !== 1) this.#count(node, kind, view, at);
    switch (kind) {
      case Kind.STORE: {
        const length = view.getUint32(at + 32, true);
        this.#memory.store(offset, view, at + HEADER_SIZE, length);
        this.#published += length;
        this.#seq += 1;
        if (this.#effects.watching) this.#effects.wrote(offset, length);
        this.#effects.complete(node, tag, Status.OK, 0);
        return;
      }
      case Kind.ATOMIC: {
        const width = view.getUint32(at + 32, true);
        const op = view.getUint8(at + 5) as AtomicOp;
        this.#memory.atomic(op, width, offset, view, at + HEADER_SIZE, this.old, 0);
        this.#published += width;
        this.#seq += 1;
        if (this.#effects.watching) this.#effects.wrote(offset, width);
        this.#effects.complete(node, tag, Status.OK, 0);
        return;
      }
      case Kind.PUBLISH: {
        const end = at + view.getUint32(at, true);
        this.#published += this.#memory.publish(view, at + HEADER_SIZE, end);
        if (this.#effects.watching) {
          for (let run = at + HEADER_SIZE; run < end; run += runSize(view, run)) {
            this.#effects.wrote(runOffset(view, run), runLength(view, run));
          }
        }
        if (view.getUint8(at + 5) === 1) return;
        this.#seq += 1;
        this.#effects.complete(node, tag, Status.OK, 0);
        return;
      }
    }
    this.#seq += 1;
    this.#value = 0;
    const rank = view.getUint16(at + 6, true);
    switch (kind) {
      case Kind.JOIN:
        this.#join(view, at, node, tag);
        return;
      case Kind.LEAVE:
        this.#leave(rank, node, tag, view.getUint8(at + 5) === 1);
        return;
      case Kind.BARRIER:
        this.#barrier(rank, node, tag);
        return;
      case Kind.SEM_WAIT:
      case Kind.SEM_POST:
        this.#semaphore(kind, view, at, rank, node, tag);
        return;
      case Kind.LOCK:
        this.#lock(nameAt(view, at), view.getUint8(at + 5) === 1, rank, node, tag);
        return;
      case Kind.UNLOCK:
        this.#unlock(nameAt(view, at), view.getUint8(at + 5) === 1, rank, node, tag);
        return;
      case Kind.SEM_CANCEL:
        this.#cancel(node, tag);
        return;
      case Kind.ALLOC:
      case Kind.NAMED:
        this.#allocate(kind, view, at, rank, node, tag);
        return;
      case Kind.FREE:
        this.#free(getUint64(view, at + 24), rank, node, tag);
        return;
      case Kind.SLEEP:
        this.#sleep(view, at, rank, node, tag);
        return;
      case Kind.WAKE:
        this.#wake(getUint64(view, at + 24), view.getUint32(at + 36, true), node, tag);
        return;
      case Kind.COPY:
        this.#copy(view, at, node);
        return;
      default:
        throw new RangeError(`session: entry of kind ${kind} was let through`);
    }
  }

  #count(node: number, kind: number, view: DataView, at: number): void {
    const ordered = this.#ordered;
    while (ordered.length <= node) ordered.push(0);
    if (kind === Kind.LEAVE && view.getUint32(at + 36, true) === 1) ordered[node] = GIVEN_UP;
    else if (ordered[node] !== GIVEN_UP) ordered[node] = (ordered[node] as number) + 1;
  }

  #join(view: DataView, at: number, node: number, tag: number): void {
    const wished = view.getUint32(at + 36, true) - 1;
    const nodeName = nameAt(view, at);
    const { processes } = this.config;
    if (this.#phase === "ended") {
      this.#effects.complete(node, tag, Status.ENDED, 0);
      return;
    }
    const running = this.#phase === "running";
    if (running && this.config.elastic !== true) {
      this.#joinLater(node, tag);
      return;
    }
    if (this.present >= PROCESSES_MAX) {
      this.#effects.complete(node, tag, Status.FULL, 0);
      return;
    }
    // Of those who have gone from an elastic session others have the rank.
    const taken = (rank: number): boolean => {
      const process = this.#processes.get(rank);
      return process !== undefined && isPresent(process);
    };
    let rank = wished;
    if (rank < 0 || rank >= (running ? PROCESSES_MAX : processes) || taken(rank)) {
      rank = 0;
      while (taken(rank)) rank += 1;
    }
    this.#processes.set(rank, {
      rank,
      node,
      nodeName,
      pid: getUint64(view, at + 24),
      state: "joining",
      joinTag: tag,
      barrierTag: -1,
    });
    if (view.getUint8(at + 5) === 1) this.#mayBeDirect = false;
    this.#effects.ranked(node, tag, rank);
    if (running) this.#begin(this.#processes.get(rank) as Process);
    else if (this.#processes.size === processes) this.#start();
  }

  #begin(process: Process): void {
    process.state = "running";
    this.#effects.complete(process.node, process.joinTag, Status.OK, process.rank);
  }

  /**
   * Somebody who left may already come for the next session of this name while others are still leaving this one: it
   * waits for the end. While everybody is still here, one more is one too many.
   */
  #joinLater(node: number, tag: number): void {
    if (this.everybodyHere) this.#effects.complete(node, tag, Status.FULL, 0);
    else if (this.#waitingJoins.length >= WAITING_JOINS_MAX) this.#effects.complete(node, tag, Status.LIMIT, 0);
    else this.#waitingJoins.push({ node, tag, rank: -1 });
  }

  #start(): void {
    this.#phase = "running";
    this.#direct = this.#mayBeDirect && new Set(this.#present().map(({ node }) => node)).size === 1;
    for (const process of this.#byRank()) process.state = "running";
    for (const process of this.#byRank()) {
      this.#effects.complete(process.node, process.joinTag, Status.OK, process.rank);
    }
  }

  /** The map of the node that ends direct mode: see change-over.ts. Nobody else has a process yet, so nobody looks. */
  #copy(view: DataView, at: number, node: number): void {
    if (!this.#direct) return;
    const op = view.getUint8(at + 5);
    this.#copying = op !== CopyOp.END;
    this.#direct = op !== CopyOp.END;
    if (node === this.node) return;
    if (op === CopyOp.BEGIN) this.#memory.clear();
    else this.#memory.publish(view, at + HEADER_SIZE, at + view.getUint32(at, true));
  }

  #leave(rank: number, node: number, tag: number, lost: boolean): void {
    const process = this.#processes.get(rank);
    if (process === undefined || process.node !== node || !isPresent(process)) {
      this.#effects.complete(node, tag, Status.LEFT, 0);
      return;
    }
    this.#dropWaits(process);
    if (process.state === "joining") {
      this.#processes.delete(rank);
      this.#effects.complete(node, process.joinTag, Status.LEFT, 0);
    } else {
      process.state = lost ? "lost" : "left";
    }
    this.#effects.complete(node, tag, Status.OK, 0);
    this.#effects.gone(node, rank);
    if (this.#present().length === 0) {
      this.#end();
    } else if (this.#phase === "running") {
      if (lost && this.#lostRank < 0) this.#lostRank = rank;
      if (lost && this.config.onLoss === "fail") this.#lose();
      else this.#releaseBarrier();
      this.#passLocksOf(rank);
    }
  }

  /** A lost process will never arrive or post: whoever waits is told at once. */
  #lose(): void {
    for (const process of this.#byRank()) {
      if (process.barrierTag < 0) continue;
      const tag = process.barrierTag;
      process.barrierTag = -1;
      this.#effects.complete(process.node, tag, Status.LOST, this.#lostRank);
    }
    for (const queue of this.#queues()) {
      for (const waiter of queue.waiters.splice(0)) {
        this.#waits.delete(waiterKey(waiter.node, waiter.tag));
        this.#effects.complete(waiter.node, waiter.tag, Status.LOST, this.#lostRank);
      }
    }
    this.#sleepers.clear();
  }

  #end(): void {
    this.#phase = "ended";
    for (const { node, tag } of this.#waitingJoins.splice(0)) this.#effects.complete(node, tag, Status.ENDED, 0);
    this.#effects.ended();
  }

  #barrier(rank: number, node: number, tag: number): void {
    const refusal = this.#refusal(rank, node);
    const process = this.#processes.get(rank);
    if (refusal !== Status.OK || process === undefined) {
      this.#effects.complete(node, tag, refusal, this.#lostRank);
    } else if (process.barrierTag >= 0) {
      this.#effects.complete(node, tag, Status.BUSY, 0);
    } else {
      process.barrierTag = tag;
      this.#releaseBarrier();
    }
  }

  #releaseBarrier(): void {
    const present = this.#present();
    if (present.some((process) => process.barrierTag < 0)) return;
    this.#barriers += 1;
    this.#value = present.length;
    for (const process of present) {
      const tag = process.barrierTag;
      process.barrierTag = -1;
      this.#effects.complete(process.node, tag, Status.OK, 0);
    }
    this.#value = 0;
  }

  #semaphore(kind: number, view: DataView, at: number, rank: number, node: number, tag: number): void {
    const refusal = this.#refusal(rank, node);
    // Posting stays possible after a loss: survivors may still hand on what they hold.
    if (refusal !== Status.OK && !(refusal === Status.LOST && kind === Kind.SEM_POST)) {
      this.#effects.complete(node, tag, refusal, this.#lostRank);
      return;
    }
    const name = nameAt(view, at);
    let semaphore = this.#semaphores.get(name);
    if (semaphore === undefined) {
      if (checkName("semaphore", name) !== null) {
        this.#effects.complete(node, tag, Status.INVALID, 0);
        return;
      }
      if (this.#semaphores.size >= SEMAPHORES_MAX) {
        this.#effects.complete(node, tag, Status.LIMIT, 0);
        return;
      }
      semaphore = { name, value: view.getUint32(at + 36, true), waiters: [] };
      this.#semaphores.set(name, semaphore);
    }
    if (kind === Kind.SEM_POST) this.#post(semaphore, getUint64(view, at + 24), node, tag);
    else this.#wait(semaphore, view.getUint8(at + 5) === 1, rank, node, tag);
  }

  #post(semaphore: Semaphore, count: number, node: number, tag: number): void {
    const next = count > 0 ? semaphore.waiters.shift() : undefined;
    if (next !== undefined) {
      this.#waits.delete(waiterKey(next.node, next.tag));
      this.#effects.complete(next.node, next.tag, Status.OK, 0);
    } else if (semaphore.value + count > SEMAPHORE_VALUE_MAX) {
      this.#effects.complete(node, tag, Status.OVERFLOW, 0);
      return;
    } else {
      semaphore.value += count;
    }
    this.#effects.complete(node, tag, Status.OK, 0);
  }

  #wait(semaphore: Semaphore, only: boolean, rank: number, node: number, tag: number): void {
    if (semaphore.value > 0) {
      semaphore.value -= 1;
      this.#effects.complete(node, tag, Status.OK, 0);
    } else if (only) {
      this.#effects.complete(node, tag, Status.AGAIN, 0);
    } else {
      this.#enqueue(semaphore, { node, tag, rank });
    }
  }

  /** All that wait are in every welcome, so they must not become more than fit there. */
  #enqueue(queue: Queue, waiter: Waiter): boolean {
    const { node, tag } = waiter;
    const key = waiterKey(node, tag);
    const refused = this.#waits.has(key) ? Status.BUSY : this.#waits.size >= WAITING_MAX ? Status.LIMIT : Status.OK;
    if (refused === Status.OK) {
      queue.waiters.push(waiter);
      this.#waits.set(key, queue);
    } else {
      this.#effects.complete(node, tag, refused, 0);
    }
    return refused === Status.OK;
  }

  #lock(name: string, only: boolean, rank: number, node: number, tag: number): void {
    const refusal = this.#refusal(rank, node);
    if (refusal !== Status.OK) {
      this.#effects.complete(node, tag, refusal, this.#lostRank);
      return;
    }
    let lock = this.#locks.get(name);
    if (lock === undefined) {
      const refused =
        checkName("lock", name) !== null ? Status.INVALID : this.#locks.size >= LOCKS_MAX ? Status.LIMIT : Status.OK;
      if (refused !== Status.OK) {
        this.#effects.complete(node, tag, refused, 0);
        return;
      }
      lock = { name, owner: -1, died: -1, waiters: [] };
      this.#locks.set(name, lock);
    }
    // A process that waits for itself would wait for ever.
    if (lock.owner === rank || lock.waiters.some((waiter) => waiter.rank === rank)) {
      this.#effects.complete(node, tag, Status.BUSY, 0);
    } else if (lock.owner < 0) {
      this.#grant(lock, { node, tag, rank });
    } else if (only) {
      this.#effects.complete(node, tag, Status.AGAIN, 0);
    } else {
      this.#enqueue(lock, { node, tag, rank });
    }
  }

  #grant(lock: Lock, { node, tag, rank }: Waiter): void {
    const { died } = lock;
    lock.owner = rank;
    this.#effects.complete(node, tag, died < 0 ? Status.OK : Status.OWNER_DIED, Math.max(died, 0));
  }

  /** Unlocking stays possible after a loss: survivors may still hand on what they hold. */
  #unlock(name: string, keepsMark: boolean, rank: number, node: number, tag: number): void {
    const lock = this.#locks.get(name);
    if (!this.mayIssue(rank, node)) {
      this.#effects.complete(node, tag, Status.LEFT, 0);
    } else if (lock === undefined || lock.owner !== rank) {
      this.#effects.complete(node, tag, Status.NOT_OWNER, 0);
    } else {
      if (!keepsMark) lock.died = -1;
      this.#passOn(lock);
      this.#effects.complete(node, tag, Status.OK, 0);
    }
  }

  #passOn(lock: Lock): void {
    lock.owner = -1;
    const next = lock.waiters.shift();
    if (next === undefined) return;
    this.#waits.delete(waiterKey(next.node, next.tag));
    this.#grant(lock, next);
  }

  /** Whoever goes with a lock, dead or not, may have left behind what it guards by half. */
  #passLocksOf(rank: number): void {
    for (const lock of this.#locks.values()) {
      if (lock.owner !== rank) continue;
      lock.died = rank;
      this.#passOn(lock);
    }
  }

  *#queues(): Generator<Queue> {
    yield* this.#semaphores.values();
    yield* this.#locks.values();
    yield* this.#sleepers.values();
  }

  #allocate(kind: number, view: DataView, at: number, rank: number, node: number, tag: number): void {
    if (!this.mayIssue(rank, node)) {
      this.#effects.complete(node, tag, Status.LEFT, 0);
      return;
    }
    const size = getUint64(view, at + 24);
    const align = view.getUint32(at + 36, true);
    let name = "";
    if (kind === Kind.NAMED) {
      name = nameAt(view, at);
      const block = this.#heap.named(name);
      if (block !== undefined || checkName("block", name) !== null) {
        this.#value = block?.offset ?? 0;
        const known = block === undefined ? Status.INVALID : block.size === size ? Status.OK : Status.MISMATCH;
        this.#effects.complete(node, tag, known, 0);
        return;
      }
    }
    const offset = this.#heap.allocate(size, align, name);
    if (offset < 0) {
      this.#effects.complete(node, tag, Status.NO_MEMORY, 0);
      return;
    }
    this.#memory.zero(offset, size);
    if (this.#effects.watching) this.#effects.wrote(offset, size);
    this.#value = offset;
    this.#effects.complete(node, tag, Status.OK, 0);
  }

  #free(offset: number, rank: number, node: number, tag: number): void {
    if (!this.mayIssue(rank, node)) this.#effects.complete(node, tag, Status.LEFT, 0);
    else this.#effects.complete(node, tag, this.#heap.free(offset) ? Status.OK : Status.INVALID, 0);
  }

  /**
   * Compares and goes to sleep in one step of the order: whoever changes the value and then wakes comes either before,
   * and the comparison sees it, or after, and the wake finds the sleeper.
   */
  #sleep(view: DataView, at: number, rank: number, node: number, tag: number): void {
    const refusal = this.#refusal(rank, node);
    if (refusal !== Status.OK) {
      this.#effects.complete(node, tag, refusal, this.#lostRank);
      return;
    }
    const offset = getUint64(view, at + 24);
    if (view.getUint8(at + 5) === 0 && !this.equalsMap(view, at)) {
      this.#effects.complete(node, tag, Status.AGAIN, 0);
      return;
    }
    const sleepers = this.#sleepers.get(offset) ?? { offset, waiters: [] };
    if (this.#enqueue(sleepers, { node, tag, rank })) this.#sleepers.set(offset, sleepers);
  }

  /** Whether the place that the SLEEP at `at` names holds the value it expects. */
  equalsMap(view: DataView, at: number): boolean {
    return this.#memory.equals(getUint64(view, at + 24), view.getUint32(at + 32, true), view, at + HEADER_SIZE);
  }

  #wake(offset: number, count: number, node: number, tag: number): void {
    const sleepers = this.#sleepers.get(offset);
    const woken = sleepers?.waiters.splice(0, count) ?? [];
    if (sleepers?.waiters.length === 0) this.#sleepers.delete(offset);
    for (const waiter of woken) {
      this.#waits.delete(waiterKey(waiter.node, waiter.tag));
      this.#effects.complete(waiter.node, waiter.tag, Status.OK, 0);
    }
    this.#value = woken.length;
    this.#effects.complete(node, tag, Status.OK, 0);
  }

  /** A cancel that comes after the grant changes nothing: the grant stands. */
  #cancel(node: number, tag: number): void {
    const key = waiterKey(node, tag);
    const queue = this.#waits.get(key);
    if (queue === undefined) {
      this.#cancelBarrier(node, tag);
      return;
    }
    this.#waits.delete(key);
    queue.waiters = queue.waiters.filter((waiter) => waiter.node !== node || waiter.tag !== tag);
    this.#forgetEmpty(queue);
    this.#effects.complete(node, tag, Status.TIMEOUT, 0);
  }

  /** The process is out of the barrier again, which then waits for it as if it had not come. */
  #cancelBarrier(node: number, tag: number): void {
    for (const process of this.#processes.values()) {
      if (process.node !== node || process.barrierTag !== tag) continue;
      process.barrierTag = -1;
      this.#effects.complete(node, tag, Status.TIMEOUT, 0);
      return;
    }
  }

  /** A semaphore stays when nobody waits for it; a place where nobody sleeps is like any other. */
  #forgetEmpty(queue: Queue | Sleepers): void {
    if (queue.waiters.length === 0 && "offset" in queue) this.#sleepers.delete(queue.offset);
  }

  /** Whatever the leaving process still waits for on other channels is answered: no request is left behind. */
  #dropWaits(process: Process): void {
    if (process.barrierTag >= 0) this.#effects.complete(process.node, process.barrierTag, Status.LEFT, 0);
    process.barrierTag = -1;
    for (const queue of this.#queues()) {
      const mine = queue.waiters.filter((waiter) => waiter.rank === process.rank);
      if (mine.length === 0) continue;
      queue.waiters = queue.waiters.filter((waiter) => waiter.rank !== process.rank);
      this.#forgetEmpty(queue);
      for (const { node, tag } of mine) {
        this.#waits.delete(waiterKey(node, tag));
        this.#effects.complete(node, tag, Status.LEFT, 0);
      }
    }
  }

  #refusal(rank: number, node: number): Status {
    if (!this.mayIssue(rank, node)) return Status.LEFT;
    return this.#lostRank >= 0 && this.config.onLoss === "fail" ? Status.LOST : Status.OK;
  }

  #byRank(): Process[] {
    return [...this.#processes.values()].sort((a, b) => a.rank - b.rank);
  }

  #present(): Process[] {
    return this.#byRank().filter(isPresent);
  }

  snapshot(): SessionSnapshot {
    return structuredClone({
      config: this.config,
      phase: this.#phase,
      seq: this.#seq,
      published: this.#published,
      barriers: this.#barriers,
      lostRank: this.#lostRank,
      direct: this.#direct,
      copying: this.#copying,
      mayBeDirect: this.#mayBeDirect,
      processes: this.#byRank(),
      semaphores: [...this.#semaphores.values()],
      locks: [...this.#locks.values()],
      sleepers: [...this.#sleepers.values()],
      blocks: [...this.#heap.blocks],
      waitingJoins: this.#waitingJoins,
      restored: this.#restored,
      ordered: this.#ordered,
    });
  }

  /** What a later session can begin with. Who waits, and who is there, is no part of it. */
  image(): SessionImage {
    return structuredClone({
      config: this.config,
      seq: this.#seq,
      semaphores: [...this.#semaphores.values()].map(({ name, value }) => ({ name, value })),
      locks: [...this.#locks.values()].map(({ name, owner, died }) => ({ name, died: owner < 0 ? died : owner })),
      blocks: [...this.#heap.blocks],
    });
  }

  /** For a session that has not begun, over memory that has the image's bytes. */
  adopt(image: SessionImage): void {
    if (this.#seq !== 0 || image.config.size !== this.config.size) throw new RangeError("session: image");
    this.#restored = true;
    this.#heap = new Heap(this.config.size, image.blocks);
    for (const { name, value } of image.semaphores) this.#semaphores.set(name, { name, value, waiters: [] });
    for (const { name, died } of image.locks) this.#locks.set(name, { name, owner: -1, died, waiters: [] });
  }

  /** A session in the state of `snapshot`, over memory in the state that belongs to it. */
  static restore(snapshot: SessionSnapshot, memory: MapBytes, effects: Effects): Session {
    const session = new Session(snapshot.config, memory, effects);
    const copy = structuredClone(snapshot);
    session.#phase = copy.phase;
    session.#seq = copy.seq;
    session.#published = copy.published;
    session.#barriers = copy.barriers;
    session.#lostRank = copy.lostRank;
    session.#direct = copy.direct;
    session.#copying = copy.copying;
    session.#mayBeDirect = copy.mayBeDirect;
    session.#waitingJoins = copy.waitingJoins;
    session.#restored = copy.restored;
    session.#ordered = copy.ordered;
    for (const process of copy.processes) session.#processes.set(process.rank, process);
    session.#heap = new Heap(copy.config.size, copy.blocks);
    for (const semaphore of copy.semaphores) session.#semaphores.set(semaphore.name, semaphore);
    for (const lock of copy.locks) session.#locks.set(lock.name, lock);
    for (const sleepers of copy.sleepers) session.#sleepers.set(sleepers.offset, sleepers);
    for (const queue of session.#queues()) {
      for (const waiter of queue.waiters) session.#waits.set(waiterKey(waiter.node, waiter.tag), queue);
    }
    return session;
  }

  /** Who is here and what each is doing, for people. */
  report(): RankReport[] {
    const waitsOn = new Map<number, string>();
    const sleepsOn = new Map<number, string>();
    for (const { offset, waiters } of this.#sleepers.values()) {
      for (const { rank } of waiters) sleepsOn.set(rank, `0x${offset.toString(16)}`);
    }
    for (const semaphore of this.#semaphores.values()) {
      for (const { rank } of semaphore.waiters) waitsOn.set(rank, semaphore.name);
    }
    const locksOn = new Map<number, string>();
    const held = new Map<number, string[]>();
    for (const { name, owner, waiters } of this.#locks.values()) {
      for (const { rank } of waiters) locksOn.set(rank, name);
      if (owner >= 0) held.set(owner, [...(held.get(owner) ?? []), name]);
    }
    return this.#byRank().map(({ rank, nodeName, pid, state, barrierTag }) => {
      const holds = held.get(rank);
      const who = { rank, node: nodeName, pid, ...(holds && { holds }) };
      if (state !== "running") return { ...who, state };
      if (barrierTag >= 0) return { ...who, state: "barrier" };
      const semaphore = waitsOn.get(rank);
      if (semaphore !== undefined) return { ...who, state: "semaphore", on: semaphore };
      const lock = locksOn.get(rank);
      if (lock !== undefined) return { ...who, state: "lock", on: lock };
      const place = sleepsOn.get(rank);
      return place === undefined ? { ...who, state } : { ...who, state: "sleeping", on: place };
    });
  }

  semaphores(): { name: string; value: number; waiters: number[] }[] {
    return [...this.#semaphores.values()].map(({ name, value, waiters }) => ({
      name,
      value,
      waiters: waiters.map(({ rank }) => rank),
    }));
  }

  /** `owner` is -1 where nobody has the lock. */
  locks(): { name: string; owner: number; waiters: number[] }[] {
    return [...this.#locks.values()].map(({ name, owner, waiters }) => ({
      name,
      owner,
      waiters: waiters.map(({ rank }) => rank),
    }));
  }
}

function nameAt(view: DataView, at: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return bodyText(bytes, at + HEADER_SIZE, view.getUint32(at + 32, true));
}

/**
 * Whether MAP frames follow a welcome with this snapshot. A node that comes after the start needs no bytes unless the
 * session is elastic: it has no processes in it. In direct mode the server has none, until they are copied.
 */
export const bringsMap = ({ config, restored, phase, direct, copying }: SessionSnapshot): boolean =>
  phase === "joining" ? restored : phase === "running" && config.elastic === true && (!direct || copying);

const isPresent = (process: Process): boolean => process.state === "running" || process.state === "joining";
