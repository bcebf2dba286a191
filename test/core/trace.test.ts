/** What is noted for who traces a session, and the events that it becomes. */
import { describe, expect, test } from "bun:test";
import { TRACE_BUFFER_BYTES } from "../../src/core/base/limits.ts";
import { objectName } from "../../src/core/base/names.ts";
import { Activity } from "../../src/core/observe/activity.ts";
import {
  ChromeTrace,
  readRecords,
  type TraceBuffer,
  type TraceEvent,
  type TraceRecord,
} from "../../src/core/observe/trace.ts";
import { encode, encodeText, type Frame } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { publication, viewOf } from "../support/core-frames.ts";
import { checkTraceEvents } from "../support/trace-events.ts";

const records = (buffer: TraceBuffer): TraceRecord[] => [...readRecords(buffer.take().records)];

/** Activity with entries of a session that there is none of: what is answered, the test says. */
class Play {
  readonly activity = new Activity(1 << 20, 1000);

  at(now_ms: number): this {
    this.activity.now_ms = now_ms;
    return this;
  }

  apply(frame: Frame, bytes = 0, answered: [node: number, tag: number][] = []): void {
    const view = viewOf(encode({ node: 1, ...frame }));
    const { activity } = this;
    const session = {
      phase: "running" as const,
      bytesWritten: 0,
      apply() {
        for (const [node, tag] of answered) activity.onReply(node, tag);
        this.bytesWritten += bytes;
      },
    };
    activity.apply(session, view, 0);
  }
}

const info = {
  ...{ session: "s", time_ms: 1000, direct: false },
  ranks: [
    { rank: 0, node: "a", pid: 7 },
    { rank: 1, node: "b", pid: 8 },
  ],
};

describe("the server", () => {
  test("notes entries with their place and size, and waits from their beginning to their end", () => {
    const play = new Play();
    play.at(1001).apply({ kind: Kind.BARRIER, rank: 1, tag: 4 });
    const buffer = play.at(1500).activity.beginTrace();
    play
      .at(1600)
      .apply({ kind: Kind.STORE, rank: 0, tag: 5, offset: 0xf000_0000, body: new Uint8Array(8) }, 8, [[1, 5]]);
    play.apply({ kind: Kind.SEM_WAIT, rank: 0, tag: 6, body: encodeText("gate") });
    play.at(1700.25).apply({ kind: Kind.SEM_POST, rank: 1, tag: 7, offset: 1, body: encodeText("gate") }, 0, [
      [1, 6],
      [1, 7],
    ]);
    const entry = { what: "entry", where: 0, bytes: 0, name: "" } as const;
    const [barrier, semaphore] = [2 ** 32 + 4, 2 ** 32 + 6];
    expect(records(buffer)).toEqual([
      { ...entry, what: "waits", time_ms: 1001, rank: 1, kind: Kind.BARRIER, where: barrier },
      { ...entry, time_ms: 1600, rank: 0, kind: Kind.STORE, where: 0xf000_0000, bytes: 8 },
      { ...entry, time_ms: 1600, rank: 0, kind: Kind.SEM_WAIT, name: "gate" },
      { ...entry, what: "waits", time_ms: 1600, rank: 0, kind: Kind.SEM_WAIT, where: semaphore, name: "gate" },
      { ...entry, what: "waited", time_ms: 1700.25, rank: 0, kind: Kind.SEM_WAIT, where: semaphore },
      { ...entry, time_ms: 1700.25, rank: 1, kind: Kind.SEM_POST, name: "gate" },
    ]);
    expect(records(buffer)).toEqual([]);
    play.activity.endTrace();
    play.apply({ kind: Kind.STORE, body: new Uint8Array(8) }, 8);
    expect(records(buffer)).toEqual([]);
  });

  test("notes what objects in the map are waited for and used", () => {
    const play = new Play();
    const buffer = play.activity.beginTrace();
    const body = encodeText(objectName("mutex", 64));
    play.apply({ kind: Kind.LOCK, rank: 0, tag: 1, body }, 0, [[1, 1]]);
    play.apply({ kind: Kind.COND_WAIT, rank: 0, tag: 2, offset: 128, body });
    play.apply({ kind: Kind.RW_LOCK, rank: 1, tag: 3, offset: 192, aux: 1 });
    play.apply({ kind: Kind.ARRIVE, rank: 2, tag: 4, offset: 256, aux: 2 });
    play.apply({ kind: Kind.COND_SIGNAL, rank: 2, tag: 5, offset: 128, aux: 1 }, 0, [
      [1, 2],
      [1, 5],
    ]);
    expect(records(buffer).map(({ what, kind, name }) => [what, kind, name])).toEqual([
      ["entry", Kind.LOCK, "mutex at 0x40"],
      ["entry", Kind.COND_WAIT, "condition at 0x80"],
      ["waits", Kind.COND_WAIT, "condition at 0x80"],
      ["entry", Kind.RW_LOCK, "rwlock at 0xc0"],
      ["waits", Kind.RW_LOCK, "rwlock at 0xc0"],
      ["entry", Kind.ARRIVE, "barrier at 0x100"],
      ["waits", Kind.ARRIVE, "barrier at 0x100"],
      ["waited", Kind.COND_WAIT, ""],
      ["entry", Kind.COND_SIGNAL, "condition at 0x80"],
    ]);
    expect(play.activity.stateMs(1, "rwlock", "rwlock at 0xc0")).toBe(0);
  });

  test("a publication in parts is one entry of all their bytes", () => {
    const play = new Play();
    const buffer = play.activity.beginTrace();
    play.apply(publication([[0, 100]], { op: 1, tag: 1 }), 100);
    play.apply(publication([[0, 100]], { op: 1, tag: 1 }), 100);
    play.apply(publication([[0, 50]]), 50);
    play.apply(publication([[0, 9]]), 9);
    expect(records(buffer).map(({ bytes }) => bytes)).toEqual([250, 9]);
  });

  test("drops what does not fit, and says how much", () => {
    const play = new Play();
    const buffer = play.activity.beginTrace();
    const fit = TRACE_BUFFER_BYTES / 24;
    for (let i = 0; i < fit + 10; i += 1) play.apply({ kind: Kind.STORE, body: new Uint8Array(8) }, 8);
    const taken = buffer.take();
    expect([[...readRecords(taken.records)].length, taken.dropped]).toEqual([
      Math.floor(fit),
      10 + Math.ceil(fit) - Math.floor(fit),
    ]);
    play.apply({ kind: Kind.STORE, body: new Uint8Array(8) }, 8);
    expect(buffer.take()).toMatchObject({ dropped: 0 });
  });

  test("what is cut short is refused", () => {
    const play = new Play();
    const buffer = play.activity.beginTrace();
    play.apply({ kind: Kind.SEM_POST, body: encodeText("gate") });
    const whole = buffer.take().records;
    for (const length of [1, 23, 24, whole.length - 1]) {
      expect(() => [...readRecords(whole.subarray(0, length))]).toThrow("cut short");
    }
  });
});

describe("events", () => {
  const entry = (time_ms: number, rank: number, kind: number, more: Partial<TraceRecord> = {}): TraceRecord => ({
    ...{ time_ms, what: "entry", rank, kind, where: 0, bytes: 0, name: "" },
    ...more,
  });
  const events = (given: TraceRecord[], end_ms: number): TraceEvent[] => {
    const chrome = new ChromeTrace(info);
    const all = [...chrome.begin(), ...given.flatMap((record) => [...chrome.record(record)]), ...chrome.end(end_ms)];
    checkTraceEvents(all);
    return all;
  };
  const of = (all: TraceEvent[], ph: string): TraceEvent[] => all.filter((event) => event.ph === ph);

  test("nodes and ranks have names", () => {
    expect(events([], 1000)).toEqual([
      { name: "process_name", ph: "M", pid: 1, tid: 0, args: { name: "node a" } },
      { name: "process_name", ph: "M", pid: 2, tid: 0, args: { name: "node b" } },
      { name: "thread_name", ph: "M", pid: 1, tid: 0, args: { name: "rank 0 (process 7)" } },
      { name: "thread_name", ph: "M", pid: 2, tid: 1, args: { name: "rank 1 (process 8)" } },
    ]);
  });

  test("waits are spans, and those that have not ended last until now", () => {
    const given = [
      entry(900, 1, Kind.BARRIER, { what: "waits", where: 1 }),
      entry(1100, 0, Kind.LOCK, { what: "waits", where: 2, name: "queue" }),
      entry(1150, 0, Kind.FUTEX_WAIT, { what: "waits", where: 3, name: "0x40" }),
      entry(1200, 0, Kind.LOCK, { what: "waited", where: 2 }),
      entry(1300.5, 1, Kind.BARRIER, { what: "waited", where: 1 }),
      // Its beginning was dropped.
      entry(1300.5, 1, Kind.SEM_WAIT, { what: "waited", where: 77 }),
    ];
    const all = events(given, 2000);
    expect(of(all, "X")).toEqual([
      { name: 'waits for lock "queue"', cat: "wait", ph: "X", ts: 100_000, dur: 100_000, pid: 1, tid: 0, args: {} },
      {
        ...{ name: "in barrier", cat: "wait", ph: "X", ts: 0, dur: 300_500, pid: 2, tid: 1 },
        args: { "waited before the trace, ms": 100 },
      },
      {
        ...{ name: "asleep on 0x40", cat: "wait", ph: "X", ts: 150_000, dur: 850_000, pid: 1, tid: 10_000 },
        args: { unfinished: "it still waits" },
      },
    ]);
  });

  test("objects in the map are named by their places", () => {
    const given = [
      entry(1100, 0, Kind.LOCK, { what: "waits", where: 2, name: "mutex at 0x40" }),
      entry(1110, 1, Kind.COND_WAIT, { what: "waits", where: 3, name: "condition at 0x80" }),
      entry(1120, 1, Kind.ARRIVE, { what: "waits", where: 4, name: "barrier at 0xc0" }),
      entry(1130, 0, Kind.RW_LOCK, { name: "rwlock at 0x100" }),
      entry(1140, 0, Kind.UNLOCK, { name: "mutex at 0x40" }),
      entry(1150, 0, Kind.UNLOCK, { name: "door" }),
    ];
    const all = events(given, 1200);
    expect(of(all, "X").map(({ name }) => name)).toEqual([
      ...["waits for the mutex at 0x40", "waits for the condition at 0x80", "waits for the barrier at 0xc0"],
    ]);
    expect(of(all, "i").map(({ name }) => name)).toEqual([
      ...["lock rwlock at 0x100", "unlock mutex at 0x40", 'unlock "door"'],
    ]);
  });

  test("entries are instants with place and size, and counted for each rank", () => {
    const given = [
      entry(1010, 0, Kind.STORE, { where: 0x100, bytes: 8 }),
      entry(1020, 0, Kind.PUBLISH, { bytes: 4000 }),
      entry(1030, 1, Kind.SEM_POST, { name: "gate" }),
      entry(1250, 0, Kind.ATOMIC, { where: 64, bytes: 4 }),
      // A process that joined later.
      entry(1260, 5, Kind.BARRIER),
      // What the processes of a session in direct mode did by themselves.
      entry(1270, 0, Kind.BARRIER, { where: 70_000 }),
    ];
    const all = events(given, 1400);
    expect(of(all, "i")).toEqual([
      { name: "store", cat: "trap", ph: "i", s: "t", ts: 10_000, pid: 1, tid: 0, args: { offset: "0x100", bytes: 8 } },
      { name: "publication", cat: "publication", ph: "i", s: "t", ts: 20_000, pid: 1, tid: 0, args: { bytes: 4000 } },
      { name: 'semaphore post "gate"', cat: "operation", ph: "i", s: "t", ts: 30_000, pid: 2, tid: 1, args: {} },
      { name: "atomic", cat: "trap", ph: "i", s: "t", ts: 250_000, pid: 1, tid: 0, args: { offset: "0x40", bytes: 4 } },
      { name: "barrier", cat: "operation", ph: "i", s: "t", ts: 260_000, pid: 0, tid: 5, args: {} },
      {
        ...{ name: "barriers passed", cat: "operation", ph: "i", s: "t", ts: 270_000, pid: 1, tid: 0 },
        args: { barriers: 70_000 },
      },
    ]);
    const counted = of(all, "C").filter(({ tid }) => tid === 0);
    expect(counted.map(({ ts, args }) => [ts, args])).toEqual([
      [0, { entries: 2, bytes: 4008 }],
      [100_000, { entries: 0, bytes: 0 }],
      [200_000, { entries: 2, bytes: 4 }],
      [300_000, { entries: 0, bytes: 0 }],
    ]);
  });
});
