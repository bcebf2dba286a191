/**
 * RunRecords: a file in which the ranks of this machine record their joins, and why they die. libdsm's handler sees the
 * faults of the program itself, so an unseen SIGSEGV was a store to the map that could not be captured.
 * native/src/trap/run_record.c writes the records.
 */
import { randomBytes } from "node:crypto";
import { closeSync, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { DsmError } from "../../core/base/errors.ts";
import { runtimeDirectory } from "../settings/runtime-directory.ts";

const TOKEN_BYTES = 16;
const SLOT_BYTES = 24;
/** Fields of a slot: `struct slot` in run_record.c. */
const SlotAt = { opened: 0, seen: 4, joins: 8, needed: 16, awaited: 20 } as const;

/** The message for a rank that died of an unseen SIGSEGV. */
export const UNSEEN =
  "dsm could not catch it: a system call made without the C library had blocked SIGSEGV or replaced dsm's handler, or the stack had no room for the handler";

export class RunRecords {
  /** -1: the file could not be created, and nothing is known. */
  #fd: number;
  readonly #token = randomBytes(TOKEN_BYTES / 2).toString("hex");

  constructor(slots: number) {
    this.#fd = openNameless();
    if (this.#fd < 0) return;
    writeSync(this.#fd, this.#token);
    ftruncateSync(this.#fd, TOKEN_BYTES + slots * SLOT_BYTES);
  }

  /** Returns the variable for the process in that slot, 0 to slots - 1. */
  environment(slot: number): Record<string, string> {
    if (this.#fd < 0) return {};
    return { DSM_RUN_RECORD: `/proc/${process.pid}/fd/${this.#fd}:${this.#token}:${slot}` };
  }

  /**
   * Returns whether the process, which was ended by `signal`, had opened a session and died of a SIGSEGV that libdsm
   * has not seen.
   */
  isUnseen(slot: number, signal: NodeJS.Signals | number | null): boolean {
    if (signal !== "SIGSEGV") return false;
    const record = this.#read(slot);
    const opened = record.getUint32(SlotAt.opened, true);
    return opened !== 0 && record.getUint32(SlotAt.seen, true) !== opened;
  }

  /** Returns how often the slot's process has joined the run's session, and which join it waits in, of how many processes. */
  joinsOf(slot: number): { joins: number; awaited: number; needed: number } {
    const record = this.#read(slot);
    return {
      joins: record.getUint32(SlotAt.joins, true),
      awaited: record.getUint32(SlotAt.awaited, true),
      needed: record.getUint32(SlotAt.needed, true),
    };
  }

  close(): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #read(slot: number): DataView {
    const record = new DataView(new ArrayBuffer(SLOT_BYTES));
    if (this.#fd >= 0) readSync(this.#fd, record, 0, SLOT_BYTES, TOKEN_BYTES + slot * SLOT_BYTES);
    return record;
  }
}

/**
 * Creates a file without a name: only processes of this user can open it, and it vanishes with this process. Returns
 * -1 where none can be created.
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
