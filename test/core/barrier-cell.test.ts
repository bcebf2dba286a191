/** The barrier's cell: what the arbiter does with it, and what the session learns of barriers that were passed by it. */
import { describe, expect, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import { PAGE_SIZE } from "../../src/core/base/limits.ts";
import { BarrierCell } from "../../src/core/replica/cells/barrier-cell.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { BARRIER_CELL_AT, CELLS_SIZE } from "../../src/core/wire/cell-layout.ts";
import { bodyText, encode, type Frame, getUint64 } from "../../src/core/wire/frame.ts";
import { Kind, NO_TAG } from "../../src/core/wire/kinds.ts";
import { ProcessBarrier } from "../support/core-barrier-cell.ts";
import { type Channel, Cluster, type Node, processHello, type Wishes } from "../support/core-cluster.ts";
import { viewOf } from "../support/core-frames.ts";

describe("the cell", () => {
  function make(): { cell: BarrierCell; processes: ProcessBarrier; memory: Uint8Array; wakes: () => number } {
    const memory = new Uint8Array(CELLS_SIZE);
    let wakes = 0;
    const cell = new BarrierCell(memory, () => {
      wakes += 1;
    });
    return { cell, processes: new ProcessBarrier(memory), memory, wakes: () => wakes };
  }

  test("is the arbiter's until it is given, to those who are present", () => {
    const { cell, processes } = make();
    expect(processes.arrive().given).toBe(false);
    cell.give(1024);
    expect(processes.word).toEqual({ given: true, phase: 2, arrived: 0, members: 1024, sleepers: false });
    for (let rank = 0; rank < 1023; rank += 1) processes.arrive();
    expect(processes.look(2)).toBe("goes on");
    processes.arrive();
    expect(processes.word).toEqual({ given: true, phase: 3, arrived: 0, members: 1024, sleepers: false });
    expect(processes.look(2)).toBe("is over");
    expect(cell.countPassed()).toBe(1);
    expect(cell.countPassed()).toBe(0);
  });

  test("is taken with all that have arrived, who keep their phase and are woken", () => {
    const { cell, processes, wakes } = make();
    cell.take();
    expect(wakes()).toBe(0);
    cell.give(3);
    processes.arrive();
    processes.announce(2, 0);
    cell.take();
    expect(wakes()).toBe(1);
    expect(processes.word).toEqual({ given: false, phase: 2, arrived: 0, members: 0, sleepers: false });
    expect([processes.look(2), processes.withdraw(2)]).toEqual(["is taken", "is taken"]);
    expect([cell.isInside(0), cell.isInside(1), cell.countPassed()]).toEqual([true, false, 0]);
    cell.take();
    expect(wakes()).toBe(1);
    // The session's barrier has opened, but not for a thread that waited by the cell.
    cell.give(3);
    expect([processes.look(2), cell.isInside(0)]).toEqual(["is taken", false]);
    expect(cell.countPassed()).toBe(0);
  });

  test("an arrival that is taken back is not counted, and does not complete a phase", () => {
    const { cell, processes } = make();
    cell.give(2);
    processes.arrive();
    expect(processes.withdraw(2)).toBe("is taken");
    expect(processes.arrive()).toMatchObject({ arrived: 0 });
    expect(processes.arrive()).toMatchObject({ arrived: 1 });
    expect(processes.withdraw(2)).toBe("is over");
  });

  test("counts on when the phases begin again", () => {
    const { cell, processes, memory } = make();
    cell.give(1);
    new DataView(memory.buffer).setUint32(BARRIER_CELL_AT, 0xffff_fffd, true);
    expect(cell.countPassed()).toBe(2 ** 31 - 4);
    for (let time = 0; time < 3; time += 1) processes.arrive();
    expect(processes.word.phase).toBe(1);
    expect(cell.countPassed()).toBe(3);
    processes.arrive();
    cell.take();
    expect([cell.countPassed(), processes.word.phase]).toEqual([1, 2]);
  });
});

/** A process of a session in direct mode. */
class Process {
  readonly channel: Channel;
  readonly heard: string[] = [];
  readonly barrier: ProcessBarrier;

  constructor(node: Node, wishes: Wishes = {}) {
    this.barrier = new ProcessBarrier(node.cells.bytes);
    const hears = (frame: Uint8Array): void => {
      const view = viewOf(frame);
      if (view.getUint8(4) === Kind.CHANGE) return;
      const text = bodyText(frame, HEADER_SIZE, view.getUint32(32, true));
      const [status, value] = [view.getUint8(5), getUint64(view, 24)];
      if (view.getUint32(8, true) > 0) this.heard.push(status === Status.OK ? `ok ${value}` : `${status} ${text}`);
      else if (view.getUint8(4) === Kind.FAIL) this.heard.push(`fail ${status} ${text}`);
    };
    this.channel = node.connect("process", hears, () => {});
    this.channel.up.push(processHello("s", 1, wishes));
  }

  ask(frame: Partial<Frame> = {}): void {
    this.channel.up.push(encode({ kind: Kind.BARRIER, tag: 1, ...frame }));
  }
}

class Play {
  readonly cluster: Cluster;
  readonly node: Node;
  readonly processes: Process[];
  wakes = 0;

  constructor(count: number, elastic = false) {
    this.cluster = new Cluster({
      ...{ name: "s", instance: "1", processes: count, size: PAGE_SIZE, base: 2 ** 45, order: "sequential" },
      ...{ onLoss: "continue", elastic },
    });
    this.node = this.cluster.node("a");
    this.node.onWake = (at) => {
      expect(at).toBe(BARRIER_CELL_AT);
      this.wakes += 1;
    };
    this.cluster.settle();
    this.processes = Array.from({ length: count }, () => new Process(this.node, { elastic }));
    this.cluster.settle();
  }

  get barrier(): ProcessBarrier {
    return (this.processes[0] as Process).barrier;
  }

  /** What the process of that rank hears when all has been delivered. */
  heard(rank: number): string[] {
    this.cluster.settle();
    return (this.processes[rank] as Process).heard.splice(0);
  }

  /** All pass a barrier by requests. */
  passByRequests(): void {
    for (const process of this.processes) process.ask();
    this.cluster.settle();
    for (const { heard } of this.processes) expect(heard.splice(0)).toEqual([`ok ${this.processes.length}`]);
  }

  /** The barriers that node and server know of. */
  get counts(): number[] {
    this.cluster.settle();
    return [this.node.replica?.session.barriers as number, this.cluster.sequencer.session.barriers];
  }
}

describe("in direct mode", () => {
  test("the processes get it when it has opened; what they have passed is in the log before it is taken again", () => {
    const play = new Play(2);
    expect(play.barrier.word.given).toBe(false);
    play.passByRequests();
    expect(play.barrier.word).toMatchObject({ given: true, members: 2, arrived: 0 });
    for (let arrivals = 0; arrivals < 10; arrivals += 1) play.barrier.arrive();
    expect(play.counts).toEqual([1, 1]);
    expect(play.node.replica?.notePassedBarriers()).toBe(true);
    expect(play.node.replica?.notePassedBarriers()).toBe(false);
    expect(play.counts).toEqual([6, 6]);
    for (let arrivals = 0; arrivals < 5; arrivals += 1) play.barrier.arrive();
    (play.processes[0] as Process).ask();
    expect(play.heard(0)).toEqual([]);
    expect([...play.counts, play.wakes]).toEqual([8, 8, 1]);
    // The one that had arrived by the cell finds it taken.
    (play.processes[1] as Process).ask();
    expect([play.heard(0), play.heard(1)]).toEqual([["ok 2"], ["ok 2"]]);
    expect([...play.counts, play.barrier.word.given]).toEqual([9, 9, true]);
  });

  test("a process that gives up hears only of those that are not in it, by the cell either", () => {
    const play = new Play(4);
    play.passByRequests();
    const [first] = play.processes as [Process];
    const { phase } = play.barrier.arrive();
    play.barrier.announce(phase, 2);
    first.ask();
    first.ask({ kind: Kind.SEM_CANCEL });
    expect(play.heard(0)).toEqual([`${Status.TIMEOUT} processes 1 and 3 were not in the barrier`]);
    play.barrier.unmark(2);
    first.ask();
    first.ask({ kind: Kind.SEM_CANCEL });
    expect(play.heard(0)).toEqual([`${Status.TIMEOUT} processes 1, 2 and 3 were not in the barrier`]);
    // Where all others have come since, it was they.
    for (const rank of [1, 2, 3]) play.barrier.announce(phase, rank);
    first.ask();
    first.ask({ kind: Kind.SEM_CANCEL });
    expect(play.heard(0)).toEqual([`${Status.TIMEOUT} processes 1, 2 and 3 were not in the barrier`]);
  });

  test("who leaves or dies takes its arrival along, and those who wait are woken", () => {
    const play = new Play(3);
    play.passByRequests();
    const { phase } = play.barrier.arrive();
    (play.processes[0] as Process).ask({ kind: Kind.LEAVE, tag: 9 });
    expect(play.heard(0)).toEqual(["ok 0"]);
    expect([play.barrier.look(phase), play.wakes]).toEqual(["is taken", 1]);
    for (const rank of [1, 2]) (play.processes[rank] as Process).ask();
    expect([play.heard(1), play.heard(2)]).toEqual([["ok 2"], ["ok 2"]]);
    expect(play.barrier.word).toMatchObject({ given: true, members: 2, arrived: 0 });
    play.barrier.arrive();
    (play.processes[1] as Process).channel.up.end();
    (play.processes[2] as Process).ask();
    expect(play.heard(2)).toEqual(["ok 1"]);
    // After a loss no cell is given any more.
    expect(play.barrier.word.given).toBe(false);
    expect(play.counts).toEqual([3, 3]);
  });

  test("a process that joins is waited for, and one of another node ends it", () => {
    const play = new Play(2, true);
    play.passByRequests();
    const { phase } = play.barrier.arrive();
    play.processes.push(new Process(play.node, { elastic: true }));
    play.cluster.settle();
    expect([play.barrier.look(phase), play.wakes]).toEqual(["is taken", 1]);
    for (const rank of [0, 1]) (play.processes[rank] as Process).ask();
    expect([play.heard(0), play.heard(1)]).toEqual([[], []]);
    (play.processes[2] as Process).ask();
    for (const rank of [0, 1, 2]) expect(play.heard(rank)).toEqual(["ok 3"]);
    expect(play.barrier.word).toMatchObject({ given: true, members: 3, arrived: 0 });
    for (let arrivals = 0; arrivals < 4; arrivals += 1) play.barrier.arrive();
    const other = play.cluster.node("b");
    play.cluster.settle();
    other
      .connect(
        "late",
        () => {},
        () => {},
      )
      .up.push(processHello("s", 2, { elastic: true }));
    expect(play.counts).toEqual([3, 3]);
    expect([play.barrier.word.given, play.wakes]).toEqual([false, 2]);
    for (const process of play.processes) process.ask();
    for (const rank of [0, 1, 2]) expect(play.heard(rank)).toEqual(["ok 3"]);
    expect([...play.counts, play.barrier.word.given]).toEqual([4, 4, false]);
  });

  test("only the arbiter says that barriers were passed", () => {
    const play = new Play(2);
    play.passByRequests();
    (play.processes[0] as Process).ask({ offset: 1 });
    expect(play.heard(0)).toEqual([expect.stringContaining("barrier: a number with a request")]);
    (play.processes[1] as Process).ask({ tag: NO_TAG, offset: 1 });
    expect(play.heard(1)).toEqual([expect.stringContaining("a process passes one by its cell")]);
    expect(play.counts).toEqual([1, 1]);
  });
});
