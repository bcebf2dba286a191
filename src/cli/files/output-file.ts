/**
 * A file that a command makes. It is written beside its place and renamed when it is whole, so the place has the old file
 * or the new one, never a part. It replaces only an empty file or one that such a command has made: no other file,
 * device, pipe or folder, and no symbolic link, whose target would stay. The new file has the old one's mode. "-" is
 * standard output.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { isatty } from "node:tty";
import { DsmError } from "../../core/base/errors.ts";
import { UsageError } from "../settings/options.ts";
import { checkStdout, unwritable } from "../terminal/stdout.ts";

export interface OutputKind {
  /** Such as "a snapshot of dsm". */
  what: string;
  /** Whether a file that begins with these bytes, at most HEAD_MAX, is of this kind. */
  isOne(head: Buffer): boolean;
  /** Mode of a new file, before the umask. */
  mode: number;
}

const HEAD_MAX = 512;
const PIPE_PAUSE_MS = 1;
const STDOUT = "-";

/** Whether the path means standard output. Throws UsageError if it is empty, and means nothing. */
export function isStdout(path: string): boolean {
  if (path === "") throw new UsageError("the name of the file is empty");
  return path === STDOUT;
}

export class OutputFile {
  readonly #path: string;
  readonly #kind: OutputKind;
  /** The file that is to be replaced; null: none. */
  readonly #old: Stats | null;
  /** Null: standard output. */
  readonly #part: string | null;
  readonly #fd: number;
  #open = true;

  /** Throws DsmError if the file cannot be written, or something is in its place that is not to be replaced. */
  constructor(path: string, kind: OutputKind) {
    this.#path = path;
    this.#kind = kind;
    if (isStdout(path)) {
      checkStdout();
      if (isatty(1)) throw new UsageError("standard output is a terminal; name a file, or send it to one with >", true);
      this.#old = null;
      this.#part = null;
      this.#fd = 1;
      return;
    }
    this.#old = this.#attempt(() => checkPlace(path, kind));
    this.#part = `${path}.${randomBytes(6).toString("hex")}.part`;
    this.#fd = this.#attempt(() => openSync(this.#part as string, "wx", kind.mode));
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      at += this.#attempt(() => {
        try {
          return writeSync(this.#fd, bytes, at, bytes.length - at);
        } catch (error) {
          // A pipe that another program has made non-blocking is full.
          if ((error as { code?: string }).code !== "EAGAIN") throw error;
          Bun.sleepSync(PIPE_PAUSE_MS);
          return 0;
        }
      });
    }
  }

  /** Ends the file, which is whole: puts it on the disk, under its name. */
  finish(): void {
    const part = this.#part;
    if (part === null) {
      this.#open = false;
      return;
    }
    this.#attempt(() => {
      const old = checkPlace(this.#path, this.#kind);
      if (old?.ino !== this.#old?.ino || old?.dev !== this.#old?.dev) throw new Error("another file came meanwhile");
      if (old !== null) keepMode(this.#fd, old);
      fsyncSync(this.#fd);
      if (old === null) place(part, this.#path);
      else renameSync(part, this.#path);
      this.#close();
      syncFolder(dirname(this.#path));
    });
  }

  /** Removes the file, unless it is finished. */
  abandon(): void {
    if (!this.#open || this.#part === null) return;
    this.#close();
    rmSync(this.#part, { force: true });
  }

  #close(): void {
    this.#open = false;
    closeSync(this.#fd);
  }

  #attempt<Value>(act: () => Value): Value {
    try {
      return act();
    } catch (error) {
      if (error instanceof DsmError) throw error;
      // Without the name of the part file, which the user has never seen.
      const message = (error as Error).message.replace(/, \w+ '.*$/s, "");
      if (isStdout(this.#path)) throw unwritable(message);
      throw new DsmError("DSM_SYSTEM", `${this.#path} cannot be written: ${message}`);
    }
  }
}

/** Writes all of a file at once. */
export function writeOutput(path: string, kind: OutputKind, text: string): void {
  const file = new OutputFile(path, kind);
  try {
    file.write(Buffer.from(text));
    file.finish();
  } catch (error) {
    file.abandon();
    throw error;
  }
}

/** Returns the file that may be replaced, or null if there is none. Throws DSM_INVALID if something else is there. */
function checkPlace(path: string, { what, isOne }: OutputKind): Stats | null {
  const refuse = (is: string): never => {
    throw new DsmError("DSM_INVALID", `${path} is ${is}, and stays as it is; give another file`);
  };
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return null;
  if (stat.isSymbolicLink()) refuse("a symbolic link");
  if (stat.isDirectory()) refuse("a folder");
  if (!stat.isFile()) refuse("not a regular file");
  // Another file may have come in the meantime.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const now = fstatSync(fd);
    if (!now.isFile()) refuse("not a regular file");
    const head = Buffer.alloc(HEAD_MAX);
    const size = readSync(fd, head, 0, HEAD_MAX, 0);
    if (size > 0 && !isOne(head.subarray(0, size))) refuse(`not ${what}`);
    return now;
  } finally {
    closeSync(fd);
  }
}

/** Gives the new file the mode and the owner of the old one, or less access. */
function keepMode(fd: number, { mode, uid, gid }: Stats): void {
  const own = fstatSync(fd);
  let same = own.uid === uid && own.gid === gid;
  if (!same) {
    try {
      fchownSync(fd, uid, gid);
      same = true;
    } catch {
      // Only root may give files away.
    }
  }
  fchmodSync(fd, mode & (same ? 0o777 : 0o700));
}

/** Gives the file its name, which was free. */
function place(part: string, path: string): void {
  try {
    linkSync(part, path);
  } catch (error) {
    // The file system has no hard links. The name was free a moment ago.
    if (!["EPERM", "ENOTSUP", "ENOSYS", "EMLINK"].includes((error as { code?: string }).code ?? "")) throw error;
    renameSync(part, path);
    return;
  }
  rmSync(part, { force: true });
}

/** Makes the name outlast a power failure, where the file system can. */
function syncFolder(folder: string): void {
  try {
    const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch {
    // The file exists; only its durability is unknown.
  }
}
