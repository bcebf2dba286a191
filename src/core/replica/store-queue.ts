/**
 * StoreQueue: stores of this node's processes under `pipelined`, and their small publications under `release`. They are
 * queued in the store ring, are in the map at once, and enter the log later. In a session of another order there is no
 * ring, and the queue does nothing.
 *
 * Invariants: while the arbiter holds the ring's lock the ring is empty and no process stores; the map is changed by
 * entries of other nodes only under the lock. Entries that were queued on this node change nothing in the map and need
 * no lock, so the processes that store the most do not wait for them.
 *
 * The arbiter polls the ring while it is awake; a process rings the doorbell only while the arbiter sleeps.
 */
import { STORE_MAX } from "../base/limits.ts";
import { At, HEADER_SIZE, PublishAt, WordAt } from "../wire/at.ts";
import { checkOperation } from "../wire/check-operation.ts";
import { padded } from "../wire/frame.ts";
import { Kind, NO_TAG, PublishOp } from "../wire/kinds.ts";
import type { ProcessTable } from "./processes.ts";
import type { Proposals } from "./proposals.ts";
import { StoreBatch } from "./store-batch.ts";
import type { StoreBufferMap } from "./store-buffer-map.ts";
import { eachSaved, redoFrame, savedSize } from "./store-frames.ts";
import { type RecordTaker, type Ring, ringCorrupt } from "./store-ring.ts";

/** Why stores are temporarily not queued. */
export type DisabledBy = "shadows" | "direct mode";

/** The ring of a session, and the map with the stores that are in flight. */
export interface QueueMemory {
  ring: Ring;
  map: StoreBufferMap;
}

export class StoreQueue {
  readonly #ring: Ring | null;
  readonly #map: StoreBufferMap | null;
  readonly #mapSize: number;
  readonly #node: number;
  readonly #processes: ProcessTable;
  readonly #proposals: Proposals;
  readonly #onFence: (tag: number) => void;
  readonly #batch: StoreBatch;
  readonly #taker: RecordTaker = {
    quick: (words, at, room) => this.#takeAlignedWords(words, at, room),
    size: (view, size) =>
      this.#mayQueue(view.getUint16(At.rank, true)) ? this.#recordSize(view, size) : Number.POSITIVE_INFINITY,
    record: (view, bytes, size, words) => this.#takeRecord(view, bytes, size, words),
  };
  /** The rank looked up last, if it may queue stores. */
  #queueingRank = -1;
  #holdsLock = false;
  readonly #disabledBy = new Set<DisabledBy>();
  /** Fences, each with the number of ring entries that must be applied before it is answered. */
  readonly #fences: { upTo: number; tag: number }[] = [];

  /** `onFence`: all stores before the fence with that tag have been applied on this node. */
  constructor(
    memory: QueueMemory | null,
    mapSize: number,
    node: number,
    processes: ProcessTable,
    proposals: Proposals,
    onFence: (tag: number) => void,
  ) {
    this.#ring = memory?.ring ?? null;
    this.#map = memory?.map ?? null;
    this.#mapSize = mapSize;
    this.#node = node;
    this.#processes = processes;
    this.#proposals = proposals;
    this.#onFence = onFence;
    this.#batch = new StoreBatch(node);
  }

  /** Runs `change`, which changes the map, under the ring's lock. */
  withLock(change: () => void): void {
    const held = this.#holdsLock;
    try {
      this.lock();
      change();
    } finally {
      if (!held) this.unlock();
    }
  }

  /** Takes the ring's lock, if it is not held yet, and drains the ring. */
  lock(): void {
    const ring = this.#ring;
    if (ring === null || this.#holdsLock) return;
    const broken = ring.lock.acquire();
    this.#holdsLock = true;
    this.drain();
    if (broken) this.#redoNewest(ring);
  }

  unlock(): void {
    if (!this.#holdsLock) return;
    this.#holdsLock = false;
    this.#ring?.release();
  }

  /** Proposes the stores that processes have queued. Returns how many. Throws ProtocolError: the ring is corrupt. */
  drain(): number {
    const ring = this.#ring;
    if (ring === null) return 0;
    this.#queueingRank = -1;
    const count = ring.take(this.#taker);
    this.#proposeBatch(ring);
    return count;
  }

  /** Fast path: nearly all stores are of aligned words: a few, at up to a million stores per second, or long runs. */
  #takeAlignedWords(words: Uint32Array, at: number, room: number): number {
    const kind = words[at + WordAt.kind] as number;
    const offset = words[at + WordAt.offset] as number;
    const length = words[at + WordAt.length] as number;
    const stored = padded(length);
    const size = HEADER_SIZE + 2 * stored;
    const isWords =
      words[at + WordAt.size] === HEADER_SIZE + stored &&
      (kind & 0xffff) === Kind.STORE &&
      words[at + WordAt.offsetHigh] === 0 &&
      (offset | length) % 4 === 0 &&
      length > 0 &&
      length <= STORE_MAX &&
      size <= room &&
      offset + length <= this.#mapSize;
    const rank = kind >>> 16;
    if (!isWords || !this.#mayQueue(rank)) return 0;
    const from = at + HEADER_SIZE / 4;
    if (!this.#batch.takes(rank)) this.#proposeBatch(this.#ring as Ring);
    this.#batch.addWords(rank, offset, length, words, from);
    (this.#map as StoreBufferMap).addWords(offset, length, words, from + stored / 4);
    return size;
  }

  /** Whether a process of this node has the rank. No process changes state while records are taken. */
  #mayQueue(rank: number): boolean {
    if (rank === this.#queueingRank) return true;
    if (this.#processes.get(rank)?.state !== "running") return false;
    this.#queueingRank = rank;
    return true;
  }

  /** The size of the record with this frame; for a frame that is no store, a size that no record can have. */
  #recordSize(view: DataView, size: number): number {
    const kind = view.getUint8(At.kind);
    const isStore = kind === Kind.STORE || (kind === Kind.PUBLISH && view.getUint8(PublishAt.part) === PublishOp.FINAL);
    if (!isStore || checkOperation(view, 0, this.#mapSize) !== null) return Number.POSITIVE_INFINITY;
    return size + savedSize(view);
  }

  #takeRecord(view: DataView, bytes: Uint8Array, size: number, words: Uint32Array): void {
    if (!this.#batch.takes(view.getUint16(At.rank, true))) this.#proposeBatch(this.#ring as Ring);
    this.#batch.add(view, bytes, size);
    const map = this.#map as StoreBufferMap;
    eachSaved(view, size, (offset, saved, length) => {
      if (offset < 2 ** 32 && (offset | length) % 4 === 0) map.addWords(offset, length, words, saved >>> 2);
      else map.add(offset, length, bytes, saved);
    });
  }

  #proposeBatch(ring: Ring): void {
    const frame = this.#batch.take();
    if (frame === null) return;
    ring.closeEntry();
    this.#map?.closeEntry();
    this.#proposals.add(new DataView(frame.buffer, frame.byteOffset, frame.length), frame);
  }

  /**
   * Repeats the newest store: the lock's owner died, and if it had moved the tail, the newest record is its own and may
   * not be in the map.
   */
  #redoNewest(ring: Ring): void {
    // Its process may already be known to be gone, so its rank is not checked.
    const newest = ring.last({ size: (view, size) => this.#recordSize(view, size) });
    if (newest !== null && this.#map !== null) redoFrame(newest, this.#map);
  }

  /**
   * Whether the entry at `at` was queued on this node, and its bytes have been in the map since then. Throws
   * ProtocolError when it is not the oldest such entry.
   */
  isOwnEntry(view: DataView, bytes: Uint8Array, at: number, size: number): boolean {
    if (this.#map === null || view.getUint32(at + At.node, true) !== this.#node) return false;
    const kind = view.getUint8(at + At.kind);
    const isQueued = view.getUint32(at + At.tag, true) === NO_TAG && (kind === Kind.STORE || kind === Kind.PUBLISH);
    if (isQueued && !this.#proposals.isOldest(view, bytes, at, size)) throw ringCorrupt();
    return isQueued;
  }

  /** Applies the oldest entry that was queued here. */
  commitOldest(apply: () => void): void {
    this.#map?.settle(apply);
    this.#ring?.giveBack();
    const returned = this.#ring?.returned ?? 0;
    while ((this.#fences[0]?.upTo ?? Number.POSITIVE_INFINITY) <= returned) {
      this.#onFence((this.#fences.shift() as { tag: number }).tag);
    }
  }

  /** Calls onFence() with the tag once all stores in the ring have been applied on this node. */
  fence(tag: number): void {
    const ring = this.#ring;
    if (ring === null || ring.taken === ring.returned) this.#onFence(tag);
    else this.#fences.push({ upTo: ring.taken, tag });
  }

  /** A page as the log has it: stores that processes have queued come later. */
  readOrdered(offset: number, length: number): Uint8Array | null {
    const map = this.#map;
    if (map === null) return null;
    let bytes = new Uint8Array(0);
    this.withLock(() => {
      bytes = map.ordered(offset, length) as Uint8Array<ArrayBuffer>;
    });
    return bytes;
  }

  /** Makes stores wait for their place in the log, for this reason too. */
  disable(reason: DisabledBy): void {
    this.#disabledBy.add(reason);
    this.#setDisabled();
  }

  /** Removes the reason. */
  enable(reason: DisabledBy): void {
    this.#disabledBy.delete(reason);
    this.#setDisabled();
  }

  isDisabledBy(reason: DisabledBy): boolean {
    return this.#disabledBy.has(reason);
  }

  #setDisabled(): void {
    const ring = this.#ring;
    if (ring === null) return;
    this.withLock(() => {
      ring.shadowed = this.#disabledBy.size > 0;
    });
  }

  /** The doorbell rang: the arbiter is awake. */
  wake(): void {
    this.#ring?.wake();
  }

  /** Whether processes expect drain() to be called without the doorbell. */
  get isAwake(): boolean {
    return this.#ring?.awake ?? false;
  }

  /** Makes a process that queues a store from now on ring the doorbell. False: a store has arrived meanwhile. */
  sleep(): boolean {
    return this.#ring?.sleep() ?? true;
  }
}
