/** The turns that threads take for a lock, and how the process's leaving ends them. All threads are this one. */
import { describe, expect, test } from "bun:test";
import { ThreadState } from "../../src/client/thread-state.ts";
import { LOCKS_MAX } from "../../src/core/base/limits.ts";

const threads = (): [ThreadState, ThreadState] => {
  const first = new ThreadState("s");
  return [first, new ThreadState("s", first.memory)];
};
/** Nothing ends the wait early. */
const never = { check: () => {}, begin: () => {}, end: () => {} };

describe("a turn", () => {
  test("is one thread's, until it gives it", () => {
    const [one, two] = threads();
    expect(one.tryTurn("a")).toBeTrue();
    expect(two.tryTurn("a")).toBeFalse();
    expect(two.tryTurn("b")).toBeTrue();
    expect(() => one.tryTurn("a")).toThrow('this process has lock "a", or waits for it, already');
    expect([one.locks, two.locks]).toEqual([["a"], ["b"]]);
    one.giveTurn("a");
    expect(two.tryTurn("a")).toBeTrue();
    expect(() => one.turnSync("a", 1)).toThrow('other processes had lock "a" for 1 ms');
  });

  test("stays with the thread whose next request comes before the answer to its UNLOCK", () => {
    const [one, two] = threads();
    one.tryTurn("a");
    one.beginUnlock("a");
    expect(two.tryTurn("a")).toBeFalse();
    expect(one.tryTurn("a")).toBeTrue();
    one.endUnlock("a", true);
    expect(two.tryTurn("a")).toBeFalse();
    one.beginUnlock("a");
    one.endUnlock("a", true);
    expect(two.tryTurn("a")).toBeTrue();
  });

  test("stays where unlocking failed, and ends where another thread unlocked", () => {
    const [one, two] = threads();
    one.tryTurn("a");
    two.beginUnlock("a");
    two.endUnlock("a", false);
    expect(two.tryTurn("a")).toBeFalse();
    two.beginUnlock("a");
    two.endUnlock("a", true);
    expect(two.tryTurn("a")).toBeTrue();
  });

  test("comes to one that waits for it, which asks for it once", async () => {
    const [one, two] = threads();
    one.tryTurn("a");
    const turn = two.turn("a", undefined, never);
    expect(() => two.tryTurn("a")).toThrow("or waits for it, already");
    one.giveTurn("a");
    expect(await turn).toBeUndefined();
    expect(two.locks).toEqual(["a"]);
    await expect(one.turn("a", 1, never)).rejects.toMatchObject({ code: "DSM_TIMEOUT" });
    two.giveTurn("a");
    expect(one.turnSync("a", 1000)).toBeGreaterThan(0);
  });

  test("has a limit of names", () => {
    const [one, two] = threads();
    for (let lock = 0; lock < 2 * LOCKS_MAX; lock += 1) expect(one.tryTurn(`lock ${lock}`)).toBeTrue();
    expect(() => one.tryTurn("one more")).toThrow("8192 names of locks, the limit");
    expect(two.tryTurn("lock 5")).toBeFalse();
  });
});

describe("leaving", () => {
  test("ends a wait, and what begins later", async () => {
    const [one, two] = threads();
    one.tryTurn("a");
    const turn = two.turn("a", undefined, never);
    one.leave(3);
    await expect(turn).rejects.toMatchObject({ code: "DSM_LEFT", message: 'this process has left session "s"' });
    expect([two.left, two.lastProcesses]).toEqual([true, 3]);
    expect(() => two.turnSync("a", undefined)).toThrow("has left");
  });

  test("between looking and sleeping does not leave a thread asleep", () => {
    const [one, two] = threads();
    one.tryTurn("a");
    const { wait } = Atomics;
    const outcomes: string[] = [];
    Atomics.wait = ((...place: Parameters<typeof wait>) => {
      one.leave(1);
      const outcome = wait(...place);
      outcomes.push(outcome);
      return outcome;
    }) as typeof wait;
    try {
      expect(() => two.turnSync("a", 1000)).toThrow("has left");
    } finally {
      Atomics.wait = wait;
    }
    expect(outcomes).toEqual(["not-equal"]);
  });
});
