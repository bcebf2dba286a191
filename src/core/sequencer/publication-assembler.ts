/**
 * PublicationAssembler: publications of one link that come in parts. Keeps the parts until the final one arrives; then
 * all enter the log together, one after the other. An incomplete publication needs no rollback.
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
  /** Tags of publications with a part whose shared slot was reused before the server copied it. */
  readonly #overwritten = new Set<number>();

  constructor(pool: PartPool, mapSize: number) {
    this.#pool = pool;
    this.#mapSize = mapSize;
  }

  /** Keeps a part. Throws ProtocolError when the rank has more in flight than a map can hold. */
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

  /** Whether `part` is the newest part of its publication. */
  has(tag: number, part: Part): boolean {
    return this.#parts.get(tag)?.at(-1) === part;
  }

  /** Notes that a part of the publication could not be copied: the publication must be aborted. */
  noteOverwritten(tag: number): void {
    if (this.#overwritten.size === CHANNELS_MAX) throw new ProtocolError("publish: too many parts are gone");
    this.#overwritten.add(tag);
  }

  /**
   * Ends a publication: returns the parts before the final one, which the caller then owns. Throws ProtocolError: a
   * part is missing.
   */
  complete(tag: number): Part[] {
    if (this.#overwritten.has(tag)) throw new ProtocolError("publish: a part was gone before it was copied");
    const parts = this.#parts.get(tag) ?? [];
    this.#remove(tag, parts);
    return parts;
  }

  /** Aborts a publication whose remaining parts will never come. */
  abort(tag: number): void {
    const parts = this.#parts.get(tag) ?? [];
    this.#remove(tag, parts);
    for (const part of parts) this.#pool.give(part);
    this.#overwritten.delete(tag);
  }

  /** Drops all parts: no more frames come from the link. */
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
