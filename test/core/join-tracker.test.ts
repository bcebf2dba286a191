/** JoinTracker: when a rank of a run waits in vain to join with others. */
import { expect, test } from "bun:test";
import { formatRanks } from "../../src/core/base/ranks.ts";
import { describeStuck, JoinTracker, type RankJoins } from "../../src/core/launch/join-tracker.ts";

const NOTHING: RankJoins = { joins: 0, awaited: 0, needed: 0, isGone: false };

function tracker(...ranks: Partial<RankJoins>[]): JoinTracker {
  const made = new JoinTracker(ranks.length);
  for (const [rank, joins] of ranks.entries()) made.update(rank, { ...NOTHING, ...joins });
  return made;
}

test("a rank that waits for one that has ended without joining waits in vain", () => {
  expect(tracker({ awaited: 1, needed: 2 }, { isGone: true }).stuck()).toEqual({ waiting: 0, missing: [1] });
  expect(tracker({ isGone: true }, {}, { awaited: 1, needed: 3 }).stuck()).toEqual({ waiting: 2, missing: [0] });
});

test("a rank that still runs may join", () => {
  const joins = tracker({ awaited: 1, needed: 2 }, {});
  expect(joins.stuck()).toBeNull();
  joins.setGone(1);
  expect(joins.stuck()).toEqual({ waiting: 0, missing: [1] });
});

test("where no rank waits there is nothing to wait for", () => {
  expect(tracker({ isGone: true }, {}).stuck()).toBeNull();
  expect(tracker({ awaited: 1, needed: 2, isGone: true }, { isGone: true }).stuck()).toBeNull();
  expect(tracker({ joins: 1 }, { isGone: true }).stuck()).toBeNull();
});

test("a session that needs fewer processes than there are can begin without one", () => {
  expect(tracker({ awaited: 1, needed: 2 }, {}, { isGone: true }).stuck()).toBeNull();
  expect(tracker({ awaited: 1, needed: 2 }, { isGone: true }, { isGone: true }).stuck()).toEqual({
    waiting: 0,
    missing: [1, 2],
  });
  expect(tracker({ awaited: 1, needed: 2 }, { isGone: true, joins: 1 }, { isGone: true }).stuck()).toBeNull();
});

test("processes beyond those of the run are not missed", () => {
  expect(tracker({ awaited: 1, needed: 5 }, {}).stuck()).toBeNull();
  expect(tracker({ awaited: 1, needed: 5 }, { isGone: true }).stuck()).toEqual({ waiting: 0, missing: [1] });
});

test("the report of a rank that waits may be older than the session's start", () => {
  expect(tracker({ awaited: 1, needed: 2 }, { isGone: true, joins: 1 }).stuck()).toBeNull();
  expect(tracker({ awaited: 3, needed: 2 }, { isGone: true, joins: 3 }).stuck()).toBeNull();
});

test("a rank that has ended does not join the next session of that name", () => {
  expect(tracker({ joins: 2, awaited: 3, needed: 2 }, { isGone: true, joins: 2 }).stuck()).toEqual({
    waiting: 0,
    missing: [1],
  });
});

test("the message names the ranks, however many there are", () => {
  expect(describeStuck({ waiting: 0, missing: [1] })).toBe(
    "process 1 ended without joining, and process 0 waits for it in join(); let every process join, or start fewer with -n",
  );
  expect(describeStuck({ waiting: 2, missing: [0, 1] })).toStartWith("processes 0 and 1 ended without joining, ");
  expect(formatRanks([0, 3, 5])).toBe("processes 0, 3 and 5");
  expect(formatRanks(Array.from({ length: 8 }, (_, rank) => rank))).toBe("processes 0, 1, 2, 3, 4, 5, 6 and 7");
  expect(formatRanks(Array.from({ length: 1024 }, (_, rank) => rank))).toBe(
    "processes 0, 1, 2, 3, 4, 5, 6, 7 and 1016 more",
  );
});
