/**
 * An elastic session whose processes are all on one node begins in direct mode. When a process of another node (or one that
 * refuses direct mode) wants to join, it changes over to traps, for good:
 *
 * 1. The server holds the join back and asks the one node's arbiter to change over (CHANGE).
 * 2. The arbiter tells each process that may write to the map to close it. A thread of the process's own makes the map
 *    read-only and says so; from then on its stores trap and are operations. Whoever joins here from now on traps at once.
 * 3. When all are closed, or gone, the arbiter puts the map into the order: COPY, BEGIN to END. With END the session is not
 *    in direct mode any more, wherever it is applied.
 * 4. Behind END the server orders the joins it has held back, and the node's arbiter what its processes have stored.
 *
 * Invariants:
 * - From the first CLOSE to END the arbiter carries out no store, atomic operation or publication of a process: another
 *   process may still write to the map, and what we do to it in several steps is not atomic beside the processor's.
 * - BEGIN comes when no process can write any more, and all that the node asked for is decided. From then on the map changes
 *   by entries only, and a piece has its pages as they are at its place in the order, whatever comes between the pieces. So
 *   at END all who have followed since BEGIN, or have got a picture since, have the node's map.
 * - Until END only this node has the map, so only it can hand it to a server that takes over, which in direct mode gets none:
 *   nothing is decided while the server is away, and when one is there again the copy begins anew.
 * - Nobody but the one node's processes is in the session before END. If they all go, it ends, and whoever waits joins the
 *   next. Whoever waits and goes has left as soon as it has joined, and is lost to nobody. A change that has begun is brought
 *   to its end, also if nobody waits any more.
 */

import { PAGE_SIZE } from "../base/limits.ts";
import { isZero, type MapBytes } from "../memory/map-bytes.ts";
import { At, CopyAt, HEADER_SIZE } from "../wire/at.ts";
import { encode } from "../wire/frame.ts";
import { CopyOp, Kind, NO_TAG } from "../wire/kinds.ts";
import { PUBLISH_PART_MAX, RUN_HEADER_SIZE, writeRun } from "../wire/runs.ts";

/** Most bytes of a piece, and bytes that are under way beyond which no more are sent. */
export interface CopyPace {
  piece: number;
  ahead: number;
}

export const COPY_PACE: CopyPace = { piece: PUBLISH_PART_MAX, ahead: 4 * PUBLISH_PART_MAX };

/** A COPY without bytes. */
export const encodeCopy = (op: number, node: number): Uint8Array => encode({ kind: Kind.COPY, op, tag: NO_TAG, node });

/** The map of `node`, piece by piece; pages of zeros are left out. */
export class MapCopy {
  readonly #memory: MapBytes;
  readonly #node: number;
  readonly #room: number;
  /** Where the pages begin that were not looked at. */
  #offset = 0;

  constructor(memory: MapBytes, node: number, pace: CopyPace) {
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
    frame.set(encodeCopy(CopyOp.PIECE, this.#node));
    view.setUint32(At.size, at, true);
    view.setUint32(CopyAt.runsLength, at - HEADER_SIZE, true);
    return frame.subarray(0, at);
  }
}
