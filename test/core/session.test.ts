/** Session: what entries do and who may issue them, resource by resource. */
import { describe, expect, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import {
  BLOCKS_MAX,
  LEASE_PAUSE,
  LOCKS_MAX,
  PROCESSES_MAX,
  SEMAPHORES_MAX,
  WAITING_JOINS_MAX,
  WAITING_MAX,
} from "../../src/core/base/limits.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import type { Effects } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { encode, encodeText, type Frame } from "../../src/core/wire/frame.ts";
import { AtomicOp, Kind, NO_TAG } from "../../src/core/wire/kinds.ts";
import { publication } from "../support/core-frames.ts";

const SIZE = 4096;
const config = (processes: number): SessionConfig => ({
  name: "s",
  instance: "1",
  processes,
  size: SIZE,
  base: 2 ** 45,
  order: "sequential",
  onLoss: "fail",
});

/** A session and everything it says, one line each. */
class Machine {
  readonly said: string[] = [];
  readonly memory = new Uint8Array(SIZE);
  readonly effects: Effects;
  session: Session;
  /** Of the last reply, and of the last one to an atomic operation. */
  value = 0;
  old: DataView = new DataView(new ArrayBuffer(16));

  constructor(processes: number) {
    this.effects = {
      wantsWrites: true,
      onWrite: (offset, length) =>
        this.said.push(`wrote ${offset}+${length}: ${this.memory.subarray(offset, offset + Math.min(length, 4))}`),
      onReply: (node, tag, { status, aux, value, old }) => {
        this.said.push(`${node}/${tag} status ${status}, ${aux}`);
        this.value = value;
        if (old !== null) this.old = new DataView(old.buffer.slice(0));
      },
      onRankAssigned: (node, tag, rank) => this.said.push(`${node}/${tag} rank ${rank}`),
      onProcessGone: (node, rank) => this.said.push(`rank ${rank} of ${node} gone`),
      onLease: (name, node) => this.said.push(`"${name}" leased to ${node}`),
      onRecall: (name, node) => this.said.push(`"${name}" recalled from ${node}`),
      onEnd: () => this.said.push("ended"),
    };
    this.session = new Session(config(processes), new MapBytes(this.memory), this.effects);
  }

  apply(frame: Frame): string[] {
    this.said.length = 0;
    this.value = 0;
    const bytes = new Uint8Array([...new Array(16).fill(0xff), ...encode(frame)]);
    this.session.apply(new DataView(bytes.buffer, 8), 8);
    return [...this.said];
  }

  join(node: number, tag: number, noDirect = 0): string[] {
    return this.apply({
      kind: Kind.JOIN,
      op: noDirect,
      node,
      tag,
      offset: 1000 + tag,
      body: encodeText(`node${node}`),
    });
  }
}

/** A session of `processes` on nodes 1, 2, 1, 2 ..., which runs. */
function started(processes: number): Machine {
  const machine = new Machine(processes);
  for (let rank = 0; rank < processes; rank += 1) machine.join(1 + (rank % 2), rank);
  expect(machine.session.phase).toBe("running");
  return machine;
}

const word = (value: number): Uint8Array => {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};

test("a session needs processes and a map of its size", () => {
  const make = (processes: number, size: number, bytes: number) => () =>
    new Session({ ...config(processes), size }, new MapBytes(new Uint8Array(bytes)), new Machine(1).effects);
  expect(make(1, SIZE, SIZE)).not.toThrow();
  for (const bad of [
    make(0, SIZE, SIZE),
    make(PROCESSES_MAX + 1, SIZE, SIZE),
    make(1, 0, 0),
    make(1, SIZE, SIZE - 1),
  ]) {
    expect(bad).toThrow(RangeError);
  }
});

describe("effects", () => {
  test("of a start come by rank, after the last rank was given", () => {
    const machine = new Machine(3);
    expect(machine.apply({ kind: Kind.JOIN, node: 2, tag: 5, aux: 3, body: encodeText("b") })).toEqual(["2/5 rank 2"]);
    expect(machine.join(1, 6)).toEqual(["1/6 rank 0"]);
    expect(machine.join(2, 7)).toEqual(["2/7 rank 1", "1/6 status 0, 0", "2/7 status 0, 1", "2/5 status 0, 2"]);
  });

  test("of a store: the bytes first, then the answer", () => {
    const machine = new Machine(1);
    machine.join(1, 0);
    const store = { kind: Kind.STORE, node: 1, tag: 9, body: Uint8Array.of(1, 2, 3) };
    expect(machine.apply(store)).toEqual(["wrote 0+3: 1,2,3", "1/9 status 0, 0"]);
    const body = new Uint8Array(32).fill(1);
    const add = { kind: Kind.ATOMIC, op: AtomicOp.ADD, length: 2, node: 1, tag: 9, body };
    expect(machine.apply(add)).toEqual(["wrote 0+2: 2,3", "1/9 status 0, 0"]);
    expect(machine.old.getBigUint64(0, true)).toBe(0x0201n);
    expect(machine.old.getBigUint64(8, true)).toBe(0n);
    expect(machine.session.bytesWritten).toBe(5);
  });

  test("of a part: bytes only; the sequence number and the answer belong to the last", () => {
    const machine = new Machine(1);
    machine.join(1, 0);
    const part = { op: 1, node: 1, tag: 9 };
    expect(machine.apply(publication([[0, 2]], part))).toEqual(["wrote 0+2: 1,2"]);
    expect(machine.session.seq).toBe(1);
    expect(machine.apply(publication([[1, 3]], { node: 1, tag: 9 }))).toEqual(["wrote 1+3: 1,2,3", "1/9 status 0, 0"]);
    expect(machine.session.seq).toBe(2);
  });

  test("of a leave: its pending requests, its own answer, its departure, then the effects on others", () => {
    const machine = new Machine(2);
    machine.join(1, 0);
    machine.join(2, 0);
    machine.apply({ kind: Kind.BARRIER, node: 2, rank: 1, tag: 3 });
    machine.apply({ kind: Kind.SEM_WAIT, node: 1, rank: 0, tag: 4, aux: 0, body: encodeText("x") });
    const leave = { kind: Kind.LEAVE, node: 1, rank: 0, tag: 5 };
    const left = Status.LEFT;
    expect(machine.apply(leave)).toEqual([
      `1/4 status ${left}, 0`,
      "1/5 status 0, 0",
      "rank 0 of 1 gone",
      "2/3 status 0, 0",
    ]);
    expect(machine.apply({ ...leave, node: 2, rank: 1 })).toEqual(["2/5 status 0, 0", "rank 1 of 2 gone", "ended"]);
    expect(machine.session.phase).toBe("ended");
    expect(machine.join(1, 1)).toEqual([`1/1 status ${Status.ENDED}, 0`]);
  });
});

test("an entry of no ordered kind is not passed over", () => {
  expect(() => new Machine(1).apply({ kind: Kind.HELLO })).toThrow(RangeError);
});

test("which processes may issue operations, and which are present", () => {
  const machine = new Machine(2);
  machine.join(1, 0);
  expect(machine.session.mayIssue(0, 1)).toBe(false);
  expect(machine.session.presentOn(1)).toEqual([0]);
  machine.join(2, 0);
  expect([machine.session.mayIssue(0, 1), machine.session.mayIssue(0, 2), machine.session.mayIssue(1, 2)]).toEqual([
    true,
    false,
    true,
  ]);
  machine.apply({ kind: Kind.LEAVE, op: 1, node: 1, rank: 0 });
  expect(machine.session.mayIssue(0, 1)).toBe(false);
  expect(machine.session.presentOn(1)).toEqual([]);
  expect(machine.session.lostRank).toBe(0);
});

test("writes are not reported while there is no watcher", () => {
  const machine = started(2);
  machine.effects.wantsWrites = false;
  const body = new Uint8Array(32).fill(1);
  const common = { node: 1, tag: 9 };
  for (const frame of [
    { kind: Kind.STORE, body: Uint8Array.of(1, 2, 3), ...common },
    { kind: Kind.ATOMIC, op: AtomicOp.ADD, length: 2, body, ...common },
    publication([[0, 2]], common),
    { kind: Kind.ALLOC, offset: 8, aux: 8, ...common },
  ]) {
    expect(machine.apply(frame)).toEqual(["1/9 status 0, 0"]);
  }
});

test("of a publication each run is reported, even those of a part", () => {
  const machine = started(2);
  const list = [
    [0, 2],
    [100, 9],
    [200, 1],
  ] as const;
  const wrote = ["wrote 0+2: 1,2", "wrote 100+9: 1,2,3,4", "wrote 200+1: 1"];
  expect(machine.apply(publication(list, { op: 1, node: 1, tag: 9 }))).toEqual(wrote);
  expect(machine.apply(publication(list, { node: 1, tag: 9 }))).toEqual([...wrote, "1/9 status 0, 0"]);
});

describe("direct mode", () => {
  test("begins when all are on one node and none refused", () => {
    const machine = new Machine(3);
    for (const tag of [0, 1, 2]) {
      expect(machine.session.direct).toBe(false);
      machine.join(1, tag);
    }
    expect(machine.session.direct).toBe(true);
    expect(machine.session.state().direct).toBe(true);
  });

  test("does not when they are on two, or one refused", () => {
    expect(started(2).session.direct).toBe(false);
    for (const refusing of [0, 1, 2]) {
      const machine = new Machine(3);
      for (const tag of [0, 1, 2]) machine.join(1, tag, tag === refusing ? 1 : 0);
      expect(machine.session.phase).toBe("running");
      expect(machine.session.direct).toBe(false);
    }
  });

  test("counts the processes that are there at the start, and those that refused before", () => {
    for (const [noDirect, direct] of [
      [0, true],
      [1, false],
    ] as const) {
      const machine = new Machine(3);
      machine.join(1, 0);
      machine.join(2, 1, noDirect);
      machine.apply({ kind: Kind.LEAVE, op: 1, node: 2, rank: 1 });
      machine.join(1, 2);
      machine.join(1, 3);
      expect(machine.session.direct).toBe(direct);
    }
  });

  test("is decided alike by a session restored on the way there", () => {
    for (const noDirect of [0, 1]) {
      const machine = new Machine(2);
      machine.join(1, 0, noDirect);
      const copy = Session.fromState(machine.session.state(), new MapBytes(machine.memory), machine.effects);
      machine.session = copy;
      machine.join(1, 1);
      expect(machine.session.direct).toBe(noDirect === 0);
      expect(Session.fromState(copy.state(), new MapBytes(machine.memory), machine.effects).direct).toBe(copy.direct);
    }
  });

  test("stays to the end", () => {
    const machine = new Machine(2);
    machine.join(1, 0);
    machine.join(1, 1);
    expect(machine.session.allPresent).toBe(true);
    machine.apply({ kind: Kind.LEAVE, node: 1, rank: 0 });
    expect([machine.session.allPresent, machine.session.direct]).toEqual([false, true]);
    machine.apply({ kind: Kind.LEAVE, op: 1, node: 1, rank: 1 });
    expect(machine.session.direct).toBe(true);
  });
});

describe("blocks", () => {
  const ok = ["1/9 status 0, 0"];
  const allocate = (machine: Machine, size: number, align = 1) => {
    machine.effects.wantsWrites = false;
    return machine.apply({ kind: Kind.ALLOC, node: 1, tag: 9, offset: size, aux: align });
  };
  const named = (machine: Machine, name: string, size: number, align = 1) =>
    machine.apply({ kind: Kind.NAMED, node: 1, tag: 9, offset: size, aux: align, body: encodeText(name) });
  const free = (machine: Machine, offset: number) => machine.apply({ kind: Kind.FREE, node: 1, tag: 9, offset });

  test("are zeroed, exactly they, before the answer", () => {
    const machine = started(2);
    machine.memory.fill(0xff);
    expect(machine.apply({ kind: Kind.ALLOC, node: 1, tag: 9, offset: 100, aux: 1 })).toEqual([
      "wrote 0+100: 0,0,0,0",
      ...ok,
    ]);
    allocate(machine, 10, 64);
    expect(machine.value).toBe(128);
    const zeros = [...machine.memory.entries()].filter(([, byte]) => byte === 0).map(([at]) => at);
    expect(zeros).toEqual([...Array(100).keys(), ...Array.from({ length: 10 }, (_, at) => 128 + at)]);
    // Given out again, zeroed again.
    machine.memory.fill(0xee);
    free(machine, 0);
    expect(machine.memory.subarray(0, 100).every((byte) => byte === 0xee)).toBe(true);
    allocate(machine, 50);
    expect(machine.memory.findIndex((byte) => byte !== 0)).toBe(50);
  });

  test("of one name and size are one block, zeroed once", () => {
    const machine = started(2);
    allocate(machine, 64);
    expect(named(machine, "grid", 100)).toEqual(ok);
    expect(machine.value).toBe(64);
    machine.memory.fill(7);
    expect(named(machine, "grid", 100, 4096)).toEqual(ok);
    expect(machine.value).toBe(64);
    expect(machine.memory[64]).toBe(7);
    expect(named(machine, "grid", 99)).toEqual([`1/9 status ${Status.MISMATCH}, 0`]);
    expect(machine.value).toBe(100);
    expect(named(machine, "Grid", 99)).toEqual(ok);
    expect(machine.value).toBe(164);
    free(machine, 64);
    expect(named(machine, "grid", 99)).toEqual(ok);
    expect(machine.value).toBe(64);
  });

  test("an invalid name", () => {
    const machine = started(2);
    for (const name of ["a/b", "a\0b", ".."]) {
      expect(named(machine, name, 8)).toEqual([`1/9 status ${Status.INVALID}, 0`]);
    }
    expect(machine.session.state().blocks).toEqual([]);
  });

  test("exhaustion and wrong frees change nothing", () => {
    const machine = started(2);
    expect(allocate(machine, SIZE + 1)).toEqual([`1/9 status ${Status.NO_MEMORY}, 0`]);
    expect(machine.value).toBe(SIZE + 1);
    expect(allocate(machine, SIZE)).toEqual(ok);
    const before = machine.session.state().blocks;
    expect(allocate(machine, 1)).toEqual([`1/9 status ${Status.NO_MEMORY}, 0`]);
    expect(machine.value).toBe(SIZE + 1);
    expect(named(machine, "grid", 1)).toEqual([`1/9 status ${Status.NO_MEMORY}, 0`]);
    expect(free(machine, 1)).toEqual([`1/9 status ${Status.INVALID}, 0`]);
    expect(machine.session.state().blocks).toEqual(before);
    expect(free(machine, 0)).toEqual(ok);
    expect(free(machine, 0)).toEqual([`1/9 status ${Status.INVALID}, 0`]);
  });

  test("any process frees what another allocated, but not once it has left", () => {
    const machine = started(3);
    allocate(machine, 64);
    expect(machine.apply({ kind: Kind.FREE, node: 2, rank: 1, tag: 4, offset: 0 })).toEqual(["2/4 status 0, 0"]);
    allocate(machine, 64);
    machine.apply({ kind: Kind.LEAVE, node: 2, rank: 1, tag: 5 });
    const left = [`2/4 status ${Status.LEFT}, 0`];
    expect(machine.apply({ kind: Kind.FREE, node: 2, rank: 1, tag: 4, offset: 0 })).toEqual(left);
    expect(machine.apply({ kind: Kind.ALLOC, node: 2, rank: 1, tag: 4, offset: 1, aux: 1 })).toEqual(left);
    const body = encodeText("x");
    expect(machine.apply({ kind: Kind.NAMED, node: 2, rank: 1, tag: 4, offset: 1, aux: 1, body })).toEqual(left);
    expect(machine.session.state().blocks).toEqual([{ offset: 0, size: 64, name: "" }]);
  });

  test("outlive the process that allocated them, and a loss", () => {
    const machine = started(3);
    named(machine, "grid", 64);
    machine.apply({ kind: Kind.LEAVE, op: 1, node: 1, rank: 0 });
    const again = { kind: Kind.NAMED, node: 2, rank: 1, tag: 4, offset: 64, aux: 1, body: encodeText("grid") };
    expect(machine.apply(again)).toEqual(["2/4 status 0, 0"]);
    expect(machine.value).toBe(0);
    expect(machine.session.state().blocks).toEqual([{ offset: 0, size: 64, name: "grid" }]);
  });
});

describe("sleeping", () => {
  const sleep = (machine: Machine, rank: number, tag: number, fields: Partial<Frame> = {}) =>
    machine.apply({
      kind: Kind.FUTEX_WAIT,
      node: 1 + (rank % 2),
      rank,
      tag,
      offset: 8,
      length: 4,
      body: word(0),
      ...fields,
    });
  const wake = (machine: Machine, rank: number, count: number, offset = 8) => {
    const said = machine.apply({ kind: Kind.FUTEX_WAKE, node: 1 + (rank % 2), rank, tag: 99, offset, aux: count });
    expect(said.at(-1)).toBe(`${1 + (rank % 2)}/99 status 0, 0`);
    expect(machine.value).toBe(said.length - 1);
    return said.slice(0, -1);
  };

  test("compares exactly its bytes", () => {
    const machine = started(1);
    const again = [`1/5 status ${Status.AGAIN}, 0`];
    for (const length of [1, 2, 4, 8]) {
      machine.memory.fill(0);
      machine.memory.set([1, 2, 3, 4, 5, 6, 7, 8].slice(0, length), 11);
      const body = new Uint8Array(8).fill(0xee);
      body.set([1, 2, 3, 4, 5, 6, 7, 8].slice(0, length));
      // Beyond its bytes neither the map nor the body counts.
      machine.memory[10] = 0xaa;
      machine.memory[11 + length] = 0xbb;
      expect(sleep(machine, 0, 5, { offset: 11, length, body })).toEqual([]);
      expect(wake(machine, 0, 1, 11)).toEqual(["1/5 status 0, 0"]);
      for (let at = 0; at < length; at += 1) {
        const other = body.slice();
        other[at]! ^= 0x80;
        expect(sleep(machine, 0, 5, { offset: 11, length, body: other })).toEqual(again);
      }
    }
  });

  test("does not compare what was compared already", () => {
    const machine = started(1);
    machine.memory.fill(9);
    expect(sleep(machine, 0, 5, { op: 1 })).toEqual([]);
    expect(wake(machine, 0, 1)).toEqual(["1/5 status 0, 0"]);
  });

  test("wakes the longest sleepers first, as many as requested, at that place only", () => {
    const machine = started(4);
    for (const [rank, tag] of [
      [2, 1],
      [0, 2],
      [3, 3],
      [1, 4],
      [0, 5],
    ] as const) {
      expect(sleep(machine, rank, tag)).toEqual([]);
    }
    expect(sleep(machine, 1, 6, { offset: 9 })).toEqual([]);
    expect(wake(machine, 3, 0)).toEqual([]);
    expect(wake(machine, 3, 1, 12)).toEqual([]);
    expect(wake(machine, 3, 2)).toEqual(["1/1 status 0, 0", "1/2 status 0, 0"]);
    expect(wake(machine, 2, 0xffffffff)).toEqual(["2/3 status 0, 0", "2/4 status 0, 0", "1/5 status 0, 0"]);
    expect(wake(machine, 2, 1)).toEqual([]);
    expect(wake(machine, 0, 7, 9)).toEqual(["2/6 status 0, 0"]);
  });

  test("a wake is not kept for later sleepers", () => {
    const machine = started(2);
    wake(machine, 0, 5);
    expect(sleep(machine, 1, 3)).toEqual([]);
  });

  test("is taken back only while it lasts", () => {
    const machine = started(2);
    const cancel = (tag: number) => machine.apply({ kind: Kind.SEM_CANCEL, node: 1, tag });
    sleep(machine, 0, 1);
    sleep(machine, 0, 2);
    sleep(machine, 1, 1);
    expect(cancel(1)).toEqual([`1/1 status ${Status.TIMEOUT}, 0`]);
    expect(cancel(1)).toEqual([]);
    expect(wake(machine, 1, 1)).toEqual(["1/2 status 0, 0"]);
    expect(cancel(2)).toEqual([]);
    expect(wake(machine, 1, 9)).toEqual(["2/1 status 0, 0"]);
  });

  test("ends with its process, and for all when one is lost", () => {
    const machine = started(4);
    for (const rank of [0, 1, 2, 3]) sleep(machine, rank, rank);
    sleep(machine, 2, 12, { offset: 40 });
    expect(machine.apply({ kind: Kind.LEAVE, node: 1, rank: 2, tag: 50 })).toEqual([
      `1/2 status ${Status.LEFT}, 0`,
      `1/12 status ${Status.LEFT}, 0`,
      "1/50 status 0, 0",
      "rank 2 of 1 gone",
    ]);
    expect(machine.apply({ kind: Kind.LEAVE, op: 1, node: 2, rank: 1, tag: 51 })).toEqual([
      `2/1 status ${Status.LEFT}, 0`,
      "2/51 status 0, 0",
      "rank 1 of 2 gone",
      `1/0 status ${Status.LOST}, 1`,
      `2/3 status ${Status.LOST}, 1`,
    ]);
    // No process sleeps, and none falls asleep; waking stays possible.
    expect(wake(machine, 0, 9)).toEqual([]);
    expect(sleep(machine, 0, 7)).toEqual([`1/7 status ${Status.LOST}, 1`]);
    expect(sleep(machine, 2, 7)).toEqual([`1/7 status ${Status.LEFT}, 1`]);
  });

  test("is reported, with its place", () => {
    const machine = started(2);
    sleep(machine, 1, 3, { offset: 0xab0 });
    expect(machine.session.report()[1]).toMatchObject({ rank: 1, state: "sleeping", on: "0xab0" });
    wake(machine, 0, 1, 0xab0);
    expect(machine.session.report()[1]?.state).toBe("running");
  });

  test("leaves nothing behind, however it ended", () => {
    const machine = started(3);
    for (let offset = 0; offset < 64; offset += 1) {
      sleep(machine, 0, 1, { offset, length: 1 });
      machine.apply({ kind: Kind.SEM_CANCEL, node: 1, tag: 1 });
      sleep(machine, 0, 1, { offset: 64 + offset, length: 1 });
      wake(machine, 1, 1, 64 + offset);
    }
    expect(machine.session.state().sleepers).toEqual([]);
    sleep(machine, 2, 1);
    machine.apply({ kind: Kind.LEAVE, node: 1, rank: 2, tag: 2 });
    expect(machine.session.state().sleepers).toEqual([]);
    sleep(machine, 0, 1);
    machine.apply({ kind: Kind.LEAVE, op: 1, node: 2, rank: 1, tag: 2 });
    expect(machine.session.state().sleepers).toEqual([]);
  });
});

test("what processes of a node have made of a semaphore becomes its value, and ends the waits that it can", () => {
  const machine = started(2);
  const name = { body: encodeText("gate") };
  const value = (offset: number) => machine.apply({ kind: Kind.SEM_VALUE, node: 1, tag: NO_TAG, offset, ...name });
  expect(value(3)).toEqual([]);
  expect(machine.session.idleValueOf("gate")).toBe(-1);
  machine.apply({ kind: Kind.SEM_POST, node: 1, tag: 1, offset: 1, ...name });
  expect(value(3)).toEqual([]);
  expect(machine.session.idleValueOf("gate")).toBe(3);
  expect(value(0)).toEqual([]);
  for (const tag of [2, 3]) machine.apply({ kind: Kind.SEM_WAIT, node: 1, tag, ...name });
  expect(machine.session.idleValueOf("gate")).toBe(-1);
  expect(value(1)).toEqual(["1/2 status 0, 0"]);
  expect(value(4)).toEqual(["1/3 status 0, 0"]);
  expect(machine.session.idleValueOf("gate")).toBe(3);
});

describe("limits", () => {
  test("semaphores", () => {
    const machine = new Machine(1);
    machine.join(1, 0);
    const use = (name: string) =>
      machine.apply({ kind: Kind.SEM_POST, node: 1, tag: 1, offset: 1, body: encodeText(name) });
    for (let count = 0; count < SEMAPHORES_MAX; count += 1) expect(use(`s${count}`)).toEqual(["1/1 status 0, 0"]);
    expect(use("one more")).toEqual([`1/1 status ${Status.LIMIT}, 0`]);
    expect(use("s7")).toEqual(["1/1 status 0, 0"]);
  });

  test("locks", () => {
    const machine = new Machine(1);
    machine.join(1, 0);
    const lock = (name: string) => machine.apply({ kind: Kind.LOCK, node: 1, tag: 1, body: encodeText(name) });
    for (let count = 0; count < LOCKS_MAX; count += 1) expect(lock(`s${count}`)).toEqual(["1/1 status 0, 0"]);
    expect(lock("one more")).toEqual([`1/1 status ${Status.LIMIT}, 0`]);
    expect(lock("s7")).toEqual([`1/1 status ${Status.BUSY}, 0`]);
  });

  test("sleepers, whatever else waits included", () => {
    const machine = started(2);
    const sleep = (tag: number) => machine.apply({ kind: Kind.FUTEX_WAIT, node: 1, tag, length: 8, body: word(0) });
    machine.apply({ kind: Kind.SEM_WAIT, node: 2, rank: 1, tag: 7, aux: 0, body: encodeText("gate") });
    for (let tag = 1; tag < WAITING_MAX; tag += 1) sleep(tag);
    expect(machine.said).toEqual([]);
    expect(sleep(0)).toEqual([`1/0 status ${Status.LIMIT}, 0`]);
    machine.apply({ kind: Kind.FUTEX_WAKE, node: 1, tag: 0, aux: 1 });
    expect(sleep(0)).toEqual([]);
    expect(machine.apply({ kind: Kind.FUTEX_WAKE, node: 2, rank: 1, tag: 9, aux: 0xffffffff }).length).toBe(
      WAITING_MAX,
    );
    expect(machine.value).toBe(WAITING_MAX - 1);
  });

  test("what waits for semaphores and locks, sleepers included", () => {
    const machine = started(2);
    const name = (text: string) => ({ body: encodeText(text) });
    machine.apply({ kind: Kind.LOCK, node: 2, rank: 1, tag: 0, ...name("door") });
    machine.apply({ kind: Kind.FUTEX_WAIT, node: 1, tag: 0, length: 8, body: word(0) });
    for (let tag = 1; tag < WAITING_MAX; tag += 1) {
      machine.apply({ kind: Kind.SEM_WAIT, node: 1, tag, ...name(`gate${tag % 7}`) });
    }
    machine.said.splice(0);
    const refused = (tag: number) => [`1/${tag} status ${Status.LIMIT}, 0`];
    const tag = WAITING_MAX;
    expect(machine.apply({ kind: Kind.SEM_WAIT, node: 1, tag, ...name("gate1") })).toEqual(refused(tag));
    expect(machine.apply({ kind: Kind.LOCK, node: 1, tag, ...name("door") })).toEqual(refused(tag));
    expect(machine.apply({ kind: Kind.FUTEX_WAIT, node: 1, tag, length: 8, body: word(0) })).toEqual(refused(tag));
    // What need not wait goes on, and makes room.
    const post = { kind: Kind.SEM_POST, node: 2, rank: 1, tag: 9, offset: 1, ...name("gate1") };
    expect(machine.apply(post)).toEqual(["1/1 status 0, 0", "2/9 status 0, 0"]);
    expect(machine.apply({ kind: Kind.LOCK, node: 1, tag, ...name("door") })).toEqual([]);
  });

  test("a waiting tag does not wait twice, though a peer that breaks the rules may ask", () => {
    const machine = started(2);
    const wait = { kind: Kind.SEM_WAIT, node: 1, tag: 7, body: encodeText("gate") };
    expect(machine.apply(wait)).toEqual([]);
    expect(machine.apply(wait)).toEqual([`1/7 status ${Status.BUSY}, 0`]);
    expect(machine.session.state().semaphores[0]?.waiters.length).toBe(1);
  });

  test("blocks", () => {
    const machine = started(1);
    const blocks = Array.from({ length: BLOCKS_MAX - 1 }, (_, index) => ({ offset: index, size: 1, name: "" }));
    const size = 2 * BLOCKS_MAX;
    const snapshot = { ...machine.session.state(), config: { ...config(1), size }, blocks };
    machine.session = Session.fromState(snapshot, new MapBytes(new Uint8Array(size)), machine.effects);
    const allocate = () => machine.apply({ kind: Kind.ALLOC, node: 1, tag: 1, offset: 1, aux: 1 });
    machine.effects.wantsWrites = false;
    expect(allocate()).toEqual(["1/1 status 0, 0"]);
    expect(machine.value).toBe(BLOCKS_MAX - 1);
    expect(allocate()).toEqual([`1/1 status ${Status.NO_MEMORY}, 0`]);
    expect(machine.value).toBe(0);
    machine.apply({ kind: Kind.FREE, node: 1, tag: 1, offset: 5 });
    expect(allocate()).toEqual(["1/1 status 0, 0"]);
    expect(machine.value).toBe(5);
  });

  test("joins that wait for the end are all answered then", () => {
    const machine = new Machine(2);
    machine.join(1, 0);
    machine.join(1, 1);
    machine.apply({ kind: Kind.LEAVE, node: 1, rank: 0 });
    for (let tag = 2; tag < 2 + WAITING_JOINS_MAX; tag += 1) expect(machine.join(1, tag)).toEqual([]);
    expect(machine.join(1, 5000)).toEqual([`1/5000 status ${Status.LIMIT}, 0`]);
    const said = machine.apply({ kind: Kind.LEAVE, node: 1, rank: 1 });
    expect(said.filter((line) => line.endsWith(`status ${Status.ENDED}, 0`)).length).toBe(WAITING_JOINS_MAX);
    expect(said.at(-1)).toBe("ended");
  });
});

test("a restored session goes on as the one it was taken from", () => {
  const machine = new Machine(3);
  const frames: Frame[] = [
    ...[0, 1, 2].map((tag) => ({ kind: Kind.JOIN, node: 1 + (tag % 2), tag, body: encodeText("n") })),
    { kind: Kind.STORE, node: 1, rank: 0, tag: 1, offset: 7, body: encodeText("hello") },
    { kind: Kind.SEM_WAIT, node: 1, rank: 0, tag: 3, aux: 0, body: encodeText("gate") },
    { kind: Kind.SEM_WAIT, node: 2, rank: 1, tag: 4, aux: 0, body: encodeText("gate") },
    { kind: Kind.ALLOC, node: 2, rank: 1, tag: 20, offset: 100, aux: 64 },
    { kind: Kind.NAMED, node: 2, rank: 1, tag: 21, offset: 10, aux: 8, body: encodeText("grid") },
    { kind: Kind.FUTEX_WAIT, node: 1, rank: 0, tag: 22, offset: 8, length: 4, body: word(0) },
    { kind: Kind.FUTEX_WAIT, node: 2, rank: 1, tag: 23, offset: 8, length: 4, body: word(0) },
    { kind: Kind.FUTEX_WAIT, node: 1, rank: 2, tag: 24, offset: 8, length: 4, body: word(0) },
    { kind: Kind.FUTEX_WAIT, node: 1, rank: 2, tag: 25, offset: 16, length: 4, body: word(0) },
    { kind: Kind.BARRIER, node: 1, rank: 2, tag: 5 },
    { kind: Kind.FREE, node: 1, rank: 0, tag: 26, offset: 0 },
    { kind: Kind.NAMED, node: 1, rank: 0, tag: 27, offset: 10, aux: 8, body: encodeText("grid") },
    { kind: Kind.ALLOC, node: 1, rank: 0, tag: 28, offset: 100, aux: 64 },
    { kind: Kind.SEM_CANCEL, node: 2, rank: 1, tag: 23 },
    { kind: Kind.FUTEX_WAKE, node: 2, rank: 1, tag: 29, offset: 8, aux: 1 },
    { kind: Kind.SEM_CANCEL, node: 1, rank: 0, tag: 3 },
    { kind: Kind.SEM_POST, node: 1, rank: 0, tag: 6, offset: 1, body: encodeText("gate") },
    { kind: Kind.LEAVE, node: 1, rank: 0, tag: 7 },
    { kind: Kind.JOIN, node: 1, tag: 8, body: encodeText("n") },
    { kind: Kind.BARRIER, node: 2, rank: 1, tag: 9 },
    { kind: Kind.LEAVE, op: 1, node: 2, rank: 1, tag: 10 },
    { kind: Kind.BARRIER, node: 1, rank: 2, tag: 11 },
    { kind: Kind.LEAVE, node: 1, rank: 2, tag: 12 },
  ];
  for (const frame of frames) {
    const copy = new Machine(3);
    copy.memory.set(machine.memory);
    const snapshot = machine.session.state();
    copy.session = Session.fromState(JSON.parse(JSON.stringify(snapshot)), new MapBytes(copy.memory), copy.effects);
    expect(copy.session.state()).toEqual(snapshot);
    expect(copy.session.report()).toEqual(machine.session.report());
    expect(copy.apply(frame)).toEqual(machine.apply(frame));
    expect(copy.value).toBe(machine.value);
    expect(copy.session.state()).toEqual(machine.session.state());
    expect(copy.memory).toEqual(machine.memory);
  }
  expect(machine.session.phase).toBe("ended");
});

test("a snapshot is a copy", () => {
  const machine = new Machine(2);
  machine.join(1, 0);
  const snapshot = machine.session.state();
  const text = JSON.stringify(snapshot);
  machine.join(1, 1);
  machine.apply({ kind: Kind.BARRIER, node: 1, rank: 0, tag: 1 });
  expect(JSON.stringify(snapshot)).toBe(text);
});

test("a lock whose lease the server has asked for is leased again after LEASE_PAUSE grants, wherever they were", () => {
  const machine = started(2);
  const body = encodeText("a");
  const pass = (rank: number): string[] => {
    machine.apply({ kind: Kind.LOCK, node: rank + 1, rank, tag: 9, body });
    return machine
      .apply({ kind: Kind.UNLOCK, node: rank + 1, rank, tag: 9, body })
      .filter((line) => line.includes("lease"));
  };
  expect([pass(0), pass(0)]).toEqual([[], ['"a" leased to 1']]);
  machine.apply({ kind: Kind.RETURN, node: 1, aux: 1, tag: NO_TAG, body });
  for (let grant = 0; grant < LEASE_PAUSE; grant += 1) expect(pass(grant % 2)).toEqual([]);
  expect([pass(0), pass(0)]).toEqual([[], ['"a" leased to 1']]);
  // A process has it, and gives it back.
  machine.apply({ kind: Kind.RETURN, op: 1, rank: 0, node: 1, aux: 1, tag: NO_TAG, body });
  machine.apply({ kind: Kind.UNLOCK, node: 1, rank: 0, tag: 9, body });
  for (let grant = 0; grant < LEASE_PAUSE; grant += 1) expect(pass(0)).toEqual([]);
  expect(pass(1)).toEqual([]);
});
