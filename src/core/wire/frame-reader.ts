/**
 * FrameReader: cuts a byte stream into frames. Whole frames are passed on where they lie in the received chunk; only a
 * frame that spans chunks is copied together, so memory is bounded by the largest frame allowed.
 */

import { FRAME_MAX, SPARE_PARTS_MAX } from "../base/limits.ts";
import { At, HEADER_SIZE } from "./at.ts";
import { ProtocolError } from "./frame.ts";
import { encodeOffer, SharedPartSlots, type Sharing, SLOT_SIZE } from "./shared-parts.ts";

/** `bytes` is valid during the call only, and may be written to. */
export type FrameHandler = (view: DataView, at: number, size: number, bytes: Uint8Array) => void;

/** Memory for the parts of large publications, which is reused: to allocate it costs more than the work on a part. */
export class PartPool {
  #spare: Uint8Array<ArrayBuffer>[] = [];
  #lent: SharedPartSlots | null = null;
  #offer: Uint8Array | null = null;

  /**
   * From now on parts lie in memory that others on this host may map, as long as there is room. Returns the SHARE frame
   * that offers it; null: there is no such memory.
   */
  offer(sharing: Sharing): Uint8Array | null {
    if (this.#offer === null) {
      const shareable = sharing.create();
      if (shareable === null) return null;
      this.#lent = new SharedPartSlots(shareable.memory);
      this.#offer = encodeOffer(shareable);
    }
    return this.#offer;
  }

  /** the PART_IN_SHARED_MEMORY frame for a part, for peers that have mapped the memory; null: the part lies elsewhere. */
  reference(part: Uint8Array): Uint8Array | null {
    return this.#lent?.owns(part) === true ? this.#lent.reference(part) : null;
  }

  /** Returns at least `size` bytes with any contents: at most 4096 bytes, or fewer than 2 * `size`. */
  take(size: number): Uint8Array<ArrayBuffer> {
    if (size > SLOT_SIZE || size <= SLOT_SIZE / 2) return new Uint8Array(Math.max(size, 4096));
    return this.#lent?.take() ?? this.#spare.pop() ?? new Uint8Array(SLOT_SIZE);
  }

  /** Gives back what take() returned, or a part of it, which must not be used any more. */
  give(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#lent?.owns(bytes) === true) {
      this.#lent.give(bytes);
    } else if (bytes.buffer.byteLength === SLOT_SIZE && this.#spare.length < SPARE_PARTS_MAX) {
      this.#spare.push(new Uint8Array(bytes.buffer));
    } else {
      detachBuffer(bytes);
    }
  }
}

/** Bytes, and a view of the same. */
export interface Viewed {
  bytes: Uint8Array;
  view: DataView;
}

/** Up to this size words are copied one by one: creating a subarray costs more. */
export const WORD_COPY_MAX = 96;

/** Copies `size` bytes, a multiple of 4. */
export function copyWords(
  target: Viewed,
  to: number,
  bytes: Uint8Array,
  view: DataView,
  from: number,
  size: number,
): void {
  if (size <= WORD_COPY_MAX) {
    for (let i = 0; i < size; i += 4) target.view.setUint32(to + i, view.getUint32(from + i, true), true);
  } else {
    target.bytes.set(from === 0 && bytes.length === size ? bytes : bytes.subarray(from, from + size), to);
  }
}

/** Smaller buffers are left to the garbage collector. */
const FREE_NOW_MIN = 32 << 10;

/**
 * Frees the memory behind `bytes`, which must not be used any more. If it were left to the garbage collector, the
 * buffers of a large publication would exist many times over before they are collected, all in fresh memory.
 */
export function detachBuffer(bytes: Uint8Array): void {
  if (bytes.length >= FREE_NOW_MIN && bytes.buffer instanceof ArrayBuffer) bytes.buffer.transfer(0);
}

export class FrameReader {
  #limit: number;
  readonly #pool: PartPool;
  #partial = new Uint8Array(0);
  #have = 0;
  #need = 0;

  /** `pool`: the memory of take(). */
  constructor(limit: number, pool: PartPool = new PartPool()) {
    this.#limit = limit;
    this.#pool = pool;
  }

  /** Raises the limit once the peer is known. */
  set limit(limit: number) {
    if (limit > FRAME_MAX) throw new RangeError("frame limit");
    this.#limit = limit;
  }

  /** Bytes of a frame that has not fully arrived. */
  get pending(): number {
    return this.#have;
  }

  /**
   * For a handler that keeps its frame, given as `at`, `size` and `bytes`: returns bytes that hold the frame and belong
   * to the caller. They are the reader's own if it put the frame together in memory of about that size, else a copy.
   */
  take(at: number, size: number, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
    if (bytes === this.#partial && size > bytes.length / 2) {
      const own = this.#partial;
      this.#partial = new Uint8Array(0);
      return own.subarray(0, size);
    }
    const copy = this.#pool.take(size);
    copy.set(bytes.subarray(at, at + size));
    return copy.subarray(0, size);
  }

  /** Ends the stream: the memory goes back to the pool. */
  end(): void {
    this.#pool.give(this.#partial);
    this.#partial = new Uint8Array(0);
    this.#have = 0;
  }

  /** A copy of the bytes of the incomplete frame. */
  get partial(): Uint8Array {
    return this.#partial.slice(0, this.#have);
  }

  /**
   * Passes whole frames to `handle`. Throws ProtocolError on an invalid size, and whatever `handle` throws. The stream
   * is then unusable.
   */
  push(chunk: Uint8Array, handle: FrameHandler): void {
    let at = 0;
    if (this.#have > 0) {
      at = this.#complete(chunk, handle);
      if (this.#have > 0) return;
    }
    const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    while (chunk.length - at >= 4) {
      const size = this.#check(view.getUint32(at, true));
      if (chunk.length - at < size) {
        this.#keep(chunk.subarray(at), size);
        return;
      }
      handle(view, at, size, chunk);
      at += size;
    }
    if (at < chunk.length) this.#keep(chunk.subarray(at), 4);
  }

  #check(size: number): number {
    if (size < HEADER_SIZE || size > this.#limit || size % 8 !== 0) {
      throw new ProtocolError(`a frame of ${size} bytes cannot be`);
    }
    return size;
  }

  #keep(rest: Uint8Array, need: number): void {
    if (this.#partial.length < need) {
      this.#pool.give(this.#partial);
      this.#partial = this.#pool.take(need);
    }
    this.#partial.set(rest);
    this.#have = rest.length;
    this.#need = need;
  }

  /** Completes the frame begun in earlier chunks; returns how many bytes of `chunk` belong to it. */
  #complete(chunk: Uint8Array, handle: FrameHandler): number {
    let at = 0;
    for (;;) {
      const take = Math.min(this.#need - this.#have, chunk.length - at);
      this.#partial.set(chunk.subarray(at, at + take), this.#have);
      this.#have += take;
      at += take;
      if (this.#have < this.#need) return at;
      const view = new DataView(this.#partial.buffer, this.#partial.byteOffset, this.#have);
      const size = this.#check(view.getUint32(At.size, true));
      if (size === this.#have) {
        const frame = this.#partial;
        this.#have = 0;
        handle(view, 0, size, frame);
        return at;
      }
      if (this.#partial.length < size) {
        const grown = this.#pool.take(size);
        grown.set(this.#partial.subarray(0, this.#have));
        this.#pool.give(this.#partial);
        this.#partial = grown;
      }
      this.#need = size;
    }
  }
}
