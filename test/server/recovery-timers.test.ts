/** When a recovery hears that its waits are over. */
import { expect, test } from "bun:test";
import {
  HEARTBEAT_TIMEOUT_MS,
  JOINING_SETTLE_MS,
  LEASE_MS,
  RECONNECT_TIMEOUT_MS,
  RECOVERY_BEAT_MS,
} from "../../src/core/base/limits.ts";
import { RecoveryTimers } from "../../src/server/recovery-timers.ts";
import { ManualClock } from "./manual-clock.ts";

function setUp(onTimeout: () => void = () => {}) {
  const clock = new ManualClock();
  const calls: [what: string, at_ms: number][] = [];
  const timers = new RecoveryTimers(
    {
      onTimeout: () => {
        calls.push(["timeout", clock.now_ms()]);
        onTimeout();
      },
      onJoinGraceOver: () => calls.push(["join grace over", clock.now_ms()]),
      beat: () => calls.push(["beat", clock.now_ms()]),
    },
    clock,
  );
  const timesOf = (what: string): number[] => calls.filter(([name]) => name === what).map(([, at_ms]) => at_ms);
  return { clock, timers, timesOf };
}

test("while no node has reported, the deadline is the default, and passes once", () => {
  const { clock, timesOf } = setUp();
  clock.advance(10 * RECONNECT_TIMEOUT_MS);
  expect(timesOf("timeout")).toEqual([RECONNECT_TIMEOUT_MS]);
});

test("the deadline is the longest time of all nodes from the beginning, and then repeats", () => {
  const { clock, timers, timesOf } = setUp();
  clock.advance(500);
  timers.waitAtLeast(2000);
  timers.waitAtLeast(1000);
  clock.advance(1000);
  timers.waitAtLeast(4000);
  clock.advance(2499);
  expect(timesOf("timeout")).toEqual([]);
  clock.advance(1 + 2 * HEARTBEAT_TIMEOUT_MS);
  expect(timesOf("timeout")).toEqual([4000, 4000 + HEARTBEAT_TIMEOUT_MS, 4000 + 2 * HEARTBEAT_TIMEOUT_MS]);
});

test("a node that does not report may use leases for a while, however short the times are that others wish", () => {
  const { clock, timers, timesOf } = setUp();
  timers.waitAtLeast(1);
  clock.advance(LEASE_MS - 1);
  expect(timesOf("timeout")).toEqual([]);
  clock.advance(1);
  expect(timesOf("timeout")).toEqual([LEASE_MS]);
});

test("a node that reports after its own time has the deadline pass at once", () => {
  const { clock, timers, timesOf } = setUp();
  clock.advance(5000);
  timers.waitAtLeast(1000);
  clock.advance(0);
  expect(timesOf("timeout")).toEqual([5000]);
});

test("the grace for joining nodes ends once; signs of life go on", () => {
  const { clock, timesOf } = setUp();
  clock.advance(JOINING_SETTLE_MS + 3 * RECOVERY_BEAT_MS);
  expect(timesOf("join grace over")).toEqual([JOINING_SETTLE_MS]);
  expect(timesOf("beat").length).toBeGreaterThan(2);
});

test("after stop() no timer is left, also when a timeout itself ends the recovery", () => {
  const early = setUp();
  early.timers.waitAtLeast(1000);
  early.timers.stop();
  expect(early.clock.pending).toBe(0);

  const late = setUp(() => late.timers.stop());
  late.timers.waitAtLeast(3000);
  late.clock.advance(3000);
  expect(late.timesOf("timeout")).toEqual([3000]);
  expect(late.clock.pending).toBe(0);
});
