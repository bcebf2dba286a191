/** Waits: the common part of the promise forms, and sleeping on a value of the map. */
import type { Channel, Reply, Request } from "./channel.ts";
import { invalid } from "./config.ts";
import { isGranted, type WaitOutcome, waitOutcome } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { kindOf } from "./views.ts";

/** The time limit and the cancellation of a wait. */
export interface WaitOptions {
  /** How long to wait, in whole milliseconds, 0 to 2147483647. Default: for ever. */
  timeoutMs?: number | undefined;
  /** Cancels the wait: it rejects with the reason of the signal, and nothing is taken. */
  signal?: AbortSignal | undefined;
}

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

/** timeoutOf returns the time limit among the options of a wait. DSM_INVALID. */
export function timeoutOf(options: Pick<WaitOptions, "timeoutMs">): number | undefined {
  if (typeof options !== "object" || options === null) {
    throw invalid(`the options are ${String(options)}; give an object, such as { timeoutMs: 1000 }`);
  }
  const { timeoutMs } = options;
  if (timeoutMs === undefined) return undefined;
  if (Number.isSafeInteger(timeoutMs) && timeoutMs >= 0 && timeoutMs <= TIMEOUT_MAX_MS) return timeoutMs;
  throw invalid(`timeoutMs is ${timeoutMs}; give 0 to ${TIMEOUT_MAX_MS} milliseconds`);
}

/** What ends a wait early: the program's signal, or that this thread leaves. */
export class Stop {
  readonly #handle: SessionHandle;
  readonly #signal: AbortSignal | undefined;

  constructor(handle: SessionHandle, signal: AbortSignal | undefined) {
    this.#handle = handle;
    this.#signal = signal;
  }

  get isSet(): boolean {
    return this.#signal?.aborted === true || this.#handle.isLeaving;
  }

  /** Throws the reason if it is set. */
  check(): void {
    this.#signal?.throwIfAborted();
    this.#handle.check();
  }

  /** Has `cancel` called when it is set, until end(). */
  begin(cancel: () => void): void {
    this.#signal?.addEventListener("abort", cancel);
    this.#handle.cancels.add(cancel);
  }

  end(cancel: () => void): void {
    this.#signal?.removeEventListener("abort", cancel);
    this.#handle.cancels.delete(cancel);
  }
}

/**
 * replyTo sends a request that waits, and returns its reply: TIMEOUT when the time is over. Throws the reason of the
 * signal when it is aborted; a grant at the same moment is first given back, because the program must not hold it then.
 * `giveBack` null: the grant cannot be given back, and replyTo returns the reply.
 */
export function replyTo(
  handle: SessionHandle,
  start: (channel: Channel) => Request,
  options: WaitOptions = {},
  giveBack: (() => void | Promise<void>) | null = () => {},
): Promise<Reply> {
  timeoutOf(options);
  return handle.wait(() => reply(handle, start, options, giveBack));
}

async function reply(
  handle: SessionHandle,
  start: (channel: Channel) => Request,
  { timeoutMs, signal }: WaitOptions,
  giveBack: (() => void | Promise<void>) | null,
): Promise<Reply> {
  const stop = new Stop(handle, signal);
  stop.check();
  const { reply, cancel } = start(handle.synchronise());
  const timer = timeoutMs === undefined ? undefined : setTimeout(cancel, timeoutMs);
  stop.begin(cancel);
  try {
    const outcome = await reply;
    const granted = isGranted(outcome);
    if (stop.isSet && !(granted && giveBack === null)) {
      try {
        if (granted) await giveBack?.();
      } catch {
        // The session has ended: there is nothing to give back.
      }
      stop.check();
    }
    handle.catchUp();
    return outcome;
  } finally {
    clearTimeout(timer);
    stop.end(cancel);
  }
}

export async function waitFor(
  handle: SessionHandle,
  view: IntegerArray,
  index: number,
  expected: number | bigint,
  options: WaitOptions,
): Promise<WaitOutcome> {
  handle.check();
  timeoutOf(options);
  const offset = placeOf(handle, view, index);
  const bytes = valueBytes(view, expected);
  const reply = await replyTo(
    handle,
    (channel) => channel.sleep(offset, view.BYTES_PER_ELEMENT, bytes),
    options,
    () => void wake(handle, offset, 1),
  );
  return waitOutcome(reply);
}

export function waitForSync(
  handle: SessionHandle,
  view: IntegerArray,
  index: number,
  expected: number | bigint,
  options: Pick<WaitOptions, "timeoutMs">,
): WaitOutcome {
  const timeoutMs = timeoutOf(options) ?? -1;
  const { library, pointer } = handle;
  const address = addressOf(handle, placeOf(handle, view, index));
  const value = new DataView(valueBytes(view, expected).buffer).getBigUint64(0, true);
  const status = library.symbols.waitWhile(pointer, address, view.BYTES_PER_ELEMENT, value, timeoutMs);
  return waitOutcome(library.outcome(status));
}

export function notify(handle: SessionHandle, view: IntegerArray, index: number, count: number): number {
  handle.check();
  if (!(count >= 0) || (count !== Number.POSITIVE_INFINITY && !Number.isSafeInteger(count))) {
    throw invalid(`count is ${count}; give 0 or more`);
  }
  return wake(handle, placeOf(handle, view, index), Math.min(count, COUNT_MAX));
}

/** Wakes sleepers, and returns their number. Also while this thread is leaving: it passes on its own wake-up. */
function wake(handle: SessionHandle, offset: number, count: number): number {
  const { library, info } = handle;
  return library.result((out) => library.symbols.wake(info.pointer, addressOf(handle, offset), count, out));
}

/** Returns the offset of the element in the map. */
function placeOf({ info }: SessionHandle, view: IntegerArray, index: number): number {
  const type = view?.[Symbol.toStringTag];
  if (!INTEGER_ARRAYS.has(type)) throw invalid(`${kindOf(view)} cannot be slept on; use an integer array`);
  if (view.buffer !== info.buffer) throw invalid("the view is not over this session's buffer");
  if (!Number.isSafeInteger(index) || index < 0 || index >= view.length) {
    throw invalid(`index is ${index}; the view has ${view.length} elements`);
  }
  return view.byteOffset + index * view.BYTES_PER_ELEMENT;
}

const addressOf = ({ info }: SessionHandle, offset: number): bigint => info.address + BigInt(offset);

/** Returns the value as the bytes of an element, padded with zeros to 8. */
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
