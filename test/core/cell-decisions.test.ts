/** CellDecisions: when the arbiter gives a lock that processes wait for back to its cell, and what they are told. */
import { beforeEach, describe, expect, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import { Replica } from "../../src/core/replica/replica.ts";
import { CELL_ARBITER, CELL_FREE, CELL_OWNED, LOCK_CELLS_AT } from "../../src/core/wire/cell-layout.ts";
import { encode, encodeText, getUint64 } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { type Channel, Cluster, type Node, processHello } from "../support/core-cluster.ts";
import { viewOf } from "../support/core-frames.ts";

/** The value of answers that tell of the first lock's cell. */
const FIRST_CELL = 1;

/** Three processes of one node, in direct mode. */
class Session {
  readonly cluster: Cluster;
  readonly node: Node;
  /** What the first cell said when each answer was given, since heard() was called last. */
  words: number[] = [];
  readonly #channels: Channel[] = [];
  readonly #heard: string[] = [];

  constructor() {
    const config = { name: "s", instance: "1", processes: 3, size: 4096, base: 2 ** 45 };
    this.cluster = new Cluster(
      { ...config, order: "sequential", onLoss: "continue" },
      {
        makeReplica: (welcome, out, options) => {
          const reply: typeof out.reply = (channel, bytes) => {
            this.words.push(this.word);
            out.reply(channel, bytes);
          };
          return new Replica(welcome, { ...out, reply }, options);
        },
      },
    );
    this.node = this.cluster.node("a");
    this.cluster.settle();
    for (let rank = 0; rank < 3; rank += 1) {
      const hear = (frame: Uint8Array): void => {
        const view = viewOf(frame);
        this.#heard.push(`${rank}: ${view.getUint8(5)}, ${getUint64(view, 24)}`);
      };
      this.#channels.push(this.node.connect(`p${rank}`, hear, () => {}));
      this.#channels[rank]?.up.push(processHello("s", 1, { rank }));
    }
    this.heard();
  }

  get word(): number {
    return this.node.cells.load(LOCK_CELLS_AT);
  }

  lock(rank: number, usesCell = 1): void {
    this.#send(rank, encode({ kind: Kind.LOCK, tag: 1, aux: usesCell, body: encodeText("m") }));
  }

  unlock(rank: number, { isShort = 1, keepsMark = 0 } = {}): void {
    this.#send(rank, encode({ kind: Kind.UNLOCK, op: keepsMark, tag: 1, aux: isShort, body: encodeText("m") }));
  }

  cancel(rank: number, op: number): void {
    this.#send(rank, encode({ kind: Kind.SEM_CANCEL, op, tag: 1 }));
  }

  die(rank: number): void {
    this.#channels[rank]?.up.end();
    this.cluster.settle();
  }

  #send(rank: number, frame: Uint8Array): void {
    this.#channels[rank]?.up.push(frame);
    this.cluster.settle();
  }

  /** "rank: status, value" of each answer since the last call. */
  heard(): string[] {
    this.cluster.settle();
    this.words = [];
    return this.#heard.splice(0).sort();
  }

  /** The session's own state of the lock, which the server must share. */
  get state(): { owner: number; waiters: number[] } | undefined {
    const [lock] = this.node.replica?.session.locks() ?? [];
    expect(this.cluster.sequencer.session.locks()).toEqual(lock === undefined ? [] : [lock]);
    return lock && { owner: lock.owner, waiters: lock.waiters };
  }
}

describe("a lock that others wait for", () => {
  let session: Session;
  beforeEach(() => {
    session = new Session();
    session.lock(0);
    expect(session.heard()).toEqual([`0: ${Status.OK}, ${FIRST_CELL}`]);
  });

  test("goes back to its cell when its owner had it for a short time", () => {
    session.lock(1);
    session.lock(2);
    expect(session.state).toEqual({ owner: 0, waiters: [1, 2] });
    session.unlock(0);
    expect(session.word).toBe(CELL_OWNED + 1);
    // None is told before the cell says so.
    expect(session.words).toEqual([CELL_OWNED + 1, CELL_OWNED + 1, CELL_OWNED + 1]);
    expect(session.heard()).toEqual([`0: ${Status.OK}, 0`, `1: ${Status.OK}, ${FIRST_CELL}`, `2: ${Status.AGAIN}, 0`]);
    expect(session.state).toEqual({ owner: -1, waiters: [] });
    // The one that was sent back asks again: the arbiter finds the owner by the cell.
    session.lock(2, 0);
    expect(session.word).toBe(CELL_ARBITER);
    expect(session.state).toEqual({ owner: 1, waiters: [2] });
    session.unlock(1);
    expect(session.heard()).toEqual([`1: ${Status.OK}, 0`, `2: ${Status.OK}, ${FIRST_CELL}`]);
  });

  test("and only if all that wait may be sent there", () => {
    session.lock(1);
    session.lock(2, 0);
    session.unlock(0);
    expect(session.word).toBe(CELL_ARBITER);
    expect(session.state).toEqual({ owner: 1, waiters: [2] });
    session.unlock(1);
    expect([session.word, session.state]).toEqual([CELL_OWNED + 2, { owner: -1, waiters: [] }]);
  });

  test("not when its owner had it for long", () => {
    session.lock(1);
    session.unlock(0, { isShort: 0 });
    expect([session.word, session.state]).toEqual([CELL_ARBITER, { owner: 1, waiters: [] }]);
    session.unlock(1, { isShort: 0 });
    expect([session.word, session.state]).toEqual([CELL_FREE, { owner: -1, waiters: [] }]);
  });

  test("not while it is marked, nor after a loss", () => {
    session.lock(1);
    session.lock(2);
    session.die(0);
    session.unlock(1, { keepsMark: 1 });
    expect([session.word, session.state]).toEqual([CELL_ARBITER, { owner: 2, waiters: [] }]);
    session.unlock(2);
    expect([session.word, session.state]).toEqual([CELL_ARBITER, { owner: -1, waiters: [] }]);
  });

  test("a process that takes its request back hears of its timeout, whatever it says", () => {
    session.lock(1);
    session.cancel(1, 1);
    expect(session.heard()).toEqual([`1: ${Status.TIMEOUT}, 0`]);
    expect(session.state).toEqual({ owner: 0, waiters: [] });
  });

  test("a process that was sent back and takes its request back at that moment hears once", () => {
    session.lock(1);
    session.lock(2);
    session.unlock(0);
    session.heard();
    session.cancel(2, 0);
    expect(session.heard()).toEqual([]);
    expect(session.word).toBe(CELL_OWNED + 1);
  });
});
