/** Leases: when this node gives a lock to its processes, when it returns it, and until when they may take it. */
import { expect, test } from "bun:test";
import { LEASE_ASK_INTERVAL_MS, LEASE_OPEN_MS } from "../../src/core/base/limits.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { Leases, type LeaseTime } from "../../src/core/replica/cells/leases.ts";
import { LockCells } from "../../src/core/replica/cells/lock-cells.ts";
import { type NodeProcess, ProcessTable } from "../../src/core/replica/processes.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { At, PingAt, ReturnAt } from "../../src/core/wire/at.ts";
import {
  CELL_ARBITER,
  CELL_FREE,
  CELL_OWNED,
  CELLS_SIZE,
  LOCK_CELLS_AT,
  NAMED_CELLS_MAX,
  OPEN_UNTIL_AT,
} from "../../src/core/wire/cell-layout.ts";
import { encode, encodeText, type Frame } from "../../src/core/wire/frame.ts";
import { Kind, PingOp } from "../../src/core/wire/kinds.ts";
import { viewOf } from "../support/core-frames.ts";

const NODE = 3;
/** By how much the real time is ahead of the other clock. */
const REAL_MS = 1.7e12;

const at = (monotonic_ms: number): LeaseTime => ({ monotonic_ms, real_ms: REAL_MS + monotonic_ms });

/** The leases of a node with two processes, of ranks 0 and 1. The first lock that is asked for has the first cell. */
class Arbiter {
  readonly memory = new Uint8Array(CELLS_SIZE);
  readonly words = new Int32Array(this.memory.buffer);
  readonly locks = new LockCells(this.memory, () => {});
  readonly processes = new ProcessTable();
  readonly leases: Leases;
  /** What was done, in order. */
  readonly said: string[] = [];
  sent: DataView = new DataView(new ArrayBuffer(0));
  tag = 0;

  constructor() {
    const config = { name: "s", instance: "i", processes: 2, size: 4096, base: 0x2000_0000_0000 };
    const session = new Session(
      { ...config, order: "sequential", onLoss: "continue", elastic: false },
      new MapBytes(new Uint8Array(4096)),
      NO_EFFECTS,
    );
    session.node = NODE;
    for (const pid of [1, 2]) {
      const join: Frame = { kind: Kind.JOIN, op: 1, node: NODE, tag: pid, offset: pid, body: encodeText("n") };
      session.apply(viewOf(encode(join)), 0);
      const process = this.processes.add(pid, pid, new Uint8Array(8), true);
      process.state = "running";
      this.processes.setRank(process, pid - 1);
    }
    this.leases = new Leases(this.memory, this.locks, {
      session,
      processes: this.processes,
      drainQueue: () => this.said.push(`drain, word ${this.word}`),
      propose: (view) => {
        const owner = view.getUint8(ReturnAt.isOwned) === 1 ? view.getUint16(At.rank, true) : -1;
        const wasAsked = view.getUint32(ReturnAt.wasAsked, true) === 1;
        this.said.push(`return, owner ${owner}${wasAsked ? ", asked for" : ""}`);
      },
      send: (frame) => {
        this.sent = viewOf(frame.slice());
        this.said.push(`ask ${this.sent.getUint8(PingAt.op)}`);
      },
    });
  }

  /** The word of the first cell. */
  get word(): number {
    return this.words[LOCK_CELLS_AT / 4] as number;
  }

  set word(value: number) {
    this.words[LOCK_CELLS_AT / 4] = value;
  }

  /** By both clocks. */
  get openUntil_ms(): number[] {
    return [...new BigInt64Array(this.memory.buffer, OPEN_UNTIL_AT, 2)].map(Number);
  }

  /** A process asks, and what was done until then. */
  before(frame: Frame): string[] {
    this.tag += 1;
    this.leases.beforeProposal(frame.kind, viewOf(encode({ ...frame, node: NODE, tag: this.tag })));
    return this.said.splice(0);
  }

  /** The lock a is leased to the node, after a process had it. */
  lease(): void {
    this.before({ kind: Kind.LOCK, body: encodeText("a") });
    this.leases.answered(this.tag);
    this.leases.onLease("a");
    this.leases.settle();
  }
}

const lock = (name: string): Frame => ({ kind: Kind.LOCK, body: encodeText(name) });
const unlock = (name: string): Frame => ({ kind: Kind.UNLOCK, body: encodeText(name) });
const leave = (rank: number, op = 0): Frame => ({ kind: Kind.LEAVE, rank, op });

test("the answer to a LOCK tells the cell, once", () => {
  const { leases, ...arbiter } = new Arbiter();
  leases.beforeProposal(Kind.LOCK, viewOf(encode({ ...lock("a"), tag: 5 })));
  expect([leases.answered(5), leases.answered(5), leases.answered(6)]).toEqual([1, 0, 0]);
  expect(arbiter.said).toEqual([]);
});

test("a leased lock is free for the processes until it is recalled, and is returned once", () => {
  const arbiter = new Arbiter();
  arbiter.lease();
  expect(arbiter.word).toBe(CELL_FREE);
  arbiter.leases.onRecall("a");
  arbiter.leases.onRecall("a");
  expect(arbiter.word).toBe(CELL_FREE);
  arbiter.leases.settle();
  arbiter.leases.onRecall("a");
  arbiter.leases.settle();
  expect(arbiter.word).toBe(CELL_ARBITER);
  expect(arbiter.said.splice(0)).toEqual([`drain, word ${CELL_ARBITER}`, "return, owner -1"]);
  expect(arbiter.before(lock("a"))).toEqual([]);
});

test("it is returned before a request for it, with its owner, and behind what the owner has queued", () => {
  for (const request of [lock("a"), unlock("a")]) {
    const arbiter = new Arbiter();
    arbiter.lease();
    arbiter.word = CELL_OWNED + 1;
    expect(arbiter.before(lock("b"))).toEqual([]);
    // A store that is queued before the unlock by the cell is taken from the queue after the cell is.
    expect(arbiter.before(request)).toEqual([`drain, word ${CELL_ARBITER}`, "return, owner 1"]);
  }
});

test("a process that leaves returns what it has; the last one, and one that is lost, all", () => {
  const returned = [`drain, word ${CELL_ARBITER}`, "return, owner 1"];
  const first = new Arbiter();
  first.lease();
  first.word = CELL_OWNED + 1;
  expect(first.before(leave(0))).toEqual([]);
  expect(first.before(leave(1))).toEqual(returned);

  const last = new Arbiter();
  last.lease();
  for (const process of last.processes.all()) process.state = "leaving";
  expect(last.before(leave(0))).toEqual([`drain, word ${CELL_ARBITER}`, "return, owner -1"]);
  // An UNLOCK was under way.
  last.lease();
  expect([last.word, last.said.length]).toEqual([CELL_ARBITER, 2]);

  const lost = new Arbiter();
  lost.lease();
  lost.word = CELL_OWNED + 1;
  (lost.processes.get(0) as NodeProcess).isDead = true;
  expect(lost.before(leave(0, 1))).toEqual(returned);
  // It may run on, and has the cells: no lock is given to the processes of this node any more.
  lost.lease();
  expect([lost.word, lost.said.length]).toEqual([CELL_ARBITER, 2]);
});

test("a lock that has no cell is returned at once", () => {
  const arbiter = new Arbiter();
  for (let n = 0; n < NAMED_CELLS_MAX; n += 1) arbiter.locks.assign(`lock ${n}`);
  arbiter.lease();
  expect(arbiter.said.at(-1)).toBe("return, owner -1");
});

test("all leases are returned when the server asks for that, and taken away when the node gives up its place", () => {
  const arbiter = new Arbiter();
  arbiter.lease();
  arbiter.leases.recallAll();
  arbiter.leases.onRecall("a");
  arbiter.leases.settle();
  expect(arbiter.said.splice(0)).toEqual([`drain, word ${CELL_ARBITER}`, "return, owner -1, asked for"]);
  arbiter.lease();
  arbiter.leases.renew(at(1000), 0);
  arbiter.leases.onRenewed(1000);
  arbiter.said.length = 0;
  arbiter.leases.retire();
  expect([arbiter.word, ...arbiter.openUntil_ms, arbiter.said.length]).toEqual([CELL_ARBITER, 0, 0, 0]);
});

test("a lease is open from an answer of the server on, for a time that counts from the question", () => {
  const arbiter = new Arbiter();
  const { leases } = arbiter;
  expect([leases.mustRenew, ...arbiter.openUntil_ms]).toEqual([false, 0, 0]);
  arbiter.before(lock("a"));
  expect(leases.mustRenew).toBe(true);
  // Milliseconds of a host that has been up for years: a frame carries 32 bits of them.
  const now_ms = 2 ** 40 + 7;
  leases.renew(at(now_ms), 12);
  expect(leases.mustRenew).toBe(false);
  expect(arbiter.said).toEqual([`ask ${PingOp.RENEW}`]);
  expect([arbiter.sent.getUint32(PingAt.askedAt, true), arbiter.sent.getUint32(PingAt.appliedThrough, true)]).toEqual([
    7, 12,
  ]);
  arbiter.lease();
  expect(leases.mustRenew).toBe(true);
  leases.onRenewed(8);
  expect(arbiter.openUntil_ms).toEqual([0, 0]);
  leases.onRenewed(7);
  leases.onRenewed(7);
  expect(arbiter.openUntil_ms).toEqual([now_ms + LEASE_OPEN_MS, REAL_MS + now_ms + LEASE_OPEN_MS]);
});

test("it asks again at intervals, not while an answer is under way, and at once on a new connection", () => {
  const arbiter = new Arbiter();
  const { leases } = arbiter;
  const asked = (at_ms: number): number => {
    leases.renew(at(at_ms), 0);
    return arbiter.said.splice(0).length;
  };
  arbiter.lease();
  expect([asked(1000), asked(1001), asked(1000 + LEASE_ASK_INTERVAL_MS)]).toEqual([1, 0, 0]);
  leases.onRenewed(1000);
  expect([asked(1001), asked(1000 + LEASE_ASK_INTERVAL_MS)]).toEqual([0, 1]);
  // The answer takes longer than the lease would: the question is asked anew.
  expect(asked(1000 + LEASE_ASK_INTERVAL_MS + LEASE_OPEN_MS)).toBe(1);
  leases.reconnected();
  leases.onRenewed(1000 + LEASE_ASK_INTERVAL_MS + LEASE_OPEN_MS);
  expect(arbiter.openUntil_ms[0]).toBe(1000 + LEASE_OPEN_MS);
  expect(asked(5000)).toBe(1);
  // What is asked while there is no connection is never answered.
  expect(asked(5001)).toBe(0);
  leases.reconnected();
  expect(asked(5002)).toBe(1);
});
