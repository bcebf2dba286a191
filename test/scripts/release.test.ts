/** What `npm run release` makes of a build. That two builds are equal: `npm run release -- --verify`. */
import { expect, setDefaultTimeout } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { release } from "../../scripts/release.ts";
import { checked } from "../../scripts/sbom.ts";
import { compiler, root } from "../../scripts/steps.ts";
import { needs } from "../support/needs.ts";

// Hundreds of MB are compressed, on machines that may be busy.
setDefaultTimeout(300_000);

const { afterAll, beforeAll, test } = needs("dpkg-deb");

const { version, dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const DATE_S = 1_700_000_000;
const PROGRAM = `#include <dsm/dsm.h>
#include <stdio.h>
int main(void) { return puts(dsm_status_name(DSM_TIMEOUT)) < 0; }
`;

const base = mkdtempSync(join(tmpdir(), "dsm-release-"));
const folder = join(base, "release");
let sums: string;

function run(words: string[], cwd = folder): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(words, { cwd, stdin: "ignore" });
  if (exitCode !== 0) throw new Error(`${words.join(" ")} ended with ${exitCode}: ${stderr}${stdout}`);
  return stdout.toString();
}

beforeAll(async () => {
  sums = await release(folder, DATE_S);
});

afterAll(() => rmSync(base, { recursive: true }));

test("the sums are those of all files", () => {
  const archives = [`dsm-${version}-linux-x64.tar.gz`, `dsm-${version}.tgz`, `dsm-linux-x64-${version}.tgz`];
  const files = [...archives, `dsm_${version}_amd64.deb`, `dsm-${version}.cdx.json`];
  expect(run(["sha256sum", "--check", "--strict", "SHA256SUMS"]).trim().split("\n").sort()).toEqual(
    files.map((name) => `${name}: OK`).sort(),
  );
  expect(readdirSync(folder).sort()).toEqual([...files, "SHA256SUMS"].sort());
});

test("a second build gives the same bytes, at any time, in any place, by any user", async () => {
  const [umask, zone, locale] = [process.umask(0o077), process.env.TZ, process.env.LC_ALL];
  Object.assign(process.env, { TZ: "Pacific/Kiritimati", LC_ALL: "C.UTF-8" });
  try {
    expect(await release(join(base, "a much longer name", "again"), DATE_S)).toBe(sums);
  } finally {
    process.umask(umask);
    for (const [name, value] of [
      ["TZ", zone],
      ["LC_ALL", locale],
    ] as const) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
});

test("the tarball works wherever it is unpacked", () => {
  const place = join(base, "un packed");
  mkdirSync(place);
  run(["tar", "-xf", join(folder, `dsm-${version}-linux-x64.tar.gz`)], place);
  const home = join(place, `dsm-${version}-linux-x64`);
  expect(run([join(home, "bin/dsm"), "--version"])).toBe(`${version}\n`);
  expect(run([join(home, "bin/dsm_daemon"), "--help"])).toContain("dsm daemon");
  expect(readFileSync(join(home, "lib/pkgconfig/dsm.pc"), "utf8")).toStartWith(`prefix=\${pcfiledir}/../..\n`);
  for (const name of ["README.md", "LICENSE", "licenses.txt"]) expect(readdirSync(home)).toContain(name);
  writeFileSync(join(place, "program.c"), PROGRAM);
  const paths = [`-I${home}/include`, `-L${home}/lib`, `-Wl,-rpath,${home}/lib`];
  run([compiler(), "-Wall", "-Werror", ...paths, "program.c", "-o", "program", "-ldsm"], place);
  expect(run([join(place, "program")])).toBe("DSM_TIMEOUT\n");
});

test("the .deb names its package and dependencies, and its files are those it lists", () => {
  const deb = join(folder, `dsm_${version}_amd64.deb`);
  const field = (name: string): string => run(["dpkg-deb", "--field", deb, name]).trim();
  expect(field("Package")).toBe("dsm");
  expect(field("Version")).toBe(version);
  expect(field("Architecture")).toBe("amd64");
  expect(field("Depends")).toBe("libc6 (>= 2.28), libgcc-s1 | libgcc1, libstdc++6 (>= 8)");
  const place = join(base, "deb");
  run(["dpkg-deb", "--extract", deb, place]);
  run(["dpkg-deb", "--control", deb, join(place, "DEBIAN")]);
  expect(run(["md5sum", "--check", "--strict", "--quiet", "DEBIAN/md5sums"], place)).toBe("");
  expect(run([join(place, "usr/bin/dsm"), "--version"])).toBe(`${version}\n`);
  writeFileSync(join(place, "program.c"), PROGRAM);
  const library = join(place, "usr/lib/x86_64-linux-gnu");
  const linked = ["-l:libdsm.a", "-lpthread", "-lrt", "-lxed"];
  run([compiler(), `-I${place}/usr/include`, `-L${library}`, "program.c", "-o", "program", ...linked], place);
  expect(run([join(place, "program")])).toBe("DSM_TIMEOUT\n");
  expect(readFileSync(join(library, "libdsm.so"), "utf8")).toContain('INPUT("/usr/lib/x86_64-linux-gnu/libdsm.so.0")');
  expect(readFileSync(join(library, "pkgconfig/dsm.pc"), "utf8")).toMatch(/^libdir=.*\/lib\/x86_64-linux-gnu$/m);
  const [man, ...completions] = ["man/man1/dsm.1.gz", "bash-completion/completions/dsm", "zsh/vendor-completions/_dsm"];
  expect(run(["gzip", "--decompress", "--stdout", join(place, "usr/share", man as string)])).toContain("\n.TH DSM 1 ");
  for (const path of completions) expect(readFileSync(join(place, "usr/share", path), "utf8")).toContain("dsm");
  // Everything belongs to root, and nothing is for others to write.
  const listing = run(["dpkg-deb", "--contents", deb]).trim().split("\n");
  expect(listing.filter((line) => !/^(l|.r[w-][x-]r-[x-]r-[x-] root\/root )/.test(line))).toEqual([]);
});

test("the list of parts names everything in the bundle, with hashes, and is valid", async () => {
  const text = readFileSync(join(folder, `dsm-${version}.cdx.json`), "utf8");
  const bom = JSON.parse(await checked(text));
  const parts = bom.components as {
    "bom-ref": string;
    name: string;
    hashes: { content: string }[];
    licenses: unknown;
  }[];
  const names = parts.map(({ name }) => name);
  const compiled = ["uplot", "koffi-linux-x64", "bun-linux-x64", "xed-sys"];
  for (const name of [...Object.keys(dependencies), ...compiled])
    expect(names).toContain(name.split("/").at(-1) as string);
  for (const { hashes, licenses } of parts) {
    expect(hashes[0]?.content).toMatch(/^[0-9a-f]{64,128}$/);
    expect(licenses).not.toEqual([]);
  }
  expect(bom.metadata.timestamp).toBe(new Date(DATE_S * 1000).toISOString());
  // Each is there because something needs it.
  const needed = new Set((bom.dependencies as { dependsOn?: string[] }[]).flatMap(({ dependsOn }) => dependsOn ?? []));
  expect(parts.map((part) => part["bom-ref"]).filter((reference) => !needed.has(reference))).toEqual([]);
  await expect(checked(text.replace('"CycloneDX"', '"something"'))).rejects.toThrow("not valid CycloneDX");
});
