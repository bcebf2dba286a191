/**
 * `npm test -- [FILE ...] [OPTION ...]`: runs the tests by `bun test`, then names the suites that were skipped for want of
 * a program, and ends with the line that installs all of it. `--missing-packages` prints the missing Debian packages and
 * does no more.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import {
  isMet,
  packagesFor,
  type RequirementName,
  remediesFor,
  requirementNames,
  SKIPPED_SUITES,
  type SkippedSuite,
} from "../test/support/requirements.ts";
import { root } from "./steps.ts";

const OPTIONS = ["--timeout", "120000", "--parallel=2", "--no-isolate"];

/** What `npm test` ends with; "" if no suite was skipped. */
export function closingLines(suites: readonly SkippedSuite[]): string {
  if (suites.length === 0) return "";
  const byFile = new Map<string, Set<RequirementName>>();
  for (const { file, missing } of suites) byFile.set(file, new Set([...(byFile.get(file) ?? []), ...missing]));
  const names = [...byFile]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([file, all]) => `  ${file} (${[...all].join(", ")})`);
  const missing = suites.flatMap((suite) => suite.missing);
  const [packages, remedies] = [packagesFor(missing), remediesFor(missing)];
  const counted = names.length === 1 ? "1 file" : `${names.length} files`;
  return [
    `${suites.length} ${suites.length === 1 ? "suite" : "suites"} in ${counted} skipped; this machine lacks what they need:`,
    ...names,
    ...remedies.map((remedy) => `${remedy[0]?.toUpperCase()}${remedy.slice(1)}.`),
    ...(packages.length > 0 ? ["To install all of the programs:", `apt-get install ${packages.join(" ")}`] : []),
    "",
  ].join("\n");
}

async function main(args: string[]): Promise<number> {
  if (args.includes("--missing-packages")) {
    console.log(packagesFor(requirementNames.filter((name) => !isMet(name))).join(" "));
    return 0;
  }
  const folder = mkdtempSync(join(tmpdir(), "tests-of-dsm-"));
  try {
    const record = join(folder, "skipped");
    const child = Bun.spawn([process.execPath, "test", ...OPTIONS, ...args], {
      cwd: root,
      env: { ...process.env, [SKIPPED_SUITES]: record },
      stdio: ["inherit", "inherit", "inherit"],
    });
    // The terminal sends ^C to both; this process goes when the tests have ended.
    process.on("SIGINT", () => {});
    for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, () => child.kill(signal));
    await child.exited;
    // Workers evaluate a file once, but --rerun-each does it again.
    const lines = existsSync(record) ? readFileSync(record, "utf8").trimEnd().split("\n") : [];
    // The runner writes its result to stderr, too.
    process.stderr.write(closingLines([...new Set(lines)].map((line) => JSON.parse(line) as SkippedSuite)));
    return child.exitCode ?? 128 + constants.signals[child.signalCode as NodeJS.Signals];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
