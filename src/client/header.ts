/**
 * The program that `dsm header` runs beside the user's module, in a process of its own: it writes the C header of the
 * structs that the module exports. Arguments: the module, the file to write, the name of the one export or "" for all.
 */
import { writeFileSync } from "node:fs";
import { basename } from "node:path";
import { DsmError } from "../core/base/errors.ts";
import { cHeader } from "../core/layout/c-header.ts";
import { isStruct, type StructType } from "../core/layout/struct.ts";

const [modulePath, out, only] = process.argv.slice(2) as [string, string, string];

async function header(): Promise<string> {
  const file = basename(modulePath);
  const exported: Record<string, unknown> = await import(modulePath);
  const structs = new Map<string, StructType>();
  for (const [name, value] of Object.entries(exported)) {
    if (isStruct(value)) structs.set(name === "default" ? file.replace(/\..*$/, "") : name, value);
  }
  if (structs.size === 0) {
    throw new DsmError("DSM_INVALID", `${file} exports no struct; write: export const state = struct({ ... })`);
  }
  if (only !== "") {
    const type = structs.get(only);
    if (type === undefined) {
      throw new DsmError(
        "DSM_INVALID",
        `${file} exports no struct "${only}"; it has ${[...structs.keys()].join(", ")}`,
      );
    }
    structs.clear();
    structs.set(only, type);
  }
  return cHeader(structs, `DSM_${file.toUpperCase().replace(/[^A-Z0-9]/g, "_")}_H`, file);
}

try {
  writeFileSync(out, await header());
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`dsm: ${error.message}`);
  process.exit(1);
}
// A module may have left something running.
process.exit(0);
