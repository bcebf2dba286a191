/** Archives whose bytes depend on their contents alone, not on time, place, user or order of writing. */
import { createHash } from "node:crypto";
import { basename, dirname } from "node:path";
import { BuildError, command, replaceFile, root, tool } from "./steps.ts";

/**
 * Seconds since 1970 that stand for the time of a release: SOURCE_DATE_EPOCH, or when the last commit was made.
 * See reproducible-builds.org.
 */
export async function sourceDate(): Promise<number> {
  const given = process.env.SOURCE_DATE_EPOCH;
  if (given !== undefined && !/^\d{1,11}$/.test(given)) {
    throw new BuildError(`SOURCE_DATE_EPOCH is "${given}"; write seconds since 1970`);
  }
  if (given !== undefined) return Number(given);
  try {
    return Number(await command([tool("git"), "log", "-1", "--format=%ct"]));
  } catch {
    throw new BuildError(`${root} has no git history to take a date from; set SOURCE_DATE_EPOCH`);
  }
}

/** Writes the folder, under its own name, to `archive`, a .tar.gz; every file in it gets the time `seconds`. */
export async function packFolder(folder: string, archive: string, seconds: number): Promise<void> {
  const child = Bun.spawn(
    [
      ...[tool("tar"), "--create", "--format=ustar", "--sort=name", `--mtime=@${seconds}`],
      ...["--owner=root:0", "--group=root:0", "--mode=u=rwX,go=rX", "--directory", dirname(folder), basename(folder)],
    ],
    { stdin: "ignore", stdout: "pipe", stderr: "pipe", env: { ...process.env, LC_ALL: "C" } },
  );
  const [bytes, said, code] = await Promise.all([child.stdout.bytes(), child.stderr.text(), child.exited]);
  if (code !== 0) throw new BuildError(`tar ended with code ${code}: ${said.trim()}`);
  await replaceFile(archive, Bun.gzipSync(bytes, { library: "libdeflate", level: 6 }));
}

/** Of a file's content, in hexadecimal digits. */
export async function sha256(path: string): Promise<string> {
  return createHash("sha256")
    .update(await Bun.file(path).bytes())
    .digest("hex");
}
