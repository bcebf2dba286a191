/** Runs the simulator of broken connections and dying servers over many seeds (DSM_SEEDS=N: N of them). */
import { describe, expect, spyOn, test } from "bun:test";
import type { ResumeReply, ResumeRequest } from "../../src/core/messages/node-handshake.ts";
import type { NodeState } from "../../src/core/messages/node-state.ts";
import { Leases } from "../../src/core/replica/cells/leases.ts";
import { LockCells } from "../../src/core/replica/cells/lock-cells.ts";
import { Replica } from "../../src/core/replica/replica.ts";
import { Locks } from "../../src/core/session/locks.ts";
import { HEADER_SIZE, StateAt } from "../../src/core/wire/at.ts";
import { bodyText, encode, encodeJson } from "../../src/core/wire/frame.ts";
import { Kind, StateOp } from "../../src/core/wire/kinds.ts";
import { viewOf } from "../support/core-frames.ts";
import { GateCell } from "./failover/gate.ts";
import { type FailoverOptions, simulateFailover } from "./failover/simulator.ts";
import { expectMore, runSeeds } from "./kinds.ts";

test("broken connections and dying servers: every promise is kept", () => {
  const least = {
    ...{ entries: 15, resumed: 2, epochs: 2, direct: 0.1, lost: 0.1, replaced: 0.001, pictures: 0.1 },
    ...{ cells: 1, severed: 0.01, objects: 0.5 },
  };
  expectMore(runSeeds("failover"), least);
}, 300_000);

test("one seed is one run", () => {
  expect(simulateFailover(3)).toEqual(simulateFailover(3, { trace: () => {} }));
});

type Arguments = ConstructorParameters<typeof Replica>;

/** A replica that says something else of where it is. */
const positionThat = (change: (position: ResumeRequest) => Partial<ResumeRequest>): FailoverOptions => ({
  makeReplica: (...args: Arguments) =>
    new (class extends Replica {
      override get position(): ResumeRequest {
        const position = super.position;
        return { ...position, ...change(position) };
      }
    })(...args),
});

/** A replica that hears something else of how much of its own is ordered. */
const resumedThat = (change: (resumed: ResumeReply) => Partial<ResumeReply>): FailoverOptions => ({
  makeReplica: (...args: Arguments) =>
    new (class extends Replica {
      override resumed(resumed: ResumeReply): void {
        super.resumed({ ...resumed, ...change(resumed) });
      }
    })(...args),
});

/** A replica whose state goes through `keep`. */
const stateThat = (keep: (frame: Uint8Array) => boolean): FailoverOptions => ({
  makeReplica: (...args: Arguments) =>
    new (class extends Replica {
      override *state(): Generator<Uint8Array> {
        for (const frame of super.state()) if (keep(frame)) yield frame;
      }
    })(...args),
});

/** The JSON in a STATE frame. */
function bodyOf(frame: Uint8Array): string {
  return bodyText(frame, HEADER_SIZE, viewOf(frame).getUint32(StateAt.pieceLength, true));
}

/** A replica that says something else in its state. */
const stateThatSays = (change: (state: NodeState) => NodeState): FailoverOptions => ({
  makeReplica: (...args: Arguments) =>
    new (class extends Replica {
      override *state(): Generator<Uint8Array> {
        const frames = [...super.state()];
        const session = frames.filter((frame) => frame[5] === StateOp.SESSION);
        const state = JSON.parse(session.map((frame) => bodyOf(frame)).join("")) as NodeState;
        yield encode({ kind: Kind.STATE, op: StateOp.SESSION, body: encodeJson(change(state)) });
        yield* frames.slice(session.length);
      }
    })(...args),
});

describe("the simulator notices a replica that", () => {
  const broken: [string, FailoverOptions][] = [
    ["passes on one proposal too few", resumedThat(({ ordered }) => ({ ordered: ordered + 1 }))],
    ["goes on behind an entry it has not got", positionThat(({ seq }) => ({ seq: seq + 1 }))],
    ["goes on before an entry it has applied", positionThat(({ seq }) => ({ seq: Math.max(0, seq - 1) }))],
    [
      "says that it has applied less than it has",
      positionThat(({ applied }) => ({ applied: Math.max(0, applied - 3) })),
    ],
    ["knows of no other nodes", positionThat(({ node }) => ({ nodes: [node] }))],
    ["assumes that no unknown node may come", positionThat(() => ({ joining: false }))],
    ["hands over no counts", stateThatSays(({ activity: _, ...state }) => state)],
    [
      "hands over counts of which an entry is missing",
      stateThatSays(({ activity, ...state }) => {
        const ranks = activity?.ranks.map((rank) => ({ ...rank, entries: Math.max(0, rank.entries - 1) }));
        return activity === undefined || ranks === undefined ? state : { ...state, activity: { ...activity, ranks } };
      }),
    ],
    ["hands over a map with holes", stateThat((frame) => frame[4] !== Kind.STATE || frame[5] !== StateOp.MAP)],
    [
      "keeps half of an entry of a connection that broke",
      {
        makeReplica: (...args) =>
          new (class extends Replica {
            override interrupted(): void {}
          })(...args),
      },
    ],
  ];
  test.each(broken)(
    "%s",
    (_name, options) => {
      let caught = 0;
      for (let seed = 0; seed < 400 && caught === 0; seed += 1) {
        try {
          simulateFailover(seed, options);
        } catch {
          caught += 1;
        }
      }
      expect(caught).toBeGreaterThan(0);
    },
    60_000,
  );
});

describe("the simulator notices, of leases, that", () => {
  const plants: [string, () => { mockRestore(): void }][] = [
    [
      "a process takes a lock by its cell when its time is over",
      () => spyOn(GateCell.prototype, "isOpen").mockImplementation(() => true),
    ],
    [
      "a server gives up a node that may still use its leases",
      () => spyOn(Locks.prototype, "lessees").mockImplementation(() => new Set()),
    ],
    [
      "an arbiter does not say who has a lock by its cell",
      () => spyOn(LockCells.prototype, "take").mockImplementation(() => -1),
    ],
    [
      "an arbiter does not give back what is recalled",
      () => spyOn(Leases.prototype, "settle").mockImplementation(() => {}),
    ],
  ];
  test.each(plants)(
    "%s",
    (_name, plant) => {
      const planted = plant();
      let caught = 0;
      try {
        for (let seed = 0; seed < 1500 && caught === 0; seed += 1) {
          try {
            simulateFailover(seed);
          } catch {
            caught += 1;
          }
        }
      } finally {
        planted.mockRestore();
      }
      expect(caught).toBe(1);
    },
    300_000,
  );
});
