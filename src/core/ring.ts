/**
 * The arbiter's end of the ring in which the processes of a node queue their stores (`pipelined`); ring.c is the other.
 *
 * A process takes the lock, writes its record, moves the tail, writes the map, and gives the lock back. The arbiter
 * takes every record up to the tail into the order, and holds the lock while it changes the map, with the ring empty: so
 * nothing of another node's ever comes over a store that it has not counted in. Room is given back when the record's
 * entry has been applied here: what is under way is never more than the ring.
 */
import {
  HEADER_SIZE,
  ProtocolError,
  RING,
  RING_HEADER_SIZE,
  RING_RECORD_MAX,
  RING_SIZE,
  RING_WRAP,
} from "./protocol.ts";

/** Who holds the ring's lock may change the map. */
export interface RingLock {
  /** Waits for the lock. True: its owner was dead, and may have moved the tail without writing the map. */
  acquire(): boolean;
  release(): void;
  /** A process comes that may take the lock. False: its end could not be noticed. */
  admit(pid: number): boolean;
}

/** A record, whole: the frame first. Valid during the call only. */
export type RecordHandler = (view: DataView, bytes: Uint8Array, size: number) => void;

const word = (place: readonly [number, number]): number => place[0] / 4;

export class Ring {
  readonly lock: RingLock;
  readonly #words: Uint32Array;
  readonly #data: Uint8Array;
  readonly #sizes: DataView;
  readonly #record = new Uint8Array(RING_RECORD_MAX);
  readonly #view = new DataView(this.#record.buffer);
  /** Everything before it has been taken. */
  #taken = 0;
  /** Bytes of the ring that each record under way takes up, oldest first, from #first on. */
  #room: number[] = [];
  #first = 0;
  /** Their sum. */
  #outstanding = 0;
  #last = false;
  /** Records taken, and records whose entries have been applied, since the beginning. */
  taken = 0;
  returned = 0;

  /** `bytes`: header and data. */
  constructor(bytes: Uint8Array, lock: RingLock) {
    this.lock = lock;
    this.#words = new Uint32Array(bytes.buffer, bytes.byteOffset, RING_HEADER_SIZE / 4);
    this.#data = bytes.subarray(RING_HEADER_SIZE, RING_HEADER_SIZE + RING_SIZE);
    this.#sizes = new DataView(this.#data.buffer, this.#data.byteOffset, RING_SIZE);
    Atomics.store(this.#words, word(RING.sleeping), 1);
  }

  /** Hands over the records that have come, oldest first. Returns how many. Throws ProtocolError: the ring is damaged. */
  take(handle: RecordHandler, recordSize: (view: DataView, frameSize: number) => number): number {
    const tail = Atomics.load(this.#words, word(RING.tail));
    // What there is to take and what is under way lie in the ring together, so there is an end to both.
    let left = (tail - this.#taken) >>> 0;
    if (left % 8 !== 0 || left + this.#outstanding > RING_SIZE) throw damaged();
    let count = 0;
    let skipped = 0;
    while (this.#taken !== tail) {
      const at = this.#taken % RING_SIZE;
      const frameSize = this.#sizes.getUint32(at, true);
      if (frameSize === RING_WRAP) {
        skipped += RING_SIZE - at;
        left -= RING_SIZE - at;
        if (left < 0) throw damaged();
        this.#taken = (this.#taken + RING_SIZE - at) >>> 0;
        continue;
      }
      // A process could change it while we look: what is checked and used is a copy.
      if (!(frameSize >= HEADER_SIZE && frameSize <= Math.min(RING_RECORD_MAX, RING_SIZE - at))) throw damaged();
      this.#record.set(this.#data.subarray(at, at + frameSize));
      this.#view.setUint32(0, frameSize, true);
      const size = recordSize(this.#view, frameSize);
      if (size % 8 !== 0 || size > Math.min(RING_RECORD_MAX, RING_SIZE - at, left)) throw damaged();
      left -= size;
      this.#record.set(this.#data.subarray(at + frameSize, at + size), frameSize);
      this.#taken = (this.#taken + size) >>> 0;
      this.#room.push(skipped + size);
      this.#outstanding += skipped + size;
      skipped = 0;
      this.#last = true;
      this.taken += 1;
      count += 1;
      handle(this.#view, this.#record, frameSize);
    }
    if (skipped > 0) throw damaged();
    return count;
  }

  /** The frame of the newest record. */
  get last(): DataView | null {
    return this.#last ? this.#view : null;
  }

  /** The entry of the oldest record under way has been applied. */
  giveBack(): void {
    const room = this.#room[this.#first];
    if (room === undefined) throw new Error("ring: an entry of this node that was in no record");
    this.#first += 1;
    if (this.#first > 1024 && this.#first * 2 > this.#room.length) {
      this.#room = this.#room.slice(this.#first);
      this.#first = 0;
    }
    this.#outstanding -= room;
    this.returned += 1;
    Atomics.store(this.#words, word(RING.head), (Atomics.load(this.#words, word(RING.head)) + room) >>> 0);
  }

  /** Whether a process would not ring the doorbell. */
  get awake(): boolean {
    return Atomics.load(this.#words, word(RING.sleeping)) === 0;
  }

  /** From now on the doorbell is rung. False: something has come meanwhile. */
  sleep(): boolean {
    Atomics.store(this.#words, word(RING.sleeping), 1);
    if (Atomics.load(this.#words, word(RING.tail)) === this.#taken) return true;
    Atomics.store(this.#words, word(RING.sleeping), 0);
    return false;
  }

  /** Whether processes are to wait for each store's place. The lock is held. */
  set shadowed(shadowed: boolean) {
    Atomics.store(this.#words, word(RING.shadowed), shadowed ? 1 : 0);
  }
}

const damaged = (): ProtocolError => new ProtocolError("a process of this node has damaged the ring of its stores");
