/** Where an object in the map lies: what `mutexAt()` and its like are given. */
import { MAP_OBJECT_SIZE } from "../core/layout/struct.ts";
import { invalid } from "./config.ts";
import { objectLabel } from "./outcomes.ts";
import type { SessionHandle } from "./session-handle.ts";
import { kindOf } from "./views.ts";

/** The place of an object in the map: its first byte there, a multiple of 64, or a view of 64 bytes or more that begins there. */
export type ObjectPlace = number | ArrayBufferView;

/** An object in the map, as one thread uses it. */
export class MapPlace {
  readonly handle: SessionHandle;
  /** Bytes from the beginning of the map. */
  readonly offset: number;
  readonly address: number;
  /** It, for messages. */
  readonly label: string;

  /** Throws DSM_INVALID. `kind`: of the object, for messages. */
  constructor(handle: SessionHandle, kind: string, where: ObjectPlace) {
    handle.check();
    const { buffer, size, address } = handle.info;
    const offset = offsetOf(kind, where, buffer);
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % MAP_OBJECT_SIZE !== 0) {
      throw invalid(`a ${kind} cannot lie at byte ${offset}; give a multiple of ${MAP_OBJECT_SIZE}`);
    }
    if (offset + MAP_OBJECT_SIZE > size) {
      throw invalid(`a ${kind} at byte ${offset} ends behind the map, which has ${size} bytes`);
    }
    this.handle = handle;
    this.offset = offset;
    // Addresses of a process are below 2^47.
    this.address = Number(address) + offset;
    this.label = objectLabel(kind, this.address);
  }
}

function offsetOf(kind: string, where: ObjectPlace, buffer: ArrayBuffer): number {
  if (typeof where === "number") return where;
  if (!ArrayBuffer.isView(where))
    throw invalid(`a ${kind} cannot lie at ${kindOf(where)}; give a byte of the map, or a view`);
  if (where.buffer !== buffer) throw invalid("the view is not over this session's buffer");
  if (where.byteLength < MAP_OBJECT_SIZE) {
    throw invalid(`the view has ${where.byteLength} bytes; a ${kind} needs ${MAP_OBJECT_SIZE}`);
  }
  return where.byteOffset;
}
