/** The checker of linearizability, held against trying every order. */
import { describe, expect, test } from "bun:test";
import { Random } from "./core-random.ts";
import {
  type Call,
  checkHistory,
  type LockOperation,
  lock,
  type SemaphoreOperation,
  semaphore,
  type WordOperation,
  word,
} from "./linearizability.ts";

/** "10-20" is a call at 10 that returns at 20, "10-" one that never does. */
function call<Operation>(when: string, operation: Operation, object = 0): Call<Operation> {
  const [invoked, returned] = when.split("-") as [string, string];
  return { object, invoked: BigInt(invoked), returned: returned === "" ? null : BigInt(returned), operation };
}
const add = (when: string, operand: number, result: number | null, object = 0) =>
  call<WordOperation>(
    when,
    { kind: "add", operand: BigInt(operand), result: result === null ? null : BigInt(result) },
    object,
  );
const store = (when: string, value: number) =>
  call<WordOperation>(when, { kind: "store", operand: BigInt(value), result: null });
const compare = (when: string, expected: number, value: number, result: number | null) =>
  call<WordOperation>(when, {
    kind: "compare",
    operand: BigInt(value),
    expected: BigInt(expected),
    result: result === null ? null : BigInt(result),
  });
const linearizable = (...calls: Call<WordOperation>[]) => checkHistory(word, calls) === null;

describe("a word", () => {
  test("one after the other, in order and out of order", () => {
    expect(linearizable()).toBe(true);
    expect(linearizable(add("1-2", 1, 0), add("3-4", 1, 1))).toBe(true);
    expect(linearizable(add("3-4", 1, 1), add("1-2", 1, 0))).toBe(true);
    expect(linearizable(add("1-2", 1, 1), add("3-4", 1, 0))).toBe(false);
    expect(linearizable(add("1-2", 1, 0), add("3-4", 1, 0))).toBe(false);
  });

  test("at the same time any order will do, but one order", () => {
    expect(linearizable(add("1-4", 1, 1), add("2-3", 1, 0))).toBe(true);
    expect(linearizable(add("1-4", 1, 0), add("2-3", 1, 1))).toBe(true);
    expect(linearizable(add("1-4", 1, 0), add("2-3", 1, 0))).toBe(false);
    // The same moment counts as the same time.
    expect(linearizable(add("1-2", 1, 1), add("2-3", 1, 0))).toBe(true);
  });

  test("a store that has returned is seen by all that comes later", () => {
    expect(linearizable(store("1-2", 7), add("3-4", 0, 7))).toBe(true);
    expect(linearizable(store("1-2", 7), add("3-4", 0, 0))).toBe(false);
    expect(linearizable(store("1-4", 7), add("2-3", 0, 0), add("5-6", 0, 7))).toBe(true);
    // Seen by one and then not by the next.
    expect(linearizable(store("1-9", 7), add("2-3", 0, 7), add("4-5", 0, 0))).toBe(false);
  });

  test("a long operation may take effect between two others that are inside it", () => {
    expect(linearizable(compare("1-10", 1, 5, 1), add("2-3", 1, 0), add("6-7", 1, 5))).toBe(true);
    expect(linearizable(compare("1-4", 1, 5, 1), add("5-6", 1, 0))).toBe(false);
    expect(linearizable(compare("1-2", 3, 5, 0), add("3-4", 1, 0))).toBe(true);
    expect(linearizable(compare("1-2", 0, 5, 0), add("3-4", 1, 0))).toBe(false);
  });

  test("what never returned has happened or has not, but not before it was called", () => {
    expect(linearizable(add("1-", 5, null), add("2-3", 1, 0))).toBe(true);
    expect(linearizable(add("1-", 5, null), add("2-3", 1, 5))).toBe(true);
    expect(linearizable(add("1-", 5, null), add("2-3", 1, 0), add("4-5", 1, 6))).toBe(true);
    expect(linearizable(add("1-", 5, null), add("2-3", 1, 5), add("4-5", 1, 1))).toBe(false);
    expect(linearizable(add("6-", 5, null), add("2-3", 1, 5))).toBe(false);
    // Once only.
    expect(linearizable(add("1-", 5, null), add("2-3", 0, 5), add("4-5", 0, 10))).toBe(false);
  });

  test("objects are independent, and the violation names its own", () => {
    expect(linearizable(add("1-2", 1, 0, 1), add("3-4", 1, 0, 2))).toBe(true);
    const violation = checkHistory(word, [add("1-2", 1, 0, 1), add("3-4", 1, 0, 2), add("5-6", 1, 5, 2)]);
    expect(violation).toMatchObject({ object: 2, call: { invoked: 5n }, states: ["1"], concurrent: [] });
  });

  test("arithmetic is that of 64 bits", () => {
    const top = call<WordOperation>("5-6", { kind: "or", operand: 0n, result: 2n ** 64n - 1n });
    expect(linearizable(add("3-4", -1, 0), top)).toBe(true);
  });

  test("a clock that goes backwards is refused", () => {
    expect(() => linearizable(add("2-1", 1, 0))).toThrow("returned before");
  });
});

/** Every order of the operations, tried one after the other: slow, and simple enough to be right. */
function explained(calls: readonly Call<WordOperation>[], state = 0n): boolean {
  if (calls.every(({ returned }) => returned === null)) return true;
  const earliest = calls.reduce<bigint | null>(
    (least, { returned }) => (returned === null ? least : least === null || returned < least ? returned : least),
    null,
  );
  return calls.some((each) => {
    if (earliest !== null && each.invoked > earliest) return false;
    const next = word.step(state, each.operation);
    return (
      next !== null &&
      explained(
        calls.filter((other) => other !== each),
        next,
      )
    );
  });
}

test("small random histories are judged as by trying every order", () => {
  const verdicts = [0, 0];
  for (let seed = 0; seed < 4000; seed += 1) {
    const random = new Random(seed);
    const calls = Array.from({ length: random.between(2, 6) }, () => {
      const from = random.below(12);
      const when = `${from}-${random.oneIn(8) ? "" : from + random.below(8)}`;
      const [operand, result] = [random.below(3), random.below(4)];
      const kind = random.pick(["add", "exchange", "store", "compare", "or", "and", "xor"] as const);
      return call<WordOperation>(when, {
        kind,
        operand: BigInt(operand),
        expected: BigInt(random.below(3)),
        result: kind === "store" || when.endsWith("-") ? null : BigInt(result),
      });
    });
    const verdict = linearizable(...calls);
    verdicts[Number(verdict)]! += 1;
    if (verdict !== explained(calls)) throw new Error(`seed ${seed}: ${verdict}`);
  }
  // Both are common, or it would say little.
  expect(Math.min(...verdicts)).toBeGreaterThan(400);
});

test("a long history with many operations at a time is checked quickly", () => {
  const random = new Random(1);
  const calls: Call<WordOperation>[] = [];
  let value = 0;
  for (let at = 0; at < 20_000; at += 1) {
    // Takes effect at 10 * at, within a span that reaches over up to eight others.
    calls.push(add(`${10 * at + 100 - random.between(1, 40)}-${10 * at + 100 + random.between(1, 40)}`, 1, value));
    value += 1;
  }
  expect(linearizable(...calls)).toBe(true);
  const wrong = calls[15_000] as Call<WordOperation>;
  calls[15_000] = { ...wrong, operation: { ...wrong.operation, result: 14_000n } };
  expect(checkHistory(word, calls)?.call.invoked).toBeGreaterThan(140_000n);
});

describe("a semaphore", () => {
  const on = (when: string, kind: SemaphoreOperation["kind"], result: SemaphoreOperation["result"]) =>
    call<SemaphoreOperation>(when, { kind, result });
  const holds = (value: number, ...calls: Call<SemaphoreOperation>[]) => checkHistory(semaphore(value), calls) === null;

  test("counts", () => {
    expect(holds(1, on("1-2", "wait", "ok"), on("3-4", "try", "again"))).toBe(true);
    expect(holds(1, on("1-2", "wait", "ok"), on("3-4", "wait", "ok"))).toBe(false);
    expect(holds(1, on("1-2", "wait", "ok"), on("3-6", "wait", "ok"), on("4-5", "post", "ok"))).toBe(true);
    expect(holds(1, on("1-2", "try", "again"))).toBe(false);
    expect(holds(0, on("1-2", "post", "ok"), on("3-4", "try", "again"))).toBe(false);
    expect(holds(0, on("1-2", "timed", "timeout"), on("3-4", "wait", "lost"))).toBe(true);
    expect(holds(0, on("1-2", "wait", "again"))).toBe(false);
  });

  test("a wait or a post of a killed process may count, or not", () => {
    expect(holds(1, on("1-", "wait", null), on("2-3", "try", "again"))).toBe(true);
    expect(holds(1, on("1-", "wait", null), on("2-3", "try", "ok"))).toBe(true);
    expect(holds(0, on("1-", "post", null), on("2-3", "try", "ok"))).toBe(true);
    expect(holds(0, on("1-", "post", null), on("2-3", "try", "ok"), on("4-5", "try", "ok"))).toBe(false);
  });
});

describe("a lock", () => {
  const on = (when: string, owner: number, kind: LockOperation["kind"], result: LockOperation["result"] = "ok") =>
    call<LockOperation>(when, { kind, owner, result });
  const dies = (when: string, owner: number) => on(when, owner, "die", null);
  const holds = (...calls: Call<LockOperation>[]) => checkHistory(lock, calls) === null;

  test("has one owner, which gives it back", () => {
    expect(holds(on("1-2", 0, "lock"), on("3-4", 0, "unlock"), on("5-6", 1, "lock"))).toBe(true);
    expect(holds(on("1-2", 0, "lock"), on("3-4", 1, "lock"))).toBe(false);
    expect(holds(on("1-2", 0, "lock"), on("3-4", 1, "unlock"))).toBe(false);
    expect(holds(on("1-2", 0, "lock"), on("3-4", 1, "unlock", "not-owner"))).toBe(true);
    expect(holds(on("1-2", 0, "unlock", "not-owner"), on("3-4", 0, "lock"))).toBe(true);
    expect(holds(on("1-2", 0, "lock"), on("3-8", 1, "lock"), on("5-6", 0, "unlock"))).toBe(true);
    expect(holds(on("1-2", 0, "lock"), on("3-4", 1, "try", "again"))).toBe(true);
    expect(holds(on("1-2", 1, "try", "again"))).toBe(false);
    expect(holds(on("1-2", 0, "lock"), on("3-4", 0, "lock", "busy"))).toBe(true);
    expect(holds(on("1-2", 0, "lock"), on("3-4", 1, "lock", "busy"))).toBe(false);
    expect(holds(on("1-2", 0, "lock"), on("3-4", 1, "timed", "timeout"), on("5-6", 0, "unlock"))).toBe(true);
  });

  test("passes on when its owner dies, and each next owner is told until one has made it consistent", () => {
    expect(holds(on("1-2", 0, "lock"), dies("3-", 0), on("4-5", 1, "lock", "died"))).toBe(true);
    expect(holds(on("1-2", 0, "lock"), dies("3-", 0), on("4-5", 1, "lock", "ok"))).toBe(false);
    expect(holds(on("1-2", 0, "lock"), on("4-5", 1, "lock", "died"))).toBe(false);
    expect(holds(on("1-2", 0, "lock"), on("3-4", 0, "unlock"), dies("5-", 0), on("6-7", 1, "lock", "died"))).toBe(
      false,
    );
    const inherited = [on("1-2", 0, "lock"), dies("3-", 0), on("4-5", 1, "lock", "died")];
    expect(holds(...inherited, on("6-7", 1, "unlock"), on("8-9", 2, "lock", "ok"))).toBe(true);
    expect(holds(...inherited, on("6-7", 1, "unlock"), on("8-9", 2, "lock", "died"))).toBe(false);
    expect(holds(...inherited, on("6-7", 1, "unmended"), on("8-9", 2, "lock", "died"))).toBe(true);
    expect(holds(...inherited, on("6-7", 1, "unmended"), on("8-9", 2, "lock", "ok"))).toBe(false);
  });

  test("what a process had under way when it died may have been done, but not after", () => {
    expect(holds(on("1-", 0, "lock", null), dies("2-", 0), on("3-4", 1, "lock", "died"))).toBe(true);
    expect(holds(on("1-", 0, "lock", null), dies("2-", 0), on("3-4", 1, "lock", "ok"))).toBe(true);
    // That it is free again is seen: it was not locked after its owner's death.
    const free = [on("1-2", 1, "lock"), on("3-4", 1, "unlock")];
    expect(holds(...free, on("5-", 0, "lock", null), dies("6-", 0), on("7-8", 1, "try", "again"))).toBe(true);
    const seen = [on("7-8", 1, "lock", "died"), on("9-10", 1, "unlock"), on("11-12", 2, "try", "again")];
    expect(holds(...free, on("5-", 0, "lock", null), dies("6-", 0), ...seen)).toBe(false);
    // An unlock that did not come back.
    expect(holds(on("1-2", 0, "lock"), on("3-", 0, "unlock", null), dies("4-", 0), on("5-6", 1, "lock"))).toBe(true);
  });
});
