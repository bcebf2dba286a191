/** Direct mode: one node decides by itself and the server follows. And what a node says and marks in any mode. */
import { describe, expect, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import { FRAME_MAX, WELCOME_MAX } from "../../src/core/base/limits.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { bodyText, encode, encodeText, type Frame, getUint64 } from "../../src/core/wire/frame.ts";
import { AtomicOp, Kind } from "../../src/core/wire/kinds.ts";
import { JOINED } from "../../src/core/wire/process-hello.ts";
import {
  type Channel,
  Cluster,
  type ClusterOptions,
  type Node,
  processHello,
  type Wishes,
} from "../support/core-cluster.ts";
import { publication, viewOf } from "../support/core-frames.ts";

const PAGE = 4096;
const SIZE = 2 * PAGE;

interface Answer {
  tag: number;
  status: number;
  value: number;
  seq: number;
  body: Uint8Array;
}

/** A process that keeps what it is told. */
class Talker {
  readonly channel: Channel;
  readonly answers: Answer[] = [];
  /** Why it was thrown out. */
  failure: string | null = null;
  closed = false;
  rank = -1;
  direct = -1;
  order = 0;
  readonly name: string;

  constructor(node: Node, name: string, wishes: Wishes = {}) {
    this.name = name;
    this.channel = node.connect(
      name,
      (frame) => this.#hears(frame),
      () => {
        this.closed = true;
      },
    );
    this.channel.up.push(processHello("s", 1, wishes));
  }

  #hears(frame: Uint8Array): void {
    const view = viewOf(frame);
    const status = view.getUint8(5);
    if (view.getUint8(4) === Kind.FAIL) {
      this.failure = `${status} ${bodyText(frame, HEADER_SIZE, view.getUint32(32, true))}`;
      return;
    }
    const tag = view.getUint32(8, true);
    if (tag === 0 && status === Status.OK && this.rank < 0) {
      this.rank = view.getUint32(36, true);
      this.direct = view.getUint32(HEADER_SIZE + JOINED.direct[0], true);
      this.order = view.getUint32(HEADER_SIZE + JOINED.order[0], true);
    }
    const body = frame.slice(HEADER_SIZE);
    this.answers.push({ tag, status, value: getUint64(view, 24), seq: getUint64(view, 16), body });
  }

  send(frame: Frame): void {
    this.channel.up.push(encode(frame));
  }

  /** What it has heard since it was asked last: "tag status" each. */
  heard(): string[] {
    return this.answers.splice(0).map(({ tag, status }) => `${tag} ${status}`);
  }
}

class Play {
  readonly cluster: Cluster;
  ended = false;

  constructor(processes: number, options: ClusterOptions = {}, config: Partial<SessionConfig> = {}) {
    this.cluster = new Cluster(
      {
        name: "s",
        instance: "1",
        processes,
        size: SIZE,
        base: 2 ** 45,
        order: "sequential",
        onLoss: "fail",
        ...config,
      },
      {
        onEnded: () => {
          this.ended = true;
        },
        ...options,
      },
    );
  }

  node(name: string): Node {
    const node = this.cluster.node(name);
    this.cluster.settle();
    return node;
  }

  /** As many processes as the session has, on one node. */
  start(node: Node, wishes: Wishes = {}): Talker[] {
    const talkers = Array.from(
      { length: this.cluster.config.processes },
      (_, index) => new Talker(node, `p${index}`, wishes),
    );
    this.cluster.settle();
    for (const talker of talkers) expect(talker.heard()).toEqual(["0 0"]);
    return talkers;
  }

  /** Everything moves but the ways between the server and the nodes. */
  local(): void {
    this.cluster.settle((pipe) => this.cluster.nodes.some(({ name }) => pipe.name.startsWith(`${name} `)));
  }

  get entry(): number {
    return this.cluster.sequencer.session.seq;
  }

  state(node?: Node): string {
    return JSON.stringify((node?.replica ?? this.cluster.sequencer).session.state());
  }
}

const sleep = (tag: number, offset: number, value: number, fields: Partial<Frame> = {}): Frame => {
  const body = new Uint8Array(8);
  viewOf(body).setUint32(0, value, true);
  return { kind: Kind.FUTEX_WAIT, tag, offset, length: 4, body, ...fields };
};
const wake = (tag: number, offset: number, count = 1): Frame => ({ kind: Kind.FUTEX_WAKE, tag, offset, aux: count });
const semaphore = (kind: Kind, tag: number, initial = 0): Frame => ({
  kind,
  tag,
  aux: initial,
  offset: kind === Kind.SEM_POST ? 1 : 0,
  body: encodeText("gate"),
});

describe("a process gets an error", () => {
  test.each([
    ["sequential", {}, 1, 1],
    ["sequential", { noDirect: true }, 0, 1],
    ["release", { order: "release" }, 1, 2],
    ["release", { noDirect: true, processes: 2, size: SIZE }, 0, 2],
  ] as const)("order %s and mode, wishing %j", (order, wishes, direct, number) => {
    const play = new Play(2, {}, { order });
    const talkers = play.start(play.node("a"), wishes);
    expect(talkers.map((talker) => [talker.direct, talker.order])).toEqual([
      [direct, number],
      [direct, number],
    ]);
    const status = play.cluster.sequencer.status();
    expect([status.direct, status.order]).toEqual([direct === 1, order]);
  });

  test("that it expects another order, or an unknown one", () => {
    const play = new Play(1);
    const node = play.node("a");
    const other = new Talker(node, "other", { order: "release" });
    play.cluster.settle();
    expect(other.failure).toBe(
      `${Status.MISMATCH} session "s" has the order sequential, not release; give all the same order`,
    );
    const hello = processHello("s", 1);
    viewOf(hello).setUint16(HEADER_SIZE + 20, 4, true);
    const frames: Uint8Array[] = [];
    const channel = node.connect(
      "stranger",
      (frame) => frames.push(frame),
      () => {},
    );
    channel.up.push(hello);
    play.cluster.settle();
    expect(frames.map((frame) => [frame[4], frame[5]])).toEqual([[Kind.FAIL, Status.INVALID]]);
  });

  test("a node that its order is another, or none", () => {
    const play = new Play(1);
    for (const [order, why] of [
      ["release", `${Status.MISMATCH} session "s" has the order sequential, not release; give all the same order`],
      ["weak", `${Status.PROTOCOL} the greeting lacks an order`],
      [undefined, `${Status.PROTOCOL} the greeting lacks an order`],
      [1, `${Status.PROTOCOL} the greeting lacks an order`],
    ] as const) {
      const node = play.cluster.node(`node of ${order}`, { order: order as "release" });
      play.cluster.settle();
      expect(node.refusal).toBe(why);
    }
    expect(play.cluster.node("a", { order: "sequential" }).refusal).toBeNull();
  });
});

describe("in direct mode", () => {
  test("everything is answered without the server, which then comes to the same states", () => {
    const play = new Play(2);
    const node = play.node("a");
    const [p, q] = play.start(node) as [Talker, Talker];
    const states = new Map([[play.entry, play.state(node)]]);
    const start = play.entry;
    const steps: [Talker, Frame, string[], string[]][] = [
      [p, { kind: Kind.BARRIER, tag: 1 }, [], []],
      [q, { kind: Kind.BARRIER, tag: 1 }, ["1 0"], ["1 0"]],
      [p, semaphore(Kind.SEM_WAIT, 2), [], []],
      [q, semaphore(Kind.SEM_POST, 2), ["2 0"], ["2 0"]],
      [p, semaphore(Kind.SEM_WAIT, 3), [], []],
      [p, { kind: Kind.SEM_CANCEL, tag: 3 }, [`3 ${Status.TIMEOUT}`], []],
      [p, { kind: Kind.ALLOC, tag: 4, offset: 100, aux: 64 }, ["4 0"], []],
      [q, { kind: Kind.NAMED, tag: 4, offset: 8, aux: 8, body: encodeText("grid") }, [], ["4 0"]],
      [q, { kind: Kind.FREE, tag: 5, offset: 0 }, [], ["5 0"]],
      [p, { kind: Kind.FREE, tag: 5, offset: 0 }, [`5 ${Status.INVALID}`], []],
      [p, sleep(6, 64, 0), [], []],
      [q, wake(6, 64), ["6 0"], ["6 0"]],
      [p, { kind: Kind.STORE, tag: 7, offset: 5, body: Uint8Array.of(1, 2, 3) }, ["7 0"], []],
      [p, publication([[40, 9]], { tag: 8 }), ["8 0"], []],
      [q, sleep(9, 64, 0), [], []],
      [p, { kind: Kind.LEAVE, tag: 9 }, ["9 0"], []],
      [q, { kind: Kind.LEAVE, tag: 10 }, [], [`9 ${Status.LEFT}`, "10 0"]],
    ];
    for (const [talker, frame, hearsP, hearsQ] of steps) {
      talker.send(frame);
      play.local();
      expect([p.heard(), q.heard()]).toEqual([hearsP, hearsQ]);
      states.set(node.replica?.session.seq as number, play.state(node));
    }
    expect(play.entry).toBe(start);
    expect(node.replica?.session.seq).toBe(start + steps.length);
    expect([...node.memory.subarray(5, 8), ...node.memory.subarray(40, 49)]).toEqual([
      1, 2, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    expect(node.done).toBe(true);
    expect(play.ended).toBe(false);
    // The server follows, a few bytes at a time.
    while (node.up.size > 0) {
      node.up.deliver(24);
      const state = states.get(play.entry);
      expect(state).toBeString();
      expect(play.state()).toBe(state as string);
    }
    expect(play.ended).toBe(true);
    play.cluster.settle();
    expect(node.fault).toBeNull();
    expect(play.state(node)).toBe(play.state());
  });

  test("a process that goes while its JOIN is on its way to the log leaves behind it, as the server has it", () => {
    const play = new Play(1, {}, { elastic: true });
    const node = play.node("a");
    // The first JOIN begins direct mode, so that the second one was not decided here.
    const [first, second] = [
      new Talker(node, "first", { elastic: true }),
      new Talker(node, "second", { elastic: true }),
    ];
    play.local();
    second.channel.up.end();
    play.local();
    play.cluster.settle();
    expect([first.direct, second.rank]).toEqual([1, -1]);
    expect(play.state(node)).toBe(play.state());
    expect(node.replica?.session.report().map(({ state }) => state)).toEqual(["running", "left"]);
  });

  test("the node that decides can hand the state over, also when all have left; another one cannot", () => {
    const play = new Play(2);
    const [node, other] = [play.node("a"), play.node("b")];
    const talkers = play.start(node);
    const whole = (): unknown[] => [node, other].map(({ replica }) => replica?.position.whole);
    expect(whole()).toEqual([true, false]);
    // The server ends before it is told. The next one must not wait for a node that is not needed.
    for (const talker of talkers) {
      talker.send({ kind: Kind.LEAVE, tag: 1 });
      play.local();
    }
    expect(talkers.map((talker) => talker.heard())).toEqual([["1 0"], ["1 0"]]);
    expect(node.replica?.position).toMatchObject({ whole: true, nodes: [] });
    expect(whole()).toEqual([true, false]);
    play.cluster.settle();
  });

  test("only its own decisions, once each, may come back late", () => {
    const entries: Uint8Array[] = [];
    const play = new Play(1, { onEntry: (bytes) => entries.push(bytes.slice()) });
    const node = play.node("a");
    const [p] = play.start(node) as [Talker];
    for (let tag = 1; tag <= 3; tag += 1) p.send(wake(tag, 0));
    play.cluster.settle();
    expect(entries.length).toBe(4);
    for (const entry of entries)
      expect(() => node.replica?.receiveEntries(entry)).toThrow("an entry of the order is missing");
  });

  test("an answer says the place that the server will give", () => {
    const play = new Play(1);
    const node = play.node("a");
    const [p] = play.start(node) as [Talker];
    for (let tag = 1; tag <= 3; tag += 1) p.send(wake(tag, 0));
    play.local();
    expect(p.answers.map(({ seq }) => seq)).toEqual([2, 3, 4]);
    play.cluster.settle();
    expect(play.entry).toBe(4);
  });

  test("a sleep is compared with the memory as it is, which the server does not know", () => {
    const proposed: number[] = [];
    const play = new Play(2, { onPropose: (_, bytes) => proposed.push(bytes[4] as number) });
    const node = play.node("a");
    const [p, q] = play.start(node) as [Talker, Talker];
    proposed.length = 0;
    node.memory[64] = 7;
    p.send(sleep(1, 64, 0));
    play.cluster.settle();
    expect(p.heard()).toEqual([`1 ${Status.AGAIN}`]);
    // It never came into the order.
    expect([proposed, play.entry]).toEqual([[], 2]);
    p.send(sleep(2, 64, 7));
    play.cluster.settle();
    expect(play.cluster.sequencer.session.report()[p.rank]).toMatchObject({ state: "sleeping", on: "0x40" });
    q.send(wake(3, 64, 5));
    play.cluster.settle();
    expect([p.heard(), q.answers.map(({ value }) => value)]).toEqual([["2 0"], [1]]);
    expect(play.state()).toBe(play.state(node));
    // The channel can be asked again as often as before: an answer was counted for each request.
    for (let round = 0; round < 3000; round += 1) {
      p.send(sleep(1, 64, 0));
      play.local();
    }
    expect(p.heard().length).toBe(3000);
  });

  test("an atomic operation that comes this way gives its old value and marks its page", () => {
    const play = new Play(2);
    const node = play.node("a");
    const [p] = play.start(node) as [Talker];
    node.memory[PAGE + 8] = 41;
    const body = new Uint8Array(32);
    body[0] = 1;
    p.send({ kind: Kind.ATOMIC, op: AtomicOp.ADD, length: 4, tag: 1, offset: PAGE + 8, body });
    play.local();
    expect(p.answers.map(({ status, body }) => [status, body.length, body[0]])).toEqual([[0, 16, 41]]);
    expect(node.memory[PAGE + 8]).toBe(42);
    expect([...node.atomics]).toEqual([0, 1]);
    p.answers.length = 0;
    p.send({ kind: Kind.BARRIER, tag: 2 });
    p.send({ kind: Kind.STORE, tag: 3, body: Uint8Array.of(1) });
    play.local();
    expect(p.answers.map(({ tag, body }) => [tag, body.length])).toEqual([[3, 0]]);
    play.cluster.settle();
    expect(play.state()).toBe(play.state(node));
  });

  test("a publication has one part: half of one could not be taken back", () => {
    const play = new Play(2);
    const node = play.node("a");
    const [p, q] = play.start(node) as [Talker, Talker];
    p.send(publication([[0, 8]], { op: 1, tag: 1 }));
    play.cluster.settle();
    expect(p.failure).toStartWith(`${Status.PROTOCOL} publish`);
    expect(node.memory[0]).toBe(0);
    q.send({ kind: Kind.STORE, tag: 1, body: Uint8Array.of(1) });
    play.cluster.settle();
    expect(q.heard()).toEqual(["1 0"]);
    expect(play.state()).toBe(play.state(node));
  });
});

describe("what was asked for before direct mode began", () => {
  /** A session of one whose start its node knows, while an extra join of that node is still at the server. */
  function overlapping(): { play: Play; node: Node; p: Talker; q: Talker; rest: () => void } {
    const play = new Play(1);
    const node = play.node("a");
    const p = new Talker(node, "p");
    const q = new Talker(node, "q");
    const held = new Set(["a down"]);
    play.cluster.settle((pipe) => held.has(pipe.name));
    expect(play.entry).toBe(2);
    const down = play.cluster.pipes.find((pipe) => pipe.name === "a down");
    down?.deliver(HEADER_SIZE + 8);
    play.local();
    expect([p.direct, node.replica?.session.seq, q.heard()]).toEqual([1, 1, []]);
    p.heard();
    return { play, node, p, q, rest: () => play.cluster.settle() };
  }

  test("comes first: until then the server gives the places", () => {
    const { play, node, p, q, rest } = overlapping();
    p.send({ kind: Kind.ALLOC, tag: 1, offset: 64, aux: 8 });
    p.send({ kind: Kind.ALLOC, tag: 2, offset: 64, aux: 8 });
    play.local();
    expect(p.heard()).toEqual([]);
    rest();
    expect(q.heard()).toEqual([`0 ${Status.FULL}`]);
    expect(p.answers.map(({ seq, value }) => [seq, value])).toEqual([
      [3, 0],
      [4, 64],
    ]);
    p.heard();
    p.send({ kind: Kind.FREE, tag: 3, offset: 0 });
    play.local();
    expect(p.heard()).toEqual(["3 0"]);
    rest();
    expect(play.state()).toBe(play.state(node));
    expect(node.fault).toBeNull();
  });

  test("does not make the server compare what only the node has", () => {
    for (const value of [0, 9]) {
      const { play, node, p, rest } = overlapping();
      node.memory[64] = 9;
      p.send(sleep(1, 64, value));
      // Too late to matter for a sleep that has begun.
      play.local();
      node.memory[64] = value + 1;
      rest();
      expect(p.heard()).toEqual(value === 9 ? [] : [`1 ${Status.AGAIN}`]);
      expect(play.state()).toBe(play.state(node));
      p.send(wake(2, 64));
      rest();
      expect(p.heard()).toEqual(value === 9 ? ["1 0", "2 0"] : ["2 0"]);
      expect(play.state()).toBe(play.state(node));
    }
  });

  test("may end before its answer", () => {
    const { play, node, p, q, rest } = overlapping();
    q.channel.up.end();
    p.send({ kind: Kind.LEAVE, tag: 1 });
    play.local();
    expect(p.heard()).toEqual([]);
    rest();
    expect(p.heard()).toEqual(["1 0"]);
    expect([node.done, play.ended]).toEqual([true, true]);
    expect(play.state()).toBe(play.state(node));
  });
});

describe("another node, while a session is direct,", () => {
  test.each(["before", "after"])("that came %s the start: one process too many is refused at once", (when) => {
    const play = new Play(2);
    const a = play.node("a");
    const early = when === "before" ? play.node("b") : null;
    const [p, q] = play.start(a) as [Talker, Talker];
    const b = early ?? play.node("b");
    const extra = new Talker(b, "extra");
    play.local();
    expect(extra.heard()).toEqual([]);
    expect(b.replica?.session.seq).toBe(play.entry);
    play.cluster.settle();
    expect(extra.failure).toStartWith(`${Status.FULL} the session has all its processes already`);
    expect([extra.closed, b.lost, play.cluster.sequencer.status().nodes]).toEqual([true, true, ["a"]]);
    // Those who are in it notice nothing.
    p.send({ kind: Kind.BARRIER, tag: 1 });
    q.send({ kind: Kind.BARRIER, tag: 1 });
    play.cluster.settle();
    expect([p.heard(), q.heard()]).toEqual([["1 0"], ["1 0"]]);
    expect(play.state()).toBe(play.state(a));
  });

  test.each(["before", "after"])("that came %s the start waits once a process has left, and follows", (when) => {
    const play = new Play(2);
    const a = play.node("a");
    const early = when === "before" ? play.node("b") : null;
    const [p, q] = play.start(a) as [Talker, Talker];
    p.send({ kind: Kind.LEAVE, tag: 1 });
    play.cluster.settle();
    const b = early ?? play.node("b");
    const next = [new Talker(b, "next"), new Talker(b, "and next")];
    play.cluster.settle();
    const { entry } = play;
    for (let tag = 1; tag <= 3; tag += 1) q.send({ kind: Kind.ALLOC, tag, offset: 64, aux: 8 });
    next[1]?.channel.up.end();
    play.cluster.settle();
    expect(play.entry).toBe(entry + 3);
    expect(next.map(({ answers, failure }) => [answers, failure])).toEqual([
      [[], null],
      [[], null],
    ]);
    for (const node of [a, b]) expect(play.state(node)).toBe(play.state());
    q.send({ kind: Kind.LEAVE, tag: 9 });
    play.cluster.settle();
    expect(next[0]?.heard()).toEqual([`0 ${Status.ENDED}`]);
    expect([a.fault, b.fault, a.done, b.done]).toEqual([null, null, true, true]);
    for (const node of [a, b]) expect(play.state(node)).toBe(play.state());
  });

  test("without a process there follows to the end, also when that is a loss", () => {
    const play = new Play(1);
    const [p] = play.start(play.node("a")) as [Talker];
    const b = play.node("b");
    const heard: string[] = [];
    b.onEvent = (event) => heard.push(event);
    p.channel.up.end();
    play.cluster.settle();
    expect([play.ended, b.replica?.session.phase]).toEqual([true, "ended"]);
    expect(heard).toEqual(["done"]);
    expect(play.cluster.sequencer.session.report()).toMatchObject([{ rank: 0, state: "lost" }]);
  });

  test("cannot act for the node that decides", () => {
    const play = new Play(2);
    const a = play.node("a");
    const b = play.node("b");
    const [p] = play.start(a) as [Talker];
    for (const frame of [
      { kind: Kind.BARRIER, node: a.number, rank: 0 },
      { kind: Kind.LEAVE, op: 1, node: b.number, rank: 0 },
      { kind: Kind.STORE, node: b.number, rank: 0, body: Uint8Array.of(1) },
    ]) {
      const other = frame.node === a.number ? b : play.node(`b${frame.kind}`);
      other.up.push(encode({ ...frame, node: frame.node === a.number ? a.number : other.number }));
      play.cluster.settle();
      expect([play.entry, other.lost]).toEqual([2, true]);
    }
    p.send(wake(1, 0));
    play.cluster.settle();
    expect(p.heard()).toEqual(["1 0"]);
    expect(play.state()).toBe(play.state(a));
  });
});

describe("the end of direct mode", () => {
  test("an extra process of the same node is refused, or waits for the end", () => {
    const play = new Play(2);
    const node = play.node("a");
    const [p, q] = play.start(node) as [Talker, Talker];
    const extra = new Talker(node, "extra");
    play.local();
    expect(extra.heard()).toEqual([`0 ${Status.FULL}`]);
    p.send({ kind: Kind.LEAVE, tag: 1 });
    const next = new Talker(node, "next");
    const gone = new Talker(node, "gone");
    play.local();
    gone.channel.up.end();
    play.local();
    expect([p.heard(), next.heard(), node.done]).toEqual([["1 0"], [], false]);
    q.send({ kind: Kind.LEAVE, tag: 1 });
    play.local();
    expect([q.heard(), next.heard(), gone.heard(), node.done]).toEqual([["1 0"], [`0 ${Status.ENDED}`], [], true]);
    // Too late for this one.
    const late = new Talker(node, "late");
    play.local();
    expect(late.failure).toBe(`${Status.ENDED} the session has ended`);
    play.cluster.settle();
    expect(play.ended).toBe(true);
    expect(play.state()).toBe(play.state(node));
  });

  test("a loss is reported to waiting processes at once", () => {
    const play = new Play(4);
    const node = play.node("a");
    const [p, q, r, s] = play.start(node) as [Talker, Talker, Talker, Talker];
    p.send({ kind: Kind.BARRIER, tag: 1 });
    q.send(semaphore(Kind.SEM_WAIT, 1));
    r.send(sleep(1, 0, 0));
    play.local();
    s.channel.up.end();
    play.local();
    expect([p, q, r].map((talker) => talker.heard())).toEqual(Array(3).fill([`1 ${Status.LOST}`]));
    r.send(sleep(2, 0, 0));
    p.send({ kind: Kind.ALLOC, tag: 2, offset: 8, aux: 8 });
    play.local();
    expect([r.heard(), p.heard()]).toEqual([[`2 ${Status.LOST}`], ["2 0"]]);
    for (const talker of [p, q, r]) talker.channel.up.end();
    play.local();
    expect(node.done).toBe(true);
    play.cluster.settle();
    expect(play.ended).toBe(true);
    expect(play.state()).toBe(play.state(node));
  });

  test("a process that dies while many of its requests wait leaves none behind", () => {
    const play = new Play(2);
    const node = play.node("a");
    const [p, q] = play.start(node) as [Talker, Talker];
    for (let tag = 1; tag <= 50; tag += 1) p.send(tag % 2 === 0 ? sleep(tag, tag, 0) : semaphore(Kind.SEM_WAIT, tag));
    p.channel.up.end();
    play.local();
    expect(node.replica?.session.state()).toMatchObject({ sleepers: [], semaphores: [{ waiters: [] }] });
    // Its channel's number is free again.
    const extra = new Talker(node, "extra");
    expect(extra.channel.index).toBe(p.channel.index);
    // But only once.
    expect(new Talker(node, "another").channel.index).toBe(2);
    q.send(wake(1, 2, 9));
    play.cluster.settle();
    expect(q.answers.map(({ value }) => value)).toEqual([0]);
    expect(play.state()).toBe(play.state(node));
  });

  test("when the node dies the server ends the session, however far it followed", () => {
    for (const lose of [0, 40, 100, 10_000]) {
      const play = new Play(2);
      const node = play.node("a");
      const other = play.node("b");
      const [p, q] = play.start(node) as [Talker, Talker];
      for (let tag = 1; tag <= 5; tag += 1) p.send(wake(tag, 0));
      q.send({ kind: Kind.LEAVE, tag: 6 });
      play.local();
      node.lose(lose);
      play.cluster.settle();
      expect(play.ended).toBe(true);
      expect(play.cluster.sequencer.session.report().map(({ state }) => state)).toEqual([
        "lost",
        lose === 0 ? "left" : "lost",
      ]);
      expect(play.state(other)).toBe(play.state());
    }
  });
});

describe("page marks", () => {
  const add = (tag: number, offset: number, length: number): Frame => ({
    kind: Kind.ATOMIC,
    op: AtomicOp.ADD,
    tag,
    offset,
    length,
    body: new Uint8Array(32),
  });

  test("are set on every node for every page an atomic operation touched, before it is answered, and for nothing else", () => {
    const play = new Play(2, {}, { size: 8 * PAGE });
    const nodes = [play.node("a"), play.node("b")] as [Node, Node];
    const talkers = nodes.map((node) => new Talker(node, `on ${node.name}`));
    play.cluster.settle();
    const p = talkers[0] as Talker;
    const marks = () => nodes.map(({ atomics }) => [...atomics].join(""));
    p.heard();
    expect(p.direct).toBe(0);
    p.send({ kind: Kind.STORE, tag: 1, offset: PAGE, body: new Uint8Array(PAGE) });
    p.send(publication([[2 * PAGE, 8]], { tag: 2 }));
    p.send({ kind: Kind.ALLOC, tag: 3, offset: 8 * PAGE, aux: 1 });
    p.send(sleep(4, 3 * PAGE, 1));
    play.cluster.settle();
    expect(p.heard()).toEqual(["1 0", "2 0", "3 0", `4 ${Status.AGAIN}`]);
    expect(marks()).toEqual(["00000000", "00000000"]);
    p.send(add(5, 3 * PAGE + 8, 8));
    // No process gets an answer before the entry arrives.
    play.cluster.settle((pipe) => pipe.name.endsWith(" down") && pipe.name.startsWith("a"));
    expect([p.heard(), marks()]).toEqual([[], ["00000000", "00010000"]]);
    play.cluster.settle();
    expect([p.heard(), marks()]).toEqual([["5 0"], ["00010000", "00010000"]]);
    p.send(add(6, 6 * PAGE - 1, 2));
    p.send(add(7, 8 * PAGE - 1, 1));
    p.send(add(8, 0, 16));
    play.cluster.settle();
    expect(marks()).toEqual(["10010111", "10010111"]);
  });
});

test("a node that comes late is welcomed with all that a session may hold", () => {
  const play = new Play(2, {}, { size: 256 * PAGE });
  const node = play.node("a");
  const [p] = play.start(node) as [Talker];
  // A frame is too small for what the session holds then.
  for (let block = 0; block < 8000; block += 1) {
    const body = encodeText(`${'"'.repeat(58)}${block}`);
    p.send({ kind: Kind.NAMED, tag: block, offset: 8, aux: 8, body });
  }
  play.cluster.settle();
  expect(p.heard().length).toBe(8000);
  const size = play.state().length;
  expect(size).toBeGreaterThan(FRAME_MAX);
  const late = play.node("late");
  expect(late.refusal).toBeNull();
  expect(play.state(late)).toBe(play.state());
  // As it would be with every block, every sleeper, and the longest names.
  const largest = JSON.stringify({ offset: 2 ** 32, size: 2 ** 32, name: '"'.repeat(63) }).length + 1;
  const sleeping = { offset: 2 ** 32, waiters: [{ node: 2 ** 32, tag: 2 ** 32, rank: 1023 }] };
  expect(65536 * (largest + JSON.stringify(sleeping).length + 1)).toBeLessThan(WELCOME_MAX - (4 << 20));
});
