/** Frames that many core tests build. */
import { type Frame, Kind, padded, RUN_HEADER_SIZE, writeRun } from "../../src/core/protocol.ts";

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A run: where, and its bytes or how many bytes of 1, 2, 3 ... */
export type Run = readonly [offset: number, bytes: number | Uint8Array];

export function runs(list: readonly Run[]): Uint8Array {
  const contents = list.map(([offset, bytes]): [number, Uint8Array] => [
    offset,
    typeof bytes === "number" ? Uint8Array.from({ length: bytes }, (_, at) => at + 1) : bytes,
  ]);
  const body = new Uint8Array(contents.reduce((sum, [, bytes]) => sum + RUN_HEADER_SIZE + padded(bytes.length), 0));
  let at = 0;
  for (const [offset, bytes] of contents) at = writeRun(viewOf(body), at, offset, bytes);
  return body;
}

export function publication(list: readonly Run[], fields: Partial<Frame> = {}): Frame {
  return { kind: Kind.PUBLISH, body: runs(list), ...fields };
}
