/** Runs the simulator over many seeds (DSM_SEEDS=N: N of each kind); `npm run simulate` shows what one of them does. */
import { describe, expect, spyOn, test } from "bun:test";
import { FRAME_MAX } from "../../src/core/base/limits.ts";
import { Leases } from "../../src/core/replica/cells/leases.ts";
import { LockCells } from "../../src/core/replica/cells/lock-cells.ts";
import { SemaphoreCells } from "../../src/core/replica/cells/semaphore-cells.ts";
import { Replica } from "../../src/core/replica/replica.ts";
import type { ReplicaOutput } from "../../src/core/replica/replica-output.ts";
import { Locks } from "../../src/core/session/locks.ts";
import { Session } from "../../src/core/session/session.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { padded, setUint64 } from "../../src/core/wire/frame.ts";
import { FrameReader } from "../../src/core/wire/frame-reader.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { RUN_HEADER_SIZE, runIsMasked, runWords } from "../../src/core/wire/runs.ts";
import { Cells } from "../support/core-cells.ts";
import { Violation } from "../support/core-cluster.ts";
import { viewOf } from "../support/core-frames.ts";
import { RULES as LOCK_RULES } from "./actors/lock-cell.ts";
import { RULES as SEMAPHORE_RULES } from "./actors/semaphore-cell.ts";
import { allSeeds, type Counts, expectMore, runSeed, runSeeds, shortestFailure } from "./kinds.ts";
import { FLAVOURS, type Flavour, type SimulatorOptions, simulate } from "./simulator.ts";

/** What a simulator that does nothing would not reach, for each seed on average. */
const LEAST: Record<Flavour, Counts> = {
  sequencer: { entries: 15, loads: 3, lost: 0.25, woken: 0.1, refused: 0.1, blocks: 0.3, locked: 0.1 },
  direct: { entries: 15, loads: 3, direct: 0.5, woken: 0.1, refused: 0.1, blocks: 0.3, locked: 0.1 },
  locks: { entries: 15, locked: 1.7, inherited: 0.1, lost: 0.5, cells: 0.05, leased: 0.05 },
  cells: { entries: 15, direct: 0.5, cells: 8, slept: 2, sentBack: 0.3 },
  leases: { entries: 15, leased: 1, slept: 0.1 },
  objects: {
    ...{ entries: 15, signalled: 0.15, read: 1, written: 0.4, halfWritten: 0.02, opened: 0.25, lost: 0.5 },
    direct: 0.1,
  },
  barriers: { entries: 20, cellBarriers: 0.7, changed: 0.05, lost: 0.2 },
  semaphores: { entries: 15, direct: 0.3, lost: 0.3, changed: 0.05, semaphores: 4, roused: 0.2, returned: 0.005 },
  elastic: { entries: 20, pictures: 1, lost: 0.5, woken: 0.1, locked: 0.1, changed: 0.1 },
};

describe("every promise is kept:", () => {
  for (const flavour of FLAVOURS) {
    test(`${flavour}`, () => expectMore(runSeeds(flavour), LEAST[flavour]), 300_000);
  }
});

test("one seed is one run, with and without a trace", () => {
  for (const flavour of FLAVOURS) {
    const lines: string[][] = [[], []];
    const reports = lines.map((list) => simulate(5, { flavour, trace: (line) => list.push(line) }));
    expect(reports).toEqual([simulate(5, { flavour }), simulate(5, { flavour })]);
    expect(lines[0]).toEqual(lines[1] as string[]);
    expect(lines[0]?.length).toBeGreaterThan(100);
  }
});

test("a failing seed reports how to run it again, and its last lines", () => {
  const silent = answersThat(() => {});
  const run = (seed: number, trace?: (line: string) => void): Counts => ({
    ...simulate(seed, { ...silent, ...(trace && { trace }) }),
  });
  const seed = shortestFailure({ run }, 12)?.seed as number;
  const failure = (): unknown => runSeed("locks", seed, { seeds: 1, run });
  const again = `npm run simulate -- --kind locks --seed ${seed}`;
  expect(failure).toThrow(new RegExp(`^seed ${seed} of locks: .*; all of its trace: ${again}\\n`));
  expect(failure).toThrow(/\nthe server orders /);
});

test("of the seeds that fail the shortest is found, with its trace", () => {
  const silent = answersThat(() => {});
  const run = (seed: number, trace?: (line: string) => void): Counts => ({
    ...simulate(seed, { ...silent, ...(trace && { trace }) }),
  });
  const failing: { seed: number; lines: number }[] = [];
  for (let seed = 0; seed < 12; seed += 1) {
    const lines: string[] = [];
    try {
      run(seed, (line) => lines.push(line));
    } catch {
      failing.push({ seed, lines: lines.length });
    }
  }
  expect(failing.length).toBeGreaterThan(1);
  const shortest = failing.reduce((least, one) => (one.lines < least.lines ? one : least));
  const failure = shortestFailure({ run }, 12);
  expect([failure?.seed, failure?.trace.length]).toEqual([shortest.seed, shortest.lines]);
  expect(failure?.message).not.toBe("");
  expect(shortestFailure({ run: () => ({}) }, 3)).toBeNull();
});

test("npm test runs at least 10,000 seeds", () => expect(allSeeds()).toBeGreaterThanOrEqual(10_000));

type ReplicaArguments = ConstructorParameters<typeof Replica>;

/** A replica to which every entry comes through `change`: what it returns is applied instead. */
function replicaThat(change: (entry: Uint8Array, number: number) => Uint8Array[]): SimulatorOptions {
  return {
    makeReplica: (...args) =>
      new (class extends Replica {
        readonly #reader = new FrameReader(FRAME_MAX);
        #count = 0;
        override receiveEntries(chunk: Uint8Array): void {
          this.#reader.push(chunk, (_view, at, size, bytes) => {
            this.#count += 1;
            for (const entry of change(new Uint8Array(bytes.subarray(at, at + size)), this.#count)) {
              // Numbered anew: a gap or a swap in the numbers would be found at once.
              if (entry[4] !== Kind.PUBLISH || entry[5] !== 1) setUint64(viewOf(entry), 16, this.session.seq + 1);
              super.receiveEntries(entry);
            }
          });
        }
      })(...args),
  };
}

/** A replica whose answers go through `change`. */
function answersThat(
  change: (answer: Uint8Array, channel: number, send: ReplicaOutput["reply"]) => void,
): SimulatorOptions {
  return {
    makeReplica: (welcome, out, options) => {
      const reply: ReplicaOutput["reply"] = (channel, bytes) => change(bytes.slice(), channel, out.reply);
      return new Replica(welcome, { ...out, reply }, options);
    },
  };
}

/** A replica of which all that it hands to the log in direct mode goes through `change`. */
function decisionsThat(
  change: (frame: Uint8Array, number: number, propose: ReplicaOutput["propose"]) => void,
): SimulatorOptions {
  return {
    makeReplica: (welcome, out, options) => {
      let count = 0;
      const propose = (bytes: Uint8Array): void => {
        if (!replica.session.direct) {
          out.propose(bytes);
          return;
        }
        count += 1;
        change(new Uint8Array(bytes), count, out.propose);
      };
      const replica: Replica = new Replica(welcome, { ...out, propose }, options);
      return replica;
    },
  };
}

const isData = (entry: Uint8Array): boolean => entry[4] === Kind.STORE || entry[4] === Kind.ATOMIC;

/** Answers a store when it is asked for, not when it has been applied. */
class EarlyReplica extends Replica {
  readonly #reply: ReplicaOutput["reply"];
  constructor(...[welcome, out, options]: ReplicaArguments) {
    const early = new Set<number>();
    const reply: ReplicaOutput["reply"] = (channel, bytes) => {
      if (!early.delete(channel)) out.reply(channel, bytes);
    };
    super(welcome, { ...out, reply, propose: (bytes) => this.#propose(bytes, early, out) }, options);
    this.#reply = out.reply;
  }
  #propose(bytes: Uint8Array, early: Set<number>, out: ReplicaOutput): void {
    out.propose(bytes);
    if (bytes[4] !== Kind.STORE) return;
    const answer = new Uint8Array(bytes.subarray(0, HEADER_SIZE));
    const tag = viewOf(bytes).getUint32(8, true);
    answer[4] = Kind.REPLY;
    viewOf(answer).setUint32(0, HEADER_SIZE, true);
    viewOf(answer).setUint32(8, tag & 0xffff, true);
    setUint64(viewOf(answer), 16, this.session.seq + 1);
    this.#reply(tag >>> 16, answer);
    early.add(tag >>> 16);
  }
}

describe("the simulator notices a replica that", () => {
  let held: Uint8Array | null = null;
  let last: Uint8Array | null = null;
  const broken: [string, SimulatorOptions][] = [
    ["answers a store before applying it", { makeReplica: (...args) => new EarlyReplica(...args) }],
    ["drops a store", replicaThat((entry, number) => (number === 12 && isData(entry) ? [] : [entry]))],
    ["drops any entry", replicaThat((entry, number) => (number === 15 ? [] : [entry]))],
    ["applies an entry twice", replicaThat((entry, number) => (number === 15 ? [entry, entry.slice()] : [entry]))],
    [
      "swaps two entries",
      replicaThat((entry, number) => {
        if (number === 14 && isData(entry)) {
          held = entry;
          return [];
        }
        const first = held;
        held = null;
        return first === null ? [entry] : [entry, first];
      }),
    ],
    [
      "applies a wrong byte of a store",
      replicaThat((entry) => {
        if (entry[4] === Kind.STORE && entry.length > 60) entry[HEADER_SIZE + 9]! ^= 1;
        return [entry];
      }),
    ],
    [
      "puts a store one byte too far",
      replicaThat((entry) => {
        if (entry[4] === Kind.STORE && entry[24] === 5) entry[24] = 6;
        return [entry];
      }),
    ],
    [
      "adds where it should exchange",
      replicaThat((entry) => {
        if (entry[4] === Kind.ATOMIC && entry[5] === 5) entry[5] = 1;
        return [entry];
      }),
    ],
    [
      "unlocks what is not unlocked",
      replicaThat((entry) => {
        if (entry[4] === Kind.UNLOCK) entry[HEADER_SIZE]! ^= 1;
        return [entry];
      }),
    ],
    [
      "gets the first byte of a publication wrong",
      replicaThat((entry) => {
        if (entry[4] !== Kind.PUBLISH || entry.length === HEADER_SIZE) return [entry];
        const view = viewOf(entry);
        const masks = runIsMasked(view, HEADER_SIZE) ? padded(runWords(view, HEADER_SIZE)) : 0;
        entry[HEADER_SIZE + RUN_HEADER_SIZE + masks]! ^= 0xff;
        return [entry];
      }),
    ],
    [
      "writes another byte of a word than the mask says",
      replicaThat((entry) => {
        if (entry[4] !== Kind.PUBLISH || entry.length === HEADER_SIZE) return [entry];
        const mask = HEADER_SIZE + RUN_HEADER_SIZE;
        const bits = entry[mask] as number;
        if (runIsMasked(viewOf(entry), HEADER_SIZE)) entry[mask] = ((bits << 1) | (bits >> 7)) & 0xff;
        return [entry];
      }),
    ],
    [
      "lets a try wait",
      replicaThat((entry) => {
        if (entry[4] === Kind.SEM_WAIT) entry[5] = 0;
        return [entry];
      }),
    ],
    [
      "sleeps without comparing",
      replicaThat((entry) => {
        if (entry[4] === Kind.FUTEX_WAIT) entry[5] = 1;
        return [entry];
      }),
    ],
    [
      "wakes one at most",
      replicaThat((entry) => {
        if (entry[4] === Kind.FUTEX_WAKE && entry[36] !== 0) entry.set([1, 0, 0, 0], 36);
        return [entry];
      }),
    ],
    [
      "gives out a smaller block",
      replicaThat((entry) => {
        if (entry[4] === Kind.ALLOC && (entry[24] as number) > 1) entry[24]! -= 1;
        return [entry];
      }),
    ],
    [
      "says another place of a block",
      answersThat((answer, channel, send) => {
        if (answer[4] === Kind.REPLY && (answer[24] as number) > 7) answer[24]! -= 8;
        send(channel, answer);
      }),
    ],
    [
      "decides what it does not hand on",
      decisionsThat((frame, number, propose) => {
        if (number !== 5) propose(frame);
      }),
    ],
    [
      "hands on what it decides in another order",
      decisionsThat((frame, number, propose) => {
        if (number === 5) {
          held = frame;
          return;
        }
        propose(frame);
        if (held !== null) propose(held);
        held = null;
      }),
    ],
    [
      "hands on something else than it decides",
      decisionsThat((frame, _number, propose) => {
        if (frame[4] === Kind.FREE) frame[24]! ^= 8;
        propose(frame);
      }),
    ],
    [
      "lets the server compare what only the node has",
      decisionsThat((frame, _number, propose) => {
        if (frame[4] === Kind.FUTEX_WAIT) frame[5] = 0;
        propose(frame);
      }),
    ],
    [
      "writes memory that is the processes'",
      {
        makeReplica: (welcome, out, options) => {
          const propose: ReplicaOutput["propose"] = (bytes) => {
            if (replica.session.direct && bytes[4] === Kind.SEM_WAIT) options.memory[9]! ^= 1;
            out.propose(bytes);
          };
          const replica: Replica = new Replica(welcome, { ...out, propose }, options);
          return replica;
        },
      },
    ],
    [
      "loses an answer",
      answersThat((answer, channel, send) => {
        if (answer[4] !== Kind.REPLY || viewOf(answer).getUint32(16, true) !== 17) send(channel, answer);
      }),
    ],
    [
      "answers twice",
      answersThat((answer, channel, send) => {
        send(channel, answer);
        if (viewOf(answer).getUint32(16, true) === 17) send(channel, answer);
      }),
    ],
    [
      "gives the old value of the atomic before",
      answersThat((answer, channel, send) => {
        const old = last;
        if (answer.length === HEADER_SIZE + 16) last = answer.slice(HEADER_SIZE);
        if (answer.length === HEADER_SIZE + 16 && old !== null) answer.set(old, HEADER_SIZE);
        send(channel, answer);
      }),
    ],
    [
      "answers another channel",
      answersThat((answer, channel, send) => send(answer[4] === Kind.REPLY && channel === 1 ? 0 : channel, answer)),
    ],
    [
      "answers OK to the loser",
      answersThat((answer, channel, send) => {
        if (answer[5] === 3) answer[5] = 0;
        send(channel, answer);
      }),
    ],
  ];
  test.each(broken)(
    "%s",
    (_name, options) => {
      let caught = 0;
      for (let seed = 0; seed < 400 && caught === 0; seed += 1) {
        held = null;
        last = null;
        try {
          simulate(seed, { ...options, flavour: FLAVOURS[seed % FLAVOURS.length] as Flavour });
        } catch (error) {
          if (!(error instanceof Violation)) throw error;
          caught += 1;
        }
      }
      expect(caught).toBeGreaterThan(0);
    },
    60_000,
  );
});

/** Whether one of the seeds breaks a promise. */
function isNoticed(options: SimulatorOptions, seeds = 1500): boolean {
  for (let seed = 0; seed < seeds; seed += 1) {
    try {
      simulate(seed, options);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      return true;
    }
  }
  return false;
}

describe("the simulator notices an arbiter that", () => {
  const plants: [string, Flavour, () => { mockRestore(): void }][] = [
    [
      "does not look whether one that goes has locks by their cells",
      "cells",
      () => spyOn(LockCells.prototype, "takeAll").mockImplementation(() => []),
    ],
    [
      "does not ask who has a lock before it decides on it",
      "cells",
      () => spyOn(LockCells.prototype, "take").mockImplementation(() => -1),
    ],
    [
      "does not look whether one that leaves has a lock that is leased to its node",
      "leases",
      () => spyOn(LockCells.prototype, "ownerOf").mockImplementation(() => -1),
    ],
    [
      "does not give back a lease that is recalled",
      "leases",
      () => spyOn(Leases.prototype, "settle").mockImplementation(() => {}),
    ],
    [
      "keeps the leases of a node that is gone",
      "leases",
      () => spyOn(Locks.prototype, "endLeasesOf").mockImplementation(() => {}),
    ],
    [
      "gives a lock to the processes that one of them waits for, or that a dead owner has left",
      "cells",
      () => spyOn(Session.prototype, "isLockFree").mockImplementation(() => true),
    ],
    [
      "does not say by its cell who has a lock that it gives back",
      "cells",
      () => spyOn(LockCells.prototype, "own").mockImplementation(() => {}),
    ],
    [
      "does not wake who sleeps on a cell that it takes",
      "cells",
      () => spyOn(Cells.prototype, "wakeAll").mockImplementation(() => {}),
    ],
    // What processes do is played by the simulation itself: that they must do it.
    [
      "has processes that forget who sleeps beside them",
      "cells",
      () => spyOn(LOCK_RULES, "keepsSleepers").mockImplementation(() => false),
    ],
    [
      "has processes that take a lock that is kept",
      "cells",
      () => spyOn(LOCK_RULES, "mayTakeKept").mockImplementation(() => true),
    ],
    [
      "has processes that keep a lock for none",
      "cells",
      () => spyOn(LOCK_RULES, "takesBack").mockImplementation(() => false),
    ],
    [
      "has processes that let one sleep that came while they kept it for none",
      "cells",
      () => spyOn(LOCK_RULES, "wakesOnceMore").mockImplementation(() => false),
    ],
    [
      "does not look at the values of semaphores when a process goes, or direct mode ends",
      "semaphores",
      () => spyOn(SemaphoreCells.prototype, "takeAll").mockImplementation(() => []),
    ],
    [
      "does not look at the value of a semaphore before it decides on it",
      "semaphores",
      () => spyOn(SemaphoreCells.prototype, "take").mockImplementation(() => -1),
    ],
    [
      "gives a semaphore to the processes that one of them waits for",
      "semaphores",
      () =>
        spyOn(Session.prototype, "idleValueOf").mockImplementation(function (this: Session, name: string) {
          return this.semaphores().find((one) => one.name === name)?.value ?? -1;
        }),
    ],
    [
      "does not ask who has the mutex by its cell before it moves a waiter of a condition there",
      "objects",
      () => spyOn(Session.prototype, "mutexesOf").mockImplementation(() => []),
    ],
    [
      "does not ask who has the mutex by its cell before it takes a wait for a condition back",
      "objects",
      () => spyOn(Session.prototype, "mutexOf").mockImplementation(() => null),
    ],
  ];
  test.each(plants)(
    "%s",
    (_name, flavour, plant) => {
      const planted = plant();
      try {
        expect(isNoticed({ flavour })).toBe(true);
      } finally {
        planted.mockRestore();
      }
    },
    300_000,
  );

  test("takes a cell and does not wake those that sleep on it", () => {
    const makeReplica: SimulatorOptions["makeReplica"] = (welcome, out, options) =>
      new Replica(welcome, { ...out, wakeCell: () => {} }, options);
    expect(isNoticed({ flavour: "semaphores", makeReplica })).toBe(true);
  });
});

describe("the simulator notices processes without a rule of semaphores:", () => {
  test.each(Object.keys(SEMAPHORE_RULES) as (keyof typeof SEMAPHORE_RULES)[])(
    "%s",
    (rule) => {
      SEMAPHORE_RULES[rule] = false;
      try {
        expect(isNoticed({ flavour: "semaphores" })).toBe(true);
      } finally {
        SEMAPHORE_RULES[rule] = true;
      }
    },
    60_000,
  );
});
