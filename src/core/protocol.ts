/**
 * The frames: the one definition of everything that travels between a process and its arbiter and between an arbiter
 * and the server. native/src/wire.h is generated from the tables here.
 *
 * Every frame is a header of 40 bytes, little-endian, and a body; its size is a multiple of 8. An ordered operation
 * keeps the same frame all the way: the process fills kind, op, tag, offset, length, aux and body; the arbiter adds
 * rank and node; the server adds seq and sends it to every arbiter.
 */
import { Status } from "./errors.ts";
import { isAlignment } from "./heap.ts";
import {
  ADDRESS_FIRST,
  ADDRESS_NARROW_FIRST,
  ADDRESS_NARROW_SLOTS,
  ADDRESS_NARROW_STRIDE,
  ADDRESS_STRIDE,
  ADDRESS_WIDE_SLOTS,
  FRAME_MAX,
  NAME_MAX,
  NODE_NUMBER_MAX,
  PROTOCOL_VERSION,
  SEMAPHORE_VALUE_MAX,
  STORE_MAX,
} from "./limits.ts";

/** Where each field of the header is. [offset, bytes] */
export const HEADER = {
  size: [0, 4], // bytes of the frame with header and padding
  kind: [4, 1],
  op: [5, 1], // atomic operation, flags, or status
  rank: [6, 2], // issuing process
  tag: [8, 4], // chosen by the asker, comes back in the reply
  node: [12, 4], // issuing node
  seq: [16, 8], // from a process: 0; from an arbiter: running number of its proposals; from the server: place in the order
  offset: [24, 8], // place in the map, or a number the kind gives a meaning
  length: [32, 4], // bytes (or runs) the body holds
  aux: [36, 4],
} as const;
export const HEADER_SIZE = 40;

export const Kind = {
  /** First frame of a connection. offset: MAGIC, aux: PROTOCOL_VERSION. */
  HELLO: 1,
  /** The server's answer to an arbiter: JSON. op: 1 to an arbiter that comes back. */
  WELCOME: 2,
  /** Answer to a request. op: status, seq: place in the order, aux and body by kind; text when status is an error. */
  REPLY: 3,
  /** First frame of a further channel of a process: offset: MAGIC, aux: version, rank, body: token (8 bytes). */
  ATTACH: 4,
  /** First frame of one who asks how the session is. op: StatusOp, body for MEMORY: offset and length, 8 bytes each. Answer:
   * REPLY with JSON, or with the bytes of the map. */
  STATUS: 5,
  /** The connection ends; op: status, body: why, in words. */
  FAIL: 6,
  /** offset: page, length: bytes of the hole in it, aux: first byte of the hole in the page. The arbiter keeps the bytes of
   * this page outside the hole current in the shadow. MEMORY comes before the first. Answer: REPLY. */
  SHADOW: 7,
  /** offset: page. Ends SHADOW. Answer: REPLY. */
  UNSHADOW: 8,
  /** Pipelined: answered when all that was in the node's ring has been applied on this node. Answer: REPLY. */
  FENCE: 9,
  /** Pipelined: there is something in the ring, and the arbiter was asleep. No answer. */
  DOORBELL: 10,
  /** To a process: the part it named in a PUBLISH that is STAGED was taken, its place may be used again. offset: of that. */
  TAKEN: 11,
  /**
   * From a process: it needs memory that it shares with the arbiter. Answer: REPLY; aux: 1 if the descriptor of a new
   * anonymous file goes with its first byte (SCM_RIGHTS): the process's shadow, as large as the map, and behind that its
   * staging area. 0: the arbiter can share no memory; then SHADOW is refused, and no part may be STAGED.
   */
  MEMORY: 38,
  /** Before an arbiter's greeting: offset: MAGIC, aux: version, body: nonce. Answer: CHALLENGE, without a nonce where no
   * proof is demanded. See auth.ts. */
  CHALLENGE: 14,
  /** Answer to CHALLENGE, and the server's answer to that. body: proof. */
  PROOF: 15,
  /**
   * Between arbiter and server, when there was nothing else to say for a while. From an arbiter: offset: the last entry of
   * the order it has applied. From the server: offset: the last entry that all nodes have applied. op: PingOp.
   */
  PING: 12,
  /**
   * From a server that takes over: hand over your state. From the arbiter: a piece of it. op: StateOp, length: bytes in
   * the body, at most STATE_PIECE_MAX, offset: place in the map.
   */
  STATE: 13,

  /** offset: pid, aux: wished rank + 1 or 0, op: 1 if not in direct mode, body: name of the node, length: its bytes. */
  JOIN: 16,
  /** op: 0 left, 1 lost, aux: 1 if the server gave its node up: nothing of the node follows. */
  LEAVE: 17,
  /** body: `length` bytes to put at `offset`. */
  STORE: 18,
  /** op: AtomicOp, length: width, body: operand (16 bytes), compare (16 bytes). Reply body: old value (16 bytes). */
  ATOMIC: 19,
  /**
   * length: bytes of runs in the body, op: 1 if more parts of this entry follow, 2 (from an arbiter only, without runs)
   * if the rest will never come and the parts before are to be forgotten: that never enters the order. op: 3 (from a
   * process only, without a body): as 1, but the `length` bytes of runs are at `offset` of the process's staging area (see
   * MEMORY). Answer: TAKEN. op: 4 (between arbiter and server, without a body): as 1, but the frame
   * is at `offset` of the memory that the sender shares, and aux is its slot's counter.
   */
  PUBLISH: 20,
  BARRIER: 21,
  /** body: name, length: its bytes, aux: initial value, op: 1 for try. */
  SEM_WAIT: 22,
  /** body: name, length: its bytes, aux: initial value, offset: how much to add, 0 or 1. */
  SEM_POST: 23,
  /** Takes back the barrier, wait, sleep or lock with the same tag: it ends with TIMEOUT if it was still waiting. */
  SEM_CANCEL: 24,
  /** offset: bytes wanted, aux: alignment. Reply offset: where the block is. */
  ALLOC: 25,
  /** offset: where the block is. */
  FREE: 26,
  /** offset: bytes, aux: alignment, body: name, length: its bytes. Reply offset: where the block is. */
  NAMED: 27,
  /**
   * Sleep if the `length` bytes at `offset` equal the body (8 bytes): until WAKE, SEM_CANCEL, or not at all (AGAIN).
   * op: 1 if the comparison was made already (direct mode).
   */
  SLEEP: 28,
  /** offset: place, aux: how many sleepers to wake. Reply offset: how many were. */
  WAKE: 29,
  /** body: name, length: its bytes, op: 1 for try. OWNER_DIED in the answer: it is locked, but its last owner died with it. */
  LOCK: 30,
  /** body: name, length: its bytes, op: 1 to hand on OWNER_DIED as well: what the lock guards was not put in order. */
  UNLOCK: 31,

  /**
   * A piece of a map at one point of the order. body: runs as in PUBLISH, length: their bytes, at most PUBLISH_PART_MAX,
   * seq: behind which entry, op: 1 if more pieces follow, 0 for the last one. What no run names is zero. See picture.ts.
   */
  MAP: 32,
  /**
   * First frame of one who wants a picture of the session. Answer: REPLY with JSON (a SessionImage), then MAP to the last
   * one, all as at one place of the order; or FAIL.
   */
  SNAPSHOT: 33,
  /**
   * First frame of one who wants to see what happens. Answer: REPLY with JSON (TraceInfo), then TRACE again and again, every
   * TRACE_INTERVAL_MS (length: bytes of records in the body, aux: how many more were dropped; see trace.ts); or FAIL.
   */
  TRACE: 34,
  /**
   * Between arbiter and server on one host, either way: op: ShareOp; an offer of memory in which parts of publications lie:
   * offset: pid of its owner, aux: the owner's descriptor of it, body: 8 bytes that are in it; or that what was offered is
   * mapped, and parts may be LENT from now on. See lending.ts.
   */
  SHARE: 35,
  /**
   * In an elastic session, about the end of direct mode. From the server to the arbiter of the one node that has processes:
   * one of another node waits, change over. Between the arbiter and a process, on its main channel: op: ChangeOp. See
   * change-over.ts.
   */
  CHANGE: 36,
  /**
   * An ordered operation of the arbiter whose node ends direct mode: the bytes of its map. op: CopyOp, of PIECE length:
   * bytes of runs in the body, at most PUBLISH_PART_MAX.
   */
  COPY: 37,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Tag of what an arbiter or the server itself orders: nobody waits for its answer. */
export const NO_TAG = 0xffffffff;

export const ORDERED_FIRST = Kind.JOIN;
export const ORDERED_LAST = Kind.UNLOCK;

/** Equal to `enum dsm_atomic_op` in region.h. */
export const AtomicOp = { ADD: 1, AND: 2, OR: 3, XOR: 4, XCHG: 5, CMPXCHG: 6, NEG: 7 } as const;
export type AtomicOp = (typeof AtomicOp)[keyof typeof AtomicOp];

/**
 * What is wanted of a STATUS: the facts, with heat, or bytes of the map. END: that the session ends; the body is its
 * instance.
 */
export const StatusOp = { FACTS: 0, HEAT: 1, MEMORY: 2, END: 3 } as const;
/** LEAVING: the last frame of an arbiter that needs its place no more. ASK: the server wants an ANSWER at once. */
export const PingOp = { BEAT: 0, LEAVING: 1, ASK: 2, ANSWER: 3 } as const;

/** WATCH, from a process: it may write to the map, and waits on this connection to be told to CLOSE it. CLOSED: it has. */
export const ChangeOp = { WATCH: 0, CLOSE: 1, CLOSED: 2 } as const;
/** BEGIN: what other nodes have of the map is nothing. END: the last piece was before, and direct mode is over. */
export const CopyOp = { BEGIN: 0, PIECE: 1, END: 2 } as const;

export const PublishOp = { LAST: 0, MORE: 1, ABANDON: 2, STAGED: 3, LENT: 4 } as const;
/** JSON; bytes of the map, of which what is not sent is zero; entries of the order as they lie; all has been sent. */
export const StateOp = { SESSION: 1, MAP: 2, ENTRIES: 3, LAST: 4 } as const;
/** Most bytes of state in one frame. */
export const STATE_PIECE_MAX = 256 << 10;

/** "dsmwire" and a zero byte, read as two little-endian words. */
export const MAGIC_LOW = 0x776d7364;
export const MAGIC_HIGH = 0x00657269;

/** Body of a process's HELLO. */
export const PROCESS_HELLO = {
  pid: [0, 4],
  processes: [4, 4], // 0: whatever the session has
  size: [8, 8], // 0: whatever the session has
  wishedRank: [16, 4], // rank + 1, or 0
  order: [20, 1], // number of the order, 0: whatever the session has
  elastic: [21, 1], // 1: the session is to be elastic
  noDirect: [22, 1], // 1: this process does not want direct mode, 2: it could not be told of its end
  onLoss: [23, 1], // number of the choice, 0: whatever the session has
  session: [24, 64], // zero-padded
} as const;
export const PROCESS_HELLO_SIZE = 88;

/** Body of the reply to a process's HELLO, sent when the session starts. aux: rank. */
export const JOINED = {
  base: [0, 8],
  size: [8, 8],
  token: [16, 8],
  processes: [24, 4],
  node: [28, 4],
  nodeName: [32, 64],
  mapPath: [96, 160],
  order: [256, 4],
  /** 1: all processes are on one node, and this one maps the memory read-write. */
  direct: [260, 4],
  onLoss: [264, 4],
  elastic: [268, 4],
} as const;
export const JOINED_SIZE = 272;

/**
 * Pipelined: the ring in which the processes of a node queue their stores, behind the map's file and its page marks. All
 * words are of 4 bytes; those that different parties write lie in cache lines of their own. Positions count bytes, modulo
 * 2^32.
 *
 * A record is a STORE or PUBLISH frame as it will be ordered, and behind it, for each of its runs, the bytes that were
 * there before, padded to 8. A record never wraps: RING_WRAP in place of its size sends the reader to the beginning.
 */
export const RING = {
  /** Who may write the ring and what the node sees of the map: a process's number (see `numbers`), or RING_ARBITER; 0:
   * nobody. Process ids would not do: processes of different PID namespaces may have the same. */
  lock: [0, 4],
  /** End of the last record. */
  tail: [64, 4],
  /** Records before this place have been applied in the order; their room is free. */
  head: [128, 4],
  /** Not 0: the arbiter sleeps, for the n-th time (modulo 2^32). Ring the doorbell; then put 0, if it is still n. */
  sleeping: [192, 4],
  /** 1: some process sees pages through a shadow; stores are not queued meanwhile. */
  shadowed: [196, 4],
  /**
   * The number given last. A process that maps the ring adds 1, which is its number, and keeps an open file description
   * lock on the byte of the map's file at that number for as long as it may store: the kernel ends the lock with the process.
   */
  numbers: [200, 4],
} as const;
/** The arbiter's own number. */
export const RING_ARBITER = 0xffffffff;
export const RING_HEADER_SIZE = 4096;
export const RING_SIZE = 1 << 20;
/** Largest record; a larger store is not queued. */
export const RING_RECORD_MAX = RING_SIZE / 4;
export const RING_WRAP = 0xffffffff;
/** Position of the first record: every session soon passes the largest position there is. */
export const RING_START = 2 ** 32 - RING_SIZE;

/**
 * A run in a PUBLISH body: 8 bytes (offset in the low 40 bits, length in the high 24), then its bytes, padded to 8.
 *
 * A length with its highest bit set is that of a masked run, which changes some of the bytes of neighbouring aligned
 * words: the low 12 bits are the number of those bytes less 1, the next 9 the number of words less 1. Behind the 8 bytes
 * is a mask for each word (bit i: byte i changes), padded to 8, then the bytes that change, one behind the other, padded
 * to 8. So bytes that no one wrote do not travel, and a word is changed by one store.
 *
 * With the second highest bit set too the run is dense, which takes less where most words change as a whole: in place of
 * the masks are how many masks there are (8 bytes), a bit for each word that changes as a whole, padded to 8 bytes, and
 * the masks of the others, padded to 8.
 */
export const RUN_HEADER_SIZE = 8;
export const RUN_LENGTH_MAX = 0x7fffff;
export const RUN_MASKED = 0x800000;
export const RUN_DENSE = 0x400000;
export const RUN_WORDS_MAX = 512;
export const RUN_BYTES_BITS = 12;
/** Most bytes of runs in one PUBLISH part. */
export const PUBLISH_PART_MAX = 512 << 10;
/** Bytes of a process's staging area: four parts, one being made while the others are taken. */
export const STAGING_SIZE = 4 * PUBLISH_PART_MAX;

export const ATOMIC_BODY_SIZE = 32;

export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
  readonly status: Status;
  constructor(message: string, status: Status = Status.PROTOCOL) {
    super(message);
    this.status = status;
  }
}

export const padded = (bytes: number): number => (bytes + 7) & ~7;

export interface Frame {
  kind: Kind;
  op?: number;
  rank?: number;
  tag?: number;
  node?: number;
  seq?: number;
  offset?: number;
  length?: number;
  aux?: number;
  body?: Uint8Array;
}

/** Builds one frame. For frames off the hot path: stores are never rebuilt, only passed on. */
export function encode(frame: Frame): Uint8Array {
  const bodySize = frame.body?.length ?? 0;
  const bytes = new Uint8Array(padded(HEADER_SIZE + bodySize));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  bytes[4] = frame.kind;
  bytes[5] = frame.op ?? 0;
  view.setUint16(6, frame.rank ?? 0, true);
  view.setUint32(8, frame.tag ?? 0, true);
  view.setUint32(12, frame.node ?? 0, true);
  setUint64(view, 16, frame.seq ?? 0);
  setUint64(view, 24, frame.offset ?? 0);
  view.setUint32(32, frame.length ?? bodySize, true);
  view.setUint32(36, frame.aux ?? 0, true);
  if (frame.body) bytes.set(frame.body, HEADER_SIZE);
  return bytes;
}

/** A HELLO, ATTACH, STATUS or CHALLENGE: the first frame of a connection. */
export function encodeGreeting(kind: Kind, body: Uint8Array, fields: Partial<Frame> = {}): Uint8Array {
  const bytes = encode({ ...fields, kind, body, aux: PROTOCOL_VERSION });
  const view = new DataView(bytes.buffer);
  view.setUint32(24, MAGIC_LOW, true);
  view.setUint32(28, MAGIC_HIGH, true);
  return bytes;
}

/** Throws unless the frame at `at` greets in our protocol and version. */
export function checkGreeting(view: DataView, at: number): void {
  if (view.getUint32(at + 24, true) !== MAGIC_LOW || view.getUint32(at + 28, true) !== MAGIC_HIGH) {
    throw new ProtocolError("the peer does not speak dsm");
  }
  const version = view.getUint32(at + 36, true);
  if (version !== PROTOCOL_VERSION) {
    throw new ProtocolError(
      `the peer speaks protocol version ${version}, this is version ${PROTOCOL_VERSION}; install the same dsm on both`,
      Status.VERSION,
    );
  }
}

const encoder = new TextEncoder();
// A byte order mark is a character like any other: names that differ in one are different names.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

export const encodeText = (text: string): Uint8Array => encoder.encode(text);
export const encodeJson = (value: unknown): Uint8Array => encoder.encode(JSON.stringify(value));

/** The body's text: `length` bytes, or up to a zero byte in a fixed field. */
export function bodyText(bytes: Uint8Array, at: number, length: number): string {
  return decoder.decode(bytes.subarray(at, at + length));
}

export function fieldText(bytes: Uint8Array, at: number, size: number): string {
  const field = bytes.subarray(at, at + size);
  const end = field.indexOf(0);
  return decoder.decode(end < 0 ? field : field.subarray(0, end));
}

/** Numbers up to 2^53 in 8 bytes; more gives NaN, which no check lets through. */
export function getUint64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  return high > 0x1fffff ? Number.NaN : high * 2 ** 32 + view.getUint32(at, true);
}

export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

/** A run's offset and length without making an object of them. The length of a masked run is what its words take. */
export const runOffset = (view: DataView, at: number): number =>
  (view.getUint32(at + 4, true) & 0xff) * 2 ** 32 + view.getUint32(at, true);
export const runIsMasked = (view: DataView, at: number): boolean => view.getInt32(at + 4, true) < 0;
export const runLength = (view: DataView, at: number): number => {
  const length = view.getUint32(at + 4, true) >>> 8;
  return length < RUN_MASKED ? length : 8 * runWords(view, at);
};
/** Of a masked run: its words, and how many of their bytes change. */
export const runWords = (view: DataView, at: number): number => ((view.getUint32(at + 4, true) >>> 20) & 0x1ff) + 1;
export const runChanges = (view: DataView, at: number): number => ((view.getUint32(at + 4, true) >>> 8) & 0xfff) + 1;
export const runIsDense = (view: DataView, at: number): boolean => (view.getUint32(at + 4, true) & 0x40000000) !== 0;
/** Of a dense run: bytes of the bits, and how many words have masks. */
export const runBits = (view: DataView, at: number): number => padded((runWords(view, at) + 7) >>> 3);
export const runMasks = (view: DataView, at: number): number => view.getUint32(at + RUN_HEADER_SIZE, true) & 0x3ff;
/** Of a masked run: bytes between its header and the bytes that change. */
export const runMasksSize = (view: DataView, at: number): number =>
  runIsDense(view, at) ? 8 + runBits(view, at) + padded(runMasks(view, at)) : padded(runWords(view, at));
/** Bytes of the frame that the run takes, with its header. At least 16 bytes of it are there. */
export const runSize = (view: DataView, at: number): number =>
  runIsMasked(view, at)
    ? RUN_HEADER_SIZE + runMasksSize(view, at) + padded(runChanges(view, at))
    : RUN_HEADER_SIZE + padded(view.getUint32(at + 4, true) >>> 8);

/** Writes one run at `at` and returns where the next one begins. */
export function writeRun(view: DataView, at: number, offset: number, bytes: Uint8Array): number {
  view.setUint32(at, offset >>> 0, true);
  view.setUint32(at + 4, ((bytes.length << 8) | Math.floor(offset / 2 ** 32)) >>> 0, true);
  new Uint8Array(view.buffer, view.byteOffset).set(bytes, at + RUN_HEADER_SIZE);
  return at + RUN_HEADER_SIZE + padded(bytes.length);
}

/** Writes a masked run at `at`: `masks` of the words from `offset` on, and the bytes they stand for. */
export function writeMaskedRun(
  view: DataView,
  at: number,
  offset: number,
  masks: Uint8Array,
  changes: Uint8Array,
): number {
  const length = RUN_MASKED | ((masks.length - 1) << RUN_BYTES_BITS) | (changes.length - 1);
  view.setUint32(at, offset >>> 0, true);
  view.setUint32(at + 4, ((length << 8) | Math.floor(offset / 2 ** 32)) >>> 0, true);
  const bytes = new Uint8Array(view.buffer, view.byteOffset);
  bytes.set(masks, at + RUN_HEADER_SIZE);
  bytes.set(changes, at + RUN_HEADER_SIZE + padded(masks.length));
  return at + RUN_HEADER_SIZE + padded(masks.length) + padded(changes.length);
}

/** Bits set in `words` bytes at `at`; what pads them to 8 must be 0 and counts too. */
function countBits(view: DataView, at: number, bytes: number): number {
  let count = 0;
  // Neighbouring words are mostly changed alike.
  let last = 0;
  let lastCount = 0;
  for (let i = 0; i < bytes; i += 4) {
    const four = view.getInt32(at + i, true);
    if (four !== last) {
      last = four;
      let bits = four - ((four >>> 1) & 0x55555555);
      bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
      lastCount = Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
    }
    count += lastCount;
  }
  return count;
}

/** Whether a dense run says how many masks it has in the one way there is. */
const hasDenseCount = (view: DataView, run: number): boolean =>
  view.getUint32(run + RUN_HEADER_SIZE, true) === runMasks(view, run) &&
  view.getUint32(run + RUN_HEADER_SIZE + 4, true) === 0;

/** Whether it has a mask for each word that has no bit, and bits for its words only. */
function hasDenseForm(view: DataView, run: number): boolean {
  const words = runWords(view, run);
  const masks = runMasks(view, run);
  const bits = run + 2 * RUN_HEADER_SIZE;
  for (let word = words; word < 8 * runBits(view, run); word += 1) {
    if (((view.getUint8(bits + (word >>> 3)) >>> (word & 7)) & 1) !== 0) return false;
  }
  return countBits(view, bits, runBits(view, run)) === words - masks;
}

/** What is wrong with the runs between `from` and `end`, or null. */
function checkRuns(view: DataView, from: number, end: number, mapSize: number, ordered: boolean): string | null {
  for (let run = from; run < end; ) {
    const high = view.getUint32(run + 4, true);
    // Nearly all of many runs are plain ones: each of their words is read once.
    if (high < RUN_MASKED * 256) {
      const length = high >>> 8;
      const next = run + RUN_HEADER_SIZE + padded(length);
      if (next > end || length === 0) return "publish: a run does not fit its frame";
      if ((high & 0xff) * 2 ** 32 + view.getUint32(run, true) + length > mapSize)
        return "publish: a run outside the map";
      run = next;
      continue;
    }
    if (run + 2 * RUN_HEADER_SIZE > end) return "publish: a run does not fit its frame";
    const next = run + runSize(view, run);
    if (next > end || next <= run + RUN_HEADER_SIZE) return "publish: a run does not fit its frame";
    const offset = runOffset(view, run);
    if (offset + runLength(view, run) > mapSize) return "publish: a run outside the map";
    const isDense = runIsDense(view, run);
    if (isDense && !hasDenseCount(view, run)) return "publish: a run of no known form";
    if (!ordered) {
      if (
        offset % 8 !== 0 ||
        (view.getUint32(run + 4, true) & 0x20000000) !== 0 ||
        (isDense && !hasDenseForm(view, run))
      )
        return "publish: a run of no known form";
      const masks = run + RUN_HEADER_SIZE + (isDense ? 8 + runBits(view, run) : 0);
      const whole = isDense ? runWords(view, run) - runMasks(view, run) : 0;
      const changes = 8 * whole + countBits(view, masks, run + RUN_HEADER_SIZE + runMasksSize(view, run) - masks);
      if (changes !== runChanges(view, run)) return "publish: masks of other bytes";
    }
    run = next;
  }
  return null;
}

const SIZES_OF_WIDTH = [0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1];

/**
 * Whether the ordered operation at `at` is well formed for a map of `mapSize` bytes: everything apply() relies on. Null,
 * or what is wrong. The frame's size is already known to lie within the bytes received. `ordered`: the server has checked
 * it before; what takes long, the masks, is not checked again.
 */
export function checkOperation(view: DataView, at: number, mapSize: number, ordered = false): string | null {
  const size = view.getUint32(at, true);
  const kind = view.getUint8(at + 4);
  const length = view.getUint32(at + 32, true);
  const body = size - HEADER_SIZE;
  if (view.getUint32(at + 12, true) > NODE_NUMBER_MAX) return "no node has that number";
  switch (kind) {
    case Kind.STORE: {
      if (length < 1 || length > STORE_MAX || padded(length) !== body) return "store: length does not fit its frame";
      return inMap(view, at, length, mapSize) ? null : "store: outside the map";
    }
    case Kind.ATOMIC: {
      const op = view.getUint8(at + 5);
      if (body !== ATOMIC_BODY_SIZE) return "atomic: wrong body";
      if (op < AtomicOp.ADD || op > AtomicOp.NEG) return "atomic: no such operation";
      if (length > 16 || SIZES_OF_WIDTH[length] !== 1) return "atomic: no such width";
      return inMap(view, at, length, mapSize) ? null : "atomic: outside the map";
    }
    case Kind.PUBLISH: {
      if (length !== body || length > PUBLISH_PART_MAX) return "publish: length does not fit its frame";
      const op = view.getUint8(at + 5);
      if (op > PublishOp.ABANDON || (op === PublishOp.ABANDON && body !== 0)) return "publish: no such flag";
      return checkRuns(view, at + HEADER_SIZE, at + size, mapSize, ordered);
    }
    case Kind.SEM_WAIT:
    case Kind.SEM_POST:
      if (length < 1 || length > NAME_MAX || padded(length) !== body) return "semaphore: bad name length";
      if (view.getUint32(at + 36, true) > SEMAPHORE_VALUE_MAX) return "semaphore: initial value beyond the limit";
      if (view.getUint8(at + 5) > 1) return "semaphore: no such flag";
      if (kind === Kind.SEM_POST && !(getUint64(view, at + 24) <= 1)) return "semaphore: a post adds 0 or 1";
      return null;
    case Kind.LOCK:
    case Kind.UNLOCK:
      if (length < 1 || length > NAME_MAX || padded(length) !== body) return "lock: bad name length";
      return view.getUint8(at + 5) > 1 ? "lock: no such flag" : null;
    case Kind.ALLOC:
    case Kind.NAMED:
      if (kind === Kind.ALLOC ? body !== 0 : length < 1 || length > NAME_MAX || padded(length) !== body) {
        return "allocation: bad name length";
      }
      if (!(getUint64(view, at + 24) >= 1)) return "allocation: no size";
      return isAlignment(view.getUint32(at + 36, true)) ? null : "allocation: bad alignment";
    case Kind.SLEEP:
      if (body !== 8) return "sleep: wrong body";
      if (view.getUint8(at + 5) > 1) return "sleep: no such flag";
      if (length > 8 || SIZES_OF_WIDTH[length] !== 1) return "sleep: no such width";
      return inMap(view, at, length, mapSize) ? null : "sleep: outside the map";
    case Kind.FREE:
    case Kind.WAKE:
      if (body !== 0) return "unexpected body";
      return inMap(view, at, 1, mapSize) ? null : "outside the map";
    case Kind.LEAVE:
      if (view.getUint8(at + 5) > 1) return "leave: no such flag";
      return body === 0 ? null : "leave: unexpected body";
    case Kind.JOIN:
      if (view.getUint8(at + 5) > 1) return "join: no such flag";
      if (length < 1 || length > NAME_MAX || padded(length) !== body) return "join: bad node name length";
      return getUint64(view, at + 24) <= 0xffffffff ? null : "join: bad process id";
    case Kind.BARRIER:
    case Kind.SEM_CANCEL:
      return body === 0 ? null : "unexpected body";
    case Kind.COPY: {
      const op = view.getUint8(at + 5);
      if (length !== body || length > PUBLISH_PART_MAX) return "copy: length does not fit its frame";
      if (op > CopyOp.END || (op !== CopyOp.PIECE && body !== 0)) return "copy: no such flag";
      return checkRuns(view, at + HEADER_SIZE, at + size, mapSize, ordered);
    }
    default:
      return `no ordered operation has kind ${kind}`;
  }
}

/** Whether the MAP frame at `at` is well formed for a map of `mapSize` bytes. Null, or what is wrong. */
export function checkMap(view: DataView, at: number, mapSize: number): string | null {
  const size = view.getUint32(at, true);
  const length = view.getUint32(at + 32, true);
  if (length !== size - HEADER_SIZE || length > PUBLISH_PART_MAX) return "map: length does not fit its frame";
  if (view.getUint8(at + 5) > 1) return "map: no such flag";
  return checkRuns(view, at + HEADER_SIZE, at + size, mapSize, false);
}

function inMap(view: DataView, at: number, length: number, mapSize: number): boolean {
  return getUint64(view, at + 24) + length <= mapSize;
}

/** native/src/wire.h: what libdsm needs to know of the frames. */
export function wireHeader(): string {
  const lines = [
    "/* Frame layouts. Generated from src/core/protocol.ts by scripts/wire.ts: do not edit. */",
    "#ifndef DSM_WIRE_H",
    "#define DSM_WIRE_H",
    "",
    "#include <stddef.h>",
    "#include <stdint.h>",
    "",
    `#define WIRE_VERSION ${PROTOCOL_VERSION}u`,
    `#define WIRE_MAGIC 0x${MAGIC_HIGH.toString(16).padStart(8, "0")}${MAGIC_LOW.toString(16).padStart(8, "0")}ull`,
    `#define WIRE_FRAME_MAX ${FRAME_MAX}u`,
    `#define WIRE_PUBLISH_PART_MAX ${PUBLISH_PART_MAX}u`,
    `#define WIRE_RUN_LENGTH_MAX ${RUN_LENGTH_MAX}u`,
    `#define WIRE_RUN_MASKED ${RUN_MASKED}u`,
    `#define WIRE_RUN_DENSE ${RUN_DENSE}u`,
    `#define WIRE_RUN_WORDS_MAX ${RUN_WORDS_MAX}u`,
    `#define WIRE_RUN_BYTES_BITS ${RUN_BYTES_BITS}u`,
    `#define WIRE_STAGING_SIZE ${STAGING_SIZE}u`,
    `#define WIRE_NO_TAG ${NO_TAG}u`,
    `#define WIRE_RING_HEADER_SIZE ${RING_HEADER_SIZE}u`,
    `#define WIRE_RING_SIZE ${RING_SIZE}u`,
    `#define WIRE_RING_RECORD_MAX ${RING_RECORD_MAX}u`,
    `#define WIRE_RING_WRAP ${RING_WRAP}u`,
    `#define WIRE_RING_ARBITER ${RING_ARBITER}u`,
    ...Object.entries(RING).map(([name, [offset]]) => `#define WIRE_RING_${name.toUpperCase()} ${offset}u`),
    `#define WIRE_ADDRESS_FIRST 0x${ADDRESS_FIRST.toString(16)}ull`,
    `#define WIRE_ADDRESS_STRIDE 0x${ADDRESS_STRIDE.toString(16)}ull`,
    `#define WIRE_ADDRESS_SLOTS ${ADDRESS_WIDE_SLOTS}u`,
    `#define WIRE_ADDRESS_NARROW_FIRST 0x${ADDRESS_NARROW_FIRST.toString(16)}ull`,
    `#define WIRE_ADDRESS_NARROW_STRIDE 0x${ADDRESS_NARROW_STRIDE.toString(16)}ull`,
    `#define WIRE_ADDRESS_NARROW_SLOTS ${ADDRESS_NARROW_SLOTS}u`,
    "",
    "enum wire_kind {",
    ...Object.entries(Kind).map(([name, value]) => `  WIRE_${name} = ${value},`),
    "};",
    "",
    "enum wire_publish_op {",
    ...Object.entries(PublishOp).map(([name, value]) => `  WIRE_PUBLISH_${name} = ${value},`),
    "};",
    "",
    "enum wire_change_op {",
    ...Object.entries(ChangeOp).map(([name, value]) => `  WIRE_CHANGE_${name} = ${value},`),
    "};",
    "",
  ];
  const struct = (name: string, fields: Record<string, readonly [number, number]>, size: number): void => {
    lines.push(`struct wire_${name} {`);
    for (const [field, [, bytes]] of Object.entries(fields)) {
      const snake = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      lines.push(bytes > 8 ? `  char ${snake}[${bytes}];` : `  uint${bytes * 8}_t ${snake};`);
    }
    lines.push("};");
    for (const [field, [offset]] of Object.entries(fields)) {
      const snake = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      lines.push(`_Static_assert(offsetof(struct wire_${name}, ${snake}) == ${offset}, "${name}.${snake}");`);
    }
    lines.push(`_Static_assert(sizeof(struct wire_${name}) == ${size}, "${name}");`, "");
  };
  struct("header", HEADER, HEADER_SIZE);
  struct("process_hello", PROCESS_HELLO, PROCESS_HELLO_SIZE);
  struct("joined", JOINED, JOINED_SIZE);
  lines.push("#endif", "");
  return lines.join("\n");
}
