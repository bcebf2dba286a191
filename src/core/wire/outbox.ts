/**
 * What waits to be written to one connection. Writes at once what the connection takes and keeps the rest in order;
 * its owner stops causing more when `size` passes OUTBOX_HIGH.
 */
import { OUTBOX_MAX } from "../base/limits.ts";

/** Takes some of the bytes (maybe none) and returns how many. */
export type Write = (bytes: Uint8Array) => number;

/** Called once: the bytes are not needed any more. `broken`: they have not left, because the connection broke. */
export type Sent = (broken?: boolean) => void;

interface Chunk {
  bytes: Uint8Array;
  sent: Sent | undefined;
}

/** Before this many bytes are added to what waits, the connection is asked whether it takes some of that by now. */
const DRAIN_FIRST = 64 << 10;

export class Outbox {
  readonly #write: Write;
  readonly #limit: number;
  #chunks: Chunk[] = [];
  /** Bytes of the first chunk that are written. */
  #sent = 0;
  #size = 0;
  #cleared = false;

  /** `limit`: most bytes that may wait. */
  constructor(write: Write, limit: number = OUTBOX_MAX) {
    this.#write = write;
    this.#limit = limit;
  }

  /** Bytes not written yet. */
  get size(): number {
    return this.#size;
  }

  /**
   * False: the reader is too far behind, give the connection up. `bytes` may be used again after the call; or, with
   * `sent`, when that is called, and not before: several outboxes may hold the same ones.
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

  /** The connection is gone, and what waits with it. */
  clear(): void {
    const chunks = this.#chunks.splice(0);
    this.#cleared = true;
    this.#size = 0;
    this.#sent = 0;
    for (const { sent } of chunks) sent?.(true);
  }

  /** The connection takes bytes again. */
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
 * For a socket's error handler, which also gets what our own handlers throw: an error of the connection has a code, any
 * other is a broken invariant, and a replica or sequencer that goes on after one would diverge. So it ends the role.
 */
export function rethrowIfBug(error: Error): void {
  if ("code" in error) return;
  queueMicrotask(() => {
    throw error;
  });
}
