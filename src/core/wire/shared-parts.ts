/**
 * Parts of large publications in memory that both ends of a link on one host have mapped. Only the place of a part goes
 * over the link, in a PART_IN_SHARED_MEMORY frame, and the receiver copies the bytes from there, once.
 *
 * The memory is cut into slots, one for each part, followed by a counter for each slot: how often the slot was given
 * out. A PART_IN_SHARED_MEMORY frame has the counter's value. The receiver checks the counter after it has copied the slot. Invariant:
 * if the counter still has the value of the frame, the copy is the part, because the owner increments the counter
 * before it writes. So the owner needs no acknowledgement from readers (as in a seqlock), and may reuse a slot once no
 * member of the session can need it.
 */

import { PAGE_SIZE, SPARE_PARTS_MAX } from "../base/limits.ts";
import { At, HEADER_SIZE, PublishAt, ShareAt, SharedPartAt } from "./at.ts";
import { encode, getUint64, ProtocolError, setUint64 } from "./frame.ts";
import { Kind, PublishOp } from "./kinds.ts";
import { PUBLISH_PART_MAX } from "./runs.ts";

/** Bytes of a slot: a whole frame. */
export const SLOT_SIZE = HEADER_SIZE + PUBLISH_PART_MAX;
const SLOTS = SPARE_PARTS_MAX;
const COUNTERS_AT = SLOTS * SLOT_SIZE;
const NONCE_AT = COUNTERS_AT + 4 * SLOTS;
/** Random bytes in the memory, which an offer has beside the memory's place: they identify the memory. */
export const SHARE_NONCE_SIZE = 8;
/** Bytes of the shared memory: whole pages. */
export const SHARED_PARTS_SIZE = Math.ceil((NONCE_AT + SHARE_NONCE_SIZE) / PAGE_SIZE) * PAGE_SIZE;

/** Operations of a SHARE frame. */
export const ShareOp = { OFFER: 0, ACCEPT: 1 } as const;

/** Memory of this process that other processes of this host can map. */
export interface Shareable {
  pid: number;
  descriptor: number;
  /** SHARED_PARTS_SIZE bytes, zero except for the nonce. */
  memory: Uint8Array<ArrayBuffer>;
}

/** Creates memory to share, and maps that of other processes. */
export interface Sharing {
  /** New memory, or null if there is none to share. */
  create(): Shareable | null;
  /** Maps another process's memory; null: that is not possible, or the memory is not the one that was offered. */
  open(pid: number, descriptor: number, nonce: Uint8Array): Uint8Array<ArrayBuffer> | null;
  /** Unmaps memory that open() returned. */
  close(memory: Uint8Array): void;
}

export const nonceOf = (memory: Uint8Array): Uint8Array => memory.subarray(NONCE_AT, NONCE_AT + SHARE_NONCE_SIZE);

export const encodeOffer = ({ pid, descriptor, memory }: Shareable): Uint8Array =>
  encode({ kind: Kind.SHARE, op: ShareOp.OFFER, offset: pid, aux: descriptor, body: nonceOf(memory) });

export const encodeAccept = (): Uint8Array => encode({ kind: Kind.SHARE, op: ShareOp.ACCEPT });

const countersOf = (memory: Uint8Array): Int32Array =>
  new Int32Array(memory.buffer, memory.byteOffset + COUNTERS_AT, SLOTS);

/** SharedPartSlots: the owner's side, which gives out slots and takes them back. */
export class SharedPartSlots {
  readonly #memory: Uint8Array<ArrayBuffer>;
  readonly #counters: Int32Array;
  /** Last in, first out: the memory of the newest free slot is warm, and few slots are ever touched. */
  readonly #free = Array.from({ length: SLOTS }, (_, i) => SLOTS - 1 - i);
  readonly #given = new Uint8Array(SLOTS);

  constructor(memory: Uint8Array<ArrayBuffer>) {
    if (memory.length !== SHARED_PARTS_SIZE) throw new RangeError("shared parts: memory of another size");
    this.#memory = memory;
    this.#counters = countersOf(memory);
  }

  /** Returns SLOT_SIZE bytes with any contents; null: all slots are given out. */
  take(): Uint8Array<ArrayBuffer> | null {
    const slot = this.#free.pop();
    if (slot === undefined) return null;
    this.#given[slot] = 1;
    Atomics.add(this.#counters, slot, 1);
    return new Uint8Array(this.#memory.buffer, this.#memory.byteOffset + slot * SLOT_SIZE, SLOT_SIZE);
  }

  /** Whether the bytes lie in a slot that is given out. */
  owns(bytes: Uint8Array): boolean {
    return bytes.buffer === this.#memory.buffer;
  }

  /** Takes back the memory that take() returned, or a part of it. */
  give(bytes: Uint8Array): void {
    const slot = this.#slotOf(bytes);
    this.#given[slot] = 0;
    this.#free.push(slot);
  }

  /** the PART_IN_SHARED_MEMORY frame for a part, which is a frame at the beginning of its slot. */
  reference(part: Uint8Array): Uint8Array {
    const slot = this.#slotOf(part);
    const frame = part.slice(0, HEADER_SIZE);
    const view = new DataView(frame.buffer);
    view.setUint32(At.size, HEADER_SIZE, true);
    view.setUint8(SharedPartAt.part, PublishOp.PART_IN_SHARED_MEMORY);
    setUint64(view, SharedPartAt.memoryOffset, slot * SLOT_SIZE);
    view.setInt32(36, Atomics.load(this.#counters, slot), true);
    return frame;
  }

  #slotOf(bytes: Uint8Array): number {
    const slot = (bytes.byteOffset - this.#memory.byteOffset) / SLOT_SIZE;
    if (!this.owns(bytes) || this.#given[slot] !== 1)
      throw new RangeError("shared parts: a slot that is not given out");
    return slot;
  }
}

/** Memory for copies. */
interface Pool {
  take(size: number): Uint8Array<ArrayBuffer>;
  give(bytes: Uint8Array<ArrayBuffer>): void;
}

/**
 * Maps the memory that the SHARE frame at `at` offers; null: that is not possible. Throws ProtocolError when the frame
 * is no valid offer.
 */
function openOffer(sharing: Sharing, view: DataView, at: number): Uint8Array<ArrayBuffer> | null {
  const pid = getUint64(view, at + ShareAt.pid);
  if (view.getUint32(at, true) !== HEADER_SIZE + SHARE_NONCE_SIZE || !(pid >= 1 && pid <= 0x7fffffff)) {
    throw new ProtocolError("no offer of memory to share");
  }
  const nonce = new Uint8Array(view.buffer, view.byteOffset + at + HEADER_SIZE, SHARE_NONCE_SIZE);
  return sharing.open(pid, view.getUint32(at + ShareAt.memoryDescriptor, true), nonce);
}

/** PeerParts: the receiver's side, memory that the peer shares, from its offer on. */
export class PeerParts {
  #from: { memory: Uint8Array<ArrayBuffer>; sharing: Sharing } | null = null;

  /**
   * Handles the SHARE frame at `at`. "mapped-peer": the peer's memory is mapped now, and the caller must send encodeAccept();
   * "peer-mapped-us": the peer has mapped this end's memory; "unavailable": the peer's memory cannot be mapped here. Throws
   * ProtocolError when the frame is out of place. `sharing`: null when the link cannot share memory.
   */
  handleShare(sharing: Sharing | null, view: DataView, at: number): "mapped-peer" | "peer-mapped-us" | "unavailable" {
    if (sharing === null) throw new ProtocolError("memory cannot be shared over this connection");
    const op = view.getUint8(at + ShareAt.op);
    if (op === ShareOp.ACCEPT) return "peer-mapped-us";
    if (op !== ShareOp.OFFER || this.#from !== null) throw new ProtocolError("no offer of memory to share");
    const memory = openOffer(sharing, view, at);
    if (memory === null) return "unavailable";
    this.#from = { memory, sharing };
    return "mapped-peer";
  }

  /**
   * Copies the part that the PART_IN_SHARED_MEMORY frame at `at` names into memory from the pool, as a frame. Null: the slot was reused.
   * Throws ProtocolError when there is no such place.
   */
  copy(view: DataView, at: number, pool: Pool): Uint8Array<ArrayBuffer> | null {
    if (this.#from === null) throw new ProtocolError("publish: no memory is shared");
    const { memory } = this.#from;
    const offset = getUint64(view, at + SharedPartAt.memoryOffset);
    const length = view.getUint32(at + SharedPartAt.frameLength, true);
    const slot = offset / SLOT_SIZE;
    const fits = view.getUint32(at, true) === HEADER_SIZE && length <= PUBLISH_PART_MAX && length % 8 === 0;
    if (!fits || !(Number.isInteger(slot) && slot < SLOTS)) throw new ProtocolError("publish: no such part is shared");
    const size = HEADER_SIZE + length;
    const part = pool.take(size).subarray(0, size);
    // Check the copy only: the owner could still change the original. The header is taken from the frame itself.
    part.set(new Uint8Array(view.buffer, view.byteOffset + at, HEADER_SIZE));
    part.set(memory.subarray(offset + HEADER_SIZE, offset + size), HEADER_SIZE);
    if (Atomics.load(countersOf(memory), slot) !== view.getInt32(at + SharedPartAt.slotCounter, true)) {
      pool.give(part);
      return null;
    }
    const header = new DataView(part.buffer, part.byteOffset, HEADER_SIZE);
    header.setUint32(At.size, size, true);
    header.setUint8(PublishAt.part, PublishOp.PART);
    setUint64(header, SharedPartAt.memoryOffset, 0);
    header.setUint32(SharedPartAt.slotCounter, 0, true);
    return part;
  }

  /** Unmaps the peer's memory: no more frames come from it. */
  close(): void {
    this.#from?.sharing.close(this.#from.memory);
    this.#from = null;
  }
}
