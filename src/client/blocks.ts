/** Blocks of the map, allocated by the session: by size, and by name. */
import { isAlignment } from "../core/base/alignment.ts";
import { DsmError } from "../core/base/errors.ts";
import { ALIGN_MAX } from "../core/base/limits.ts";
import { checkName } from "../core/base/names.ts";
import { invalid } from "./config.ts";
import { sizeAdvice } from "./library.ts";
import type { SessionHandle } from "./session-handle.ts";
import { type AnyView, type AnyViewType, anA, checkType, rangeOf } from "./views.ts";

/** Where in the map a block may lie. */
export interface AllocOptions {
  /** Alignment of the block in bytes: a power of two up to 4096. Default: 16. */
  align?: number | undefined;
}

const ALIGN_DEFAULT = 16;

/** alloc returns a view of `length` elements over a new block. */
export function alloc(handle: SessionHandle, type: AnyViewType, length: number, options: AllocOptions = {}): AnyView {
  const { library, pointer } = handle;
  checkType(type);
  const align = options.align ?? ALIGN_DEFAULT;
  if (!Number.isSafeInteger(align) || !isAlignment(align)) {
    throw invalid(`align is ${align}; give a power of two from 1 to ${ALIGN_MAX}`);
  }
  const elementSize = type.BYTES_PER_ELEMENT ?? 1;
  if (align < elementSize) throw invalid(`align is ${align}; ${anA(type)} needs ${elementSize} or more`);
  const size = blockSize(handle, type, length);
  const address = library.result((out) => library.symbols.alloc(pointer, size, align, out));
  return viewAt(handle, type, address, length);
}

/** named returns a view of `length` elements over the block of that name, and allocates the block at first use. */
export function named(handle: SessionHandle, name: string, type: AnyViewType, length: number): AnyView {
  const { library, pointer } = handle;
  const wrong = checkName("block", name);
  if (wrong !== null) throw invalid(wrong);
  const size = blockSize(handle, type, length);
  const address = library.result((out) => library.symbols.named(pointer, name, size, out));
  return viewAt(handle, type, address, length);
}

/** free frees the block that starts where the view starts. */
export function free(handle: SessionHandle, view: ArrayBufferView): void {
  const { library, pointer, info } = handle;
  const { offset } = rangeOf(view, info.buffer);
  library.check(library.symbols.free(pointer, info.address + BigInt(offset)));
}

function blockSize({ info }: SessionHandle, type: AnyViewType, length: number): number {
  checkType(type);
  const { BYTES_PER_ELEMENT = 1 } = type;
  if (!Number.isSafeInteger(length) || length < 1) throw invalid(`a block of ${length} elements; give it 1 or more`);
  const size = length * BYTES_PER_ELEMENT;
  if (size <= info.size) return size;
  throw new DsmError(
    "DSM_NO_MEMORY",
    `a block of ${size} bytes does not fit in the map of ${info.size} bytes of session "${info.name}"; ${sizeAdvice(size)}`,
  );
}

function viewAt({ info }: SessionHandle, type: AnyViewType, address: number, length: number): AnyView {
  return new type(info.buffer, address - Number(info.address), length);
}
