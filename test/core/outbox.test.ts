/** Outbox: bytes that a connection does not take at once are kept in order, up to a limit. */
import { describe, expect, test } from "bun:test";
import { OUTBOX_MAX } from "../../src/core/base/limits.ts";
import { Outbox } from "../../src/core/wire/outbox.ts";
import { Random } from "../support/core-random.ts";

/** A connection that takes as many bytes as it is told, and -1 for none now and then, as a closed socket does. */
function connection(): { outbox: Outbox; taken: number[]; takes: number[]; calls: () => number } {
  const taken: number[] = [];
  const takes: number[] = [];
  let calls = 0;
  const outbox = new Outbox((bytes) => {
    calls += 1;
    const take = Math.min(takes.shift() ?? 0, bytes.length);
    taken.push(...bytes.subarray(0, Math.max(take, 0)));
    return take;
  });
  return { outbox, taken, takes, calls: () => calls };
}

test("writes through while the connection takes everything", () => {
  const { outbox, taken, takes } = connection();
  takes.push(9, 9);
  expect(outbox.send(Uint8Array.of(1, 2))).toBe(true);
  expect(outbox.send(Uint8Array.of(3))).toBe(true);
  expect(taken).toEqual([1, 2, 3]);
  expect(outbox.size).toBe(0);
});

test("keeps what was not taken, in order, and does not write past it", () => {
  const { outbox, taken, takes, calls } = connection();
  takes.push(1);
  outbox.send(Uint8Array.of(1, 2, 3));
  outbox.send(Uint8Array.of(4, 5));
  expect(calls()).toBe(1);
  expect(outbox.size).toBe(4);
  takes.push(1);
  outbox.drain();
  expect(taken).toEqual([1, 2]);
  takes.push(0);
  outbox.drain();
  takes.push(1, 1);
  outbox.drain();
  expect(taken).toEqual([1, 2, 3, 4]);
  expect(outbox.size).toBe(1);
  takes.push(1, 9);
  outbox.drain();
  outbox.send(Uint8Array.of(6));
  expect(taken).toEqual([1, 2, 3, 4, 5, 6]);
  expect(outbox.size).toBe(0);
});

test("a connection that takes less than nothing took nothing", () => {
  const { outbox, taken, takes } = connection();
  takes.push(-1);
  outbox.send(Uint8Array.of(1, 2));
  expect(outbox.size).toBe(2);
  takes.push(-1);
  outbox.drain();
  expect(outbox.size).toBe(2);
  takes.push(2);
  outbox.drain();
  expect(taken).toEqual([1, 2]);
  outbox.drain();
  expect(outbox.size).toBe(0);
});

describe.each(["Uint8Array", "Buffer"])("the sender's %s", (type) => {
  test("may be used again after send()", () => {
    const { outbox, taken, takes } = connection();
    const bytes = type === "Buffer" ? Buffer.from([1, 2, 3]) : Uint8Array.of(1, 2, 3);
    takes.push(1);
    outbox.send(bytes);
    bytes.fill(9);
    outbox.send(bytes.subarray(0, 1));
    bytes.fill(8);
    takes.push(9, 9);
    outbox.drain();
    expect(taken).toEqual([1, 2, 3, 9]);
  });
});

test("gives the connection up beyond OUTBOX_MAX, and not before", () => {
  const outbox = new Outbox(() => 0);
  const chunk = new Uint8Array(OUTBOX_MAX / 4);
  for (let count = 1; count <= 4; count += 1) {
    expect(outbox.send(chunk)).toBe(true);
    expect(outbox.size).toBe(count * chunk.length);
  }
  expect(outbox.send(Uint8Array.of(1))).toBe(false);
  expect(outbox.size).toBe(OUTBOX_MAX);
});

test("random sends and drains keep every byte in order", () => {
  for (let seed = 0; seed < 100; seed += 1) {
    const random = new Random(seed);
    const { outbox, taken, takes } = connection();
    const sent: number[] = [];
    for (let step = 0; step < 60; step += 1) {
      takes.push(random.pick([0, 1, 3, 50, -1]));
      if (random.oneIn(3)) {
        outbox.drain();
      } else {
        const bytes = random.bytes(random.below(20));
        sent.push(...bytes);
        outbox.send(bytes);
      }
      expect(outbox.size).toBe(sent.length - taken.length);
      takes.length = 0;
    }
    takes.push(...new Array(1000).fill(1000));
    outbox.drain();
    expect(taken).toEqual(sent);
  }
});

test("bytes lent to it are not copied, and given back when they are written", () => {
  const { outbox, taken, takes } = connection();
  const given: string[] = [];
  takes.push(2);
  outbox.send(Uint8Array.of(1, 2), () => given.push("first"));
  expect(given).toEqual(["first"]);
  takes.push(1);
  const lent = Uint8Array.of(3, 4, 5);
  outbox.send(lent, () => given.push("second"));
  const copied = Uint8Array.of(6);
  outbox.send(copied);
  lent[2] = 50;
  copied[0] = 60;
  expect(given).toEqual(["first"]);
  takes.push(1);
  outbox.drain();
  expect(given).toEqual(["first"]);
  takes.push(1, 0);
  outbox.drain();
  expect(given).toEqual(["first", "second"]);
  takes.push(1);
  outbox.drain();
  expect(taken).toEqual([1, 2, 3, 4, 50, 6]);
});

test("what waits is tried again before a large piece is added", () => {
  const { outbox, takes, calls } = connection();
  outbox.send(Uint8Array.of(1));
  outbox.send(Uint8Array.of(2));
  expect(calls()).toBe(1);
  takes.push(1, 1, 100 << 10);
  outbox.send(new Uint8Array(100 << 10));
  expect([calls(), outbox.size]).toEqual([4, 0]);
});

test("a callback `sent` is called once: after sending, or when the connection broke", () => {
  const { outbox, takes } = connection();
  const told: string[] = [];
  const sent = (name: string) => (broken?: boolean) => void told.push(`${name} ${broken === true ? "broken" : "left"}`);
  takes.push(1, 2);
  outbox.send(Uint8Array.of(1), sent("a"));
  outbox.send(Uint8Array.of(2, 3, 4), sent("b"));
  outbox.send(Uint8Array.of(5), sent("c"));
  expect(told.splice(0)).toEqual(["a left"]);
  takes.push(1);
  outbox.drain();
  expect(told.splice(0)).toEqual(["b left"]);
  outbox.clear();
  expect(told.splice(0)).toEqual(["c broken"]);
  expect(outbox.size).toBe(0);
  outbox.send(Uint8Array.of(6), sent("d"));
  outbox.drain();
  expect(told).toEqual(["d broken"]);
});

test("a connection that breaks during a write is reported once", () => {
  const told: (boolean | undefined)[] = [];
  for (const when of ["send", "drain"]) {
    let breaks = when === "send";
    const outbox: Outbox = new Outbox((bytes) => {
      if (breaks) outbox.clear();
      return breaks ? bytes.length - 1 : 0;
    });
    outbox.send(Uint8Array.of(1, 2), (broken) => void told.push(broken));
    breaks = true;
    outbox.drain();
    expect(told.splice(0)).toEqual([true]);
    expect(outbox.size).toBe(0);
  }
});

test("a callback beyond the limit is called at once with a failure", () => {
  const told: (boolean | undefined)[] = [];
  const outbox = new Outbox(() => 0, 4);
  expect(outbox.send(new Uint8Array(5), (broken) => void told.push(broken))).toBe(false);
  expect(told).toEqual([true]);
});
