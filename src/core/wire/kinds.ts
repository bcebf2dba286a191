/**
 * Kinds of frames, and the operations and flags that some of them carry. src/core/wire/README.md has the table of kinds
 * with who sends each; fields.ts names their fields.
 */
export const Kind = {
  /** First frame of a connection. offset: MAGIC, aux: PROTOCOL_VERSION. */
  HELLO: 1,
  /** The server's answer to an arbiter: JSON. op: 1 to an arbiter that comes back. */
  WELCOME: 2,
  /** Answer to a request. op: status, seq: place in the log, aux and body by kind; text when status is an error. */
  REPLY: 3,
  /** First frame of a further channel of a process: offset: MAGIC, aux: version, rank, body: token (8 bytes). */
  ATTACH: 4,
  /**
   * First frame of a connection that asks for a session's status. op: StatusOp, body for MEMORY: offset and length, 8
   * bytes each. Answer: REPLY with JSON, or with the bytes of the map.
   */
  STATUS: 5,
  /** The sender closes the connection; op: status, body: the reason, as text. */
  FAIL: 6,
  /**
   * offset: page, length: bytes of the hole in it, aux: first byte of the hole in the page. The arbiter keeps the bytes
   * of this page outside the hole current in the shadow. MEMORY must come before the first SHADOW. Answer: REPLY.
   */
  SHADOW: 7,
  /** offset: page. Ends SHADOW. Answer: REPLY. */
  UNSHADOW: 8,
  /** Pipelined: answered when all stores that were in the node's ring have been applied on this node. Answer: REPLY. */
  FENCE: 9,
  /** Pipelined: the ring has records, and the arbiter was asleep. No answer. */
  DOORBELL: 10,
  /**
   * To a process: the part that it named in a PUBLISH with PART_IN_STAGING was taken, and its place may be reused. offset: that
   * place.
   */
  TAKEN: 11,
  /**
   * From a process: it needs memory that it shares with the arbiter. Answer: REPLY; aux: 1 if the descriptor of a new
   * anonymous file goes with its first byte (SCM_RIGHTS). The file has the process's shadow, as large as the map, and
   * behind that its staging area. aux: 0 if the arbiter can share no memory; then SHADOW is refused, and no part may be
   * PART_IN_STAGING.
   */
  MEMORY: 38,
  /**
   * Before an arbiter's handshake. offset: MAGIC, aux: version, body: nonce. Answer: CHALLENGE, without a nonce where
   * the server demands no proof. See access/auth.ts.
   */
  CHALLENGE: 14,
  /** Answer to CHALLENGE, and the server's answer to that. body: proof. */
  PROOF: 15,
  /**
   * Between arbiter and server, when no other frame was sent for a while. From an arbiter: offset: the last entry of
   * the log it has applied. From the server: offset: the last entry that all nodes have applied. op: PingOp, aux: of
   * RENEW and RENEWED the arbiter's clock when it asked.
   */
  PING: 12,
  /**
   * From a server that takes over: asks the arbiter for its state. From the arbiter: a piece of that. op: StateOp,
   * length: bytes in the body, at most STATE_PIECE_MAX, offset: place in the map.
   */
  STATE: 13,

  /** offset: pid, aux: wished rank + 1 or 0, op: 1 if not in direct mode, body: name of the node, length: its bytes. */
  JOIN: 16,
  /**
   * op: 0 left, 1 lost, length: 1 if it has waited for the session to begin for as long as it may, aux: 1 if the server
   * evicted the node: no entry of the node follows.
   */
  LEAVE: 17,
  /** body: `length` bytes to put at `offset`. */
  STORE: 18,
  /** op: AtomicOp, length: width, body: operand (16 bytes), compare (16 bytes). Reply body: old value (16 bytes). */
  ATOMIC: 19,
  /**
   * length: bytes of runs in the body. op: see PublishOp. 1: more parts of this entry follow. 2 (from an arbiter only,
   * without runs): the rest will never come, and the parts before are dropped; this never enters the log. 3 (from a
   * process only, without a body): as 1, but the `length` bytes of runs are at `offset` of the process's staging area
   * (see MEMORY); answer: TAKEN. 4 (between arbiter and server, without a body): as 1, but the frame is at `offset` of
   * the memory that the sender shares, and aux is its slot's counter.
   */
  PUBLISH: 20,
  /** offset: 0. From an arbiter in direct mode: so many barriers its processes have passed by themselves; NO_TAG. */
  BARRIER: 21,
  /**
   * body: name, length: its bytes, aux: initial value, op: 1 for try, offset: 1 if its process knows the semaphore's cell
   * (replica/cells), so that the answer may be AGAIN although it is no try.
   */
  SEM_WAIT: 22,
  /** body: name, length: its bytes, aux: initial value, offset: how much to add, 0 or 1. */
  SEM_POST: 23,
  /**
   * Cancels the barrier, wait, sleep or lock with the same tag: it ends with TIMEOUT if it was still waiting. op: 1 from an
   * arbiter only, for a LOCK whose aux is 1 or a SEM_WAIT whose offset is 1: it ends with AGAIN instead, and its process tries
   * the cell again.
   */
  SEM_CANCEL: 24,
  /**
   * offset: bytes requested, aux: alignment. Reply offset: where the block is; for NO_MEMORY the bytes that the map would
   * need for it, 0 if the session has all the blocks it can have.
   */
  ALLOC: 25,
  /** offset: where the block is. */
  FREE: 26,
  /**
   * offset: bytes, aux: alignment, body: name, length: its bytes. Reply offset: as for ALLOC; for MISMATCH the size that
   * the block of that name has.
   */
  NAMED: 27,
  /**
   * Sleeps if the `length` bytes at `offset` equal the body (8 bytes): until FUTEX_WAKE or SEM_CANCEL. If they differ, the
   * answer is AGAIN. op: 1 if the comparison was made already (direct mode).
   */
  FUTEX_WAIT: 28,
  /** offset: place, aux: how many sleepers to wake. Reply offset: how many were woken. */
  FUTEX_WAKE: 29,
  /**
   * body: name, length: its bytes, op: 1 for try, aux: 1 if its process knows the lock's cell (replica/cells), so that the
   * answer may be AGAIN although it is no try. Answer OWNER_DIED: locked, but a previous owner left without unlocking.
   */
  LOCK: 30,
  /**
   * body: name, length: its bytes, op: 1 if the data was not made consistent, so that the next owner gets OWNER_DIED,
   * too, aux: 1 if the process had the lock for less than 1 ms.
   */
  UNLOCK: 31,

  /**
   * A piece of a map at one point of the log. body: runs as in PUBLISH, length: their bytes, at most PUBLISH_PART_MAX,
   * seq: the entry that it follows, op: 1 if more pieces follow, 0 for the last one. Bytes that no run names are zero.
   * See memory/map-snapshot.ts.
   */
  MAP: 32,
  /**
   * First frame of a connection that asks for a snapshot. Answer: REPLY with JSON (a SavedSession), then MAP frames up
   * to the last one, all of one point of the log; or FAIL.
   */
  SNAPSHOT: 33,
  /**
   * First frame of a connection that asks for a trace. Answer: REPLY with JSON (TraceInfo), then a TRACE every
   * TRACE_INTERVAL_MS (length: bytes of records in the body, aux: how many more were dropped; see observe/trace.ts); or
   * FAIL.
   */
  TRACE: 34,
  /**
   * Between arbiter and server on one host, in both directions. op: ShareOp. OFFER: the sender has memory for parts of
   * publications; offset: pid of its owner, aux: the owner's descriptor of it, body: 8 bytes (a nonce) that lie in it.
   * ACCEPT: the sender has mapped the offered memory, and parts may lie in it from now on. See shared-parts.ts.
   */
  SHARE: 35,
  /**
   * In an elastic session, about the end of direct mode. From the server to the arbiter of the one node that has
   * processes: a process of another node waits, end direct mode (CLOSE). Between the arbiter and a process, on its main
   * channel: op: ChangeOp. See replica/direct-mode-exit.ts. In any session, from the server to an arbiter: RETURN.
   */
  CHANGE: 36,
  /**
   * An ordered operation of the arbiter whose node ends direct mode: the bytes of its map. op: CopyOp, of PIECE length:
   * bytes of runs in the body, at most PUBLISH_PART_MAX.
   */
  COPY: 37,
  /**
   * An ordered operation of the arbiter of a node in direct mode. body: name, length: its bytes, offset: the value of the
   * semaphore, which processes have changed by its cell: see replica/cells/semaphore-cells.ts.
   */
  SEM_VALUE: 39,
  /**
   * An ordered operation of an arbiter: its node gives back the lease of a lock. body: name, length: its bytes, op: 1 if
   * the process `rank` has the lock, aux: 1 if the server has asked for it (CHANGE with RETURN).
   */
  RETURN: 40,

  /**
   * offset: a condition in the map, body: name of a mutex that the process has, length: its bytes. Unlocks the mutex and
   * waits, as one step. Answer OK (a COND_SIGNAL), or TIMEOUT (a SEM_CANCEL): the process has the mutex again; OWNER_DIED: it
   * has it, too, but a previous owner left without unlocking (aux: its rank). Any other status: it does not have it.
   */
  COND_WAIT: 41,
  /**
   * offset: a condition in the map, aux: how many of its waiters go on, first come first: each once it has its mutex. Reply
   * offset: how many.
   */
  COND_SIGNAL: 42,
  /**
   * offset: a reader-writer lock in the map, op: 1 for try, aux: 1 for writing. Answer OWNER_DIED: locked, but a writer left
   * without unlocking.
   */
  RW_LOCK: 43,
  /**
   * offset: a reader-writer lock in the map that the process has, op: 1 if the data was not made consistent after OWNER_DIED
   * (of a writer only).
   */
  RW_UNLOCK: 44,
  /**
   * offset: a barrier in the map, aux: how many must arrive, 1 to ARRIVALS_MAX. Reply offset: 1 for the last that arrived,
   * else 0; for MISMATCH the number that others who wait have given; for TIMEOUT how many more had to arrive.
   */
  ARRIVE: 45,
  /**
   * offset: an object in the map, op: ObjectKind, aux: of a semaphore its value, else 0. Gives it its first state again. Answer
   * BUSY: a process has it or waits for it.
   */
  OBJECT_INIT: 46,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** Tag of operations that an arbiter or the server issues itself: no process waits for the reply. */
export const NO_TAG = 0xffffffff;

/** Whether entries may have that kind: operations of processes, and what arbiters say themselves. */
export const isOrdered = (kind: number): boolean =>
  isProcessOperation(kind) || kind === Kind.COPY || kind === Kind.SEM_VALUE || kind === Kind.RETURN;
/** Whether it is an operation that a process may ask for; of a process's JOIN its arbiter makes the frame. */
export const isProcessOperation = (kind: number): boolean =>
  (kind >= Kind.JOIN && kind <= Kind.UNLOCK) || (kind >= Kind.COND_WAIT && kind <= Kind.OBJECT_INIT);

/** The kinds of objects in the map. */
export const ObjectKind = { MUTEX: 1, SEMAPHORE: 2, CONDITION: 3, RW_LOCK: 4, BARRIER: 5 } as const;
export type ObjectKind = (typeof ObjectKind)[keyof typeof ObjectKind];

/** Equal to `enum dsm_atomic_op` in native/src/trap/sink.h. */
export const AtomicOp = { ADD: 1, AND: 2, OR: 3, XOR: 4, XCHG: 5, CMPXCHG: 6, NEG: 7 } as const;
export type AtomicOp = (typeof AtomicOp)[keyof typeof AtomicOp];

/**
 * What a STATUS asks for: the facts, the facts with heat, or bytes of the map. END: asks the server to end the session;
 * the body is the session's instance.
 */
export const StatusOp = { FACTS: 0, HEAT: 1, MEMORY: 2, END: 3 } as const;
/**
 * LEAVING: last frame of an arbiter that needs its place no more. ASK: the server wants an ANSWER at once. RENEW, from an
 * arbiter that has leases: it wants RENEWED, with the same `askedAt`.
 */
export const PingOp = { BEAT: 0, LEAVING: 1, ASK: 2, ANSWER: 3, RENEW: 4, RENEWED: 5 } as const;

/**
 * WATCH, from a process: it may write to the map, and waits on this connection for CLOSE. CLOSED: it has closed the
 * map. RETURN, from the server to an arbiter: it must give back its leases.
 */
export const ChangeOp = { WATCH: 0, CLOSE: 1, CLOSED: 2, RETURN: 3 } as const;
/** BEGIN: discards what other nodes have of the map. END: the last piece came before, and direct mode is over. */
export const CopyOp = { BEGIN: 0, PIECE: 1, END: 2 } as const;

export const PublishOp = { FINAL: 0, PART: 1, ABORT: 2, PART_IN_STAGING: 3, PART_IN_SHARED_MEMORY: 4 } as const;
/**
 * SESSION: JSON. MAP: bytes of the map; what is not sent is zero. ENTRIES: entries of the log as they lie. LAST: the
 * end.
 */
export const StateOp = { SESSION: 1, MAP: 2, ENTRIES: 3, LAST: 4 } as const;

/** Most bytes of state in one STATE frame. */
export const STATE_PIECE_MAX = 256 << 10;
