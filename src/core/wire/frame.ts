/**
 * Frames: what travels between a process and its arbiter and between an arbiter and the server.
 *
 * Every frame is a header of 40 bytes, little-endian, and a body; its size is a multiple of 8. An ordered operation
 * keeps its frame all the way: the process fills kind, op, tag, offset, length, aux and body (in a SHADOW and a staged
 * PUBLISH also seq); the arbiter adds rank and node; the server adds seq and sends the frame to every arbiter.
 */

import { Status } from "../base/errors.ts";
import { At, HEADER_SIZE } from "./at.ts";
import type { Kind } from "./kinds.ts";

export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
  readonly status: Status;
  constructor(message: string, status: Status = Status.PROTOCOL) {
    super(message);
    this.status = status;
  }
}

export const padded = (bytes: number): number => (bytes + 7) & ~7;

export interface Frame {
  kind: Kind;
  op?: number;
  rank?: number;
  tag?: number;
  node?: number;
  seq?: number;
  offset?: number;
  length?: number;
  aux?: number;
  body?: Uint8Array;
}

/** Builds one frame. For frames off the hot path: stores are never rebuilt, only passed on. */
export function encode(frame: Frame): Uint8Array {
  const bodySize = frame.body?.length ?? 0;
  const bytes = new Uint8Array(padded(HEADER_SIZE + bodySize));
  const view = new DataView(bytes.buffer);
  view.setUint32(At.size, bytes.length, true);
  bytes[At.kind] = frame.kind;
  bytes[At.op] = frame.op ?? 0;
  view.setUint16(At.rank, frame.rank ?? 0, true);
  view.setUint32(At.tag, frame.tag ?? 0, true);
  view.setUint32(At.node, frame.node ?? 0, true);
  setUint64(view, At.seq, frame.seq ?? 0);
  setUint64(view, At.offset, frame.offset ?? 0);
  view.setUint32(At.length, frame.length ?? bodySize, true);
  view.setUint32(At.aux, frame.aux ?? 0, true);
  if (frame.body) bytes.set(frame.body, HEADER_SIZE);
  return bytes;
}

const encoder = new TextEncoder();
// A byte order mark is a character like any other: names that differ in one are different names.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export const encodeText = (text: string): Uint8Array => encoder.encode(text);
export const encodeJson = (value: unknown): Uint8Array => encoder.encode(JSON.stringify(value));

/** The body's text: `length` bytes, or up to a zero byte in a fixed field. */
export function bodyText(bytes: Uint8Array, at: number, length: number): string {
  return decoder.decode(bytes.subarray(at, at + length));
}

export function fieldText(bytes: Uint8Array, at: number, size: number): string {
  const field = bytes.subarray(at, at + size);
  const end = field.indexOf(0);
  return decoder.decode(end < 0 ? field : field.subarray(0, end));
}

/** Reads a number up to 2^53 from 8 bytes; a larger one gives NaN, which no check accepts. */
export function getUint64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  return high > 0x1fffff ? Number.NaN : high * 2 ** 32 + view.getUint32(at, true);
}

export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}
