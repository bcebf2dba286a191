/** Waits: what those of the promise forms have in common, and sleeping on a value of the map. */
import { Status } from "../core/errors.ts";
import type { Channel, Reply, Request } from "./channel.ts";
import { invalid } from "./config.ts";
import { checkReply, type Membership } from "./membership.ts";

/** How long to wait, and what takes the wait back. */
export interface WaitOptions {
  /** How long to wait, in whole milliseconds, 0 to 2147483647. Default: for ever. */
  timeoutMs?: number | undefined;
  /** Takes the wait back: it rejects with the signal's reason, and nothing was taken. */
  signal?: AbortSignal | undefined;
}

/** "ok": woken. "not-equal": the value was another one already. "timed-out": nobody woke us in time. */
export type WaitOutcome = "ok" | "not-equal" | "timed-out";

/** A view with elements of 1, 2, 4 or 8 bytes that can be slept on. */
export type IntegerArray =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

const INTEGER_ARRAYS: ReadonlySet<string> = new Set([
  "Int8Array",
  "Uint8Array",
  "Int16Array",
  "Uint16Array",
  "Int32Array",
  "Uint32Array",
  "BigInt64Array",
  "BigUint64Array",
] satisfies IntegerArray[typeof Symbol.toStringTag][]);

/** The longest time that both setTimeout() and libdsm can wait. */
const TIMEOUT_MAX_MS = 0x7fffffff;
const COUNT_MAX = 0xffffffff;

export function checkTimeout(timeoutMs: number | undefined): number | undefined {
  if (timeoutMs === undefined) return undefined;
  if (Number.isSafeInteger(timeoutMs) && timeoutMs >= 0 && timeoutMs <= TIMEOUT_MAX_MS) return timeoutMs;
  throw invalid(`timeoutMs is ${timeoutMs}; give 0 to ${TIMEOUT_MAX_MS} milliseconds`);
}

/**
 * Makes a request that waits, and gives its reply: TIMEOUT when the time is over. Throws the signal's reason when it is
 * aborted; what was granted at the same moment is given back first, because whoever aborts counts on not having it.
 * `giveBack` null: it cannot be given back, and its reply stands.
 */
export async function replyTo(
  membership: Membership,
  start: (channel: Channel) => Request,
  { timeoutMs, signal }: WaitOptions = {},
  giveBack: (() => void | Promise<void>) | null = () => {},
): Promise<Reply> {
  checkTimeout(timeoutMs);
  membership.check();
  signal?.throwIfAborted();
  const request = start(membership.synchronise());
  const timer = timeoutMs === undefined ? undefined : setTimeout(request.cancel, timeoutMs);
  signal?.addEventListener("abort", request.cancel);
  try {
    const reply = await request.reply;
    const granted = reply.status === Status.OK || reply.status === Status.OWNER_DIED;
    if (signal?.aborted && !(granted && giveBack === null)) {
      try {
        if (granted) await giveBack?.();
      } catch {
        // With the session gone there is nobody to give it to.
      }
      signal.throwIfAborted();
    }
    membership.catchUp();
    return reply;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", request.cancel);
  }
}

export async function waitFor(
  membership: Membership,
  view: IntegerArray,
  index: number,
  expected: number | bigint,
  options: WaitOptions,
): Promise<WaitOutcome> {
  membership.check();
  const offset = placeOf(membership, view, index);
  const bytes = valueBytes(view, expected);
  const reply = await replyTo(
    membership,
    (channel) => channel.sleep(offset, view.BYTES_PER_ELEMENT, bytes),
    options,
    () => void membership.library.wake(membership.pointer, addressOf(membership, offset), 1),
  );
  if (reply.status === Status.AGAIN) return "not-equal";
  if (reply.status === Status.TIMEOUT) return "timed-out";
  checkReply(reply, "");
  return "ok";
}

export function waitForSync(
  membership: Membership,
  view: IntegerArray,
  index: number,
  expected: number | bigint,
  options: Pick<WaitOptions, "timeoutMs">,
): WaitOutcome {
  const timeoutMs = checkTimeout(options.timeoutMs) ?? -1;
  const { library, pointer } = membership;
  const address = addressOf(membership, placeOf(membership, view, index));
  const value = new DataView(valueBytes(view, expected).buffer).getBigUint64(0, true);
  return library.waitWhile(pointer, address, view.BYTES_PER_ELEMENT, value, timeoutMs);
}

export function notify(membership: Membership, view: IntegerArray, index: number, count: number): number {
  const { library, pointer } = membership;
  if (!(count >= 0) || (count !== Number.POSITIVE_INFINITY && !Number.isSafeInteger(count))) {
    throw invalid(`count is ${count}; give 0 or more`);
  }
  const address = addressOf(membership, placeOf(membership, view, index));
  return library.wake(pointer, address, Math.min(count, COUNT_MAX));
}

/** Where in the map the element is. */
function placeOf({ facts }: Membership, view: IntegerArray, index: number): number {
  const type = view[Symbol.toStringTag];
  if (!INTEGER_ARRAYS.has(type)) throw invalid(`a ${type ?? typeof view} cannot be slept on; use an integer array`);
  if (view.buffer !== facts.buffer) throw invalid("the view is not over this session's buffer");
  if (!Number.isSafeInteger(index) || index < 0 || index >= view.length) {
    throw invalid(`index is ${index}; the view has ${view.length} elements`);
  }
  return view.byteOffset + index * view.BYTES_PER_ELEMENT;
}

const addressOf = ({ facts }: Membership, offset: number): bigint => facts.address + BigInt(offset);

/** The value as the bytes of an element, and zeros up to 8 of them. */
function valueBytes(view: IntegerArray, expected: number | bigint): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8);
  const data = new DataView(bytes.buffer);
  if (view.BYTES_PER_ELEMENT === 8) {
    if (typeof expected !== "bigint") throw invalid(`expected is ${expected}; the view's elements are bigints`);
    data.setBigUint64(0, BigInt.asUintN(64, expected), true);
  } else {
    if (!Number.isSafeInteger(expected)) throw invalid(`expected is ${expected}; give a whole number`);
    // Higher bytes than the element has are not compared.
    data.setUint32(0, expected as number, true);
  }
  return bytes;
}
