/** The pictures of `dsm top`, without a terminal: a model and keys in, lines out. */
import { describe, expect, test } from "bun:test";
import { readKeys } from "../../src/cli/top/keys.ts";
import { cut, rateText } from "../../src/cli/top/lines.ts";
import { newModel, rated, type TopModel } from "../../src/cli/top/model.ts";
import { press, view } from "../../src/cli/top/view.ts";
import { NOTHING_KNOWN, type RankStatus, type SessionDetail } from "../../src/core/messages/daemon-api.ts";

const rank = (number: number, more: Partial<RankStatus> = {}): RankStatus => ({
  ...{ rank: number, node: number < 2 ? "alpha" : "beta", pid: 800 + number, state: "running", stateMs: 100 },
  ...{ entries: 0, bytes: 0, lastWriteMs: null, roundTripUs: null },
  ...more,
});

const detail = (name: string, more: Partial<SessionDetail> = {}): SessionDetail => ({
  ...NOTHING_KNOWN,
  ...{ name, instance: "1", epoch: 1, host: "127.0.0.1", port: 1, pid: 7, spawned: true, answered: true },
  ...{ processes: 2, size: 1 << 20, order: "sequential", onLoss: "fail", elastic: false },
  ...{ started: true, present: 2, started_ms: 65_000, time_ms: 1000, ranks: [rank(0), rank(1)] },
  ...more,
});

function shows(model: TopModel, width = 80, rows = 24): string[] {
  const lines = view(model, width, rows);
  expect(lines.length).toBeLessThanOrEqual(rows);
  for (const { text } of lines) expect(Bun.stringWidth(text)).toBeLessThanOrEqual(width);
  return lines.map(({ text }) => text);
}

const modelOf = (sessions: TopModel["sessions"], open: string | null = null): TopModel => ({
  ...newModel("127.0.0.1:4200", open),
  sessions,
});

describe("rates", () => {
  const ranks = (entries: number, bytes: number, pid = 800): RankStatus[] => [rank(0, { entries, bytes, pid })];
  const before = detail("s", { time_ms: 1000, entries: 10, bytes: 100, ranks: ranks(5, 50) });

  test("are differences over the server's time", () => {
    const now = rated(before, detail("s", { time_ms: 1500, entries: 110, bytes: 900, ranks: ranks(55, 450) }));
    expect([now.rates, now.ranks[0]?.rates]).toEqual([
      { entries: 200, bytes: 1600 },
      { entries: 100, bytes: 800 },
    ]);
  });

  test("need two answers of one server about one process", () => {
    expect(rated(undefined, before).rates).toBeNull();
    expect(rated(before, { ...before, time_ms: 2000, instance: "2" }).rates).toBeNull();
    expect(rated(before, { ...before, time_ms: 2000, epoch: 2 }).rates).toBeNull();
    expect(rated(before, { ...before, time_ms: 2000, answered: false }).rates).toBeNull();
    expect(rated(before, before).rates).toBeNull();
    const other = rated(before, { ...before, time_ms: 2000, ranks: ranks(1, 1, 999) });
    expect([other.rates, other.ranks[0]?.rates]).toEqual([{ entries: 0, bytes: 0 }, null]);
  });

  test("are short", () => {
    const given = [null, 0, 0.12, 9.94, 9.96, 999, 9999.4, 12_345, 999_499, 1_000_000, 45_600_000, 2e9];
    expect(given.map(rateText)).toEqual([
      ...["-", "0", "0.1", "9.9", "10", "999", "9,999", "12.3k", "999k", "1.0M", "45.6M", "2.0G"],
    ]);
  });
});

test("the list shows every session, and which is chosen", () => {
  const waiting = detail("b", { ranks: [rank(0, { state: "barrier" }), rank(1, { state: "running" })] });
  const { name, instance, epoch, host, port, pid, spawned, processes, size, order, onLoss, elastic } = detail("c");
  const summary = { name, instance, epoch, host, port, pid, spawned, processes, size, order, onLoss, elastic };
  const model = modelOf([rated(undefined, detail("a")), rated(undefined, waiting), summary]);
  expect(shows(model)).toEqual([
    "dsm top - 127.0.0.1:4200, 3 sessions",
    " SESSION               HERE  WAITING ENTRIES/S  BYTES/S      SIZE ORDER",
    ">a                   2 of 2        0         -        -     1 MiB sequential",
    " b                   2 of 2        1         -        -     1 MiB sequential",
    " c                   ? of 2        ?         -        -     1 MiB sequential",
    "q quit  ? help  s sort (by session)  j/k choose  Enter show",
  ]);
  expect(shows(press(model, "down"))[3]).toStartWith(">b ");
  expect(
    shows(press(press(model, "sort"), "sort"))
      .slice(2, 5)
      .map((line) => line.slice(1, 2)),
  ).toEqual(["b", "a", "c"]);
  expect(shows(press(press(press(model, "down"), "down"), "down"))[4]).toStartWith(">c ");
  expect(press(press(model, "down"), "enter").open).toBe("b");
});

test("the list marks a session whose ranks wait for each other", () => {
  const ranks = [rank(0, { state: "lock", on: "y" }), rank(1, { state: "lock", on: "x" })];
  const locks = [
    { name: "x", owner: 0, waiters: [1] },
    { name: "y", owner: 1, waiters: [0] },
  ];
  const model = modelOf([rated(undefined, detail("a")), rated(undefined, detail("b", { ranks, locks }))]);
  expect(shows(model)[3]).toMatch(/^ b +2 of 2 deadlock /);
  expect(view(model, 80, 24)[3]?.look).toBe("bad");
});

test("a session shows its ranks, what they wait on and for how long, semaphores and locks", () => {
  const session = detail("demo", {
    ...{ entries: 5000, bytes: 40_000, barriers: 16, logBytes: 2048, processes: 6, present: 5 },
    ranks: [
      rank(0, { state: "barrier", stateMs: 2300, entries: 100, roundTripUs: 85 }),
      rank(1, { state: "semaphore", on: "sum", stateMs: 61_000, roundTripUs: 1234 }),
      rank(2, { state: "lock", on: "a lock with quite a long name", stateMs: 4000 }),
      rank(3, { state: "lost", stateMs: 9000 }),
      rank(4, { state: "sleeping", on: "0x40000000", stateMs: 5 }),
      rank(5, { state: "left" }),
    ],
    semaphores: [
      { name: "free", value: 3, waiters: [] },
      { name: "sum", value: 0, waiters: [1] },
    ],
    locks: [{ name: "queue", owner: 2, waiters: [0, 4] }],
    semaphoresLeftOut: 4,
  });
  const model = modelOf([rated({ ...session, time_ms: 0, entries: 0, bytes: 0 }, session)], "demo");
  expect(shows(model)).toEqual([
    "dsm top - 127.0.0.1:4200, 1 session",
    'session "demo": running for 1 min 05 s, 5 of 6 here, sequential, 1 MiB',
    "5,000 entries/s, 40.0k bytes/s; 5,000 entries, 39.1 KiB; 16 barriers; log 2 KiB",
    " RANK NODE           PID STATE                       ENTRIES/S  BYTES/S     RTT",
    "    0 alpha          800 in barrier for 2.3 s                0        0   85 us",
    '    1 alpha          801 on "sum" for 1 min 01 s             0        0  1.2 ms',
    '    2 beta           802 lock "a lock wi~" for 4.0 s         0        0       -',
    "    3 beta           803 lost                                0        0       -",
    "    4 beta           804 on 0x40000000 for 5.0 ms            0        0       -",
    "    5 beta           805 left                                0        0       -",
    " SEMAPHORE                     VALUE  and 4 more",
    " sum                               0  1 waiting: rank 1",
    " free                              3",
    " LOCK                          OWNER  WAITING",
    " queue                        rank 2  2 waiting: ranks 0 and 4",
    "q quit  ? help  s sort (by rank)  j/k choose  Esc list",
  ]);
  const byState = press(press(press(model, "sort"), "sort"), "sort");
  const numbers = shows(byState)
    .slice(4, 10)
    .map((line) => Number(line.slice(0, 6)));
  expect(numbers).toEqual([3, 0, 2, 1, 4, 5]);
  const wide = shows(model, 120);
  expect(wide[5]).toContain('waiting on "sum" for 1 min 01 s');
  expect(view(model, 80, 24).map(({ look }) => look)).toEqual([
    ...(["title", "plain", "plain", "head", "waiting", "waiting", "waiting", "bad", "waiting", "dim"] as const),
    ...(["head", "waiting", "plain", "head", "waiting", "dim"] as const),
  ]);
});

test("a session shows the objects in its map", () => {
  const none = { holders: [], isWritten: false, count: 0, waiting: 0, waiters: [] };
  const session = detail("demo", {
    ...{ processes: 4, present: 4 },
    ranks: [
      rank(0, { state: "lock", on: "mutex at 0x40", stateMs: 4000 }),
      rank(1, { state: "condition", on: "condition at 0x80", stateMs: 4000 }),
      rank(2, { state: "rwlock", on: "rwlock at 0xc0", stateMs: 4000 }),
      rank(3, { state: "barrier", on: "barrier at 0x100", stateMs: 4000 }),
    ],
    locks: [{ name: "mutex at 0x40", owner: 2, waiters: [0] }],
    objects: [
      { ...none, object: "condition", offset: 0x80, waiting: 1, waiters: [1] },
      { ...none, object: "rwlock", offset: 0xc0, holders: [0, 1], waiting: 1, waiters: [2] },
      { ...none, object: "rwlock", offset: 0xe0, holders: [3], isWritten: true },
      { ...none, object: "barrier", offset: 0x100, count: 3, waiting: 2, waiters: [3] },
    ],
  });
  const model = modelOf([rated(undefined, session)], "demo");
  const shown = shows(model, 120);
  expect(shown.slice(4, 8).map((line) => line.replace(/^.* \d+ (.*? for 4\.0 s).*$/, "$1"))).toEqual([
    "waiting for mutex at 0x40 for 4.0 s",
    "waiting for condition at 0x80 for 4.0 s",
    "waiting for rwlock at 0xc0 for 4.0 s",
    "in barrier at 0x100 for 4.0 s",
  ]);
  expect(shown.slice(8, -1).map((line) => line.replace(/ +/g, " "))).toEqual([
    " LOCK OWNER WAITING",
    " mutex at 0x40 rank 2 1 waiting: rank 0",
    " OBJECT STATE WAITING",
    " condition at 0x80 1 waiting: rank 1",
    " rwlock at 0xc0 2 read 1 waiting: rank 2",
    " barrier at 0x100 2/3 1 waiting: rank 3",
    " rwlock at 0xe0 rank 3",
  ]);
  expect(shows(model, 80)[4]).toContain(" mutex at 0x40 for 4.0 s ");
});

test("few rows and columns show what fits, with what is chosen", () => {
  const ranks = Array.from({ length: 50 }, (_, number) => rank(number));
  let model = modelOf([rated(undefined, detail("many", { ranks, processes: 50, present: 50 }))], "many");
  for (let i = 0; i < 40; i += 1) model = press(model, "down");
  const lines = shows(model, 40, 10);
  expect(lines).toHaveLength(10);
  expect(lines.some((line) => line.startsWith(">  39"))).toBe(true);
  for (const [width, rows] of [
    [1, 1],
    [10, 3],
    [80, 4],
    [300, 100],
  ] as const) {
    shows(model, width, rows);
    shows(press(model, "help"), width, rows);
    shows(press(model, "back"), width, rows);
  }
});

test("names that are wide or would do something to the terminal do nothing to the columns", () => {
  const name = "日本\x1b[31m語".repeat(8);
  const model = modelOf([rated(undefined, detail(name))]);
  const [, head, row] = shows(model) as [string, string, string];
  expect(Bun.stringWidth(row)).toBe(Bun.stringWidth(`${head}tial`) + 1);
  expect(row).not.toContain("\x1b");
  expect([cut("abc", 3), cut("abcd", 3), cut("日本語", 5), cut("x", 0)]).toEqual(["abc", "ab~", "日本~", ""]);
});

test("a session that has ended, a server or a daemon that does not answer", () => {
  expect(shows(modelOf([], "gone"))[1]).toBe('there is no session "gone"');
  const silent = rated(undefined, detail("s", { answered: false, ranks: [] }));
  expect(shows(modelOf([silent], "s"))[1]).toContain("does not answer");
  const between = rated(undefined, detail("s", { answered: false, ranks: [], phase: "recovering" }));
  expect(shows(modelOf([between], "s"))[1]).toBe('session "s": another server is taking it over');
  expect(shows(modelOf([silent]))[2]).toContain("? of 2");
  expect(shows({ ...modelOf([]), trouble: "nothing is listening there" })[1]).toBe("nothing is listening there");
  expect(shows(modelOf([]))[1]).toBe("no session runs");
});

test("keys", () => {
  expect(readKeys("jk\x1b[A\x1b[B\x1bOAs?q\r\x7f\x03")).toEqual([
    ...(["down", "up", "up", "down", "up", "sort", "help", "quit", "enter", "back", "quit"] as const),
  ]);
  expect(readKeys("\x1b")).toEqual(["back"]);
  expect(readKeys("\x1b[5~\x1b[1;5Cxyzß")).toEqual([]);
  const model = modelOf([rated(undefined, detail("a"))], "a");
  expect(press(model, "back")).toMatchObject({ open: null, chosen: "a" });
  expect(press(press(model, "help"), "down").help).toBe(true);
  expect(press(press(model, "help"), "back")).toEqual(model);
});
