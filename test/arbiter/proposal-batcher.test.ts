/** What the replica proposes goes out in few writes, in its order, and never while the log is interrupted. */
import { expect, test } from "bun:test";
import { ProposalBatcher } from "../../src/arbiter/proposal-batcher.ts";
import type { Sent } from "../../src/core/wire/outbox.ts";

class Log {
  away = false;
  readonly written: number[][] = [];
  append(bytes: Uint8Array, onSent?: Sent): void {
    if (this.away) {
      onSent?.(true);
      return;
    }
    this.written.push([...bytes]);
    onSent?.();
  }
}

function setUp() {
  const log = new Log();
  const turns: (() => void)[] = [];
  const batcher = new ProposalBatcher(log, (work) => turns.push(work));
  return { log, batcher, turns };
}

test("small frames go out in one write when they are flushed", () => {
  const { log, batcher } = setUp();
  batcher.propose(Uint8Array.of(1, 2));
  batcher.propose(Uint8Array.of(3));
  expect(batcher.size).toBe(3);
  expect(log.written).toEqual([]);
  batcher.flush();
  batcher.flush();
  expect(log.written).toEqual([[1, 2, 3]]);
  expect(batcher.size).toBe(0);
});

test("a frame is copied: its memory may be used again after the call", () => {
  const { log, batcher } = setUp();
  const frame = Uint8Array.of(1);
  batcher.propose(frame);
  frame[0] = 9;
  batcher.flush();
  expect(log.written).toEqual([[1]]);
});

test("a large frame goes out at once, behind the small ones before it", () => {
  const { log, batcher } = setUp();
  let sent = 0;
  batcher.propose(Uint8Array.of(1));
  batcher.propose(Uint8Array.of(2), () => {
    sent += 1;
  });
  batcher.propose(Uint8Array.of(3));
  batcher.flush();
  expect(log.written).toEqual([[1], [2], [3]]);
  expect(sent).toBe(1);
});

test("more bytes than there is room for are all kept", () => {
  const { log, batcher } = setUp();
  const frame = new Uint8Array(50_000).fill(1);
  for (let i = 1; i <= 5; i += 1) batcher.propose(frame.fill(i));
  batcher.flush();
  const [written] = log.written;
  expect(written?.length).toBe(250_000);
  expect([0, 50_000, 100_000, 150_000, 249_999].map((at) => written?.[at])).toEqual([1, 2, 3, 4, 5]);
});

test("while the log is interrupted nothing is kept: it would be proposed twice", () => {
  const { log, batcher } = setUp();
  let isBroken: boolean | undefined;
  batcher.propose(Uint8Array.of(1));
  log.away = true;
  batcher.flush();
  batcher.propose(Uint8Array.of(3), (broken) => {
    isBroken = broken;
  });
  batcher.propose(Uint8Array.of(2));
  log.away = false;
  batcher.flush();
  expect(log.written).toEqual([]);
  expect(isBroken).toBe(true);
});

test("when nothing else is in flight, what was gathered goes out at once", () => {
  const { log, batcher, turns } = setUp();
  batcher.propose(Uint8Array.of(1, 2));
  batcher.gather(2, () => batcher.flush());
  expect(log.written).toEqual([[1, 2]]);
  expect(turns).toEqual([]);
});

test("while something is in flight, one write has what several events of one turn brought", () => {
  const { log, batcher, turns } = setUp();
  batcher.propose(Uint8Array.of(1));
  batcher.gather(100, () => batcher.flush());
  batcher.propose(Uint8Array.of(2));
  batcher.gather(101, () => batcher.flush());
  expect(log.written).toEqual([]);
  expect(turns.length).toBe(1);
  turns.shift()?.();
  expect(log.written).toEqual([[1, 2]]);
  batcher.propose(Uint8Array.of(3));
  batcher.gather(100, () => batcher.flush());
  expect(turns.length).toBe(1);
});
