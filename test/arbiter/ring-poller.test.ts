/** When the arbiter looks into the store ring, and when it sleeps. */
import { expect, test } from "bun:test";
import { RingPoller } from "../../src/arbiter/ring-poller.ts";

function setUp() {
  const turns: (() => void)[] = [];
  const events = { after: 0 };
  const queue = {
    isAwake: true,
    bytesInFlight: 0,
    stores: 0,
    sleeps: 0,
    drained: 0,
    drainQueue(): number {
      queue.drained += 1;
      const taken = queue.stores;
      queue.stores = 0;
      return taken;
    },
    sleep(): boolean {
      queue.sleeps += 1;
      queue.isAwake = queue.stores > 0;
      return queue.stores === 0;
    },
  };
  let isWell = true;
  const poller = new RingPoller(queue, {
    attempt: (work) => {
      work();
      return isWell;
    },
    afterEvent: () => {
      events.after += 1;
    },
    schedule: (work) => turns.push(work),
  });
  const turn = (): void => {
    for (const work of turns.splice(0)) work();
  };
  const fail = (): void => {
    isWell = false;
  };
  return { poller, queue, events, turns, turn, fail };
}

test("an empty ring: the arbiter sleeps, and is not woken for nothing", () => {
  const { poller, queue, events, turns, turn } = setUp();
  poller.poll();
  poller.poll();
  expect(turns.length).toBe(1);
  turn();
  expect([queue.sleeps, events.after]).toEqual([1, 0]);
  poller.poll();
  expect(turns).toEqual([]);
});

test("stores that were taken are sent, and the arbiter stays awake", () => {
  const { poller, queue, events, turn } = setUp();
  queue.stores = 3;
  poller.poll();
  turn();
  expect([queue.sleeps, events.after, queue.isAwake]).toEqual([0, 1, true]);
});

test("while a proposal is in flight the ring is not looked into", () => {
  const { poller, queue, turns } = setUp();
  queue.stores = 3;
  queue.bytesInFlight = 40;
  poller.poll();
  expect(turns).toEqual([]);
  queue.bytesInFlight = 0;
  poller.poll();
  expect(turns.length).toBe(1);
});

test("a store that comes while the arbiter falls asleep is not missed", () => {
  const { poller, queue, events, turn } = setUp();
  const { drainQueue } = queue;
  queue.drainQueue = () => {
    const taken = drainQueue();
    queue.stores = 1;
    return taken;
  };
  poller.poll();
  turn();
  expect([queue.sleeps, events.after]).toEqual([1, 1]);
});

test("after a corrupt ring, or the end, it is no longer polled", () => {
  for (const how of ["corrupt", "stopped"]) {
    const { poller, queue, events, turns, turn, fail } = setUp();
    queue.stores = 1;
    poller.poll();
    if (how === "corrupt") fail();
    else poller.stop();
    turn();
    poller.poll();
    expect([turns.length, events.after]).toEqual([0, 0]);
    expect(queue.drained).toBe(how === "corrupt" ? 1 : 0);
  }
});
