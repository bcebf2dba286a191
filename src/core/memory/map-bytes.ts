/**
 * MapBytes: what a store, an atomic operation and a publication do to the bytes of a map.
 *
 * Other processes may read a map while dsm writes it. So a naturally aligned store of 2, 4 or 8 bytes is one store here
 * too (a DataView setter), never a copy loop, and larger pieces are written word by word from their first aligned
 * address upwards. 8-byte words travel as BigInt, because a Float64 would lose the payload of a NaN.
 */
import { PAGE_SIZE } from "../base/limits.ts";
import { AtomicOp } from "../wire/kinds.ts";
import {
  eachMaskedWord,
  RUN_HEADER_SIZE,
  runChanges,
  runIsMasked,
  runLength,
  runOffset,
  runSize,
} from "../wire/runs.ts";

/** From this many bytes on a block copy is faster; below it the call costs more than the words. */
const BLOCK_COPY_MIN = 256;
/** Bytes of a word, and of half of one. */
const WORD = 8;
const HALF = 4;
/** From this many bytes of runs on a call out of JavaScript is faster. */
const APPLY_CALL_MIN = 256;

/** A faster MapBytes.publish(): applies the runs between `from` and `end` of `source`, which are well formed. */
export type ApplyRuns = (map: Uint8Array, source: DataView, from: number, end: number) => number;

/** MapWatcher: sees bytes of a map before they change. */
export interface MapWatcher {
  beforeWrite(offset: number, length: number): void;
}

export class MapBytes {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly watchers = new Set<MapWatcher>();
  readonly #applyRuns: ApplyRuns | null;
  /** One word, assembled from its bytes. */
  readonly #word = new DataView(new ArrayBuffer(8));

  constructor(bytes: Uint8Array, applyRuns: ApplyRuns | null = null) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#applyRuns = applyRuns;
  }

  get size(): number {
    return this.bytes.length;
  }

  /** Writes `length` bytes of `source` at `offset`. The caller has checked that they fit. */
  store(offset: number, source: DataView, from: number, length: number): void {
    const { view } = this;
    if (this.watchers.size > 0) this.#announce(offset, length);
    switch (length) {
      case 1:
        view.setUint8(offset, source.getUint8(from));
        return;
      case 2:
        view.setUint16(offset, source.getUint16(from, true), true);
        return;
      case 4:
        view.setUint32(offset, source.getUint32(from, true), true);
        return;
      case 8:
        view.setBigUint64(offset, source.getBigUint64(from, true), true);
        return;
      default:
        this.#storeBlock(offset, source, from, length);
    }
  }

  zero(offset: number, length: number): void {
    if (this.watchers.size > 0) this.#announce(offset, length);
    this.bytes.fill(0, offset, offset + length);
  }

  /** Fills the map with zeros. Pages that are already zero are not written. */
  clear(): void {
    for (let offset = 0; offset < this.size; offset += PAGE_SIZE) {
      if (!isZero(this.bytes.subarray(offset, offset + PAGE_SIZE))) this.zero(offset, PAGE_SIZE);
    }
  }

  #announce(offset: number, length: number): void {
    for (const watcher of this.watchers) watcher.beforeWrite(offset, length);
  }

  #storeBlock(offset: number, source: DataView, from: number, length: number): void {
    const { view } = this;
    const end = offset + length;
    let to = offset;
    let at = from;
    // Natural alignment up to the first 8-byte boundary, so that no aligned word is ever half written.
    if ((to & 1) !== 0 && end - to >= 1) {
      view.setUint8(to, source.getUint8(at));
      to += 1;
      at += 1;
    }
    if ((to & 2) !== 0 && end - to >= 2) {
      view.setUint16(to, source.getUint16(at, true), true);
      to += 2;
      at += 2;
    }
    if ((to & 4) !== 0 && end - to >= 4) {
      view.setUint32(to, source.getUint32(at, true), true);
      to += 4;
      at += 4;
    }
    if (end - to >= BLOCK_COPY_MIN) {
      // memmove of whole aligned words never writes less than a word at a time.
      const words = (end - to) & ~7;
      this.bytes.set(new Uint8Array(source.buffer, source.byteOffset + at, words), to);
      to += words;
      at += words;
    }
    for (; end - to >= 8; to += 8, at += 8) view.setBigUint64(to, source.getBigUint64(at, true), true);
    if (end - to >= 4) {
      view.setUint32(to, source.getUint32(at, true), true);
      to += 4;
      at += 4;
    }
    if (end - to >= 2) {
      view.setUint16(to, source.getUint16(at, true), true);
      to += 2;
      at += 2;
    }
    if (end - to >= 1) view.setUint8(to, source.getUint8(at));
  }

  /**
   * Executes one atomic operation and writes the previous value, zero-extended to 16 bytes, at `oldAt` of `old`.
   * Operand and compare are little-endian at `from` and `from + 16` of `source`.
   */
  atomic(
    op: AtomicOp,
    width: number,
    offset: number,
    source: DataView,
    from: number,
    old: DataView,
    oldAt: number,
  ): void {
    if (this.watchers.size > 0) this.#announce(offset, width);
    if (width === 16) {
      this.#atomic16(op, offset, source, from, old, oldAt);
      return;
    }
    const { view } = this;
    const before = read(view, offset, width);
    old.setBigUint64(oldAt, before, true);
    old.setBigUint64(oldAt + 8, 0n, true);
    const after = compute(op, width, before, read(source, from, width), read(source, from + 16, width));
    switch (width) {
      case 1:
        view.setUint8(offset, Number(after));
        return;
      case 2:
        view.setUint16(offset, Number(after), true);
        return;
      case 4:
        view.setUint32(offset, Number(after), true);
        return;
      default:
        view.setBigUint64(offset, after, true);
    }
  }

  #atomic16(op: AtomicOp, offset: number, source: DataView, from: number, old: DataView, oldAt: number): void {
    const { view } = this;
    const before = read16(view, offset);
    old.setBigUint64(oldAt, view.getBigUint64(offset, true), true);
    old.setBigUint64(oldAt + 8, view.getBigUint64(offset + 8, true), true);
    const after = compute(op, 16, before, read16(source, from), read16(source, from + 16));
    view.setBigUint64(offset, BigInt.asUintN(64, after), true);
    view.setBigUint64(offset + 8, after >> 64n, true);
  }

  /**
   * Whether the 1, 2, 4 or 8 bytes at `offset` equal those at `from`. Reads them by one load: processes may store
   * there.
   */
  equals(offset: number, length: number, source: DataView, from: number): boolean {
    return read(this.view, offset, length) === read(source, from, length);
  }

  /** Applies the runs between `from` and `end` of `source`, in their order. Returns how many bytes they change. */
  publish(source: DataView, from: number, end: number): number {
    if (this.watchers.size > 0) {
      for (let at = from; at < end; at += runSize(source, at)) {
        this.#announce(runOffset(source, at), runLength(source, at));
      }
    }
    if (this.#applyRuns !== null && end - from >= APPLY_CALL_MIN && this.goThrough(source, from, end)) {
      return this.#applyRuns(this.bytes, source, from, end);
    }
    let bytes = 0;
    for (let at = from; at < end; at += runSize(source, at)) {
      if (runIsMasked(source, at)) {
        bytes += runChanges(source, at);
        eachMaskedWord(source, at, (offset, mask, from) => this.storeMaskedWord(offset, mask, source, from));
      } else {
        const length = runLength(source, at);
        bytes += length;
        this.store(runOffset(source, at), source, at + RUN_HEADER_SIZE, length);
      }
    }
    return bytes;
  }

  /** Whether all bytes of the runs go into the map unchanged. */
  protected goThrough(_source: DataView, _from: number, _end: number): boolean {
    return true;
  }

  /**
   * Writes the bytes at `from` for which the mask has bits into the aligned word at `offset`. Writes the word once, as
   * a whole, with its other bytes unchanged. Returns the place behind the bytes.
   */
  protected storeMaskedWord(offset: number, mask: number, source: DataView, from: number): number {
    const word = this.#word;
    word.setBigUint64(0, this.view.getBigUint64(offset, true), true);
    let next = from;
    for (let byte = 0; byte < 8; byte += 1) {
      if (((mask >> byte) & 1) === 0) continue;
      word.setUint8(byte, source.getUint8(next));
      next += 1;
    }
    this.view.setBigUint64(offset, word.getBigUint64(0, true), true);
    return next;
  }
}

export function isZero(page: Uint8Array): boolean {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  for (let at = 0; at < page.length; at += 8) {
    if (view.getInt32(at, true) !== 0 || view.getInt32(at + HALF, true) !== 0) return false;
  }
  return true;
}

function read(view: DataView, at: number, width: number): bigint {
  switch (width) {
    case 1:
      return BigInt(view.getUint8(at));
    case 2:
      return BigInt(view.getUint16(at, true));
    case 4:
      return BigInt(view.getUint32(at, true));
    default:
      return view.getBigUint64(at, true);
  }
}

function read16(view: DataView, at: number): bigint {
  return view.getBigUint64(at, true) | (view.getBigUint64(at + WORD, true) << 64n);
}

function compute(op: AtomicOp, width: number, before: bigint, operand: bigint, compare: bigint): bigint {
  switch (op) {
    case AtomicOp.ADD:
      return BigInt.asUintN(width * 8, before + operand);
    case AtomicOp.AND:
      return before & operand;
    case AtomicOp.OR:
      return before | operand;
    case AtomicOp.XOR:
      return before ^ operand;
    case AtomicOp.XCHG:
      return operand;
    case AtomicOp.CMPXCHG:
      return before === compare ? operand : before;
    case AtomicOp.NEG:
      return BigInt.asUintN(width * 8, -before);
  }
}
