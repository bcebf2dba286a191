/** Replies to this node's processes. */
import { Status } from "../base/errors.ts";
import { At, HEADER_SIZE, ReplyAt } from "../wire/at.ts";
import { encode, encodeText, setUint64 } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import type { ReplicaOutput } from "./replica-output.ts";

const WORD = 8;
/** Bytes of the old value in the reply to an atomic operation. */
const OLD_VALUE_SIZE = 2 * WORD;

const REASONS: Partial<Record<Status, string>> = {
  [Status.FULL]: "the session has all its processes already; this is one too many",
  [Status.ENDED]: "the session has ended",
  [Status.LIMIT]:
    "a limit of the session is reached (semaphores, locks, waiting requests, or processes waiting for its end)",
  [Status.OVERFLOW]: "the semaphore has its largest value already",
  [Status.BUSY]: "this process is in the barrier, or has or waits for that lock, already; or the object is in use",
  [Status.NOT_OWNER]: "this process does not have that lock",
  [Status.LEFT]: "this process has left the session",
  [Status.NO_MEMORY]: "the map has no gap of that size; allocate less, free blocks, or make the session larger",
  [Status.MISMATCH]:
    "the block of that name has another size, or the barrier another number of arrivals; give all the same",
  [Status.SYSTEM]:
    "this node's arbiter can share no memory with its processes, so holes must begin and end on pages (multiples of 4096)",
  [Status.INVALID]:
    "the name is not valid (use 1 to 63 bytes without slash or control characters), no block begins there, or the block was freed",
};

function reason(status: Status, aux: number): string {
  if (status === Status.LOST) return `process ${aux} of the session was lost (it ended without leaving)`;
  if (status === Status.OWNER_DIED)
    return `process ${aux} ended while it had the lock; what it guards may be half done`;
  return REASONS[status] ?? "";
}

export class ReplyWriter {
  readonly #out: Pick<ReplicaOutput, "reply">;
  /** The reply being written; reused for each reply. */
  readonly #bytes = new Uint8Array(HEADER_SIZE + OLD_VALUE_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(out: Pick<ReplicaOutput, "reply">) {
    this.#out = out;
    this.#view.setUint8(At.kind, Kind.REPLY);
  }

  /** The operation was applied as entry `seq`, with `value` as its result; `old`: the value before an atomic operation. */
  ok(channel: number, tag: number, seq: number, value: number, old: DataView | null): void {
    const view = this.#view;
    const bodyLength = old === null ? 0 : OLD_VALUE_SIZE;
    view.setUint32(At.size, HEADER_SIZE + bodyLength, true);
    view.setUint32(At.tag, tag, true);
    setUint64(view, ReplyAt.seq, seq);
    setUint64(view, ReplyAt.value, value);
    view.setUint32(ReplyAt.bodyLength, bodyLength, true);
    if (old !== null) {
      view.setBigUint64(ReplyAt.oldValue, old.getBigUint64(0, true), true);
      view.setBigUint64(ReplyAt.oldValue + WORD, old.getBigUint64(WORD, true), true);
    }
    this.#out.reply(channel, this.#bytes.subarray(0, HEADER_SIZE + bodyLength));
  }

  /** A reply without a result. */
  done(channel: number, tag: number): void {
    this.#out.reply(channel, encode({ kind: Kind.REPLY, tag }));
  }

  /** The request failed, or was refused; `value` as in the session's reply. */
  error(channel: number, tag: number, status: Status, aux = 0, text = reason(status, aux), value = 0): void {
    const body = encodeText(text);
    this.#out.reply(channel, encode({ kind: Kind.REPLY, op: status, tag, aux, offset: value, body }));
  }
}
