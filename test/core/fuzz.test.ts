/** Random bytes and damaged frames into everything that reads from a connection: only that connection may suffer. */
import { describe, expect, test } from "bun:test";
import { CHANNELS_MAX, FRAME_MAX, GREETING_FRAME_MAX, LINKS_MAX, NODES_MAX } from "../../src/core/base/limits.ts";
import { objectName } from "../../src/core/base/names.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import type { Replica } from "../../src/core/replica/replica.ts";
import { Sequencer } from "../../src/core/sequencer/sequencer.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { checkOperation } from "../../src/core/wire/check-operation.ts";
import { encode, encodeJson, encodeText, type Frame, ProtocolError } from "../../src/core/wire/frame.ts";
import { FrameReader } from "../../src/core/wire/frame-reader.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { AtomicOp, Kind } from "../../src/core/wire/kinds.ts";
import { Cluster, type Node, processHello } from "../support/core-cluster.ts";
import { publication, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";

const SIZE = 4096;
const ROUNDS = 1500;
const config: SessionConfig = {
  name: "s",
  instance: "1",
  processes: 2,
  size: SIZE,
  base: 2 ** 45,
  order: "sequential",
  onLoss: "fail",
};

/** One valid frame of any kind, as a process on node `node` would send it. */
function validFrame(random: Random, node: number): Uint8Array {
  const common = { node, rank: random.below(3), tag: random.below(4) };
  const frames: Frame[] = [
    { kind: Kind.STORE, offset: random.below(64), body: random.bytes(random.between(1, 64)) },
    {
      kind: Kind.ATOMIC,
      op: random.between(1, AtomicOp.NEG),
      length: 8,
      offset: random.below(64),
      body: random.bytes(32),
    },
    publication(
      [
        [random.below(64), random.between(1, 20)],
        [100, 3],
      ],
      { op: random.below(2) },
    ),
    { kind: Kind.BARRIER },
    { kind: Kind.SEM_WAIT, op: random.below(2), aux: random.below(2), body: encodeText("s") },
    { kind: Kind.SEM_POST, offset: 1, body: encodeText("s") },
    { kind: Kind.SEM_CANCEL },
    { kind: Kind.JOIN, offset: 7, body: encodeText("n") },
    { kind: Kind.ALLOC, offset: random.between(1, SIZE), aux: 1 << random.below(13) },
    { kind: Kind.NAMED, offset: 64, aux: 8, body: encodeText("block") },
    { kind: Kind.FREE, offset: random.pick([0, 64, 2000]) },
    { kind: Kind.FUTEX_WAIT, op: random.below(2), offset: 4000, length: 8, body: new Uint8Array(8) },
    { kind: Kind.LOCK, op: random.below(2), body: encodeText("lock") },
    { kind: Kind.UNLOCK, op: random.below(2), body: encodeText("lock") },
    { kind: Kind.RETURN, op: random.below(2), body: encodeText("lock") },
    { kind: Kind.LOCK, op: random.below(2), body: encodeText(objectName("mutex", 64)) },
    { kind: Kind.UNLOCK, body: encodeText(objectName("mutex", 64)) },
    { kind: Kind.SEM_POST, offset: 1, body: encodeText(objectName("semaphore", 72)) },
    { kind: Kind.COND_WAIT, offset: 80, body: encodeText(random.oneIn(2) ? "lock" : objectName("mutex", 64)) },
    { kind: Kind.COND_SIGNAL, offset: 80, aux: random.between(1, 3) },
    { kind: Kind.RW_LOCK, op: random.below(2), aux: random.below(2), offset: 96 },
    { kind: Kind.RW_UNLOCK, op: random.below(2), offset: 96 },
    { kind: Kind.ARRIVE, offset: 104, aux: random.between(1, 3) },
    { kind: Kind.OBJECT_INIT, op: random.between(1, 5), offset: 8 * random.between(8, 13) },
    { kind: Kind.PING, op: random.below(6), aux: random.below(9) },
    { kind: Kind.FUTEX_WAKE, offset: 4000, aux: random.below(3) },
    { kind: Kind.MEMORY },
    { kind: Kind.SHADOW, offset: 0, length: 10, aux: 5 },
    { kind: Kind.UNSHADOW, offset: 0, length: 10, aux: 5 },
    { kind: Kind.REPLY, body: encodeText("why") },
    { kind: Kind.FAIL, body: encodeText("why") },
  ];
  // A LEAVE ends what is tried out; it comes now and then.
  if (random.oneIn(20)) frames.push({ kind: Kind.LEAVE, op: random.below(2) });
  const greetings = [
    encodeHandshake(Kind.HELLO, encodeJson({ session: "s", node: "x", processes: 0, size: 0, order: "" })),
    encodeHandshake(Kind.STATUS, new Uint8Array(0)),
    encodeHandshake(Kind.ATTACH, random.bytes(8)),
    processHello("s", 9),
  ];
  return random.oneIn(6) ? random.pick(greetings) : encode({ ...common, ...random.pick(frames) });
}

/** Damage: bits, bytes, fields with values at the edges, pieces missing or doubled, or nothing but noise. */
function damaged(random: Random, frame: Uint8Array): Uint8Array {
  const bytes = frame.slice();
  switch (random.below(7)) {
    case 0:
      return random.bytes(random.below(200));
    case 1:
      return bytes.subarray(0, random.below(bytes.length));
    case 2:
      return Buffer.concat([bytes, bytes.subarray(random.below(bytes.length))]);
    case 3: {
      const at = 4 * random.below(Math.floor(bytes.length / 4));
      viewOf(bytes).setUint32(at, random.pick([0, 1, 0x7fffffff, 0x80000000, 0xffffffff, SIZE, FRAME_MAX, 48]), true);
      return bytes;
    }
    case 4:
      bytes[random.below(bytes.length)] = random.below(256);
      return bytes;
    case 5:
      bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
      return bytes;
    default:
      return bytes;
  }
}

function pieces(random: Random, bytes: Uint8Array): Uint8Array[] {
  const list: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = random.pick([1, 3, 8, 100, 5000]);
    list.push(Buffer.from(bytes.subarray(at, at + length)));
    at += length;
  }
  return list;
}

test("a FrameReader throws nothing but ProtocolError and keeps less than its limit", () => {
  for (let seed = 0; seed < ROUNDS; seed += 1) {
    const random = new Random(seed);
    const limit = random.pick([GREETING_FRAME_MAX, FRAME_MAX]);
    const reader = new FrameReader(limit);
    try {
      for (let frame = 0; frame < 10; frame += 1) {
        for (const piece of pieces(random, damaged(random, validFrame(random, 1)))) {
          reader.push(piece, (view, at, size, bytes) => {
            if (size < HEADER_SIZE || size > limit || at + size > bytes.length || at + size > view.byteLength) {
              throw new Error("a frame beyond its bytes");
            }
            // Whatever it says of the frame, it looks at nothing outside.
            checkOperation(view, at, SIZE);
          });
          expect(reader.pending).toBeLessThan(limit);
        }
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw new Error(`seed ${seed}`, { cause: error });
    }
  }
});

/** Two nodes with a process each, or one with both, in a session that runs. */
function running(names: readonly [string, string?] = ["a", "b"]): {
  cluster: Cluster;
  heard: string[];
  send: (process: number, bytes: Uint8Array) => void;
} {
  const heard: string[] = [];
  const cluster = new Cluster(config);
  for (const name of names) cluster.node(name as string);
  cluster.settle();
  const channels = ["a", "b"].map((name, process) =>
    (cluster.nodes[process] ?? (cluster.nodes[0] as Node)).connect(
      name,
      (frame) => heard.push(`${name} ${frame[4]} ${frame[5]}`),
      () => heard.push(`${name} closed`),
    ),
  );
  for (const channel of channels) channel.up.push(processHello("s", 1));
  cluster.settle();
  expect(heard.splice(0)).toEqual(["a 3 0", "b 3 0"]);
  return { cluster, heard, send: (process, bytes) => channels[process]?.up.push(bytes) };
}

function checkHealthy({ cluster, heard, send }: ReturnType<typeof running>, seed: number): void {
  heard.length = 0;
  const body = Uint8Array.of(seed, 2, 3, 4);
  send(1, encode({ kind: Kind.STORE, offset: 2000, body, tag: 77 }));
  cluster.settle();
  if (heard.join() !== "b 3 0") throw new Error(`seed ${seed}: after the damage node b hears "${heard.join()}"`);
  expect(cluster.nodes.at(-1)?.memory.subarray(2000, 2004)).toEqual(body);
  expect(cluster.nodes.at(-1)?.fault).toBeNull();
}

describe("damage from", () => {
  test("unknown peers at the server ends only their own connections", () => {
    const stage = running();
    for (let seed = 0; seed < ROUNDS; seed += 1) {
      const random = new Random(seed);
      const up = stage.cluster.link(
        "stranger",
        () => {},
        () => {},
      );
      for (let frame = random.below(3); frame >= 0; frame -= 1) up.push(damaged(random, validFrame(random, 3)));
      while (up.size > 0) up.deliver(random.pick([1, 5, 64, 1000]));
      up.end();
      stage.cluster.settle();
      stage.cluster.pipes = stage.cluster.pipes.filter((pipe) => pipe.open);
      if (seed % 50 === 0) checkHealthy(stage, seed & 0xff);
    }
    checkHealthy(stage, 99);
    expect(stage.cluster.sequencer.status().nodes).toEqual(["a", "b"]);
  }, 60_000);

  test("unknown peers at an arbiter ends only their own channels", () => {
    const stage = running();
    const node = stage.cluster.nodes[1]!;
    for (let seed = 0; seed < ROUNDS; seed += 1) {
      const random = new Random(seed);
      const { up } = node.connect(
        "stranger",
        () => {},
        () => {},
      );
      for (let frame = random.below(3); frame >= 0; frame -= 1) up.push(damaged(random, validFrame(random, 2)));
      while (up.size > 0) up.deliver(random.pick([1, 5, 64, 1000]));
      up.end();
      stage.cluster.settle();
      stage.cluster.pipes = stage.cluster.pipes.filter((pipe) => pipe.open);
      if (seed % 50 === 0) checkHealthy(stage, seed & 0xff);
    }
    checkHealthy(stage, 99);
  }, 60_000);

  test("a process of the session costs that process at most", () => {
    for (let seed = 0; seed < ROUNDS / 3; seed += 1) {
      const random = new Random(seed);
      const stage = running();
      for (let frame = random.between(1, 8); frame > 0; frame -= 1) {
        stage.send(0, damaged(random, validFrame(random, 1)));
        stage.cluster.settle();
      }
      checkHealthy(stage, seed & 0xff);
    }
  }, 60_000);

  test("a process of a direct session costs that process at most, and the server still agrees", () => {
    for (let seed = 0; seed < ROUNDS / 3; seed += 1) {
      const random = new Random(seed);
      const stage = running(["a"]);
      const { cluster } = stage;
      expect(cluster.sequencer.session.direct).toBe(true);
      for (let frame = random.between(1, 8); frame > 0; frame -= 1) {
        stage.send(0, damaged(random, validFrame(random, 1)));
        cluster.settle((pipe) => pipe.name === "a up" && random.oneIn(2));
      }
      cluster.settle();
      checkHealthy(stage, seed & 0xff);
      expect(cluster.nodes[0]?.replica?.session.state()).toEqual(cluster.sequencer.session.state());
    }
  }, 60_000);

  test("a node of the session costs that node at most", () => {
    for (let seed = 0; seed < ROUNDS / 3; seed += 1) {
      const random = new Random(seed);
      const stage = running();
      for (let frame = random.between(1, 8); frame > 0; frame -= 1) {
        stage.cluster.nodes[0]?.up.push(damaged(random, validFrame(random, 1)));
        stage.cluster.settle();
      }
      checkHealthy(stage, seed & 0xff);
    }
  }, 60_000);

  test("the order ends the replica with a ProtocolError, nothing else", () => {
    let refused = 0;
    for (let seed = 0; seed < ROUNDS; seed += 1) {
      const random = new Random(seed);
      const { cluster } = running();
      const replica = cluster.nodes[0]?.replica as Replica;
      try {
        for (let frame = 0; frame < 5; frame += 1) {
          const bytes = damaged(random, validFrame(random, random.between(1, 2)));
          if (bytes.length >= HEADER_SIZE && random.oneIn(2))
            viewOf(bytes).setUint32(16, replica.session.seq + 1, true);
          for (const piece of pieces(random, bytes)) replica.receiveEntries(piece);
        }
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw new Error(`seed ${seed}`, { cause: error });
        refused += 1;
      }
    }
    expect(refused).toBeGreaterThan(ROUNDS / 2);
  }, 60_000);
});

describe("what a peer can make us keep is bounded:", () => {
  const silent = {
    ...{ send(): void {}, broadcast(): void {}, close(): void {}, drop(): void {}, welcomed(): void {} },
    ...{
      onDisconnected(): void {},
      replaced(): void {},
      onReturnedOrEvicted(): void {},
      ended(): void {},
      stop(): void {},
    },
  };

  test("links", () => {
    const sequencer = new Sequencer(config, new Uint8Array(SIZE), silent);
    for (let link = 0; link < LINKS_MAX; link += 1) expect(sequencer.connect(link)).toBe(true);
    expect(sequencer.connect(LINKS_MAX)).toBe(false);
    sequencer.disconnect(5);
    expect(sequencer.connect(LINKS_MAX)).toBe(true);
  });

  test("nodes", () => {
    const cluster = new Cluster(config);
    for (let node = 0; node <= NODES_MAX; node += 1) cluster.node(`n${node}`);
    cluster.settle();
    const refused = cluster.nodes.filter((node) => node.replica === null);
    expect(refused.map(({ refusal }) => refusal)).toEqual([`10 the session has ${NODES_MAX} nodes, the limit`]);
    cluster.nodes[3]?.lose();
    cluster.settle();
    const next = cluster.node("next");
    cluster.settle();
    expect(next.number).toBe(NODES_MAX + 1);
  });

  test("channels", () => {
    const replica = running().cluster.nodes[0]?.replica as Replica;
    for (let channel = 1; channel < CHANNELS_MAX; channel += 1) expect(replica.connect()).toBe(channel);
    expect(replica.connect()).toBe(-1);
    replica.disconnect(17);
    expect(replica.connect()).toBe(17);
  });

  test("a publication that never ends", () => {
    const stage = running();
    const part = encode(publication([[0, 4000]], { op: 1, tag: 1 }));
    let parts = 0;
    while (!stage.heard.includes("a closed") && parts < 10_000) {
      stage.send(0, part);
      stage.cluster.settle();
      parts += 1;
    }
    expect(parts * part.length).toBeLessThan(2 * (FRAME_MAX + 16 * SIZE));
    checkHealthy(stage, 1);
  });

  test("requests under way", () => {
    const stage = running();
    for (let request = 0; request < 3000; request += 1) {
      stage.send(0, encode({ kind: Kind.SEM_WAIT, tag: request, aux: 0, body: encodeText("s") }));
    }
    stage.cluster.settle();
    expect(stage.heard.slice(-2)).toEqual(["a 6 16", "a closed"]);
    expect(stage.cluster.sequencer.status().semaphores[0]?.waiters.length).toBe(0);
    checkHealthy(stage, 1);
  });
});
