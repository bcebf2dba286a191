/** Outcomes of an operation. The numbers travel in replies and equal `enum dsm_status` in dsm.h. */
export const Status = {
  OK: 0,
  AGAIN: 1,
  TIMEOUT: 2,
  LOST: 3,
  FULL: 4,
  MISMATCH: 5,
  VERSION: 6,
  INVALID: 7,
  ENDED: 8,
  OVERFLOW: 9,
  LIMIT: 10,
  BUSY: 11,
  LEFT: 12,
  NO_MEMORY: 13,
  FORKED: 14,
  UNREACHABLE: 15,
  PROTOCOL: 16,
  SYSTEM: 17,
  REFUSED: 18,
  OWNER_DIED: 19,
  NOT_OWNER: 20,
} as const;
export type Status = (typeof Status)[keyof typeof Status];

/** What went wrong, such as "DSM_TIMEOUT"; all of them are described under `enum dsm_status` in dsm.h. */
export type DsmCode = `DSM_${Exclude<keyof typeof Status, "OK">}`;

const NAMES = new Map<number, DsmCode>();
for (const [name, number] of Object.entries(Status)) if (number !== 0) NAMES.set(number, `DSM_${name}` as DsmCode);

/** The code of a status number; an unknown number is a protocol error. */
export function statusCode(status: number): DsmCode {
  return NAMES.get(status) ?? "DSM_PROTOCOL";
}

/** Maps the error of a system call to a code, as dsm_status_of() of native/src/base/status.c does. */
export function systemCode(error: unknown, otherwise: DsmCode = "DSM_SYSTEM"): DsmCode {
  switch ((error as { code?: unknown } | null)?.code) {
    case "EMFILE":
    case "ENFILE":
      return "DSM_LIMIT";
    case "ENOMEM":
      return "DSM_NO_MEMORY";
    default:
      return otherwise;
  }
}

export function statusOf(code: DsmCode): Status {
  return Status[code.slice(4) as keyof typeof Status];
}

/** What a part of dsm does to each new error. Only src/client does something: it changes the stack. */
let onNewError: (error: DsmError) => void = () => {};

/** onEachError has `action` called with every DsmError that is made from now on. */
export function onEachError(action: (error: DsmError) => void): void {
  onNewError = action;
}

/** DsmError: the error that every part of dsm throws. It has one line for people and a code for programs. */
export class DsmError extends Error {
  /** Always "DsmError". */
  override readonly name = "DsmError";
  /** What went wrong, for programs. */
  readonly code: DsmCode;

  constructor(code: DsmCode, message: string) {
    super(message);
    this.code = code;
    onNewError(this);
  }
}
