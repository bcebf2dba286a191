/**
 * Intel XED, the instruction decoder that libdsm links: headers and libxed.a.
 *
 * An installed kit is taken from $XED_KIT. Otherwise the source comes from the crate pinned in native/xed/Cargo.lock
 * (cargo checks its hash) and is built by XED's own build, about a minute, once per pin and compiler.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Progress } from "../src/cli/terminal/progress.ts";
import {
  BuildError,
  command,
  compiler,
  fingerprint,
  nativeBuild,
  progress,
  runScript,
  stepProgress,
  tool,
  withBuildLock,
} from "./steps.ts";

const needed = ["include/xed/xed-interface.h", "lib/libxed.a"];
const buildOptions = [
  "--no-encoder",
  "--opt=2",
  "--no-werror", // newer compilers warn about older source
  "--extra-ccflags=-fPIC",
  "--static-stripped",
];
/** It numbers symbols in the order of a Python set, which differs from run to run otherwise. */
const buildEnvironment = "PYTHONHASHSEED=0";

/**
 * Folder of a XED kit with include/xed/ and lib/libxed.a, absolute. libxed.a is position-independent when built here,
 * so that it can go into libdsm.so; of a kit in $XED_KIT the linker is the judge.
 * @throws BuildError naming the missing tool or file.
 */
export async function xedKit(): Promise<string> {
  if (process.env.XED_KIT) {
    const kit = resolve(process.env.XED_KIT);
    for (const path of needed) {
      if (!existsSync(join(kit, path))) {
        throw new BuildError(`XED_KIT=${process.env.XED_KIT} has no ${path}. Name an installed kit, or unset XED_KIT.`);
      }
    }
    return kit;
  }
  const cc = compiler();
  const pin = await fingerprint(
    ["native/xed/Cargo.lock"],
    [await command([cc, "--version"]), ...buildOptions, buildEnvironment],
  );
  const home = join(nativeBuild, "xed");
  const kit = join(home, `kit-${pin.slice(0, 16)}`);
  if (existsSync(kit)) return kit;
  return withBuildLock(async () => {
    if (!existsSync(kit)) await build(cc, home, kit);
    return kit;
  });
}

/** XED's build says how many of its tasks run, wait and are done; it has several rounds of them. */
class TaskBars {
  #bar: Progress | undefined;
  #total = 0;

  hear(text: string): void {
    const said = [...text.matchAll(/\bR: (\d+) P: (\d+) C: (\d+)\b/g)].at(-1);
    if (said === undefined) return;
    const [running, waiting, done] = said.slice(1).map(Number) as [number, number, number];
    const total = running + waiting + done;
    if (total !== this.#total) {
      this.end();
      this.#total = total;
      this.#bar = stepProgress("XED", total);
    }
    this.#bar?.at(done);
  }

  end(): void {
    this.#bar?.end();
  }
}

/** Fetches and builds into `home`, and gives the result its name `kit` only when it is whole. */
async function build(cc: string, home: string, kit: string): Promise<void> {
  const python = tool("python3");
  const cargo = tool("cargo");
  progress.start("Building XED, the instruction decoder (about a minute, once)");
  const start = performance.now();
  await rm(home, { recursive: true, force: true });
  const [source, objects, part] = [join(home, "source"), join(home, "objects"), join(home, "part")];
  await mkdir(objects, { recursive: true });
  await command([cargo, "vendor", "--locked", "--quiet", "--manifest-path", "native/xed/Cargo.toml", source]);
  const bars = new TaskBars();
  await command(
    [
      "env",
      buildEnvironment,
      python,
      "-u", // or its progress comes when all is over
      "-B", // leave no compiled Python files in the source
      join(source, "xed-sys/xed/mfile.py"),
      ...buildOptions,
      `--cc=${cc}`,
      `--build-dir=${objects}`,
      `--install-dir=${part}`,
      "install",
    ],
    home,
    (text) => bars.hear(text),
  ).finally(() => bars.end());
  for (const path of needed) {
    if (!existsSync(join(part, path))) throw new BuildError(`XED's build ended well but made no ${path}`);
  }
  await rename(part, kit);
  for (const name of await readdir(home)) {
    if (join(home, name) !== kit) await rm(join(home, name), { recursive: true, force: true });
  }
  progress.success(`XED (${((performance.now() - start) / 1000).toFixed(1)} s)`);
}

if (import.meta.main) await runScript(async () => progress.info(`XED kit: ${await xedKit()}`));
