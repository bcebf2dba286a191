/** runs_apply.c in the arbiter and the server: publications are applied to the map by C, at the speed of memory. */
import { dlopen, ptr } from "bun:ffi";
import type { ApplyRuns } from "../../core/memory/map-bytes.ts";
import { runsLibrary } from "./assets.ts";

/** Null where the library cannot be put into a file or loaded: then the core applies them itself, only slower. */
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
