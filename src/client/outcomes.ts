/**
 * Outcomes of the operations that exist in two forms: as a promise, through a channel (channel.ts), and as a `Sync`
 * method, through libdsm (library.ts). Both ways give a status and maybe words for it; what a status means, and what the
 * program is told, is decided here and nowhere else. The sentences are those that libdsm gives a C program
 * (native/src/api/sync.c).
 */
import { DsmError, Status, statusCode } from "../core/base/errors.ts";

/** How an operation ended. */
export interface Outcome {
  /** A value of `Status`. */
  status: number;
  /** Words for it from the arbiter or libdsm; "" for OK. */
  text: string;
}

/** An operation that was successful. */
export const DONE: Outcome = Object.freeze({ status: Status.OK, text: "" });

/** "owner-died": locked, but the last owner died or left while it had the lock: put in order what the lock guards. */
export type LockOutcome = "ok" | "owner-died";

/** "ok": woken. "not-equal": the value was another one already. "timed-out": no notification came in time. */
export type WaitOutcome = "ok" | "not-equal" | "timed-out";

/** Whether the operation took or used up something that an aborted wait must give back. */
export const isGranted = ({ status }: Outcome): boolean => status === Status.OK || status === Status.OWNER_DIED;

/** check throws the DsmError of an outcome that is not OK. */
export function check(outcome: Outcome): void {
  if (outcome.status !== Status.OK) throw failure(outcome, outcome.text);
}

const failure = ({ status }: Outcome, text: string): DsmError => new DsmError(statusCode(status), text);

/** The connection to this node's arbiter has ended; `reason` says why where that is known. */
export const arbiterGone = (session: string, reason?: string): DsmError =>
  new DsmError(
    "DSM_UNREACHABLE",
    `the arbiter of session "${session}" is gone${reason === undefined ? "" : `: ${reason}`}`,
  );

export const inBarrier = (): DsmError => new DsmError("DSM_BUSY", "this process is in a barrier already");

export function checkBarrier(outcome: Outcome, timeoutMs: number | undefined): void {
  if (outcome.status === Status.BUSY) throw inBarrier();
  if (outcome.status === Status.TIMEOUT) {
    throw failure(outcome, `other processes were not in the barrier within ${timeoutMs} ms`);
  }
  check(outcome);
}

export function checkSemaphore(outcome: Outcome, name: string, timeoutMs: number | undefined): void {
  if (outcome.status === Status.TIMEOUT) throw failure(outcome, `semaphore "${name}" stayed 0 for ${timeoutMs} ms`);
  check(outcome);
}

/** Of a try: whether the semaphore was taken. */
export function isTaken(outcome: Outcome): boolean {
  if (outcome.status === Status.AGAIN) return false;
  check(outcome);
  return true;
}

export function lockOutcome(outcome: Outcome, name: string, timeoutMs?: number): LockOutcome {
  switch (outcome.status) {
    case Status.OK:
      return "ok";
    case Status.OWNER_DIED:
      return "owner-died";
    case Status.BUSY:
      throw failure(outcome, `this process has lock "${name}", or waits for it, already`);
    case Status.TIMEOUT:
      throw failure(outcome, `other processes had lock "${name}" for ${timeoutMs} ms`);
    default:
      throw failure(outcome, outcome.text);
  }
}

/** Of a try: false where the lock was not free. */
export function tryLockOutcome(outcome: Outcome, name: string): LockOutcome | false {
  return outcome.status === Status.AGAIN ? false : lockOutcome(outcome, name);
}

export function checkUnlock(outcome: Outcome, name: string): void {
  if (outcome.status === Status.NOT_OWNER) throw failure(outcome, `this process does not have lock "${name}"`);
  check(outcome);
}

export function waitOutcome(outcome: Outcome): WaitOutcome {
  if (outcome.status === Status.AGAIN) return "not-equal";
  if (outcome.status === Status.TIMEOUT) return "timed-out";
  check(outcome);
  return "ok";
}
