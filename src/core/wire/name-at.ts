/** The name in a frame at `at` that has one. */
import { JoinAt } from "./at.ts";
import { bodyText } from "./frame.ts";

export function nameAt(view: DataView, at: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return bodyText(bytes, at + JoinAt.name, view.getUint32(at + JoinAt.nameLength, true));
}
