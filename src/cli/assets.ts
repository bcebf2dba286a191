/** The files this program carries inside, as files one can open by path. */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { DsmError } from "../core/errors.ts";
import { isCompiled, sourceRoot } from "./self.ts";

/** Where each file is in the project; embedded.ts embeds the same set. */
const SOURCES = {
  "libdsm.so": "native/build/libdsm.so",
  "libdsm-runs.so": "native/build/libdsm-runs.so",
  "libdsm.a": "native/build/libdsm.a",
  "libxed.a": "native/build/libxed.a",
  "koffi.node": "native/build/koffi.node",
  "dsm.h": "native/include/dsm/dsm.h",
  "dsm_util.h": "native/include/dsm/dsm_util.h",
  "preload.js": "dist/client/preload.js",
  "licenses.txt": "dist/licenses.txt",
} as const;

export type AssetName = keyof typeof SOURCES;

/** What one of the files holds. */
export async function readAsset(name: AssetName): Promise<Uint8Array> {
  const path = isCompiled ? (await import("./embedded.ts")).EMBEDDED[name] : sourceFile(SOURCES[name]);
  return new Uint8Array(await Bun.file(path).arrayBuffer());
}

/**
 * The files a script on the embedded Bun needs, by path. From a compiled program they are copied to the user's cache,
 * side by side: what is inside cannot be loaded in place.
 */
export async function runtimeFiles(): Promise<{ library: string; preload: string }> {
  if (!isCompiled) {
    return { library: sourceFile(SOURCES["libdsm.so"]), preload: sourceFile("src/client/preload.ts") };
  }
  const names = ["libdsm.so", "koffi.node", "preload.js"] as const;
  const contents = await Promise.all(names.map(readAsset));
  const hash = new Bun.CryptoHasher("sha256");
  for (const content of contents) hash.update(new Bun.CryptoHasher("sha256").update(content).digest());
  const directory = cacheDirectory(hash.digest("hex").slice(0, 32));
  for (const [index, name] of names.entries()) place(join(directory, name), contents[index] as Uint8Array);
  return { library: join(directory, "libdsm.so"), preload: join(directory, "preload.js") };
}

/** libdsm-runs.so as a file that can be loaded. */
export async function runsLibrary(): Promise<string> {
  const name = "libdsm-runs.so";
  if (!isCompiled) return sourceFile(SOURCES[name]);
  const content = await readAsset(name);
  const path = join(cacheDirectory(new Bun.CryptoHasher("sha256").update(content).digest("hex").slice(0, 32)), name);
  place(path, content);
  return path;
}

function sourceFile(path: string): string {
  const full = join(sourceRoot, path);
  try {
    if (lstatSync(full).isFile()) return full;
  } catch {
    // Missing: below.
  }
  throw new DsmError("DSM_SYSTEM", `${path} has not been built; run "bun run build" first`);
}

/** A folder only this user can write to, in the user's cache, or in /tmp where there is no home to write to. */
function cacheDirectory(version: string): string {
  const uid = process.getuid?.() ?? 0;
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const reasons: string[] = [];
  for (const base of [join(cache, "dsm"), join(tmpdir(), `dsm-${uid}`)]) {
    try {
      mkdirSync(base, { recursive: true, mode: 0o700 });
      checkOwn(base, uid);
      const directory = join(base, version);
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      checkOwn(directory, uid);
      return directory;
    } catch (error) {
      reasons.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new DsmError("DSM_SYSTEM", `no folder for the libraries: ${reasons.join("; ")}; set XDG_CACHE_HOME to one`);
}

function checkOwn(directory: string, uid: number): void {
  const { mode, uid: owner } = lstatSync(directory);
  if ((mode & constants.S_IFMT) !== constants.S_IFDIR) throw new Error(`${directory} is not a folder`);
  if (owner !== uid) throw new Error(`${directory} belongs to user ${owner}`);
  if ((mode & 0o022) !== 0) throw new Error(`${directory} can be written to by others`);
}

/** Makes `path` hold exactly `content`. Others may be doing the same at this moment. */
function place(path: string, content: Uint8Array): void {
  if (holds(path, content)) return;
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    writeFileSync(temporary, content, { flag: "wx", mode: 0o700 });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    const reason = error instanceof Error ? error.message : String(error);
    throw new DsmError("DSM_SYSTEM", `${path} cannot be written: ${reason}; set XDG_CACHE_HOME to another folder`);
  }
}

/** Whether the file is there, a plain file, and byte for byte what it must be. */
function holds(path: string, content: Uint8Array): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return false;
  }
  try {
    const stat = fstatSync(fd);
    return stat.isFile() && stat.size === content.length && readFileSync(fd).equals(content);
  } finally {
    closeSync(fd);
  }
}
