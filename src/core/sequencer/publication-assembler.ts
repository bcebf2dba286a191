/**
 * Publications of one link that come in parts: the parts are kept until the final one is there, and then enter the log
 * together, one behind the other. If the final part never comes there is nothing to undo.
 */
import { Status } from "../base/errors.ts";
import { CHANNELS_MAX } from "../base/limits.ts";
import { At } from "../wire/at.ts";
import { ProtocolError } from "../wire/frame.ts";
import type { PartPool } from "../wire/frame-reader.ts";
import { stagedLimit } from "../wire/runs.ts";

export type Part = Uint8Array<ArrayBuffer>;

export class PublicationAssembler {
  readonly #pool: PartPool;
  readonly #mapSize: number;
  /** By tag. */
  readonly #parts = new Map<number, Part[]>();
  /** Bytes of the parts, by the rank that publishes. */
  readonly #bytesByRank = new Map<number, number>();
  /** Tags of publications with a part whose shared slot was reused before we copied it. */
  readonly #overwritten = new Set<number>();

  constructor(pool: PartPool, mapSize: number) {
    this.#pool = pool;
    this.#mapSize = mapSize;
  }

  /** Keeps a part. Throws ProtocolError when the rank has more under way than a map can hold. */
  add(tag: number, rank: number, size: number, part: () => Part): void {
    const bytes = (this.#bytesByRank.get(rank) ?? 0) + size;
    if (bytes > stagedLimit(this.#mapSize)) {
      throw new ProtocolError("a publication larger than the map can be", Status.LIMIT);
    }
    this.#bytesByRank.set(rank, bytes);
    const parts = this.#parts.get(tag) ?? [];
    parts.push(part());
    this.#parts.set(tag, parts);
  }

  /** Whether `part` is the newest that is kept of its publication. */
  has(tag: number, part: Part): boolean {
    return this.#parts.get(tag)?.at(-1) === part;
  }

  /** A part of the publication could not be copied: it must be aborted. */
  noteOverwritten(tag: number): void {
    if (this.#overwritten.size === CHANNELS_MAX) throw new ProtocolError("publish: too many parts are gone");
    this.#overwritten.add(tag);
  }

  /** The final part is there: the parts before it, which are the caller's now. Throws ProtocolError: one is missing. */
  complete(tag: number): Part[] {
    if (this.#overwritten.has(tag)) throw new ProtocolError("publish: a part was gone before it was copied");
    const parts = this.#parts.get(tag) ?? [];
    this.#remove(tag, parts);
    return parts;
  }

  /** The rest will never come. */
  abort(tag: number): void {
    const parts = this.#parts.get(tag) ?? [];
    this.#remove(tag, parts);
    for (const part of parts) this.#pool.give(part);
    this.#overwritten.delete(tag);
  }

  /** Nothing more comes from the link. */
  close(): void {
    for (const parts of this.#parts.values()) for (const part of parts) this.#pool.give(part);
    this.#parts.clear();
  }

  #remove(tag: number, parts: Part[]): void {
    this.#parts.delete(tag);
    for (const part of parts) {
      const rank = new DataView(part.buffer, part.byteOffset).getUint16(At.rank, true);
      const left = (this.#bytesByRank.get(rank) ?? 0) - part.length;
      if (left > 0) this.#bytesByRank.set(rank, left);
      else this.#bytesByRank.delete(rank);
    }
  }
}
