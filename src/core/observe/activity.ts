/**
 * What the server notes of the order as it passes: who has written how much and where, and who waits since when. It is no
 * part of the session's state, so no replica has it, and a server that takes over begins to count anew.
 *
 * Every entry comes through here, so an entry costs arithmetic on typed arrays and nothing else; only the beginning and
 * the end of a wait cost a map. There is no clock: the shell says what time it is before it hands over what came.
 */

import { HEAT_CELL_MIN, HEAT_CELLS_MAX, PROCESSES_MAX } from "../base/limits.ts";
import type { Heat } from "../messages/daemon-api.ts";
import { At, HEADER_SIZE, SemaphoreAt, SleepAt, StoreAt } from "../wire/at.ts";
import { bodyText, getUint64 } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import { requestKey } from "../wire/request-key.ts";
import { runLength, runSize } from "../wire/runs.ts";
import { TraceBuffer } from "./trace.ts";

export type WaitState = "barrier" | "semaphore" | "lock" | "sleeping";

/** A request that is not answered yet because its process waits. */
interface Wait {
  rank: number;
  kind: number;
  state: WaitState;
  /** Name of the semaphore or lock, or the place; "" for a barrier. */
  on: string;
  since_ms: number;
}

const WAIT_STATES: Partial<Record<number, WaitState>> = {
  [Kind.BARRIER]: "barrier",
  [Kind.SEM_WAIT]: "semaphore",
  [Kind.LOCK]: "lock",
  [Kind.SLEEP]: "sleeping",
};

export class Activity {
  /** The time, as the shell has said. */
  now_ms: number;
  /** By rank: entries in the order, and their bytes of stores, atomics and publications. */
  readonly entries = new Float64Array(PROCESSES_MAX);
  readonly bytes = new Float64Array(PROCESSES_MAX);
  /** By rank: when its last entry came that wrote; NaN: none yet. */
  readonly #wrote_ms = new Float64Array(PROCESSES_MAX).fill(Number.NaN);
  /** By rank: when it last began or ceased to do something. */
  readonly #changed_ms = new Float64Array(PROCESSES_MAX);
  #started_ms = Number.NaN;
  readonly #waits = new Map<number, Wait>();
  /** Bytes of a cell of the map are 1 << shift. */
  readonly #shift: number;
  readonly #writers: Int16Array;
  readonly #writes: Float64Array;
  /** The request whose entry is being applied, and whether it was answered at once. */
  #ownNode = -1;
  #ownTag = -1;
  #answered = false;
  /** What parts of the publication that comes next have written; its last follows at once. */
  #partBytes = 0;
  /** Of who traces the session, or null. */
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

  /** Before the entry at `at` is applied. */
  begins(view: DataView, at: number): void {
    // A cancel answers another request with the same tag.
    this.#ownTag = view.getUint8(at + At.kind) === Kind.SEM_CANCEL ? -1 : view.getUint32(at + At.tag, true);
    this.#ownNode = view.getUint32(at + At.node, true);
    this.#answered = false;
  }

  /** A request was answered: Effects.complete(). */
  completed(node: number, tag: number): void {
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

  /** After the entry at `at` was applied, which wrote so many bytes. */
  applied(view: DataView, at: number, bytes: number): void {
    const kind = view.getUint8(at + At.kind);
    const rank = view.getUint16(at + At.rank, true);
    // Of a JOIN nobody has the rank yet: ranked() counts it. And the copy of a map is nobody's.
    if (kind === Kind.JOIN || kind === Kind.COPY) return;
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

  /** After a part of a publication that is not the last: that is no entry of its own. */
  appliedPart(view: DataView, at: number, bytes: number): void {
    const rank = view.getUint16(at + At.rank, true);
    this.bytes[rank] = (this.bytes[rank] as number) + bytes;
    this.#partBytes += bytes;
    // The last one, which is the entry, may bring nothing more.
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

  /** A cell that several runs one behind the other touch was written once. */
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
    if (state === "sleeping") on = `0x${getUint64(view, at + SleepAt.mapOffset).toString(16)}`;
    else if (state !== "barrier") {
      const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
      on = bodyText(bytes, at + HEADER_SIZE, view.getUint32(at + SemaphoreAt.nameLength, true));
    }
    const key = requestKey(this.#ownNode, this.#ownTag);
    this.#waits.set(key, { rank, kind, state, on, since_ms: this.now_ms });
    this.#changed_ms[rank] = this.now_ms;
    this.#trace?.waits(this.now_ms, rank, kind, key, on);
  }

  /** A process got its rank; in an elastic session somebody else may have had it. */
  ranked(rank: number): void {
    this.entries[rank] = 1;
    this.bytes[rank] = 0;
    this.#wrote_ms[rank] = Number.NaN;
    this.#changed_ms[rank] = this.now_ms;
  }

  gone(rank: number): void {
    this.#changed_ms[rank] = this.now_ms;
  }

  /** All have joined. */
  started(): void {
    this.#started_ms = this.now_ms;
    this.#changed_ms.fill(this.now_ms);
  }

  /** For how long the session runs; 0 before all have joined. */
  get running_ms(): number {
    return Number.isNaN(this.#started_ms) ? 0 : this.now_ms - this.#started_ms;
  }

  /** For how long the rank has been in that state, waiting on that. */
  stateMs(rank: number, state: string, on: string | undefined): number {
    let since_ms = this.#changed_ms[rank] as number;
    for (const wait of this.#waits.values()) {
      if (wait.rank === rank && wait.state === state && wait.on === (on ?? ""))
        since_ms = Math.min(since_ms, wait.since_ms);
    }
    return this.now_ms - since_ms;
  }

  /** How long ago the rank's last entry was that wrote; null: none yet. */
  lastWriteMs(rank: number): number | null {
    const wrote_ms = this.#wrote_ms[rank] as number;
    return Number.isNaN(wrote_ms) ? null : this.now_ms - wrote_ms;
  }

  /** Notes all that happens from here on. Waits that have begun before begin with their true time. */
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
