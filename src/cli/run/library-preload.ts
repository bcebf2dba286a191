/**
 * Preloads libdsm before the C library, for every program that `dsm run` starts: only there can it interpose the calls
 * that block SIGSEGV or replace its handler. Programs linked with libdsm have it there already; Python and JavaScript
 * load it too late.
 */
import { DsmError } from "../../core/base/errors.ts";
import { flagOption } from "../settings/options.ts";
import { messages } from "../terminal/messages.ts";
import type { Program } from "./program.ts";

export const preloadOption = { preload: flagOption("preload") };

/**
 * preloadEnvironment returns the variables that preload the library for the program. It comes after existing preloads,
 * which may have to be first. Children of the program inherit the variables: it may be a script that starts the actual
 * program.
 */
export async function preloadEnvironment(
  program: Program,
  environment: Record<string, string | undefined>,
): Promise<Record<string, string>> {
  if (environment.DSM_PRELOAD === "0") return {};
  let library = program.environment.DSM_LIBRARY || environment.DSM_LIBRARY;
  try {
    library ||= (await (await import("../install/assets.ts")).runtimeFiles()).library;
  } catch (error) {
    if (!(error instanceof DsmError)) throw error;
    messages.warn(`libdsm is not preloaded into the processes: ${error.message}`);
    return {};
  }
  // The loader splits the variable at both.
  if (/[\s:]/.test(library)) {
    messages.warn(`libdsm is not preloaded into the processes: its path has a space or a colon: ${library}`);
    return {};
  }
  const given = environment.LD_PRELOAD;
  const all = given ? given.split(/[\s:]+/) : [];
  return { LD_PRELOAD: all.includes(library) ? (given as string) : [...all, library].join(":"), DSM_LIBRARY: library };
}
