/** A server that takes over: what a node hands over is taken whole and checked, or that node counts as lost. */
import { describe, expect, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import { ADDRESS_FIRST, ADDRESS_STRIDE, EPOCH_MAX } from "../../src/core/base/limits.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import type { NodeHello } from "../../src/core/messages/node-handshake.ts";
import type { NodeState } from "../../src/core/messages/node-state.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { Activity } from "../../src/core/observe/activity.ts";
import { type Recovered, Recovery } from "../../src/core/sequencer/recovery.ts";
import { Sequencer } from "../../src/core/sequencer/sequencer.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { encode, encodeJson, encodeText } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind, StateOp } from "../../src/core/wire/kinds.ts";
import { mayBeLeftOut, type Path, paths, replaced, valueAt } from "../support/core-lies.ts";

const SIZE = 8192;
const config: SessionConfig = {
  ...{ name: "s", instance: "0123456789abcdef", processes: 2, size: SIZE, base: ADDRESS_FIRST },
  ...{ order: "sequential", onLoss: "continue" },
};

/** What a node of a session with something of everything hands over. */
function nodeState(): NodeState {
  const activity = new Activity(SIZE, 1000);
  const session = new Session(config, new MapBytes(new Uint8Array(SIZE)), NO_EFFECTS);
  const apply = (frame: Parameters<typeof encode>[0]): void => {
    activity.apply(session, new DataView(encode(frame).buffer), 0);
  };
  for (let rank = 0; rank < 2; rank += 1) {
    apply({ kind: Kind.JOIN, node: 1 + rank, tag: rank, offset: 100 + rank, body: encodeText("n") });
  }
  apply({ kind: Kind.SEM_WAIT, node: 1, tag: 7, rank: 0, body: encodeText("turn") });
  apply({ kind: Kind.FUTEX_WAIT, node: 2, tag: 8, rank: 1, offset: 8, length: 8, body: new Uint8Array(8) });
  const snapshot = session.state();
  const counted = activity.save(snapshot);
  return { snapshot, starts: [0], base: snapshot.seq, ...(counted && { activity: counted }) };
}

function hello(node: number, applied: number): NodeHello {
  return {
    ...{ session: "s", node: `n${node}`, processes: 0, size: 0, order: "", onLoss: "" },
    ...{ secret: "x", reconnectMs: 1000, heartbeatMs: 1000, process: "" },
    resume: {
      ...{ instance: config.instance, node, seq: applied, applied, epoch: 1, promised: 1 },
      ...{ whole: true, nodes: [1, 2], joining: false },
    },
  };
}

interface Successor {
  recovery: Recovery;
  /** Frames that the link was sent. */
  sent(link: number): Uint8Array[];
  taken(): Recovered | null;
}

/** A server for epoch 2 to which nodes 1 and 2 have come by links of these numbers; node 1 is farther. */
function successor(): Successor {
  const sent = new Map<number, Uint8Array[]>();
  let taken: Recovered | null = null;
  const memory = new Uint8Array(SIZE);
  const send = (link: number, bytes: Uint8Array): void => {
    sent.set(link, [...(sent.get(link) ?? []), bytes]);
  };
  const recovery = new Recovery({ config, epoch: 2, predecessorIsDead: true }, memory, {
    ...{ send, close() {}, drop() {}, waits() {}, failed() {}, stop() {} },
    recovered(recovered, greetings) {
      taken = recovered;
      const out = {
        onDisconnected() {},
        onReturnedOrEvicted() {},
        welcomed() {},
        replaced() {},
        ended() {},
        onPeerMapped() {},
        close() {},
        drop() {},
      };
      const output = { ...out, send, sharing: () => null, broadcast: () => {}, stop() {} };
      const sequencer = new Sequencer(config, memory, output, { recovered });
      for (const id of greetings.keys()) sequencer.connect(id);
      for (const [id, greeting] of greetings) sequencer.receive(id, greeting);
      for (const id of greetings.keys()) sequencer.disconnect(id);
      for (const node of [1, 2]) sequencer.evict(node);
    },
  });
  const { seq } = nodeState().snapshot;
  for (const node of [1, 2]) {
    recovery.connect(node);
    recovery.receive(node, encodeHandshake(Kind.HELLO, encodeJson(hello(node, node === 1 ? seq : seq - 1))));
  }
  return { recovery, sent: (link) => sent.get(link) ?? [], taken: () => taken };
}

function handOver(recovery: Recovery, link: number, state: string): void {
  recovery.receive(link, encode({ kind: Kind.STATE, op: StateOp.SESSION, body: encodeText(state) }));
  recovery.receive(link, encode({ kind: Kind.STATE, op: StateOp.LAST }));
}

const last = (frames: Uint8Array[]): number[] => [...(frames.at(-1)?.subarray(4, 6) ?? [])];

function expectRefused(state: string): void {
  const { recovery, sent, taken } = successor();
  handOver(recovery, 1, state);
  expect(last(sent(1))).toEqual([Kind.FAIL, Status.PROTOCOL]);
  expect(taken()).toBeNull();
  // The other node is asked for its state instead.
  expect(last(sent(2))).toEqual([Kind.STATE, 0]);
}

test("what a node hands over is taken as it is", () => {
  const { recovery, taken } = successor();
  const state = nodeState();
  handOver(recovery, 1, JSON.stringify(state));
  const { snapshot, activity } = state;
  expect(activity?.waitedMs).toEqual([0, 0]);
  expect(taken()).toMatchObject({ snapshot, activity, starts: [0, snapshot.seq], epoch: 2 });
});

describe("a state with a lie is refused, and another node's is taken:", () => {
  for (const path of paths(nodeState())) {
    test(path.join(".") || "all of it", () => {
      const value = valueAt(nodeState(), path);
      for (const lie of [undefined, null, -2, 0.5, 2 ** 60, {}, "\u0007", "\u0085", true]) {
        if (typeof lie === "boolean" && typeof value === "boolean") continue;
        if (lie === undefined && mayBeLeftOut(path)) continue;
        expectRefused(replaced(nodeState(), path, lie));
      }
    });
  }

  for (const [what, path, lie] of [
    ["of another session", ["snapshot", "config", "name"], "t"],
    ["of another run of it", ["snapshot", "config", "instance"], "fedcba9876543210"],
    ["for more processes", ["snapshot", "config", "processes"], 3],
    ["of a larger map", ["snapshot", "config", "size"], 2 * SIZE],
    ["at another address", ["snapshot", "config", "base"], ADDRESS_FIRST + ADDRESS_STRIDE],
    ["of another order", ["snapshot", "config", "order"], "release"],
    ["that answers losses otherwise", ["snapshot", "config", "onLoss"], "fail"],
    ["of an elastic session", ["snapshot", "config", "elastic"], true],
    ["with no epoch", ["starts"], []],
    ["with epochs to come", ["starts"], [0, 1, 2]],
    ["with epochs that go back", ["starts"], [1, 0]],
    ["with more epochs than there are", ["starts"], Array(EPOCH_MAX + 1).fill(0)],
    ["with entries behind its end", ["base"], 9],
    ["with a wait of which no age is told", ["activity", "waitedMs"], [1]],
    ["with entries that do not come", ["base"], 0],
    ["with two processes of one rank", ["snapshot", "processes", 1, "rank"], 0],
    ["with a control character in a node's name", ["snapshot", "processes", 0, "nodeName"], "n\u001b[2J"],
  ] as [string, Path, unknown][]) {
    test(what, () => expectRefused(replaced(nodeState(), path, lie)));
  }

  test("with two semaphores of one name", () => {
    const state = nodeState();
    const [turn] = state.snapshot.semaphores;
    if (turn !== undefined) state.snapshot.semaphores.push({ ...turn, waiters: [] });
    expect(state.snapshot.semaphores).toHaveLength(2);
    expectRefused(JSON.stringify(state));
  });

  test("no JSON", () => {
    for (const text of ["", "{", "[]", "7", "null"]) expectRefused(text);
  });
});

test("a node whose state was damaged is not taken back", () => {
  const { recovery, sent } = successor();
  handOver(recovery, 1, "{}");
  recovery.connect(3);
  recovery.receive(3, encodeHandshake(Kind.HELLO, encodeJson(hello(1, 4))));
  expect(last(sent(3))).toEqual([Kind.FAIL, Status.REFUSED]);
});

test("a server that may not go on without all nodes says which have come back", () => {
  const sent: Uint8Array[] = [];
  const failures: string[] = [];
  const recovery = new Recovery({ config, epoch: 2, predecessorIsDead: false }, new Uint8Array(SIZE), {
    ...{ send: (_: number, bytes: Uint8Array) => sent.push(bytes), close() {}, drop() {}, waits() {}, stop() {} },
    failed: (why) => failures.push(why),
    recovered() {
      throw new Error("it must not go on");
    },
  });
  recovery.connect(1);
  recovery.receive(1, encodeHandshake(Kind.HELLO, encodeJson(hello(1, 5))));
  recovery.onTimeout();
  const why = 'of its 2 nodes only "n1" came back, and the server before may still serve the others';
  expect(failures).toEqual([why]);
  expect(Buffer.concat(sent).toString()).toContain(`session "s" cannot go on after the loss of its server: ${why}`);
});
