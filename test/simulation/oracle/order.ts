/**
 * The order of entries, as the server gave it or as the node of a direct session decided it, with what every memory and
 * every state must be behind each of its frames: what the oracles and a session of its own say.
 */
import type { Status } from "../../../src/core/base/errors.ts";
import type { Block } from "../../../src/core/messages/session-state.ts";
import type { Session } from "../../../src/core/session/session.ts";
import { At, BarrierAt, HEADER_SIZE, PublishAt } from "../../../src/core/wire/at.ts";
import { bodyText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind, NO_TAG, PublishOp } from "../../../src/core/wire/kinds.ts";
import { requestKey } from "../../../src/core/wire/request-key.ts";
import { Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import { Conditions } from "./conditions.ts";
import { CountedBarriers } from "./counted-barriers.ts";
import { Futexes } from "./futexes.ts";
import { Heap } from "./heap.ts";
import { Locks } from "./locks.ts";
import { execute, WRITES } from "./memory.ts";
import type { Judged, Oracle } from "./oracle.ts";
import { RwLocks } from "./rw-locks.ts";
import { Semaphores } from "./semaphores.ts";
import { isOf, keyOf, SentFrames } from "./sent-frames.ts";
import { type Verdict, Verdicts } from "./verdicts.ts";

/** Snapshots are compared at every so many entries: they are slow to take. */
const SNAPSHOT_EVERY = 16;

export interface Entry {
  /** How many frames of the order end with this one. */
  index: number;
  seq: number;
  /** The value before an atomic operation. */
  old: Uint8Array | null;
}

/** A frame of the order. */
export interface Recorded {
  frame: Uint8Array;
  entry: Entry;
  /** The block that it gave out. */
  zeroed: Block | null;
}

/** A part of a publication that has more. */
export const isPart = (frame: Uint8Array): boolean =>
  frame[At.kind] === Kind.PUBLISH && frame[PublishAt.part] === PublishOp.PART;

/** The node that asked for an entry. */
export const nodeOf = (frame: Uint8Array): number => viewOf(frame).getUint32(At.node, true);

export interface OrderOptions {
  makeSession: () => Session;
  /** Size of the map. */
  size: number;
  /** Where the words begin that only those change who then wake all that sleep there. */
  wordsFrom: number;
}

export class Order {
  /** The state machine, one frame at a time. */
  session: Session;
  readonly futexes = new Futexes();
  readonly locks = new Locks();
  readonly conditions = new Conditions(this.locks);
  readonly rwLocks = new RwLocks();
  readonly countedBarriers = new CountedBarriers();
  readonly semaphores = new Semaphores((name) => this.session.semaphores().find((one) => one.name === name)?.value);
  readonly heap: Heap;
  readonly sent = new SentFrames();
  /** The reference memory behind so many frames; of a direct session, without what its processes write. */
  readonly versions: Uint8Array[];
  /** Where the frames end, in bytes of the order. */
  readonly ends: number[] = [0];
  readonly frames: Recorded[] = [];
  readonly snapshots = new Map<number, string>();
  /** The index of the frame that completed each sequence number. */
  readonly completed: number[] = [0];
  /** The node that decided is gone: what it did not hand on has not happened. */
  deciderLost = false;
  readonly #verdicts = new Verdicts();
  readonly #makeSession: () => Session;
  readonly #entries = new Map<number, Entry>();
  /** Barriers that were over when a process joined, by its request to join. */
  readonly #barriers = new Map<number, number>();
  /** How many frames the server has broadcast. */
  #announced = 0;
  /** A process of the session was lost after it had begun. */
  #wasLost = false;
  /** The publication of which not all parts are in the order, or -1. */
  #open = -1;

  constructor({ makeSession, size, wordsFrom }: OrderOptions) {
    this.#makeSession = makeSession;
    this.session = makeSession();
    this.heap = new Heap(size, wordsFrom);
    this.versions = [new Uint8Array(size)];
  }

  get #oracles(): Oracle[] {
    const objects = [this.conditions, this.rwLocks, this.countedBarriers];
    return [this.futexes, this.locks, ...objects, this.semaphores, this.heap];
  }

  /** Whether a process was lost somewhere in the order, and with it the session. */
  get lost(): boolean {
    return this.session.lostRank >= 0 && this.session.config.onLoss === "fail";
  }

  /** Barriers that processes have passed without requests, as entries tell. */
  get passedByCell(): number {
    const told = this.frames.filter(({ frame }) => frame[At.kind] === Kind.BARRIER);
    return told.reduce((sum, { frame }) => sum + getUint64(viewOf(frame), BarrierAt.passed), 0);
  }

  /** How many frames it has. */
  get length(): number {
    return this.versions.length - 1;
  }

  /** The memory behind all of it. */
  get memory(): Uint8Array {
    return this.versions.at(-1) as Uint8Array;
  }

  placeOf(node: number, channel: number, tag: number): Entry | undefined {
    return this.#entries.get(keyOf(node, channel, tag));
  }

  barriersBefore(node: number, channel: number): number {
    return this.#barriers.get(keyOf(node, channel, 0)) ?? 0;
  }

  /** The answer to a request, once. */
  takeVerdict(node: number, channel: number, tag: number): Verdict | undefined {
    return this.#verdicts.take(keyOf(node, channel, tag));
  }

  /** The channel's number has a new owner: nothing the old one sent may still come. */
  forget(node: number, channel: number): void {
    this.sent.forget((request) => isOf(request, node, channel));
    this.#verdicts.forget((request) => isOf(request, node, channel));
  }

  /** The server broadcasts a frame: what its node decided, or else something new. */
  announce(frame: Uint8Array): void {
    const known = this.frames[this.#announced];
    if (known !== undefined && Buffer.compare(known.frame, frame) !== 0) {
      if (!this.deciderLost) throw new Violation("the server gives another order than its node decided");
      this.#rewind(this.#announced);
    }
    if (this.#announced === this.frames.length) this.add(frame);
    this.#announced += 1;
  }

  /** Only so many frames have happened after all. */
  #rewind(count: number): void {
    const kept = this.frames.splice(0).slice(0, count);
    this.session = this.#makeSession();
    this.#wasLost = false;
    for (const list of [this.versions, this.ends, this.completed]) list.length = 1;
    for (const map of [this.snapshots, this.#entries]) map.clear();
    for (const oracle of this.#oracles) oracle.reset();
    const all = (): boolean => true;
    for (const { frame } of kept) {
      // The processes that asked are gone with the node.
      this.#verdicts.forget(all);
      this.#take(frame);
    }
    this.#verdicts.forget(all);
  }

  add(frame: Uint8Array): void {
    const view = viewOf(frame);
    const kind = view.getUint8(At.kind);
    const tag = view.getUint32(At.tag, true);
    const at = requestKey(view.getUint32(At.node, true), tag);
    if (getUint64(view, At.seq) !== this.session.seq + 1) throw new Violation("the order skips a number");
    if (this.#open >= 0 && (kind !== Kind.PUBLISH || this.#open !== at))
      throw new Violation("a publication is cut in two");
    this.#open = isPart(frame) ? at : -1;
    if (kind !== Kind.JOIN && kind !== Kind.SEM_CANCEL && tag !== NO_TAG)
      this.sent.check(at, frame, this.session.direct);
    this.#take(frame.slice());
  }

  #take(frame: Uint8Array): void {
    const view = viewOf(frame);
    const kind = view.getUint8(At.kind);
    const before = this.memory;
    const after = WRITES.has(kind) ? before.slice() : before;
    const old = execute(after, frame);
    this.versions.push(after);
    this.ends.push((this.ends.at(-1) as number) + frame.length);
    const index = this.length;
    const say = (request: number, status: Status, value = 0): void =>
      this.#verdicts.say(request, { status, value, index });
    const judged = this.#judged(frame, before);
    if (kind === Kind.SEM_CANCEL && judged.op === 1 && (judged.mayLease || !this.#maySendBack(judged.at)))
      throw new Violation("a process that does not wait for what has a cell that it knows is sent back there");
    const entry = { index, seq: this.session.seq + 1, old };
    this.#entries.set(judged.at, entry);
    // The oracles follow before the session does: they judge by the state before the entry.
    const zeroed = this.#oracles.map((oracle) => oracle.judge(judged, say)).find((block) => block !== null) ?? null;
    if (zeroed !== null) after.fill(0, zeroed.offset, zeroed.offset + zeroed.size);
    this.frames.push({ frame, entry, zeroed });
    if (kind === Kind.JOIN) this.#barriers.set(judged.at, this.session.state().barriers);
    this.session.apply(view, 0);
    this.#wasLost ||= judged.ends && judged.op === 1 && this.session.phase === "running";
    for (const oracle of kind === Kind.LEAVE ? this.#oracles : []) {
      if (this.lost && this.session.phase === "running") oracle.sessionLost?.(say);
      if (judged.ends) oracle.processGone?.(judged, say, this.session.presentOn(judged.node).length === 0);
    }
    if (!isPart(frame)) this.completed.push(index);
    if (index % SNAPSHOT_EVERY === 0) this.snapshots.set(index, JSON.stringify(this.session.state()));
  }

  #maySendBack(request: number): boolean {
    return this.locks.maySendBack(request) || this.semaphores.maySendBack(request);
  }

  #judged(frame: Uint8Array, memory: Uint8Array): Judged {
    const view = viewOf(frame);
    const kind = view.getUint8(At.kind);
    const rank = view.getUint16(At.rank, true);
    const node = view.getUint32(At.node, true);
    const length = view.getUint32(At.length, true);
    const offset = getUint64(view, At.offset);
    const hasLeft = !this.session.mayIssue(rank, node);
    const block = kind === Kind.FREE && !hasLeft ? this.heap.blocks.find((one) => one.offset === offset) : undefined;
    return {
      ...{ kind, rank, node, length, frame, memory },
      at: requestKey(node, view.getUint32(At.tag, true)),
      op: view.getUint8(At.op),
      offset,
      count: view.getUint32(At.aux, true),
      get name(): string {
        return bodyText(frame, HEADER_SIZE, length);
      },
      hasLeft,
      freed: block ?? null,
      isLost: this.lost,
      ends: kind === Kind.LEAVE && this.session.presentOn(node).includes(rank),
      mayLease: !this.session.direct && !this.#wasLost,
    };
  }
}
