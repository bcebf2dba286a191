/**
 * Activity: what is counted while entries are applied: how much each rank has written and where, and which requests
 * have waited since when. People are shown it; nothing is decided by it.
 *
 * The server and every node count, each for itself, so whichever node hands its state to a server that takes over hands
 * over the counts, too (ActivityState). Ages pass from one clock to the other as durations. A node's ages begin when it
 * applied the entry: at the server's time, but for the way of the entry.
 *
 * Every entry passes through apply(), so an entry costs arithmetic on typed arrays only; only the beginning and the end
 * of a wait access a Map. A reply to the entry's own request, while it is applied, means that the request did not wait.
 * There is no clock: the owner sets `now_ms` before it applies what it has received.
 */

import { PROCESSES_MAX } from "../base/limits.ts";
import { objectText, shownName } from "../base/names.ts";
import {
  type ActivityState,
  sleepPlace,
  type WaitingRequest,
  type WaitState,
  waitingRequests,
} from "../messages/activity-state.ts";
import type { Heat } from "../messages/daemon-api.ts";
import type { Phase, SessionState } from "../messages/session-state.ts";
import { At, FutexWaitAt, PublishAt, StoreAt } from "../wire/at.ts";
import { getUint64 } from "../wire/frame.ts";
import { Kind, PublishOp } from "../wire/kinds.ts";
import { nameAt } from "../wire/name-at.ts";
import { requestKey } from "../wire/request-key.ts";
import { HeatCells } from "./heat-cells.ts";
import { TraceBuffer } from "./trace.ts";

/** A request that has no reply yet. */
interface Wait {
  rank: number;
  kind: number;
  state: WaitState;
  on: string;
  since_ms: number;
}

const WAIT_STATES: Partial<Record<number, WaitState>> = {
  [Kind.BARRIER]: "barrier",
  [Kind.SEM_WAIT]: "semaphore",
  [Kind.LOCK]: "lock",
  [Kind.FUTEX_WAIT]: "sleeping",
  [Kind.COND_WAIT]: "condition",
  [Kind.RW_LOCK]: "rwlock",
  [Kind.ARRIVE]: "barrier",
};
const WAIT_KINDS: Record<WaitState, number> = {
  barrier: Kind.BARRIER,
  condition: Kind.COND_WAIT,
  rwlock: Kind.RW_LOCK,
  semaphore: Kind.SEM_WAIT,
  lock: Kind.LOCK,
  sleeping: Kind.FUTEX_WAIT,
};

/** What the request at `at` waits for, as people read it. */
function placeOfWait(view: DataView, at: number, kind: number, state: WaitState): string {
  const offset = getUint64(view, at + FutexWaitAt.mapOffset);
  if (kind === Kind.BARRIER) return "";
  if (state === "sleeping") return sleepPlace(offset);
  return state === "semaphore" || state === "lock" ? shownName(nameAt(view, at)) : objectText(state, offset);
}

/** The session whose entries are counted. */
export interface CountedSession {
  readonly phase: Phase;
  readonly bytesWritten: number;
  apply(view: DataView, at: number): void;
}

export class Activity {
  /** The time, in milliseconds, never going back. */
  now_ms: number;
  /** By rank: entries in the log, and their bytes of stores, atomics and publications. */
  readonly entries = new Float64Array(PROCESSES_MAX);
  readonly bytes = new Float64Array(PROCESSES_MAX);
  /** By rank: time of the last entry that wrote; NaN: none yet. */
  readonly #wrote_ms = new Float64Array(PROCESSES_MAX).fill(Number.NaN);
  /** By rank: time of the last change of its state. */
  readonly #changed_ms = new Float64Array(PROCESSES_MAX);
  #started_ms = Number.NaN;
  /** The time before which nothing is known; NaN: all is known. */
  #knownFrom_ms = Number.NaN;
  readonly #waits = new Map<number, Wait>();
  readonly #heat: HeatCells;
  /** The request whose entry is being applied, and whether it was answered at once. */
  #ownNode = -1;
  #ownTag = -1;
  #answered = false;
  /** Bytes that the parts of the current publication have written; its final part follows at once. */
  #partBytes = 0;
  /** Records for the client that traces the session, or null. */
  #trace: TraceBuffer | null = null;

  constructor(mapSize: number, now_ms: number) {
    this.now_ms = now_ms;
    this.#changed_ms.fill(now_ms);
    this.#heat = new HeatCells(mapSize);
  }

  /**
   * Continues from `state`, with what was counted for it. Undefined: the sender has not counted, and the counts begin
   * now. `told_ms`: the time at which the ages were told.
   */
  load(state: SessionState, counted: ActivityState | undefined, told_ms = this.now_ms): void {
    if (counted === undefined) {
      if (state.phase !== "joining") this.#started_ms = this.now_ms;
      if (state.seq > 0) this.#knownFrom_ms = this.now_ms;
    } else {
      if (counted.runningMs >= 0) this.#started_ms = told_ms - counted.runningMs;
      for (const { rank, entries, bytes, changedMs, wroteMs } of counted.ranks) {
        this.entries[rank] = entries;
        this.bytes[rank] = bytes;
        this.#changed_ms[rank] = told_ms - changedMs;
        if (wroteMs >= 0) this.#wrote_ms[rank] = told_ms - wroteMs;
      }
      if (counted.heat !== undefined) this.#heat.load(counted.heat);
    }
    let index = 0;
    for (const { from, state: waitState, on } of waitingRequests(state)) {
      const { rank, node, tag } = from;
      const since_ms = counted === undefined ? this.now_ms : told_ms - (counted.waitedMs[index] as number);
      index += 1;
      const kind = waitState === "barrier" && on !== "" ? Kind.ARRIVE : WAIT_KINDS[waitState];
      this.#waits.set(requestKey(node, tag), { rank, kind, state: waitState, on, since_ms });
    }
  }

  /** What was counted so far, for a receiver of `state`. Undefined: the counts do not go back to the beginning. */
  save(state: SessionState): ActivityState | undefined {
    if (!Number.isNaN(this.#knownFrom_ms)) return undefined;
    const age = (since_ms: number): number => Math.max(0, Math.round(this.now_ms - since_ms));
    const ageOrNone = (since_ms: number): number => (Number.isNaN(since_ms) ? -1 : age(since_ms));
    const waited = ({ from }: WaitingRequest): number =>
      age(this.#waits.get(requestKey(from.node, from.tag))?.since_ms ?? this.now_ms);
    return {
      runningMs: ageOrNone(this.#started_ms),
      ranks: state.processes.map(({ rank }) => ({
        rank,
        entries: this.entries[rank] as number,
        bytes: this.bytes[rank] as number,
        changedMs: age(this.#changed_ms[rank] as number),
        wroteMs: ageOrNone(this.#wrote_ms[rank] as number),
      })),
      waitedMs: [...waitingRequests(state)].map(waited),
      ...(this.#heat.isEmpty ? {} : { heat: this.#heat.report() }),
    };
  }

  /** Applies the entry at `at` to the session, or a part of one, and counts it. */
  apply(session: CountedSession, view: DataView, at: number): void {
    const { bytesWritten: before, phase } = session;
    this.#beforeApply(view, at);
    session.apply(view, at);
    this.#afterApply(view, at, session.bytesWritten - before);
    if (phase === "joining" && session.phase !== phase) this.#onStart();
  }

  #beforeApply(view: DataView, at: number): void {
    // A cancel answers another request that has the same tag.
    this.#ownTag = view.getUint8(at + At.kind) === Kind.SEM_CANCEL ? -1 : view.getUint32(at + At.tag, true);
    this.#ownNode = view.getUint32(at + At.node, true);
    this.#answered = false;
  }

  /** Effects.onReply(): a request got its reply. */
  onReply(node: number, tag: number): void {
    if (tag === this.#ownTag && node === this.#ownNode) {
      this.#answered = true;
    } else if (this.#waits.size > 0) {
      this.#endWait(requestKey(node, tag));
    }
  }

  #endWait(key: number): void {
    const wait = this.#waits.get(key);
    if (wait === undefined) return;
    this.#waits.delete(key);
    this.#changed_ms[wait.rank] = this.now_ms;
    this.#trace?.waited(this.now_ms, wait.rank, wait.kind, key);
  }

  #afterApply(view: DataView, at: number, bytes: number): void {
    const kind = view.getUint8(at + At.kind);
    const rank = view.getUint16(at + At.rank, true);
    // A JOIN has no rank yet: onRankAssigned() counts it. What a node itself says belongs to no rank.
    if (kind === Kind.JOIN || kind === Kind.COPY || kind === Kind.SEM_VALUE || kind === Kind.RETURN) return;
    if (kind === Kind.PUBLISH && view.getUint8(at + PublishAt.part) === PublishOp.PART) {
      this.#afterPart(view, at, rank, bytes);
      return;
    }
    this.#trace?.entry(this.now_ms, view, at, bytes + this.#partBytes);
    this.entries[rank] = (this.entries[rank] as number) + 1;
    if (kind === Kind.STORE || kind === Kind.ATOMIC) {
      this.#wrote(rank, bytes);
      // A map has at most 2^32 bytes.
      this.#heat.touch(rank, view.getUint32(at + StoreAt.mapOffset, true), bytes);
    } else if (kind === Kind.PUBLISH) {
      this.#partBytes = 0;
      this.#wrote(rank, bytes);
      this.#heat.touchRuns(rank, view, at);
    } else {
      const state = WAIT_STATES[kind];
      if (state !== undefined && !this.#answered) this.#beginWait(view, at, rank, kind, state);
    }
  }

  /** A part of a publication that is not the final one: it is no entry of its own. */
  #afterPart(view: DataView, at: number, rank: number, bytes: number): void {
    this.#partBytes += bytes;
    // The final part, which is the entry, may be empty.
    this.#wrote(rank, bytes);
    this.#heat.touchRuns(rank, view, at);
  }

  #wrote(rank: number, bytes: number): void {
    this.bytes[rank] = (this.bytes[rank] as number) + bytes;
    if (bytes > 0) this.#wrote_ms[rank] = this.now_ms;
  }

  #beginWait(view: DataView, at: number, rank: number, kind: number, state: WaitState): void {
    const on = placeOfWait(view, at, kind, state);
    const key = requestKey(this.#ownNode, this.#ownTag);
    this.#waits.set(key, { rank, kind, state, on, since_ms: this.now_ms });
    this.#changed_ms[rank] = this.now_ms;
    this.#trace?.waits(this.now_ms, rank, kind, key, on);
  }

  /** Effects.onRankAssigned(): resets the rank, which another process of an elastic session may have had before. */
  onRankAssigned(rank: number): void {
    this.entries[rank] = 1;
    this.bytes[rank] = 0;
    this.#wrote_ms[rank] = Number.NaN;
    this.#changed_ms[rank] = this.now_ms;
  }

  onProcessGone(rank: number): void {
    this.#changed_ms[rank] = this.now_ms;
  }

  /** All processes have joined. */
  #onStart(): void {
    this.#started_ms = this.now_ms;
    this.#changed_ms.fill(this.now_ms);
  }

  /** How long the session has run; 0 before all processes have joined. */
  get running_ms(): number {
    return Number.isNaN(this.#started_ms) ? 0 : this.now_ms - this.#started_ms;
  }

  /** How long anything is known; null: since the session began. */
  get knownMs(): number | null {
    return Number.isNaN(this.#knownFrom_ms) ? null : this.now_ms - this.#knownFrom_ms;
  }

  /** How long the rank has been in that state, waiting for `on`. */
  stateMs(rank: number, state: string, on: string | undefined): number {
    let since_ms = this.#changed_ms[rank] as number;
    for (const wait of this.#waits.values()) {
      if (wait.rank === rank && wait.state === state && wait.on === (on ?? ""))
        since_ms = Math.min(since_ms, wait.since_ms);
    }
    return this.now_ms - since_ms;
  }

  /** Time since the rank's last entry that wrote; null: none yet. */
  lastWriteMs(rank: number): number | null {
    const wrote_ms = this.#wrote_ms[rank] as number;
    return Number.isNaN(wrote_ms) ? null : this.now_ms - wrote_ms;
  }

  /** Begins a trace of every entry and wait. A wait that began before is recorded with the time at which it began. */
  beginTrace(): TraceBuffer {
    this.#trace = new TraceBuffer();
    for (const [key, wait] of this.#waits) this.#trace.waits(wait.since_ms, wait.rank, wait.kind, key, wait.on);
    return this.#trace;
  }

  endTrace(): void {
    this.#trace = null;
  }

  heat(): Heat {
    return this.#heat.report();
  }
}
