/** The list of what `dsm install` has put under a prefix, so that another install replaces it and uninstall removes
 * exactly that. A text file of lines "file PATH" and "dir PATH", relative to the prefix. */
import { lstatSync, readFileSync, rmdirSync, unlinkSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { DsmError } from "../../core/base/errors.ts";

export const MANIFEST = "share/dsm/manifest";
const MANIFEST_MAX = 1 << 20;

export interface Manifest {
  /** Files and links. */
  files: Set<string>;
  /** Directories that were made, parents first. */
  directories: string[];
}

/** Null when nothing is installed there. Throws if dsm did not write the file. */
export function readManifest(prefix: string): Manifest | null {
  const path = join(prefix, MANIFEST);
  let text: string;
  try {
    const stat = lstatSync(path);
    if (!stat.isFile()) throw new DsmError("DSM_INVALID", `${path} is not a regular file, as dsm writes it; remove it`);
    if (stat.size > MANIFEST_MAX) throw new DsmError("DSM_INVALID", `${path} is too large to be ours`);
    text = readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw error instanceof DsmError ? error : new DsmError("DSM_SYSTEM", `${path} cannot be read: ${code}`);
  }
  const manifest: Manifest = { files: new Set(), directories: [] };
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const match = /^(file|dir) (.+)$/.exec(line);
    const entry = match?.[2];
    if (entry === undefined || isAbsolute(entry) || entry.split("/").includes("..")) {
      throw new DsmError(
        "DSM_INVALID",
        `${path} has a line that is not ours: "${line.slice(0, 80)}"; nothing was removed`,
      );
    }
    if (match?.[1] === "dir") manifest.directories.push(entry);
    else manifest.files.add(entry);
  }
  return manifest;
}

export function manifestText(manifest: Manifest, version: string): string {
  return [
    `# Installed by dsm ${version}; "dsm uninstall" removes these.`,
    ...[...manifest.files].map((path) => `file ${path}`),
    ...manifest.directories.map((path) => `dir ${path}`),
    "",
  ].join("\n");
}

/** Removes a file or link. Returns false if it is gone, or has become a directory. */
export function removeFile(path: string): boolean {
  try {
    unlinkSync(path);
    return true;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === "ENOENT" || code === "ENOTDIR" || code === "EISDIR") return false;
    throw new DsmError("DSM_SYSTEM", `${path} cannot be removed: ${code}`);
  }
}

/** Removes those of the directories that are empty, children first. */
export function removeEmpty(prefix: string, directories: string[]): void {
  for (const directory of directories.toReversed()) {
    try {
      rmdirSync(join(prefix, directory));
    } catch {
      // It is gone, or has files of another program.
    }
  }
}
