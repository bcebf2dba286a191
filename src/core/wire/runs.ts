/** Runs: the changed bytes of a publication, as they lie in the body of a PUBLISH, COPY or MAP frame. */
import { FRAME_MAX } from "../base/limits.ts";
import { padded } from "./frame.ts";

/**
 * A run in a PUBLISH body: 8 bytes (offset in the low 40 bits, length in the high 24), then its bytes, padded to 8.
 *
 * A length with its highest bit set is that of a masked run, which changes some of the bytes of neighbouring aligned
 * words: the low 12 bits are the number of those bytes less 1, the next 9 the number of words less 1. Behind the 8
 * bytes is a mask for each word (bit i: byte i changes), padded to 8, then the bytes that change, one behind the other,
 * padded to 8. So unwritten bytes do not travel, and a word is changed by one store.
 *
 * With the second highest bit set too the run is dense, which is smaller where most words change as a whole: in place
 * of the masks it has the number of masks (8 bytes), a bit for each word that changes as a whole, padded to 8 bytes,
 * and the masks of the other words, padded to 8.
 */
export const RUN_HEADER_SIZE = 8;
/** Where a run's length is in its header, with the high 8 bits of its offset below it. */
export const RUN_LENGTH = 4;
export const RUN_LENGTH_MAX = 0x7fffff;
export const RUN_MASKED = 0x800000;
export const RUN_DENSE = 0x400000;
export const RUN_WORDS_MAX = 512;
export const RUN_BYTES_BITS = 12;
/** Most bytes of runs in one PUBLISH part. */
export const PUBLISH_PART_MAX = 512 << 10;
/** Bytes of a process's staging area: four parts, one being made while the others are taken. */
export const STAGING_SIZE = 4 * PUBLISH_PART_MAX;

/** Offset and length of a run, read without allocating an object. The length of a masked run is that of its words. */
export const runOffset = (view: DataView, at: number): number =>
  (view.getUint32(at + RUN_LENGTH, true) & 0xff) * 2 ** 32 + view.getUint32(at, true);
export const runIsMasked = (view: DataView, at: number): boolean => view.getInt32(at + RUN_LENGTH, true) < 0;
export const runLength = (view: DataView, at: number): number => {
  const length = view.getUint32(at + RUN_LENGTH, true) >>> 8;
  return length < RUN_MASKED ? length : 8 * runWords(view, at);
};
/** Number of words of a masked run, and of their bytes that change. */
export const runWords = (view: DataView, at: number): number =>
  ((view.getUint32(at + RUN_LENGTH, true) >>> 20) & 0x1ff) + 1;
export const runChanges = (view: DataView, at: number): number =>
  ((view.getUint32(at + RUN_LENGTH, true) >>> 8) & 0xfff) + 1;
export const runIsDense = (view: DataView, at: number): boolean =>
  (view.getUint32(at + RUN_LENGTH, true) & 0x40000000) !== 0;
/** Bytes of a dense run's bits, and number of its masks. */
export const runBits = (view: DataView, at: number): number => padded((runWords(view, at) + 7) >>> 3);
export const runMasks = (view: DataView, at: number): number => view.getUint32(at + RUN_HEADER_SIZE, true) & 0x3ff;
/** Bytes between the header of a masked run and the bytes that change. */
export const runMasksSize = (view: DataView, at: number): number =>
  runIsDense(view, at) ? 8 + runBits(view, at) + padded(runMasks(view, at)) : padded(runWords(view, at));
/** Bytes of the frame that the run occupies, with its header. At least 16 bytes of the run must be readable. */
export const runSize = (view: DataView, at: number): number =>
  runIsMasked(view, at)
    ? RUN_HEADER_SIZE + runMasksSize(view, at) + padded(runChanges(view, at))
    : RUN_HEADER_SIZE + padded(view.getUint32(at + RUN_LENGTH, true) >>> 8);

/**
 * Calls `visit` for each word that a masked run changes: its place in the map, the mask of the bytes that change, and the
 * place of their values, behind which `visit` returns.
 */
export function eachMaskedWord(
  view: DataView,
  run: number,
  visit: (offset: number, mask: number, from: number) => number,
): void {
  const words = runWords(view, run);
  const isDense = runIsDense(view, run);
  const bits = run + RUN_HEADER_SIZE + 8;
  let masks = isDense ? bits + runBits(view, run) : run + RUN_HEADER_SIZE;
  let from = run + RUN_HEADER_SIZE + runMasksSize(view, run);
  let to = runOffset(view, run);
  for (let i = 0; i < words; i += 1, to += 8) {
    const isWhole = isDense && ((view.getUint8(bits + (i >>> 3)) >>> (i & 7)) & 1) !== 0;
    const mask = isWhole ? 0xff : view.getUint8(masks);
    if (!isWhole) masks += 1;
    if (mask !== 0) from = visit(to, mask, from);
  }
}

/** Writes one run at `at` and returns where the next one begins. */
export function writeRun(view: DataView, at: number, offset: number, bytes: Uint8Array): number {
  view.setUint32(at, offset >>> 0, true);
  view.setUint32(at + RUN_LENGTH, ((bytes.length << 8) | Math.floor(offset / 2 ** 32)) >>> 0, true);
  new Uint8Array(view.buffer, view.byteOffset).set(bytes, at + RUN_HEADER_SIZE);
  return at + RUN_HEADER_SIZE + padded(bytes.length);
}

/** Writes a masked run at `at`: `masks` of the words from `offset` on, and the bytes that they select. */
export function writeMaskedRun(
  view: DataView,
  at: number,
  offset: number,
  masks: Uint8Array,
  changes: Uint8Array,
): number {
  const length = RUN_MASKED | ((masks.length - 1) << RUN_BYTES_BITS) | (changes.length - 1);
  view.setUint32(at, offset >>> 0, true);
  view.setUint32(at + RUN_LENGTH, ((length << 8) | Math.floor(offset / 2 ** 32)) >>> 0, true);
  const bytes = new Uint8Array(view.buffer, view.byteOffset);
  bytes.set(masks, at + RUN_HEADER_SIZE);
  bytes.set(changes, at + RUN_HEADER_SIZE + padded(masks.length));
  return at + RUN_HEADER_SIZE + padded(masks.length) + padded(changes.length);
}

/** A page takes at most an eighth more than its bytes (RUNS_PAGE_MAX in runs.h); a larger publication is invalid. */
export const STAGED_PER_MAP_BYTE = 1.25;

/**
 * Maximum bytes of unfinished publications of one process: it may fill several holes at once, but they do not overlap.
 * Arbiters enforce it for their processes; the server does not rely on that.
 */
export const stagedLimit = (mapSize: number): number => mapSize * STAGED_PER_MAP_BYTE + FRAME_MAX;
