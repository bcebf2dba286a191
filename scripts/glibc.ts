/**
 * What a binary asks of the system's C and C++ libraries, by the versions of the symbols it needs. What is shipped runs
 * with glibc 2.28 (Debian 10, RHEL 8) and the libstdc++ of the same time.
 */
import { basename } from "node:path";
import { BuildError, command, tool } from "./steps.ts";

/** The newest version of each family of symbols that may be needed. */
const NEWEST: Record<string, string> = { GLIBC: "2.28", GLIBCXX: "3.4.25", CXXABI: "1.3.11", GCC: "8.0.0" };

/** Throws a BuildError that names every symbol of a version newer than what is promised, or of no known family. */
export async function checkGlibc(paths: string[]): Promise<void> {
  const wrong: string[] = [];
  for (const path of paths) {
    for (const version of (await neededVersions(path)).filter(isTooNew)) {
      const symbols = await symbolsOf(path, version);
      wrong.push(`${basename(path)} needs ${symbols.join(", ") || "the feature"} of ${version}`);
    }
  }
  if (wrong.length === 0) return;
  throw new BuildError(
    `glibc 2.28, or the libstdc++ of its time, does not have what is needed here:\n${wrong.join("\n")}`,
  );
}

/** The versions the loader looks for before it starts the program, such as "GLIBC_2.2.5". */
export async function neededVersions(path: string): Promise<string[]> {
  const headers = await command([tool("objdump"), "-p", path]);
  const references = headers.split("Version References:")[1] ?? "";
  return [...references.matchAll(/^\s+0x[0-9a-f]+ 0x[0-9a-f]+ \d+ (\S+)$/gm)].map((match) => match[1] as string);
}

/** The undefined symbols of a version. */
async function symbolsOf(path: string, version: string): Promise<string[]> {
  const lines = (await command([tool("objdump"), "-T", path])).split("\n").map((line) => line.trim().split(/\s+/));
  const needed = lines.filter((words) => words.includes("*UND*") && words.at(-2)?.replace(/[()]/g, "") === version);
  return needed.map((words) => words.at(-1) as string);
}

function isTooNew(version: string): boolean {
  const [family, number] = version.split("_") as [string, string?];
  const newest = NEWEST[family];
  // Private ones (GLIBC_PRIVATE) belong to one release of glibc alone.
  if (newest === undefined || number === undefined || !/^[\d.]+$/.test(number)) return true;
  return Bun.semver.order(padded(number), padded(newest)) > 0;
}

/** Of three numbers: 2.28 as 2.28.0. */
function padded(version: string): string {
  return [...version.split("."), "0", "0"].slice(0, 3).join(".");
}
