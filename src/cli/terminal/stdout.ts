/** Standard output, which may be closed, full, or have no reader: then a command has failed. */
import { readFileSync } from "node:fs";
import { DsmError } from "../../core/base/errors.ts";

/** FD_CLOEXEC as `/proc/self/fdinfo` has it: O_CLOEXEC of x86-64 Linux. */
const CLOSE_ON_EXEC = 0o2000000;

/**
 * Whether the program was started without standard output. Bun then opens /dev/null in its place, and marks that as to
 * be closed when another program is executed, which no descriptor is that was there when this program began. False
 * where /proc does not tell.
 */
function wasClosed(): boolean {
  try {
    const [, flags = "0"] = /^flags:\s*([0-7]+)$/m.exec(readFileSync("/proc/self/fdinfo/1", "latin1")) ?? [];
    return (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) !== 0;
  } catch {
    return false;
  }
}

let isClosed: boolean | undefined;

/** The error of a write to standard output. */
export const unwritable = (why: string): DsmError =>
  new DsmError("DSM_SYSTEM", `standard output cannot be written: ${why}`);

/** Throws DSM_SYSTEM if standard output is closed, where a write would be lost without an error. */
export function checkStdout(): void {
  isClosed ??= wasClosed();
  if (isClosed) throw unwritable("it is closed; send it to a file or a program");
}
