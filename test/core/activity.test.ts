/** What the server notes of the order, with a clock that the test sets. */
import { beforeEach, describe, expect, test } from "bun:test";
import { FRAME_MAX, HEAT_CELLS_MAX, SHOWN_MAX } from "../../src/core/base/limits.ts";
import type { Heat, RankStatus } from "../../src/core/messages/daemon-api.ts";
import type { NodeState } from "../../src/core/messages/node-state.ts";
import type { StatusReport } from "../../src/core/messages/status-report.ts";
import { readRecords } from "../../src/core/observe/trace.ts";
import { Recovery } from "../../src/core/sequencer/recovery.ts";
import { Sequencer } from "../../src/core/sequencer/sequencer.ts";
import { HEADER_SIZE, StateAt } from "../../src/core/wire/at.ts";
import { bodyText, encode, encodeJson, encodeText, type Frame } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { AtomicOp, Kind, PingOp, StateOp, StatusOp } from "../../src/core/wire/kinds.ts";
import { type Channel, Cluster, type Node, processHello } from "../support/core-cluster.ts";
import { publication, viewOf } from "../support/core-frames.ts";

const SIZE = 1 << 20;
const CELL = SIZE / HEAT_CELLS_MAX;
/** How far the clock of the nodes is behind that of the server. */
const BEHIND_MS = 900;

let cluster: Cluster;
let nodes: Node[];
let processes: Process[];

class Process {
  readonly #channel: Channel;
  #tag = 0;

  constructor(node: Node, pid: number) {
    this.#channel = node.connect(
      `p${pid}`,
      () => {},
      () => {},
    );
    this.#channel.up.push(processHello("s", pid));
  }

  /** Sends a request; its tag. */
  ask(frame: Frame): number {
    this.#tag += 1;
    this.#channel.up.push(encode({ tag: this.#tag, ...frame }));
    cluster.settle();
    return this.#tag;
  }

  store(offset: number, length: number): void {
    this.ask({ kind: Kind.STORE, offset, body: new Uint8Array(length).fill(1), length });
  }

  die(): void {
    this.#channel.up.end();
    cluster.settle();
  }
}

const named = (kind: Kind, name: string, fields: Partial<Frame> = {}): Frame => ({
  kind,
  body: encodeText(name),
  ...fields,
});
const at = (now_ms: number): void => {
  cluster.sequencer.clock = now_ms;
};
const status = (): StatusReport => cluster.sequencer.status(true);
const rank = (number: number): RankStatus => status().ranks[number] as RankStatus;

function begin(count: number, size: number, nodeCount = 2): void {
  cluster = new Cluster({
    ...{ name: "s", instance: "1", processes: count, size, base: 2 ** 45, order: "sequential" as const },
    onLoss: "continue" as const,
  });
  at(1000);
  cluster.now_ms = 1000 - BEHIND_MS;
  nodes = Array.from({ length: nodeCount }, (_, index) => cluster.node(`n${index}`));
  cluster.settle();
  processes = Array.from({ length: count }, (_, pid) => new Process(nodes[pid % nodeCount] as Node, 100 + pid));
  cluster.settle();
}

beforeEach(() => begin(2, SIZE));

const process = (number: number): Process => processes[number] as Process;

describe("counts", () => {
  test("entries, bytes and the time of the last write, by rank", () => {
    expect(rank(0)).toMatchObject({ entries: 1, bytes: 0, lastWriteMs: null });
    at(2000);
    process(0).store(0, 8);
    process(0).store(8, 4);
    at(2500);
    process(1).ask({ kind: Kind.ATOMIC, op: AtomicOp.ADD, offset: 64, length: 8, body: new Uint8Array(32) });
    at(3000);
    process(1).ask(named(Kind.SEM_POST, "x", { offset: 1 }));
    expect(rank(0)).toMatchObject({ entries: 3, bytes: 12, lastWriteMs: 1000 });
    expect(rank(1)).toMatchObject({ entries: 3, bytes: 8, lastWriteMs: 500 });
    const { entries, bytes, ranks, time_ms, started_ms, logBytes } = status();
    expect([entries, bytes]).toEqual([6, 20]);
    expect(ranks.reduce((sum, { entries }) => sum + entries, 0)).toBe(entries);
    expect([time_ms, started_ms]).toEqual([3000, 2000]);
    // No node acknowledges here, so the server holds all: six frames of 40 bytes and their bodies.
    expect(logBytes).toBe(6 * 40 + 8 + 8 + 8 + 8 + 32 + 8);
  });

  test("a publication is one entry, however many parts", () => {
    const part = (from: number): Uint8Array => {
      const frame = publication([[from, 4000]]);
      return encode(frame).subarray(40);
    };
    const tag = process(0).ask({ kind: Kind.PUBLISH, op: 1, body: part(0) });
    process(0).ask({ kind: Kind.PUBLISH, op: 1, body: part(8192), tag });
    expect(rank(0)).toMatchObject({ entries: 1, bytes: 0 });
    at(1700);
    process(0).ask({ kind: Kind.PUBLISH, op: 0, body: part(16384), tag });
    expect(rank(0)).toMatchObject({ entries: 2, bytes: 12000, lastWriteMs: 0 });
    const { writes } = status().heat as Heat;
    expect(writes.reduce((sum, count) => sum + count, 0)).toBe(3 * Math.ceil(4000 / CELL));
  });

  test("a publication has written even if its last part brings nothing more", () => {
    at(1700);
    const tag = process(0).ask({ kind: Kind.PUBLISH, op: 1, body: encode(publication([[0, 4000]])).subarray(40) });
    process(0).ask({ kind: Kind.PUBLISH, op: 0, body: new Uint8Array(0), tag });
    expect(rank(0)).toMatchObject({ entries: 2, bytes: 4000, lastWriteMs: 0 });
  });

  test("in direct mode no store is seen, and what is asked of the session is", () => {
    begin(1, SIZE, 1);
    expect(status().direct).toBe(true);
    process(0).ask({ kind: Kind.BARRIER });
    expect(status().barriers).toBe(1);
    expect(rank(0)).toMatchObject({ entries: 2, bytes: 0, lastWriteMs: null, state: "running" });
  });
});

describe("states", () => {
  test("have a time since when they are", () => {
    expect(rank(1)).toMatchObject({ state: "running", stateMs: 0 });
    at(4000);
    process(0).ask({ kind: Kind.BARRIER });
    at(4500);
    expect(rank(0)).toMatchObject({ state: "barrier", stateMs: 500 });
    expect(rank(1)).toMatchObject({ state: "running", stateMs: 3500 });
    process(1).ask({ kind: Kind.BARRIER });
    at(4600);
    expect(rank(0)).toMatchObject({ state: "running", stateMs: 100 });
    expect(status().barriers).toBe(1);

    process(0).ask(named(Kind.SEM_WAIT, "gate"));
    process(1).ask(named(Kind.LOCK, "queue"));
    at(4700);
    expect(rank(0)).toMatchObject({ state: "semaphore", on: "gate", stateMs: 100 });
    // It has never waited: it came to the barrier last, and the lock was free.
    expect(rank(1)).toMatchObject({ state: "running", stateMs: 3700, holds: ["queue"] });
    process(1).ask(named(Kind.SEM_POST, "gate", { offset: 1 }));
    process(0).ask(named(Kind.LOCK, "queue"));
    at(4800);
    expect(rank(0)).toMatchObject({ state: "lock", on: "queue", stateMs: 100 });
    process(1).ask(named(Kind.UNLOCK, "queue"));
    expect(rank(0)).toMatchObject({ state: "running", stateMs: 0 });
    process(1).ask({ kind: Kind.FUTEX_WAIT, offset: 0x40, length: 4, body: new Uint8Array(8) });
    at(5000);
    expect(rank(1)).toMatchObject({ state: "sleeping", on: "0x40", stateMs: 200 });
    expect(status().semaphores).toEqual([{ name: "gate", value: 0, waiters: [] }]);
    expect(status().locks).toEqual([{ name: "queue", owner: 0, waiters: [] }]);
  });

  test("a withdrawn wait is not shown; of several waiting threads one is shown", () => {
    const first = process(0).ask(named(Kind.SEM_WAIT, "gate"));
    at(2000);
    process(0).ask(named(Kind.SEM_WAIT, "gate"));
    at(3000);
    expect(rank(0)).toMatchObject({ state: "semaphore", stateMs: 2000 });
    expect(status().semaphores[0]?.waiters).toEqual([0]);
    process(0).ask({ kind: Kind.SEM_CANCEL, tag: first });
    expect(rank(0)).toMatchObject({ state: "semaphore", stateMs: 1000 });
    process(0).ask({ kind: Kind.SEM_CANCEL, tag: first + 1 });
    expect(rank(0)).toMatchObject({ state: "running", stateMs: 0 });
  });

  test("of processes that have left", () => {
    process(0).ask(named(Kind.SEM_WAIT, "gate"));
    at(5000);
    process(0).die();
    at(6000);
    expect(rank(0)).toMatchObject({ state: "lost", stateMs: 1000 });
  });
});

describe("heat", () => {
  test("reports the last writer, and the number of writes", () => {
    process(0).store(0, 8);
    process(0).store(CELL - 4, 8);
    process(1).store(CELL * 5, 1);
    process(1).store(SIZE - 1, 1);
    const { cell, writers, writes } = status().heat as Heat;
    expect([cell, writers.length, writes.length]).toEqual([CELL, HEAT_CELLS_MAX, HEAT_CELLS_MAX]);
    expect(writes.slice(0, 6)).toEqual([2, 1, 0, 0, 0, 1]);
    expect(writers.slice(0, 6)).toEqual([0, 0, -1, -1, -1, 1]);
    expect([writers.at(-1), writes.at(-1)]).toEqual([1, 1]);
    process(1).store(0, 8);
    expect((status().heat as Heat).writers[0]).toBe(1);
    expect(cluster.sequencer.status().heat).toBeUndefined();
  });

  test("of a publication: once for each cell, by masked runs too", () => {
    process(0).ask(
      publication([
        [8, 8],
        [32, 8],
        [CELL - 8, 2 * CELL],
        [CELL * 3 - 8, 8],
        [CELL * 4, Uint8Array.of(1, 2), Uint8Array.of(1, 0, 0x80)],
      ]),
    );
    expect((status().heat as Heat).writes.slice(0, 5)).toEqual([1, 1, 1, 0, 1]);
  });

  test("a small map has cells of 64 bytes, a large one at most 4096", () => {
    begin(1, 8192);
    expect((status().heat as Heat).writers).toHaveLength(128);
    begin(1, 4096 * 4097);
    const { cell, writers } = status().heat as Heat;
    expect([cell, writers.length]).toEqual([8192, 2049]);
  });
});

test("at most so many semaphores and blocks are shown, those waited for among them", () => {
  for (let i = 0; i <= SHOWN_MAX; i += 1) process(0).ask(named(Kind.SEM_POST, `s${i}`, { offset: 1 }));
  for (let i = 0; i < SHOWN_MAX + 2; i += 1) process(0).ask(named(Kind.NAMED, `b${i}`, { offset: 8, aux: 8 }));
  process(1).ask(named(Kind.SEM_WAIT, "last"));
  const { semaphores, semaphoresLeftOut, blocks, blocksLeftOut } = status();
  expect([semaphores.length, semaphoresLeftOut, blocks.length, blocksLeftOut]).toEqual([SHOWN_MAX, 2, SHOWN_MAX, 2]);
  expect(semaphores[0]).toEqual({ name: "last", value: 0, waiters: [1] });
  expect(blocks[1]).toEqual({ name: "b1", offset: 8, size: 8 });
  expect(JSON.stringify(status()).length).toBeLessThan(FRAME_MAX);
});

describe("a round trip", () => {
  const answers: Uint8Array[] = [];
  const stranger = () => {
    answers.length = 0;
    return cluster.link(
      "stranger",
      (chunk) => answers.push(new Uint8Array(chunk)),
      () => {},
    );
  };
  const ask = (op: number): void => {
    stranger().push(encodeHandshake(Kind.STATUS, new Uint8Array(0), { op }));
    cluster.settle();
  };

  test("is measured on request, once at a time", () => {
    const up = (nodes[0] as Node).up;
    const answer = encode({ kind: Kind.PING, op: PingOp.ANSWER, offset: 2 });
    ask(StatusOp.FACTS);
    expect(rank(0).roundTripUs).toBeNull();
    at(1000.25);
    ask(StatusOp.FACTS);
    at(1001.5);
    up.push(answer);
    cluster.settle();
    expect(rank(0).roundTripUs).toBe(1500);
    // There was no second request.
    at(1009);
    up.push(answer);
    cluster.settle();
    expect(rank(0).roundTripUs).toBe(1500);
    expect(rank(1).roundTripUs).toBeNull();
  });
});

describe("a server that takes over", () => {
  /** What it has sent. */
  const sent: Uint8Array[] = [];

  /** The successor of the cluster's server, whose clock is at `now_ms` when it gets the state of a node. */
  function successor(now_ms: number, edit: (state: NodeState) => NodeState = (state) => state): Sequencer {
    sent.length = 0;
    let next: Sequencer | undefined;
    const memory = new Uint8Array(cluster.config.size);
    const nothing = { close() {}, drop() {}, stop() {}, broadcast() {}, welcomed() {}, replaced() {}, ended() {} };
    const send = (link: number, bytes: Uint8Array): void => {
      sent.push(bytes);
      if (bytes[4] === Kind.STATE) asked = link;
    };
    let asked = -1;
    const known = { config: cluster.config, epoch: 2, predecessorIsDead: true };
    const recovery = new Recovery(
      known,
      memory,
      {
        ...{ ...nothing, send, waits() {}, failed: (why: string) => expect(why).toBe("") },
        recovered: (recovered) => {
          const out = { ...nothing, send, onDisconnected() {}, onReturnedOrEvicted() {} };
          next = new Sequencer(cluster.config, memory, out, { recovered, now_ms: now_ms + 40 });
        },
      },
      now_ms - 1000,
    );
    for (const [link, node] of nodes.entries()) {
      const hello = {
        ...{ session: "s", node: node.name, processes: 0, size: 0, order: "", secret: "x", reconnectMs: 1000 },
        resume: node.replica?.position,
      };
      recovery.connect(link);
      recovery.receive(link, encodeHandshake(Kind.HELLO, encodeJson(hello)));
    }
    recovery.clock = now_ms;
    for (const frame of nodes[asked]?.replica?.state() ?? []) {
      if (frame[5] !== StateOp.SESSION) {
        recovery.receive(asked, frame);
        continue;
      }
      const text = bodyText(frame, HEADER_SIZE, viewOf(frame).getUint32(StateAt.pieceLength, true));
      const body = encodeJson(edit(JSON.parse(text)));
      recovery.receive(asked, encode({ kind: Kind.STATE, op: StateOp.SESSION, body }));
    }
    return next as Sequencer;
  }

  /** Ages at these times are the same by the server's clock and by that of the nodes, which is far behind. */
  const both = (now_ms: number): void => {
    // What the server has put off reaches the nodes at the same time.
    cluster.sequencer.flush();
    cluster.settle();
    at(now_ms);
    cluster.now_ms = now_ms - BEHIND_MS;
  };

  function wait(): void {
    begin(3, SIZE, 3);
    both(2000);
    process(1).store(CELL * 5, 8);
    process(2).store(CELL * 6, 4);
    both(2500);
    process(2).ask(named(Kind.LOCK, "queue"));
    both(3000);
    process(0).ask({ kind: Kind.BARRIER });
    both(3100);
    process(1).ask(named(Kind.LOCK, "queue"));
    process(1).ask(named(Kind.SEM_WAIT, "gate"));
    both(3300);
    process(1).ask({ kind: Kind.FUTEX_WAIT, offset: 0x40, length: 4, body: new Uint8Array(8) });
    both(3600);
  }

  test("knows who wrote last and where, and since when ranks wait, as the one before did", () => {
    wait();
    const before = status();
    // The clock of the next server is another one. It got the state 40 ms ago.
    const next = successor(10_000_000);
    const { ranks, heat, started_ms, knownMs } = next.status(true);
    const later = (ms: number): number => ms + 40;
    const expected = before.ranks.map((one) => ({
      ...one,
      stateMs: later(one.stateMs),
      lastWriteMs: one.lastWriteMs === null ? null : later(one.lastWriteMs),
    }));
    expect(ranks).toEqual(expected);
    expect(ranks.map(({ state, stateMs, lastWriteMs }) => [state, stateMs, lastWriteMs])).toEqual([
      ["barrier", 640, null],
      ["semaphore", 540, 1640],
      ["running", 2640, 1640],
    ]);
    expect(heat).toEqual(before.heat as Heat);
    expect([started_ms, knownMs]).toEqual([later(before.started_ms), undefined]);
    // A trace of it begins with the waits that were there.
    next.clock = 10_000_100;
    next.connect(9);
    next.receive(9, encodeHandshake(Kind.TRACE, new Uint8Array(0)));
    next.sendTrace(true);
    const records = [...readRecords((sent.at(-1) as Uint8Array).subarray(HEADER_SIZE))];
    expect(records.map(({ rank, what, kind, time_ms }) => [rank, what, kind, 10_000_000 - time_ms])).toEqual([
      [0, "waits", Kind.BARRIER, 600],
      [1, "waits", Kind.SEM_WAIT, 500],
      [1, "waits", Kind.LOCK, 500],
      [1, "waits", Kind.FUTEX_WAIT, 300],
    ]);
  });

  test("from a node that has not counted, says how far back its knowledge goes", () => {
    wait();
    const next = successor(10_000_000, ({ activity: _, ...state }) => state);
    next.clock = 10_000_140;
    const { ranks, heat, started_ms, knownMs } = next.status(true);
    expect(ranks.map(({ stateMs, lastWriteMs }) => [stateMs, lastWriteMs])).toEqual(Array(3).fill([100, null]));
    expect(heat?.writers.every((rank) => rank === -1)).toBe(true);
    expect([started_ms, knownMs]).toEqual([100, 100]);
  });
});
