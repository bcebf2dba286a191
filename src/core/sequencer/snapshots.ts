/** Snapshots: those that are being sent, one for each link, while the session goes on. */
import { Status } from "../base/errors.ts";
import { SNAPSHOTS_MAX } from "../base/limits.ts";
import type { MapBytes } from "../memory/map-bytes.ts";
import { MapSnapshot } from "../memory/map-snapshot.ts";
import { ProtocolError } from "../wire/frame.ts";

export class Snapshots {
  readonly #memory: MapBytes;
  readonly #byLink = new Map<number, MapSnapshot>();

  constructor(memory: MapBytes) {
    this.#memory = memory;
  }

  /** Whether a snapshot is being sent on the link. */
  has(link: number): boolean {
    return this.#byLink.has(link);
  }

  /** Throws ProtocolError when SNAPSHOTS_MAX are being sent, or among the `waiting` ones. */
  checkRoom(waiting: number): void {
    if (this.#byLink.size + waiting < SNAPSHOTS_MAX) return;
    throw new ProtocolError(`${SNAPSHOTS_MAX} snapshots of the session are being taken; try again`, Status.LIMIT);
  }

  /** Begins a snapshot of the map as it is now, after entry `seq`. */
  begin(link: number, seq: number): void {
    this.#byLink.set(link, new MapSnapshot(this.#memory, seq));
  }

  /** The next frame for the link; null: there is none. */
  next(link: number): Uint8Array | null {
    const snapshot = this.#byLink.get(link);
    const frame = snapshot?.next() ?? null;
    if (snapshot?.done === true) this.#byLink.delete(link);
    return frame;
  }

  /** Ends the snapshot of a link that is gone. */
  end(link: number): void {
    this.#byLink.get(link)?.end();
    this.#byLink.delete(link);
  }
}
