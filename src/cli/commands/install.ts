/**
 * `dsm install`: the program, the C library and what belongs to them, under a prefix; ../install/manifest.ts notes it.
 */
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeSync,
} from "node:fs";
import { dirname, join, resolve } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { VERSION } from "../../core/base/limits.ts";
import { command } from "../command.ts";
import { besideName } from "../files/temporary.ts";
import { manualPage } from "../help/man.ts";
import { completionScript, ZSH_HEADER } from "../help/shell-scripts.ts";
import { PYTHON_FILES } from "../install/asset-names.ts";
import { readAsset } from "../install/assets.ts";
import { isCompiled, sourceRoot } from "../install/executable.ts";
import { MANIFEST, type Manifest, manifestText, readManifest, removeEmpty, removeFile } from "../install/manifest.ts";
import { jsonOption } from "../settings/options.ts";
import { print, printJson } from "../terminal/messages.ts";
import { startProgress } from "../terminal/progress.ts";

export const prefixOption = {
  prefix: { type: "string", description: "Where to", valueHint: "DIR", default: "/usr/local" },
} as const;

/** A file or link, its path relative to the prefix. */
export type Item = { path: string; mode: number; content: Uint8Array } | { path: string; target: string };

export default command({
  meta: { name: "install", description: "Install dsm itself, the C library and what belongs to them" },
  args: {
    ...prefixOption,
    force: { type: "boolean", description: "Overwrite files that dsm did not install" },
    ...jsonOption,
  },
  manual: {
    details: [
      "Puts headers, libraries, a pkg-config file, dsm and its links, the Python package, this manual page and completion for bash, zsh and fish under the prefix, and a list of them into share/dsm/manifest.",
    ],
    examples: [
      { does: "For all users of this machine", line: "sudo dsm install" },
      { does: "For yourself", line: "dsm install --prefix ~/.local" },
    ],
  },
  async run({ args }) {
    const prefix = resolve(args.prefix);
    const items = await itemsFor(prefix);
    const before = readManifest(prefix);

    const made: string[] = [];
    const placed: string[] = [];
    const total = items.reduce((sum, item) => sum + sizeOf(item), 0);
    const progress = startProgress(`copying to ${prefix}`, total);
    let copied = 0;
    try {
      for (const { path } of items) checkTarget(prefix, path, before, args.force === true);
      for (const item of items) {
        makeParents(prefix, item.path, made);
        // Noted before it is written, so that a failed install removes its files.
        if (!existsSync(join(prefix, item.path))) placed.push(item.path);
        put(prefix, item, (done) => progress.at(copied + done));
        copied += sizeOf(item);
      }
      for (const path of before?.files ?? []) {
        if (path !== MANIFEST && !items.some((item) => item.path === path)) removeFile(join(prefix, path));
      }
      makeParents(prefix, MANIFEST, made);
      const manifest: Manifest = {
        files: new Set([...items.map(({ path }) => path), MANIFEST]),
        directories: [...new Set([...(before?.directories ?? []), ...made])],
      };
      const content = new TextEncoder().encode(manifestText(manifest, VERSION));
      put(prefix, { path: MANIFEST, mode: 0o644, content });
    } catch (error) {
      progress.end();
      for (const path of placed) removeFile(join(prefix, path));
      removeEmpty(prefix, made);
      const { code, path, message } = error as { code?: string; path?: string; message?: string };
      if (error instanceof DsmError) throw error;
      const advice = code === "EACCES" || code === "EPERM" ? "; use sudo, or --prefix with a folder of your own" : "";
      throw new DsmError("DSM_SYSTEM", `${path ?? prefix} cannot be written: ${code ?? message}${advice}`);
    }
    progress.end();
    if (args.json) {
      await printJson({ prefix, files: [...items.map(({ path }) => path), MANIFEST] });
    } else {
      await print(items.map(({ path }) => join(prefix, path)).join("\n"));
    }
    return 0;
  },
});

/** All files to install under the prefix; `lib`: its directory for libraries. */
export async function itemsFor(prefix: string, lib = "lib"): Promise<Item[]> {
  const file = async (path: string, mode: number, name: Parameters<typeof readAsset>[0]): Promise<Item> => ({
    ...{ path, mode },
    content: await readAsset(name),
  });
  const text = (path: string, content: string): Item => ({
    ...{ path, mode: 0o644 },
    content: new TextEncoder().encode(content),
  });
  return [
    await file("include/dsm/dsm.h", 0o644, "dsm.h"),
    await file("include/dsm/dsm_util.h", 0o644, "dsm_util.h"),
    await file("include/dsm/dsm.hpp", 0o644, "dsm.hpp"),
    await file("include/dsm/allocator.hpp", 0o644, "allocator.hpp"),
    await file("include/dsm/containers.hpp", 0o644, "containers.hpp"),
    await file("include/dsm/error.hpp", 0o644, "error.hpp"),
    await file("include/dsm/mutex.hpp", 0o644, "mutex.hpp"),
    await file("include/dsm/objects.hpp", 0o644, "objects.hpp"),
    await file(`${lib}/libdsm.a`, 0o644, "libdsm.a"),
    await file(`${lib}/libdsm.so.0`, 0o755, "libdsm.so"),
    await file(gdbScriptPath(prefix, lib), 0o644, "libdsm-gdb.py"),
    text(`${lib}/libdsm.so`, linkerScript(join(prefix, lib))),
    await file(`${lib}/libxed.a`, 0o644, "libxed.a"),
    text(`${lib}/pkgconfig/dsm.pc`, pkgConfig(prefix, lib)),
    ...(await Promise.all(PYTHON_FILES.map((name) => file(`share/dsm/${name}`, 0o644, name)))),
    text("share/man/man1/dsm.1", await manualPage()),
    text("share/bash-completion/completions/dsm", completionScript("bash")),
    text("share/zsh/site-functions/_dsm", ZSH_HEADER + completionScript("zsh")),
    text("share/fish/vendor_completions.d/dsm.fish", completionScript("fish")),
    { path: "bin/dsm", mode: 0o755, content: program() },
    ...["dsm_daemon", "dsm_server", "dsm_arbiter"].map((name) => ({ path: `bin/${name}`, target: "dsm" })),
  ];
}

/** The compiled program: this one, or the built one when this runs from source. */
function program(): Uint8Array {
  const path = isCompiled ? process.execPath : join(sourceRoot, "dist/dsm");
  try {
    return readFileSync(path);
  } catch {
    throw new DsmError("DSM_SYSTEM", 'dist/dsm has not been built; run "bun run build" first');
  }
}

/**
 * The places where gdb looks for the script of `libdsm.so.0`: beside the library, if the user has told gdb to trust
 * that directory; for libraries of the distribution, in a directory that gdb trusts.
 */
function gdbScriptPath(prefix: string, lib: string): string {
  return `${prefix === "/usr" ? "share/gdb/auto-load/usr/" : ""}${lib}/libdsm.so.0-gdb.py`;
}

function pkgConfig(prefix: string, lib: string): string {
  return `prefix=${prefix}
includedir=\${prefix}/include
libdir=\${prefix}/${lib}

Name: dsm
Description: Distributed shared memory
Version: ${VERSION}
Cflags: -I\${includedir}
Libs: -L\${libdir} -ldsm -lpthread -lrt -lxed
`;
}

/**
 * The linker script that `-ldsm` finds first. The library has no soname, so a program linked through the script loads
 * it by its full path: it starts with any prefix, without LD_LIBRARY_PATH, rpath or ldconfig.
 */
function linkerScript(folder: string): string {
  return `/* GNU ld script */\nINPUT("${join(folder, "libdsm.so.0")}")\n`;
}

function checkTarget(prefix: string, path: string, before: Manifest | null, force: boolean): void {
  const target = join(prefix, path);
  const stat = lstatSync(target, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (stat.isDirectory()) throw new DsmError("DSM_INVALID", `${target} is a folder; move it away first`);
  if (!stat.isFile() && !stat.isSymbolicLink()) {
    throw new DsmError("DSM_INVALID", `${target} is a device, pipe or socket; move it away first`);
  }
  if (!force && !before?.files.has(path)) {
    throw new DsmError("DSM_INVALID", `${target} exists and was not installed by dsm; --force overwrites it`);
  }
}

/** Makes directories, and notes those that it made, parents first. */
function makeParents(prefix: string, path: string, made: string[]): void {
  const parent = dirname(path);
  if (parent !== ".") makeParents(prefix, parent, made);
  const directory = join(prefix, parent);
  if (existsSync(directory)) return;
  if (parent === ".") {
    mkdirSync(directory, { recursive: true });
  } else {
    mkdirSync(directory);
    made.push(parent);
  }
}

const sizeOf = (item: Item): number => ("content" in item ? item.content.length : 0);

const PIECE_SIZE = 4 << 20;

function writeInPieces(path: string, content: Uint8Array, mode: number, progress: (done: number) => void): void {
  const fd = openSync(path, "wx", mode);
  try {
    for (let at = 0; at < content.length; progress(at)) {
      at += writeSync(fd, content, at, Math.min(PIECE_SIZE, content.length - at));
    }
  } finally {
    closeSync(fd);
  }
}

/** Writes a temporary file and renames it, so that a program that runs from the old file goes on. */
function put(prefix: string, item: Item, progress: (done: number) => void = () => {}): void {
  const target = join(prefix, item.path);
  const temporary = besideName(target, "new");
  try {
    if ("target" in item) symlinkSync(item.target, temporary);
    else writeInPieces(temporary, item.content, item.mode, progress);
    renameSync(temporary, target);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
