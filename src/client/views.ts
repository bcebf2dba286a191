/** Views over the map and ranges of it: their types, and the checks before a view is made. */
import { invalid } from "./config.ts";
import { sizeAdvice } from "./library.ts";

/** A typed array's or DataView's constructor. */
export interface ViewType<View extends ArrayBufferView<ArrayBuffer>> {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): View;
  /** Of the constructor, such as "Float64Array". */
  readonly name: string;
  /** DataView has none: its elements are bytes. */
  readonly BYTES_PER_ELEMENT?: number;
}

export type AnyView = ArrayBufferView<ArrayBuffer>;
export type AnyViewType = ViewType<AnyView>;

/** A part of the map, in bytes. */
export interface Range {
  /** First byte. */
  offset: number;
  /** Bytes. */
  length: number;
}

/** The range of the file and of the view for readSync(). */
export interface ReadOptions {
  /** First byte of the view to read to. */
  offset?: number;
  /** Most bytes to read. */
  length?: number;
  /** First byte of the file to read, or null: the current file position. */
  position?: number | bigint | null;
}

/** kindOf returns what a wrong argument is, for messages: "Float64Array", "undefined" or the text in quotes. */
export function kindOf(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "function") return value.name || "function";
  return typeof value === "object" && value !== null ? (value.constructor?.name ?? "object") : String(value);
}

/** anA returns the name of a type with its article: "an Int32Array", but "a Uint8Array", as it is spoken. */
export const anA = ({ name }: AnyViewType): string => `${/^[AEIO]/i.test(name) ? "an" : "a"} ${name}`;

const TypedArray: unknown = Object.getPrototypeOf(Uint8Array);

/** checkType refuses what makes no view: DSM_INVALID. */
export function checkType(type: unknown): void {
  const made = typeof type === "function" ? type.prototype : null;
  if (made instanceof (TypedArray as typeof Uint8Array) || made instanceof DataView || made === DataView.prototype)
    return;
  throw invalid(`${kindOf(type)} is no type of a view; give DataView or a typed array, such as Float64Array`);
}

/** viewOf returns a view over the map from `byteOffset` on: of `length` elements, or up to the end. DSM_INVALID. */
export function viewOf(type: AnyViewType, map: ArrayBuffer, byteOffset: number, length: number | undefined): AnyView {
  checkType(type);
  const size = map.byteLength;
  const elementSize = type.BYTES_PER_ELEMENT ?? 1;
  checkOffset(byteOffset, size);
  if (byteOffset % elementSize !== 0) {
    throw invalid(`${anA(type)} cannot begin at byte ${byteOffset}; give a multiple of ${elementSize}`);
  }
  const room = (size - byteOffset) / elementSize;
  const elements = length ?? room;
  if (!Number.isSafeInteger(elements) || elements < 0 || elements > room) {
    const words = `${anA(type)} of ${elements} elements at byte ${byteOffset} is not in the map of ${size} bytes`;
    throw invalid(outside(words, byteOffset + elements * elementSize, size));
  }
  return new type(map, byteOffset, elements);
}

/** rangeOf returns where in the map a view lies. DSM_INVALID: it is not over the map. */
export function rangeOf(view: ArrayBufferView, map: ArrayBuffer): Range {
  if (!ArrayBuffer.isView(view)) throw invalid(`${kindOf(view)} is no view; give one that view() or named() has made`);
  if (view.buffer !== map) throw invalid("the view is not over this session's buffer");
  return { offset: view.byteOffset, length: view.byteLength };
}

/** holeRange returns the range of a new hole. DSM_INVALID: it is empty, or not in the map. */
export function holeRange(where: ArrayBufferView | Range, map: ArrayBuffer): Range {
  const isRange = typeof where === "object" && where !== null && "offset" in where;
  const { offset, length } = isRange ? where : rangeOf(where, map);
  const size = map.byteLength;
  checkOffset(offset, size);
  if (!Number.isSafeInteger(length) || length < 1) throw invalid(`a hole of ${length} bytes; give it 1 or more`);
  if (length > size - offset) {
    const words = `a hole of ${length} bytes at byte ${offset} is not in the map of ${size} bytes`;
    throw invalid(outside(words, offset + length, size));
  }
  return { offset, length };
}

/** readRange returns which bytes of the map a call of readSync() may write to. DSM_INVALID. */
export function readRange(descriptor: number, view: ArrayBufferView, options: ReadOptions, map: ArrayBuffer): Range {
  const whole = rangeOf(view, map);
  const { offset = 0, length = whole.length - offset, position = null } = options;
  if (!Number.isInteger(descriptor) || descriptor < 0 || descriptor > 0x7fffffff) {
    throw invalid(`${descriptor} is not a file descriptor`);
  }
  if (!Number.isSafeInteger(offset) || offset < 0 || !Number.isSafeInteger(length) || length < 0) {
    throw invalid(`${length} bytes at byte ${offset} cannot be read to; give whole numbers, 0 or more`);
  }
  if (length > whole.length - offset) {
    throw invalid(`${length} bytes at byte ${offset} are not in the view of ${whole.length} bytes`);
  }
  if (position !== null && (position < 0 || (typeof position === "number" && !Number.isSafeInteger(position)))) {
    throw invalid(`a file has no position ${position}`);
  }
  return { offset: whole.offset + offset, length };
}

function checkOffset(offset: number, size: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && offset <= size) return;
  throw invalid(outside(`byte ${offset} is not in the map of ${size} bytes`, offset + 1, size));
}

/** The words for what ends at byte `end` of the map: with the size it needs, if a larger map would have it. */
function outside(words: string, end: number, size: number): string {
  return Number.isSafeInteger(end) && end > size ? `${words}; ${sizeAdvice(end)}` : words;
}
