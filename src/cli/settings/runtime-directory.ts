/** The directory of sockets and their locks. libdsm computes the same path: both must find the same socket. */
import { constants, lstatSync, mkdirSync, statSync } from "node:fs";
import { DsmError } from "../../core/base/errors.ts";

/**
 * runtimeDirectory returns $XDG_RUNTIME_DIR/dsm if this user owns that directory, else /tmp/dsm-<uid>. It makes the
 * directory if it does not exist; only this user can enter it.
 */
export function runtimeDirectory(): string {
  const uid = process.geteuid?.() ?? 0;
  const base = process.env.XDG_RUNTIME_DIR;
  const directory = base?.startsWith("/") && isOwn(base, uid) ? `${base}/dsm` : `/tmp/dsm-${uid}`;
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== "EEXIST") {
      throw new DsmError(
        "DSM_SYSTEM",
        `${directory} cannot be made: ${code}; set XDG_RUNTIME_DIR to a folder of your own that can be written`,
      );
    }
  }
  const { mode, uid: owner } = lstatSync(directory);
  if ((mode & constants.S_IFMT) !== constants.S_IFDIR || owner !== uid || (mode & 0o077) !== 0) {
    throw new DsmError(
      "DSM_SYSTEM",
      `${directory} is not a directory of yours alone; remove it, or set XDG_RUNTIME_DIR`,
    );
  }
  return directory;
}

/** isOwn returns whether no other user could replace the directory. */
function isOwn(directory: string, uid: number): boolean {
  try {
    const { uid: owner, mode } = statSync(directory);
    return owner === uid && (mode & 0o022) === 0;
  } catch {
    return false;
  }
}
