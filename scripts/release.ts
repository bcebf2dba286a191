/**
 * `npm run release`: what is published, in dist/release/: the program with library, headers and licence as a .tar.gz and
 * as a .deb, the npm packages, the list of parts (SBOM, CycloneDX), and SHA256SUMS over all.
 *
 *   npm run release -- --verify   also builds twice from nothing, in two folders, and fails unless all bytes are equal
 *
 * The bytes depend on the sources, the compiler and SOURCE_DATE_EPOCH alone, which is the last commit's time if not set.
 */
import { rmSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { itemsFor } from "../src/cli/commands/install.ts";
import { packFolder, sha256, sourceDate } from "./archive.ts";
import { ensureBuilt } from "./build.ts";
import { buildDeb, put } from "./deb.ts";
import { checkGlibc } from "./glibc.ts";
import { pack } from "./pack.ts";
import { billOfMaterials } from "./sbom.ts";
import { BuildError, command, nativeBuild, progress, replaceFile, root, runScript, tool } from "./steps.ts";

const SUMS = "SHA256SUMS";

/** Makes everything of a release in `folder`, in place of what was there; returns the text of SHA256SUMS. */
export async function release(folder: string, seconds: number): Promise<string> {
  if (process.env.XED_KIT) throw new BuildError("a release is built with the XED it names; unset XED_KIT");
  const libraries = ["libdsm.so", "libdsm-runs.so", "dsm-guard", "koffi.node"].map((name) => join(nativeBuild, name));
  await checkGlibc([join(root, "dist/dsm"), ...libraries]);
  const { version } = await Bun.file(join(root, "package.json")).json();
  const part = `${folder}.part`;
  await rm(part, { recursive: true, force: true });
  try {
    await pack(part);
    await packTarball(part, `dsm-${version}-linux-x64`, seconds);
    await buildDeb(join(part, `dsm_${version}_amd64.deb`), version, seconds);
    await replaceFile(join(part, `dsm-${version}.cdx.json`), await billOfMaterials(seconds));
    const names = (await readdir(part)).sort();
    const sums = await Promise.all(names.map(async (name) => `${await sha256(join(part, name))}  ${name}\n`));
    await replaceFile(join(part, SUMS), sums.join(""));
    await rm(folder, { recursive: true, force: true });
    await rename(part, folder);
    return sums.join("");
  } finally {
    await rm(part, { recursive: true, force: true });
  }
}

/** What `dsm install` puts under a prefix, as a folder that works wherever it is unpacked. */
async function packTarball(folder: string, name: string, seconds: number): Promise<void> {
  const stage = join(folder, name);
  // pkg-config's own word for the folder the file is in.
  for (const item of await itemsFor(`\${pcfiledir}/../..`)) {
    // A linker script has the whole path of the library in it.
    const relocatable = item.path === "lib/libdsm.so" ? { path: item.path, target: "libdsm.so.0" } : item;
    await put(stage, relocatable);
  }
  await cp(join(root, "README.md"), join(stage, "README.md"));
  await cp(join(root, "LICENSE"), join(stage, "LICENSE"));
  await cp(join(root, "dist/licenses.txt"), join(stage, "licenses.txt"));
  await packFolder(stage, `${stage}.tar.gz`, seconds);
  await rm(stage, { recursive: true });
}

/** Releases from nothing but the committed files and node_modules, in two folders; throws unless both are equal. */
async function verify(expected: string, seconds: number): Promise<void> {
  const base = await mkdtemp(join(tmpdir(), "dsm-release-"));
  process.on("exit", () => rmSync(base, { recursive: true, force: true }));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
  const folders = [join(base, "one"), join(base, "another/place/to/build")];
  // Both before the first is built, which takes minutes: they are to be of one commit.
  for (const folder of folders) await checkOut(folder);
  for (const folder of folders) {
    progress.start(`Building all of it in ${folder}`);
    const script = [join(folder, "scripts/bun.sh"), join(folder, "scripts/release.ts")];
    await command(["env", `SOURCE_DATE_EPOCH=${seconds}`, ...script], folder);
    const sums = await Bun.file(join(folder, "dist/release", SUMS)).text();
    if (sums === expected) continue;
    const lines = new Set(expected.split("\n"));
    const wrong = sums.split("\n").filter((line) => !lines.has(line));
    throw new BuildError(`not the same bytes as here:\n${wrong.join("\n")}`);
  }
  progress.success("The same bytes, built in three folders");
}

async function checkOut(folder: string): Promise<void> {
  const changed = await command([tool("git"), "status", "--porcelain"]);
  if (changed !== "") throw new BuildError(`these differ from the last commit; commit them first:\n${changed}`);
  await mkdir(dirname(folder), { recursive: true });
  await command([tool("git"), "clone", "--quiet", "--depth", "1", `file://${root}`, folder]);
  // A copy: what a link leads to has the same path for both.
  await cp(join(root, "node_modules"), join(folder, "node_modules"), { recursive: true, verbatimSymlinks: true });
}

if (import.meta.main) {
  await runScript(async () => {
    const { values } = parseArgs({ options: { verify: { type: "boolean" } } });
    const seconds = await sourceDate();
    await ensureBuilt();
    const sums = await release(join(root, "dist/release"), seconds);
    if (values.verify) await verify(sums, seconds);
    process.stdout.write(sums);
  });
}
