import { describe, expect, test } from "bun:test";
import { Status } from "../../src/core/errors.ts";
import { PROCESSES_MAX, SEMAPHORES_MAX, WAITING_JOINS_MAX } from "../../src/core/limits.ts";
import { MapBytes } from "../../src/core/memory.ts";
import { AtomicOp, encode, encodeText, type Frame, Kind } from "../../src/core/protocol.ts";
import { type Effects, Session, type SessionConfig } from "../../src/core/session.ts";
import { publication } from "../support/core-frames.ts";

const SIZE = 4096;
const config = (processes: number): SessionConfig => ({
  name: "s",
  instance: "1",
  processes,
  size: SIZE,
  base: 2 ** 45,
});

/** A session and everything it says, one line each. */
class Machine {
  readonly said: string[] = [];
  readonly memory = new Uint8Array(SIZE);
  session: Session;

  constructor(processes: number) {
    this.session = new Session(config(processes), new MapBytes(this.memory), this.effects);
  }

  get effects(): Effects {
    return {
      wrote: (view, at) => this.said.push(`wrote kind ${view.getUint8(at + 4)}: ${this.memory.subarray(0, 4)}`),
      complete: (node, tag, status, aux) => this.said.push(`${node}/${tag} status ${status}, ${aux}`),
      ranked: (node, tag, rank) => this.said.push(`${node}/${tag} rank ${rank}`),
      gone: (node, rank) => this.said.push(`rank ${rank} of ${node} gone`),
      ended: () => this.said.push("ended"),
    };
  }

  apply(frame: Frame): string[] {
    this.said.length = 0;
    const bytes = new Uint8Array([...new Array(16).fill(0xff), ...encode(frame)]);
    this.session.apply(new DataView(bytes.buffer, 8), 8);
    return [...this.said];
  }

  join(node: number, tag: number): string[] {
    return this.apply({ kind: Kind.JOIN, node, tag, offset: 1000 + tag, body: encodeText(`node${node}`) });
  }
}

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
    expect(machine.apply(store)).toEqual(["wrote kind 18: 1,2,3,0", "1/9 status 0, 0"]);
    const body = new Uint8Array(32).fill(1);
    const add = { kind: Kind.ATOMIC, op: AtomicOp.ADD, length: 2, node: 1, tag: 9, body };
    expect(machine.apply(add)).toEqual(["wrote kind 19: 2,3,3,0", "1/9 status 0, 0"]);
    expect(machine.session.old.getBigUint64(0, true)).toBe(0x0201n);
    expect(machine.session.old.getBigUint64(8, true)).toBe(0n);
    expect(machine.session.published).toBe(5);
  });

  test("of a part: bytes only; the sequence number and the answer belong to the last", () => {
    const machine = new Machine(1);
    machine.join(1, 0);
    const part = { op: 1, node: 1, tag: 9 };
    expect(machine.apply(publication([[0, 2]], part))).toEqual(["wrote kind 20: 1,2,0,0"]);
    expect(machine.session.seq).toBe(1);
    expect(machine.apply(publication([[1, 3]], { node: 1, tag: 9 }))).toEqual([
      "wrote kind 20: 1,1,2,3",
      "1/9 status 0, 0",
    ]);
    expect(machine.session.seq).toBe(2);
  });

  test("of a leave: what it waited for, its own answer, that it is gone, then what follows for others", () => {
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

test("who may issue, and who is present", () => {
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

  test("joins that wait for the end, all of them told then", () => {
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
    { kind: Kind.BARRIER, node: 1, rank: 2, tag: 5 },
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
    const snapshot = machine.session.snapshot();
    copy.session = Session.restore(JSON.parse(JSON.stringify(snapshot)), new MapBytes(copy.memory), copy.effects);
    expect(copy.session.snapshot()).toEqual(snapshot);
    expect(copy.session.report()).toEqual(machine.session.report());
    expect(copy.apply(frame)).toEqual(machine.apply(frame));
    expect(copy.session.snapshot()).toEqual(machine.session.snapshot());
    expect(copy.memory).toEqual(machine.memory);
  }
  expect(machine.session.phase).toBe("ended");
});

test("a snapshot is a copy", () => {
  const machine = new Machine(2);
  machine.join(1, 0);
  const snapshot = machine.session.snapshot();
  const text = JSON.stringify(snapshot);
  machine.join(1, 1);
  machine.apply({ kind: Kind.BARRIER, node: 1, rank: 0, tag: 1 });
  expect(JSON.stringify(snapshot)).toBe(text);
});
