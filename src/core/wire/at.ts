/**
 * Where each field begins in its frame, by name. Generated from fields.ts by scripts/wire.ts: do not edit.
 */
export const HEADER_SIZE = 40;

/** Fields of the header, by the names they have in every frame. */
export const At = {
  size: 0,
  kind: 4,
  op: 5,
  rank: 6,
  tag: 8,
  node: 12,
  seq: 16,
  offset: 24,
  length: 32,
  aux: 36,
} as const;

/** The same in words of 4 bytes, for loops over a Uint32Array. */
export const WordAt = {
  size: 0,
  kind: 1,
  tag: 2,
  node: 3,
  seq: 4,
  seqHigh: 5,
  offset: 6,
  offsetHigh: 7,
  length: 8,
  aux: 9,
} as const;

export const HandshakeAt = { magic: 24, version: 36, bodyLength: 32, body: 40 } as const;
export const WelcomeAt = { isResume: 5, bodyLength: 32, body: 40 } as const;
export const ReplyAt = {
  status: 5,
  seq: 16,
  value: 24,
  bodyLength: 32,
  relatedRank: 36,
  oldValue: 40,
  text: 40,
} as const;
export const FailAt = { status: 5, textLength: 32, text: 40 } as const;
export const StatusAt = { query: 5, instanceLength: 32, instance: 40, mapOffset: 40, mapLength: 48 } as const;
export const PageShadowAt = { page: 24, holeLength: 32, holeFrom: 36 } as const;
export const MemoryAt = { isShared: 36 } as const;
export const TakenAt = { stagingOffset: 24 } as const;
export const PingAt = { op: 5, appliedThrough: 24, askedAt: 36 } as const;
export const StateAt = { piece: 5, mapOffset: 24, pieceLength: 32, pieceBytes: 40 } as const;
export const JoinAt = { refusesDirect: 5, pid: 24, wishedRank: 36, nameLength: 32, name: 40 } as const;
export const LeaveAt = { isLost: 5, gaveUp: 32, isEvicted: 36 } as const;
export const StoreAt = { mapOffset: 24, bytesLength: 32, bytes: 40 } as const;
export const AtomicAt = { op: 5, mapOffset: 24, width: 32, operand: 40, compare: 56 } as const;
export const PublishAt = { part: 5, runsLength: 32, runs: 40 } as const;
export const StagedPartAt = { part: 5, stagingOffset: 24, runsLength: 32 } as const;
export const SharedPartAt = { part: 5, memoryOffset: 24, frameLength: 32, slotCounter: 36 } as const;
export const BarrierAt = { passed: 24 } as const;
export const SemaphoreAt = { tryOnly: 5, increment: 24, initial: 36, nameLength: 32, name: 40 } as const;
export const SemWaitAt = { mayReturn: 24 } as const;
export const CancelAt = { isSentBack: 5 } as const;
export const SemValueAt = { value: 24, nameLength: 32, name: 40 } as const;
export const AllocateAt = { bytes: 24, alignment: 36, nameLength: 32, name: 40 } as const;
export const FreeAt = { mapOffset: 24 } as const;
export const FutexWaitAt = { isCompared: 5, mapOffset: 24, width: 32, expected: 40 } as const;
export const FutexWakeAt = { mapOffset: 24, count: 36 } as const;
export const LockAt = { tryOnly: 5, usesCell: 36, nameLength: 32, name: 40 } as const;
export const UnlockAt = { keepsMark: 5, isShort: 36, nameLength: 32, name: 40 } as const;
export const ReturnAt = { isOwned: 5, wasAsked: 36, nameLength: 32, name: 40 } as const;
export const CondWaitAt = { mapOffset: 24, nameLength: 32, name: 40 } as const;
export const CondSignalAt = { mapOffset: 24, count: 36 } as const;
export const RwLockAt = { tryOnly: 5, mapOffset: 24, isWriter: 36 } as const;
export const RwUnlockAt = { keepsMark: 5, mapOffset: 24 } as const;
export const ArriveAt = { mapOffset: 24, count: 36 } as const;
export const ObjectInitAt = { objectKind: 5, mapOffset: 24, initial: 36 } as const;
export const MapAt = { hasMore: 5, seq: 16, runsLength: 32, runs: 40 } as const;
export const TraceAt = { recordsLength: 32, dropped: 36, records: 40 } as const;
export const ShareAt = { op: 5, pid: 24, memoryDescriptor: 36, nonce: 40 } as const;
export const ChangeAt = { op: 5 } as const;
export const CopyAt = { op: 5, runsLength: 32, runs: 40 } as const;
