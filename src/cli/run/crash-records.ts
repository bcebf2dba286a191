/**
 * Finds out why a rank died of SIGSEGV: libdsm's handler sees the faults of the program itself, so an unseen one was a
 * store to the map that could not be captured. native/src/trap/crash_record.c describes the record.
 */
import { randomBytes } from "node:crypto";
import { closeSync, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { runtimeDirectory } from "../settings/runtime-directory.ts";

const TOKEN_BYTES = 16;
const SLOT_BYTES = 8;

/** The message for a rank that died of an unseen SIGSEGV. */
export const UNSEEN =
  "dsm could not catch it: a system call made without the C library had blocked SIGSEGV or replaced dsm's handler, or the stack had no room for the handler";

export class CrashRecords {
  /** -1: the file could not be created, and nothing is known. */
  readonly #fd: number;
  readonly #token = randomBytes(TOKEN_BYTES / 2).toString("hex");

  constructor(slots: number) {
    this.#fd = openNameless();
    if (this.#fd < 0) return;
    writeSync(this.#fd, this.#token);
    ftruncateSync(this.#fd, TOKEN_BYTES + slots * SLOT_BYTES);
  }

  /** The variable for the process in that slot, 0 to slots - 1. */
  environment(slot: number): Record<string, string> {
    if (this.#fd < 0) return {};
    return { DSM_RUN_RECORD: `/proc/${process.pid}/fd/${this.#fd}:${this.#token}:${slot}` };
  }

  /**
   * Whether the process, which has been ended by `signal`, had joined and died of a SIGSEGV that libdsm has not
   * seen.
   */
  isUnseen(slot: number, signal: NodeJS.Signals | number | null): boolean {
    if (this.#fd < 0 || signal !== "SIGSEGV") return false;
    const record = new Uint32Array(2);
    readSync(this.#fd, record, 0, SLOT_BYTES, TOKEN_BYTES + slot * SLOT_BYTES);
    const [joined, seen] = record;
    return joined !== 0 && seen !== joined;
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
  }
}

/**
 * A file without a name: only this user's processes can open it, and it goes with this process. -1: there is no
 * place.
 */
function openNameless(): number {
  try {
    const path = join(runtimeDirectory(), `c-${crypto.randomUUID()}`);
    const fd = openSync(path, "wx+", 0o600);
    unlinkSync(path);
    return fd;
  } catch (error) {
    if (error instanceof DsmError || (error as { code?: string }).code !== undefined) return -1;
    throw error;
  }
}
