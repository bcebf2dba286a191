/** The runs of a STORE or PUBLISH frame. */
import { At, HEADER_SIZE, StoreAt } from "../wire/at.ts";
import { getUint64, padded } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import { RUN_HEADER_SIZE, runIsMasked, runLength, runOffset, runSize } from "../wire/runs.ts";

/** Calls `visit` for each run: its place in the map, the place of its bytes in `view`, and their number. */
export function eachRun(
  view: DataView,
  at: number,
  visit: (offset: number, from: number, length: number) => void,
): void {
  const body = at + HEADER_SIZE;
  if (view.getUint8(at + At.kind) === Kind.STORE) {
    visit(getUint64(view, at + StoreAt.mapOffset), body, view.getUint32(at + StoreAt.bytesLength, true));
    return;
  }
  const end = at + view.getUint32(at + At.size, true);
  for (let run = body; run < end; run += runSize(view, run)) {
    visit(runOffset(view, run), run + RUN_HEADER_SIZE, runLength(view, run));
  }
}

/**
 * Bytes of old values that follow the frame in its record: those of each run, padded. Infinite if a run is masked: queued
 * stores have none.
 */
export function oldSize(view: DataView): number {
  if (view.getUint8(At.kind) === Kind.STORE) return padded(view.getUint32(StoreAt.bytesLength, true));
  const end = view.getUint32(At.size, true);
  let size = 0;
  for (let run = HEADER_SIZE; run < end; run += runSize(view, run)) {
    if (runIsMasked(view, run)) return Number.POSITIVE_INFINITY;
    size += padded(runLength(view, run));
  }
  return size;
}
