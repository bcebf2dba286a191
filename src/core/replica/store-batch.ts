/**
 * StoreBatch: puts consecutive stores of one process in its node's ring into one log entry, so that the cost of an
 * entry to the node, the server and all other nodes is paid once for many stores.
 *
 * This keeps the guarantee of `pipelined`: every replica applies an entry's runs in their sequence, with no operation
 * of another process in between, so a reader can only tell that these stores followed one another closely.
 */

import { STORE_MAX } from "../base/limits.ts";
import { At, HEADER_SIZE, PublishAt, StoreAt, WordAt } from "../wire/at.ts";
import { padded, setUint64 } from "../wire/frame.ts";
import { copyWords, WORD_COPY_MAX } from "../wire/frame-reader.ts";
import { Kind, NO_TAG, PublishOp } from "../wire/kinds.ts";
import { RING_RECORD_MAX } from "../wire/ring-layout.ts";
import { RUN_HEADER_SIZE, RUN_LENGTH } from "../wire/runs.ts";

/** Bytes of runs at which a batch takes no further store: a larger entry would delay the others too long. */
const BATCH_SIZE = 16 << 10;
/** Byte of a frame at which the upper half of a store's offset begins. */
const OFFSET_HIGH = 4 * WordAt.offsetHigh;

export class StoreBatch {
  readonly #bytes = new Uint8Array(HEADER_SIZE + BATCH_SIZE + RING_RECORD_MAX);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #words = new Uint32Array(this.#bytes.buffer);
  readonly #target = { bytes: this.#bytes, view: this.#view };
  readonly #node: number;
  #end = HEADER_SIZE;
  #rank = -1;
  #stores = 0;

  constructor(node: number) {
    this.#node = node;
  }

  /** Whether a store of the rank belongs into this entry. If not, take() must be called before the store is added. */
  takes(rank: number): boolean {
    return this.#stores === 0 || (rank === this.#rank && this.#end <= HEADER_SIZE + BATCH_SIZE);
  }

  /** Adds the runs of a STORE or PUBLISH of `size` bytes. */
  add(frame: DataView, bytes: Uint8Array, size: number): void {
    this.#rank = frame.getUint16(At.rank, true);
    this.#stores += 1;
    const view = this.#view;
    let at = this.#end;
    if (frame.getUint8(At.kind) === Kind.STORE) {
      view.setUint32(at, frame.getUint32(StoreAt.mapOffset, true), true);
      const lengthAndHigh = (frame.getUint32(StoreAt.bytesLength, true) << 8) | frame.getUint32(OFFSET_HIGH, true);
      view.setUint32(at + RUN_LENGTH, lengthAndHigh, true);
      at += RUN_HEADER_SIZE;
    }
    copyWords(this.#target, at, bytes, frame, HEADER_SIZE, size - HEADER_SIZE);
    this.#end = at + size - HEADER_SIZE;
  }

  /**
   * Adds a store of `length` bytes, words of 4 bytes at `from` of `words`, below 2^32 in the map. `words` goes on with
   * what pads them to 8 bytes.
   */
  addWords(rank: number, offset: number, length: number, words: Uint32Array, from: number): void {
    this.#rank = rank;
    this.#stores += 1;
    let at = this.#end >>> 2;
    this.#words[at++] = offset;
    this.#words[at++] = length << 8;
    const count = padded(length) >>> 2;
    if (length > WORD_COPY_MAX) this.#words.set(words.subarray(from, from + count), at);
    else for (let i = 0; i < count; i += 1) this.#words[at++] = words[from + i] as number;
    this.#end += RUN_HEADER_SIZE + 4 * count;
  }

  /** Takes the frame of the batch, or null if it is empty. Valid until the next add(). */
  take(): Uint8Array | null {
    if (this.#stores === 0) return null;
    this.#stores = 0;
    const view = this.#view;
    const end = this.#end;
    this.#end = HEADER_SIZE;
    const length = view.getUint32(HEADER_SIZE + RUN_LENGTH, true) >>> 8;
    // A single store needs no run: its header then ends where the run's does.
    const alone = HEADER_SIZE + RUN_HEADER_SIZE + ((length + 7) & ~7) === end && length <= STORE_MAX;
    const at = alone ? RUN_HEADER_SIZE : 0;
    const low = view.getUint32(HEADER_SIZE, true);
    const high = view.getUint32(HEADER_SIZE + RUN_LENGTH, true) & 0xff;
    view.setUint32(at + At.size, end - at, true);
    view.setUint8(at + At.kind, alone ? Kind.STORE : Kind.PUBLISH);
    view.setUint8(at + PublishAt.part, PublishOp.FINAL);
    view.setUint16(at + At.rank, this.#rank, true);
    view.setUint32(at + At.tag, NO_TAG, true);
    view.setUint32(at + At.node, this.#node, true);
    // The number is filled in when the frame is proposed.
    setUint64(view, at + At.seq, 0);
    view.setUint32(at + StoreAt.mapOffset, alone ? low : 0, true);
    view.setUint32(at + OFFSET_HIGH, alone ? high : 0, true);
    view.setUint32(at + StoreAt.bytesLength, alone ? length : end - HEADER_SIZE, true);
    view.setUint32(at + At.aux, 0, true);
    return this.#bytes.subarray(at, end);
  }
}
