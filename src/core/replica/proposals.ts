/**
 * Proposals: operations that this node has proposed and that have not come back with their place in the log.
 *
 * Invariants: each is kept until it comes back; those that the server has not ordered are proposed again after a
 * reconnection, in their order; they come back in the order in which they were proposed.
 */

import { FRAME_MAX } from "../base/limits.ts";
import { At, PublishAt } from "../wire/at.ts";
import { getUint64, ProtocolError, setUint64 } from "../wire/frame.ts";
import { FrameReader, type PartPool } from "../wire/frame-reader.ts";
import { Kind, PublishOp } from "../wire/kinds.ts";
import { RetainedFrames } from "../wire/retained-frames.ts";
import type { ReplicaOutput } from "./replica-output.ts";

/** A part of a publication of this node, until the publication has come back. */
export interface OwnPart {
  bytes: Uint8Array<ArrayBuffer>;
  /** Called when the part has left, so that its process may reuse the memory; null: it was called. */
  onSent: (() => void) | null;
  /** Number of pending sends that reference `bytes`. The buffer must not be reused while it is not zero. */
  inFlight: number;
  /** No longer needed once `inFlight` is zero. */
  isReleased: boolean;
}

const NO_PARTS: readonly OwnPart[] = [];

export class Proposals {
  readonly #out: Pick<ReplicaOutput, "propose">;
  readonly #pool: PartPool;
  /** Proposals by number. */
  readonly #frames = new RetainedFrames(0);
  #sent = 0;
  #confirmed = 0;
  /** Number of proposals that were decided on this node (direct mode) and are not confirmed. */
  #decided = 0;
  /** Parts of publications, by the number of the final part, or by tag until the final part has arrived. */
  readonly #partsOf = new Map<number, OwnPart[]>();
  readonly #partsByTag = new Map<number, OwnPart[]>();

  constructor(out: Pick<ReplicaOutput, "propose">, pool: PartPool) {
    this.#out = out;
    this.#pool = pool;
  }

  /** Bytes of the proposals that have not come back. */
  get bytesInFlight(): number {
    return this.#frames.bytes;
  }

  /** Whether this node knows the result of all its proposals. */
  get allDecided(): boolean {
    return this.#confirmed + this.#decided === this.#sent;
  }

  /** Numbers the frame, keeps it, and proposes it. */
  add(view: DataView, frame: Uint8Array): void {
    const tag = view.getUint32(At.tag, true);
    const isPublication = view.getUint8(At.kind) === Kind.PUBLISH;
    if (isPublication && view.getUint8(PublishAt.part) === PublishOp.PART) {
      setUint64(view, At.seq, 0);
      this.#addPart(tag, { bytes: new Uint8Array(frame), onSent: null, inFlight: 0, isReleased: false });
    } else {
      this.#sent += 1;
      setUint64(view, At.seq, this.#sent);
      this.#frames.push(view, frame, 0, frame.length, this.#sent);
      const parts = isPublication ? this.#partsByTag.get(tag) : undefined;
      if (parts !== undefined) {
        this.#partsByTag.delete(tag);
        this.#partsOf.set(this.#sent, parts);
      }
    }
    this.#out.propose(frame);
  }

  /** Keeps a part of publication `tag`, a whole frame in memory of the pool, and proposes it without copying it. */
  addPart(tag: number, bytes: Uint8Array<ArrayBuffer>, onSent: () => void): void {
    const part: OwnPart = { bytes, onSent, inFlight: 0, isReleased: false };
    this.#addPart(tag, part);
    this.#sendPart(part);
  }

  #addPart(tag: number, part: OwnPart): void {
    const parts = this.#partsByTag.get(tag);
    if (parts === undefined) this.#partsByTag.set(tag, [part]);
    else parts.push(part);
  }

  /** Also called after a reconnection: tells the process now that the part was taken, if it was not told before. */
  #sendPart(part: OwnPart): void {
    part.inFlight += 1;
    this.#out.propose(part.bytes, (broken) => {
      part.inFlight -= 1;
      if (part.inFlight === 0 && part.isReleased) this.#pool.give(part.bytes);
      if (broken === true) return;
      part.onSent?.();
      part.onSent = null;
    });
  }

  /** Aborts a publication whose final part will never arrive. */
  abort(tag: number): void {
    for (const part of this.#partsByTag.get(tag) ?? []) this.release(part);
    this.#partsByTag.delete(tag);
  }

  /** Releases a part that is no longer needed: its memory goes back to the pool. */
  release(part: OwnPart): void {
    part.isReleased = true;
    if (part.inFlight === 0) this.#pool.give(part.bytes);
  }

  /** Whether the frame equals the oldest proposal that has not come back, except for its number. */
  isOldest(view: DataView, bytes: Uint8Array, at: number, size: number): boolean {
    const { oldest } = this.#frames;
    if (oldest?.length !== size) return false;
    const oldestView = new DataView(oldest.buffer, oldest.byteOffset);
    // Kind, op and rank lie in one word; the server changes nothing behind seq.
    const isSame = view.getUint32(at + At.kind, true) === oldestView.getUint32(At.kind, true);
    return isSame && Buffer.compare(bytes.subarray(at + At.offset, at + size), oldest.subarray(At.offset)) === 0;
  }

  /** Confirms the oldest proposal. Returns its parts, which the caller then owns. */
  confirmOldest(): readonly OwnPart[] {
    if (this.#confirmed === this.#sent) {
      throw new ProtocolError("an entry of the order that this node did not ask for");
    }
    this.#confirmed += 1;
    this.#frames.drop(this.#confirmed);
    const parts = this.#partsOf.get(this.#confirmed);
    if (parts === undefined) return NO_PARTS;
    this.#partsOf.delete(this.#confirmed);
    return parts;
  }

  /** Notes that the newest proposal was decided on this node. */
  noteDecided(): void {
    this.#decided += 1;
  }

  /** Confirms a decision of this node that has come back. False: none is outstanding. */
  confirmDecided(): boolean {
    if (this.#decided === 0) return false;
    this.#decided -= 1;
    return true;
  }

  /** Whether the server may have `ordered` of this node's proposals in its log. */
  mayHaveOrdered(ordered: number): boolean {
    return ordered >= this.#confirmed && ordered <= this.#sent;
  }

  /** Proposes again all but the first `ordered` proposals. */
  resend(ordered: number): void {
    const reader = new FrameReader(FRAME_MAX);
    for (const piece of this.#frames.framesAfter(ordered)) {
      reader.push(piece, (view, at, size, bytes) => {
        for (const part of this.#partsOf.get(getUint64(view, at + At.seq)) ?? []) this.#sendPart(part);
        this.#out.propose(bytes.subarray(at, at + size));
      });
    }
    for (const parts of this.#partsByTag.values()) for (const part of parts) this.#sendPart(part);
  }
}
