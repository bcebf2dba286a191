/** Counts as people read them. */
import { expect, test } from "bun:test";
import { counted, formatCount } from "../../src/core/base/count.ts";

test("digits stand in groups of three", () => {
  expect([0, 7, 999, 1_000, 34_607, 1_234_567].map(formatCount)).toEqual([
    ...["0", "7", "999", "1,000", "34,607", "1,234,567"],
  ]);
});

test("only one thing is in the singular", () => {
  expect([0, 1, 2, 34_607].map((count) => counted(count, "entry", "entries"))).toEqual([
    ...["0 entries", "1 entry", "2 entries", "34,607 entries"],
  ]);
  expect([1, 1_024].map((count) => counted(count, "process", "processes"))).toEqual(["1 process", "1,024 processes"]);
  expect(counted(2, "rank")).toBe("2 ranks");
});
