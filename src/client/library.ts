/** libdsm: finds and loads it, and turns the results of its functions (symbols.ts) into outcomes. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { getSystemErrorName } from "node:util";
import type * as WorkerThreads from "node:worker_threads";
import type * as Koffi from "koffi";
import { DsmError, Status, statusCode } from "../core/base/errors.ts";
import { check, DONE, type Outcome } from "./outcomes.ts";
import { bindSymbols, type SessionPointer, type Symbols } from "./symbols.ts";

const TEXT_SIZE = 512;

/** The folder of this file, or of the bundle of it. */
const here = fileURLToPath(new URL(".", import.meta.url));
/** The package's folder: this file is in src/client of it, the bundle in dist/client. */
const packageRoot = join(here, "..", "..");

let loaded: Library | undefined;

/**
 * loadLibrary returns libdsm, loaded once per thread. `path`: where the process's first thread found it. Throws DsmError
 * DSM_SYSTEM when it is not there.
 */
export function loadLibrary(path: string = loaded?.path ?? findLibrary()): Library {
  if (loaded?.path !== path) loaded = new Library(path);
  return loaded;
}

/** sizeAdvice returns what to do where a map must have so many bytes, in libdsm's words, for the end of a message. */
export const sizeAdvice = (bytes: number): string => loadLibrary().symbols.sizeAdvice(bytes);

export class Library {
  /** The functions themselves: they return a status, and throw nothing. */
  readonly symbols: Symbols;
  readonly path: string;
  readonly #koffi: typeof Koffi;

  constructor(path: string) {
    // Loaded here, not at import: a program that imports dsm but joins nothing does not pay for it. And by its CommonJS
    // entry, the only one that can be bundled.
    const koffi = require("koffi") as typeof Koffi;
    this.#koffi = koffi;
    this.path = path;
    this.symbols = bindSymbols(koffi, load(koffi, path));
  }

  /** The outcome of the call that has just returned `status` on this thread. */
  outcome(status: number): Outcome {
    return status === Status.OK ? DONE : { status, text: this.symbols.lastError() };
  }

  /** Throws unless the call that has just returned `status` was successful. */
  check(status: number): void {
    if (status !== Status.OK) check(this.outcome(status));
  }

  /** Makes a call that stores a number through its last argument, and returns that number. Throws DsmError. */
  result(call: (out: number[]) => number): number {
    const out = [0];
    this.check(call(out));
    return out[0] as number;
  }

  /** Closes a session on another thread. The pointer is invalid afterwards, whatever the outcome. */
  async closeAsync(pointer: SessionPointer): Promise<void> {
    const { closeText } = this.symbols;
    await withText((text, size, done) => closeText.async(pointer, text, size, done));
  }

  /** Fills a hole on another thread. */
  async holeFillAsync(pointer: SessionPointer, hole: number): Promise<void> {
    const { holeFillText } = this.symbols;
    await withText((text, size, done) => holeFillText.async(pointer, hole, text, size, done));
  }

  /**
   * Reads from a file into the map: from the byte `position` of it, or, where that is null, from where the file is,
   * which then moves on. Returns the number of bytes, 0 at the end of the file. Throws DsmError DSM_SYSTEM.
   */
  read(descriptor: number, address: bigint, size: number, position: number | bigint | null): number {
    const { read, readAt } = this.symbols;
    const got = position === null ? read(descriptor, address, size) : readAt(descriptor, address, size, position);
    if (got >= 0) return Number(got);
    const reason = getSystemErrorName(-this.#koffi.errno());
    throw new DsmError("DSM_SYSTEM", `descriptor ${descriptor} cannot be read: ${reason}`);
  }

  /** The memory of the map. It stays mapped for as long as the program runs, also after leaving. */
  memory(address: bigint, size: number): ArrayBuffer {
    return keepInPlace(this.#koffi.view(address, size));
  }
}

/**
 * Makes attempts to move the map's buffer to another thread fail, as far as the runtime allows: they would take it from
 * this one. (Cloning copies it; there is no way to forbid that. Node before version 21 copies it instead of moving it.)
 */
function keepInPlace(buffer: ArrayBuffer): ArrayBuffer {
  // Not by import: preload.ts must be able to change this module before a program imports it.
  const { markAsUntransferable } = require("node:worker_threads") as typeof WorkerThreads;
  markAsUntransferable(buffer);
  const transfer = (): never => {
    throw new DsmError(
      "DSM_INVALID",
      "the shared memory cannot be transferred; give a worker session.handle() instead",
    );
  };
  for (const name of ["transfer", "transferToFixedLength"]) Object.defineProperty(buffer, name, { value: transfer });
  return buffer;
}

/**
 * Runs a `_text` function on another thread, whose dsm_last_error() cannot be read from this one: the function writes
 * the reason to a buffer instead.
 */
async function withText(
  start: (text: Uint8Array, size: number, done: (error: unknown, status: number) => void) => void,
): Promise<void> {
  const text = new Uint8Array(TEXT_SIZE);
  const status = await new Promise<number>((resolve, reject) => {
    start(text, TEXT_SIZE, (error, result) => (error ? reject(error) : resolve(result)));
  });
  if (status !== Status.OK) throw new DsmError(statusCode(status), zeroTerminated(text));
}

export function zeroTerminated(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function load(koffi: typeof Koffi, path: string): Koffi.LibraryHandle {
  try {
    return koffi.load(path);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const advice = `run "npm run build" in the dsm package, or set DSM_LIBRARY to the path of libdsm.so`;
    throw new DsmError("DSM_SYSTEM", `libdsm cannot be loaded (${reason}); ${advice}`);
  }
}

/** DSM_LIBRARY, beside the bundle, in the package, in that for this platform, or where the dynamic linker finds one. */
function findLibrary(): string {
  const named = process.env.DSM_LIBRARY;
  if (named) {
    if (existsSync(named)) return named;
    throw new DsmError("DSM_SYSTEM", `DSM_LIBRARY is "${named}", but there is no such file`);
  }
  for (const path of [join(here, "libdsm.so"), join(packageRoot, "native/build/libdsm.so")]) {
    if (existsSync(path)) return path;
  }
  return inPlatformPackage("lib/libdsm.so") ?? "libdsm.so";
}

/** findBinary returns the dsm program of the package, which runs as the arbiter; null lets libdsm look for one. */
export function findBinary(): string | null {
  const built = join(packageRoot, "dist/dsm");
  return existsSync(built) ? built : inPlatformPackage("bin/dsm");
}

/** A file of the package with what is compiled, which is installed beside the published form of this one; else null. */
function inPlatformPackage(path: string): string | null {
  try {
    return createRequire(import.meta.url).resolve(`@dsm/linux-x64/${path}`);
  } catch {
    return null;
  }
}
