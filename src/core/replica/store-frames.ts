/** The runs of a STORE or PUBLISH frame. */
import { At, HEADER_SIZE, StoreAt } from "../wire/at.ts";
import { getUint64, padded } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import { eachMaskedWord, RUN_HEADER_SIZE, runIsMasked, runLength, runOffset, runSize } from "../wire/runs.ts";

/** Bytes that a record has behind its frame: of each run what was there before, padded to 8. */
export function savedSize(frame: DataView): number {
  if (frame.getUint8(At.kind) === Kind.STORE) return padded(frame.getUint32(StoreAt.bytesLength, true));
  let saved = 0;
  const end = frame.getUint32(At.size, true);
  for (let run = HEADER_SIZE; run < end; run += runSize(frame, run)) saved += padded(runLength(frame, run));
  return saved;
}

/**
 * Calls `visit` for each piece of neighbouring bytes that the record changes: its place in the map, the place in `record`
 * of what was there before, and its length.
 */
export function eachSaved(
  record: DataView,
  frameSize: number,
  visit: (offset: number, from: number, length: number) => void,
): void {
  if (record.getUint8(At.kind) === Kind.STORE) {
    visit(getUint64(record, StoreAt.mapOffset), frameSize, record.getUint32(StoreAt.bytesLength, true));
    return;
  }
  let saved = frameSize;
  for (let run = HEADER_SIZE; run < frameSize; run += runSize(record, run)) {
    const offset = runOffset(record, run);
    if (!runIsMasked(record, run)) visit(offset, saved, runLength(record, run));
    else eachPiece(record, run, (at, length) => visit(at, saved + at - offset, length));
    saved += padded(runLength(record, run));
  }
}

/** Calls `visit` for each piece of neighbouring bytes that a masked run changes. */
function eachPiece(view: DataView, run: number, visit: (offset: number, length: number) => void): void {
  let begin = 0;
  let end = 0;
  eachMaskedWord(view, run, (offset, mask, from) => {
    let next = from;
    for (let byte = 0; byte < 8; byte += 1) {
      if (((mask >> byte) & 1) === 0) continue;
      next += 1;
      if (offset + byte !== end) {
        if (end > begin) visit(begin, end - begin);
        begin = offset + byte;
      }
      end = offset + byte + 1;
    }
    return next;
  });
  if (end > begin) visit(begin, end - begin);
}

/** The map of the node, in which redo() writes over stores that are in flight. */
interface RedoMap {
  readonly view: DataView;
  redo(offset: number, source: DataView, from: number, length: number): void;
}

/** Writes what the frame stores into the map once more. Each aligned word is written as a whole, as the process does it. */
export function redoFrame(frame: DataView, map: RedoMap): void {
  if (frame.getUint8(At.kind) === Kind.STORE) {
    const length = frame.getUint32(StoreAt.bytesLength, true);
    map.redo(getUint64(frame, StoreAt.mapOffset), frame, HEADER_SIZE, length);
    return;
  }
  const word = new DataView(new ArrayBuffer(8));
  const redoWord = (offset: number, mask: number, from: number): number => {
    let next = from;
    word.setBigUint64(0, map.view.getBigUint64(offset, true), true);
    for (let byte = 0; byte < 8; byte += 1) if (((mask >> byte) & 1) !== 0) word.setUint8(byte, frame.getUint8(next++));
    map.redo(offset, word, 0, 8);
    return next;
  };
  const end = frame.getUint32(At.size, true);
  for (let run = HEADER_SIZE; run < end; run += runSize(frame, run)) {
    if (runIsMasked(frame, run)) eachMaskedWord(frame, run, redoWord);
    else map.redo(runOffset(frame, run), frame, run + RUN_HEADER_SIZE, runLength(frame, run));
  }
}
