/** What the dashboard's list says of a session that is held up. */
import { expect, test } from "bun:test";
import { NOTHING_KNOWN, type RankStatus, type SessionDetail } from "../../../src/core/messages/daemon-api.ts";
import { lastingFindings, markOf } from "../../../src/daemon/dashboard/marks.ts";

const rank = (number: number, more: Partial<RankStatus> = {}): RankStatus => ({
  ...{ rank: number, node: "a", pid: 100 + number, state: "running", stateMs: 5_000 },
  ...{ entries: 0, bytes: 0, lastWriteMs: null, roundTripUs: null, ...more },
});
const session = (ranks: RankStatus[], more: Partial<SessionDetail> = {}): SessionDetail => ({
  ...NOTHING_KNOWN,
  ...{ name: "s", instance: "1", epoch: 1, host: "127.0.0.1", port: 1, pid: 7, spawned: true, answered: true },
  ...{ processes: ranks.length, size: 4096, order: "sequential", onLoss: "fail", elastic: false },
  ...{ started: true, present: ranks.length, ranks, ...more },
});
const circle = (stateMs: number): SessionDetail =>
  session([rank(0, { state: "lock", on: "y", stateMs }), rank(1, { state: "lock", on: "x", stateMs }), rank(2)], {
    locks: [
      { name: "x", owner: 0, waiters: [1] },
      { name: "y", owner: 1, waiters: [0] },
    ],
  });

test("a deadlock that lasts", () => {
  expect(markOf(circle(2_000))).toBe("deadlock");
  // A timed lock may still end it.
  expect(markOf(circle(200))).toBeNull();
});

test("a lost process, and a session in which all wait; the gravest is said", () => {
  expect(markOf(session([rank(0), rank(1, { state: "lost" })]))).toBe("process lost");
  const asleep = rank(0, { state: "sleeping", on: "0x10" });
  expect(markOf(session([asleep, rank(1, { state: "left" })]))).toBe("all wait");
  const both = circle(2_000);
  expect(markOf({ ...both, ranks: [...both.ranks, rank(3, { state: "lost" })] })).toBe("deadlock");
});

test("a session that goes on has no mark, nor has one whose state is unknown", () => {
  const semaphores = [{ name: "gate", value: 0, waiters: [0] }];
  expect(markOf(session([rank(0, { state: "semaphore", on: "gate" }), rank(1)], { semaphores }))).toBeNull();
  expect(markOf(session([rank(0), rank(1)]))).toBeNull();
  expect(markOf({ ...circle(2_000), answered: false })).toBeNull();
});

test("short waits are no finding that lasts", () => {
  const inBarrier = (stateMs: number): SessionDetail => session([rank(0, { state: "barrier", stateMs }), rank(1)]);
  expect(lastingFindings(inBarrier(900))).toEqual([]);
  expect(lastingFindings(inBarrier(1_000)).map(({ kind }) => kind)).toEqual(["barrier"]);
});
