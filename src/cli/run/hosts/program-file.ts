/** What differs by host in a run: the node's name, and the program's file if it is copied. */
import { statSync } from "node:fs";
import { resolve } from "node:path";
import { DsmError } from "../../../core/base/errors.ts";
import { NAME_MAX } from "../../../core/base/limits.ts";
import { bareHost, type Share } from "../../../core/launch/hosts.ts";
import { invalid } from "../../settings/options.ts";
import { isPath } from "../program.ts";

/** Returns the name of the node: the name of a node is shorter than that of a host, and two users of a host are two nodes. */
export function nodeName(host: string, index: number, shares: readonly Share[]): string {
  const name = bareHost(host);
  const unique = shares.every((share, other) => other === index || bareHost(share.host) !== name);
  if (unique && name.length <= NAME_MAX) return name;
  const suffix = `-${index}`;
  return `${name.slice(0, NAME_MAX - suffix.length)}${suffix}`;
}

export function openProgram(name: string): Bun.BunFile {
  const path = isPath(name) ? resolve(name) : Bun.which(name, { PATH: process.env.PATH ?? "" });
  if (path === null) throw invalid(`program "${name}" was not found in the PATH; give its path to copy it`);
  try {
    if (!statSync(path).isFile()) throw invalid(`program "${name}" is not a file; --copy copies one file`);
  } catch (error) {
    if (error instanceof DsmError) throw error;
    throw invalid(`there is no program "${name}" to copy`);
  }
  return Bun.file(path);
}
