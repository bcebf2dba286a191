/** How this program starts itself again in another role. */
import { basename, dirname, join } from "node:path";

export const isCompiled = Bun.main.startsWith("/$bunfs/");

/** The project's folder, which exists only when dsm runs from source. */
export const sourceRoot = join(import.meta.dir, "../../..");

/** The program's main module, which exists only when dsm runs from source. */
const mainModule = join(sourceRoot, "src/cli/main.ts");

/** Program and first arguments of `dsm`. */
export function selfCommand(): string[] {
  return isCompiled ? [process.execPath] : [process.execPath, mainModule];
}

/**
 * The file of the running program, for Bun.spawn: this very version, also when another one has taken its place in the
 * file system. Undefined: it runs from source.
 */
export const RUNNING_FILE = isCompiled ? "/proc/self/exe" : undefined;

/** The variables by which libdsm in a child finds `dsm`. From source that is main.ts, which needs `bun` in the PATH. */
export function selfEnvironment(): Record<string, string> {
  if (isCompiled) return { DSM_BIN: process.execPath };
  const path = process.env.PATH;
  // The npm package calls the program bun.exe; the link to it has the name we need.
  const named = basename(process.execPath) === "bun";
  const bun = named ? dirname(process.execPath) : join(sourceRoot, "node_modules/.bin");
  return { DSM_BIN: mainModule, PATH: path ? `${bun}:${path}` : bun };
}
