/** What the dashboard makes of the samples of a session: rates, who waited when, and for whom. */
import { expect, test } from "bun:test";
import { NOTHING_KNOWN, type RankStatus, type SessionDetail } from "../../../src/core/messages/daemon-api.ts";
import { awaitings, HISTORY_MS, History, type Lane, TIMELINE_MS } from "../../../src/daemon/dashboard/history.ts";

const START_MS = 1_000_000;

function rank(number: number, status: Partial<RankStatus> = {}): RankStatus {
  return {
    ...{ rank: number, node: number < 2 ? "a" : "b", pid: 100 + number, state: "running", stateMs: 0 },
    ...{ entries: 0, bytes: 0, lastWriteMs: null, roundTripUs: null, ...status },
  };
}

function sample(at_ms: number, ranks: RankStatus[], more: Partial<SessionDetail> = {}): SessionDetail {
  return {
    ...NOTHING_KNOWN,
    ...{ name: "s", host: "127.0.0.1", port: 1, processes: ranks.length, size: 4096, order: "sequential" },
    ...{ onLoss: "fail", elastic: false, pid: 1, spawned: true, instance: "0123456789abcdef", epoch: 1 },
    ...{ answered: true, started: true, present: ranks.length, time_ms: START_MS + at_ms, ranks, ...more },
  } as SessionDetail;
}

test("rates are differences of two samples by the server's clock", () => {
  const history = new History();
  history.add(sample(0, [rank(0, { entries: 100, bytes: 1_000 }), rank(1)]));
  expect(history.rates).toBeNull();
  history.add(sample(500, [rank(0, { entries: 150, bytes: 5_000, roundTripUs: 80 }), rank(2)]));
  expect(history.rates).toEqual({
    ...{ time_ms: START_MS + 500, entries: [100, 0], bytes: [8_000, 0], roundTripUs: [80, null] },
  });
});

test("rates are means over two seconds, and the first sample does not count for ever", () => {
  const history = new History();
  for (let at = 0; at <= 10_000; at += 500) {
    const entries = at <= 5_000 ? 0 : (at - 5_000) / 10;
    history.add(sample(at, [rank(0, { entries })]));
  }
  const at = (ms: number) => history.points.find(({ time_ms }) => time_ms === START_MS + ms)?.entries;
  expect([at(5_000), at(6_000), at(7_000), at(10_000)]).toEqual([[0], [50], [100], [100]]);
});

test("another server begins to count anew, and so does what is remembered of it", () => {
  const history = new History();
  history.add(sample(0, [rank(0, { entries: 1_000 })]));
  history.add(sample(500, [rank(0, { entries: 1_100 })]));
  history.add(sample(1_000, [rank(0, { entries: 5 })], { epoch: 2 }));
  expect([history.points.length, history.rates]).toEqual([0, null]);
  history.add(sample(1_500, [rank(0, { entries: 10 })], { epoch: 2 }));
  expect(history.rates?.entries).toEqual([10]);
});

test("an answer without figures and one seen before are no samples", () => {
  const history = new History();
  expect(history.add(sample(0, [rank(0)]))).toBe(true);
  expect(history.add(sample(0, [rank(0)]))).toBe(false);
  expect(history.add(sample(500, [], { answered: false }))).toBe(false);
  expect(history.add(sample(500, [rank(0)]))).toBe(true);
  expect(history.lanes.get(0)?.segments).toEqual([
    { from_ms: START_MS, to_ms: START_MS, state: "running" },
    { from_ms: START_MS + 500, to_ms: START_MS + 500, state: "running" },
  ]);
});

test("what is kept is bounded, by time", () => {
  const history = new History();
  const end = 2 * HISTORY_MS;
  for (let at = 0; at <= end; at += 500) {
    const state = (at / 500) % 2 === 0 ? "running" : "barrier";
    history.add(sample(at, [rank(0, { state, stateMs: 100 }), rank(1, { stateMs: at })]));
  }
  expect(history.points[0]?.time_ms).toBe(START_MS + end - HISTORY_MS);
  expect(history.points.length).toBe(HISTORY_MS / 500 + 1);
  const lane = history.lanes.get(0);
  expect(lane?.segments[0]?.to_ms).toBe(START_MS + end - TIMELINE_MS);
  // One that never changes is one.
  expect(history.lanes.get(1)?.segments).toHaveLength(1);
  expect(lane && history.summary(lane).waiting).toBeCloseTo(0.5, 2);
});

test("a state lasts from its beginning to the last sample that has it; between two states it is unknown", () => {
  const history = new History();
  history.add(sample(0, [rank(0, { stateMs: 200 })]));
  history.add(sample(500, [rank(0, { stateMs: 700 })]));
  // In between it has run, and waited before.
  history.add(sample(1_000, [rank(0, { state: "barrier", stateMs: 100 })]));
  history.add(sample(1_500, [rank(0, { state: "barrier", stateMs: 600 })]));
  // Another time in a barrier.
  history.add(sample(2_000, [rank(0, { state: "barrier", stateMs: 50 })]));
  expect(history.lanes.get(0)?.segments).toEqual([
    { from_ms: START_MS - 200, to_ms: START_MS + 500, state: "running" },
    { from_ms: START_MS + 900, to_ms: START_MS + 1_500, state: "barrier" },
    { from_ms: START_MS + 1_950, to_ms: START_MS + 2_000, state: "barrier" },
  ]);
});

test("in a barrier the ranks that have arrived wait for the others, or for those that hold these up", () => {
  const ranks = [
    rank(0, { state: "barrier", stateMs: 3_000 }),
    rank(1, { state: "barrier", stateMs: 1_000 }),
    rank(2, { state: "lock", on: "queue", stateMs: 2_000 }),
    rank(3),
    rank(4, { state: "left" }),
    rank(5, { state: "lost" }),
  ];
  const locks = [
    { name: "queue", owner: 3, waiters: [2] },
    { name: "free", owner: null, waiters: [] },
  ];
  expect(awaitings(sample(0, ranks, { locks }))).toEqual([
    { waiters: [0, 1], awaited: [3], longest_ms: 3_000 },
    { waiters: [2], awaited: [3], longest_ms: 2_000 },
  ]);
  expect(awaitings(sample(0, [rank(0), rank(1)]))).toEqual([]);
});

test("a wait that lasts since before the first sample costs as much as its waiters say that they wait", () => {
  const history = new History();
  const locks = [{ name: "queue", owner: 1, waiters: [0] }];
  for (let at = 0; at <= 2_000; at += 500) {
    history.add(sample(at, [rank(0, { state: "lock", on: "queue", stateMs: 6_200 + at }), rank(1)], { locks }));
  }
  const [waiter, owner] = [0, 1].map((number) => history.summary(history.lanes.get(number) as Lane));
  expect(owner?.cost_ms).toBe(8_200);
  expect(waiter).toEqual({ waiting: 1, cost_ms: 0 });
  // Older than what is kept, it counts for as long as that.
  const old = new History();
  old.add(sample(0, [rank(0, { state: "lock", on: "queue", stateMs: 3_600_000 }), rank(1)], { locks }));
  expect(old.summary(old.lanes.get(1) as Lane).cost_ms).toBe(TIMELINE_MS);
});

test("a rank that is late costs the others their time", () => {
  const history = new History();
  // Each time 0, 1 and 3 wait for 2; once 0 waits for 1 and 2.
  for (let at = 0; at <= 4_000; at += 500) {
    const early = { state: "barrier", stateMs: at + 100 } as const;
    history.add(sample(at, [rank(0, early), rank(1, at === 4_000 ? {} : early), rank(2), rank(3, early)]));
  }
  const cost = [0, 1, 2, 3].map((number) => {
    const lane = history.lanes.get(number);
    return lane && history.summary(lane).cost_ms;
  });
  expect(cost).toEqual([0, 500, 3 * (100 + 3_500) + 500, 0]);
  // From the beginning of the waits on, which the first sample says.
  expect(history.lanes.get(2)?.awaited).toEqual([{ from_ms: START_MS - 100, to_ms: START_MS + 4_000 }]);
  expect(history.lanes.get(1)?.awaited).toEqual([{ from_ms: START_MS + 3_500, to_ms: START_MS + 4_000 }]);
});
