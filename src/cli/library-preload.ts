/**
 * libdsm in front of the C library, for every program that `dsm run` starts: only there does it see the calls that block
 * SIGSEGV or replace its handler. A program linked with it has it there anyhow; Python and JavaScript load it too late.
 */
import { DsmError } from "../core/errors.ts";
import { messages } from "./messages.ts";
import type { Program } from "./program.ts";

export const preloadOption = {
  preload: {
    type: "boolean",
    default: true,
    description: "Load libdsm into the processes before all else, by LD_PRELOAD [DSM_PRELOAD]",
    negativeDescription: "Leave LD_PRELOAD as it is [DSM_PRELOAD=0]",
  },
} as const;

/**
 * The variables that preload the library the program will use. Behind what is to be preloaded already, which may have to
 * come first. The program's children inherit them: it may be a script that starts the program proper.
 */
export async function preloadEnvironment(
  program: Program,
  environment: Record<string, string | undefined>,
): Promise<Record<string, string>> {
  if (environment.DSM_PRELOAD === "0") return {};
  let library = program.environment.DSM_LIBRARY || environment.DSM_LIBRARY;
  try {
    library ||= (await (await import("./assets.ts")).runtimeFiles()).library;
  } catch (error) {
    if (!(error instanceof DsmError)) throw error;
    messages.warn(`libdsm is not loaded into the processes beforehand: ${error.message}`);
    return {};
  }
  // The loader divides the variable at both.
  if (/[\s:]/.test(library)) {
    messages.warn(`libdsm is not loaded into the processes beforehand: its path has a space or a colon: ${library}`);
    return {};
  }
  const given = environment.LD_PRELOAD;
  const all = given ? given.split(/[\s:]+/) : [];
  return { LD_PRELOAD: all.includes(library) ? (given as string) : [...all, library].join(":"), DSM_LIBRARY: library };
}
