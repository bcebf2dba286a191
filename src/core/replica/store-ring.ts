/**
 * The arbiter's end of the ring in which the processes of a node queue their stores (`pipelined`); ring.c is the other.
 *
 * A process takes the lock, writes its record, moves the tail, writes the map, and gives the lock back. The arbiter
 * takes every record up to the tail into the order, and holds the lock while it changes the map, with the ring empty: so
 * nothing of another node's ever comes over a store that it has not counted in. Several records may become one entry.
 * Their room is given back when the entry has been applied here: what is under way is never more than the ring.
 */

import { Fifo } from "../base/fifo.ts";
import { At, HEADER_SIZE } from "../wire/at.ts";
import { ProtocolError } from "../wire/frame.ts";
import { copyWords, type Viewed } from "../wire/frame-reader.ts";
import { RING, RING_HEADER_SIZE, RING_RECORD_MAX, RING_SIZE, RING_START, RING_WRAP } from "../wire/ring-layout.ts";

/** Who holds the ring's lock may change the map. */
export interface RingLock {
  /** Waits for the lock. True: its owner was dead, and may have moved the tail without writing the map. */
  acquire(): boolean;
  release(): void;
}

/** Who gets the records. */
export interface RecordTaker {
  /**
   * A record of at most `room` bytes at `at` of the ring's words, which processes may change meanwhile: each word is read
   * once. Returns its size if it is one that can be taken so, and has been, else 0: then it comes to record().
   */
  quick(words: Uint32Array, at: number, room: number): number;
  /** Size of the record whose frame is in `view`, with the old bytes behind it; any that cannot be if it is no store. */
  size(view: DataView, frameSize: number): number;
  /** A copy of the record, whole: the frame first. Valid during the call only. */
  record(view: DataView, bytes: Uint8Array, frameSize: number): void;
}

const viewed = (bytes: Uint8Array): Viewed => ({ bytes, view: new DataView(bytes.buffer) });
const word = (place: readonly [number, number]): number => place[0] / 4;

export class Ring {
  readonly lock: RingLock;
  readonly #words: Uint32Array;
  readonly #data: Uint8Array;
  readonly #dataWords: Uint32Array;
  readonly #sizes: DataView;
  /** A copy of the record that is being taken. */
  readonly #record = viewed(new Uint8Array(RING_RECORD_MAX));
  /** Everything before it has been taken; before #head it has been applied too. What the ring says of it is not asked. */
  #taken = RING_START;
  #head = RING_START;
  /** Bytes of the ring that the records of each entry under way take up. */
  readonly #room = new Fifo<number>();
  /** And those of records that are in no entry yet. */
  #open = 0;
  /** Where the newest record is that was taken since we last gave the lock back, and its frame's size; -1: there is none. */
  #lastAt = -1;
  #lastSize = 0;
  #sleeps = 0;
  /** Entries that were made, and those that have been applied, since the beginning. */
  taken = 0;
  returned = 0;

  /** `bytes`: header and data. */
  constructor(bytes: Uint8Array, lock: RingLock) {
    this.lock = lock;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, RING_HEADER_SIZE / 4);
    this.#data = bytes.subarray(RING_HEADER_SIZE, RING_HEADER_SIZE + RING_SIZE);
    this.#dataWords = new Uint32Array(this.#data.buffer, this.#data.byteOffset, RING_SIZE / 4);
    this.#sizes = new DataView(this.#data.buffer, this.#data.byteOffset, RING_SIZE);
    Atomics.store(this.#words, word(RING.tail), RING_START);
    Atomics.store(this.#words, word(RING.head), RING_START);
    this.sleep();
  }

  /**
   * Hands over the records that have come, oldest first. Returns how many. Whoever gets them says with closeEntry() which
   * were one entry. Throws ProtocolError: the ring is damaged.
   */
  take(taker: RecordTaker): number {
    const tail = Atomics.load(this.#words, word(RING.tail));
    let left = (tail - this.#taken) >>> 0;
    if (left === 0) return 0;
    // More than the ring holds, or half a word: nobody who keeps to the rules has put the tail there.
    if (left + ((this.#taken - this.#head) >>> 0) > RING_SIZE || left % 8 !== 0) throw damaged();
    let count = 0;
    let skipped = 0;
    while (left > 0) {
      const at = this.#taken % RING_SIZE;
      const room = Math.min(RING_RECORD_MAX, RING_SIZE - at, left);
      let size = room < HEADER_SIZE ? 0 : taker.quick(this.#dataWords, at >>> 2, room);
      if (size === 0) {
        const frameSize = this.#dataWords[at >>> 2] as number;
        if (frameSize === RING_WRAP) {
          skipped += RING_SIZE - at;
          // A record follows.
          if (RING_SIZE - at >= left) throw damaged();
          left -= RING_SIZE - at;
          this.#taken = (this.#taken + RING_SIZE - at) >>> 0;
          continue;
        }
        size = this.#copyRecord(taker, at, frameSize, room);
        taker.record(this.#record.view, this.#record.bytes, frameSize);
        this.#lastSize = frameSize;
      } else {
        // Behind the frame of a STORE are as many old bytes as it has new ones.
        this.#lastSize = HEADER_SIZE + (size - HEADER_SIZE) / 2;
      }
      this.#lastAt = at;
      this.#taken = (this.#taken + size) >>> 0;
      left -= size;
      count += 1;
      this.#open += skipped + size;
      skipped = 0;
    }
    return count;
  }

  /** A process could change it while we look: what is checked and used is a copy. Returns the record's size. */
  #copyRecord(taker: RecordTaker, at: number, frameSize: number, room: number): number {
    if (!(frameSize >= HEADER_SIZE && frameSize <= room && frameSize % 8 === 0)) throw damaged();
    this.#copy(at, 0, frameSize);
    this.#record.view.setUint32(At.size, frameSize, true);
    const size = taker.size(this.#record.view, frameSize);
    if (size % 8 !== 0 || size > room) throw damaged();
    this.#copy(at + frameSize, frameSize, size - frameSize);
    return size;
  }

  #copy(from: number, to: number, size: number): void {
    copyWords(this.#record, to, this.#data, this.#sizes, from, size);
  }

  /** Gives the lock back. */
  release(): void {
    this.#lastAt = -1;
    this.lock.release();
  }

  /**
   * A copy of the frame of the newest record, if it was taken since the lock was last given back: whoever wrote it may not
   * have written the map. Its entry may have come back, but nothing can have changed the map or the ring since. It is
   * checked as any other. Throws ProtocolError: a process has changed it.
   */
  last(taker: Pick<RecordTaker, "size">): DataView | null {
    if (this.#lastAt < 0) return null;
    this.#copy(this.#lastAt, 0, this.#lastSize);
    this.#record.view.setUint32(At.size, this.#lastSize, true);
    if (!Number.isFinite(taker.size(this.#record.view, this.#lastSize))) throw damaged();
    return this.#record.view;
  }

  /** The records that were handed over since the last call, but for one that is being handed over now, are one entry. */
  closeEntry(): void {
    this.#room.push(this.#open);
    this.#open = 0;
    this.taken += 1;
  }

  /** The oldest entry under way has been applied. */
  giveBack(): void {
    const room = this.#room.shift();
    if (room === undefined) throw ringCorrupt();
    this.returned += 1;
    this.#head = (this.#head + room) >>> 0;
    Atomics.store(this.#words, word(RING.head), this.#head);
  }

  /** Whether a process would not ring the doorbell. */
  get awake(): boolean {
    return Atomics.load(this.#words, word(RING.sleeping)) === 0;
  }

  /**
   * From now on the doorbell is rung. False: something has come meanwhile. A process rings first and only then takes our
   * sign away, and no other sign: one that is stopped in between takes nobody's doorbell.
   */
  sleep(): boolean {
    this.#sleeps = (this.#sleeps + 1) >>> 0 || 1;
    Atomics.store(this.#words, word(RING.sleeping), this.#sleeps);
    if (Atomics.load(this.#words, word(RING.tail)) === this.#taken) return true;
    this.wake();
    return false;
  }

  /** From now on we look by ourselves. */
  wake(): void {
    Atomics.store(this.#words, word(RING.sleeping), 0);
  }

  /** Whether processes are to wait for each store's place. The lock is held. */
  set shadowed(shadowed: boolean) {
    Atomics.store(this.#words, word(RING.shadowed), shadowed ? 1 : 0);
  }
}

/** An entry of this node has come back that is not the one it queued first. */
export const ringCorrupt = (): ProtocolError =>
  new ProtocolError("an entry of the order is damaged: this node has not queued it");

const damaged = (): ProtocolError => new ProtocolError("a process of this node has damaged the ring of its stores");
