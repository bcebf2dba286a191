/** The simulator notices what arbiters and processes do wrong with the barrier's cell. */
import { describe, expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { BarrierCell } from "../../src/core/replica/cells/barrier-cell.ts";
import { CellDecisions } from "../../src/core/replica/cells/cell-decisions.ts";
import { Replica } from "../../src/core/replica/replica.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { ProcessBarrier } from "../support/core-barrier-cell.ts";
import { Violation } from "../support/core-cluster.ts";
import { steps } from "./actors/barrier-cell.ts";
import { type SimulatorOptions, simulate } from "./simulator.ts";

setDefaultTimeout(120_000);

interface Plant {
  mockRestore(): void;
}

/** An arbiter that decides operations of that kind as if they had nothing to do with cells. */
function decides(kind: Kind): Plant {
  const { decide } = CellDecisions.prototype;
  return spyOn(CellDecisions.prototype, "decide").mockImplementation(function (this: CellDecisions, of, view, frame) {
    decide.call(this, of === kind ? Kind.ALLOC : of, view, frame);
  });
}

/** An arbiter that gives the cell to one process less. */
function givesToFewer(): Plant {
  const { give } = BarrierCell.prototype;
  return spyOn(BarrierCell.prototype, "give").mockImplementation(function (this: BarrierCell, members) {
    give.call(this, Math.max(1, members - 1));
  });
}

/** A process that takes any later phase for one that was completed. */
function passesAnyPhase(): Plant {
  const { look } = ProcessBarrier.prototype;
  return spyOn(ProcessBarrier.prototype, "look").mockImplementation(function (this: ProcessBarrier, phase) {
    return this.word.phase === phase ? look.call(this, phase) : "is over";
  });
}

function expectNoticed(options: SimulatorOptions = {}): void {
  let caught = 0;
  for (let seed = 0; seed < 1500 && caught === 0; seed += 1) {
    try {
      simulate(seed, { ...options, flavour: "barriers" });
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      caught += 1;
    }
  }
  expect(caught).toBe(1);
}

describe("the simulator notices", () => {
  const plants: [string, () => Plant][] = [
    ["an arbiter that does not take the cell before a process joins", () => decides(Kind.JOIN)],
    ["an arbiter that does not take the cell before a process leaves", () => decides(Kind.LEAVE)],
    [
      "an arbiter that does not take the cell before it decides on the barrier",
      () => spyOn(BarrierCell.prototype, "take").mockImplementation(() => {}),
    ],
    [
      "an arbiter that does not count what was passed",
      () => spyOn(BarrierCell.prototype, "countPassed").mockImplementation(() => 0),
    ],
    ["an arbiter that gives the cell to too few", givesToFewer],
    ["a process that takes any later phase for one that was completed", passesAnyPhase],
    [
      "a process that gives up without taking its arrival back",
      () =>
        spyOn(steps, "giveUp").mockImplementation((_world, _thread, at) => {
          at.step = "out";
        }),
    ],
    [
      "a process that does not say that it sleeps",
      () => spyOn(ProcessBarrier.prototype, "announce").mockImplementation(() => {}),
    ],
  ];
  test.each(plants)("%s", (_name, plant) => {
    const planted = plant();
    try {
      expectNoticed();
    } finally {
      planted.mockRestore();
    }
  });

  test("an arbiter that wakes none when it takes the cell", () => {
    expectNoticed({
      makeReplica: (welcome, out, options) => new Replica(welcome, { ...out, wakeCell: () => {} }, options),
    });
  });
});
