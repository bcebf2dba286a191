/** The bytes of a node's map as log entries, when direct mode ends: see direct-mode-exit.ts. */
import { PAGE_SIZE } from "../base/limits.ts";
import { isZero, type MapBytes } from "../memory/map-bytes.ts";
import { At, CopyAt, HEADER_SIZE } from "../wire/at.ts";
import { encode } from "../wire/frame.ts";
import { CopyOp, Kind, NO_TAG } from "../wire/kinds.ts";
import { PUBLISH_PART_MAX, RUN_HEADER_SIZE, writeRun } from "../wire/runs.ts";

/** Maximum bytes of a piece, and bytes in flight beyond which the node sends no further piece. */
export interface UploadPace {
  piece: number;
  inFlightMax: number;
}

export const UPLOAD_PACE: UploadPace = { piece: PUBLISH_PART_MAX, inFlightMax: 4 * PUBLISH_PART_MAX };

/** A COPY without bytes. */
export const encodeUpload = (op: number, node: number): Uint8Array =>
  encode({ kind: Kind.COPY, op, tag: NO_TAG, node });

/** MapUpload: the map of `node`, piece by piece; pages of zeros are left out. */
export class MapUpload {
  readonly #memory: MapBytes;
  readonly #node: number;
  readonly #room: number;
  /** Offset of the first page that was not looked at. */
  #offset = 0;

  constructor(memory: MapBytes, node: number, pace: UploadPace) {
    this.#memory = memory;
    this.#node = node;
    this.#room = HEADER_SIZE + pace.piece;
  }

  /** The next piece, with its pages as they are now, or null behind the last. */
  next(): Uint8Array | null {
    const { bytes, size } = this.#memory;
    const frame = new Uint8Array(this.#room);
    const view = new DataView(frame.buffer);
    let at = HEADER_SIZE;
    for (; this.#offset < size && at + RUN_HEADER_SIZE + PAGE_SIZE <= frame.length; this.#offset += PAGE_SIZE) {
      const page = bytes.subarray(this.#offset, this.#offset + PAGE_SIZE);
      if (!isZero(page)) at = writeRun(view, at, this.#offset, page);
    }
    if (at === HEADER_SIZE) return null;
    frame.set(encodeUpload(CopyOp.PIECE, this.#node));
    view.setUint32(At.size, at, true);
    view.setUint32(CopyAt.runsLength, at - HEADER_SIZE, true);
    return frame.subarray(0, at);
  }
}
