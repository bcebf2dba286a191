/**
 * Ring: the arbiter's end of the ring in which the processes of a node queue stores (`pipelined`) and small publications
 * (`release`); the other end is native/src/pages/ring.c.
 *
 * A process takes the lock, writes its record, moves the tail, writes the map, and releases the lock. The arbiter takes
 * every record up to the tail into the log, and holds the lock while it changes the map, with the ring empty: so no
 * store of another node overwrites one that the arbiter has not accounted for. Several records may become one entry.
 * Their room in the ring is released when the entry has been applied on this node, so the stores in flight never exceed
 * the ring.
 */

import { Fifo } from "../base/fifo.ts";
import { At, HEADER_SIZE } from "../wire/at.ts";
import { ProtocolError } from "../wire/frame.ts";
import { copyWords, type Viewed } from "../wire/frame-reader.ts";
import { RING, RING_HEADER_SIZE, RING_RECORD_MAX, RING_SIZE, RING_START, RING_WRAP } from "../wire/ring-layout.ts";

/** RingLock: its holder may change the map. */
export interface RingLock {
  /** Acquires the lock. True: the previous owner died, and may have moved the tail without writing the map. */
  acquire(): boolean;
  release(): void;
}

/** RecordTaker: receives the records. */
export interface RecordTaker {
  /**
   * Takes a record of at most `room` bytes at `at` of the ring's words. Processes may change the words meanwhile, so
   * each word is read once. Returns the record's size if it could be taken on this path, else 0: the record is then
   * passed to record().
   */
  quick(words: Uint32Array, at: number, room: number): number;
  /**
   * The size of the record whose frame is in `view`, with the old bytes behind it; for a frame that is no store, a size
   * that no record can have.
   */
  size(view: DataView, frameSize: number): number;
  /** Takes a copy of the whole record, which begins with the frame; `words`: the same. Valid during the call only. */
  record(view: DataView, bytes: Uint8Array, frameSize: number, words: Uint32Array): void;
}

/** Makes processes do without the ring in these bytes, which has no arbiter's end. */
export function closeRing(bytes: Uint8Array): void {
  Atomics.store(new Uint32Array(bytes.buffer, bytes.byteOffset, RING_HEADER_SIZE / 4), word(RING.shadowed), 1);
}

/** Bytes, and a view and the words of the same. */
const viewed = (bytes: Uint8Array): Viewed & { words: Uint32Array } => ({
  bytes,
  view: new DataView(bytes.buffer),
  words: new Uint32Array(bytes.buffer),
});
const word = (place: readonly [number, number]): number => place[0] / 4;

export class Ring {
  readonly lock: RingLock;
  readonly #words: Uint32Array;
  readonly #data: Uint8Array;
  readonly #dataWords: Uint32Array;
  readonly #sizes: DataView;
  /** A copy of the record being taken. */
  readonly #record = viewed(new Uint8Array(RING_RECORD_MAX));
  /**
   * All records before it have been taken; those before #head have been applied, too. The arbiter's own copy: the
   * ring's is not trusted.
   */
  #taken = RING_START;
  #head = RING_START;
  /** Bytes of the ring that the records of each entry in flight occupy. */
  readonly #room = new Fifo<number>();
  /** The same for records that are in no entry yet. */
  #open = 0;
  /**
   * Place of the newest record taken since the lock was last released, and the size of its frame; -1: there is none.
   */
  #lastAt = -1;
  #lastSize = 0;
  #sleeps = 0;
  /** Number of entries made since the beginning, and of those applied. */
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
   * Hands over the new records, oldest first. Returns how many. The taker calls closeEntry() after those that form one
   * entry. Throws ProtocolError: the ring is damaged.
   */
  take(taker: RecordTaker): number {
    const tail = Atomics.load(this.#words, word(RING.tail));
    let left = (tail - this.#taken) >>> 0;
    if (left === 0) return 0;
    // A valid tail never exceeds the ring's size, and is a multiple of 8.
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
          // A wrap mark is always followed by a record.
          if (RING_SIZE - at >= left) throw damaged();
          left -= RING_SIZE - at;
          this.#taken = (this.#taken + RING_SIZE - at) >>> 0;
          continue;
        }
        size = this.#copyRecord(taker, at, frameSize, room);
        taker.record(this.#record.view, this.#record.bytes, frameSize, this.#record.words);
        this.#lastSize = frameSize;
      } else {
        // The frame of a STORE is followed by as many old bytes as it has new ones.
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

  /**
   * Copies a record, because a process could change it during the check: only the copy is checked and used. Returns the
   * record's size.
   */
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

  /** Releases the lock. */
  release(): void {
    this.#lastAt = -1;
    this.lock.release();
  }

  /**
   * A copy of the newest record's frame, if the record was taken since the lock was last released: its writer may not
   * have written the map. Its entry may have come back, but nothing can have changed the map or the ring since. The
   * frame is checked like any other. Throws ProtocolError: a process has changed it.
   */
  last(taker: Pick<RecordTaker, "size">): DataView | null {
    if (this.#lastAt < 0) return null;
    this.#copy(this.#lastAt, 0, this.#lastSize);
    this.#record.view.setUint32(At.size, this.#lastSize, true);
    if (!Number.isFinite(taker.size(this.#record.view, this.#lastSize))) throw damaged();
    return this.#record.view;
  }

  /**
   * Ends an entry: it consists of the records handed over since the last call, except the one being handed over now.
   */
  closeEntry(): void {
    this.#room.push(this.#open);
    this.#open = 0;
    this.taken += 1;
  }

  /** Releases the room of the oldest entry in flight, which has been applied. */
  giveBack(): void {
    const room = this.#room.shift();
    if (room === undefined) throw ringCorrupt();
    this.returned += 1;
    this.#head = (this.#head + room) >>> 0;
    Atomics.store(this.#words, word(RING.head), this.#head);
  }

  /** Whether the arbiter is awake: processes do not ring the doorbell. */
  get awake(): boolean {
    return Atomics.load(this.#words, word(RING.sleeping)) === 0;
  }

  /**
   * Makes processes ring the doorbell. False: a record has arrived meanwhile. A process rings first and then clears the
   * sleep number, and only the number that it saw: a process that is stopped in between takes no other process's
   * doorbell.
   */
  sleep(): boolean {
    this.#sleeps = (this.#sleeps + 1) >>> 0 || 1;
    Atomics.store(this.#words, word(RING.sleeping), this.#sleeps);
    if (Atomics.load(this.#words, word(RING.tail)) === this.#taken) return true;
    this.wake();
    return false;
  }

  /** Processes need not ring the doorbell: the arbiter polls the ring. */
  wake(): void {
    Atomics.store(this.#words, word(RING.sleeping), 0);
  }

  /** Whether processes must wait for each store's place in the log. The caller holds the lock. */
  set shadowed(shadowed: boolean) {
    Atomics.store(this.#words, word(RING.shadowed), shadowed ? 1 : 0);
  }
}

/** An entry of this node has come back that is not the one it queued first. */
export const ringCorrupt = (): ProtocolError =>
  new ProtocolError("an entry of the order is damaged: this node has not queued it");

const damaged = (): ProtocolError => new ProtocolError("a process of this node has damaged the ring of its stores");
