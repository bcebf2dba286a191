/**
 * Cuts a byte stream into frames. Whole frames are handed over where they lie in the received chunk; only a frame that
 * spans chunks is copied together, so memory is bounded by the largest frame allowed.
 */
import { FRAME_MAX } from "./limits.ts";
import { HEADER_SIZE, ProtocolError } from "./protocol.ts";

/** `bytes` is valid during the call only, and may be written to. */
export type FrameHandler = (view: DataView, at: number, size: number, bytes: Uint8Array) => void;

export class FrameReader {
  #limit: number;
  #partial = new Uint8Array(0);
  #have = 0;
  #need = 0;

  constructor(limit: number) {
    this.#limit = limit;
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

  /** Throws ProtocolError on a size that cannot be; what `handle` throws passes through. The stream is then unusable. */
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
    if (this.#partial.length < need) this.#partial = new Uint8Array(Math.max(need, 4096));
    this.#partial.set(rest);
    this.#have = rest.length;
    this.#need = need;
  }

  /** Fills the frame begun in earlier chunks; returns how much of `chunk` it took. */
  #complete(chunk: Uint8Array, handle: FrameHandler): number {
    let at = 0;
    for (;;) {
      const take = Math.min(this.#need - this.#have, chunk.length - at);
      this.#partial.set(chunk.subarray(at, at + take), this.#have);
      this.#have += take;
      at += take;
      if (this.#have < this.#need) return at;
      const view = new DataView(this.#partial.buffer, 0, this.#have);
      const size = this.#check(view.getUint32(0, true));
      if (size === this.#have) {
        const frame = this.#partial;
        this.#have = 0;
        handle(view, 0, size, frame);
        return at;
      }
      if (this.#partial.length < size) {
        const grown = new Uint8Array(size);
        grown.set(this.#partial.subarray(0, this.#have));
        this.#partial = grown;
      }
      this.#need = size;
    }
  }
}
