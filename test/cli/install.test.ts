/** `dsm install`, `dsm uninstall` and `dsm licenses`. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { Place } from "./dsm.ts";

// A C compiler and files of 100 MB, on machines that may be busy.
setDefaultTimeout(120_000);

let place: Place;
let prefix: string;
beforeEach(() => {
  place = new Place();
  prefix = join(place.folder, "a prefix");
});
afterEach(() => place.close());

const tree = (): string[] =>
  readdirSync(prefix, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(prefix.length + 1))
    .sort();

const INSTALLED = [
  "bin/dsm",
  "bin/dsm_arbiter",
  "bin/dsm_daemon",
  "bin/dsm_server",
  "include/dsm/allocator.hpp",
  "include/dsm/containers.hpp",
  "include/dsm/dsm.h",
  "include/dsm/dsm.hpp",
  "include/dsm/dsm_util.h",
  "include/dsm/error.hpp",
  "include/dsm/mutex.hpp",
  "include/dsm/objects.hpp",
  "lib/libdsm.a",
  "lib/libdsm.so",
  "lib/libdsm.so.0",
  "lib/libdsm.so.0-gdb.py",
  "lib/libxed.a",
  "lib/pkgconfig/dsm.pc",
  "share/bash-completion/completions/dsm",
  "share/dsm/manifest",
  "share/dsm/python/dsm/__init__.py",
  "share/dsm/python/dsm/_arguments.py",
  "share/dsm/python/dsm/_arrays.py",
  "share/dsm/python/dsm/_errors.py",
  "share/dsm/python/dsm/_hole.py",
  "share/dsm/python/dsm/_join.py",
  "share/dsm/python/dsm/_library.py",
  "share/dsm/python/dsm/_lock.py",
  "share/dsm/python/dsm/_objects.py",
  "share/dsm/python/dsm/_reading.py",
  "share/dsm/python/dsm/_semaphore.py",
  "share/dsm/python/dsm/_session.py",
  "share/dsm/python/dsm/_waits.py",
  "share/dsm/python/dsm/py.typed",
  "share/dsm/python/pyproject.toml",
  "share/dsm/python/wheel_backend.py",
  "share/fish/vendor_completions.d/dsm.fish",
  "share/man/man1/dsm.1",
  "share/zsh/site-functions/_dsm",
];

test("installs what a C program needs, and takes exactly that away again", async () => {
  const { code, stdout } = await place.dsm(["install", "--prefix", prefix]);
  expect(code).toBe(0);
  expect(stdout).toContain(join(prefix, "lib/libdsm.a"));
  expect(tree()).toEqual(INSTALLED);
  for (const name of ["dsm_daemon", "dsm_server", "dsm_arbiter"]) {
    expect(readlinkSync(join(prefix, "bin", name))).toBe("dsm");
  }
  expect(lstatSync(join(prefix, "bin/dsm")).mode & 0o111).not.toBe(0);
  expect(readFileSync(join(prefix, "lib/pkgconfig/dsm.pc"), "utf8")).toContain(`prefix=${prefix}\n`);

  const again = await place.dsm(["install", "--prefix", prefix, "--json"]);
  expect(again.code).toBe(0);
  expect(JSON.parse(again.stdout).files.sort()).toEqual(INSTALLED);

  // Files of other programs stay, and so do the directories that have them.
  writeFileSync(join(prefix, "lib/other.txt"), "not ours");
  const removed = await place.dsm(["uninstall", "--prefix", prefix, "--json"]);
  expect(removed.code).toBe(0);
  expect(JSON.parse(removed.stdout).removed.sort()).toEqual(INSTALLED);
  expect(tree()).toEqual(["lib/other.txt"]);
  expect(readdirSync(prefix)).toEqual(["lib"]);
  expect((await place.dsm(["uninstall", "--prefix", prefix])).stderr).toMatch(/^dsm: dsm is not installed [^\n]+\n$/);
});

test("a C program links with the line it always had, shared and static, and runs from anywhere", async () => {
  await place.dsm(["install", "--prefix", prefix]);
  const source = join(place.folder, "program.c");
  writeFileSync(
    source,
    `#include <stdio.h>
#include <dsm/dsm.h>
#include <dsm/dsm_util.h>
int main(void) { return puts(dsm_status_name(DSM_TIMEOUT)) < 0; }
`,
  );
  for (const library of ["-ldsm", "-l:libdsm.a"]) {
    const program = join(place.folder, "program");
    const paths = [`-I${prefix}/include`, `-L${prefix}/lib`];
    const libraries = [library, "-lpthread", "-lrt", "-lxed"];
    const gcc = Bun.spawnSync(["gcc", "-Wall", "-Werror", ...paths, source, "-o", program, ...libraries]);
    expect(gcc.stderr.toString()).toBe("");
    const run = Bun.spawnSync([program], { cwd: "/", env: {} });
    expect(run.stderr.toString()).toBe("");
    expect(run.stdout.toString()).toBe("DSM_TIMEOUT\n");
  }
  const dsm = Bun.spawnSync([join(prefix, "bin/dsm_daemon"), "--help"]);
  expect(dsm.stdout.toString()).toContain("dsm daemon");
});

test("does not overwrite what others have put there, and leaves nothing half done", async () => {
  mkdirSync(join(prefix, "lib"), { recursive: true });
  writeFileSync(join(prefix, "lib/libxed.a"), "somebody's");
  const refused = await place.dsm(["install", "--prefix", prefix]);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/^dsm: [^\n]+libxed\.a exists and was not installed by dsm; --force [^\n]+\n$/);
  expect(tree()).toEqual(["lib/libxed.a"]);
  expect((await place.dsm(["install", "--prefix", prefix, "--force"])).code).toBe(0);
  expect(tree()).toEqual(INSTALLED);
});

test("a pipe in its place is not overwritten, nor read", async () => {
  for (const [path, options, reason] of [
    ["lib/libxed.a", ["--force"], "is a device, pipe or socket"],
    ["share/dsm/manifest", [], "is not a regular file"],
  ] as const) {
    mkdirSync(dirname(join(prefix, path)), { recursive: true });
    expect(Bun.spawnSync(["mkfifo", join(prefix, path)]).exitCode).toBe(0);
    const { code, stderr } = await place.dsm(["install", "--prefix", prefix, ...options]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^dsm: [^\n]+\n$/);
    expect(stderr).toContain(`${join(prefix, path)} ${reason}`);
    expect(lstatSync(join(prefix, path)).isFIFO()).toBe(true);
    rmSync(prefix, { recursive: true });
  }
});

test("a prefix that cannot be used is one line", async () => {
  const file = join(place.folder, "file");
  writeFileSync(file, "");
  const { code, stderr } = await place.dsm(["install", "--prefix", join(file, "below")]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/^dsm: [^\n]+ cannot be written: ENOTDIR[^\n]*\n$/);
});

test("a list that is not ours removes nothing", async () => {
  mkdirSync(join(prefix, "share/dsm"), { recursive: true });
  const victim = join(place.folder, "victim");
  writeFileSync(victim, "keep");
  writeFileSync(join(prefix, "share/dsm/manifest"), "file ../victim\n");
  const { code, stderr } = await place.dsm(["uninstall", "--prefix", prefix]);
  expect(code).toBe(1);
  expect(stderr).toContain("not ours");
  expect(existsSync(victim)).toBe(true);
});

test("the licences of everything inside", async () => {
  const { code, stdout } = await place.dsm(["licenses"]);
  expect(code).toBe(0);
  for (const name of ["dsm", "XED", "koffi", "citty", "consola", "ofetch", "ufo", "destr", "Bun"]) {
    expect(stdout).toContain(name);
  }
  expect(stdout).toContain("MIT");
  expect(JSON.parse((await place.dsm(["licenses", "--json"])).stdout).licenses).toBe(stdout);
});
