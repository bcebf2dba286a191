/**
 * RetainedLog: the log as the server keeps it: entries that some member may not have applied yet, and entries that have
 * not been sent.
 *
 * Invariant: the entries handed to `broadcast` are the log, each once, in sequence.
 */
import { ACK_BYTES } from "../base/limits.ts";
import type { RetainedFrames } from "../wire/retained-frames.ts";
import type { SequencerOutput } from "./sequencer-output.ts";

export class RetainedLog {
  readonly #frames: RetainedFrames;
  readonly #out: Pick<SequencerOutput, "broadcast">;
  /** Bytes acknowledged by all members since the last announcement of that to them. */
  #unannouncedAckBytes = 0;
  /** A process waits for an entry that was appended and not sent. */
  mustFlush = false;
  #hasUnsent = false;

  constructor(frames: RetainedFrames, out: Pick<SequencerOutput, "broadcast">) {
    this.#frames = frames;
    this.#out = out;
  }

  /** Whether flush() has anything to send. */
  get hasUnsent(): boolean {
    return this.#hasUnsent;
  }

  /** All entries after this one are here. */
  get base(): number {
    return this.#frames.droppedThrough;
  }

  /** Bytes of the entries that are here. */
  get bytes(): number {
    return this.#frames.bytes;
  }

  /** Appends a copy of the frame at `at` as entry `seq`. */
  append(view: DataView, bytes: Uint8Array, at: number, size: number, seq: number): void {
    this.#frames.push(view, bytes, at, size, seq);
    this.#hasUnsent = true;
  }

  /**
   * Appends a part of publication `seq` without copying it, and sends it to all but `except`; `onRelease`: once for
   * each use.
   */
  appendPart(part: Uint8Array, seq: number, onRelease: () => void, except: number): void {
    this.#frames.pushOwned(part, seq, onRelease);
    this.#out.broadcast(part, onRelease, except);
  }

  /** Sends what was appended and not sent. */
  flush(): void {
    this.mustFlush = false;
    this.#hasUnsent = false;
    for (const entries of this.#frames.takeUnsent()) this.#out.broadcast(entries);
  }

  /** The entries after `seq`, in pieces: valid until the next drop(). */
  after(seq: number): Generator<Uint8Array> {
    return this.#frames.framesAfter(seq);
  }

  /** Drops entries that all members have applied. True: it is time to announce how far all are. */
  drop(appliedByAll: number): boolean {
    if (appliedByAll <= this.#frames.droppedThrough) return false;
    const before = this.#frames.bytes;
    this.#frames.drop(appliedByAll);
    this.#unannouncedAckBytes += before - this.#frames.bytes;
    if (this.#unannouncedAckBytes < ACK_BYTES) return false;
    this.#unannouncedAckBytes = 0;
    return true;
  }
}
