/** The files inside this program, as bytes and as files with a path. */
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
import { parseMounts } from "../../core/launch/cgroup.ts";
import { readText } from "../../transport/memory-room.ts";
import { type AssetName, PYTHON_FILES, SOURCES } from "./asset-names.ts";
import { isCompiled, sourceRoot } from "./executable.ts";

/** Returns the bytes of a file. */
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
 * The files that processes of `dsm run` and scripts on the embedded Bun need, by path. A compiled program puts them into
 * one folder of the user's cache, because a library inside a program cannot be loaded in place.
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
 * The library, and the folder with the module, for a Python program that imports dsm. A compiled program puts them into
 * the user's cache.
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
 * may have a folder in it: `dsm/__init__.py`. Where the cache cannot be used, has no room or is mounted noexec, the folder
 * is one in /tmp, or in XDG_RUNTIME_DIR.
 */
export function placeInCache(version: string, files: Record<string, Uint8Array>): string {
  const reasons: string[] = [];
  for (const place of places()) {
    const folders = new Map<string, Folder>();
    try {
      const folder = openPlace(place, version);
      folders.set(".", folder);
      for (const [name, content] of Object.entries(files)) {
        const parent = dirname(name);
        const inner = folders.get(parent) ?? innerFolder(folder, parent);
        folders.set(parent, inner);
        placeFile(inner, basename(name), content);
      }
      return folder.path;
    } catch (error) {
      if (error instanceof DsmError && !(error instanceof UnusablePlace)) throw error;
      reasons.push(error instanceof Error ? error.message : String(error));
    } finally {
      for (const { fd } of folders.values()) closeSync(fd);
    }
  }
  throw new DsmError(
    "DSM_SYSTEM",
    `no folder for the libraries: ${reasons.join("; ")}; set XDG_CACHE_HOME to one with ${CACHE_ROOM} of room`,
  );
}

/** The files that one version of dsm puts into the cache need less. */
export const CACHE_ROOM = "20 MiB";

/** The path of libdsm-runs.so, as a file that can be loaded. */
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
    // The file is missing: the error below says so.
  }
  throw new DsmError("DSM_SYSTEM", `${path} has not been built; run "bun run build" first`);
}

/** An open folder. Operations by its descriptor act on the folder that was checked, wherever its path leads later. */
interface Folder {
  path: string;
  fd: number;
}

/** A folder that cannot be used; the next one may do. */
class UnusablePlace extends DsmError {
  constructor(reason: string) {
    super("DSM_SYSTEM", reason);
  }
}

/** The user's cache. */
export const cacheHome = (): string => process.env.XDG_CACHE_HOME || join(homedir(), ".cache");

/** The folders to try, each with the name of a folder in it that is this user's alone. */
function places(): { base: string; name: string }[] {
  const own = [
    { base: cacheHome(), name: "dsm" },
    { base: tmpdir(), name: `dsm-${process.geteuid?.() ?? 0}` },
  ];
  const runtime = process.env.XDG_RUNTIME_DIR;
  return runtime ? [...own, { base: runtime, name: "dsm" }] : own;
}

/** Opens the version's folder in that place. No other user can write to it, and what is in it can be loaded. */
function openPlace({ base, name }: { base: string; name: string }, version: string): Folder {
  const uid = process.geteuid?.() ?? 0;
  mkdirSync(base, { recursive: true, mode: 0o700 });
  const real = realpathSync(base);
  checkPath(real, uid);
  const parent = openOwn(real, name, uid);
  try {
    if (isNoexec(parent.fd)) throw new UnusablePlace(`${parent.path} is mounted noexec, so no library loads from it`);
    return openOwn(parent.path, version, uid);
  } finally {
    closeSync(parent.fd);
  }
}

/** Whether the kernel refuses to execute, or load, files of that folder. False where /proc does not tell. */
function isNoexec(fd: number): boolean {
  const id = /^mnt_id:\s*(\d+)$/m.exec(readText(`/proc/self/fdinfo/${fd}`) ?? "")?.[1];
  const mount = parseMounts(readText("/proc/self/mountinfo") ?? "").find((mount) => mount.id === id);
  return mount?.options.includes("noexec") === true;
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
    throw new UnusablePlace((error as Error).message.replace(`/proc/self/fd/${folder.fd}/${name}`, path));
  }
}

/** Codes of errors that another file system may not have. */
const OF_FILE_SYSTEM = new Set(["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EIO"]);

/** Makes the file hold exactly `content`. Other processes may do the same at this moment. */
function placeFile(folder: Folder, name: string, content: Uint8Array): void {
  const path = `/proc/self/fd/${folder.fd}/${name}`;
  if (holds(path, content)) return;
  const temporary = `${path}.${crypto.randomUUID()}`;
  try {
    writeFileSync(temporary, content, { flag: "wx", mode: 0o700 });
    // Replaces what has the name: a link is not followed.
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    const reason = error instanceof Error ? error.message : String(error);
    const words = `${join(folder.path, name)} cannot be written: ${reason}`;
    const { code = "" } = error as { code?: string };
    if (OF_FILE_SYSTEM.has(code)) throw new UnusablePlace(words);
    const advice =
      code === "EFBIG" ? "lift the limit of files with ulimit -f unlimited" : "set XDG_CACHE_HOME to another folder";
    throw new DsmError("DSM_SYSTEM", `${words}; ${advice}`);
  }
}

/** Whether the file is a regular file of this user with exactly these bytes, which no other user can write. */
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
