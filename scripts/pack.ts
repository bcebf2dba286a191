/**
 * `npm run pack`: the npm packages, in dist/: `dsm`, with the TypeScript client, its types and a launcher, and
 * `@dsm/linux-x64`, its optional dependency, with everything that is compiled. Installing both needs no network, no
 * compiler and no install script:
 *
 *   npm install ./dsm-0.1.0.tgz ./dsm-linux-x64-0.1.0.tgz
 *
 * `npm pack` gives the same two, in the folder it was called in: when it has packed this folder, which has the sources
 * and their development in its manifest, this puts the packages in the place of what it made.
 */
import { chmod, copyFile, mkdir, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { packFolder } from "./archive.ts";
import { bundleClient, ensureBuilt } from "./build.ts";
import { checkGlibc } from "./glibc.ts";
import { nativeBuild, progress, replaceFile, root, runScript } from "./steps.ts";

/** The package with what is compiled. */
export const PLATFORM = "@dsm/linux-x64";
/** 26 October 1985, which npm gives to all files of a package. */
const NPM_TIME_S = 499_162_500;

/** Makes both packages in `folder` and returns their paths, the main one first. */
export async function pack(folder: string): Promise<[main: string, platform: string]> {
  const { version } = await manifest();
  const stage = join(folder, "pack.part");
  const archives = [join(folder, `dsm-${version}.tgz`), join(folder, `dsm-linux-x64-${version}.tgz`)] as const;
  await rm(stage, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  try {
    for (const [archive, write] of [
      [archives[0], writeMain],
      [archives[1], writePlatform],
    ] as const) {
      // The name that npm gives to the folder in every package.
      const content = join(stage, "package");
      await write(content);
      await packFolder(content, archive, NPM_TIME_S);
      await rm(content, { recursive: true });
    }
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
  return [...archives];
}

async function manifest() {
  return Bun.file(join(root, "package.json")).json();
}

/** What the manifests of both packages share. */
async function shared() {
  const { version, license, os, cpu } = await manifest();
  return { version, license, os, cpu };
}

async function writeMain(folder: string): Promise<void> {
  const { name, description, type, engines } = await manifest();
  const { version, ...rest } = await shared();
  await writeJson(join(folder, "package.json"), {
    ...{ name, version, description, ...rest, type, engines },
    bin: { dsm: "bin/dsm" },
    exports: {
      ".": { types: "./dist/client/index.d.ts", default: "./dist/client/index.js" },
      "./package.json": "./package.json",
    },
    optionalDependencies: { [PLATFORM]: version },
  });
  await copy(folder, [
    ["README.md", "README.md"],
    ["LICENSE", "LICENSE"],
    ["dist/licenses.txt", "licenses.txt"],
    ["scripts/package/dsm.sh", "bin/dsm", 0o755],
    ["dist/client/index.d.ts", "dist/client/index.d.ts"],
  ]);
  await bundleClient(join(folder, "dist/client"), `${PLATFORM}/lib/koffi.node`);
}

async function writePlatform(folder: string): Promise<void> {
  await writeJson(join(folder, "package.json"), {
    name: PLATFORM,
    description: "The compiled part of dsm for x86-64 Linux",
    ...(await shared()),
    libc: ["glibc"],
  });
  await copy(folder, [
    ["LICENSE", "LICENSE"],
    ["dist/licenses.txt", "licenses.txt"],
    ["dist/dsm", "bin/dsm", 0o755],
    ["native/build/libdsm.so", "lib/libdsm.so", 0o755],
    ["native/build/koffi.node", "lib/koffi.node", 0o755],
  ]);
}

async function copy(folder: string, entries: [from: string, to: string, mode?: number][]): Promise<void> {
  for (const [from, to, mode] of entries) {
    const target = join(folder, to);
    await mkdir(dirname(target), { recursive: true });
    await copyFile(join(root, from), target);
    await chmod(target, mode ?? 0o644);
  }
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await replaceFile(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** Where `npm pack` has put what it made, or null if it was only asked what it would do. */
function npmDestination(): string | null {
  const { INIT_CWD, npm_config_pack_destination, npm_config_dry_run } = process.env;
  if (npm_config_dry_run === "true") return null;
  return resolve(INIT_CWD ?? root, npm_config_pack_destination ?? "");
}

if (import.meta.main) {
  await runScript(async () => {
    const folder = process.argv.includes("--in-place-of-npm") ? npmDestination() : join(root, "dist");
    if (folder === null) return;
    await ensureBuilt();
    await checkGlibc([join(root, "dist/dsm"), join(nativeBuild, "libdsm.so"), join(nativeBuild, "koffi.node")]);
    for (const path of await pack(folder)) progress.success(path);
  });
}
