/** The judgement of a soak: what grows is seen, what breathes is not. */
import { expect, test } from "bun:test";
import { Random } from "../support/core-random.ts";
import { BOUNDS, judge, type Sample, slope } from "./soak.ts";

const HOUR = 3600;

/** Samples of `seconds`, where each thing is `value` of its time and a random number. */
function samples(seconds: number, value: (hours: number, noise: number) => number): Sample[] {
  const random = new Random(1);
  return Array.from({ length: seconds / 5 }, (_, at) => {
    const number = value((5 * at) / HOUR, random.below(1000) / 1000);
    const all = Object.fromEntries(Object.keys(BOUNDS).map((name) => [name, number]));
    return { seconds: 5 * at, entries: at, round: at, copiesKiB: 0, ...all } as unknown as Sample;
  });
}

const grown = (list: Sample[]): string[] => judge(list).flatMap(({ name, rise, most }) => (rise > most ? name : []));

test("the slope is that of the best line", () => {
  expect(
    slope([
      [0, 1],
      [1, 3],
      [2, 5],
    ]),
  ).toBe(2);
  expect(
    slope([
      [0, 1],
      [1, 0],
      [2, 1],
      [3, 0],
    ]),
  ).toBeCloseTo(-0.2);
  expect(slope([[1, 7]])).toBe(0);
});

test("what stays, or breathes, is well; what grew while it warmed up is, too", () => {
  expect(grown(samples(HOUR, () => 12_345))).toEqual([]);
  expect(grown(samples(HOUR, (_, noise) => 12_345 + 4 * noise))).toEqual([]);
  expect(grown(samples(HOUR, (hours) => 100_000 * Math.min(hours, 0.25)))).toEqual([]);
});

test("what grows is seen: a byte an operation, a descriptor now and then", () => {
  expect(grown(samples(HOUR, (hours) => 30_000 * hours))).toEqual(Object.keys(BOUNDS));
  // Slower than a breath in a short time, seen in a long one.
  const slowly = (hours: number): number => 3000 * hours;
  expect(grown(samples(HOUR / 6, slowly))).not.toContain("serverKiB");
  expect(grown(samples(20 * HOUR, slowly))).toContain("serverKiB");
});

test("too short a time is no judgement", () => {
  expect(() => judge(samples(100, () => 1))).toThrow("samples after the warm-up");
});
