/** session.struct(): finds the block of a struct, and checks that all processes define the same fields. */
import { DsmError } from "../core/base/errors.ts";
import { checkName } from "../core/base/names.ts";
import { type Fields, layoutBlock, type StructType, struct } from "../core/layout/struct.ts";
import type { StructHost } from "./atomic-field.ts";
import { invalid } from "./config.ts";
import { sizeAdvice } from "./library.ts";
import { classOf, Memory } from "./struct-class.ts";
import type { SharedFields } from "./struct-types.ts";
import type { ViewType } from "./views.ts";

/** Alignment of named blocks. */
const BLOCK_ALIGN = 64;

/** The part of a session that opening a struct needs, beyond the struct itself. */
interface BlockHost extends StructHost {
  readonly name: string;
  readonly size: number;
  named(name: string, bytes: number): Uint8Array<ArrayBuffer>;
  named<View extends ArrayBufferView<ArrayBuffer>>(name: string, type: ViewType<View>, length: number): View;
}

/** openStruct returns the struct of that name in the session. */
export function openStruct<F extends Fields>(
  session: BlockHost,
  name: string,
  fields: F | StructType<F>,
): SharedFields<F> {
  const type = struct(fields);
  // The layout has its own block: a C program finds the struct by dsm_named() with its size alone.
  const layout = layoutBlock(name);
  const wrong = checkName("block", name) ?? checkName("block", layout) ?? checkLocks(type, name);
  if (wrong !== null) throw invalid(`struct "${name}": ${wrong}`);
  if (type.size > session.size) {
    throw new DsmError(
      "DSM_NO_MEMORY",
      `struct "${name}" has ${type.size} bytes, the map of session "${session.name}" only ${session.size}; ` +
        // Its layout lies beside it, and both are aligned.
        sizeAdvice(type.size + BLOCK_ALIGN),
    );
  }
  const known = session.named(layout, BigUint64Array, 1);
  const other = Atomics.compareExchange(known, 0, 0n, type.layout);
  if (other !== 0n && other !== type.layout) {
    throw new DsmError(
      "DSM_MISMATCH",
      `struct "${name}" has other fields in this session (layout ${hex(other)}, here ${hex(type.layout)}); give the ` +
        "same names and types in the same order in every process",
    );
  }
  const block = session.named(name, type.size);
  return new (classOf(type as StructType))(new Memory(session, block), 0, name) as unknown as SharedFields<F>;
}

/** checkLocks returns the fault of the name of a lock, or null. In an array the last element has the longest name. */
function checkLocks({ members }: StructType, path: string): string | null {
  for (const { name, field } of members) {
    const here = `${path}.${name}`;
    const wrong =
      field.kind === "mutex"
        ? checkName("lock", here)
        : field.kind === "struct"
          ? checkLocks(field, here)
          : field.kind === "structs"
            ? checkLocks(field.element, `${here}[${field.length - 1}]`)
            : null;
    if (wrong !== null) return wrong;
  }
  return null;
}

const hex = (layout: bigint): string => layout.toString(16).padStart(16, "0");
