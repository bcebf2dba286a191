/**
 * The trace of a session: entries and waits, as the server records them while a client asks for it, as they travel
 * (TRACE frames), and as trace events for Perfetto and chrome://tracing (the "JSON Object Format" of Google's "Trace
 * Event Format").
 *
 * A record is 24 bytes, little-endian, whose fields RecordAt names, and a name padded to 8 bytes.
 */

import { TRACE_BUFFER_BYTES } from "../base/limits.ts";
import { isObjectText, nameInText, objectText, shownName } from "../base/names.ts";
import type { TraceInfo } from "../messages/trace-info.ts";
import { At, StoreAt } from "../wire/at.ts";
import { bodyText, getUint64, ProtocolError, padded } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import { nameAt } from "../wire/name-at.ts";

const RecordAt = {
  /** f64: milliseconds since 1970. */
  time: 0,
  /** f64: of an entry, its place in the map; of a wait, a number that its beginning and its end share. */
  where: 8,
  /** u32: bytes written. */
  bytes: 16,
  /** u16. */
  rank: 20,
  /** u8: kind of the entry; WAIT_BEGINS or WAIT_ENDS is added for a wait. */
  kind: 22,
  /** u8: bytes of the name. */
  nameLength: 23,
  name: 24,
} as const;
const RECORD_SIZE = 24;
const WAIT_BEGINS = 0x80;
const WAIT_ENDS = 0x40;
const NAMED: ReadonlySet<number> = new Set([Kind.SEM_WAIT, Kind.SEM_POST, Kind.LOCK, Kind.UNLOCK, Kind.NAMED]);
/** Operations on objects in the map that have no name, and what the objects are. */
const OBJECTS: Partial<Record<number, string>> = {
  [Kind.COND_WAIT]: "condition",
  [Kind.COND_SIGNAL]: "condition",
  [Kind.RW_LOCK]: "rwlock",
  [Kind.RW_UNLOCK]: "rwlock",
  [Kind.ARRIVE]: "barrier",
  [Kind.OBJECT_INIT]: "object",
};

/** TraceBuffer: records that were not sent yet. When it is full, further records are dropped and counted. */
export class TraceBuffer {
  readonly #bytes = new Uint8Array(TRACE_BUFFER_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  #length = 0;
  #dropped = 0;

  /** Records the entry at `at`, which was applied and wrote `bytes` bytes. */
  entry(now_ms: number, view: DataView, at: number, bytes: number): void {
    const kind = view.getUint8(at + At.kind);
    const named = NAMED.has(kind);
    const offset = named || kind === Kind.JOIN || kind === Kind.ALLOC ? 0 : getUint64(view, at + StoreAt.mapOffset);
    const object = OBJECTS[kind];
    const name = named ? shownName(nameAt(view, at)) : object === undefined ? "" : objectText(object, offset);
    const where = object === undefined ? offset : 0;
    this.#push(
      now_ms,
      where,
      bytes,
      view.getUint16(at + At.rank, true),
      kind,
      name === "" ? null : new TextEncoder().encode(name),
    );
  }

  waits(now_ms: number, rank: number, kind: number, which: number, on: string): void {
    this.#push(now_ms, which, 0, rank, kind | WAIT_BEGINS, new TextEncoder().encode(on));
  }

  waited(now_ms: number, rank: number, kind: number, which: number): void {
    this.#push(now_ms, which, 0, rank, kind | WAIT_ENDS, null);
  }

  #push(now_ms: number, where: number, bytes: number, rank: number, kind: number, name: Uint8Array | null): void {
    const at = this.#length;
    const size = RECORD_SIZE + padded(name?.length ?? 0);
    if (at + size > this.#bytes.length) {
      this.#dropped += 1;
      return;
    }
    const view = this.#view;
    view.setFloat64(at + RecordAt.time, now_ms, true);
    view.setFloat64(at + RecordAt.where, where, true);
    view.setUint32(at + RecordAt.bytes, bytes, true);
    view.setUint16(at + RecordAt.rank, rank, true);
    view.setUint8(at + RecordAt.kind, kind);
    view.setUint8(at + RecordAt.nameLength, name?.length ?? 0);
    if (name !== null) this.#bytes.set(name, at + RecordAt.name);
    this.#length += size;
  }

  /** Takes the records since the last call, valid until the next entry. */
  take(): { records: Uint8Array; dropped: number } {
    const taken = { records: this.#bytes.subarray(0, this.#length), dropped: this.#dropped };
    this.#length = 0;
    this.#dropped = 0;
    return taken;
  }
}

export interface TraceRecord {
  time_ms: number;
  what: "entry" | "waits" | "waited";
  rank: number;
  /** Kind of the entry, or of the request that waits. */
  kind: number;
  /** Of an entry: its place in the map. Of a wait: its number. */
  where: number;
  bytes: number;
  name: string;
}

/** Parses the records in the body of a TRACE frame. Throws ProtocolError. */
export function* readRecords(body: Uint8Array): Generator<TraceRecord> {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  for (let at = 0; at < body.length; ) {
    if (at + RECORD_SIZE > body.length) throw new ProtocolError("a record of the trace is cut short");
    const length = view.getUint8(at + RecordAt.nameLength);
    const next = at + RECORD_SIZE + padded(length);
    if (next > body.length) throw new ProtocolError("a record of the trace is cut short");
    const kind = view.getUint8(at + RecordAt.kind);
    yield {
      time_ms: view.getFloat64(at + RecordAt.time, true),
      what: (kind & WAIT_BEGINS) !== 0 ? "waits" : (kind & WAIT_ENDS) !== 0 ? "waited" : "entry",
      rank: view.getUint16(at + RecordAt.rank, true),
      kind: kind & ~(WAIT_BEGINS | WAIT_ENDS),
      where: view.getFloat64(at + RecordAt.where, true),
      bytes: view.getUint32(at + RecordAt.bytes, true),
      name: bodyText(body, at + RecordAt.name, length),
    };
    at = next;
  }
}

/** One event of the format: `ts` and `dur` are microseconds from the beginning of the trace. */
export interface TraceEvent {
  name: string;
  ph: "X" | "i" | "C" | "M";
  pid: number;
  tid: number;
  ts?: number;
  dur?: number;
  s?: "t";
  cat?: string;
  args?: Record<string, string | number>;
}

/** Name and category of each kind of entry: each `trap` is an instruction that trapped. */
const ENTRIES: Partial<Record<number, [name: string, category: string]>> = {
  [Kind.STORE]: ["store", "trap"],
  [Kind.ATOMIC]: ["atomic", "trap"],
  [Kind.PUBLISH]: ["publication", "publication"],
  [Kind.JOIN]: ["join", "operation"],
  [Kind.LEAVE]: ["leave", "operation"],
  [Kind.BARRIER]: ["barrier", "operation"],
  [Kind.SEM_WAIT]: ["semaphore wait", "operation"],
  [Kind.SEM_POST]: ["semaphore post", "operation"],
  [Kind.SEM_CANCEL]: ["cancel", "operation"],
  [Kind.LOCK]: ["lock", "operation"],
  [Kind.UNLOCK]: ["unlock", "operation"],
  [Kind.ALLOC]: ["alloc", "operation"],
  [Kind.NAMED]: ["named block", "operation"],
  [Kind.FREE]: ["free", "operation"],
  [Kind.FUTEX_WAIT]: ["sleep", "operation"],
  [Kind.FUTEX_WAKE]: ["wake", "operation"],
  [Kind.COND_WAIT]: ["condition wait", "operation"],
  [Kind.COND_SIGNAL]: ["signal", "operation"],
  [Kind.RW_LOCK]: ["lock", "operation"],
  [Kind.RW_UNLOCK]: ["unlock", "operation"],
  [Kind.ARRIVE]: ["arrive", "operation"],
  [Kind.OBJECT_INIT]: ["init", "operation"],
};

function waitText(kind: number, name: string): string {
  switch (kind) {
    case Kind.BARRIER:
      return "in barrier";
    case Kind.FUTEX_WAIT:
      return `asleep on ${name}`;
    case Kind.LOCK:
    case Kind.SEM_WAIT:
      return `waits for ${nameInText(kind === Kind.LOCK ? "lock" : "semaphore", name)}`;
    default:
      return `waits for the ${name}`;
  }
}

/** Interval of the counters' values. */
const COUNTER_MS = 100;
/** Threads of a rank that wait at the same time have a lane each, whose number is the rank plus a multiple of this. */
const LANE_STRIDE = 10_000;

interface OpenWait {
  record: TraceRecord;
  lane: number;
}

/** ChromeTrace: makes events of records. A process of the format is a node, a thread a rank. */
export class ChromeTrace {
  readonly #info: TraceInfo;
  /** Number of each node, from 1; 0: the node of a rank is not known. */
  readonly #nodes: string[];
  readonly #nodeOf = new Map<number, number>();
  readonly #open = new Map<string, OpenWait>();
  readonly #counts = new Map<number, { entries: number; bytes: number }>();
  #counted_ms: number;
  /** Lanes whose name event was written. */
  readonly #lanes = new Set<number>();

  constructor(info: TraceInfo) {
    this.#info = info;
    this.#nodes = [...new Set(info.ranks.map(({ node }) => node))];
    for (const { rank, node } of info.ranks) this.#nodeOf.set(rank, this.#nodes.indexOf(node) + 1);
    this.#counted_ms = info.time_ms;
  }

  #at(rank: number, lane = 0): { pid: number; tid: number } {
    return { pid: this.#nodeOf.get(rank) ?? 0, tid: rank + lane * LANE_STRIDE };
  }

  #ts(time_ms: number): number {
    return Math.round((time_ms - this.#info.time_ms) * 1000);
  }

  *begin(): Generator<TraceEvent> {
    for (const [index, node] of this.#nodes.entries()) {
      yield { name: "process_name", ph: "M", pid: index + 1, tid: 0, args: { name: `node ${node}` } };
    }
    for (const { rank } of this.#info.ranks) yield* this.#lane(rank, 0);
  }

  *#lane(rank: number, lane: number): Generator<TraceEvent> {
    const at = this.#at(rank, lane);
    if (this.#lanes.has(at.tid)) return;
    this.#lanes.add(at.tid);
    const pid = this.#info.ranks.find((one) => one.rank === rank)?.pid;
    const name = `rank ${rank}${pid === undefined ? "" : ` (process ${pid})`}${lane > 0 ? `, wait ${lane + 1}` : ""}`;
    yield { name: "thread_name", ph: "M", ...at, args: { name } };
  }

  *record(record: TraceRecord): Generator<TraceEvent> {
    yield* this.#counters(record.time_ms);
    const { rank, kind, where, bytes, name, what } = record;
    const key = `${rank} ${where}`;
    if (what === "waits") {
      const taken = new Set(
        [...this.#open.values()].filter((wait) => wait.record.rank === rank).map(({ lane }) => lane),
      );
      let lane = 0;
      while (taken.has(lane)) lane += 1;
      yield* this.#lane(rank, lane);
      this.#open.set(key, { record, lane });
    } else if (what === "waited") {
      const wait = this.#open.get(key);
      this.#open.delete(key);
      if (wait !== undefined) yield this.#span(wait, record.time_ms, {});
    } else {
      yield* this.#lane(rank, 0);
      const count = this.#counts.get(rank) ?? { entries: 0, bytes: 0 };
      this.#counts.set(rank, { entries: count.entries + 1, bytes: count.bytes + bytes });
      const [entry, cat] = ENTRIES[kind] ?? [`entry of kind ${kind}`, "operation"];
      const passed = kind === Kind.BARRIER ? where : 0;
      const args = {
        ...(passed > 0 ? { barriers: passed } : {}),
        ...(kind === Kind.STORE || kind === Kind.ATOMIC ? { offset: `0x${where.toString(16)}` } : {}),
        ...(bytes > 0 ? { bytes } : {}),
      };
      const on = isObjectText(name) ? name : `"${name}"`;
      const shown = passed > 0 ? "barriers passed" : name === "" ? entry : `${entry} ${on}`;
      yield { name: shown, cat, ph: "i", s: "t", ts: this.#ts(record.time_ms), ...this.#at(rank), args };
    }
  }

  #span({ record, lane }: OpenWait, until_ms: number, args: Record<string, string>): TraceEvent {
    const { kind, name, rank, time_ms } = record;
    const what = waitText(kind, name);
    // Viewers drop events before 0, and a wait that began an hour before the trace would leave most of the view empty.
    const ts = Math.max(0, this.#ts(time_ms));
    const before_ms = Math.round(this.#info.time_ms - time_ms);
    const known = before_ms > 0 ? { "waited before the trace, ms": before_ms, ...args } : args;
    const dur = Math.max(0, this.#ts(until_ms) - ts);
    return { name: what, cat: "wait", ph: "X", ts, dur, ...this.#at(rank, lane), args: known };
  }

  /** Counter events: entries and bytes of each rank in each complete COUNTER_MS. */
  *#counters(now_ms: number): Generator<TraceEvent> {
    while (now_ms - this.#counted_ms >= COUNTER_MS) {
      if (this.#counts.size === 0) {
        // No entry so far: no counter event either.
        this.#counted_ms = now_ms;
        return;
      }
      yield* this.#count();
      this.#counted_ms += COUNTER_MS;
    }
  }

  *#count(): Generator<TraceEvent> {
    for (const [rank, { entries, bytes }] of this.#counts) {
      const name = `rank ${rank}: per ${COUNTER_MS} ms`;
      yield { name, ph: "C", ts: this.#ts(this.#counted_ms), ...this.#at(rank), args: { entries, bytes } };
      // A counter keeps its value until the next event, so one without further entries must be set to zero.
      if (entries > 0 || bytes > 0) this.#counts.set(rank, { entries: 0, bytes: 0 });
      else this.#counts.delete(rank);
    }
  }

  /** Ends the waits that are still open at the current time. */
  *end(now_ms: number): Generator<TraceEvent> {
    yield* this.#counters(now_ms);
    yield* this.#count();
    for (const wait of this.#open.values()) yield this.#span(wait, now_ms, { unfinished: "it still waits" });
    this.#open.clear();
  }
}
