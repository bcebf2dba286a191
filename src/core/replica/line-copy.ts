/**
 * LineCopy: a copy of a piece of a run, laid out as in the map: a word of the map is a word here, whatever the alignment
 * of the run's bytes in their frame. So runs are compared and kept by words, and bytes count only at their ends.
 */
import { LINE } from "./pending-lines.ts";

/** Bytes of a piece: a run is copied piece by piece. */
const PIECE = 64 << 10;
/** Fewer bytes are copied one by one: creating a subarray costs more. */
const BLOCK_MIN = 32;

export class LineCopy {
  readonly bytes = new Uint8Array(PIECE);
  /** The same, in words of 4 bytes. */
  readonly words = new Uint32Array(this.bytes.buffer);

  /**
   * Copies bytes of a run, from `offset` of the map on. Returns where the copy ends: at `end`, or at the end of a line
   * before it. The first line is at byte 0 of the copy, those behind it follow. `from`: where `offset` is in `source`.
   */
  load(offset: number, end: number, source: Uint8Array, from: number): number {
    const start = Math.floor(offset / LINE) * LINE;
    const shift = offset - start;
    const length = Math.min(end - start, PIECE) - shift;
    if (length < BLOCK_MIN) {
      for (let i = 0; i < length; i += 1) this.bytes[shift + i] = source[from + i] as number;
    } else this.bytes.set(source.subarray(from, from + length), shift);
    return offset + length;
  }
}
