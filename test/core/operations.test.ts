/** What becomes of an operation that a node sends to the server: it enters the log, waits, is ignored, or ends the link. */
import { describe, expect, test } from "bun:test";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import type { NodeHello } from "../../src/core/messages/node-handshake.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { Activity } from "../../src/core/observe/activity.ts";
import { DeferredJoins } from "../../src/core/sequencer/deferred-joins.ts";
import { Link } from "../../src/core/sequencer/link.ts";
import { LogWriter } from "../../src/core/sequencer/log-writer.ts";
import { Members } from "../../src/core/sequencer/members.ts";
import { Operations } from "../../src/core/sequencer/operations.ts";
import { RetainedLog } from "../../src/core/sequencer/retained-log.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { At } from "../../src/core/wire/at.ts";
import { encode, encodeText, type Frame } from "../../src/core/wire/frame.ts";
import { PartPool } from "../../src/core/wire/frame-reader.ts";
import { ChangeOp, CopyOp, Kind, NO_TAG, PublishOp } from "../../src/core/wire/kinds.ts";
import { RetainedFrames } from "../../src/core/wire/retained-frames.ts";
import { runs, viewOf } from "../support/core-frames.ts";

const config: SessionConfig = {
  ...{ name: "s", instance: "i", processes: 2, size: 4096, base: 0, order: "sequential", onLoss: "continue" },
};
const hello: NodeHello = {
  ...{ session: "s", node: "", processes: 0, size: 0, order: "", onLoss: "" },
  ...{ secret: "x", reconnectMs: 0, heartbeatMs: 0, process: "", resume: null },
};

class Fixture {
  readonly memory = new Uint8Array(4096);
  readonly session: Session;
  readonly joins = new DeferredJoins();
  readonly operations: Operations;
  /** What links were sent: the link, and kind and op of the frame. */
  readonly sent: number[][] = [];
  /** Kinds of the entries in the log. */
  readonly entries: number[] = [];
  readonly links: Link[];

  /** Links 1 and 2 are the nodes 1 and 2, called a and b. */
  constructor(change: Partial<SessionConfig> = {}) {
    const parts = new PartPool();
    this.session = new Session({ ...config, ...change }, new MapBytes(this.memory), NO_EFFECTS);
    const { session } = this;
    const members = new Members();
    this.links = ["a", "b"].map((node, i) => {
      const link = new Link(i + 1, parts, config.size);
      link.node = members.admit({ ...hello, node }, link.id, 0).node;
      return link;
    });
    const log = new RetainedLog(new RetainedFrames(0, true), {
      broadcast: (bytes, onSent) => {
        const view = viewOf(bytes);
        for (let at = 0; at < bytes.length; at += view.getUint32(at, true))
          this.entries.push(bytes[at + At.kind] as number);
        onSent?.();
      },
    });
    const activity = new Activity(config.size, 0);
    const writer = new LogWriter(session, log, activity, parts, this.joins);
    const out = {
      send: (link: number, bytes: Uint8Array) =>
        this.sent.push([link, bytes[At.kind] as number, bytes[At.op] as number]),
    };
    this.operations = new Operations({ session, members, log, writer, deferredJoins: this.joins, out });
    this.flush = () => log.flush();
  }

  readonly flush: () => void;

  /** Sends what the node's proposal number `seq` asks for, and returns the kinds of the entries so far. */
  send(node: number, seq: number, frame: Frame): number[] {
    const bytes = encode({ rank: node - 1, tag: 1, ...frame, node: frame.node ?? node, seq });
    const link = this.links[node - 1] as Link;
    this.operations.receive(link, frame.kind, viewOf(bytes), 0, bytes.length, bytes, null);
    this.flush();
    return this.entries;
  }

  join(node: number, seq = 1): number[] {
    const name = ["a", "b"][node - 1] as string;
    return this.send(node, seq, { kind: Kind.JOIN, offset: 100 + node, length: name.length, body: encodeText(name) });
  }
}

const store: Frame = { kind: Kind.STORE, offset: 8, length: 1, body: Uint8Array.of(7) };
const part = (op: number): Frame => {
  const body = runs([[16, Uint8Array.of(op + 1)]]);
  return { kind: Kind.PUBLISH, op, length: body.length, body };
};

/** Both nodes have a process. */
function running(change: Partial<SessionConfig> = {}): Fixture {
  const fixture = new Fixture(change);
  fixture.join(1);
  fixture.join(2);
  expect(fixture.session.phase).toBe("running");
  expect(fixture.session.direct).toBe(false);
  fixture.entries.length = 0;
  return fixture;
}

/** Both processes are on node 1, in direct mode. */
function direct(change: Partial<SessionConfig> = {}): Fixture {
  const fixture = new Fixture(change);
  fixture.join(1);
  fixture.send(1, 2, { kind: Kind.JOIN, tag: 2, offset: 102, length: 1, body: encodeText("a") });
  expect(fixture.session.direct).toBe(true);
  fixture.entries.length = 0;
  return fixture;
}

describe("enters the log", () => {
  test("once, in the order of its number", () => {
    const fixture = running();
    expect(fixture.send(1, 2, store)).toEqual([Kind.STORE]);
    expect(fixture.memory[8]).toBe(7);
    // Sent again over another connection.
    expect(fixture.send(1, 2, store)).toEqual([Kind.STORE]);
    expect(fixture.send(1, 3, store)).toEqual([Kind.STORE, Kind.STORE]);
    expect(() => fixture.send(1, 5, store)).toThrow("an operation is missing");
  });

  test("a publication with all its parts, which are in nothing before", () => {
    const fixture = running();
    expect(fixture.send(1, 0, part(PublishOp.PART))).toEqual([]);
    expect(fixture.memory[16]).toBe(0);
    expect(fixture.send(2, 2, store)).toEqual([Kind.STORE]);
    expect(fixture.send(1, 2, part(PublishOp.FINAL))).toEqual([Kind.STORE, Kind.PUBLISH, Kind.PUBLISH]);
    expect(fixture.memory[16]).toBe(PublishOp.FINAL + 1);
  });

  test("not a publication that was abandoned", () => {
    const fixture = running();
    fixture.send(1, 0, part(PublishOp.PART));
    fixture.send(1, 0, { kind: Kind.PUBLISH, op: PublishOp.ABORT });
    expect(fixture.send(1, 2, part(PublishOp.FINAL))).toEqual([Kind.PUBLISH]);
  });

  test("not one of a rank that the node does not have, and its number counts", () => {
    const fixture = running();
    expect(fixture.send(1, 2, { ...store, rank: 1 })).toEqual([]);
    expect(fixture.send(1, 3, store)).toEqual([Kind.STORE]);
  });
});

describe("ends the link", () => {
  test.each([
    ["an operation of another node", { ...store, node: 2 }],
    ["store: ", { ...store, offset: 4096 }],
    ["a process of a node of another name", { kind: Kind.JOIN, length: 1, body: encodeText("b") }],
    ["a copy of a map outside direct mode", { kind: Kind.COPY, op: CopyOp.BEGIN }],
    ["the value of a semaphore outside direct mode", { kind: Kind.SEM_VALUE, tag: NO_TAG, body: encodeText("s") }],
  ])("%s", (words, frame) => {
    const fixture = running();
    expect(() => fixture.send(1, 2, frame)).toThrow(words);
    fixture.flush();
    expect(fixture.entries).toEqual([]);
  });
});

describe("of another node during direct mode", () => {
  test("waits in an elastic session, and the one node is asked to end it", () => {
    const fixture = direct({ elastic: true });
    expect(fixture.join(2)).toEqual([]);
    expect(fixture.joins.isEmpty).toBe(false);
    expect(fixture.sent).toEqual([[1, Kind.CHANGE, ChangeOp.CLOSE]]);
    // The node decides on: its operations enter the log.
    expect(fixture.send(1, 3, store)).toEqual([Kind.STORE]);
    expect(fixture.send(1, 4, { kind: Kind.COPY, op: CopyOp.BEGIN })).toEqual([Kind.STORE, Kind.COPY]);
    expect(fixture.send(1, 5, { kind: Kind.COPY, op: CopyOp.END })).toEqual([
      Kind.STORE,
      Kind.COPY,
      Kind.COPY,
      Kind.JOIN,
    ]);
    expect(fixture.joins.isEmpty).toBe(true);
    expect(fixture.session.direct).toBe(false);
  });

  test("is one too many in a session that is not elastic", () => {
    const fixture = direct();
    expect(() => fixture.join(2)).toThrow("the session has all its processes already; this is one too many");
    expect(fixture.sent).toEqual([]);
  });

  test("waits for the end of a session that some have left", () => {
    const fixture = direct();
    expect(fixture.send(1, 3, { kind: Kind.LEAVE, rank: 1 })).toEqual([Kind.LEAVE]);
    expect(fixture.join(2)).toEqual([Kind.LEAVE]);
    expect(fixture.links.map(({ waitsForEnd }) => waitsForEnd)).toEqual([false, true]);
  });
});

test("nothing happens any more once the session has ended", () => {
  const fixture = running();
  fixture.send(1, 2, { kind: Kind.LEAVE });
  expect(fixture.send(2, 2, { kind: Kind.LEAVE })).toEqual([Kind.LEAVE, Kind.LEAVE]);
  expect(fixture.session.phase).toBe("ended");
  expect(fixture.send(2, 3, store)).toEqual([Kind.LEAVE, Kind.LEAVE]);
});

test("no node is asked to end direct mode while no join waits for that", () => {
  const fixture = direct({ elastic: true });
  fixture.operations.askToEndDirectMode();
  expect(fixture.sent).toEqual([]);
});
