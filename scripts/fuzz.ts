/**
 * `npm run fuzz -- [--seconds N] [TARGET ...]`: the fuzz targets, each for N seconds (60), with new seeds: the C ones of
 * native/fuzz under AddressSanitizer and UndefinedBehaviorSanitizer, with libFuzzer where clang is installed, and
 * "core", the property tests of test/fuzz. Ends with 1 when one fails; what failed is printed, or lies in
 * native/build/fuzz/found.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildTargets, type Engine, TARGETS } from "./fuzz-native.ts";
import { BuildError, nativeBuild, progress, root, runScript } from "./steps.ts";

const CORE = "core";
/** Between two looks at the clock; the slowest target does some hundred a second. */
const DRIVER_RUNS = 2000;

function read(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { seconds: { type: "string", default: "60" } },
    });
  } catch (error) {
    throw new BuildError((error as Error).message);
  }
}

/** Runs a command with what it prints on our own output; whether it ended well. */
async function shown(argv: string[], environment: Record<string, string> = {}): Promise<boolean> {
  const env = { ...process.env, ...environment };
  const child = Bun.spawn(argv, { cwd: root, env, stdin: "ignore", stdout: "inherit", stderr: "inherit" });
  return (await child.exited) === 0;
}

const freshSeed = (): string => String(1 + Math.floor(Math.random() * (2 ** 31 - 1)));

/** Over and over with new seeds until the time is over, or it fails. */
async function repeatedly(seconds: number, run: (seed: string) => Promise<boolean>): Promise<boolean> {
  const end = performance.now() + 1000 * seconds;
  do if (!(await run(freshSeed()))) return false;
  while (performance.now() < end);
  return true;
}

async function fuzzNative(engine: Engine, name: string, path: string, seconds: number): Promise<boolean> {
  if (engine === "driver") {
    return repeatedly(seconds, (seed) => shown([path, "--runs", String(DRIVER_RUNS), "--seed", seed]));
  }
  const [corpus, found] = ["corpus", "found"].map((folder) => join(nativeBuild, "fuzz", folder, name)) as [
    string,
    string,
  ];
  await mkdir(corpus, { recursive: true });
  await mkdir(found, { recursive: true });
  // The seeds are in the target, for the driver; libFuzzer wants them as files.
  const driver = (await buildTargets("driver", [name])).get(name) as string;
  if (!(await shown([driver, "--write", corpus]))) return false;
  const limits = [`-max_total_time=${seconds}`, "-max_len=4096", "-rss_limit_mb=2048", "-print_final_stats=1"];
  return shown([path, ...limits, `-artifact_prefix=${found}/`, "-verbosity=0", corpus]);
}

function fuzzCore(seconds: number): Promise<boolean> {
  const argv = [process.execPath, "test", "--config=/dev/null", "test/fuzz/core.test.ts"];
  return repeatedly(seconds, (seed) => shown(argv, { DSM_FUZZ_SEED: seed, DSM_FUZZ_RUNS: "4" }));
}

await runScript(async () => {
  const { values, positionals } = read(process.argv.slice(2));
  const seconds = Number(values.seconds);
  if (!/^\d+$/.test(values.seconds) || seconds < 1 || seconds > 1e6) {
    throw new BuildError(`--seconds is ${values.seconds}; write 1 to 1000000`);
  }
  const known = [CORE, ...Object.keys(TARGETS)];
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new BuildError(`${unknown} is no fuzz target: ${known.join(" ")}`);
  const chosen = positionals.length === 0 ? known : positionals;

  const engine: Engine = Bun.which("clang") === null ? "driver" : "libfuzzer";
  if (engine === "driver") progress.info("clang is not installed: the C targets run without libFuzzer's guidance");
  const native = chosen.filter((name) => name !== CORE);
  const programs = await buildTargets(engine, native);
  const failed: string[] = [];
  for (const name of chosen) {
    progress.info(`${name}, ${seconds} s`);
    const path = programs.get(name);
    const well = path === undefined ? await fuzzCore(seconds) : await fuzzNative(engine, name, path, seconds);
    if (!well) failed.push(name);
  }
  if (failed.length > 0) throw new BuildError(`failed: ${failed.join(" ")}`);
  progress.success(`${chosen.join(", ")}: nothing found`);
});
