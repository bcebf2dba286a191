/** dist/licenses.txt: the licence of dsm and of everything that dist/dsm and libdsm contain, for `dsm licenses`. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { BuildError, replaceFile, root } from "./steps.ts";

interface Notice {
  name: string;
  license: string;
  file: string;
}

/** Bundled into the daemon's page, and needed for nothing else. */
export const PAGE_PACKAGES = ["uplot"];

/** The folder in which the package at `from` finds `name`, by Node's rule; `exists` says which there are. */
export function packageFolder(from: string, name: string, exists: (folder: string) => boolean): string {
  for (let at = from; at !== ""; at = at.slice(0, Math.max(0, at.lastIndexOf("/node_modules/")))) {
    const inner = `${at}/node_modules/${name}`;
    if (exists(inner)) return inner;
  }
  return `node_modules/${name}`;
}

/** The packages under "dependencies" and theirs in turn, all of which may be in the bundle, and those of the page. */
async function bundledPackages(): Promise<Notice[]> {
  const notices = new Map<string, Notice>();
  const { dependencies } = await Bun.file(join(root, "package.json")).json();
  const waiting = [...Object.keys(dependencies), ...PAGE_PACKAGES].map((name) => `node_modules/${name}`);
  const exists = (folder: string): boolean => existsSync(join(root, folder, "package.json"));
  for (let folder = waiting.shift(); folder !== undefined; folder = waiting.shift()) {
    if (notices.has(folder)) continue;
    const manifest = await Bun.file(join(root, folder, "package.json")).json();
    const file = readdirSync(join(root, folder)).find((entry) => /^licen[cs]e([-.]\w+)*$/i.test(entry));
    if (file === undefined) throw new BuildError(`${folder} has no licence file; it cannot go into dist/dsm`);
    const name = `${manifest.name} ${manifest.version}`;
    notices.set(folder, { name, license: manifest.license, file: join(folder, file) });
    for (const inner of Object.keys(manifest.dependencies ?? {})) waiting.push(packageFolder(folder, inner, exists));
  }
  return [...notices.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Everything that needs a notice, dsm itself first. */
export async function collectNotices(): Promise<Notice[]> {
  return [
    { name: "dsm", license: "MIT", file: "LICENSE" },
    { name: "Intel XED v2024.05.20", license: "Apache-2.0", file: "native/xed/LICENSE" },
    ...(await bundledPackages()),
    {
      name: `Bun ${Bun.version}`,
      license: "MIT, with parts under the licences listed",
      file: "node_modules/bun-types/docs/project/license.mdx",
    },
  ];
}

export async function writeLicenses(notices: Notice[]): Promise<void> {
  const rule = "=".repeat(80);
  const parts = [`This program contains:\n\n${notices.map((n) => `  ${n.name} (${n.license})`).join("\n")}\n`];
  for (const { name, license, file } of notices) {
    const text = (await Bun.file(join(root, file)).text()).replace(/^---\n.*?\n---\n/s, ""); // front matter of a page
    parts.push(`${rule}\n${name} (${license})\n${rule}\n\n${text.replace(/[ \t\r]+$/gm, "").trim()}\n`);
  }
  await replaceFile(join(root, "dist/licenses.txt"), parts.join("\n"));
}
