/** Publications while processes read copies of pages (PageShadows). */
import { RUN_HEADER_SIZE, runChanges, runIsMasked, runLength, runOffset, runSize } from "../wire/runs.ts";
import { eachPiece, type MapBytes } from "./map-bytes.ts";

/**
 * As MapBytes.publish(), and calls `onWrite` after each piece that it has written, before the next one: so a reader of a
 * copy, too, sees the bytes of a plain run in their sequence.
 */
export function publishInPieces(
  memory: MapBytes,
  source: DataView,
  from: number,
  end: number,
  onWrite: (offset: number, length: number) => void,
): number {
  let bytes = 0;
  for (let run = from; run < end; run += runSize(source, run)) {
    if (runIsMasked(source, run)) {
      memory.publish(source, run, run + runSize(source, run));
      onWrite(runOffset(source, run), runLength(source, run));
      bytes += runChanges(source, run);
      continue;
    }
    eachPiece(runOffset(source, run), runLength(source, run), (offset, done, size) => {
      memory.store(offset, source, run + RUN_HEADER_SIZE + done, size);
      onWrite(offset, size);
    });
    bytes += runLength(source, run);
  }
  return bytes;
}
