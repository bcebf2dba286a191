/**
 * Outbox: the send queue of one connection. Writes at once what the connection takes and keeps the rest in order; the
 * owner applies backpressure when `size` exceeds OUTBOX_HIGH.
 */
import { OUTBOX_MAX } from "../base/limits.ts";

/** Writes some of the bytes (maybe none) and returns how many. */
export type Write = (bytes: Uint8Array) => number;

/** Called once, when the bytes are no longer needed. `broken`: the connection broke before they were sent. */
export type Sent = (broken?: boolean) => void;

interface Chunk {
  bytes: Uint8Array;
  sent: Sent | undefined;
}

/** Before this many bytes or more are added to a queue, the outbox tries to drain it. */
const DRAIN_FIRST = 64 << 10;

export class Outbox {
  readonly #write: Write;
  readonly #limit: number;
  #chunks: Chunk[] = [];
  /** Bytes of the first chunk already written. */
  #sent = 0;
  #size = 0;
  #cleared = false;

  /** `limit`: maximum of queued bytes. */
  constructor(write: Write, limit: number = OUTBOX_MAX) {
    this.#write = write;
    this.#limit = limit;
  }

  /** Bytes not written yet. */
  get size(): number {
    return this.#size;
  }

  /**
   * Queues the bytes. False: the queue is over its limit, and the owner must close the connection. `bytes` may be
   * reused after the call; or, with `sent`, only once that is called: several outboxes may hold the same bytes.
   */
  send(bytes: Uint8Array, sent?: Sent): boolean {
    if (this.#size > 0 && bytes.length >= DRAIN_FIRST) this.drain();
    let written = 0;
    if (this.#size === 0) {
      written = Math.max(this.#write(bytes), 0);
      if (written === bytes.length) {
        sent?.();
        return true;
      }
    }
    if (this.#cleared) {
      sent?.(true);
      return true;
    }
    const rest = bytes.subarray(written);
    if (this.#size + rest.length > this.#limit) {
      sent?.(true);
      return false;
    }
    this.#chunks.push({ bytes: sent === undefined ? new Uint8Array(rest) : rest, sent });
    this.#size += rest.length;
    return true;
  }

  /** Drops the queue: the connection is gone. */
  clear(): void {
    const chunks = this.#chunks.splice(0);
    this.#cleared = true;
    this.#size = 0;
    this.#sent = 0;
    for (const { sent } of chunks) sent?.(true);
  }

  /** Writes from the queue: the connection takes bytes again. */
  drain(): void {
    while (this.#chunks.length > 0) {
      const { bytes, sent } = this.#chunks[0] as Chunk;
      const written = Math.max(this.#write(this.#sent === 0 ? bytes : bytes.subarray(this.#sent)), 0);
      if (this.#cleared) return;
      this.#size -= written;
      if (this.#sent + written < bytes.length) {
        this.#sent += written;
        return;
      }
      this.#sent = 0;
      this.#chunks.shift();
      sent?.();
    }
  }
}

/**
 * For a socket's error handler, which also gets exceptions of dsm's own handlers. An error of the connection has a
 * code. Any other error is a broken invariant: a replica or sequencer that continued after it would diverge, so it ends
 * the role.
 */
export function rethrowIfBug(error: Error): void {
  if ("code" in error) return;
  queueMicrotask(() => {
    throw error;
  });
}
