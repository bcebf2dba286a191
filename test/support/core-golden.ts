/**
 * Golden frames: one frame of every kind as text, with its bytes and with its fields by name. The bytes come from the
 * product's encode() with the fields placed as fields.ts says; the fields are read back where at.ts says.
 */
import { isDeepStrictEqual } from "node:util";
import * as at from "../../src/core/wire/at.ts";
import { FRAMES, HEADER, HEADER_SIZE, type HeaderField, placeOf } from "../../src/core/wire/fields.ts";
import { encode, type Frame, getUint64, padded } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind } from "../../src/core/wire/kinds.ts";

/** The product's names for places in frames. */
const PLACES: Record<string, unknown> = { ...at };

/** A number, or what lies in the body: "0x" and hexadecimal digits, or text. */
export type Value = number | string;

export interface GoldenFrame {
  /** The kind, and after " of " or " for " which of several forms. */
  name: string;
  kind: keyof typeof Kind;
  /** Names in FRAMES; "handshake" first for the first frame of a connection. */
  shapes: (keyof typeof FRAMES)[];
  rank: number;
  tag: number;
  node: number;
  /** Place in the log, or number of the proposal. */
  seq: number;
  fields: Record<string, Value>;
  /** Of a kind whose body has no named fields. */
  body?: string;
  hex: string;
}

export interface GoldenBody {
  fields: Record<string, Value>;
  hex: string;
}

export interface Golden {
  protocolVersion: number;
  /** Enumerations whose values travel in frames. */
  numbers: Record<string, Record<string, number>>;
  frames: GoldenFrame[];
  /** Bodies with a layout of their own. */
  bodies: Record<string, GoldenBody>;
  /** The bytes of runs of each form. */
  runs: Record<string, string>;
}

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
export const fromHex = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));
const isHex = (value: Value): value is string => typeof value === "string" && value.startsWith("0x");
const bytesOf = (value: string): Uint8Array =>
  isHex(value) ? fromHex(value.slice(2)) : new TextEncoder().encode(value);

/** Where the field is in the product's table of names, and the header's field that it is there, or null: in the body. */
function find({ shapes }: GoldenFrame, field: string): { at: number; header: HeaderField | null } {
  for (const shape of shapes) {
    const place = (FRAMES[shape] as Record<string, HeaderField | { body: number }>)[field];
    if (place === undefined) continue;
    const name = `${shape[0]?.toUpperCase()}${shape.slice(1)}At`;
    const offset = (PLACES[name] as Record<string, number> | undefined)?.[field];
    if (offset === undefined) throw new Error(`at.ts has no ${name}.${field}`);
    if (offset !== placeOf(place)) throw new Error(`${name}.${field} is not where fields.ts says; run scripts/wire.ts`);
    return { at: offset, header: typeof place === "string" ? place : null };
  }
  throw new Error(`no shape of ${shapes.join(" and ")} has a field ${field}`);
}

/** The frame's bytes. */
export function frameBytes(golden: GoldenFrame): Uint8Array {
  const { kind, rank, tag, node, seq, fields } = golden;
  const frame: Frame = { kind: Kind[kind], rank, tag, node, seq };
  const parts: [from: number, part: Uint8Array][] = golden.body === undefined ? [] : [[0, bytesOf(golden.body)]];
  for (const [name, value] of Object.entries(fields)) {
    if (name === "magic" || name === "version") continue; // encodeHandshake() writes them.
    const { at: from, header } = find(golden, name);
    if (header === null) parts.push([from - HEADER_SIZE, bytesOf(value as string)]);
    else (frame as unknown as Record<string, number>)[header] = value as number;
  }
  const length = Math.max(0, ...parts.map(([from, part]) => from + part.length));
  const body = new Uint8Array(length);
  for (const [from, part] of parts) body.set(part, from);
  return golden.shapes[0] === "handshake" ? encodeHandshake(frame.kind, body, frame) : encode({ ...frame, body });
}

/** The golden frame of those bytes; of `like` only the names, and how many bytes and in which form each field is. */
export function readFrame(like: GoldenFrame, bytes: Uint8Array): GoldenFrame {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { At } = at;
  if (view.getUint32(At.size, true) !== bytes.length)
    throw new Error(`${like.name}: the size is not that of the frame`);
  const kind = Object.entries(Kind).find(([, number]) => number === view.getUint8(At.kind))?.[0];
  const text = (from: number, length: number, form: Value): string => {
    const part = bytes.subarray(from, from + length);
    return isHex(form) ? `0x${toHex(part)}` : new TextDecoder().decode(part);
  };
  const number = (from: number, size: number): number =>
    size === 8 ? getUint64(view, from) : size === 4 ? view.getUint32(from, true) : view.getUint8(from);
  const fields = Object.entries(like.fields).map(([name, value]): [string, Value] => {
    const { at: from, header } = find(like, name);
    if (header === null) return [name, text(from, bytesOf(value as string).length, value)];
    const size = HEADER[header][1];
    return [name, name === "magic" ? text(from, size, "0x") : number(from, size)];
  });
  return {
    name: like.name,
    kind: kind as GoldenFrame["kind"],
    shapes: like.shapes,
    rank: view.getUint16(At.rank, true),
    tag: view.getUint32(At.tag, true),
    node: view.getUint32(At.node, true),
    seq: getUint64(view, At.seq),
    fields: Object.fromEntries(fields),
    ...(like.body === undefined ? {} : { body: text(HEADER_SIZE, bytesOf(like.body).length, like.body) }),
    hex: toHex(bytes),
  };
}

type Layout = Record<string, readonly [at: number, bytes: number]>;

/** A body with a layout of its own. Texts are padded with zeros. */
export function bodyBytes(layout: Layout, size: number, fields: Record<string, Value>): Uint8Array {
  const bytes = new Uint8Array(padded(size));
  for (const [name, value] of Object.entries(fields)) {
    const [from, width] = layout[name] ?? [Number.NaN, 0];
    const part =
      typeof value === "string" ? bytesOf(value) : new Uint8Array(new BigUint64Array([BigInt(value)]).buffer);
    bytes.set(part.subarray(0, width), from);
  }
  return bytes;
}

/** What recording writes over `before`. Throws where frames changed and the version did not. */
export function record(before: Golden, now: Golden): Golden {
  const { protocolVersion: version, ...old } = before;
  const { protocolVersion, ...fresh } = now;
  if (protocolVersion === version && !isDeepStrictEqual(old, fresh)) {
    throw new Error(
      `the wire format is not that of version ${version} any more: raise PROTOCOL_VERSION in src/core/base/limits.ts`,
    );
  }
  return now;
}
