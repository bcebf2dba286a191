/** The program that `dsm run` starts: an executable, or a script for the embedded Bun. */
import { accessSync, constants, statSync } from "node:fs";
import { basename, resolve } from "node:path";
import { isCompiled } from "../install/executable.ts";

export interface Program {
  command: string[];
  /** Set for its processes beside the DSM_ variables. */
  environment: Record<string, string>;
}

/** Exit codes, as those of shells. */
const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;

const PYTHON = /^python(?:3(?:\.\d+)?)?$|\.py$/;
const SCRIPT = /\.(?:[mc]?[jt]s|[jt]sx)$/;

/** Source text that a compiler has to translate first. */
const SOURCE = /\.(?:c|cc|cpp|cxx|f90|go|rs|zig)$/i;

/** isPath returns whether the name is the path of a file, not a program to look up in the PATH. */
export function isPath(name: string): boolean {
  return name.includes("/") || SCRIPT.test(name) || name.endsWith(".py");
}

export async function findProgram(words: string[]): Promise<Program | { error: string; exitCode: number }> {
  const [name, ...rest] = words as [string, ...string[]];
  if (SCRIPT.test(name)) {
    const problem = checkFile(name, "R_OK", "read");
    return problem ?? scriptProgram(resolve(name), rest);
  }
  if (PYTHON.test(basename(name))) return pythonProgram(words);
  if (!name.includes("/")) {
    const found = Bun.which(name, { PATH: process.env.PATH ?? "" });
    if (found) return { command: [found, ...rest], environment: {} };
    const problem = checkFile(name, "X_OK", "executed");
    if (problem?.exitCode === NOT_EXECUTABLE && SOURCE.test(name)) return problem;
    const here = problem === null ? `; for the one here write ./${name}` : "";
    return { error: `program "${name}" was not found in the PATH${here}`, exitCode: NOT_FOUND };
  }
  const problem = checkFile(name, "X_OK", "executed");
  return problem ?? { command: [resolve(name), ...rest], environment: {} };
}

/** A Python script that is not executable runs on python3. Scripts and interpreters can import dsm. */
async function pythonProgram(words: string[]): Promise<Program | { error: string; exitCode: number }> {
  const [name, ...rest] = words as [string, ...string[]];
  const isScript = name.endsWith(".py");
  const problem = isScript ? checkFile(name, "R_OK", "read") : null;
  if (problem) return problem;
  const interpreter = isScript && checkFile(name, "X_OK", "executed") !== null ? "python3" : null;
  const executable = interpreter ?? (isScript ? resolve(name) : name);
  const found = Bun.which(executable, { PATH: process.env.PATH ?? "" });
  if (found === null) {
    const error = `"${executable}" was not found in the PATH${interpreter === null ? "" : `; ${name} needs it`}`;
    return { error, exitCode: NOT_FOUND };
  }
  const { pythonFiles } = await import("../install/assets.ts");
  const { library, path } = await pythonFiles();
  return {
    command: [found, ...(interpreter === null ? [] : [resolve(name)]), ...rest],
    environment: {
      DSM_LIBRARY: process.env.DSM_LIBRARY || library,
      // After the user's own folders and before what is installed: the module of this version.
      PYTHONPATH: process.env.PYTHONPATH ? `${process.env.PYTHONPATH}:${path}` : path,
    },
  };
}

/** A script runs on this program, which acts as `bun`, with the module "dsm" loaded first. */
export async function scriptProgram(script: string, rest: string[]): Promise<Program> {
  const { runtimeFiles } = await import("../install/assets.ts");
  const files = await runtimeFiles();
  return {
    command: [process.execPath, "--no-install", "--preload", files.preload, script, ...rest],
    environment: { ...(isCompiled ? { BUN_BE_BUN: "1" } : {}), DSM_LIBRARY: files.library },
  };
}

/** Returns null if it is a file that this user may read or execute, else the error. */
export function checkFile(
  name: string,
  mode: "R_OK" | "X_OK",
  what: string,
): { error: string; exitCode: number } | null {
  try {
    if (!statSync(name).isFile()) return { error: `program "${name}" is not a file`, exitCode: NOT_EXECUTABLE };
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return { error: `there is no program "${name}"`, exitCode: NOT_FOUND };
    return { error: `program "${name}" cannot be reached: ${code}`, exitCode: NOT_EXECUTABLE };
  }
  try {
    accessSync(name, constants[mode]);
    return null;
  } catch {
    if (mode === "X_OK" && SOURCE.test(name)) {
      const built = `./${basename(name).replace(SOURCE, "")}`;
      return {
        error: `"${name}" is the source of a program; compile it and give the program, such as ${built}`,
        exitCode: NOT_EXECUTABLE,
      };
    }
    const mount = mode === "X_OK" ? ", and that its file system is not mounted noexec" : "";
    return { error: `program "${name}" may not be ${what}; check its permissions${mount}`, exitCode: NOT_EXECUTABLE };
  }
}
