/** Frames that many core tests build. */
import { type Frame, padded } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import {
  RUN_BYTES_BITS,
  RUN_DENSE,
  RUN_HEADER_SIZE,
  RUN_MASKED,
  writeMaskedRun,
  writeRun,
} from "../../src/core/wire/runs.ts";

export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * A run: where, and its bytes or how many bytes of 1, 2, 3 ...; of a masked run the masks of its words too, and whether it is
 * to be dense.
 */
export type Run = readonly [offset: number, bytes: number | Uint8Array, masks?: Uint8Array, dense?: boolean];

/** A dense run by itself. */
function denseRun(offset: number, bytes: Uint8Array, masks: Uint8Array): Uint8Array {
  const rest = masks.filter((mask) => mask !== 0xff);
  const bits = new Uint8Array(padded(Math.ceil(masks.length / 8)));
  masks.forEach((mask, word) => {
    if (mask === 0xff) bits[word >> 3] = (bits[word >> 3] as number) | (1 << (word & 7));
  });
  const run = new Uint8Array(16 + bits.length + padded(rest.length) + padded(bytes.length));
  const view = viewOf(run);
  const length = RUN_MASKED | RUN_DENSE | ((masks.length - 1) << RUN_BYTES_BITS) | (bytes.length - 1);
  view.setUint32(0, offset >>> 0, true);
  view.setUint32(4, ((length << 8) | Math.floor(offset / 2 ** 32)) >>> 0, true);
  view.setUint32(8, rest.length, true);
  run.set(bits, 16);
  run.set(rest, 16 + bits.length);
  run.set(bytes, 16 + bits.length + padded(rest.length));
  return run;
}

export function runs(list: readonly Run[]): Uint8Array {
  const parts = list.map(([offset, some, masks, dense]) => {
    const bytes = typeof some === "number" ? Uint8Array.from({ length: some }, (_, at) => at + 1) : some;
    if (masks !== undefined && dense === true) return denseRun(offset, bytes, masks);
    const run = new Uint8Array(RUN_HEADER_SIZE + padded(masks?.length ?? 0) + padded(bytes.length));
    if (masks === undefined) writeRun(viewOf(run), 0, offset, bytes);
    else writeMaskedRun(viewOf(run), 0, offset, masks, bytes);
    return run;
  });
  return new Uint8Array(Buffer.concat(parts));
}

/** How many bytes masks stand for. */
export function countMasked(masks: Uint8Array): number {
  let count = 0;
  for (const mask of masks) for (let bit = 0; bit < 8; bit += 1) count += (mask >> bit) & 1;
  return count;
}

/** The pieces of neighbouring bytes that a run changes. */
export function piecesOf([offset, some, masks]: Run): (readonly [offset: number, bytes: Uint8Array])[] {
  const bytes = some as Uint8Array;
  if (masks === undefined) return [[offset, bytes]];
  const pieces: (readonly [number, Uint8Array])[] = [];
  let next = 0;
  for (let at = 0; at < 8 * masks.length; at += 1) {
    const first = at;
    while ((((masks[at >> 3] ?? 0) >> (at & 7)) & 1) !== 0) at += 1;
    if (at > first) pieces.push([offset + first, bytes.subarray(next, next + at - first)]);
    next += at - first;
  }
  return pieces;
}

/** What a process sends, or queues, to change these bytes. */
export function storeOf(list: readonly Run[]): Frame {
  const [[offset, body, masks]] = list as [Run];
  return list.length === 1 && masks === undefined
    ? { kind: Kind.STORE, offset, body: body as Uint8Array }
    : publication(list);
}

export function publication(list: readonly Run[], fields: Partial<Frame> = {}): Frame {
  return { kind: Kind.PUBLISH, body: runs(list), ...fields };
}
