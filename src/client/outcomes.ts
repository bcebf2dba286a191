/**
 * Outcomes of the operations that exist in two forms: as a promise, through a channel (channel.ts), and as a `Sync`
 * method, through libdsm (library.ts). Both return a status and perhaps a text. Only this file maps a status to a
 * result or an error message. The messages are those that libdsm gives a C program (native/src/api).
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

/** "owner-died": locked, but the previous owner died or left while it held the lock: restore the protected data. */
export type LockOutcome = "ok" | "owner-died";

/** "ok": woken. "not-equal": the value was already different. "timed-out": no notification arrived in time. */
export type WaitOutcome = "ok" | "not-equal" | "timed-out";

/**
 * "ok": signalled. "timed-out": no signal arrived in time. "owner-died": the previous owner of the mutex died while it held
 * it. In each case this thread has the mutex again.
 */
export type CondOutcome = "ok" | "timed-out" | "owner-died";

/** isGranted returns whether the operation took something that an aborted wait must give back. */
export const isGranted = ({ status }: Outcome): boolean => status === Status.OK || status === Status.OWNER_DIED;

/** check throws the DsmError of an outcome that is not OK. */
export function check(outcome: Outcome): void {
  if (outcome.status !== Status.OK) throw failure(outcome, outcome.text);
}

const failure = ({ status }: Outcome, text: string): DsmError => new DsmError(statusCode(status), text);

/**
 * arbiterGone returns the error for an ended connection to the arbiter of this node; `reason` is the cause, if
 * known.
 */
export const arbiterGone = (session: string, reason?: string): DsmError =>
  new DsmError(
    "DSM_UNREACHABLE",
    `the arbiter of session "${session}" is gone` +
      (reason === undefined ? " (it was killed, or it crashed); start the session's processes again" : `: ${reason}`),
  );

/** hasLeft returns the error of every call after leaving. */
export const hasLeft = (session: string): DsmError =>
  new DsmError("DSM_LEFT", `this process has left session "${session}"`);

/** hasDetached returns the error of every call of a thread that has left, while its process goes on. */
export const hasDetached = (session: string): DsmError =>
  new DsmError("DSM_LEFT", `this thread has left session "${session}"; call attach() again`);

export const inBarrier = (): DsmError => new DsmError("DSM_BUSY", "this process is in a barrier already");

/** checkBarrier checks the outcome of a barrier. A timeout's text is complete if libdsm has made it. */
export function checkBarrier(outcome: Outcome): void {
  if (outcome.status === Status.BUSY) throw inBarrier();
  check(outcome);
}

/** checkBarrierReply checks the arbiter's reply, which says who was missing, but not for how long. */
export function checkBarrierReply(reply: Outcome, timeoutMs: number | undefined): void {
  if (reply.status === Status.TIMEOUT) throw failure(reply, `${reply.text} within ${timeoutMs} ms`);
  checkBarrier(reply);
}

/** `label`: the semaphore, for messages. */
export function checkSemaphore(outcome: Outcome, label: string, timeoutMs: number | undefined): void {
  if (outcome.status === Status.TIMEOUT) throw failure(outcome, `${label} stayed 0 for ${timeoutMs} ms`);
  check(outcome);
}

/** isTaken returns whether a try took the semaphore. */
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

/** tryLockOutcome returns the outcome of a try: false if the lock was not free. */
export function tryLockOutcome(outcome: Outcome, name: string): LockOutcome | false {
  return outcome.status === Status.AGAIN ? false : lockOutcome(outcome, name);
}

export function checkUnlock(outcome: Outcome, name: string): void {
  if (outcome.status === Status.NOT_OWNER) throw failure(outcome, `this process does not have lock "${name}"`);
  check(outcome);
}

/** An object in the map, for messages. */
export const objectLabel = (kind: string, address: number): string => `the ${kind} at 0x${address.toString(16)}`;

/** hasObject returns the error for a lock in the map that this thread has already. */
export const hasObject = (label: string): DsmError => new DsmError("DSM_BUSY", `this thread has ${label} already`);

/** asksForObject returns the error for a lock in the map that a promise of this thread waits for. */
export const asksForObject = (label: string): DsmError =>
  new DsmError("DSM_BUSY", `this thread waits for ${label} already`);

/** lacksObject returns the error for a lock in the map that this thread does not have. */
export const lacksObject = (label: string): DsmError =>
  new DsmError("DSM_NOT_OWNER", `this thread does not have ${label}`);

/** objectOutcome returns how a lock in the map was locked. */
export function objectOutcome(outcome: Outcome, label: string, timeoutMs?: number): LockOutcome {
  switch (outcome.status) {
    case Status.OK:
      return "ok";
    case Status.OWNER_DIED:
      return "owner-died";
    case Status.BUSY:
      throw hasObject(label);
    case Status.TIMEOUT:
      throw failure(outcome, `${label}: the wait was not over within ${timeoutMs} ms`);
    default:
      throw failure(outcome, outcome.text);
  }
}

/** tryObjectOutcome returns the outcome of a try: false if it was not free. */
export function tryObjectOutcome(outcome: Outcome, label: string): LockOutcome | false {
  return outcome.status === Status.AGAIN ? false : objectOutcome(outcome, label);
}

export function checkObjectUnlock(outcome: Outcome, label: string): void {
  if (outcome.status === Status.NOT_OWNER) throw lacksObject(label);
  check(outcome);
}

/** hasMutexAfter returns whether the process has the mutex after a wait for a condition variable. */
export const hasMutexAfter = ({ status }: Outcome): boolean =>
  status === Status.OK ||
  status === Status.TIMEOUT ||
  status === Status.OWNER_DIED ||
  // The wait did not begin.
  status === Status.BUSY ||
  status === Status.LIMIT;

export function condOutcome(outcome: Outcome, mutexLabel: string): CondOutcome {
  if (outcome.status === Status.TIMEOUT) return "timed-out";
  if (outcome.status === Status.NOT_OWNER) throw lacksObject(mutexLabel);
  return objectOutcome(outcome, mutexLabel);
}

/** isLastIn returns the outcome of a barrier in the map of `count`; `value`: of the reply. */
export function isLastIn(
  reply: Outcome & { value: number },
  label: string,
  count: number,
  timeoutMs?: number,
): boolean {
  const { status, value } = reply;
  if (status === Status.TIMEOUT)
    throw failure(reply, `${value} of ${count} were not in ${label} within ${timeoutMs} ms`);
  if (status === Status.MISMATCH) throw failure(reply, `others wait in ${label} for ${value}, not ${count}`);
  check(reply);
  return value === 1;
}

export function waitOutcome(outcome: Outcome): WaitOutcome {
  if (outcome.status === Status.AGAIN) return "not-equal";
  if (outcome.status === Status.TIMEOUT) return "timed-out";
  check(outcome);
  return "ok";
}
