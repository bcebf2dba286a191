/** The Debian package: dsm, its roles, the C library and what belongs to them, under /usr. */
import { createHash } from "node:crypto";
import { chmod, lstat, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Item, itemsFor } from "../src/cli/commands/install.ts";
import { BuildError, command, replaceFile, root, tool } from "./steps.ts";

const LIBRARIES = "lib/x86_64-linux-gnu";
/** Which Debian package a shared library is in. */
const PACKAGES: [library: RegExp, name: string][] = [
  [/^(libc|libm|libdl|libpthread|librt|ld-linux-x86-64)\.so/, "libc6 (>= 2.28)"],
  [/^libstdc\+\+\.so\.6$/, "libstdc++6 (>= 8)"],
  [/^libgcc_s\.so\.1$/, "libgcc-s1 | libgcc1"],
];

/** Makes the package from what is built, `archive`, with every file of the time `seconds` since 1970. */
export async function buildDeb(archive: string, version: string, seconds: number): Promise<void> {
  const stage = `${archive}.part`;
  await rm(stage, { recursive: true, force: true });
  try {
    const sums: string[] = [];
    let kilobytes = 0;
    for (const item of await contents()) {
      await put(join(stage, "usr"), item);
      kilobytes += Math.ceil(("target" in item ? 0 : item.content.length) / 1024);
      if ("target" in item) continue;
      sums.push(`${createHash("md5").update(item.content).digest("hex")}  usr/${item.path}`);
    }
    await replaceFile(join(stage, "DEBIAN/control"), await control(version, kilobytes));
    await replaceFile(join(stage, "DEBIAN/md5sums"), `${sums.sort().join("\n")}\n`);
    for await (const path of new Bun.Glob("**").scan({ cwd: stage, onlyFiles: false, dot: true })) {
      const full = join(stage, path);
      if ((await lstat(full)).isDirectory()) await chmod(full, 0o755);
    }
    await chmod(stage, 0o755);
    const options = ["--root-owner-group", "-Zgzip", "-z6", "--build"];
    await command(["env", `SOURCE_DATE_EPOCH=${seconds}`, tool("dpkg-deb"), ...options, stage, archive]);
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

/** What `dsm install --prefix /usr` would put there, in Debian's places. */
async function contents(): Promise<Item[]> {
  const items = (await itemsFor("/usr", LIBRARIES)).map((item): Item => {
    if ("target" in item || !item.path.startsWith("share/man/")) return item;
    const content = new Uint8Array(item.content);
    return { ...item, path: `${item.path}.gz`, content: Bun.gzipSync(content, { library: "libdeflate", level: 9 }) };
  });
  for (const item of items) {
    // Debian's place for what zsh looks for.
    item.path = item.path.replace("share/zsh/site-functions/", "share/zsh/vendor-completions/");
  }
  const copyright = await Bun.file(join(root, "dist/licenses.txt")).bytes();
  return [...items, { path: "share/doc/dsm/copyright", mode: 0o644, content: copyright }];
}

/** Puts a file or link into a folder. */
export async function put(folder: string, item: Item): Promise<void> {
  const path = join(folder, item.path);
  if ("target" in item) {
    await mkdir(join(path, ".."), { recursive: true });
    await command([tool("ln"), "--symbolic", item.target, path]);
    return;
  }
  await replaceFile(path, item.content);
  await chmod(path, item.mode);
}

async function control(version: string, kilobytes: number): Promise<string> {
  return `Package: dsm
Version: ${version}
Architecture: amd64
Maintainer: dsm contributors <maintainers@dsm.invalid>
Installed-Size: ${kilobytes}
Depends: ${await dependencies()}
Conflicts: libdsm-dev, libxed-dev
Section: devel
Priority: optional
Description: distributed shared memory
 Processes on one machine or on many share one memory space, and simply writing
 to it is the whole interface: every process sees every write, in one order,
 and atomic operations are atomic across machines. With the dsm program, which
 runs TypeScript as it is, and the library for C and C++.
`;
}

/** The packages of all libraries that what is in the package asks for. */
async function dependencies(): Promise<string> {
  const names = new Set<string>();
  for (const path of ["dist/dsm", "native/build/libdsm.so", "native/build/koffi.node"]) {
    const headers = await command([tool("objdump"), "-p", path]);
    for (const [, library] of headers.matchAll(/^\s+NEEDED\s+(\S+)$/gm)) {
      const known = PACKAGES.find(([pattern]) => pattern.test(library as string));
      if (known === undefined)
        throw new BuildError(`${path} needs ${library}; scripts/deb.ts does not know its package`);
      names.add(known[1]);
    }
  }
  return [...names].sort().join(", ");
}
