/** Alignment of blocks. */
import { ALIGN_MAX } from "./limits.ts";

/** Whether `align` is a power of two that blocks may be aligned to. */
export function isAlignment(align: number): boolean {
  return align >= 1 && align <= ALIGN_MAX && (align & (align - 1)) === 0;
}
