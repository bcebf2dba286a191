/** Checks that the runs of a frame are well formed, before they enter the log. */
import { padded } from "./frame.ts";
import {
  RUN_HEADER_SIZE,
  RUN_MASKED,
  runBits,
  runChanges,
  runIsDense,
  runLength,
  runMasks,
  runMasksSize,
  runOffset,
  runSize,
  runWords,
} from "./runs.ts";

/** Counts the bits set in `words` bytes at `at`; the padding to 8 bytes must be 0 and is counted, too. */
function countBits(view: DataView, at: number, bytes: number): number {
  let count = 0;
  // Neighbouring words mostly have the same mask.
  let last = 0;
  let lastCount = 0;
  for (let i = 0; i < bytes; i += 4) {
    const four = view.getInt32(at + i, true);
    if (four !== last) {
      last = four;
      let bits = four - ((four >>> 1) & 0x55555555);
      bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
      lastCount = Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
    }
    count += lastCount;
  }
  return count;
}

/** Whether a dense run encodes the number of its masks in the one valid way. */
const hasDenseCount = (view: DataView, run: number): boolean =>
  view.getUint32(run + RUN_HEADER_SIZE, true) === runMasks(view, run) &&
  view.getUint32(run + RUN_HEADER_SIZE + 4, true) === 0;

/** Whether the run has a mask for each word without a bit, and bits for its words only. */
function hasDenseForm(view: DataView, run: number): boolean {
  const words = runWords(view, run);
  const masks = runMasks(view, run);
  const bits = run + 2 * RUN_HEADER_SIZE;
  for (let word = words; word < 8 * runBits(view, run); word += 1) {
    if (((view.getUint8(bits + (word >>> 3)) >>> (word & 7)) & 1) !== 0) return false;
  }
  return countBits(view, bits, runBits(view, run)) === words - masks;
}

/** The fault of the runs between `from` and `end`, or null. */
export function checkRuns(view: DataView, from: number, end: number, mapSize: number, ordered: boolean): string | null {
  for (let run = from; run < end; ) {
    const high = view.getUint32(run + 4, true);
    // Where runs are many, nearly all are plain: read each of their words only once.
    if (high < RUN_MASKED * 256) {
      const length = high >>> 8;
      const next = run + RUN_HEADER_SIZE + padded(length);
      if (next > end || length === 0) return "publish: a run does not fit its frame";
      if ((high & 0xff) * 2 ** 32 + view.getUint32(run, true) + length > mapSize)
        return "publish: a run outside the map";
      run = next;
      continue;
    }
    if (run + 2 * RUN_HEADER_SIZE > end) return "publish: a run does not fit its frame";
    const next = run + runSize(view, run);
    if (next > end || next <= run + RUN_HEADER_SIZE) return "publish: a run does not fit its frame";
    const offset = runOffset(view, run);
    if (offset + runLength(view, run) > mapSize) return "publish: a run outside the map";
    const isDense = runIsDense(view, run);
    if (isDense && !hasDenseCount(view, run)) return "publish: a run of no known form";
    if (!ordered) {
      if (
        offset % 8 !== 0 ||
        (view.getUint32(run + 4, true) & 0x20000000) !== 0 ||
        (isDense && !hasDenseForm(view, run))
      )
        return "publish: a run of no known form";
      const masks = run + RUN_HEADER_SIZE + (isDense ? 8 + runBits(view, run) : 0);
      const whole = isDense ? runWords(view, run) - runMasks(view, run) : 0;
      const changes = 8 * whole + countBits(view, masks, run + RUN_HEADER_SIZE + runMasksSize(view, run) - masks);
      if (changes !== runChanges(view, run)) return "publish: masks of other bytes";
    }
    run = next;
  }
  return null;
}
