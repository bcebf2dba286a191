/**
 * Names of the header fields of each kind of frame: the one table from which scripts/wire.ts generates at.ts, for
 * TypeScript, and the structs of native/src/link/wire.h, for C.
 *
 * Five fields of the header mean the same in every frame: size, kind, rank, tag and node. The meaning of the others
 * (op, seq, offset, length and aux) depends on the kind, and each kind gives them here the names by which code reads
 * them. `body` is where the frame's body begins.
 */

/** Place and size of each field of the header. [offset, bytes] */
export const HEADER = {
  /** Bytes of the frame, header and padding included. */
  size: [0, 4],
  /** A value of `Kind`. */
  kind: [4, 1],
  /** An operation, a flag, or a status. */
  op: [5, 1],
  /** Process that issued the operation. */
  rank: [6, 2],
  /** Chosen by the requester; the reply carries it back. */
  tag: [8, 4],
  /** Node that issued the operation. */
  node: [12, 4],
  /** Of an ordered operation: its number as a proposal, from the arbiter; its number in the log, from the server. */
  seq: [16, 8],
  offset: [24, 8],
  length: [32, 4],
  aux: [36, 4],
} as const;
export const HEADER_SIZE = 40;

export type HeaderField = keyof typeof HEADER;
/** A field of the header, or a number of bytes from the beginning of the body. */
type Place = HeaderField | { body: number };

const NAME = { nameLength: "length", name: { body: 0 } } as const satisfies Record<string, Place>;
const RUNS = { runsLength: "length", runs: { body: 0 } } as const satisfies Record<string, Place>;

/** Fields of each kind, or of several kinds of one shape, by the name of that kind in code. */
export const FRAMES = {
  /** HELLO, ATTACH, STATUS, SNAPSHOT, TRACE and CHALLENGE begin a connection. */
  handshake: { magic: "offset", version: "aux", bodyLength: "length", body: { body: 0 } },
  welcome: { isResume: "op", bodyLength: "length", body: { body: 0 } },
  reply: {
    status: "op",
    seq: "seq",
    value: "offset",
    bodyLength: "length",
    relatedRank: "aux",
    oldValue: { body: 0 },
    text: { body: 0 },
  },
  fail: { status: "op", textLength: "length", text: { body: 0 } },
  status: {
    query: "op",
    instanceLength: "length",
    instance: { body: 0 },
    mapOffset: { body: 0 },
    mapLength: { body: 8 },
  },
  pageShadow: { page: "offset", holeLength: "length", holeFrom: "aux" },
  /** The reply to MEMORY. */
  memory: { isShared: "aux" },
  taken: { stagingOffset: "offset" },
  ping: { op: "op", appliedThrough: "offset", askedAt: "aux" },
  state: { piece: "op", mapOffset: "offset", pieceLength: "length", pieceBytes: { body: 0 } },
  join: { refusesDirect: "op", pid: "offset", wishedRank: "aux", ...NAME },
  leave: { isLost: "op", gaveUp: "length", isEvicted: "aux" },
  store: { mapOffset: "offset", bytesLength: "length", bytes: { body: 0 } },
  atomic: { op: "op", mapOffset: "offset", width: "length", operand: { body: 0 }, compare: { body: 16 } },
  publish: { part: "op", ...RUNS },
  stagedPart: { part: "op", stagingOffset: "offset", runsLength: "length" },
  sharedPart: { part: "op", memoryOffset: "offset", frameLength: "length", slotCounter: "aux" },
  barrier: { passed: "offset" },
  semaphore: { tryOnly: "op", increment: "offset", initial: "aux", ...NAME },
  semWait: { mayReturn: "offset" },
  cancel: { isSentBack: "op" },
  semValue: { value: "offset", ...NAME },
  allocate: { bytes: "offset", alignment: "aux", ...NAME },
  free: { mapOffset: "offset" },
  futexWait: { isCompared: "op", mapOffset: "offset", width: "length", expected: { body: 0 } },
  futexWake: { mapOffset: "offset", count: "aux" },
  lock: { tryOnly: "op", usesCell: "aux", ...NAME },
  unlock: { keepsMark: "op", isShort: "aux", ...NAME },
  return: { isOwned: "op", wasAsked: "aux", ...NAME },
  condWait: { mapOffset: "offset", ...NAME },
  condSignal: { mapOffset: "offset", count: "aux" },
  rwLock: { tryOnly: "op", mapOffset: "offset", isWriter: "aux" },
  rwUnlock: { keepsMark: "op", mapOffset: "offset" },
  arrive: { mapOffset: "offset", count: "aux" },
  objectInit: { objectKind: "op", mapOffset: "offset", initial: "aux" },
  map: { hasMore: "op", seq: "seq", ...RUNS },
  trace: { recordsLength: "length", dropped: "aux", records: { body: 0 } },
  share: { op: "op", pid: "offset", memoryDescriptor: "aux", nonce: { body: 0 } },
  change: { op: "op" },
  copy: { op: "op", ...RUNS },
} as const satisfies Record<string, Record<string, Place>>;

/** Where a field begins in its frame. */
export const placeOf = (place: Place): number =>
  typeof place === "string" ? HEADER[place][0] : HEADER_SIZE + place.body;
