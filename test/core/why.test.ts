/** `dsm why`: who waits for what, in words. */
import { describe, expect, test } from "bun:test";
import { formatDuration } from "../../src/core/base/duration.ts";
import { NOTHING_KNOWN, type RankStatus, type SessionDetail } from "../../src/core/messages/daemon-api.ts";
import { explain, isAnyWaiting, rankList } from "../../src/core/observe/why.ts";

const rank = (number: number, more: Partial<RankStatus> = {}): RankStatus => ({
  ...{ rank: number, node: "ab".charAt(number % 2), pid: 810 + number, state: "running", stateMs: 60_000 },
  ...{ entries: 9, bytes: 9, lastWriteMs: 4000, roundTripUs: 80 },
  ...more,
});
const inBarrier = (number: number, stateMs = 2300): RankStatus => rank(number, { state: "barrier", stateMs });
const forLock = (number: number, on: string, stateMs = 1500): RankStatus =>
  rank(number, { state: "lock", on, stateMs });

const session = (ranks: RankStatus[], more: Partial<SessionDetail> = {}): SessionDetail => ({
  ...NOTHING_KNOWN,
  ...{ name: "s", instance: "1", epoch: 1, host: "127.0.0.1", port: 1, pid: 7, spawned: true, answered: true },
  ...{ processes: ranks.length, size: 1 << 20, order: "sequential", onLoss: "fail", elastic: false },
  ...{ started: true, present: ranks.length, barriers: 16, ranks },
  ...more,
});
const texts = (detail: SessionDetail): string[] => explain(detail).map(({ text }) => text);

test("no process waits", () => {
  const running = session([rank(0), rank(1, { lastWriteMs: 200 })]);
  expect(texts(session([rank(0, { lastWriteMs: 0 })]))).toEqual([
    "no process waits: 1 process runs, the last write was just now",
  ]);
  expect(texts(running)).toEqual(["no process waits: 2 processes run, the last write was 200 ms ago"]);
  expect(isAnyWaiting(running)).toBe(false);
  expect(texts(session([rank(0, { lastWriteMs: null })]))).toEqual([
    "no process waits: 1 process runs, nothing has been written yet",
  ]);
  expect(texts(session([rank(0)], { direct: true }))).toEqual(["no process waits: 1 process runs, in direct mode"]);
  expect(texts(session([rank(0, { state: "left" })]))).toEqual(["no process waits: none is there"]);
});

test("a barrier: which ranks have not arrived, and what they do", () => {
  const hanging = session([inBarrier(0), inBarrier(1, 200), rank(2), inBarrier(3)]);
  expect(texts(hanging)).toEqual([
    "ranks 0, 1 and 3 have been in barrier 17, the first for 2.3 s; not there: rank 2 (node a, pid 812) last wrote 4.0 s ago",
  ]);
  expect(isAnyWaiting(hanging)).toBe(true);
  expect(explain(hanging)).toMatchObject([{ kind: "barrier", waiting: [0, 1, 3], for: [2] }]);
  expect(texts(session([inBarrier(0), rank(1, { lastWriteMs: null })]))).toEqual([
    "rank 0 has been in barrier 17 for 2.3 s; not there: rank 1 (node b, pid 811) has written nothing yet",
  ]);
  expect(texts(session([inBarrier(0), rank(1)], { direct: true }))).toEqual([
    "rank 0 has been in barrier 17 for 2.3 s; not there: rank 1 (node b, pid 811) has been running for 1 min 00 s",
  ]);
  expect(texts(session([inBarrier(0), rank(1, { lastWriteMs: 0 })]))[0]).toEndWith(
    "(node b, pid 811) has just written",
  );
  // A rank that has left is not waited for.
  expect(texts(session([inBarrier(0), rank(1, { state: "left" }), rank(2)]))[0]).not.toContain("rank 1");
  const many = session([inBarrier(0), ...Array.from({ length: 12 }, (_, i) => rank(1 + i))]);
  expect(texts(many)[0]).toEndWith("rank 8 (node a, pid 818) last wrote 4.0 s ago and 4 more");
});

test("a server that took over from a node that does not count says how far back it knows", () => {
  const more = { knownMs: 4000 };
  expect(texts(session([rank(0, { lastWriteMs: null })], more))).toEqual([
    "no process waits: 1 process runs, nothing has been written since the server took over 4.0 s ago",
  ]);
  const [here, late, lost] = [
    inBarrier(0, 4000),
    rank(1, { lastWriteMs: null }),
    rank(2, { state: "lost", stateMs: 4000 }),
  ];
  expect(texts(session([here, late, lost], more))).toEqual([
    "rank 2 (node a, pid 812) was lost at least 4.0 s ago; calls that wait fail with DSM_LOST",
    "rank 0 has been in barrier 17 for at least 4.0 s; not there: rank 1 (node b, pid 811) has written nothing since the server took over 4.0 s ago",
  ]);
  // What began afterwards is known.
  expect(texts(session([inBarrier(0, 3000), rank(1, { lastWriteMs: 2000 })], more))).toEqual([
    "rank 0 has been in barrier 17 for 3.0 s; not there: rank 1 (node b, pid 811) last wrote 2.0 s ago",
  ]);
});

test("counts have separators", () => {
  const semaphores = [{ name: "s", value: 34_607, waiters: [1] }];
  const waiting = rank(1, { state: "semaphore", on: "s", stateMs: 2300 });
  expect(texts(session([inBarrier(0), waiting], { barriers: 34_606, semaphores }))).toEqual([
    expect.stringContaining("rank 0 has been in barrier 34,607 for 2.3 s;"),
    expect.stringContaining('semaphore "s" (value 34,607) for 2.3 s,'),
    "no process runs: all 2 wait",
  ]);
});

test("a semaphore: its value, and which ranks could post it", () => {
  const waiting = rank(1, { state: "semaphore", on: "sum", stateMs: 2300 });
  const semaphores = [
    { name: "free", value: 1, waiters: [] },
    { name: "sum", value: 0, waiters: [1] },
  ];
  expect(texts(session([rank(0), waiting], { semaphores }))).toEqual([
    'rank 1 has been waiting for semaphore "sum" (value 0) for 2.3 s, which another process must post: rank 0 runs',
  ]);
  const stuck = session([inBarrier(0), waiting], { semaphores });
  expect(texts(stuck)).toEqual([
    'rank 0 has been in barrier 17 for 2.3 s; not there: rank 1 (node b, pid 811) has been waiting for semaphore "sum" for 2.3 s',
    'rank 1 has been waiting for semaphore "sum" (value 0) for 2.3 s, and no process runs that could post it',
    "no process runs: all 2 wait",
  ]);
});

describe("locks", () => {
  test("its owner, and what the owner does", () => {
    const locks = [{ name: "queue", owner: 0, waiters: [1, 2] }];
    expect(texts(session([rank(0), forLock(1, "queue"), forLock(2, "queue", 900)], { locks }))).toEqual([
      'ranks 1 and 2 have been waiting for lock "queue" for 1.5 s, which rank 0 (node a, pid 810) has; it last wrote 4.0 s ago',
    ]);
  });

  test("a circle is a deadlock, reported once", () => {
    const locks = [
      { name: "x", owner: 0, waiters: [2] },
      { name: "y", owner: 1, waiters: [0] },
      { name: "z", owner: 2, waiters: [1, 3] },
    ];
    const ranks = [forLock(0, "y"), forLock(1, "z"), forLock(2, "x"), forLock(3, "z")];
    const [first, ...others] = explain(session(ranks, { locks }));
    expect(first).toEqual({
      kind: "deadlock",
      text:
        'deadlock: rank 0 (node a, pid 810) has lock "x" and waits for lock "y"; ' +
        'rank 1 (node b, pid 811) has lock "y" and waits for lock "z"; ' +
        'rank 2 (node a, pid 812) has lock "z" and waits for lock "x"',
      waiting: [0, 1, 2],
      for: [1, 2, 0],
    });
    expect(others.map(({ kind }) => kind)).toEqual(["lock", "lock", "lock", "stuck"]);
  });

  test("a chain is no deadlock, two circles are two", () => {
    const line = session([rank(0), forLock(1, "x"), forLock(2, "y")], {
      locks: [
        { name: "x", owner: 0, waiters: [1] },
        { name: "y", owner: 1, waiters: [2] },
      ],
    });
    expect(explain(line).some(({ kind }) => kind === "deadlock")).toBe(false);
    const two = session([forLock(0, "b"), forLock(1, "a"), forLock(2, "d"), forLock(3, "c")], {
      locks: [
        { name: "a", owner: 0, waiters: [1] },
        { name: "b", owner: 1, waiters: [0] },
        { name: "c", owner: 2, waiters: [3] },
        { name: "d", owner: 3, waiters: [2] },
      ],
    });
    const circles = explain(two).filter(({ kind }) => kind === "deadlock");
    expect(circles.map(({ waiting }) => waiting)).toEqual([
      [0, 1],
      [2, 3],
    ]);
  });

  test("the owner of a lock in the barrier and a waiter for it wait for each other", () => {
    const locks = [{ name: "x", owner: 0, waiters: [1] }];
    expect(texts(session([inBarrier(0), forLock(1, "x")], { locks }))[0]).toBe(
      'deadlock: rank 0 (node a, pid 810) has lock "x" and is in the barrier, to which rank 1 does not come; ' +
        'rank 1 (node b, pid 811) waits for lock "x"',
    );
  });
});

describe("objects in the map", () => {
  const none = { holders: [] as number[], isWritten: false, count: 0, waiting: 1 };
  const on = (number: number, state: RankStatus["state"], place: string): RankStatus =>
    rank(number, { state, on: place, stateMs: 1500 });

  test("are named by their places", () => {
    const locks = [{ name: "mutex at 0x40", owner: 0, waiters: [1] }];
    expect(texts(session([rank(0), on(1, "lock", "mutex at 0x40")], { locks }))).toEqual([
      "rank 1 has been waiting for the mutex at 0x40 for 1.5 s, which rank 0 (node a, pid 810) has; it last wrote 4.0 s ago",
    ]);
    const semaphores = [{ name: "semaphore at 0x48", value: 0, waiters: [1] }];
    expect(texts(session([rank(0), on(1, "semaphore", "semaphore at 0x48")], { semaphores }))).toEqual([
      "rank 1 has been waiting for the semaphore at 0x48 (value 0) for 1.5 s, which another process must post: rank 0 runs",
    ]);
  });

  test("conditions: who could signal", () => {
    const objects = [{ ...none, object: "condition" as const, offset: 0x80, waiters: [1] }];
    const waiting = on(1, "condition", "condition at 0x80");
    expect(texts(session([rank(0), waiting], { objects }))).toEqual([
      "rank 1 has been waiting for the condition at 0x80 for 1.5 s, which another process must signal: rank 0 runs",
    ]);
    expect(texts(session([inBarrier(0), waiting], { objects }))).toEqual([
      "rank 0 has been in barrier 17 for 2.3 s; not there: rank 1 (node b, pid 811) has been waiting for the condition at 0x80 for 1.5 s",
      "rank 1 has been waiting for the condition at 0x80 for 1.5 s, and no process runs that could signal it",
      "no process runs: all 2 wait",
    ]);
  });

  test("reader-writer locks: who has it, and how", () => {
    const lock = { ...none, object: "rwlock" as const, offset: 0x80, waiters: [1] };
    const waiting = on(1, "rwlock", "rwlock at 0x80");
    const what = (more: Partial<typeof lock> & { holders: number[] }): string | undefined =>
      texts(session([rank(0), waiting], { objects: [{ ...lock, ...more }] }))[0];
    const has = "rank 1 has been waiting for the rwlock at 0x80 for 1.5 s, which";
    expect(what({ holders: [0], isWritten: true })).toBe(
      `${has} is locked for writing: rank 0 (node a, pid 810) last wrote 4.0 s ago`,
    );
    expect(what({ holders: [0] })).toBe(`${has} is locked for reading: rank 0 (node a, pid 810) last wrote 4.0 s ago`);
    expect(what({ holders: [] })).toBe(`${has} no process has`);
  });

  test("barriers: how many have arrived; the session's own is another", () => {
    const objects = [{ ...none, object: "barrier" as const, offset: 0x80, count: 3, waiting: 2, waiters: [0, 1] }];
    const ranks = [on(0, "barrier", "barrier at 0x80"), on(1, "barrier", "barrier at 0x80"), rank(2)];
    expect(texts(session(ranks, { objects }))).toEqual([
      "ranks 0 and 1 have been in the barrier at 0x80 for 1.5 s: 2 of 3 have arrived",
    ]);
    expect(texts(session([...ranks.slice(0, 1), inBarrier(1)]))[0]).toBe(
      "rank 1 has been in barrier 17 for 2.3 s; not there: rank 0 (node a, pid 810) has been in the barrier at 0x80 for 1.5 s",
    );
  });

  test("circles through them are deadlocks; a process alone is none, as another of its threads may unlock", () => {
    const locks = [{ name: "mutex at 0x40", owner: 0, waiters: [1] }];
    const objects = [
      { ...none, object: "rwlock" as const, offset: 0x80, holders: [1, 2], waiters: [0] },
      { ...none, object: "rwlock" as const, offset: 0xc0, holders: [3], isWritten: true, waiters: [3] },
    ];
    const ranks = [
      ...[on(0, "rwlock", "rwlock at 0x80"), on(1, "lock", "mutex at 0x40"), rank(2)],
      on(3, "rwlock", "rwlock at 0xc0"),
    ];
    const found = explain(session(ranks, { locks, objects })).filter(({ kind }) => kind === "deadlock");
    expect(found.map(({ text }) => text)).toEqual([
      "deadlock: rank 0 (node a, pid 810) has the mutex at 0x40 and waits for the rwlock at 0x80; " +
        "rank 1 (node b, pid 811) has the rwlock at 0x80 and waits for the mutex at 0x40",
    ]);
  });
});

test("sleepers, in a named block or anywhere", () => {
  const blocks = [{ name: "grid", offset: 0x100, size: 0x100 }];
  const asleep = (number: number, on: string) => rank(number, { state: "sleeping", on, stateMs: 7000 });
  expect(texts(session([asleep(0, "0x140"), asleep(1, "0x140"), asleep(2, "0x400"), rank(3)], { blocks }))).toEqual([
    'ranks 0 and 1 have been sleeping on byte 0x140 (byte 64 of block "grid") for 7.0 s, until another process changes it and wakes its sleepers',
    "rank 2 has been sleeping on byte 0x400 for 7.0 s, until another process changes it and wakes its sleepers",
  ]);
});

test("ranks that were lost, and what comes of it", () => {
  const ranks = [rank(0), rank(1, { state: "lost", stateMs: 4000 })];
  expect(texts(session(ranks))).toEqual([
    "rank 1 (node b, pid 811) was lost 4.0 s ago; calls that wait fail with DSM_LOST",
    "no process waits: 1 process runs, the last write was 4.0 s ago",
  ]);
  expect(texts(session(ranks, { onLoss: "continue" }))[0]).toEndWith("the others go on (--on-loss continue)");
});

test("ranks that have not joined", () => {
  const joining = rank(1, { state: "joining", stateMs: 3000 });
  const waiting = session([joining], { started: false, processes: 4, present: 1 });
  expect(texts(waiting)[0]).toBe(
    "the session has not begun: 1 of 4 processes has joined, the first 3.0 s ago; ranks 0, 2 and 3 are missing",
  );
  expect(isAnyWaiting(waiting)).toBe(true);
  expect(texts(session([], { started: false, processes: 3 }))[0]).toContain("none of its 3 processes has joined;");
  expect(texts(session([], { started: false, processes: 1 }))).toEqual([
    "the session has not begun: its only process has not joined; rank 0 is missing",
  ]);
});

test("lists of ranks are short", () => {
  expect([[3], [1, 0], [0, 1, 3], [5, 1, 2, 3, 9, 8]].map(rankList)).toEqual([
    ...["rank 3", "ranks 0 and 1", "ranks 0, 1 and 3", "ranks 1-3, 5, 8 and 9"],
  ]);
  const even = Array.from({ length: 500 }, (_, i) => 2 * i);
  expect(rankList(even)).toEndWith("28, 30 and others");
});

test("durations are short", () => {
  const given = [0, 0.085, 0.9996, 1, 9.94, 85, 999.4, 999.6, 59_940, 59_960, 3_599_000, 3_600_000, 90_000_000];
  expect(given.map(formatDuration)).toEqual([
    ...["0 us", "85 us", "1.0 ms", "1.0 ms", "9.9 ms", "85 ms", "999 ms", "1.0 s", "59.9 s", "1 min 00 s"],
    ...["59 min 59 s", "1 h 00 min", "25 h 00 min"],
  ]);
});
