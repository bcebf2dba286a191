/** What outlives a session: its image, and how nodes and readers get the bytes of its map. */
import { describe, expect, test } from "bun:test";
import { slotOf } from "../../src/core/base/addresses.ts";
import { DsmError } from "../../src/core/base/errors.ts";
import { PAGE_SIZE, SNAPSHOTS_MAX, WELCOME_MAX } from "../../src/core/base/limits.ts";
import { objectName } from "../../src/core/base/names.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { MapSnapshot } from "../../src/core/memory/map-snapshot.ts";
import { parseSavedSession, type SavedSession } from "../../src/core/messages/saved-session.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { bodyText, encode, encodeText } from "../../src/core/wire/frame.ts";
import { FrameReader } from "../../src/core/wire/frame-reader.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { Cluster, type Pipe, processHello } from "../support/core-cluster.ts";

const config: SessionConfig = {
  name: "s",
  instance: "1",
  processes: 2,
  size: 256 * PAGE_SIZE,
  base: 0x2000_0000_0000,
  order: "sequential",
  onLoss: "continue",
};

const image: SavedSession = {
  config,
  seq: 99,
  semaphores: [{ name: "gate", value: 3 }],
  locks: [
    { name: "clean", died: -1 },
    { name: "dirty", died: 1 },
    { name: objectName("mutex", 64), died: 0 },
  ],
  rwLocks: [{ offset: 128, died: 1 }],
  blocks: [
    { offset: 0, size: 64, name: "grid" },
    { offset: 64, size: 10, name: "" },
  ],
};

/** A cluster whose session begins with the image. */
function restored(): Cluster {
  const cluster = new Cluster(config);
  for (let at = 0; at < config.size; at += 1000) cluster.memory[at] = (at % 251) + 1;
  cluster.sequencer.session.adopt(image);
  return cluster;
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

describe("a node that joins a restored session", () => {
  test("has its bytes and its state before its first process can be let in", () => {
    const cluster = restored();
    const node = cluster.node("a");
    const down = cluster.pipes.find(({ name }) => name === "a down") as Pipe;
    cluster.settle((pipe) => pipe === down);
    while (node.replica === null) down.deliver(100);
    expect(node.replica.ready).toBe(false);
    cluster.settle();
    expect(node.replica.ready).toBe(true);
    expect(same(node.memory, cluster.memory)).toBe(true);
    const { session } = node.replica;
    expect(session.semaphores()).toEqual([{ name: "gate", value: 3, waiters: [] }]);
    expect(session.save()).toEqual({ ...image, seq: 0 });
    expect(session.state()).toEqual(cluster.sequencer.session.state());
  });

  test("does not get them once the session runs: it has no processes there", () => {
    const cluster = restored();
    const node = cluster.node("a");
    cluster.settle();
    for (const pid of [1, 2]) {
      node
        .connect(
          `p${pid}`,
          () => {},
          () => {},
        )
        .up.push(processHello("s", pid));
    }
    cluster.settle();
    expect(cluster.sequencer.session.phase).toBe("running");
    const late = cluster.node("b");
    cluster.settle();
    expect(late.replica?.ready).toBe(true);
    expect(late.memory.some((byte) => byte !== 0)).toBe(false);
  });

  test("takes no entry before the map, no map that was not requested, and none that is damaged", () => {
    const piece = new MapSnapshot(new MapBytes(new Uint8Array(config.size).fill(1)), 0).next() as Uint8Array;
    const damaged = piece.slice();
    damaged[5] = 7;
    const join = encode({ kind: Kind.JOIN, seq: 1, node: 9, body: encodeText("x") });
    for (const [cluster, frames, fault] of [
      [restored(), [join], /comes before the map/],
      [restored(), [damaged], /no such flag/],
      [new Cluster(config), [piece], /was not requested/],
    ] as const) {
      const node = cluster.node("a");
      const down = cluster.pipes.find(({ name }) => name === "a down") as Pipe;
      cluster.settle((pipe) => pipe === down);
      while (node.replica === null) down.deliver(1);
      for (const frame of frames) expect(() => node.replica?.receiveEntries(frame)).toThrow(fault);
    }
  });
});

describe("a snapshot", () => {
  /** A client that requests one, and all that it has received. */
  function reader(cluster: Cluster): { up: Pipe; frames: Uint8Array[]; id: number; closed: () => boolean } {
    const frames: Uint8Array[] = [];
    let closed = false;
    const cutter = new FrameReader(WELCOME_MAX);
    const up = cluster.link(
      "reader",
      (chunk) =>
        cutter.push(chunk, (_view, at, size, bytes) => frames.push(new Uint8Array(bytes.subarray(at, at + size)))),
      () => {
        closed = true;
      },
    );
    up.push(encodeHandshake(Kind.SNAPSHOT, new Uint8Array(0)));
    cluster.settle();
    return { up, frames, id: cluster.lastLink, closed: () => closed };
  }

  test("is the session at one place of the order, whatever is stored while it is taken", () => {
    const cluster = restored();
    const node = cluster.node("a");
    cluster.settle();
    const channels = [1, 2].map((pid) =>
      node.connect(
        `p${pid}`,
        () => {},
        () => {},
      ),
    );
    for (const [i, { up }] of channels.entries()) up.push(processHello("s", i + 1, { noDirect: true }));
    cluster.settle();
    const before = cluster.memory.slice();
    const { frames, id } = reader(cluster);
    expect(frames.map((frame) => frame[4])).toEqual([Kind.REPLY]);
    const reply = frames.shift() as Uint8Array;
    const saved = parseSavedSession(
      JSON.parse(bodyText(reply, HEADER_SIZE, reply.length - HEADER_SIZE).replace(/\0+$/, "")),
    );
    expect(saved).toEqual({ ...image, seq: 2 });
    for (let piece = 0, more = true; more; piece += 1) {
      for (const offset of [piece * 5000, config.size - 8 - piece * 9000]) {
        channels[0]?.up.push(encode({ kind: Kind.STORE, tag: piece, offset, body: new Uint8Array(8).fill(0xee) }));
      }
      cluster.settle();
      more = cluster.sequencer.sendSnapshotPiece(id);
      cluster.settle();
    }
    const memory = new MapBytes(new Uint8Array(config.size));
    for (const frame of frames) memory.publish(new DataView(frame.buffer), HEADER_SIZE, frame.length);
    expect(same(memory.bytes, before)).toBe(true);
    expect(same(cluster.memory, before)).toBe(false);
    expect(cluster.sequencer.hasSnapshot(id)).toBe(false);
  });

  test("one a connection, few at once, and none of a session in direct mode", () => {
    const cluster = restored();
    const readers = Array.from({ length: SNAPSHOTS_MAX }, () => reader(cluster));
    const [first] = readers;
    const refused = reader(cluster);
    expect(bodyText(refused.frames[0] as Uint8Array, HEADER_SIZE, 60)).toContain("snapshots of the session are being");
    first?.up.push(encodeHandshake(Kind.HELLO, new Uint8Array(0)));
    cluster.settle();
    expect(bodyText(first?.frames[1] as Uint8Array, HEADER_SIZE, 60)).toContain("a snapshot is under way");
    // Its place is free again, and so is that of one who goes away.
    readers[1]?.up.end();
    cluster.settle();
    for (const more of [reader(cluster), reader(cluster)]) expect(more.frames[0]?.[4]).toBe(Kind.REPLY);

    const direct = new Cluster({ ...config, processes: 1 });
    const node = direct.node("a");
    direct.settle();
    node
      .connect(
        "p",
        () => {},
        () => {},
      )
      .up.push(processHello("s", 1));
    direct.settle();
    expect(direct.sequencer.session.direct).toBe(true);
    expect(bodyText(reader(direct).frames[0] as Uint8Array, HEADER_SIZE, 40)).toContain("in direct mode");
  });
});

describe("an image", () => {
  test("comes back as it was", () => {
    expect(parseSavedSession(JSON.parse(JSON.stringify(image)))).toEqual(image);
    expect(slotOf(config.base)).toBe(0);
  });

  test("of an elastic session may name a rank above the processes it began with", () => {
    const elastic = { ...image, config: { ...config, elastic: true }, locks: [{ name: "a", died: 1023 }] };
    expect(parseSavedSession(JSON.parse(JSON.stringify(elastic)))).toEqual(elastic);
  });

  const wrong: [string, (value: Record<string, never> & SavedSession) => unknown][] = [
    ["nothing", () => null],
    ["a list", () => []],
    ["no settings", (value) => ({ ...value, config: 1 })],
    ["a bad name", (value) => ({ ...value, config: { ...config, name: "a/b" } })],
    ["no processes", (value) => ({ ...value, config: { ...config, processes: 0 } })],
    ["half a page", (value) => ({ ...value, config: { ...config, size: 5000 } })],
    ["an invalid size", (value) => ({ ...value, config: { ...config, size: "big" } })],
    ["an address no map has", (value) => ({ ...value, config: { ...config, base: 4096 } })],
    ["an order there is not", (value) => ({ ...value, config: { ...config, order: "some" } })],
    ["an answer to losses there is not", (value) => ({ ...value, config: { ...config, onLoss: "shrug" } })],
    ["a semaphore below 0", (value) => ({ ...value, semaphores: [{ name: "a", value: -1 }] })],
    ["two semaphores of one name", (value) => ({ ...value, semaphores: [...image.semaphores, ...image.semaphores] })],
    ["a lock that a rank had which is none", (value) => ({ ...value, locks: [{ name: "a", died: 2 }] })],
    ["a block outside the map", (value) => ({ ...value, blocks: [{ offset: 0, size: config.size + 1, name: "" }] })],
    ["blocks that overlap", (value) => ({ ...value, blocks: [image.blocks[0], { offset: 63, size: 1, name: "" }] })],
    ["an empty block", (value) => ({ ...value, blocks: [{ offset: 0, size: 0, name: "" }] })],
    ["no place in the order", (value) => ({ ...value, seq: -1 })],
  ];
  test.each(wrong)("with %s is refused", (_what, change) => {
    expect(() => parseSavedSession(change(structuredClone(image) as never))).toThrow(DsmError);
  });
});
