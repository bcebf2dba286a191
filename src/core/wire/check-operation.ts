/** Checks that a frame is well formed: everything that the code which applies it relies on. */

import { isAlignment } from "../base/alignment.ts";
import {
  ARRIVALS_MAX,
  NAME_MAX,
  NODE_NUMBER_MAX,
  OBJECT_ALIGN,
  SEMAPHORE_VALUE_MAX,
  STORE_MAX,
} from "../base/limits.ts";
import {
  AllocateAt,
  ArriveAt,
  At,
  AtomicAt,
  BarrierAt,
  CancelAt,
  CondSignalAt,
  CondWaitAt,
  CopyAt,
  FutexWaitAt,
  HEADER_SIZE,
  JoinAt,
  LeaveAt,
  LockAt,
  MapAt,
  ObjectInitAt,
  PublishAt,
  ReturnAt,
  RwLockAt,
  RwUnlockAt,
  SemaphoreAt,
  SemValueAt,
  SemWaitAt,
  StoreAt,
} from "./at.ts";
import { checkRuns } from "./check-runs.ts";
import { getUint64, padded } from "./frame.ts";
import { AtomicOp, CopyOp, Kind, NO_TAG, ObjectKind, PublishOp } from "./kinds.ts";
import { PUBLISH_PART_MAX } from "./runs.ts";

export const ATOMIC_BODY_SIZE = 32;
/** The phases of a barrier's cell begin again then. */
const BARRIERS_PASSED_MAX = 2 ** 31 - 1;

const SIZES_OF_WIDTH = [0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];

/**
 * Whether the ordered operation at `at` is well formed for a map of `mapSize` bytes: everything apply() relies on.
 * Null, or the fault. The caller has checked that the frame lies within the bytes received. `ordered`: the server
 * has checked it before; the expensive check of the masks is not repeated.
 */
export function checkOperation(view: DataView, at: number, mapSize: number, ordered = false): string | null {
  const size = view.getUint32(at, true);
  const kind = view.getUint8(at + At.kind);
  const length = view.getUint32(at + At.length, true);
  const body = size - HEADER_SIZE;
  if (view.getUint32(at + At.node, true) > NODE_NUMBER_MAX) return "no node has that number";
  switch (kind) {
    case Kind.STORE: {
      if (length < 1 || length > STORE_MAX || padded(length) !== body) return "store: length does not fit its frame";
      return inMap(view, at, length, mapSize) ? null : "store: outside the map";
    }
    case Kind.ATOMIC: {
      const op = view.getUint8(at + AtomicAt.op);
      if (body !== ATOMIC_BODY_SIZE) return "atomic: wrong body";
      if (op < AtomicOp.ADD || op > AtomicOp.NEG) return "atomic: no such operation";
      if (length > 16 || SIZES_OF_WIDTH[length] !== 1) return "atomic: no such width";
      return inMap(view, at, length, mapSize) ? null : "atomic: outside the map";
    }
    case Kind.PUBLISH: {
      if (length !== body || length > PUBLISH_PART_MAX) return "publish: length does not fit its frame";
      const op = view.getUint8(at + PublishAt.part);
      if (op > PublishOp.ABORT || (op === PublishOp.ABORT && body !== 0)) return "publish: no such flag";
      return checkRuns(view, at + HEADER_SIZE, at + size, mapSize, ordered);
    }
    case Kind.SEM_WAIT:
    case Kind.SEM_POST:
      if (length < 1 || length > NAME_MAX || padded(length) !== body) return "semaphore: bad name length";
      if (view.getUint32(at + SemaphoreAt.initial, true) > SEMAPHORE_VALUE_MAX)
        return "semaphore: initial value beyond the limit";
      if (view.getUint8(at + SemaphoreAt.tryOnly) > 1) return "semaphore: no such flag";
      if (kind === Kind.SEM_WAIT && !(getUint64(view, at + SemWaitAt.mayReturn) <= 1)) return "semaphore: no such flag";
      if (kind === Kind.SEM_POST && !(getUint64(view, at + SemaphoreAt.increment) <= 1))
        return "semaphore: a post adds 0 or 1";
      return null;
    case Kind.SEM_VALUE:
      if (length < 1 || length > NAME_MAX || padded(length) !== body) return "semaphore: bad name length";
      if (view.getUint32(at + At.tag, true) !== NO_TAG) return "semaphore: a value is no process's request";
      return getUint64(view, at + SemValueAt.value) <= SEMAPHORE_VALUE_MAX ? null : "semaphore: value beyond the limit";
    case Kind.LOCK:
    case Kind.UNLOCK:
      if (length < 1 || length > NAME_MAX || padded(length) !== body) return "lock: bad name length";
      if (view.getUint8(at + LockAt.tryOnly) > 1) return "lock: no such flag";
      return view.getUint32(at + LockAt.usesCell, true) > 1 ? "lock: no such flag" : null;
    case Kind.RETURN:
      if (length < 1 || length > NAME_MAX || padded(length) !== body) return "return: bad name length";
      if (view.getUint8(at + ReturnAt.isOwned) > 1) return "return: no such flag";
      return view.getUint32(at + ReturnAt.wasAsked, true) > 1 ? "return: no such flag" : null;
    case Kind.ALLOC:
    case Kind.NAMED:
      if (kind === Kind.ALLOC ? body !== 0 : length < 1 || length > NAME_MAX || padded(length) !== body) {
        return "allocation: bad name length";
      }
      if (!(getUint64(view, at + AllocateAt.bytes) >= 1)) return "allocation: no size";
      return isAlignment(view.getUint32(at + AllocateAt.alignment, true)) ? null : "allocation: bad alignment";
    case Kind.FUTEX_WAIT:
      if (body !== 8) return "sleep: wrong body";
      if (view.getUint8(at + FutexWaitAt.isCompared) > 1) return "sleep: no such flag";
      if (length > 8 || SIZES_OF_WIDTH[length] !== 1) return "sleep: no such width";
      return inMap(view, at, length, mapSize) ? null : "sleep: outside the map";
    case Kind.FREE:
    case Kind.FUTEX_WAKE:
      if (body !== 0) return "unexpected body";
      return inMap(view, at, 1, mapSize) ? null : "outside the map";
    case Kind.LEAVE:
      if (view.getUint8(at + LeaveAt.isLost) > 1 || length > 1) return "leave: no such flag";
      return body === 0 ? null : "leave: unexpected body";
    case Kind.JOIN:
      if (view.getUint8(at + JoinAt.refusesDirect) > 1) return "join: no such flag";
      if (length < 1 || length > NAME_MAX || padded(length) !== body) return "join: bad node name length";
      return getUint64(view, at + JoinAt.pid) <= 0xffffffff ? null : "join: bad process id";
    case Kind.BARRIER: {
      const passed = getUint64(view, at + BarrierAt.passed);
      if (!(passed <= BARRIERS_PASSED_MAX)) return "barrier: too many were passed";
      if (passed > 0 && view.getUint32(at + At.tag, true) !== NO_TAG) return "barrier: a number with a request";
      return body === 0 ? null : "unexpected body";
    }
    case Kind.SEM_CANCEL:
      if (view.getUint8(at + CancelAt.isSentBack) > 1) return "cancel: no such flag";
      return body === 0 ? null : "unexpected body";
    case Kind.COPY: {
      const op = view.getUint8(at + CopyAt.op);
      if (length !== body || length > PUBLISH_PART_MAX) return "copy: length does not fit its frame";
      if (op > CopyOp.END || (op !== CopyOp.PIECE && body !== 0)) return "copy: no such flag";
      return checkRuns(view, at + HEADER_SIZE, at + size, mapSize, ordered);
    }
    case Kind.COND_WAIT:
      if (length < 1 || length > NAME_MAX || padded(length) !== body)
        return "condition: bad length of the mutex's name";
      return isObject(view, at, mapSize) ? null : "condition: not the place of an object";
    case Kind.COND_SIGNAL:
      if (body !== 0) return "unexpected body";
      if (view.getUint32(at + CondSignalAt.count, true) < 1) return "condition: a signal for none";
      return isObject(view, at, mapSize) ? null : "condition: not the place of an object";
    case Kind.RW_LOCK:
    case Kind.RW_UNLOCK:
      if (body !== 0) return "unexpected body";
      if (view.getUint8(at + (kind === Kind.RW_LOCK ? RwLockAt.tryOnly : RwUnlockAt.keepsMark)) > 1)
        return "reader-writer lock: no such flag";
      if (kind === Kind.RW_LOCK && view.getUint32(at + RwLockAt.isWriter, true) > 1)
        return "reader-writer lock: no such flag";
      return isObject(view, at, mapSize) ? null : "reader-writer lock: not the place of an object";
    case Kind.ARRIVE: {
      const count = view.getUint32(at + ArriveAt.count, true);
      if (body !== 0) return "unexpected body";
      if (count < 1 || count > ARRIVALS_MAX) return "barrier: no such number";
      return isObject(view, at, mapSize) ? null : "barrier: not the place of an object";
    }
    case Kind.OBJECT_INIT: {
      const object = view.getUint8(at + ObjectInitAt.objectKind);
      if (body !== 0) return "unexpected body";
      if (object < ObjectKind.MUTEX || object > ObjectKind.BARRIER) return "object: no such kind";
      const valueMax = object === ObjectKind.SEMAPHORE ? SEMAPHORE_VALUE_MAX : 0;
      if (view.getUint32(at + ObjectInitAt.initial, true) > valueMax) return "object: initial value beyond the limit";
      return isObject(view, at, mapSize) ? null : "object: not the place of one";
    }
    default:
      return `no ordered operation has kind ${kind}`;
  }
}

/** Whether the MAP frame at `at` is well formed for a map of `mapSize` bytes. Null, or the fault. */
export function checkMap(view: DataView, at: number, mapSize: number): string | null {
  const size = view.getUint32(at, true);
  const length = view.getUint32(at + MapAt.runsLength, true);
  if (length !== size - HEADER_SIZE || length > PUBLISH_PART_MAX) return "map: length does not fit its frame";
  if (view.getUint8(at + MapAt.hasMore) > 1) return "map: no such flag";
  return checkRuns(view, at + HEADER_SIZE, at + size, mapSize, false);
}

function inMap(view: DataView, at: number, length: number, mapSize: number): boolean {
  return getUint64(view, at + StoreAt.mapOffset) + length <= mapSize;
}

/** Whether an object may begin at the frame's place in the map. */
function isObject(view: DataView, at: number, mapSize: number): boolean {
  const offset = getUint64(view, at + CondWaitAt.mapOffset);
  return offset % OBJECT_ALIGN === 0 && offset + OBJECT_ALIGN <= mapSize;
}
