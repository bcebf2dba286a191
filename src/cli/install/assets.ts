/** The files this program carries inside, as files one can open by path. */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { type AssetName, PYTHON_FILES, SOURCES } from "./asset-names.ts";
import { isCompiled, sourceRoot } from "./executable.ts";

/** What one of the files holds. */
export async function readAsset(name: AssetName): Promise<Uint8Array> {
  const path = isCompiled ? (await import("./embedded.ts")).EMBEDDED[name] : sourceFile(SOURCES[name]);
  return new Uint8Array(await Bun.file(path).arrayBuffer());
}

/** Paths of files that the processes of `dsm run` need. */
export interface RuntimeFiles {
  library: string;
  preload: string;
  header: string;
  /** The program that ends the processes of a run that was killed. */
  guard: string;
}

/**
 * The files that processes of `dsm run` and scripts on the embedded Bun need, by path. From a compiled program they are copied to the user's cache,
 * side by side: what is inside cannot be loaded in place.
 */
export function runtimeFiles(): Promise<RuntimeFiles> {
  runtimeFilesOnce ??= findRuntimeFiles();
  return runtimeFilesOnce;
}

/** They are read, and compared with those in the cache, once in a process. */
let runtimeFilesOnce: Promise<RuntimeFiles> | undefined;

async function findRuntimeFiles(): Promise<RuntimeFiles> {
  if (!isCompiled) {
    const [preload, header] = ["src/client/preload.ts", "src/client/header.ts"].map(sourceFile) as [string, string];
    return { library: sourceFile(SOURCES["libdsm.so"]), preload, header, guard: sourceFile(SOURCES["dsm-guard"]) };
  }
  const folder = await placeAssets(["libdsm.so", "koffi.node", "preload.js", "header.js", "dsm-guard"]);
  return {
    library: join(folder, "libdsm.so"),
    preload: join(folder, "preload.js"),
    header: join(folder, "header.js"),
    guard: join(folder, "dsm-guard"),
  };
}

/**
 * What a Python program needs that imports dsm: the library, and the folder with the module. From a compiled program
 * they are in the user's cache.
 */
export async function pythonFiles(): Promise<{ library: string; path: string }> {
  if (!isCompiled) {
    return { library: sourceFile(SOURCES["libdsm.so"]), path: join(sourceRoot, "native/bindings/python") };
  }
  const modules = PYTHON_FILES.filter((name) => name.startsWith("python/dsm/"));
  const path = await placeAssets(["libdsm.so", ...modules], (name) => name.replace(/^python\//, ""));
  return { library: join(path, "libdsm.so"), path };
}

/**
 * Puts files into a folder of that name in the user's cache, or finds them there, unchanged; returns the folder. A name
 * may have a folder in it: `dsm/__init__.py`.
 */
export function placeInCache(version: string, files: Record<string, Uint8Array>): string {
  const folder = cacheDirectory(version);
  const inner = new Map<string, Folder>([[".", folder]]);
  try {
    for (const [name, content] of Object.entries(files)) {
      const parent = dirname(name);
      const place = inner.get(parent) ?? innerFolder(folder, parent);
      inner.set(parent, place);
      put(place, basename(name), content);
    }
    return folder.path;
  } finally {
    for (const { fd } of inner.values()) closeSync(fd);
  }
}

/** libdsm-runs.so as a file that can be loaded. */
export async function runsLibrary(): Promise<string> {
  const name = "libdsm-runs.so";
  if (!isCompiled) return sourceFile(SOURCES[name]);
  return join(await placeAssets([name]), name);
}

/**
 * Puts embedded files into a folder of the cache that is named by what they hold, each under the name that `placed` gives
 * it; returns the folder.
 */
async function placeAssets(names: readonly AssetName[], placed = (name: string): string => name): Promise<string> {
  const { DIGESTS } = await import("./embedded.ts");
  const contents = await Promise.all(names.map(readAsset));
  const files = Object.fromEntries(names.map((name, i) => [placed(name), contents[i] as Uint8Array]));
  return placeInCache(digestOf(names.map((name) => DIGESTS[name])), files);
}

/** One digest for files with these, as 32 hex digits. */
export function digestOf(digests: readonly string[]): string {
  const hash = new Bun.CryptoHasher("sha256");
  for (const digest of digests) hash.update(digest, "hex");
  return hash.digest("hex").slice(0, 32);
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

/** The folder's descriptor: what is done by it is done to the folder that was checked, whatever its path leads to. */
interface Folder {
  path: string;
  fd: number;
}

/** A folder only this user can write to, in the user's cache, or in /tmp where there is no home to write to. */
function cacheDirectory(version: string): Folder {
  const uid = process.geteuid?.() ?? 0;
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const reasons: string[] = [];
  for (const [base, name] of [
    [cache, "dsm"],
    [tmpdir(), `dsm-${uid}`],
  ] as const) {
    let parent: Folder | undefined;
    try {
      mkdirSync(base, { recursive: true, mode: 0o700 });
      const real = realpathSync(base);
      checkPath(real, uid);
      parent = openOwn(real, name, uid);
      return openOwn(parent.path, version, uid);
    } catch (error) {
      reasons.push(error instanceof Error ? error.message : String(error));
    } finally {
      if (parent !== undefined) closeSync(parent.fd);
    }
  }
  throw new DsmError("DSM_SYSTEM", `no folder for the libraries: ${reasons.join("; ")}; set XDG_CACHE_HOME to one`);
}

/**
 * Throws unless no other user but root can put anything else in the place of `path`, which has no links in it: every
 * folder on the way belongs to one of the two and others cannot write to it, or it has the sticky bit, as /tmp does.
 */
function checkPath(path: string, uid: number): void {
  for (let folder = path; ; folder = dirname(folder)) {
    const { mode, uid: owner } = lstatSync(folder);
    if ((mode & constants.S_IFMT) !== constants.S_IFDIR) throw new Error(`${folder} is not a folder`);
    if (owner !== uid && owner !== 0) throw new Error(`${folder} belongs to user ${owner}`);
    if ((mode & 0o022) !== 0 && (mode & STICKY) === 0) throw new Error(`${folder} can be written to by others`);
    if (folder === "/") return;
  }
}

const STICKY = 0o1000;

/** Opens a folder of this user's alone, made if need be, in a folder that checkPath() has found good. */
function openOwn(parent: string, name: string, uid: number): Folder {
  const path = join(parent, name);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if ((error as { code?: string }).code !== "EEXIST") throw error;
  }
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch {
    throw new Error(`${path} is not a folder`);
  }
  const { mode, uid: owner } = fstatSync(fd);
  if (owner === uid && (mode & 0o077) === 0) return { path, fd };
  closeSync(fd);
  throw new Error(`${path} ${owner === uid ? "can be entered by others" : `belongs to user ${owner}`}`);
}

/** Opens a folder in one that was checked. */
function innerFolder(folder: Folder, name: string): Folder {
  const path = join(folder.path, name);
  try {
    return { path, fd: openOwn(`/proc/self/fd/${folder.fd}`, name, process.geteuid?.() ?? 0).fd };
  } catch (error) {
    const reason = (error as Error).message.replace(`/proc/self/fd/${folder.fd}/${name}`, path);
    throw new DsmError("DSM_SYSTEM", `no folder for the libraries: ${reason}; set XDG_CACHE_HOME to one`);
  }
}

/** Makes the file hold exactly `content`. Others may be doing the same at this moment. */
function put(folder: Folder, name: string, content: Uint8Array): void {
  const path = `/proc/self/fd/${folder.fd}/${name}`;
  if (holds(path, content)) return;
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    writeFileSync(temporary, content, { flag: "wx", mode: 0o700 });
    // In the place of whatever has the name: a link is replaced, not followed.
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    const reason = error instanceof Error ? error.message : String(error);
    throw new DsmError(
      "DSM_SYSTEM",
      `${join(folder.path, name)} cannot be written: ${reason}; set XDG_CACHE_HOME to another folder`,
    );
  }
}

/** Whether the file is there, a plain file of this user's that no other user can write, and byte for byte what it must be. */
function holds(path: string, content: Uint8Array): boolean {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return false;
  }
  try {
    const { mode, uid, size } = fstatSync(fd);
    return (
      (mode & constants.S_IFMT) === constants.S_IFREG &&
      uid === process.geteuid?.() &&
      (mode & 0o022) === 0 &&
      size === content.length &&
      readFileSync(fd).equals(content)
    );
  } finally {
    closeSync(fd);
  }
}
