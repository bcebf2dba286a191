/**
 * What every build script needs: running a tool, a step that is skipped while its inputs are unchanged, and the lock
 * that keeps two builds of one tree apart.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { createConsola } from "consola";
import koffi from "koffi";
import { type Progress, startProgress } from "../src/cli/terminal/progress.ts";

/** The project's folder, absolute. */
export const root = join(import.meta.dir, "..");
/** Where everything made from native/ goes, absolute. */
export const nativeBuild = join(root, "native/build");

/** Progress, on stderr. The level is fixed: consola would be silent in a child of the test runner. */
export const progress = createConsola({ level: 3, stdout: process.stderr });

/** A bar for the parts of one step, on a terminal; elsewhere lines, if it takes long. */
export function stepProgress(what: string, parts: number): Progress {
  return startProgress(what, parts, { line: (text) => progress.info(text), amount: (value) => `${value} parts` });
}

/** A build that cannot go on; the message is for the person building. */
export class BuildError extends Error {
  override name = "BuildError";
}

/** Where to get each tool the build calls, for the message when it is missing. */
const packageOf: Record<string, string> = {
  cc: "a C compiler: apt-get install gcc libc6-dev",
  objcopy: "binutils: apt-get install binutils",
  strip: "binutils: apt-get install binutils",
  ar: "binutils: apt-get install binutils",
  objdump: "binutils: apt-get install binutils",
  git: "git: apt-get install git",
  tar: "GNU tar: apt-get install tar",
  "dpkg-deb": "dpkg: apt-get install dpkg",
  python3: "Python 3: apt-get install python3",
  cargo: "cargo (Rust's package manager): apt-get install cargo, or set XED_KIT to an installed XED kit",
};

/** The path of a tool; throws a BuildError that says what to install when it is not there. */
export function tool(name: string): string {
  const path = Bun.which(name);
  if (path === null) throw new BuildError(`${name} is not installed. Install ${packageOf[name] ?? name}.`);
  return path;
}

/** The C compiler: $CC, else gcc. */
export function compiler(): string {
  const chosen = process.env.CC || "gcc";
  const path = Bun.which(chosen);
  if (path !== null) return path;
  if (process.env.CC) throw new BuildError(`CC=${chosen} is not installed; unset CC to use gcc.`);
  throw new BuildError(`gcc is not installed. Install ${packageOf.cc}.`);
}

/**
 * Runs a command to its end and returns what it printed to stdout; throws a BuildError with its output on failure.
 * `heard` gets what comes on stdout as it comes.
 */
export async function command(argv: string[], cwd: string = root, heard?: (text: string) => void): Promise<string> {
  const child = Bun.spawn(argv, { cwd, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const listen = async (): Promise<string> => {
    let said = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      said += text;
      heard?.(text);
    }
    return said;
  };
  const [stdout, stderr, code] = await Promise.all([listen(), child.stderr.text(), child.exited]);
  if (code !== 0) {
    const said = `${stderr}${stdout}`.trimEnd().split("\n").slice(-60).join("\n");
    throw new BuildError(`${argv.join(" ")}\nended with code ${code}:\n${said}`);
  }
  return stdout;
}

/** Files under the project's folder that match the globs, as sorted relative paths. */
export async function files(...patterns: string[]): Promise<string[]> {
  const found = new Set<string>();
  for (const pattern of patterns) {
    for await (const path of new Bun.Glob(pattern).scan({ cwd: root, onlyFiles: true })) found.add(path);
  }
  return [...found].sort();
}

/** One hash over the facts given and the names and contents of the files (relative to the project, or absolute). */
export async function fingerprint(paths: string[], facts: string[] = []): Promise<string> {
  const hash = createHash("sha256");
  for (const fact of facts) hash.update(`${fact}\0`);
  for (const path of paths) {
    hash
      .update(`${path}\0`)
      .update(await Bun.file(resolve(root, path)).bytes())
      .update("\0");
  }
  return hash.digest("hex");
}

export interface Step {
  /** Shown while it runs; also the name of its stamp. */
  name: string;
  /** Files whose contents decide the result. */
  inputs: string[];
  /** Anything else that decides it: flags, versions of tools. */
  facts?: string[];
  /** Files it makes, relative to the project; if one is missing the step runs. */
  outputs: string[];
  run(): Promise<void>;
}

/** Runs a step unless its inputs are those of its last successful run and its outputs are there. */
export async function runStep(step: Step): Promise<"done" | "skipped"> {
  const stamp = join(nativeBuild, "stamps", step.name);
  const now = await fingerprint(step.inputs, step.facts);
  const before = existsSync(stamp) ? await Bun.file(stamp).text() : "";
  if (before === now && step.outputs.every((path) => existsSync(join(root, path)))) return "skipped";
  const start = performance.now();
  await rm(stamp, { force: true });
  await step.run();
  for (const path of step.outputs) {
    if (!existsSync(join(root, path))) throw new BuildError(`step ${step.name} did not make ${path}`);
  }
  await replaceFile(stamp, now);
  progress.success(`${step.name} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
  return "done";
}

/** Writes a file so that a reader sees the old content or the new, never a part. */
export async function replaceFile(path: string, content: string | Uint8Array | Blob): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const part = `${path}.${process.pid}.part`;
  await Bun.write(part, content);
  await rename(part, path);
}

let lockHeld = false;

/**
 * Runs `work` while this process holds the tree's build lock, waiting for another build to end first. The kernel
 * releases the lock when the process ends, however it ends, so it is never stale.
 */
export async function withBuildLock<T>(work: () => Promise<T>): Promise<T> {
  if (lockHeld) return work();
  await mkdir(nativeBuild, { recursive: true });
  const file = await open(join(nativeBuild, "lock"), "w");
  const flock = koffi.load("libc.so.6").func("int flock(int fd, int operation)");
  const LOCK_EX = 2;
  const LOCK_NB = 4;
  try {
    if (flock(file.fd, LOCK_EX | LOCK_NB) !== 0) {
      progress.info("Waiting for another build of this tree to end.");
      while (flock(file.fd, LOCK_EX) !== 0); // a signal may interrupt the wait
    }
    lockHeld = true;
    return await work();
  } finally {
    lockHeld = false;
    await file.close();
  }
}

/** Runs a script's main function: an error that is the user's to mend is one message, not a stack. */
export async function runScript(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    progress.error(error.message);
    process.exit(1);
  }
}
