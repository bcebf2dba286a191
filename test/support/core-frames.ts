/** Frames that many core tests build. */
import { type Frame, Kind, padded, RUN_HEADER_SIZE, writeMaskedRun, writeRun } from "../../src/core/protocol.ts";

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A run: where, and its bytes or how many bytes of 1, 2, 3 ...; of a masked run the masks of its words too. */
export type Run = readonly [offset: number, bytes: number | Uint8Array, masks?: Uint8Array];

export function runs(list: readonly Run[]): Uint8Array {
  const contents = list.map(([offset, bytes, masks]): [number, Uint8Array, Uint8Array | undefined] => [
    offset,
    typeof bytes === "number" ? Uint8Array.from({ length: bytes }, (_, at) => at + 1) : bytes,
    masks,
  ]);
  const size = (sum: number, [, bytes, masks]: (typeof contents)[0]): number =>
    sum + RUN_HEADER_SIZE + padded(masks?.length ?? 0) + padded(bytes.length);
  const body = new Uint8Array(contents.reduce(size, 0));
  const view = viewOf(body);
  let at = 0;
  for (const [offset, bytes, masks] of contents) {
    at = masks === undefined ? writeRun(view, at, offset, bytes) : writeMaskedRun(view, at, offset, masks, bytes);
  }
  return body;
}

/** How many bytes masks stand for. */
export function countMasked(masks: Uint8Array): number {
  let count = 0;
  for (const mask of masks) for (let bit = 0; bit < 8; bit += 1) count += (mask >> bit) & 1;
  return count;
}

export function publication(list: readonly Run[], fields: Partial<Frame> = {}): Frame {
  return { kind: Kind.PUBLISH, body: runs(list), ...fields };
}
