/** The queue: first in, first out. */
import { expect, test } from "bun:test";
import { Fifo } from "../../src/core/base/fifo.ts";
import { Random } from "../support/core-random.ts";

test("items come out as they went in, also when many have gone before", () => {
  const random = new Random(5);
  const fifo = new Fifo<number>();
  const kept: number[] = [];
  for (let next = 0; next < 20_000; next += 1) {
    fifo.push(next);
    kept.push(next);
    for (let takes = random.below(3); takes > 0; takes -= 1) expect(fifo.shift()).toBe(kept.shift());
    const index = random.below(kept.length + 2);
    expect(fifo.at(index)).toBe(kept[index]);
  }
  for (const item of [...kept, undefined]) expect(fifo.shift()).toBe(item);
  expect(fifo.at(0)).toBeUndefined();
});
