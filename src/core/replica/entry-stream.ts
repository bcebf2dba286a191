/**
 * The entries of the log as they come from the server.
 *
 * Invariants: each entry is handed on once, in sequence, and one of several parts only when all parts are there; the
 * map that belongs to a WELCOME comes before the first entry.
 */
import { FRAME_MAX, NODE_NUMBER_MAX } from "../base/limits.ts";
import { At, PublishAt } from "../wire/at.ts";
import { checkOperation } from "../wire/check-operation.ts";
import { getUint64, ProtocolError } from "../wire/frame.ts";
import { type FrameHandler, FrameReader, type PartPool } from "../wire/frame-reader.ts";
import { Kind, PublishOp } from "../wire/kinds.ts";
import { stagedLimit } from "../wire/runs.ts";

const damaged = (why: string): ProtocolError => new ProtocolError(`an entry of the order is damaged: ${why}`);

export class EntryStream {
  readonly #mapSize: number;
  readonly #pool: PartPool;
  #reader = new FrameReader(FRAME_MAX);
  /** Parts of the publication whose final part comes next. */
  #parts: Uint8Array<ArrayBuffer>[] = [];
  #partsBytes = 0;
  /** The frame that receivePart() was given. */
  #owned: Uint8Array<ArrayBuffer> | null = null;
  /** The last entry received. */
  #confirmed: number;
  /** The map that follows the WELCOME has not arrived. */
  awaitsMap: boolean;

  constructor(mapSize: number, confirmed: number, awaitsMap: boolean, pool: PartPool) {
    this.#mapSize = mapSize;
    this.#confirmed = confirmed;
    this.awaitsMap = awaitsMap;
    this.#pool = pool;
  }

  /** The last entry received from the server. */
  get confirmed(): number {
    return this.#confirmed;
  }

  /** Cuts the chunk into frames; the chunk is valid during the call only. */
  receive(chunk: Uint8Array, visit: FrameHandler): void {
    this.#reader.push(chunk, visit);
  }

  /**
   * Receives a part of a publication: a whole frame between those of receive(), in memory that the replica owns from
   * now on.
   */
  receivePart(frame: Uint8Array<ArrayBuffer>, visit: FrameHandler): void {
    this.#owned = frame;
    this.#reader.push(frame, visit);
    this.#owned = null;
  }

  /**
   * Checks the entry at `at`. Returns its number, or null for a part, which is kept until the final part arrives.
   * Throws ProtocolError when it is not the next entry of the log.
   */
  next(view: DataView, at: number, size: number, bytes: Uint8Array): number | null {
    const wrong = checkOperation(view, at, this.#mapSize, true);
    if (wrong !== null) throw damaged(wrong);
    if (this.awaitsMap) throw new ProtocolError("an entry of the order comes before the map it belongs to");
    const isPublication = view.getUint8(at + At.kind) === Kind.PUBLISH;
    const part = isPublication ? view.getUint8(at + PublishAt.part) : PublishOp.FINAL;
    if (part > PublishOp.PART) throw damaged("publish: no such flag");
    if (view.getUint32(at + At.node, true) > NODE_NUMBER_MAX) throw damaged("no such node");
    const seq = getUint64(view, at + At.seq);
    if (seq !== this.#confirmed + 1) throw new ProtocolError("an entry of the order is missing");
    const [first] = this.#parts;
    if (first !== undefined && !(isPublication && isOfSamePublication(first, view, at))) {
      throw new ProtocolError("a publication of the order is cut in two");
    }
    if (part !== PublishOp.PART) return seq;
    this.#keepPart(bytes, at, size);
    return null;
  }

  /** Confirms the entry that next() returned. Returns the parts before it, which the caller then owns. */
  confirm(seq: number): Uint8Array<ArrayBuffer>[] {
    this.#confirmed = seq;
    if (this.#parts.length === 0) return NO_PARTS;
    this.#partsBytes = 0;
    return this.#parts.splice(0);
  }

  #keepPart(bytes: Uint8Array, at: number, size: number): void {
    this.#partsBytes += size;
    if (this.#partsBytes > stagedLimit(this.#mapSize)) {
      throw new ProtocolError("a publication of the order is larger than the map can be");
    }
    const owned = this.#owned;
    this.#parts.push(owned?.length === size ? owned : new Uint8Array(bytes.subarray(at, at + size)));
  }

  /** Drops incomplete frames and parts when the connection breaks: the server sends them again. */
  reset(): void {
    this.#reader = new FrameReader(FRAME_MAX);
    for (const part of this.#parts.splice(0)) this.#pool.give(part);
    this.#partsBytes = 0;
  }
}

const NO_PARTS: Uint8Array<ArrayBuffer>[] = [];

/** Whether the frame at `at` is of the same publication as the part. */
export function isOfSamePublication(part: Uint8Array, view: DataView, at: number): boolean {
  const first = new DataView(part.buffer, part.byteOffset);
  return (
    first.getUint32(At.tag, true) === view.getUint32(at + At.tag, true) &&
    first.getUint32(At.node, true) === view.getUint32(at + At.node, true)
  );
}
