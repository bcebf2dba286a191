/** How long the place of a disconnected member is kept. */
import { expect, test } from "bun:test";
import { GracePeriods } from "../../src/server/grace-periods.ts";
import { ManualClock } from "./manual-clock.ts";

function setUp(): { clock: ManualClock; periods: GracePeriods; evicted: number[]; dead: Set<string> } {
  const clock = new ManualClock();
  const evicted: number[] = [];
  const dead = new Set<string>();
  const periods: GracePeriods = new GracePeriods({
    clock,
    hasEnded: (process) => dead.has(process),
    // As the sequencer does it.
    evict: (node) => {
      evicted.push(node);
      periods.stop(node);
    },
  });
  return { clock, periods, evicted, dead };
}

test("a member that does not return is evicted once, when its own time is over", () => {
  const { clock, periods, evicted } = setUp();
  periods.start(1, { reconnectMs: 5000, leaseMs: 0, process: "a" });
  periods.start(2, { reconnectMs: 1000, leaseMs: 0, process: "b" });
  clock.advance(999);
  expect(evicted).toEqual([]);
  clock.advance(1);
  expect(evicted).toEqual([2]);
  clock.advance(10_000);
  expect(evicted).toEqual([2, 1]);
  expect(clock.pending).toBe(0);
});

test("a member that returns is not evicted, and has its whole time again when it is disconnected again", () => {
  const { clock, periods, evicted } = setUp();
  periods.start(1, { reconnectMs: 1000, leaseMs: 0, process: "a" });
  clock.advance(900);
  periods.stop(1);
  expect(clock.pending).toBe(0);
  periods.start(1, { reconnectMs: 1000, leaseMs: 0, process: "a" });
  clock.advance(999);
  expect(evicted).toEqual([]);
  clock.advance(1);
  expect(evicted).toEqual([1]);
});

test("a second start replaces the first: no timer of it is left", () => {
  const { clock, periods, evicted } = setUp();
  periods.start(1, { reconnectMs: 1000, leaseMs: 0, process: "a" });
  clock.advance(500);
  periods.start(1, { reconnectMs: 1000, leaseMs: 0, process: "a" });
  clock.advance(999);
  expect(evicted).toEqual([]);
  periods.stop(1);
  expect(clock.pending).toBe(0);
});

test("a member whose process has ended is evicted before its grace period ends; others are not", () => {
  const { clock, periods, evicted, dead } = setUp();
  periods.start(1, { reconnectMs: 60_000, leaseMs: 0, process: "a" });
  periods.start(2, { reconnectMs: 60_000, leaseMs: 0, process: "b" });
  dead.add("b");
  clock.advance(1000);
  expect(evicted).toEqual([2]);
});

test("a member with leases keeps its place for that long, also when its process has ended", () => {
  const { clock, periods, evicted, dead } = setUp();
  dead.add("a");
  periods.start(1, { reconnectMs: 5000, leaseMs: 2000, process: "a" });
  clock.advance(2000);
  expect(evicted).toEqual([]);
  clock.advance(20);
  expect(evicted).toEqual([1]);
  periods.start(2, { reconnectMs: 5000, leaseMs: 2000, process: "a" });
  periods.stop(2);
  clock.advance(6000);
  expect(evicted).toEqual([1]);
});

test("after stopAll() no timer is left", () => {
  const { clock, periods, evicted } = setUp();
  for (const node of [1, 2, 3]) periods.start(node, { reconnectMs: 1000, leaseMs: 0, process: "a" });
  periods.stopAll();
  expect(clock.pending).toBe(0);
  clock.advance(5000);
  expect(evicted).toEqual([]);
});
