/**
 * The arbiter without its sockets: keeps this node's replica by applying the order, stamps what the node's processes
 * ask for and passes it on, and answers them when their own operation has been applied here.
 *
 * A process has one main channel, whose end is the process's end, and may attach further ones so that several threads
 * (and promises) have requests under way at once. A request is known by its tag; in the order the tag's high half is
 * the channel it came from, so an answer finds its way without a table.
 *
 * The connection to the server may break and come back. Invariants: each entry of the order is applied once, in sequence,
 * and one of several parts only when all parts are there; each operation passed on is kept until it comes back with its
 * place, and those that the server has not ordered are passed on again, in their order; entries that another node may
 * lack are in the tail.
 */
import { COPY_PACE, type CopyPace, encodeCopy, MapCopy } from "./change-over.ts";
import { Status } from "./errors.ts";
import { FrameReader, PartPool } from "./frames.ts";
import {
  CHANNEL_REQUESTS_MAX,
  CHANNELS_MAX,
  FRAME_MAX,
  GREETING_FRAME_MAX,
  NODE_NUMBER_MAX,
  PAGE_SIZE,
} from "./limits.ts";
import { onLossNumber, onLossOfNumber } from "./loss.ts";
import { type ApplyRuns, isZero, MapBytes } from "./memory.ts";
import type { NodeState } from "./node-state.ts";
import { orderNumber, orderOfNumber } from "./order.ts";
import type { Sent } from "./outbox.ts";
import { OverlayMap } from "./overlay.ts";
import { MapOp } from "./picture.ts";
import {
  ChangeOp,
  CopyOp,
  checkGreeting,
  checkMap,
  checkOperation,
  encode,
  encodeJson,
  encodeText,
  fieldText,
  getUint64,
  HEADER_SIZE,
  JOINED,
  JOINED_SIZE,
  Kind,
  NO_TAG,
  ORDERED_FIRST,
  ORDERED_LAST,
  PROCESS_HELLO,
  PROCESS_HELLO_SIZE,
  ProtocolError,
  PUBLISH_PART_MAX,
  PublishOp,
  padded,
  RUN_HEADER_SIZE,
  runIsMasked,
  runLength,
  runOffset,
  runSize,
  STAGING_SIZE,
  STATE_PIECE_MAX,
  StateOp,
  setUint64,
} from "./protocol.ts";
import { notQueued, type RecordTaker, type Ring } from "./ring.ts";
import { checkExpectations, type Resume, type Resumed, stagedLimit, type Welcome } from "./sequencer.ts";
import { bringsMap, type Effects, Session } from "./session.ts";
import { StoreBatch } from "./store-batch.ts";
import { Tail } from "./tail.ts";

export interface ReplicaOutput {
  /** Whole frames for the log; valid during the call only, or, with `sent`, until that is called. */
  propose(bytes: Uint8Array, sent?: Sent): void;
  /** To one channel; valid during the call only. */
  reply(channel: number, bytes: Uint8Array): void;
  /** Close the channel after what was sent. */
  close(channel: number): void;
  /** 8 random bytes: what a process shows to attach further channels. */
  token(): Uint8Array;
  /** Sends the answer, and with it new memory that we share with the process at that channel. Null: nothing was sent. */
  lend(channel: number, answer: Uint8Array): LentMemory | null;
  /** What lend() gave is needed no more: its process is gone. */
  unmap(memory: Uint8Array): void;
  /** The last process of this node is gone, or the session has ended. */
  done(): void;
}

/** Memory that a process and its arbiter share, zeroed: see MEMORY in protocol.ts. */
export interface LentMemory {
  /** As large as the map. */
  shadow: Uint8Array;
  /** STAGING_SIZE bytes. */
  staging: Uint8Array;
}

/** A part of a publication of this node, until the publication has come back. */
interface KeptPart {
  bytes: Uint8Array<ArrayBuffer>;
  /** Tells its process that the part has left; null once it has. */
  taken: (() => void) | null;
  /** How many connections have it to send: nobody else may use the memory. */
  leaving: number;
  /** It is needed no more, but for those. */
  dropped: boolean;
}

const NO_PARTS: readonly KeptPart[] = [];

/** A page of which one process has a copy of its own, because holes of it cover the page in part. */
interface Shadow {
  page: number;
  memory: MapBytes;
  /** The holes' bytes in this page, which are the process's own: [from, to) of the map, ascending. */
  holes: { from: number; to: number }[];
}

interface Process {
  channel: number;
  pid: number;
  /** -1 until the order gave one. */
  rank: number;
  token: Uint8Array;
  state: "joining" | "running" | "leaving" | "left";
  /** The process is there no more; as soon as its rank is known the order is told. */
  dead: boolean;
  /** It is to trap also in direct mode. */
  noDirect: boolean;
  /** It was told that it may write to the map, and has not said that it does not any more; it waits to be told so. */
  mayWrite: boolean;
  watches: boolean;
  channels: Set<number>;
  /** Bytes of its publications of which the last part has not come. */
  publishingBytes: number;
  /** Where it puts the parts of its publications, once it has asked for memory, and how many of them are on their way. */
  staging: Uint8Array | null;
  stagedParts: number;
  /** All of its shadow, once it has asked for memory. */
  shadow: MapBytes | null;
  shadows: Map<number, Shadow>;
}

interface Channel {
  index: number;
  reader: FrameReader;
  process: Process | null;
  /** Requests that are not answered. */
  requests: number;
  /** Publications of which the last part has not come: bytes so far, by tag. */
  publishing: Map<number, number>;
  /** Frames that wait for the end of direct mode. */
  held: number;
  open: boolean;
}

/** Bytes of the largest vector store. */
const WORDS_MAX = 64;

/** The end of direct mode, from when the processes are asked to close the map: see change-over.ts. */
interface Change {
  copy: MapCopy | null;
  held: { channel: Channel; frame: Uint8Array }[];
}

const REASONS: Partial<Record<Status, string>> = {
  [Status.FULL]: "the session has all its processes already; this is one too many",
  [Status.ENDED]: "the session has ended",
  [Status.LIMIT]:
    "a limit of the session is reached (semaphores, locks, waiting requests, or processes waiting for its end)",
  [Status.OVERFLOW]: "the semaphore has its largest value already",
  [Status.BUSY]: "this process is in the barrier, or has or waits for that lock, already",
  [Status.NOT_OWNER]: "this process does not have that lock",
  [Status.LEFT]: "this process has left the session",
  [Status.NO_MEMORY]: "the map has no gap of that size; allocate less, free blocks, or make the session larger",
  [Status.MISMATCH]: "the block of that name has another size; give all the same",
  [Status.SYSTEM]:
    "this node's arbiter can share no memory with its processes, so holes must begin and end on pages (multiples of 4096)",
  [Status.INVALID]:
    "the name is not valid (use 1 to 63 bytes without slash or control characters), or no block begins there",
};

export class Replica {
  readonly session: Session;
  protected readonly copyPace: CopyPace = COPY_PACE;
  /** The last entry before the epoch of each server that has taken over, and the newest that we have turned to. */
  #starts: number[];
  #promised: number;
  /** Whether it has the bytes of the map from the beginning. */
  #whole: boolean;
  readonly #node: number;
  readonly #nodeName: string;
  readonly #mapPath: string;
  readonly #atomics: Uint8Array;
  readonly #memory: MapBytes;
  readonly #out: ReplicaOutput;
  readonly #effects: Effects;
  #log = new FrameReader(FRAME_MAX);
  /** Parts of the publication whose last part comes next. */
  #entryParts: Uint8Array<ArrayBuffer>[] = [];
  #partsBytes = 0;
  /** The frame that part() was given. */
  #owned: Uint8Array<ArrayBuffer> | null = null;
  /** Entries that another node may lack. */
  readonly #tail: Tail;
  /** The last entry that came from the log. */
  #confirmed: number;
  readonly #channels: (Channel | undefined)[] = [];
  #freeChannels: number[] = [];
  readonly #processes = new Set<Process>();
  readonly #byRank = new Map<number, Process>();
  readonly #shadows = new Set<Shadow>();
  readonly #parts: PartPool;
  readonly #reply = new Uint8Array(HEADER_SIZE + 16);
  readonly #replyView = new DataView(this.#reply.buffer);
  #answersAtomic = false;
  /** Pipelined: where the node's processes queue their stores, and who waits until how many of them are applied. */
  readonly #ring: Ring | null;
  readonly #overlay: OverlayMap | null;
  readonly #batch: StoreBatch;
  readonly #taker: RecordTaker = {
    quick: (words, at, room) => this.#takeWords(words, at, room),
    size: (view, size) =>
      this.#mayQueue(view.getUint16(6, true)) ? this.#storeSize(view, size) : Number.POSITIVE_INFINITY,
    record: (view, bytes, size) => this.#takeRecord(view, bytes, size),
  };
  /** A rank that may queue stores: the last one that was looked for. */
  #queuesRank = -1;
  #holdsLock = false;
  #awaitsMap: boolean;
  #fences: { upTo: number; tag: number }[] = [];
  /** Operations passed on that have not come back with their place, by their running numbers. */
  readonly #proposals = new Tail(0);
  #proposed = 0;
  #returned = 0;
  /** Parts of publications passed on: by the number of the last part, or by tag as long as it has not come. */
  readonly #partsOf = new Map<number, KeptPart[]>();
  readonly #partsByTag = new Map<number, KeptPart[]>();
  /** Operations decided here (direct mode) that have not come back. */
  #decided = 0;
  #change: Change | null = null;
  /** Pipelined: the ring is not to be used before direct mode has ended. */
  #ringWaits = false;
  /** The connection to the server is broken. */
  #away = false;
  #hadProcess = false;
  #done = false;

  /**
   * `atomics`: a byte for each page, which is set once an atomic operation was executed there. `ring`: of a session of
   * the order `pipelined`. `parts`: where the memory that part() gets is from.
   */
  constructor(
    welcome: Welcome,
    nodeName: string,
    mapPath: string,
    memory: Uint8Array,
    atomics: Uint8Array,
    out: ReplicaOutput,
    ring: Ring | null = null,
    applyRuns: ApplyRuns | null = null,
    parts: PartPool = new PartPool(),
  ) {
    this.#parts = parts;
    this.#node = welcome.node;
    this.#promised = welcome.epoch;
    this.#starts = welcome.starts;
    this.#whole = welcome.snapshot.phase === "joining" || bringsMap(welcome.snapshot);
    this.#nodeName = nodeName;
    this.#mapPath = mapPath;
    this.#atomics = atomics;
    this.#ring = ring;
    this.#batch = new StoreBatch(welcome.node);
    this.#overlay = ring === null ? null : new OverlayMap(memory, applyRuns);
    this.#memory = this.#overlay ?? new MapBytes(memory, applyRuns);
    this.#out = out;
    this.#effects = {
      watching: false,
      wrote: (offset, length) => this.#copyRange(offset, length),
      complete: (node, tag, status, aux) => {
        if (node === this.#node) this.#answer(tag, status, aux);
      },
      ranked: (node, tag, rank) => {
        if (node === this.#node) this.#ranked(tag, rank);
      },
      gone: (node, rank) => {
        if (node === this.#node) this.#gone(rank);
      },
      ended: () => {},
    };
    this.session = Session.restore(welcome.snapshot, this.#memory, this.#effects);
    this.session.node = welcome.node;
    this.#tail = new Tail(welcome.base);
    this.#confirmed = welcome.base;
    this.#awaitsMap = bringsMap(welcome.snapshot);
  }

  /** Whether the bytes of the map are there: before, no process may be let in. */
  get ready(): boolean {
    return !this.#awaitsMap;
  }

  /** Whether a process ever came. */
  get hadProcess(): boolean {
    return this.#hadProcess;
  }

  // --- The order -------------------------------------------------------------------------------------------------

  /** Entries from the log. Throws ProtocolError when they are not the order: the replica is then of no use. */
  entries(chunk: Uint8Array): void {
    try {
      this.#log.push(chunk, (view, at, size, bytes) => this.#entry(view, at, size, bytes));
    } finally {
      this.#unlock();
    }
    this.#settle();
  }

  /** A part of a publication, as a whole frame between those of entries(), in memory that is ours from now on. */
  part(frame: Uint8Array<ArrayBuffer>): void {
    this.#owned = frame;
    this.#log.push(frame, (view, at, size, bytes) => this.#entry(view, at, size, bytes));
    this.#owned = null;
  }

  #entry(view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + 4);
    if (kind === Kind.MAP) {
      this.#mapPiece(view, at);
      return;
    }
    if (kind === Kind.PING) {
      const applied = getUint64(view, at + 24);
      if (!(applied <= this.#confirmed))
        throw new ProtocolError("the server says that we have applied what we have not");
      this.#tail.drop(applied);
      return;
    }
    if (kind === Kind.CHANGE) {
      this.#beginChange();
      return;
    }
    const wrong = checkOperation(view, at, this.session.config.size, true);
    if (wrong !== null) throw new ProtocolError(`an entry of the order is damaged: ${wrong}`);
    if (this.#awaitsMap) throw new ProtocolError("an entry of the order comes before the map it belongs to");
    const isPublication = kind === Kind.PUBLISH;
    const more = isPublication && view.getUint8(at + 5) === PublishOp.MORE;
    if (isPublication && view.getUint8(at + 5) > PublishOp.MORE) {
      throw new ProtocolError("an entry of the order is damaged: publish: no such flag");
    }
    const node = view.getUint32(at + 12, true);
    if (node > NODE_NUMBER_MAX) throw new ProtocolError("an entry of the order is damaged: no such node");
    const seq = getUint64(view, at + 16);
    if (seq !== this.#confirmed + 1) throw new ProtocolError("an entry of the order is missing");
    const [first] = this.#entryParts;
    if (first !== undefined && !(isPublication && sameSender(first, view, at))) {
      throw new ProtocolError("a publication of the order is cut in two");
    }
    if (more) {
      this.#keepPart(bytes, at, size);
      return;
    }
    const isQueued =
      node === this.#node && view.getUint32(at + 8, true) === NO_TAG && (kind === Kind.STORE || isPublication);
    const overlay = isQueued ? this.#overlay : null;
    if (overlay !== null && !this.#isOldest(view, bytes, at, size)) throw notQueued();
    const own = node === this.#node ? this.#return() : NO_PARTS;
    this.#confirmed = seq;
    if (this.#decided > 0 && seq <= this.session.seq) {
      // Our own decision, as the server repeats it.
      this.#decided -= 1;
      return;
    }
    // What the snapshot in our welcome had already is for others only.
    const isNew = seq > this.session.seq;
    if (own.length > 0 && !(isPublication && sameSender((own[0] as KeptPart).bytes, view, at))) {
      throw new ProtocolError("an operation of ours comes back out of turn");
    }
    // Of our own publications the server sends only the last part, unless it cannot know whether we have the others.
    if (this.#entryParts.length > 0) {
      for (const part of own) this.#giveBack(part);
      for (const part of this.#entryParts.splice(0)) this.#adopt(part, seq, isNew, () => this.#parts.give(part));
      this.#partsBytes = 0;
    } else {
      for (const part of own) this.#adopt(part.bytes, seq, isNew, () => this.#giveBack(part));
    }
    this.#tail.push(view, bytes, at, size, seq);
    if (overlay !== null) {
      this.#applyQueued(overlay, view, at);
    } else if (isNew) {
      this.#lock();
      this.#apply(view, at);
    }
  }

  /** Whether the frame is what we passed on first of all that has not come back, but for its number. */
  #isOldest(view: DataView, bytes: Uint8Array, at: number, size: number): boolean {
    const { oldest } = this.#proposals;
    if (oldest?.length !== size) return false;
    const same = view.getUint32(at + 4, true) === new DataView(oldest.buffer, oldest.byteOffset).getUint32(4, true);
    return same && Buffer.compare(bytes.subarray(at + 24, at + size), oldest.subarray(24)) === 0;
  }

  #adopt(part: Uint8Array<ArrayBuffer>, seq: number, isNew: boolean, dropped: () => void): void {
    const view = new DataView(part.buffer, part.byteOffset, part.length);
    setUint64(view, 16, seq);
    this.#tail.adopt(part, seq, dropped);
    if (!isNew) return;
    this.#lock();
    this.#apply(view, 0);
  }

  /** Nothing of a publication is in the map before all of it is: if the rest never comes, there is nothing to undo. */
  #keepPart(bytes: Uint8Array, at: number, size: number): void {
    this.#partsBytes += size;
    if (this.#partsBytes > stagedLimit(this.session.config.size)) {
      throw new ProtocolError("a publication of the order is larger than the map can be");
    }
    const owned = this.#owned;
    this.#entryParts.push(owned?.length === size ? owned : new Uint8Array(bytes.subarray(at, at + size)));
  }

  /** An operation of ours has come back. Returns the parts that belong to it. */
  #return(): readonly KeptPart[] {
    if (this.#returned === this.#proposed)
      throw new ProtocolError("an entry of the order that this node did not ask for");
    this.#returned += 1;
    this.#proposals.drop(this.#returned);
    const parts = this.#partsOf.get(this.#returned);
    if (parts === undefined) return NO_PARTS;
    this.#partsOf.delete(this.#returned);
    return parts;
  }

  #giveBack(part: KeptPart): void {
    part.dropped = true;
    if (part.leaving === 0) this.#parts.give(part.bytes);
  }

  /** How far the order has come here, for a server that may not know. */
  get position(): Resume {
    const { config, seq, phase, nodes } = this.session;
    // Of a session that has ended nobody misses what the processes of a direct one stored.
    const others = this.session.direct && this.#byRank.size === 0 && phase !== "ended";
    const whole = this.#whole && !others && this.#tail.last === seq;
    return {
      ...{ instance: config.instance, node: this.#node, seq: this.#confirmed, applied: seq },
      ...{
        epoch: this.#starts.findLastIndex((start) => start < seq) + 1 || 1,
        promised: this.#promised,
        whole,
        nodes,
        // Of an elastic session those that are ahead of us may have nodes that we do not know of.
        joining: phase === "joining" || config.elastic === true,
      },
    };
  }

  /** The last entry that came from the log. */
  get confirmed(): number {
    return this.#confirmed;
  }

  /** Bytes of all entries that were kept for others. */
  get keptBytes(): number {
    return this.#tail.total;
  }

  /** From now on no server of an older epoch is followed. False: a newer one was promised that before. */
  promise(epoch: number): boolean {
    if (epoch < this.#promised) return false;
    this.#promised = epoch;
    return true;
  }

  /**
   * All that a server needs to take over, in STATE frames. Nothing of the order comes meanwhile; what is decided here in
   * direct mode is passed on afterwards.
   */
  *state(): Generator<Uint8Array> {
    const { direct } = this.session;
    const { base } = this.#tail;
    const entries = [...this.#tail.after(base)];
    const state: NodeState = { snapshot: this.session.snapshot(), starts: this.#starts, base };
    yield* pieces(StateOp.SESSION, encodeJson(state));
    // In direct mode the map is the processes' own, and no server has use for it.
    for (let offset = 0; offset < this.#memory.size && !direct; offset += PAGE_SIZE) {
      const page = this.#ordered(offset);
      if (!isZero(page)) yield encode({ kind: Kind.STATE, op: StateOp.MAP, offset, body: page });
    }
    for (const piece of entries) yield* pieces(StateOp.ENTRIES, piece);
    yield encode({ kind: Kind.STATE, op: StateOp.LAST });
  }

  /** A page as the order has it: what processes have queued comes later. */
  #ordered(offset: number): Uint8Array {
    let page = this.#memory.bytes.subarray(offset, offset + PAGE_SIZE);
    const overlay = this.#overlay;
    if (overlay !== null) {
      this.#locked(() => {
        page = overlay.ordered(offset, PAGE_SIZE);
      });
    }
    return page;
  }

  /** Bytes of operations passed on that have not come back. */
  get unreturnedBytes(): number {
    return this.#proposals.bytes;
  }

  /** The connection to the server is broken: what was not whole will come again. */
  interrupted(): void {
    this.#log = new FrameReader(FRAME_MAX);
    for (const part of this.#entryParts.splice(0)) this.#parts.give(part);
    this.#partsBytes = 0;
    this.#away = true;
  }

  /** A server has us again: what it has not ordered is passed on once more. Throws ProtocolError. */
  resumed({ node, ordered, epoch, starts }: Resumed): void {
    if (epoch < this.#promised) throw new ProtocolError("a server that was replaced by another");
    this.#promised = epoch;
    this.#starts = starts;
    if (node !== this.#node || !(ordered >= this.#returned && ordered <= this.#proposed)) {
      throw new ProtocolError("the server takes us for another node");
    }
    const reader = new FrameReader(FRAME_MAX);
    for (const piece of this.#proposals.after(ordered)) {
      reader.push(piece, (view, at, size, bytes) => {
        for (const part of this.#partsOf.get(getUint64(view, at + 16)) ?? []) this.#proposePart(part);
        this.#out.propose(bytes.subarray(at, at + size));
      });
    }
    for (const parts of this.#partsByTag.values()) for (const part of parts) this.#proposePart(part);
    this.#away = false;
    // It may be another server, which has nothing of the map.
    if (this.#change !== null) this.#change.copy = null;
    this.#settle();
  }

  /** Of the map that the session began with. */
  #mapPiece(view: DataView, at: number): void {
    if (!this.#awaitsMap) throw new ProtocolError("a piece of a map that nobody asked for");
    const wrong = checkMap(view, at, this.session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    this.#lock();
    this.#memory.publish(view, at + HEADER_SIZE, at + view.getUint32(at, true));
    this.#awaitsMap = view.getUint8(at + 5) !== MapOp.LAST;
  }

  #apply(view: DataView, at: number): void {
    const isAtomic = view.getUint8(at + 4) === Kind.ATOMIC;
    if (isAtomic) {
      // Before the answer: whoever executed it never opens the page again.
      const first = getUint64(view, at + 24);
      this.#atomics[Math.floor(first / PAGE_SIZE)] = 1;
      this.#atomics[Math.floor((first + view.getUint32(at + 32, true) - 1) / PAGE_SIZE)] = 1;
    }
    this.#answersAtomic = isAtomic;
    this.session.apply(view, at);
    this.#answersAtomic = false;
    // The others have it from here on, too.
    if (view.getUint8(at + 4) === Kind.COPY && !this.session.direct) this.#whole = true;
  }

  // --- Pipelined: the ring of this node's stores -----------------------------------------------------------------

  /** Runs `change`, which changes the map, with the ring empty and nobody storing. */
  #locked(change: () => void): void {
    const held = this.#holdsLock;
    try {
      this.#lock();
      change();
    } finally {
      if (!held) this.#unlock();
    }
  }

  /**
   * Until #unlock() the ring is empty and nobody stores. Entries that were queued here change nothing in the map, and those
   * who store the most do not wait for them.
   */
  #lock(): void {
    const ring = this.#ring;
    if (ring === null || this.#holdsLock) return;
    const broken = ring.lock.acquire();
    this.#holdsLock = true;
    this.takeQueued();
    if (broken) this.#redoLast(ring);
  }

  #unlock(): void {
    if (!this.#holdsLock) return;
    this.#holdsLock = false;
    this.#ring?.release();
  }

  /** Passes on the stores that processes have queued. Returns how many. Throws ProtocolError: the ring is damaged. */
  takeQueued(): number {
    const ring = this.#ring;
    if (ring === null) return 0;
    this.#queuesRank = -1;
    const count = ring.take(this.#taker);
    this.#proposeBatch(ring);
    return count;
  }

  /** Nearly all stores are of a few aligned words, and there may be a million of them in a second. */
  #takeWords(words: Uint32Array, at: number, room: number): number {
    const kind = words[at + 1] as number;
    const offset = words[at + 6] as number;
    const length = words[at + 8] as number;
    const size = HEADER_SIZE + 2 * length;
    const isWords =
      words[at] === HEADER_SIZE + length &&
      (kind & 0xffff) === Kind.STORE &&
      words[at + 7] === 0 &&
      (offset | length) % 8 === 0 &&
      length > 0 &&
      length <= WORDS_MAX &&
      size <= room &&
      offset + length <= this.#memory.size;
    if (!isWords || !this.#mayQueue(kind >>> 16)) return 0;
    const from = at + HEADER_SIZE / 4;
    if (!this.#batch.takes(kind >>> 16)) this.#proposeBatch(this.#ring as Ring);
    this.#batch.addWords(kind >>> 16, offset, length, words, from);
    const overlay = this.#overlay as OverlayMap;
    for (let done = 0, old = from + length / 4; done < length; done += 8, old += 2) {
      overlay.addWord(offset + done, words[old] as number, words[old + 1] as number);
    }
    return size;
  }

  /** Whether a process of this node has the rank. Nobody's state changes while records are taken. */
  #mayQueue(rank: number): boolean {
    if (rank === this.#queuesRank) return true;
    if (this.#byRank.get(rank)?.state !== "running") return false;
    this.#queuesRank = rank;
    return true;
  }

  /** A frame that is no store gives a size no record can have. */
  #storeSize(view: DataView, size: number): number {
    const kind = view.getUint8(4);
    const isStore = kind === Kind.STORE || (kind === Kind.PUBLISH && view.getUint8(5) === PublishOp.LAST);
    if (!isStore || checkOperation(view, 0, this.session.config.size) !== null) return Number.POSITIVE_INFINITY;
    if (!isPlain(view)) return Number.POSITIVE_INFINITY;
    let record = size;
    eachRun(view, 0, (_offset, _from, length) => {
      record += padded(length);
    });
    return record;
  }

  #takeRecord(view: DataView, bytes: Uint8Array, size: number): void {
    if (!this.#batch.takes(view.getUint16(6, true))) this.#proposeBatch(this.#ring as Ring);
    this.#batch.add(view, bytes, size);
    let old = size;
    eachRun(view, 0, (offset, _from, length) => {
      this.#overlay?.add(offset, length, view, old);
      old += padded(length);
    });
  }

  #proposeBatch(ring: Ring): void {
    const frame = this.#batch.take();
    if (frame === null) return;
    ring.closeEntry();
    this.#overlay?.closeEntry();
    this.#keep(new DataView(frame.buffer, frame.byteOffset, frame.length), frame);
    this.#out.propose(frame);
  }

  /** The lock's owner died: if it had moved the tail, the newest record is its own, and may not be in the map. */
  #redoLast(ring: Ring): void {
    // Its process may be known to be gone.
    const last = ring.last({ size: (view, size) => this.#storeSize(view, size) });
    if (last !== null) eachRun(last, 0, (offset, from, length) => this.#overlay?.redo(offset, last, from, length));
  }

  /** An entry that was queued here: its bytes are in the map since then. */
  #applyQueued(overlay: OverlayMap, view: DataView, at: number): void {
    overlay.settle(() => this.#apply(view, at));
    this.#ring?.giveBack();
    const returned = this.#ring?.returned ?? 0;
    while ((this.#fences[0]?.upTo ?? Number.POSITIVE_INFINITY) <= returned) {
      this.#answer((this.#fences.shift() as { tag: number }).tag, Status.OK, 0);
    }
  }

  #fence(channel: Channel, tag: number): void {
    if (channel.requests >= CHANNEL_REQUESTS_MAX) throw new ProtocolError("too many requests under way");
    const stamped = stampedTag(channel, tag);
    channel.requests += 1;
    const ring = this.#ring;
    if (ring === null || ring.taken === ring.returned) this.#answer(stamped, Status.OK, 0);
    else this.#fences.push({ upTo: ring.taken, tag: stamped });
  }

  /** Whether processes expect takeQueued() to be called without being asked for it. */
  get awake(): boolean {
    return this.#ring?.awake ?? false;
  }

  /** From now on a process that queues a store rings. False: one has come meanwhile. */
  sleep(): boolean {
    return this.#ring?.sleep() ?? true;
  }

  /** While somebody sees a page through a shadow, stores wait for their place: only the order reaches a shadow. */
  #setShadowed(shadowed: boolean): void {
    const ring = this.#ring;
    if (ring === null) return;
    this.#locked(() => {
      ring.shadowed = shadowed;
    });
  }

  // --- Channels of this node's processes -----------------------------------------------------------------------

  /** A new connection. Returns its number, or -1: too many, close it. */
  connect(): number {
    const index = this.#freeChannels.pop() ?? this.#channels.length;
    if (index >= CHANNELS_MAX) return -1;
    this.#channels[index] = {
      index,
      reader: new FrameReader(GREETING_FRAME_MAX),
      process: null,
      requests: 0,
      publishing: new Map(),
      held: 0,
      open: true,
    };
    return index;
  }

  isGreeted(index: number): boolean {
    return this.#channels[index]?.process != null;
  }

  receive(index: number, chunk: Uint8Array): void {
    const channel = this.#channels[index];
    if (channel === undefined || !channel.open) return;
    // What a process has stored comes before what it asks for.
    this.takeQueued();
    this.#guarded(channel, () =>
      channel.reader.push(chunk, (view, at, size, bytes) => {
        if (channel.open) this.#frame(channel, view, at, size, bytes);
      }),
    );
    // In direct mode what was asked for is decided by now.
    this.#settle();
  }

  /** Whoever sends what it may not is told so, and is gone. */
  #guarded(channel: Channel, work: () => void): void {
    const { index } = channel;
    try {
      work();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#out.reply(index, encode({ kind: Kind.FAIL, op: error.status, body: encodeText(error.message) }));
      this.#out.close(index);
      this.disconnect(index);
    }
  }

  /** What follows from what has happened. */
  #settle(): void {
    this.#goOnChanging();
    this.#checkDone();
  }

  /** The connection is gone. Its number is used again once nothing under way can answer it. */
  disconnect(index: number): void {
    const channel = this.#channels[index];
    if (channel === undefined || !channel.open) return;
    channel.open = false;
    const { process } = channel;
    if (process !== null) {
      this.#abandon(channel, process);
      process.channels.delete(index);
      if (process.channel === index) this.#processEnded(process);
    }
    if (channel.requests === 0) this.#release(channel);
    this.#settle();
  }

  /** What was published by half must not meet a later publication of this channel's number and tag. */
  #abandon(channel: Channel, process: Process): void {
    for (const tag of channel.publishing.keys()) {
      for (const part of this.#partsByTag.get(tag) ?? []) this.#giveBack(part);
      this.#partsByTag.delete(tag);
      this.#out.propose(
        encode({ kind: Kind.PUBLISH, op: PublishOp.ABANDON, rank: process.rank, tag, node: this.#node }),
      );
      this.#published(channel, process, tag);
    }
  }

  #release(channel: Channel): void {
    // In direct mode the end of its process answers what it has under way, before disconnect() comes to look.
    if (this.#channels[channel.index] !== channel) return;
    this.#channels[channel.index] = undefined;
    this.#freeChannels.push(channel.index);
  }

  #processEnded(process: Process): void {
    for (const index of [...process.channels]) {
      this.#out.close(index);
      this.disconnect(index);
    }
    this.takeQueued();
    process.dead = true;
    if (process.state === "left") {
      this.#processes.delete(process);
    } else if (process.rank >= 0 && process.state !== "leaving") {
      this.#proposeEnd(process, true);
    }
  }

  #proposeEnd(process: Process, lost: boolean): void {
    process.state = "leaving";
    this.#propose(encode({ kind: Kind.LEAVE, op: lost ? 1 : 0, rank: process.rank, node: this.#node, tag: NO_TAG }));
  }

  #frame(channel: Channel, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + 4);
    const { process } = channel;
    if (process === null) {
      checkGreeting(view, at);
      if (kind === Kind.HELLO) this.#hello(channel, view, at, size, bytes);
      else if (kind === Kind.ATTACH) this.#attach(channel, view, at, size, bytes);
      else throw new ProtocolError("the peer did not greet");
      return;
    }
    if (kind === Kind.DOORBELL) {
      // receive() has taken what was in the ring; for what comes next we look by ourselves.
      this.#ring?.wake();
      return;
    }
    const tag = view.getUint32(at + 8, true);
    if (process.state === "joining") throw new ProtocolError("a request before the session began");
    if (kind === Kind.CHANGE) {
      this.#hears(channel, process, view.getUint8(at + 5));
      return;
    }
    if (this.#change !== null && process.state === "running" && (changesMap(kind) || channel.held > 0)) {
      this.#hold(this.#change, channel, new Uint8Array(bytes.subarray(at, at + size)));
      return;
    }
    if (kind === Kind.PUBLISH && view.getUint8(at + 5) === PublishOp.STAGED) {
      this.#staged(channel, process, view, at);
      return;
    }
    if (process.state !== "running") {
      if (isAnswered(kind, view, at)) this.#refuse(channel, tag, Status.LEFT);
      return;
    }
    if (kind >= ORDERED_FIRST && kind <= ORDERED_LAST && kind !== Kind.JOIN) {
      this.#request(channel, process, kind, view, at, size, bytes);
    } else if (kind === Kind.SHADOW || kind === Kind.UNSHADOW) {
      this.#shadow(channel, process, kind, view, at);
    } else if (kind === Kind.FENCE) {
      this.#fence(channel, tag);
    } else if (kind === Kind.MEMORY) {
      this.#lend(channel, process, tag);
    } else {
      throw new ProtocolError(`a process may not send frames of kind ${kind}`);
    }
  }

  #request(
    channel: Channel,
    process: Process,
    kind: number,
    view: DataView,
    at: number,
    size: number,
    bytes: Uint8Array,
  ): void {
    const wrong = checkOperation(view, at, this.session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    const stamped = stampedTag(channel, view.getUint32(at + 8, true));
    if (kind === Kind.PUBLISH) {
      const op = view.getUint8(at + 5);
      if (op !== PublishOp.MORE && op !== PublishOp.LAST) throw new ProtocolError("publish: no such flag");
      // A part would be in the map at once, for all to see, and could not be taken back.
      if (op === PublishOp.MORE && this.session.direct) throw new ProtocolError("publish: no parts in direct mode");
      if (op === PublishOp.MORE) this.#publishMore(channel, process, stamped, size);
      else this.#published(channel, process, stamped);
    }
    if (isAnswered(kind, view, at)) {
      if (channel.requests >= CHANNEL_REQUESTS_MAX) throw new ProtocolError("too many requests under way");
      channel.requests += 1;
    }
    if (kind === Kind.LEAVE) {
      process.state = "leaving";
      view.setUint8(at + 5, 0);
      view.setUint32(at + 36, 0, true);
    }
    view.setUint16(at + 6, process.rank, true);
    view.setUint32(at + 8, stamped, true);
    view.setUint32(at + 12, this.#node, true);
    this.#propose(at === 0 && bytes.length === size ? bytes : bytes.subarray(at, at + size));
  }

  /**
   * Passes an operation on to be ordered. In direct mode this node is the only one to ask for anything, so it knows what
   * the order will be: it decides at once, and the server follows. What was asked for before direct mode began comes
   * back from the server first.
   */
  #propose(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const { session } = this;
    // A node that only waits for the end of others' direct mode decides nothing.
    const direct = session.direct && this.#byRank.size > 0;
    // The server has no copy of the map to compare with: a sleep whose value differs is no operation at all.
    if (direct && view.getUint8(4) === Kind.SLEEP) {
      if (!session.equalsMap(view, 0)) {
        this.#answer(view.getUint32(8, true), Status.AGAIN, 0);
        return;
      }
      view.setUint8(5, 1);
    }
    const decides = direct && this.#returned + this.#decided === this.#proposed;
    this.#keep(view, frame);
    this.#out.propose(frame);
    if (!decides) return;
    this.#tail.push(view, frame, 0, frame.length, this.session.seq + 1);
    this.#decided += 1;
    this.#apply(view, 0);
  }

  /** Numbers an operation and keeps it, in case it has to be passed on again. */
  #keep(view: DataView, frame: Uint8Array): void {
    const tag = view.getUint32(8, true);
    const isPublication = view.getUint8(4) === Kind.PUBLISH;
    if (isPublication && view.getUint8(5) === PublishOp.MORE) {
      setUint64(view, 16, 0);
      this.#keepOwnPart(tag, { bytes: new Uint8Array(frame), taken: null, leaving: 0, dropped: false });
      return;
    }
    this.#proposed += 1;
    setUint64(view, 16, this.#proposed);
    this.#proposals.push(view, frame, 0, frame.length, this.#proposed);
    const parts = isPublication ? this.#partsByTag.get(tag) : undefined;
    if (parts === undefined) return;
    this.#partsByTag.delete(tag);
    this.#partsOf.set(this.#proposed, parts);
  }

  #keepOwnPart(tag: number, part: KeptPart): void {
    const parts = this.#partsByTag.get(tag);
    if (parts === undefined) this.#partsByTag.set(tag, [part]);
    else parts.push(part);
  }

  /** Again, when a connection broke: then its process hears now that it is taken, if it has not yet. */
  #proposePart(part: KeptPart): void {
    part.leaving += 1;
    this.#out.propose(part.bytes, (broken) => {
      part.leaving -= 1;
      if (part.leaving === 0 && part.dropped) this.#parts.give(part.bytes);
      if (broken === true) return;
      part.taken?.();
      part.taken = null;
    });
  }

  /**
   * A part of a publication that the process has put into its staging area. It is copied from there before it is looked
   * at: what has been found to be good cannot change any more. The process hears that it is taken when it has left, so it
   * is never further ahead than the area is large.
   */
  #staged(channel: Channel, process: Process, view: DataView, at: number): void {
    const offset = getUint64(view, at + 24);
    const length = view.getUint32(at + 32, true);
    const tag = view.getUint32(at + 8, true);
    const taken = (): void => {
      if (channel.open) this.#out.reply(channel.index, encode({ kind: Kind.TAKEN, tag, offset }));
    };
    if (process.state !== "running") {
      taken();
      return;
    }
    if (!(offset + length <= STAGING_SIZE) || length > PUBLISH_PART_MAX || length % 8 !== 0) {
      throw new ProtocolError("publish: a part outside the staging area");
    }
    if (process.stagedParts >= STAGING_SIZE / PUBLISH_PART_MAX) {
      throw new ProtocolError("publish: more parts than the staging area has");
    }
    if (this.session.direct) throw new ProtocolError("publish: no parts in direct mode");
    if (process.staging === null) throw new ProtocolError("publish: the process has no staging area");
    const size = HEADER_SIZE + length;
    const part = this.#parts.take(size).subarray(0, size);
    const stamped = stampedTag(channel, tag);
    part.set(
      encode({ kind: Kind.PUBLISH, op: PublishOp.MORE, rank: process.rank, tag: stamped, node: this.#node, length }),
    );
    part.set(process.staging.subarray(offset, offset + length), HEADER_SIZE);
    const partView = new DataView(part.buffer, part.byteOffset, size);
    partView.setUint32(0, size, true);
    const wrong = checkOperation(partView, 0, this.session.config.size);
    if (wrong !== null) throw new ProtocolError(wrong);
    this.#publishMore(channel, process, stamped, size);
    process.stagedParts += 1;
    const kept: KeptPart = {
      bytes: part,
      taken: () => {
        process.stagedParts -= 1;
        taken();
      },
      leaving: 0,
      dropped: false,
    };
    this.#keepOwnPart(stamped, kept);
    this.#proposePart(kept);
  }

  /** One that publishes more than there can be is stopped here: the server would end all of the node for it. */
  #publishMore(channel: Channel, process: Process, tag: number, size: number): void {
    if (process.publishingBytes + size > stagedLimit(this.session.config.size)) {
      throw new ProtocolError("a publication larger than the map can be", Status.LIMIT);
    }
    process.publishingBytes += size;
    channel.publishing.set(tag, (channel.publishing.get(tag) ?? 0) + size);
    if (channel.publishing.size > CHANNEL_REQUESTS_MAX) throw new ProtocolError("too many requests under way");
  }

  #published(channel: Channel, process: Process, tag: number): void {
    process.publishingBytes -= channel.publishing.get(tag) ?? 0;
    channel.publishing.delete(tag);
  }

  #refuse(channel: Channel, tag: number, status: Status): void {
    this.#out.reply(channel.index, encode({ kind: Kind.REPLY, op: status, tag, body: encodeText(reason(status, 0)) }));
  }

  #hello(channel: Channel, view: DataView, at: number, frameSize: number, bytes: Uint8Array): void {
    if (frameSize !== HEADER_SIZE + PROCESS_HELLO_SIZE) throw new ProtocolError("the greeting has the wrong size");
    const body = at + HEADER_SIZE;
    const { config, phase } = this.session;
    const name = fieldText(bytes, body + PROCESS_HELLO.session[0], PROCESS_HELLO.session[1]);
    if (name !== config.name) throw new ProtocolError(`this arbiter serves "${config.name}", not "${name}"`);
    const processes = view.getUint32(body + PROCESS_HELLO.processes[0], true);
    const size = getUint64(view, body + PROCESS_HELLO.size[0]);
    const orderWished = view.getUint8(body + PROCESS_HELLO.order[0]);
    const order = orderOfNumber(orderWished);
    if (order === null && orderWished !== 0) {
      throw new ProtocolError(`there is no order of number ${orderWished}`, Status.INVALID);
    }
    const onLossWished = view.getUint8(body + PROCESS_HELLO.onLoss[0]);
    const onLoss = onLossOfNumber(onLossWished);
    if (onLoss === null && onLossWished !== 0) {
      throw new ProtocolError(`there is no answer to a loss of number ${onLossWished}`, Status.INVALID);
    }
    const mismatch = checkExpectations(
      config,
      processes,
      size,
      order ?? "",
      onLoss ?? "",
      view.getUint8(body + PROCESS_HELLO.elastic[0]) === 1,
    );
    if (mismatch !== null) throw new ProtocolError(mismatch, Status.MISMATCH);
    if (this.#done || phase === "ended") throw new ProtocolError("the session has ended", Status.ENDED);
    const pid = view.getUint32(body + PROCESS_HELLO.pid[0], true);
    // A session that is not elastic does not change over.
    const refusal = view.getUint8(body + PROCESS_HELLO.noDirect[0]);
    const process: Process = {
      channel: channel.index,
      pid,
      rank: -1,
      token: this.#out.token(),
      state: "joining",
      dead: false,
      noDirect: refusal === 1 || (refusal === 2 && config.elastic === true),
      mayWrite: false,
      watches: false,
      channels: new Set([channel.index]),
      publishingBytes: 0,
      staging: null,
      stagedParts: 0,
      shadow: null,
      shadows: new Map(),
    };
    channel.process = process;
    channel.reader.limit = FRAME_MAX;
    channel.requests += 1;
    this.#processes.add(process);
    this.#hadProcess = true;
    this.#propose(
      encode({
        kind: Kind.JOIN,
        op: process.noDirect ? 1 : 0,
        node: this.#node,
        tag: (channel.index << 16) >>> 0,
        offset: process.pid,
        aux: view.getUint32(body + PROCESS_HELLO.wishedRank[0], true),
        body: encodeText(this.#nodeName),
      }),
    );
  }

  #attach(channel: Channel, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    if (size !== HEADER_SIZE + 8) throw new ProtocolError("the greeting has the wrong size");
    const process = this.#byRank.get(view.getUint16(at + 6, true));
    const token = bytes.subarray(at + HEADER_SIZE, at + HEADER_SIZE + 8);
    if (process === undefined || process.dead || !equalBytes(process.token, token)) {
      throw new ProtocolError("no process of this node has that token", Status.REFUSED);
    }
    channel.process = process;
    channel.reader.limit = FRAME_MAX;
    process.channels.add(channel.index);
    this.#out.reply(channel.index, encode({ kind: Kind.REPLY, tag: view.getUint32(at + 8, true) }));
  }

  #ranked(tag: number, rank: number): void {
    const process = this.#channels[tag >>> 16]?.process;
    if (process == null) return;
    process.rank = rank;
    this.#byRank.set(rank, process);
    // One that gave up before it began, in a session that runs, has done nothing that anybody could miss.
    if (process.dead) this.#proposeEnd(process, this.session.phase !== "running");
  }

  #gone(rank: number): void {
    const process = this.#byRank.get(rank);
    if (process === undefined) return;
    this.#byRank.delete(rank);
    process.state = "left";
    // It has closed the map before it left, or has ended.
    process.mayWrite = false;
    for (const shadow of process.shadows.values()) this.#dropShadow(shadow);
    process.shadows.clear();
    this.#takeMemory(process);
    if (process.dead) this.#processes.delete(process);
  }

  /** An operation of this node has been applied (or refused) at its place: its issuer may go on. */
  #answer(tag: number, status: Status, aux: number): void {
    if (tag === NO_TAG) return;
    const channel = this.#channels[tag >>> 16];
    if (channel === undefined) return;
    channel.requests -= 1;
    const { process } = channel;
    if (!channel.open) {
      if (channel.requests === 0) this.#release(channel);
      if (process !== null && process.rank < 0) this.#processes.delete(process);
      return;
    }
    if (process?.state === "joining") {
      this.#answerJoin(channel, process, status, aux);
      return;
    }
    const view = this.#replyView;
    if (status !== Status.OK) {
      const body = encodeText(reason(status, aux));
      this.#out.reply(channel.index, encode({ kind: Kind.REPLY, op: status, tag: tag & 0xffff, aux, body }));
      return;
    }
    const size = this.#answersAtomic ? HEADER_SIZE + 16 : HEADER_SIZE;
    view.setUint32(0, size, true);
    view.setUint8(4, Kind.REPLY);
    view.setUint32(8, tag & 0xffff, true);
    setUint64(view, 16, this.session.seq);
    setUint64(view, 24, this.session.value);
    if (this.#answersAtomic) {
      const { old } = this.session;
      view.setUint32(32, 16, true);
      view.setBigUint64(HEADER_SIZE, old.getBigUint64(0, true), true);
      view.setBigUint64(HEADER_SIZE + 8, old.getBigUint64(8, true), true);
    } else {
      view.setUint32(32, 0, true);
    }
    this.#out.reply(channel.index, this.#reply.subarray(0, size));
  }

  #answerJoin(channel: Channel, process: Process, status: Status, rank: number): void {
    if (status !== Status.OK) {
      process.state = "left";
      this.#processes.delete(process);
      this.#refuse(channel, 0, status);
      return;
    }
    process.state = "running";
    const body = new Uint8Array(JOINED_SIZE);
    const view = new DataView(body.buffer);
    const { config } = this.session;
    setUint64(view, JOINED.base[0], config.base);
    setUint64(view, JOINED.size[0], config.size);
    body.set(process.token, JOINED.token[0]);
    const elastic = config.elastic === true;
    view.setUint32(JOINED.processes[0], elastic ? this.session.present : config.processes, true);
    view.setUint32(JOINED.elastic[0], elastic ? 1 : 0, true);
    view.setUint32(JOINED.node[0], this.#node, true);
    body.set(encodeText(this.#nodeName), JOINED.nodeName[0]);
    body.set(encodeText(this.#mapPath), JOINED.mapPath[0]);
    view.setUint32(JOINED.order[0], orderNumber(config.order), true);
    const direct = this.session.direct && this.#change === null && !process.noDirect;
    view.setUint32(JOINED.direct[0], direct ? 1 : 0, true);
    if (elastic) this.#beginsBeside(process, direct);
    view.setUint32(JOINED.onLoss[0], onLossNumber(config.onLoss), true);
    this.#out.reply(channel.index, encode({ kind: Kind.REPLY, aux: rank, body }));
  }

  // --- The end of direct mode: see change-over.ts ------------------------------------------------------------------

  /** A process begins in an elastic session: it writes to the map, or finds others that do. */
  #beginsBeside(process: Process, writes: boolean): void {
    process.mayWrite = writes;
    // It has the ring already, but stores come that way only when others are to hear of them.
    if (writes && !this.#ringWaits) {
      this.#ringWaits = true;
      this.#setShadowed(true);
    }
    if (!writes) this.#beginChange();
  }

  /** Somebody wants to join who cannot share the map: all who write to it are asked to close it. */
  #beginChange(): void {
    const { direct, config } = this.session;
    if (this.#change !== null || !direct || config.elastic !== true || this.#byRank.size === 0) return;
    this.#change = { copy: null, held: [] };
    for (const process of this.#processes) this.#askToClose(process);
  }

  #askToClose({ channel, mayWrite, watches }: Process): void {
    if (mayWrite && watches) this.#out.reply(channel, encode({ kind: Kind.CHANGE, op: ChangeOp.CLOSE }));
  }

  #hears(channel: Channel, process: Process, op: number): void {
    const isMain = process.channel === channel.index;
    if (!isMain || (op !== ChangeOp.WATCH && op !== ChangeOp.CLOSED)) throw new ProtocolError("change: no such flag");
    if (op === ChangeOp.CLOSED) {
      process.mayWrite = false;
    } else {
      process.watches = true;
      if (this.#change !== null) this.#askToClose(process);
    }
  }

  /** What would change the map waits, and what comes behind it on its channel. */
  #hold(change: Change, channel: Channel, frame: Uint8Array): void {
    if (channel.held >= CHANNEL_REQUESTS_MAX) throw new ProtocolError("too many requests under way");
    channel.held += 1;
    change.held.push({ channel, frame });
  }

  /** When nobody writes to the map any more it is put into the order, piece by piece, as the server takes them. */
  #goOnChanging(): void {
    const change = this.#change;
    if (change === null || this.#away || this.#byRank.size === 0) return;
    if (this.#returned + this.#decided !== this.#proposed) return;
    for (const { mayWrite } of this.#processes) if (mayWrite) return;
    if (change.copy === null) {
      change.copy = new MapCopy(this.#memory, this.#node, this.copyPace);
      this.#propose(encodeCopy(CopyOp.BEGIN, this.#node));
    }
    while (this.#proposals.bytes < this.copyPace.ahead) {
      const piece = change.copy.next();
      if (piece === null) {
        this.#propose(encodeCopy(CopyOp.END, this.#node));
        this.#endChange(change);
        return;
      }
      this.#propose(piece);
    }
  }

  #endChange({ held }: Change): void {
    this.#change = null;
    this.#ringWaits = false;
    this.#setShadowed(this.#shadows.size > 0);
    for (const { channel } of held) channel.held = 0;
    for (const { channel, frame } of held) {
      if (!channel.open) continue;
      const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
      this.#guarded(channel, () => this.#frame(channel, view, 0, frame.length, frame));
    }
  }

  #checkDone(): void {
    if (this.#done) return;
    const nobody = this.#hadProcess && this.#processes.size === 0 && this.#byRank.size === 0;
    if (nobody || this.session.phase === "ended") {
      this.#done = true;
      // A join that crossed the end on its way has no place in the order any more.
      for (const process of [...this.#processes]) {
        const channel = this.#channels[process.channel];
        if (process.state !== "joining" || process.dead || channel === undefined) continue;
        channel.requests -= 1;
        this.#answerJoin(channel, process, Status.ENDED, 0);
      }
      this.#out.done();
    }
  }

  // --- Memory shared with a process -----------------------------------------------------------------------------

  /** The process gets a descriptor, so both have the same memory whatever they call each other. */
  #lend(channel: Channel, process: Process, tag: number): void {
    if (process.shadows.size > 0) throw new ProtocolError("memory is asked for while holes use what was given");
    this.#takeMemory(process);
    const lent = this.#out.lend(channel.index, encode({ kind: Kind.REPLY, tag, aux: 1 }));
    if (lent === null) {
      this.#out.reply(channel.index, encode({ kind: Kind.REPLY, tag }));
      return;
    }
    process.shadow = new MapBytes(lent.shadow);
    process.staging = lent.staging;
  }

  #takeMemory(process: Process): void {
    for (const memory of [process.shadow?.bytes, process.staging]) if (memory != null) this.#out.unmap(memory);
    process.shadow = null;
    process.staging = null;
  }

  // --- Shadows: pages that a hole covers in part -----------------------------------------------------------------

  /**
   * The process sees a copy of such a page, in which the hole's bytes are its own and all others follow the order. The
   * copy is made here, between two entries, so it is the page at one point of the order.
   */
  #shadow(channel: Channel, process: Process, kind: number, view: DataView, at: number): void {
    const tag = view.getUint32(at + 8, true);
    const page = getUint64(view, at + 24);
    const from = page + view.getUint32(at + 36, true);
    const to = from + view.getUint32(at + 32, true);
    if (!(page < this.session.config.size) || page % PAGE_SIZE !== 0 || !(from < to && to <= page + PAGE_SIZE)) {
      throw new ProtocolError("shadow: not a part of a page");
    }
    const current = process.shadows.get(page);
    if (kind === Kind.UNSHADOW) {
      if (current !== undefined) this.#uncover(process, current, from, to);
    } else {
      if (process.shadow === null) {
        this.#refuse(channel, tag, Status.SYSTEM);
        return;
      }
      this.#cover(process, process.shadow, page, from, to);
    }
    this.#out.reply(channel.index, encode({ kind: Kind.REPLY, tag }));
  }

  #cover(process: Process, memory: MapBytes, page: number, from: number, to: number): void {
    let shadow = process.shadows.get(page);
    if (shadow === undefined) {
      if (this.#shadows.size === 0) this.#setShadowed(true);
      shadow = { page, memory, holes: [] };
      memory.store(page, this.#memory.view, page, PAGE_SIZE);
      process.shadows.set(page, shadow);
      this.#shadows.add(shadow);
      this.#effects.watching = true;
    }
    if (shadow.holes.some((hole) => hole.from < to && from < hole.to)) {
      throw new ProtocolError("shadow: the holes of a page overlap");
    }
    shadow.holes.push({ from, to });
    shadow.holes.sort((a, b) => a.from - b.from);
  }

  #dropShadow(shadow: Shadow): void {
    this.#shadows.delete(shadow);
    this.#effects.watching = this.#shadows.size > 0;
    if (this.#shadows.size === 0 && !this.#ringWaits) this.#setShadowed(false);
  }

  /** The hole's bytes follow the order again. */
  #uncover(process: Process, shadow: Shadow, from: number, to: number): void {
    shadow.holes = shadow.holes.filter((hole) => hole.from !== from || hole.to !== to);
    if (shadow.holes.length === 0) {
      process.shadows.delete(shadow.page);
      this.#dropShadow(shadow);
    } else {
      this.#copyOutside(shadow, from, to);
    }
  }

  /** Whole words: what is in part of one may be one store with what is in the rest. */
  #copyRange(offset: number, length: number): void {
    const first = offset - (offset % 8);
    const last = padded(offset + length);
    for (const shadow of this.#shadows) {
      this.#copyOutside(shadow, Math.max(first, shadow.page), Math.min(last, shadow.page + PAGE_SIZE));
    }
  }

  /** Copies the part of [first, last) that lies outside the page's holes. */
  #copyOutside(shadow: Shadow, first: number, last: number): void {
    let at = first;
    for (const { from, to } of shadow.holes) {
      if (at < Math.min(from, last)) shadow.memory.store(at, this.#memory.view, at, Math.min(from, last) - at);
      at = Math.max(at, to);
    }
    if (at < last) shadow.memory.store(at, this.#memory.view, at, last - at);
  }
}

/** Calls `visit` for every run of a STORE or PUBLISH: its place in the map, where its bytes are in `view`, how many. */
function eachRun(view: DataView, at: number, visit: (offset: number, from: number, length: number) => void): void {
  const body = at + HEADER_SIZE;
  if (view.getUint8(at + 4) === Kind.STORE) {
    visit(getUint64(view, at + 24), body, view.getUint32(at + 32, true));
    return;
  }
  const end = at + view.getUint32(at, true);
  for (let run = body; run < end; run += runSize(view, run)) {
    visit(runOffset(view, run), run + RUN_HEADER_SIZE, runLength(view, run));
  }
}

/** Whether no run of a STORE or PUBLISH is a masked one: stores that are queued have none. */
function isPlain(view: DataView): boolean {
  const end = view.getUint8(4) === Kind.PUBLISH ? view.getUint32(0, true) : 0;
  for (let run = HEADER_SIZE; run < end; run += runSize(view, run)) if (runIsMasked(view, run)) return false;
  return true;
}

/** Whether a process that asks for it has the map changed, or is shown it as it is at one place of the order. */
const changesMap = (kind: number): boolean =>
  kind === Kind.STORE ||
  kind === Kind.ATOMIC ||
  kind === Kind.PUBLISH ||
  kind === Kind.SHADOW ||
  kind === Kind.UNSHADOW;

function stampedTag(channel: Channel, tag: number): number {
  if (tag > 0xffff) throw new ProtocolError("a tag has 16 bits");
  return ((channel.index << 16) | tag) >>> 0;
}

function* pieces(op: number, bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += STATE_PIECE_MAX) {
    yield encode({ kind: Kind.STATE, op, body: bytes.subarray(at, at + STATE_PIECE_MAX) });
  }
}

/** Whether the frame at `at` is of the same publication as the part. */
function sameSender(part: Uint8Array, view: DataView, at: number): boolean {
  const first = new DataView(part.buffer, part.byteOffset);
  return (
    first.getUint32(8, true) === view.getUint32(at + 8, true) &&
    first.getUint32(12, true) === view.getUint32(at + 12, true)
  );
}

/** A part that is not the last and a cancel have no answer of their own. */
function isAnswered(kind: number, view: DataView, at: number): boolean {
  return kind !== Kind.SEM_CANCEL && !(kind === Kind.PUBLISH && view.getUint8(at + 5) === PublishOp.MORE);
}

function reason(status: Status, aux: number): string {
  if (status === Status.LOST) return `process ${aux} of the session was lost (it ended without leaving)`;
  if (status === Status.OWNER_DIED)
    return `process ${aux} ended while it had the lock; what it guards may be half done`;
  return REASONS[status] ?? "";
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  let difference = a.length ^ b.length;
  for (let i = 0; i < a.length; i += 1) difference |= (a[i] as number) ^ (b[i] as number);
  return difference === 0;
}
