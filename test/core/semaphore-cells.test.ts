/** SemaphoreCells: what their words say, and how requests and cells of a semaphore come to one value in direct mode. */
import { describe, expect, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import { SemaphoreCells } from "../../src/core/replica/cells/semaphore-cells.ts";
import { Replica } from "../../src/core/replica/replica.ts";
import { At, ReplyAt } from "../../src/core/wire/at.ts";
import {
  CELL_ARBITER,
  CELLS_SIZE,
  NAMED_CELL_SIZE,
  SEMAPHORE_CELL_GIVEN,
  SEMAPHORE_CELL_SLEEPERS,
  SEMAPHORE_CELL_STEP,
  SEMAPHORE_CELL_VALUE_MAX,
  SEMAPHORE_CELLS_AT,
} from "../../src/core/wire/cell-layout.ts";
import { encode, encodeText, type Frame, getUint64 } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { type Channel, Cluster, type ClusterOptions, type Node, processHello } from "../support/core-cluster.ts";
import { viewOf } from "../support/core-frames.ts";

const word = (value: number, hasSleepers = false): number =>
  SEMAPHORE_CELL_GIVEN + (hasSleepers ? SEMAPHORE_CELL_SLEEPERS : 0) + value * SEMAPHORE_CELL_STEP;

describe("a cell", () => {
  const memory = new Uint8Array(CELLS_SIZE);
  const words = new Int32Array(memory.buffer);
  const woken: number[] = [];
  const cells = new SemaphoreCells(memory, (at) => woken.push(at));
  const places = ["a", "b", "c"].map((name) => SEMAPHORE_CELLS_AT + (cells.assign(name) - 1) * NAMED_CELL_SIZE);
  const [a, b] = places as [number, number, number];

  test("is the arbiter's until it is given, and none is woken there", () => {
    expect(cells.take("a")).toBe(-1);
    expect(cells.take("one that no process has asked for")).toBe(-1);
    expect(cells.values()).toEqual([]);
    expect(woken).toEqual([]);
    expect(places.map((at) => words[at / 4])).toEqual([CELL_ARBITER, CELL_ARBITER, CELL_ARBITER]);
  });

  test("has the value, and all that sleep there are woken when it is taken, whether the word says so or not", () => {
    cells.give("a", 3);
    cells.give("b", 0);
    expect([words[a / 4], words[b / 4]]).toEqual([word(3), word(0)]);
    words[a / 4] = word(5);
    words[b / 4] = word(0, true);
    expect(cells.values()).toEqual([
      { name: "a", value: 5 },
      { name: "b", value: 0 },
    ]);
    expect(cells.take("a")).toBe(5);
    expect(cells.takeAll()).toEqual([{ name: "b", value: 0 }]);
    expect(places.map((at) => words[at / 4])).toEqual([CELL_ARBITER, CELL_ARBITER, CELL_ARBITER]);
    expect(woken.splice(0)).toEqual([a, b]);
  });

  test("is not given with a value that a word of 32 bits need not hold", () => {
    cells.give("a", SEMAPHORE_CELL_VALUE_MAX + 1);
    expect(words[a / 4]).toBe(CELL_ARBITER);
    cells.give("a", SEMAPHORE_CELL_VALUE_MAX);
    expect(cells.take("a")).toBe(SEMAPHORE_CELL_VALUE_MAX);
  });
});

/** A process that keeps what it is told. */
class Talker {
  readonly #channel: Channel;
  readonly answers: { tag: number; status: number; value: number }[] = [];

  constructor(node: Node, name: string) {
    this.#channel = node.connect(
      name,
      (frame) => {
        const view = viewOf(frame);
        const status = view.getUint8(ReplyAt.status);
        this.answers.push({ tag: view.getUint32(At.tag, true), status, value: getUint64(view, ReplyAt.value) });
      },
      () => {},
    );
    this.#channel.up.push(processHello("s", 1));
  }

  ask(frame: Frame): void {
    this.#channel.up.push(encode({ ...frame, body: encodeText("gate") }));
  }

  end(): void {
    this.#channel.up.end();
  }
}

describe("in direct mode", () => {
  const wait = (tag: number): Frame => ({ kind: Kind.SEM_WAIT, tag });
  const post = (tag: number): Frame => ({ kind: Kind.SEM_POST, tag, offset: 1 });

  function start(onLoss: "fail" | "continue" = "continue", options: ClusterOptions = {}) {
    const size = 8192;
    const config = {
      name: "s",
      instance: "1",
      processes: 2,
      size,
      base: 2 ** 45,
      order: "sequential",
      onLoss,
    } as const;
    const cluster = new Cluster(config, options);
    const node = cluster.node("a");
    cluster.settle();
    const [p, q] = ["p", "q"].map((name) => new Talker(node, name)) as [Talker, Talker];
    cluster.settle();
    for (const { answers } of [p, q]) answers.length = 0;
    const words = new Int32Array(node.cells.bytes.buffer);
    /** What a process is told, and where the word of its semaphore is then. */
    const heard = (talker: Talker): [string[], number] => {
      const answers = talker.answers.splice(0);
      const value = answers.at(-1)?.value ?? 0;
      const place = (SEMAPHORE_CELLS_AT + (value - 1) * NAMED_CELL_SIZE) / 4;
      return [answers.map(({ tag, status }) => `${tag} ${status}`), place];
    };
    const values = (): (number | undefined)[] =>
      [node.replica?.session, cluster.sequencer.session].map((session) => session?.semaphores()[0]?.value);
    return { cluster, node, p, q, words, heard, values };
  }

  test("a post tells the cell, and so does a wait that another ends", () => {
    const { cluster, p, q, words, heard } = start();
    p.ask(wait(1));
    cluster.settle();
    expect(words.some((one) => one !== CELL_ARBITER)).toBe(false);
    q.ask(post(2));
    cluster.settle();
    const [[mine, place], [others, same]] = [heard(q), heard(p)];
    expect([mine, others, same]).toEqual([[`2 ${Status.OK}`], [`1 ${Status.OK}`], place]);
    expect(words[place]).toBe(word(0));
  });

  test("a request is decided on the value that the processes have made, and so is what follows in the order", () => {
    const { cluster, p, words, heard, values } = start();
    p.ask(post(1));
    cluster.settle();
    const [, place] = heard(p);
    expect(words[place]).toBe(word(1));
    words[place] = word(4);
    p.ask(post(2));
    cluster.settle();
    expect([words[place], ...values()]).toEqual([word(5), 5, 5]);
    words[place] = word(1);
    p.ask(wait(3));
    p.ask(wait(4));
    cluster.settle();
    // The second one waits: the processes do not have the cell.
    expect(heard(p)[0]).toEqual([`2 ${Status.OK}`, `3 ${Status.OK}`]);
    expect([words[place], ...values()]).toEqual([CELL_ARBITER, 0, 0]);
  });

  /** With the pace of a node, not that of the simulations. */
  const unhurried: Pick<ClusterOptions, "makeReplica"> = { makeReplica: (...args) => new Replica(...args) };

  test("after many posts beside others that wait these are sent back to the cell, which they find given", () => {
    const { cluster, p, q, words, heard } = start("continue", unhurried);
    for (let tag = 1; tag <= 10; tag += 1) p.ask({ ...wait(tag), offset: 1 });
    for (let tag = 1; tag <= 7; tag += 1) q.ask(post(tag));
    cluster.settle();
    expect(heard(p)[0]).toEqual(Array.from({ length: 7 }, (_, n) => `${n + 1} ${Status.OK}`));
    q.ask(post(8));
    cluster.settle();
    expect(p.answers.map(({ tag, status }) => [tag, status])).toEqual([
      [8, Status.OK],
      [9, Status.AGAIN],
      [10, Status.AGAIN],
    ]);
    expect(words[heard(q)[1]]).toBe(word(0));
  });

  test("none is sent back while one waits that may not be", () => {
    const { cluster, p, q, words } = start("continue", unhurried);
    p.ask(wait(1));
    for (let tag = 2; tag <= 20; tag += 1) p.ask({ ...wait(tag), offset: 1 });
    p.ask(wait(21));
    for (let tag = 1; tag <= 20; tag += 1) q.ask(post(tag));
    cluster.settle();
    expect(p.answers.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => Status.OK));
    expect(words.some((one) => one !== CELL_ARBITER)).toBe(false);
  });

  test("what a reader of the status asks for is reported, and the processes go on with it", () => {
    const { cluster, p, words, heard, values } = start();
    p.ask(post(1));
    cluster.settle();
    const [, place] = heard(p);
    words[place] = word(7);
    const before = cluster.sequencer.session.seq;
    for (let time = 0; time < 2; time += 1) {
      const reader = cluster.link(
        "reader",
        () => {},
        () => {},
      );
      reader.push(encodeHandshake(Kind.STATUS, new Uint8Array(0)));
      cluster.settle();
    }
    expect([words[place], ...values()]).toEqual([word(7), 7, 7]);
    expect(cluster.sequencer.session.seq).toBe(before + 1);
  });

  test("a process that goes leaves the value, and one that is lost ends the use of cells", () => {
    const { cluster, p, q, words, heard, values } = start();
    p.ask(post(1));
    cluster.settle();
    const [, place] = heard(p);
    words[place] = word(3);
    q.end();
    cluster.settle();
    expect([words[place], ...values()]).toEqual([CELL_ARBITER, 3, 3]);
    p.ask(post(2));
    cluster.settle();
    expect([words[place], ...values()]).toEqual([CELL_ARBITER, 4, 4]);
  });
});
