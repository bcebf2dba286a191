/**
 * Objects in the map, entry by entry: random entries go straight to a session, and each must be answered as the oracles say,
 * at that entry and not later. Without connections between, a run reaches states that the simulator seldom does: long queues,
 * leases that come back while waiters of conditions do, blocks that are freed under all of it.
 */
import { describe, expect, spyOn, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import type { WaitQueue } from "../../src/core/messages/session-state.ts";
import { Conditions } from "../../src/core/session/conditions.ts";
import { CountedBarriers } from "../../src/core/session/counted-barriers.ts";
import { Locks } from "../../src/core/session/locks.ts";
import { RwLocks } from "../../src/core/session/rw-locks.ts";
import { Session } from "../../src/core/session/session.ts";
import { Synchronisation } from "../../src/core/session/synchronisation.ts";
import { encode, encodeText, type Frame, setUint64 } from "../../src/core/wire/frame.ts";
import { Kind, NO_TAG, ObjectKind } from "../../src/core/wire/kinds.ts";
import { Violation } from "../support/core-cluster.ts";
import { viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";
import { CONDITIONS } from "./oracle/conditions.ts";
import { BARRIER_AT } from "./oracle/counted-barriers.ts";
import { LOCKS, MUTEX, MUTEX_AT } from "./oracle/locks.ts";
import { Order } from "./oracle/order.ts";
import { RW_LOCK_AT } from "./oracle/rw-locks.ts";

const SIZE = 8192;
const NODES = 3;
const NAMES = [MUTEX, MUTEX, ...LOCKS];

/** A thread of a process; a channel's number is its own. */
interface Thread {
  channel: number;
  node: number;
  rank: number;
  waits: boolean;
}

interface Counts {
  entries: number;
  answers: number;
  waited: number;
  leases: number;
  heirs: number;
}

class Play {
  readonly counts: Counts = { entries: 0, answers: 0, waited: 0, leases: 0, heirs: 0 };
  readonly #random: Random;
  readonly #order: Order;
  readonly #threads: Thread[] = [];
  /** Leases, and whether they are recalled. */
  readonly #leases = new Map<string, { node: number; isRecalled: boolean }>();
  #answers: { node: number; tag: number; status: Status; value: number }[] = [];
  #nextChannel = 0;

  constructor(seed: number) {
    const random = new Random(seed);
    const onLoss = random.oneIn(4) ? "fail" : "continue";
    const config = {
      ...{ name: "dense", instance: "0", processes: 2, size: SIZE, base: 2 ** 45, order: "sequential" as const },
      ...{ onLoss: onLoss as "fail" | "continue", elastic: true },
    };
    this.#random = random;
    this.#order = new Order({
      ...{ size: SIZE, wordsFrom: SIZE - 64 },
      makeSession: () =>
        new Session(config, new MapBytes(new Uint8Array(SIZE)), {
          ...{ wantsWrites: false, onWrite() {}, onProcessGone() {}, onEnd() {} },
          onReply: (node, tag, { status, value }) => this.#answers.push({ node, tag, status, value }),
          onRankAssigned: (node, tag, rank) => this.#joined(node, tag, rank),
          onLease: (name, node) => {
            this.#leases.set(name, { node, isRecalled: false });
            this.counts.leases += 1;
          },
          onRecall: (name, node) => {
            const lease = this.#leases.get(name);
            if (lease?.node === node) lease.isRecalled = true;
          },
        }),
    });
    for (let process = 0; process < 2; process += 1) this.#join();
  }

  run(entries: number): Counts {
    for (let entry = 0; entry < entries && this.#order.session.phase !== "ended"; entry += 1) this.#step();
    const copy = Session.fromState(
      JSON.parse(JSON.stringify(this.#order.session.state())),
      new MapBytes(new Uint8Array(SIZE)),
      { ...this.#effects },
    );
    expect(JSON.stringify(copy.state())).toBe(JSON.stringify(this.#order.session.state()));
    return this.counts;
  }

  get #effects() {
    const nothing = (): void => {};
    return {
      ...{ wantsWrites: false, onWrite: nothing, onReply: nothing, onRankAssigned: nothing, onProcessGone: nothing },
      ...{ onLease: nothing, onRecall: nothing, onEnd: nothing },
    };
  }

  #step(): void {
    const random = this.#random;
    const recalled = [...this.#leases].filter(([, { isRecalled }]) => isRecalled);
    if (recalled.length > 0 && random.oneIn(3)) this.#giveBack(random.pick(recalled)[0]);
    else if (this.#leases.size > 0 && random.oneIn(8)) this.#useCell(random.pick([...this.#leases.keys()]));
    else if (this.#threads.length < 8 || random.oneIn(80)) this.#join();
    else if (random.oneIn(50)) this.#leave(random.pick(this.#threads));
    else this.#act(random.pick(this.#threads));
  }

  /** Puts an entry into the order, and compares its answers. */
  #add(frame: Frame, by: Thread | null): void {
    const bytes = encode(frame);
    const view = viewOf(bytes);
    if (by !== null && frame.kind !== Kind.SEM_CANCEL && frame.kind !== Kind.JOIN) {
      const sent = bytes.slice();
      viewOf(sent).setUint32(8, 0, true);
      this.#order.sent.add(by.node, by.channel, by.rank, sent);
    }
    setUint64(view, 16, this.#order.session.seq + 1);
    this.#answers = [];
    this.#order.add(bytes);
    this.counts.entries += 1;
    for (const answer of this.#answers) this.#compare(answer);
    // No other request was to be answered.
    for (const { node, channel, waits } of this.#threads) {
      if (waits && this.#order.takeVerdict(node, channel, 0) !== undefined)
        throw new Violation(`channel ${channel} is not answered, and ought to be`);
    }
  }

  #compare({ node, tag, status, value }: { node: number; tag: number; status: Status; value: number }): void {
    const channel = tag >>> 16;
    if (tag === NO_TAG) return;
    const thread = this.#threads.find((one) => one.channel === channel);
    const verdict = this.#order.takeVerdict(node, channel, 0);
    if (thread?.waits === true) {
      this.counts.waited += 1;
      thread.waits = false;
    }
    this.counts.answers += 1;
    if (status === Status.OWNER_DIED) this.counts.heirs += 1;
    // Of joins and leaves there is no oracle.
    if (verdict === undefined) return;
    if (verdict.status !== status) throw new Violation(`channel ${channel} gets ${status}, not ${verdict.status}`);
    const hasValue = status === Status.OK || status === Status.MISMATCH;
    if (hasValue && verdict.value !== value) throw new Violation(`channel ${channel} gets the value ${value}`);
  }

  #join(): void {
    const channel = this.#nextChannel;
    this.#nextChannel += 1;
    const node = 1 + this.#random.below(NODES);
    const thread = { channel, node, rank: 0, waits: false };
    this.#add({ kind: Kind.JOIN, op: 1, node, tag: channel * 0x10000, offset: 7, body: encodeText("n") }, thread);
  }

  #joined(node: number, tag: number, rank: number): void {
    this.#threads.push({ channel: tag >>> 16, node, rank, waits: false });
    // Some processes have further threads.
    for (let more = this.#random.below(3); more > 0; more -= 1) {
      this.#threads.push({ channel: this.#nextChannel, node, rank, waits: false });
      this.#nextChannel += 1;
    }
  }

  #leave({ node, rank }: Thread): void {
    const { locks, session } = this.#order;
    const isLost = this.#random.oneIn(6);
    const isEvicted = isLost && this.#random.oneIn(2);
    // The arbiter gives back what the process has by cells, before it says so.
    const mine = [...this.#leases].filter(([, lease]) => lease.node === node).map(([name]) => name);
    const isLast = session.presentOn(node).every((one) => one === rank);
    if (!isEvicted) for (const name of mine) if (isLast || locks.cellOwnerOf(name) === rank) this.#giveBack(name);
    // An eviction takes all processes of the node.
    const ranks = isEvicted ? session.presentOn(node) : [rank];
    for (const [index, gone] of ranks.entries()) {
      const aux = isEvicted && index === ranks.length - 1 ? 1 : 0;
      if (isEvicted && aux === 0 && mine.some((name) => locks.cellOwnerOf(name) === gone)) {
        for (const name of mine) if (locks.cellOwnerOf(name) === gone) this.#giveBack(name);
      }
      this.#add({ kind: Kind.LEAVE, op: isLost ? 1 : 0, aux, node, rank: gone, tag: NO_TAG }, null);
      for (const thread of this.#threads.filter((one) => one.rank === gone && one.node === node))
        this.#threads.splice(this.#threads.indexOf(thread), 1);
    }
    for (const name of mine) if (!locks.isLeased(name)) this.#leases.delete(name);
  }

  /** A process of the node takes a leased lock by its cell, or gives it back. */
  #useCell(name: string): void {
    const { locks, session } = this.#order;
    const lease = this.#leases.get(name);
    if (lease === undefined || !locks.isLeased(name)) {
      this.#leases.delete(name);
      return;
    }
    const here = session.presentOn(lease.node);
    if (locks.cellOwnerOf(name) >= 0) locks.giveCell(name);
    else if (here.length > 0 && session.lostRank < 0) locks.takeCell(name, this.#random.pick(here), lease.node);
  }

  #giveBack(name: string): void {
    const { locks } = this.#order;
    const lease = this.#leases.get(name);
    this.#leases.delete(name);
    if (lease === undefined || !locks.isLeased(name)) return;
    const owner = locks.cellOwnerOf(name);
    const said = owner < 0 ? { op: 0 } : { op: 1, rank: owner };
    this.#add({ kind: Kind.RETURN, node: lease.node, tag: NO_TAG, body: encodeText(name), ...said }, null);
  }

  #act(thread: Thread): void {
    const random = this.#random;
    const { node, rank, channel } = thread;
    const common = { node, rank, tag: channel * 0x10000 };
    if (thread.waits) {
      if (random.oneIn(4)) this.#add({ kind: Kind.SEM_CANCEL, ...common }, thread);
      return;
    }
    const frame = this.#request(thread);
    // The arbiter gives the lease of what is asked for back first.
    const asksFor = frame.kind === Kind.LOCK || frame.kind === Kind.UNLOCK || frame.kind === Kind.COND_WAIT;
    const name = asksFor ? new TextDecoder().decode(frame.body) : frame.kind === Kind.OBJECT_INIT ? MUTEX : "";
    if (this.#leases.get(name)?.node === node) this.#giveBack(name);
    thread.waits = true;
    this.#add({ ...frame, ...common }, thread);
  }

  #request({ rank }: Thread): Frame {
    const random = this.#random;
    const { locks, rwLocks, heap } = this.#order;
    const has = NAMES.filter((name) => locks.ownerOf(name) === rank || locks.cellOwnerOf(name) === rank);
    const choice = random.below(20);
    if (choice < 4 && has.length > 0)
      return { kind: Kind.UNLOCK, op: random.below(2), body: encodeText(random.pick(has)) };
    if (choice < 7)
      return { kind: Kind.LOCK, op: random.oneIn(4) ? 1 : 0, aux: 0, body: encodeText(random.pick(NAMES)) };
    if (choice < 10) {
      const possible = CONDITIONS.filter(([, name]) => has.includes(name));
      const [offset, mutex] = random.pick(possible.length > 0 ? possible : CONDITIONS);
      return { kind: Kind.COND_WAIT, offset, body: encodeText(mutex) };
    }
    if (choice < 12)
      return { kind: Kind.COND_SIGNAL, offset: random.pick(CONDITIONS)[0], aux: random.pick([1, 1, 1, 1, 2, 99]) };
    if (choice < 16) {
      if (rwLocks.has(rank) && !random.oneIn(4))
        return { kind: Kind.RW_UNLOCK, op: random.below(2), offset: RW_LOCK_AT };
      return { kind: Kind.RW_LOCK, op: random.oneIn(4) ? 1 : 0, aux: random.oneIn(3) ? 1 : 0, offset: RW_LOCK_AT };
    }
    if (choice < 18) return { kind: Kind.ARRIVE, offset: BARRIER_AT, aux: random.pick([1, 3, 3, 3, 3, 3, 4]) };
    if (choice < 19) {
      const [op, offset] = random.pick([
        [ObjectKind.MUTEX, MUTEX_AT],
        [ObjectKind.CONDITION, CONDITIONS[0]?.[0] as number],
        [ObjectKind.RW_LOCK, RW_LOCK_AT],
        [ObjectKind.BARRIER, BARRIER_AT],
      ] as const);
      return { kind: Kind.OBJECT_INIT, op, offset };
    }
    const block = heap.blocks[0];
    if (block !== undefined) return { kind: Kind.FREE, offset: random.oneIn(20) ? 8 : block.offset };
    // From the first byte on, over some of the objects or all.
    return { kind: Kind.ALLOC, offset: random.pick([64, MUTEX_AT + 8, RW_LOCK_AT, 2048]), aux: 8 };
  }
}

test("each entry is answered as the oracles say", () => {
  const total: Counts = { entries: 0, answers: 0, waited: 0, leases: 0, heirs: 0 };
  const seeds = Number(process.env.DSM_SEEDS ?? 150);
  for (let seed = 0; seed < seeds; seed += 1) {
    let counts: Counts;
    try {
      counts = new Play(seed).run(400);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
    for (const key of Object.keys(total) as (keyof Counts)[]) total[key] += counts[key];
  }
  const each = (key: keyof Counts): number => total[key] / seeds;
  expect(each("entries")).toBeGreaterThan(150);
  expect(each("answers")).toBeGreaterThan(100);
  expect(each("waited")).toBeGreaterThan(30);
  expect(each("leases")).toBeGreaterThan(1);
  expect(each("heirs")).toBeGreaterThan(1);
}, 120_000);

/** Whether one of the seeds breaks a promise. */
function isNoticed(): boolean {
  for (let seed = 0; seed < 300; seed += 1) {
    try {
      new Play(seed).run(400);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      return true;
    }
  }
  return false;
}

describe("it is noticed that", () => {
  const nothing = (): void => {};
  const plants: [string, () => { mockRestore(): void }][] = [
    [
      "a signal is used up by one that died before it had its mutex",
      () => spyOn(Conditions.prototype, "passOnSignalsOf").mockImplementation(nothing),
    ],
    [
      "a wait is taken back without its mutex",
      () => spyOn(Locks.prototype, "isComingBack").mockImplementation(() => false),
    ],
    ["a condition takes no wait back", () => spyOn(Conditions.prototype, "cancel").mockImplementation(() => false)],
    [
      "the mutex is unlocked as mended when its owner waits",
      () => {
        const release = Locks.prototype.release;
        return spyOn(Locks.prototype, "release").mockImplementation(function (this: Locks, name: string) {
          release.call(this, name, false);
        });
      },
    ],
    ["a dead writer is forgotten", () => spyOn(RwLocks.prototype, "passOnLocksOf").mockImplementation(nothing)],
    [
      "readers go on waiting when the writer before them gives up",
      () => {
        const settle = RwLocks.prototype.settle;
        return spyOn(RwLocks.prototype, "settle").mockImplementation(function (this: RwLocks, queue: WaitQueue) {
          const first = queue.waiters[0];
          if (first === undefined || !("isWriter" in first) || first.isWriter === true) settle.call(this, queue);
        });
      },
    ],
    [
      "an arrival that is taken back still counts",
      () => spyOn(CountedBarriers.prototype, "cancel").mockImplementation(() => true),
    ],
    [
      "nothing is reset when its block is freed",
      () => spyOn(Synchronisation.prototype, "reset").mockImplementation(nothing),
    ],
    ["a lease goes on although the mutex was freed", () => spyOn(Locks.prototype, "reset").mockImplementation(nothing)],
  ];
  test.each(plants)(
    "%s",
    (_name, plant) => {
      const planted = plant();
      try {
        expect(isNoticed()).toBe(true);
      } finally {
        planted.mockRestore();
      }
    },
    120_000,
  );
});
