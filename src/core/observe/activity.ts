/**
 * Activity: what the server counts while it applies entries: how much each rank has written and where, and which
 * requests have waited since when. It is not part of the session's state, so no replica has it, and a server that takes
 * over starts from zero.
 *
 * The server calls it around each entry:
 *
 *     beforeApply ──▶ onReply (0 or more) ──▶ afterApply
 *
 * A reply to the entry's own request in between means that the request did not wait. Every entry passes through here,
 * so an entry costs arithmetic on typed arrays only; only the beginning and the end of a wait access a Map. There is no
 * clock: the shell sets `now_ms` before it passes on received bytes.
 */

import { HEAT_CELL_MIN, HEAT_CELLS_MAX, PROCESSES_MAX } from "../base/limits.ts";
import type { Heat } from "../messages/daemon-api.ts";
import { At, FutexWaitAt, HEADER_SIZE, SemaphoreAt, StoreAt } from "../wire/at.ts";
import { bodyText, getUint64 } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import { requestKey } from "../wire/request-key.ts";
import { runLength, runSize } from "../wire/runs.ts";
import { TraceBuffer } from "./trace.ts";

export type WaitState = "barrier" | "semaphore" | "lock" | "sleeping";

/** A request that has no reply yet. */
interface Wait {
  rank: number;
  kind: number;
  state: WaitState;
  /** Name of the semaphore or lock, or the place of the sleep; "" for a barrier. */
  on: string;
  since_ms: number;
}

const WAIT_STATES: Partial<Record<number, WaitState>> = {
  [Kind.BARRIER]: "barrier",
  [Kind.SEM_WAIT]: "semaphore",
  [Kind.LOCK]: "lock",
  [Kind.FUTEX_WAIT]: "sleeping",
};

export class Activity {
  /** The time that the shell has set. */
  now_ms: number;
  /** By rank: entries in the log, and their bytes of stores, atomics and publications. */
  readonly entries = new Float64Array(PROCESSES_MAX);
  readonly bytes = new Float64Array(PROCESSES_MAX);
  /** By rank: time of the last entry that wrote; NaN: none yet. */
  readonly #wrote_ms = new Float64Array(PROCESSES_MAX).fill(Number.NaN);
  /** By rank: time of the last change of its state. */
  readonly #changed_ms = new Float64Array(PROCESSES_MAX);
  #started_ms = Number.NaN;
  readonly #waits = new Map<number, Wait>();
  /** A cell of the map has 1 << shift bytes. */
  readonly #shift: number;
  readonly #writers: Int16Array;
  readonly #writes: Float64Array;
  /** The request whose entry is being applied, and whether it was answered at once. */
  #ownNode = -1;
  #ownTag = -1;
  #answered = false;
  /** Bytes that the parts of the current publication have written; its final part follows at once. */
  #partBytes = 0;
  /** Records for the client that traces the session, or null. */
  #trace: TraceBuffer | null = null;

  /** `running`: the session began before this server did. */
  constructor(mapSize: number, now_ms: number, running: boolean) {
    this.now_ms = now_ms;
    this.#changed_ms.fill(now_ms);
    if (running) this.#started_ms = now_ms;
    let shift = Math.log2(HEAT_CELL_MIN);
    while (mapSize > HEAT_CELLS_MAX * 2 ** shift) shift += 1;
    this.#shift = shift;
    const cells = Math.ceil(mapSize / 2 ** shift);
    this.#writers = new Int16Array(cells).fill(-1);
    this.#writes = new Float64Array(cells);
  }

  /** Must be called before the entry at `at` is applied. */
  beforeApply(view: DataView, at: number): void {
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

  /** Must be called after the entry at `at` was applied, which wrote `bytes` bytes. */
  afterApply(view: DataView, at: number, bytes: number): void {
    const kind = view.getUint8(at + At.kind);
    const rank = view.getUint16(at + At.rank, true);
    // A JOIN has no rank yet: onRankAssigned() counts it. A map upload, and the return of a lease, belong to no rank.
    if (kind === Kind.JOIN || kind === Kind.COPY || kind === Kind.RETURN) return;
    this.#trace?.entry(this.now_ms, view, at, bytes + this.#partBytes);
    if (kind === Kind.STORE || kind === Kind.ATOMIC) {
      this.#count(rank, bytes);
      // A map has at most 2^32 bytes.
      this.#touch(rank, view.getUint32(at + StoreAt.mapOffset, true), bytes);
    } else if (kind === Kind.PUBLISH) {
      this.#partBytes = 0;
      this.#count(rank, bytes);
      this.#touchRuns(rank, view, at);
    } else {
      this.entries[rank] = (this.entries[rank] as number) + 1;
      const state = WAIT_STATES[kind];
      if (state !== undefined && !this.#answered) this.#beginWait(view, at, rank, kind, state);
    }
  }

  /** Must be called after a part of a publication that is not the final one: it is no entry of its own. */
  afterPart(view: DataView, at: number, bytes: number): void {
    const rank = view.getUint16(at + At.rank, true);
    this.bytes[rank] = (this.bytes[rank] as number) + bytes;
    this.#partBytes += bytes;
    // The final part, which is the entry, may be empty.
    if (bytes > 0) this.#wrote_ms[rank] = this.now_ms;
    this.#touchRuns(rank, view, at);
  }

  #count(rank: number, bytes: number): void {
    this.entries[rank] = (this.entries[rank] as number) + 1;
    this.bytes[rank] = (this.bytes[rank] as number) + bytes;
    if (bytes > 0) this.#wrote_ms[rank] = this.now_ms;
  }

  #touch(rank: number, offset: number, length: number): void {
    const first = offset >>> this.#shift;
    const last = (offset + length - 1) >>> this.#shift;
    this.#writers[first] = rank;
    this.#writes[first] = (this.#writes[first] as number) + 1;
    for (let cell = first + 1; cell <= last; cell += 1) {
      this.#writers[cell] = rank;
      this.#writes[cell] = (this.#writes[cell] as number) + 1;
    }
  }

  /** Counts consecutive runs in one cell as one write of it. */
  #touchRuns(rank: number, view: DataView, at: number): void {
    const end = at + view.getUint32(at, true);
    let done = -1;
    for (let run = at + HEADER_SIZE; run < end; run += runSize(view, run)) {
      // A map has at most 2^32 bytes.
      const offset = view.getUint32(run, true);
      const first = offset >>> this.#shift;
      const last = (offset + runLength(view, run) - 1) >>> this.#shift;
      for (let cell = first === done ? first + 1 : first; cell <= last; cell += 1) {
        this.#writers[cell] = rank;
        this.#writes[cell] = (this.#writes[cell] as number) + 1;
      }
      done = last;
    }
  }

  #beginWait(view: DataView, at: number, rank: number, kind: number, state: WaitState): void {
    let on = "";
    if (state === "sleeping") on = `0x${getUint64(view, at + FutexWaitAt.mapOffset).toString(16)}`;
    else if (state !== "barrier") {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      on = bodyText(bytes, at + HEADER_SIZE, view.getUint32(at + SemaphoreAt.nameLength, true));
    }
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
  onStart(): void {
    this.#started_ms = this.now_ms;
    this.#changed_ms.fill(this.now_ms);
  }

  /** How long the session has run; 0 before all processes have joined. */
  get running_ms(): number {
    return Number.isNaN(this.#started_ms) ? 0 : this.now_ms - this.#started_ms;
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
    return { cell: 2 ** this.#shift, writers: [...this.#writers], writes: [...this.#writes] };
  }
}
