/**
 * What waits to be written to one connection. Writes at once what the connection takes and keeps the rest in order;
 * its owner stops causing more when `size` passes OUTBOX_HIGH.
 */
import { OUTBOX_MAX } from "./limits.ts";

/** Takes some of the bytes (maybe none) and returns how many. */
export type Write = (bytes: Uint8Array) => number;

export class Outbox {
  readonly #write: Write;
  readonly #limit: number;
  #chunks: Uint8Array[] = [];
  #sent = 0;
  #size = 0;

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
   * False: the reader is too far behind, give the connection up. `bytes` may be used again after the call, unless they
   * are `kept`: then nobody changes them any more, and several outboxes may hold the same ones.
   */
  send(bytes: Uint8Array, kept = false): boolean {
    let written = 0;
    if (this.#size === 0) {
      written = this.#write(bytes);
      if (written === bytes.length) return true;
    }
    const unsent = bytes.subarray(Math.max(written, 0));
    if (this.#size + unsent.length > this.#limit) return false;
    const rest = kept ? unsent : new Uint8Array(unsent);
    this.#chunks.push(rest);
    this.#size += rest.length;
    return true;
  }

  /** The connection takes bytes again. */
  drain(): void {
    while (this.#chunks.length > 0) {
      const chunk = this.#chunks[0] as Uint8Array;
      const written = Math.max(this.#write(this.#sent === 0 ? chunk : chunk.subarray(this.#sent)), 0);
      this.#size -= written;
      if (this.#sent + written < chunk.length) {
        this.#sent += written;
        return;
      }
      this.#sent = 0;
      this.#chunks.shift();
    }
  }
}

/**
 * For a socket's error handler, which also gets what our own handlers throw: an error of the connection has a code, any
 * other is a broken invariant, and a replica or sequencer that goes on after one would diverge. So it ends the role.
 */
export function failStop(error: Error): void {
  if ("code" in error) return;
  queueMicrotask(() => {
    throw error;
  });
}
