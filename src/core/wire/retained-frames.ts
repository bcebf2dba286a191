/**
 * RetainedFrames: the newest frames of a sequence, kept for readers that may need them again: entries of the log that
 * some node may not have applied, or proposals of a node that may not have been ordered. Each frame's seq field holds
 * its number in the sequence; the parts of a publication have the number of the last part.
 *
 * Invariants: frames lie in the order in which they were pushed, their numbers never decrease, and every frame with a
 * number above `droppedThrough` that was ever pushed is still here. Memory is released block by block, so frames at or below
 * `droppedThrough` may be here too.
 */

import { At } from "./at.ts";
import { setUint64 } from "./frame.ts";
import { copyWords, type Viewed } from "./frame-reader.ts";

/** Bytes of a block. A larger frame gets one of its own size. */
const BLOCK_SIZE = 64 << 10;
/** Bytes of blocks that are kept for reuse: memory that the kernel has to give first costs more than to fill it. */
const SPARE_BYTES = 1 << 20;

interface Block extends Viewed {
  end: number;
  /** Number of the newest frame in it. */
  last: number;
  /** The block's memory is not shared, and may be reused. */
  own: boolean;
  onRelease: (() => void) | null;
}

export class RetainedFrames {
  readonly #blocks: Block[] = [];
  /** Where the frames of the newest block begin that takeUnsent() has not returned; then the older pieces. */
  #unsentFrom = 0;
  #unsent: Uint8Array[] = [];
  readonly #tracksUnsent: boolean;
  readonly #spares: Block[] = [];
  #spareBytes = 0;
  #droppedThrough: number;
  #newest: number;
  #bytes = 0;
  #total = 0;
  /** Where the oldest frame behind #droppedThrough begins in the oldest block. */
  #oldestAt = 0;

  /** An empty sequence behind number `droppedThrough`. `tracksUnsent`: the owner calls takeUnsent(). */
  constructor(droppedThrough: number, tracksUnsent = false) {
    this.#tracksUnsent = tracksUnsent;
    this.#droppedThrough = droppedThrough;
    this.#newest = droppedThrough;
  }

  /** The highest number whose frame may be gone: all frames behind it are here. */
  get droppedThrough(): number {
    return this.#droppedThrough;
  }
  /** Number of the newest frame that was ever pushed. */
  get newest(): number {
    return this.#newest;
  }
  /** Bytes of the frames that are here. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes of all frames that were ever pushed. */
  get total(): number {
    return this.#total;
  }

  /** Appends a copy of the frame at `at` of `bytes`, and of `view` of the same bytes, and gives it its number. */
  push(view: DataView, bytes: Uint8Array, at: number, size: number, number: number): void {
    const block = this.#room(size);
    copyWords(block, block.end, bytes, view, at, size);
    setUint64(block.view, block.end + 16, number);
    block.end += size;
    this.#pushed(block, size, number);
  }

  /**
   * Appends a numbered frame without copying it. Its bytes must not change until `onRelease` is called. takeUnsent() does not
   * return it.
   */
  pushOwned(frame: Uint8Array, number: number, onRelease: (() => void) | null = null): void {
    this.#closeUnsent();
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const block = { bytes: frame, view, end: frame.length, last: number, own: false, onRelease };
    this.#blocks.push(block);
    this.#unsentFrom = frame.length;
    this.#pushed(block, frame.length, number);
  }

  #pushed(block: Block, size: number, number: number): void {
    if (number < this.#newest) throw new RangeError("retained frames: a number goes down");
    block.last = number;
    this.#newest = number;
    this.#bytes += size;
    this.#total += size;
  }

  #room(size: number): Block {
    const newest = this.#blocks.at(-1);
    if (newest !== undefined && newest.end + size <= newest.bytes.length) return newest;
    this.#closeUnsent();
    const block = this.#takeSpare(size) ?? newBlock(size);
    this.#blocks.push(block);
    this.#unsentFrom = 0;
    return block;
  }

  #takeSpare(size: number): Block | null {
    const index = this.#spares.findLastIndex(({ bytes }) => bytes.length >= size);
    const [block] = index < 0 ? [] : this.#spares.splice(index, 1);
    if (block === undefined) return null;
    this.#spareBytes -= block.bytes.length;
    return block;
  }

  #release(block: Block): void {
    block.onRelease?.();
    if (!block.own || this.#spareBytes + block.bytes.length > SPARE_BYTES) return;
    block.end = 0;
    this.#spares.push(block);
    this.#spareBytes += block.bytes.length;
  }

  #closeUnsent(): void {
    const newest = this.#blocks.at(-1);
    if (this.#tracksUnsent && newest !== undefined && newest.end > this.#unsentFrom) {
      this.#unsent.push(newest.bytes.subarray(this.#unsentFrom, newest.end));
      this.#unsentFrom = newest.end;
    }
  }

  /** Returns the frames pushed since the last call, as they lie: valid until the next drop(). */
  takeUnsent(): Uint8Array[] {
    this.#closeUnsent();
    return this.#unsent.splice(0);
  }

  /** Drops the frames up to this number. takeUnsent() must have returned them before. */
  drop(number: number): void {
    if (number <= this.#droppedThrough) return;
    this.#droppedThrough = Math.min(number, this.#newest);
    let count = 0;
    for (const block of this.#blocks) {
      if (block.last > number) break;
      count += 1;
      this.#oldestAt = 0;
      this.#bytes -= block.end;
      this.#release(block);
    }
    if (count > 0) this.#blocks.splice(0, count);
    const [first] = this.#blocks;
    if (first === undefined) {
      this.#unsentFrom = 0;
      return;
    }
    while (seqOf(first.view, this.#oldestAt) <= this.#droppedThrough) {
      this.#oldestAt += first.view.getUint32(this.#oldestAt, true);
    }
  }

  /** The oldest frame behind `droppedThrough`, or null: valid until the next drop(). */
  get oldest(): Uint8Array | null {
    const [first] = this.#blocks;
    if (first === undefined) return null;
    const at = this.#oldestAt;
    return first.bytes.subarray(at, at + first.view.getUint32(at, true));
  }

  /** The frames behind `number` in pieces of whole frames, as they lie: valid until the next drop(). */
  *framesAfter(number: number): Generator<Uint8Array> {
    if (number < this.#droppedThrough) throw new RangeError("retained frames: what is asked for is here no more");
    for (const block of this.#blocks) {
      if (block.last <= number) continue;
      let at = block === this.#blocks[0] ? this.#oldestAt : 0;
      while (at < block.end && seqOf(block.view, at) <= number) at += block.view.getUint32(at, true);
      yield block.bytes.subarray(at, block.end);
    }
  }
}

function newBlock(size: number): Block {
  const bytes = new Uint8Array(Math.max(size, BLOCK_SIZE));
  return { bytes, view: new DataView(bytes.buffer), end: 0, last: 0, own: true, onRelease: null };
}

/** The numbers here were written by this class: they need no check. */
const seqOf = (view: DataView, at: number): number =>
  view.getUint32(at + At.seq + 4, true) * 2 ** 32 + view.getUint32(at + At.seq, true);
