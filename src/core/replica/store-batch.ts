/**
 * Puts stores of one process that lie one behind the other in its node's ring into one entry of the order: what an entry
 * costs its node, the server and all other nodes is then paid once for many of them.
 *
 * It keeps the promise of `pipelined`: an entry's runs are applied in their sequence, by everybody, with nothing of
 * another process in between, so all that a reader can tell is that these stores followed one another closely.
 */

import { STORE_MAX } from "../base/limits.ts";
import { copyWords } from "../wire/frame-reader.ts";
import { HEADER_SIZE, Kind, NO_TAG, PublishOp, RING_RECORD_MAX, RUN_HEADER_SIZE } from "../wire/protocol.ts";

/** Bytes of runs from which on no store is added: others are not to wait for much more. */
const BATCH_SIZE = 16 << 10;

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

  /** Whether a store of the rank belongs into this entry. If not, take() comes before it is added. */
  takes(rank: number): boolean {
    return this.#stores === 0 || (rank === this.#rank && this.#end <= HEADER_SIZE + BATCH_SIZE);
  }

  /** Adds the runs of a STORE or PUBLISH of `size` bytes. */
  add(frame: DataView, bytes: Uint8Array, size: number): void {
    this.#rank = frame.getUint16(6, true);
    this.#stores += 1;
    const view = this.#view;
    let at = this.#end;
    if (frame.getUint8(4) === Kind.STORE) {
      view.setUint32(at, frame.getUint32(24, true), true);
      view.setUint32(at + 4, (frame.getUint32(32, true) << 8) | frame.getUint32(28, true), true);
      at += RUN_HEADER_SIZE;
    }
    copyWords(this.#target, at, bytes, frame, HEADER_SIZE, size - HEADER_SIZE);
    this.#end = at + size - HEADER_SIZE;
  }

  /** Adds the store of `length` bytes, whole words that lie at `from` of `words`, below 2^32. */
  addWords(rank: number, offset: number, length: number, words: Uint32Array, from: number): void {
    this.#rank = rank;
    this.#stores += 1;
    const at = this.#end >>> 2;
    this.#words[at] = offset;
    this.#words[at + 1] = length << 8;
    for (let i = 0; i < length >>> 2; i += 1) this.#words[at + 2 + i] = words[from + i] as number;
    this.#end += RUN_HEADER_SIZE + length;
  }

  /** The frame of what was added, or null if nothing was. Valid until the next add(). */
  take(): Uint8Array | null {
    if (this.#stores === 0) return null;
    this.#stores = 0;
    const view = this.#view;
    const end = this.#end;
    this.#end = HEADER_SIZE;
    const length = view.getUint32(HEADER_SIZE + 4, true) >>> 8;
    // A store alone needs no run: its header then ends where the run's does.
    const alone = HEADER_SIZE + RUN_HEADER_SIZE + ((length + 7) & ~7) === end && length <= STORE_MAX;
    const at = alone ? RUN_HEADER_SIZE : 0;
    const low = view.getUint32(HEADER_SIZE, true);
    const high = view.getUint32(HEADER_SIZE + 4, true) & 0xff;
    view.setUint32(at, end - at, true);
    view.setUint8(at + 4, alone ? Kind.STORE : Kind.PUBLISH);
    view.setUint8(at + 5, PublishOp.LAST);
    view.setUint16(at + 6, this.#rank, true);
    view.setUint32(at + 8, NO_TAG, true);
    view.setUint32(at + 12, this.#node, true);
    // Its number is given later.
    view.setUint32(at + 16, 0, true);
    view.setUint32(at + 20, 0, true);
    view.setUint32(at + 24, alone ? low : 0, true);
    view.setUint32(at + 28, alone ? high : 0, true);
    view.setUint32(at + 32, alone ? length : end - HEADER_SIZE, true);
    view.setUint32(at + 36, 0, true);
    return this.#bytes.subarray(at, end);
  }
}
