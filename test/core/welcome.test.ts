/** A welcome is taken whole or not at all, whatever part of it lies. */

import { describe, expect, test } from "bun:test";
import { addressOf } from "../../src/core/base/addresses.ts";
import {
  ADDRESS_FIRST,
  ADDRESS_SLOTS,
  ADDRESS_STRIDE,
  BLOCKS_MAX,
  EPOCH_MAX,
  HEAT_CELLS_MAX,
  LEASE_STREAK,
  LOCKS_MAX,
  NAME_MAX,
  NODE_NUMBER_MAX,
  PROCESSES_MAX,
  READERS_MAX,
  RW_LOCKS_MAX,
  SEMAPHORE_VALUE_MAX,
  SIZE_MAX,
  WAITING_JOINS_MAX,
  WAITING_MAX,
  WELCOME_MAX,
} from "../../src/core/base/limits.ts";
import { objectName } from "../../src/core/base/names.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { type ActivityState, heatCellSize, waitingRequests } from "../../src/core/messages/activity-state.ts";
import type { NodeHello, Welcome } from "../../src/core/messages/node-handshake.ts";
import { LOCKS_LISTED_MAX, SEMAPHORES_LISTED_MAX, type SessionState } from "../../src/core/messages/session-state.ts";
import { parseResumed, parseWelcome } from "../../src/core/messages/welcome.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, encodeJson, encodeText, ProtocolError } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { mayBeLeftOut, type Path, paths, replaced, valueAt } from "../support/core-lies.ts";

const SIZE = 8192;
const hello: NodeHello = {
  ...{ session: "s", node: "n", processes: 0, size: 0, order: "", onLoss: "" },
  ...{ secret: "", reconnectMs: 0, heartbeatMs: 0, process: "", resume: null },
};

/** What may have been counted for that state. */
function activityOf(snapshot: SessionState): ActivityState {
  const cell = heatCellSize(SIZE);
  return {
    runningMs: 5000,
    ranks: snapshot.processes.map(({ rank }) => ({ rank, entries: 3, bytes: 8, changedMs: 70, wroteMs: -1 })),
    waitedMs: [...waitingRequests(snapshot)].map((_, index) => index),
    heat: { cell, writers: Array(SIZE / cell).fill(-1), writes: Array(SIZE / cell).fill(0) },
  };
}

/** A session with something of everything in it, as its server would send it. */
function welcome(): Welcome {
  const config = { name: "s", instance: "0123456789abcdef", processes: 3, size: SIZE, base: ADDRESS_FIRST };
  const session = new Session(
    { ...config, order: "sequential", onLoss: "fail" },
    new MapBytes(new Uint8Array(SIZE)),
    NO_EFFECTS,
  );
  const apply = (frame: Parameters<typeof encode>[0]): void => {
    session.apply(new DataView(encode(frame).buffer), 0);
  };
  for (let rank = 0; rank < 3; rank += 1) {
    apply({ kind: Kind.JOIN, node: 1 + rank, tag: rank, offset: 100 + rank, body: encodeText("n") });
  }
  apply({ kind: Kind.SEM_WAIT, node: 1, tag: 7, rank: 0, body: encodeText("turn") });
  apply({ kind: Kind.FUTEX_WAIT, node: 2, tag: 8, rank: 1, offset: 8, length: 8, body: new Uint8Array(8) });
  for (const [mutex, tag] of [
    [64, 20],
    [72, 21],
  ] as const) {
    apply({ kind: Kind.LOCK, node: 1, tag, rank: 0, body: encodeText(objectName("mutex", mutex)) });
  }
  apply({ kind: Kind.COND_WAIT, node: 1, tag: 22, rank: 0, offset: 128, body: encodeText(objectName("mutex", 64)) });
  apply({ kind: Kind.LOCK, node: 2, tag: 23, rank: 1, body: encodeText(objectName("mutex", 72)) });
  for (const [rank, aux] of [0, 0, 1].entries())
    apply({ kind: Kind.RW_LOCK, node: 1 + rank, tag: 24, rank, offset: 192, aux });
  apply({ kind: Kind.ARRIVE, node: 2, tag: 25, rank: 1, offset: 256, aux: 4 });
  apply({ kind: Kind.ALLOC, node: 3, tag: 9, rank: 2, offset: 100, aux: 8 });
  apply({ kind: Kind.NAMED, node: 3, tag: 9, rank: 2, offset: 100, aux: 64, body: encodeText("grid") });
  apply({ kind: Kind.BARRIER, node: 3, tag: 10, rank: 2 });
  apply({ kind: Kind.LEAVE, op: 0, node: 3, tag: 11, rank: 2 });
  apply({ kind: Kind.JOIN, node: 3, tag: 12, offset: 103, body: encodeText("n") });
  const snapshot = session.state();
  const activity = activityOf(snapshot);
  return { node: 4, snapshot, epoch: 1, starts: [0], base: 0, activity };
}

test("what a server sends is taken as it is", () => {
  const sent = welcome();
  const { semaphores, sleepers, blocks, waitingJoins, processes } = sent.snapshot;
  const { locks, conditions, rwLocks, countedBarriers } = sent.snapshot;
  const named = [semaphores, sleepers, blocks, waitingJoins, processes];
  const objects = [locks, conditions, rwLocks, countedBarriers];
  expect([...named, ...objects].map(({ length }) => length)).toEqual([1, 1, 2, 1, 3, 2, 1, 1, 1]);
  expect(parseWelcome(JSON.stringify(sent), hello)).toEqual(sent);
});

describe("a lie in its place is found:", () => {
  for (const path of paths(welcome())) {
    // Of the cells of the map two stand for all.
    if (typeof path.at(-1) === "number" && (path.at(-1) as number) > 1 && path.includes("heat")) continue;
    test(path.join(".") || "all of it", () => {
      for (const lie of [undefined, null, -2, 0.5, 2 ** 60, {}, "\u0007", true]) {
        const value = valueAt(welcome(), path);
        // Both are possible there.
        if (lie === true && typeof value === "boolean") continue;
        if (lie === undefined && mayBeLeftOut(path)) continue;
        const text = replaced(welcome(), path, lie);
        expect(() => parseWelcome(text, hello)).toThrow(ProtocolError);
      }
    });
  }

  for (const [what, path, lie] of [
    ["another session", ["snapshot", "config", "name"], "t"],
    ["half a page", ["snapshot", "config", "size"], 6000],
    ["a map larger than any", ["snapshot", "config", "size"], 2 ** 33],
    ["a base between two slots", ["snapshot", "config", "base"], ADDRESS_FIRST + 4096],
    ["a base beyond the last slot", ["snapshot", "config", "base"], ADDRESS_FIRST + 512 * ADDRESS_STRIDE],
    ["a rank too high", ["snapshot", "processes", 0, "rank"], 3],
    ["more processes than there are", ["snapshot", "processes"], Array(4).fill({})],
    ["a block across the end", ["snapshot", "blocks", 1, "size"], SIZE],
    ["blocks over each other", ["snapshot", "blocks", 1, "offset"], 8],
    ["a sleeper outside", ["snapshot", "sleepers", 0, "offset"], SIZE],
    ["a mutex outside", ["snapshot", "locks", 0, "name"], objectName("mutex", SIZE)],
    ["a mutex between two words", ["snapshot", "locks", 0, "name"], objectName("mutex", 4)],
    ["a semaphore among the locks", ["snapshot", "locks", 0, "name"], objectName("semaphore", 64)],
    ["a condition outside", ["snapshot", "conditions", 0, "offset"], SIZE],
    ["a reader-writer lock read and written", ["snapshot", "rwLocks", 0, "writer"], 1],
    ["a barrier at which all have arrived", ["snapshot", "countedBarriers", 0, "count"], 1],
    ["a wait too few", ["activity", "waitedMs"], [1]],
    ["counts of a rank twice", ["activity", "ranks", 0, "rank"], 1],
    ["cells of another map", ["activity", "heat", "cell"], 128],
    ["fewer cells than the map has", ["activity", "heat"], { cell: 64, writers: [0], writes: [1] }],
    ["a writer that can be no rank", ["activity", "heat", "writers", 0], PROCESSES_MAX],
  ] as [string, Path, unknown][]) {
    test(what, () => {
      expect(() => parseWelcome(replaced(welcome(), path, lie), hello)).toThrow(ProtocolError);
    });
  }

  test("no JSON", () => {
    for (const text of ["", "{", "[]", "7", "null"]) expect(() => parseWelcome(text, hello)).toThrow(ProtocolError);
  });
});

test("so is the answer to a node that came back", () => {
  const resumed = { node: 4, ordered: 7, epoch: 2, starts: [0, 5] };
  expect(parseResumed(JSON.stringify(resumed))).toEqual(resumed);
  for (const field of Object.keys(resumed)) {
    for (const lie of [undefined, null, -2, 0.5, 2 ** 60, {}, "7", true, [null], [-1], [0.5]]) {
      expect(() => parseResumed(JSON.stringify({ ...resumed, [field]: lie }))).toThrow(ProtocolError);
    }
  }
  for (const text of ["", "{", "[]", "7", "null"]) expect(() => parseResumed(text)).toThrow(ProtocolError);
});

test("the welcome of a session at all its limits fits its frame, and is taken", () => {
  // Quotes take two bytes in JSON.
  const name = (number: number): string => String(number).padStart(NAME_MAX, '"');
  const waiter = (number: number) => ({ node: NODE_NUMBER_MAX, tag: 0xffff_ffff - number, rank: PROCESSES_MAX - 1 });
  const list = <Value>(length: number, make: (number: number) => Value): Value[] =>
    Array.from({ length }, (_, number) => make(number));
  const most = Number.MAX_SAFE_INTEGER;
  const all: Welcome = {
    ...{ node: NODE_NUMBER_MAX, epoch: EPOCH_MAX, starts: list(EPOCH_MAX, () => most), base: most },
    snapshot: {
      config: {
        ...{ name: name(0), instance: "0".repeat(64), processes: PROCESSES_MAX, size: SIZE_MAX },
        ...{ base: addressOf(ADDRESS_SLOTS - 1), order: "sequential", onLoss: "continue" },
        elastic: true,
      },
      ...{ phase: "running", seq: most, published: most, barriers: most, lostRank: PROCESSES_MAX - 1 },
      ...{ direct: false, copying: false, mayBeDirect: false, restored: false },
      processes: list(PROCESSES_MAX, (rank) => ({
        ...{ rank, node: NODE_NUMBER_MAX, nodeName: name(rank), pid: 0xffff_ffff, state: "running" as const },
        ...{ joinTag: 0xffff_ffff, barrierTag: 0xffff_ffff, waitsSince: most, gaveUpAt: most },
      })),
      semaphores: list(SEMAPHORES_LISTED_MAX, (n) => ({ name: name(n), value: SEMAPHORE_VALUE_MAX, waiters: [] })),
      // The longest way to wait: each for a mutex of its own, beyond the limit, on the way back from a condition.
      locks: list(LOCKS_LISTED_MAX, (n) => ({
        name: n < LOCKS_MAX ? name(n) : objectName("mutex", SIZE_MAX - 8 * n),
        owner: PROCESSES_MAX - 1,
        died: PROCESSES_MAX - 1,
        waiters:
          n < LOCKS_LISTED_MAX - WAITING_MAX ? [] : [{ ...waiter(n), tryOnly: false, condition: most, outcome: 255 }],
        ...{ lease: -1, lastNode: 0xffff_ffff, streak: LEASE_STREAK, isReset: false },
      })),
      conditions: [],
      rwLocks: list(RW_LOCKS_MAX, (n) => ({
        ...{ offset: SIZE_MAX - 8 * (n + 1), writer: -1, died: PROCESSES_MAX - 1, overtakes: 0, waiters: [] },
        readers: list((READERS_MAX + WAITING_MAX) / RW_LOCKS_MAX, (rank) => ({ rank: rank + 990, reads: most })),
      })),
      countedBarriers: [],
      sleepers: [],
      blocks: list(BLOCKS_MAX, (n) => ({ offset: SIZE_MAX - 0xffff * (BLOCKS_MAX - n), size: 0xffff, name: name(n) })),
      waitingJoins: list(WAITING_JOINS_MAX, waiter),
      withdrawals: list(PROCESSES_MAX, (rank) => ({ rank, gaveUpAt: most })),
      moment: most,
      ordered: list(NODE_NUMBER_MAX + 1, () => most),
    },
    activity: {
      runningMs: most,
      ranks: list(PROCESSES_MAX, (rank) => ({ rank, entries: most, bytes: most, changedMs: most, wroteMs: most })),
      // Every process is in the barrier, too.
      waitedMs: list(WAITING_MAX + PROCESSES_MAX, () => most),
      heat: {
        cell: SIZE_MAX / HEAT_CELLS_MAX,
        writers: list(HEAT_CELLS_MAX, () => PROCESSES_MAX - 1),
        writes: list(HEAT_CELLS_MAX, () => most),
      },
    },
  };
  const body = encodeJson(all);
  expect(body.length + HEADER_SIZE).toBeLessThan(WELCOME_MAX);
  expect(parseWelcome(new TextDecoder().decode(body), { ...hello, session: name(0) })).toEqual(all);
}, 60_000);
