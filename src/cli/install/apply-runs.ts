/** Loads runs_apply.c, which applies publications to the map at the speed of memory, for the arbiter and the server. */
import { dlopen, ptr } from "bun:ffi";
import type { ApplyRuns } from "../../core/memory/map-bytes.ts";
import { runsLibrary } from "./assets.ts";

/** Null: the library cannot be put into a file, or not loaded. The core then applies publications itself, more slowly. */
export async function loadApplyRuns(): Promise<ApplyRuns | null> {
  try {
    const library = dlopen(await runsLibrary(), {
      dsm_apply_runs: { args: ["ptr", "ptr", "u32"], returns: "u32" },
    });
    const apply = library.symbols.dsm_apply_runs;
    return (map, source, from, end) => apply(ptr(map), ptr(source, from), end - from);
  } catch {
    return null;
  }
}
