/** Where sockets and their locks are. libdsm computes the same: both must find the same socket. */
import { constants, lstatSync, mkdirSync, statSync } from "node:fs";
import { DsmError } from "../../core/base/errors.ts";

/** $XDG_RUNTIME_DIR/dsm where that is this user's, else /tmp/dsm-<uid>; made if need be. Only this user can enter it. */
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
      `${directory} is not a folder of this user alone; remove it or set XDG_RUNTIME_DIR`,
    );
  }
  return directory;
}

/** Whether no other user could replace the folder. */
function isOwn(directory: string, uid: number): boolean {
  try {
    const { uid: owner, mode } = statSync(directory);
    return owner === uid && (mode & 0o022) === 0;
  } catch {
    return false;
  }
}
