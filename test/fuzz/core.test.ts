/**
 * Properties of everything in the core that reads what others send: the codec, FrameReader, checkOperation, Session,
 * Sequencer and Replica. A failure prints the seed and the path; DSM_FUZZ_SEED and DSM_FUZZ_PATH run it again.
 */

import { heapStats } from "bun:jsc";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import fc from "fast-check";
import type { Order } from "../../src/core/base/consistency.ts";
import { FRAME_MAX, GREETING_FRAME_MAX, LINKS_MAX, PAGE_SIZE } from "../../src/core/base/limits.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { Replica } from "../../src/core/replica/replica.ts";
import { Ring } from "../../src/core/replica/store-ring.ts";
import { Sequencer } from "../../src/core/sequencer/sequencer.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { checkOperation } from "../../src/core/wire/check-operation.ts";
import {
  bodyText,
  encode,
  encodeText,
  type Frame,
  fieldText,
  getUint64,
  ProtocolError,
  padded,
  setUint64,
} from "../../src/core/wire/frame.ts";
import { FrameReader } from "../../src/core/wire/frame-reader.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { RING, RING_HEADER_SIZE, RING_SIZE, RING_WRAP } from "../../src/core/wire/ring-layout.ts";
import { RUN_HEADER_SIZE, RUN_LENGTH_MAX, runLength, runOffset, writeRun } from "../../src/core/wire/runs.ts";
import { type Channel, Cluster, type Node, type Pipe, processHello } from "../support/core-cluster.ts";
import { viewOf } from "../support/core-frames.ts";
import { cuts, operation, parameters, pieces, sent } from "../support/fuzz-frames.ts";

setDefaultTimeout(600_000);

const SIZE = 2 * PAGE_SIZE;
const GUARD = 4096;
const GUARD_BYTE = 0xa5;

function config(processes: number, order: Order = "sequential"): SessionConfig {
  return { name: "s", instance: "1", processes, size: SIZE, base: 2 ** 45, order, onLoss: "fail" };
}

/** Memory with other memory before and behind it, as a map file in a process has. */
class Guarded {
  readonly #all: Uint8Array[] = [];

  allocate = (size: number): Uint8Array => {
    const all = new Uint8Array(GUARD + size + GUARD).fill(GUARD_BYTE);
    this.#all.push(all);
    return all.subarray(GUARD, GUARD + size).fill(0);
  };

  check(): void {
    for (const all of this.#all) {
      const outside = Buffer.concat([all.subarray(0, GUARD), all.subarray(all.length - GUARD)]);
      if (!outside.every((byte) => byte === GUARD_BYTE)) throw new Error("something was written outside the map");
    }
  }
}

describe("the codec", () => {
  test("a frame comes out as it went in, however the stream is cut", () => {
    const whole = fc.record({
      kind: fc.integer({ min: 1, max: 255 }) as fc.Arbitrary<Kind>,
      op: fc.nat(255),
      rank: fc.nat(0xffff),
      tag: fc.nat(0xffffffff),
      node: fc.nat(0xffffffff),
      seq: fc.maxSafeNat(),
      offset: fc.maxSafeNat(),
      length: fc.nat(0xffffffff),
      aux: fc.nat(0xffffffff),
      body: fc.uint8Array({ maxLength: 6000 }),
    });
    fc.assert(
      fc.property(fc.array(whole, { maxLength: 6 }), cuts, (frames, lengths) => {
        const reader = new FrameReader(FRAME_MAX);
        const read: Frame[] = [];
        for (const piece of pieces(Buffer.concat(frames.map(encode)), lengths)) {
          reader.push(piece, (view, at, size, bytes) => {
            const number = frames[read.length]?.body.length ?? 0;
            if (size !== padded(HEADER_SIZE + number)) throw new Error("the wrong size");
            read.push({
              kind: view.getUint8(at + 4) as Kind,
              op: view.getUint8(at + 5),
              rank: view.getUint16(at + 6, true),
              tag: view.getUint32(at + 8, true),
              node: view.getUint32(at + 12, true),
              seq: getUint64(view, at + 16),
              offset: getUint64(view, at + 24),
              length: view.getUint32(at + 32, true),
              aux: view.getUint32(at + 36, true),
              body: new Uint8Array(bytes.subarray(at + HEADER_SIZE, at + HEADER_SIZE + number)),
            });
          });
          // What a socket handed out is not ours after the call.
          piece.fill(0xee);
        }
        expect(read).toEqual(frames);
        expect(reader.pending).toBe(0);
      }),
      parameters(150),
    );
  });

  test("numbers, runs and texts come out as they went in", () => {
    const view = new DataView(new ArrayBuffer(8192));
    const bytes = new Uint8Array(view.buffer);
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 64n - 1n), (value) => {
        view.setBigUint64(8, value, true);
        const read = getUint64(view, 8);
        expect(read).toEqual(value < 2n ** 53n ? Number(value) : Number.NaN);
        if (Number.isNaN(read)) return;
        setUint64(view, 16, read);
        expect(view.getBigUint64(16, true)).toBe(value);
      }),
      parameters(2000),
    );
    fc.assert(
      fc.property(fc.nat(2 ** 40 - 1), fc.uint8Array({ minLength: 1, maxLength: 3000 }), (offset, content) => {
        const next = writeRun(view, 16, offset, content);
        expect([next, runOffset(view, 16), runLength(view, 16)]).toEqual([
          16 + RUN_HEADER_SIZE + padded(content.length),
          offset,
          content.length,
        ]);
        expect(bytes.subarray(16 + RUN_HEADER_SIZE, 16 + RUN_HEADER_SIZE + content.length)).toEqual(content);
        expect(content.length).toBeLessThan(RUN_LENGTH_MAX);
      }),
      parameters(500),
    );
    fc.assert(
      // A name holds no zero byte; half of a surrogate pair is no text and becomes U+FFFD.
      fc.property(fc.string({ unit: "grapheme", maxLength: 60 }), (text) => {
        const written = encodeText(text);
        bytes.fill(0);
        bytes.set(written, 24);
        expect(bodyText(bytes, 24, written.length)).toBe(text);
        if (!text.includes("\0")) expect(fieldText(bytes, 24, written.length + 9)).toBe(text);
      }),
      parameters(500),
    );
  });
});

test("FrameReader: the cuts change nothing, only ProtocolError is thrown, and what is kept is less than the limit", () => {
  const limit = fc.constantFrom(GREETING_FRAME_MAX, FRAME_MAX);
  const stream = fc.array(sent(SIZE, fc.constant({})), { maxLength: 8 }).map((list) => Buffer.concat(list));
  const read = (bytes: Uint8Array, most: number, lengths: number[]): { frames: string[]; error: string | null } => {
    const reader = new FrameReader(most);
    const frames: string[] = [];
    try {
      for (const piece of pieces(bytes, lengths)) {
        reader.push(piece, (view, at, size, all) => {
          if (size < HEADER_SIZE || size > most || size % 8 !== 0 || at + size > view.byteLength) {
            throw new Error("a frame beyond its bytes");
          }
          frames.push(Buffer.from(all.subarray(at, at + size)).toString("base64"));
        });
        if (reader.pending >= most) throw new Error(`${reader.pending} bytes are kept`);
        piece.fill(0xee);
      }
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      return { frames, error: error.message };
    }
    return { frames, error: null };
  };
  fc.assert(
    fc.property(stream, limit, cuts, (bytes, most, lengths) => {
      expect(read(bytes, most, lengths)).toEqual(read(bytes, most, [bytes.length + 1]));
    }),
    parameters(1000),
  );
});

describe("checkOperation", () => {
  const fields = fc.record({ node: fc.integer({ min: 1, max: 2 }), rank: fc.nat(2), tag: fc.nat(5) });

  test("reads nothing outside its frame; what it accepts can be applied and stays in the map", () => {
    let let_through = 0;
    fc.assert(
      fc.property(fc.array(sent(SIZE, fields), { maxLength: 25 }), (list) => {
        const guarded = new Guarded();
        const onWrite = (offset: number, length: number): void => {
          if (!(offset >= 0 && length > 0 && offset + length <= SIZE)) throw new Error(`wrote ${length} at ${offset}`);
        };
        const session = new Session(config(2), new MapBytes(guarded.allocate(SIZE)), {
          ...NO_EFFECTS,
          wantsWrites: true,
          onWrite,
        });
        const join = (node: number): Uint8Array =>
          encode({ kind: Kind.JOIN, node, tag: node, body: encodeText(`${node}`) });
        for (const bytes of [join(1), join(2), ...list]) {
          // A frame as FrameReader hands it over, and not a byte more.
          if (bytes.length < HEADER_SIZE) continue;
          const size = viewOf(bytes).getUint32(0, true);
          if (size < HEADER_SIZE || size % 8 !== 0 || size > bytes.length) continue;
          const frame = bytes.slice(0, size);
          const before = session.seq;
          const wrong = checkOperation(viewOf(frame), 0, SIZE);
          if (wrong !== null) {
            expect(wrong).toMatch(/^[ -~]+$/);
            continue;
          }
          if (frame[4] === Kind.PUBLISH && frame[5] === 2) continue;
          if (session.phase === "ended") break;
          session.apply(viewOf(frame), 0);
          let_through += 1;
          expect(session.seq - before).toBe(frame[4] === Kind.PUBLISH && frame[5] === 1 ? 0 : 1);
        }
        guarded.check();
        // What it holds can be handed on, and is the same then.
        const again = Session.fromState(session.state(), new MapBytes(new Uint8Array(SIZE)), {
          ...NO_EFFECTS,
          wantsWrites: true,
          onWrite,
        });
        expect(again.state()).toEqual(session.state());
      }),
      parameters(600),
    );
    expect(let_through).toBeGreaterThan(2000);
  });

  test("every operation that fits the map is let through", () => {
    // The other way round: a check that refuses everything would hold the property above.
    const kinds: number[] = [Kind.STORE, Kind.ATOMIC, Kind.FREE];
    const good = operation(SIZE).filter(({ kind, offset }) => kinds.includes(kind) && offset !== undefined);
    fc.assert(
      fc.property(good, (frame) => {
        const length = frame.kind === Kind.FREE ? 1 : (frame.length ?? frame.body?.length ?? 0);
        const inside = (frame.offset as number) + length <= SIZE;
        expect(checkOperation(viewOf(encode(frame)), 0, SIZE) === null).toBe(inside);
      }),
      parameters(1000),
    );
  });
});

/** One thing that happens in a session of three nodes: a and b with two processes each, c with one that is honest. */
type Action =
  | { do: "process"; process: number; bytes: Uint8Array; rest: number }
  | { do: "node"; node: number; bytes: Uint8Array; rest: number }
  | { do: "stranger"; at: number; who: number; bytes: Uint8Array; rest: number }
  | { do: "close"; process: number }
  | { do: "lose"; node: number; lose: number }
  | { do: "deliver"; pipe: number; bytes: number };

const tag = fc.oneof(fc.nat(4), fc.constantFrom(0xffff, 0x10000, 0xffffffff));
const fromProcess = sent(SIZE, fc.record({ rank: fc.nat(5), tag }));
const fromNode = sent(SIZE, fc.record({ rank: fc.nat(5), tag, node: fc.integer({ min: 1, max: 4 }), seq: fc.nat(20) }));

const fromOutside: fc.Arbitrary<Action>[] = [
  fc.record({ do: fc.constant("stranger" as const), at: fc.nat(3), who: fc.nat(2), bytes: fromNode, rest: fc.nat(2) }),
];
const anything: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("process" as const),
      process: fc.nat(3),
      bytes: fromProcess,
      rest: fc.nat(2),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("node" as const), node: fc.nat(1), bytes: fromNode, rest: fc.nat(2) }),
  },
  { weight: 2, arbitrary: fromOutside[0] as fc.Arbitrary<Action> },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("close" as const), process: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("lose" as const), node: fc.nat(1), lose: fc.nat(100) }) },
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant("deliver" as const),
      pipe: fc.nat(40),
      bytes: fc.constantFrom(1, 7, 40, 100, 10_000),
    }),
  },
);

class Stage {
  readonly guarded = new Guarded();
  readonly cluster = new Cluster(config(5), {
    memory: this.guarded.allocate,
    lend: () => ({ shadow: this.guarded.allocate(SIZE) }),
    onEntry: () => {
      this.entries += 1;
    },
  });
  readonly channels: Channel[] = [];
  readonly strangers = new Map<string, Pipe>();
  readonly heard: string[] = [];
  entries = 0;

  constructor() {
    for (const name of ["a", "b", "c"]) this.cluster.node(name);
    this.cluster.settle();
    for (const process of [0, 1, 2, 3, 4]) this.#join(process);
    this.cluster.settle();
    expect(this.heard.splice(0).sort()).toEqual(["0 3 0", "1 3 0", "2 3 0", "3 3 0", "4 3 0"]);
  }

  #join(process: number): void {
    const hear = (frame: Uint8Array): void => void this.heard.push(`${process} ${frame[4]} ${frame[5]}`);
    const node = this.cluster.nodes[process >> 1] as Node;
    const channel = node.connect(`p${process}`, hear, () => this.heard.push(`${process} closed`));
    channel.up.push(processHello("s", process, { rank: process }));
    this.channels.push(channel);
    this.cluster.settle();
  }

  perform(action: Action): void {
    switch (action.do) {
      case "process":
        this.#send(this.channels[action.process]?.up, action);
        return;
      case "node":
        this.#send(this.cluster.nodes[action.node]?.up, action);
        return;
      case "stranger": {
        const key = `${action.at} ${action.who}`;
        const known = this.strangers.get(key);
        const pipe = known?.open === true ? known : this.#stranger(action.at);
        if (pipe === null) return;
        this.strangers.set(key, pipe);
        this.#send(pipe, action);
        return;
      }
      case "close":
        this.channels[action.process]?.up.end();
        return;
      case "lose":
        this.cluster.nodes[action.node]?.lose(action.lose);
        return;
      case "deliver": {
        const busy = this.cluster.pipes.filter((pipe) => pipe.busy);
        busy[action.pipe % busy.length]?.deliver(action.bytes);
      }
    }
  }

  /** A new connection to node `at`, or to the server. */
  #stranger(at: number): Pipe | null {
    if (at === 3) {
      return this.cluster.link(
        "stranger",
        () => {},
        () => {},
      );
    }
    const node = this.cluster.nodes[at] as Node;
    if (node.lost || node.done) return null;
    return node.connect(
      "stranger",
      () => {},
      () => {},
    ).up;
  }

  #send(pipe: Pipe | undefined, { bytes, rest }: { bytes: Uint8Array; rest: number }): void {
    pipe?.push(bytes);
    // Sometimes what is under way waits for what comes next.
    if (rest === 0) pipe?.deliver(Math.max(1, bytes.length >> 1));
    if (rest === 1) this.cluster.settle();
  }

  /**
   * Everything has arrived: the server and all nodes that are left must be the same, and the honest process unharmed.
   */
  check(): void {
    for (const pipe of this.strangers.values()) pipe.end();
    this.cluster.settle();
    const { sequencer, nodes } = this.cluster;
    this.guarded.check();
    const honest = nodes[2] as Node;
    if (honest.lost || honest.fault !== null) throw new Error(`node c is lost: ${honest.fault ?? honest.refusal}`);
    // This flushes what the server holds back until a process waits for a later entry.
    this.heard.length = 0;
    this.channels[4]?.up.push(encode({ kind: Kind.STORE, offset: 4000, tag: 9, body: Uint8Array.of(1, 2, 3) }));
    this.cluster.settle();
    expect(this.heard).toEqual(["4 3 0"]);
    const truth = sequencer.session.state();
    for (const node of nodes) {
      if (node.lost || node.done || node.replica === null) continue;
      if (Buffer.compare(node.memory, this.cluster.memory) !== 0) throw new Error(`node ${node.name} differs`);
      expect({ node: node.name, ...node.replica.session.state() }).toEqual({ node: node.name, ...truth });
    }
    expect(honest.memory.subarray(4000, 4003)).toEqual(Uint8Array.of(1, 2, 3));
    expect(Buffer.compare(honest.memory, this.cluster.memory)).toBe(0);
  }
}

describe("Sequencer and Replica", () => {
  test("whatever processes, nodes and unknown peers send: only their connection ends, and all copies stay equal", () => {
    let lost = 0;
    let entries = 0;
    fc.assert(
      fc.property(fc.array(anything, { maxLength: 60, size: "max" }), (actions) => {
        const stage = new Stage();
        for (const action of actions) stage.perform(action);
        stage.check();
        entries += stage.entries;
        lost += stage.cluster.nodes.filter((node) => node.lost).length;
      }),
      parameters(400),
    );
    expect(entries).toBeGreaterThan(400 * 8);
    expect(lost).toBeGreaterThan(40);
  });

  test("a link that was not welcomed leaves no trace", () => {
    let untouched = 0;
    fc.assert(
      fc.property(fc.array(fromOutside[0] as fc.Arbitrary<Action>, { maxLength: 30 }), (actions) => {
        const stage = new Stage();
        const { sequencer, nodes } = stage.cluster;
        const before = { ...sequencer.status(), ...sequencer.session.state() };
        const joined = nodes.map((node) => (node.replica as Replica).hadProcess);
        for (const action of actions) {
          stage.perform(action);
          if (sequencer.status().nodes.length > 3) return; // it greeted as it should
          if (stage.entries > 5) return; // it joined as it should, and was one too many
        }
        for (const pipe of stage.strangers.values()) pipe.end();
        stage.cluster.settle();
        if (stage.entries > 5) return;
        expect({ ...sequencer.status(), ...sequencer.session.state() }).toEqual(before);
        expect(nodes.map((node) => (node.replica as Replica).hadProcess)).toEqual(joined);
        stage.check();
        untouched += actions.length;
      }),
      parameters(200),
    );
    expect(untouched).toBeGreaterThan(200);
  });

  test("the order itself, damaged, ends a replica with a ProtocolError", () => {
    let refused = 0;
    fc.assert(
      fc.property(
        fc.array(fromNode, { minLength: 1, maxLength: 12 }),
        fc.boolean(),
        cuts,
        (list, numbered, lengths) => {
          const stage = new Stage();
          const replica = stage.cluster.nodes[0]?.replica as Replica;
          try {
            for (const bytes of list) {
              if (numbered && bytes.length >= HEADER_SIZE) setUint64(viewOf(bytes), 16, replica.session.seq + 1);
              for (const piece of pieces(bytes, lengths)) replica.receiveEntries(piece);
            }
          } catch (error) {
            if (!(error instanceof ProtocolError)) throw error;
            refused += 1;
          }
          stage.guarded.check();
        },
      ),
      parameters(400),
    );
    expect(refused).toBeGreaterThan(200);
  });

  test("links that were not welcomed keep little, whatever they send", () => {
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
    const sequencer = new Sequencer(config(1), new Uint8Array(SIZE), silent);
    const chunk = new Uint8Array(64 << 10);
    const used = (): number => {
      Bun.gc(true);
      return heapStats().heapSize + heapStats().extraMemorySize;
    };
    const before = used();
    for (let link = 0; link < LINKS_MAX; link += 1) {
      expect(sequencer.connect(link)).toBe(true);
      // The most that a link may hold back: a frame of the greatest size allowed, all but its last byte.
      viewOf(chunk).setUint32(0, GREETING_FRAME_MAX, true);
      for (let at = 0; at < GREETING_FRAME_MAX - 1; at += 455) {
        sequencer.receive(link, Buffer.from(chunk.subarray(at, Math.min(at + 455, GREETING_FRAME_MAX - 1))));
      }
    }
    expect(used() - before).toBeLessThan(LINKS_MAX * (2 * GREETING_FRAME_MAX + 4096));
    // One that says more is given up.
    viewOf(chunk).setUint32(0, GREETING_FRAME_MAX + 8, true);
    for (let link = 0; link < LINKS_MAX; link += 1) sequencer.disconnect(link);
    for (let link = 0; link < 100 * LINKS_MAX; link += 1) {
      expect(sequencer.connect(link)).toBe(true);
      sequencer.receive(link, chunk);
      expect(sequencer.isWelcomed(link)).toBe(false);
    }
    expect(used() - before).toBeLessThan(LINKS_MAX * GREETING_FRAME_MAX);
  });
});

/** What a process does to the ring of its node, which it has in its memory: as it should, or not. */
type Scribble =
  | { do: "store"; rank: number; offset: number; bytes: Uint8Array }
  | { do: "word"; at: number; value: number }
  | { do: "move"; by: number }
  | { do: "byte"; back: number; value: number }
  | { do: "take" }
  | { do: "settle" };

const scribble: fc.Arbitrary<Scribble> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      do: fc.constant("store" as const),
      rank: fc.integer({ min: 0, max: 2 }),
      offset: fc.nat(SIZE - 3000),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 3000 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("word" as const),
      at: fc.constantFrom(...[RING.tail, RING.head, RING.sleeping, RING.shadowed, RING.lock].map(([at]) => at)),
      value: fc.oneof(fc.nat(0xffffffff), fc.constantFrom(0, 4, 8, 48, RING_SIZE, RING_SIZE - 8, 0xfffffff8)),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("move" as const),
      by: fc.constantFrom(-56, -8, 1, 4, 8, 56, 4000, RING_SIZE),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("byte" as const), back: fc.nat(200), value: fc.nat(255) }) },
  { weight: 6, arbitrary: fc.constant({ do: "take" as const }) },
  { weight: 3, arbitrary: fc.constant({ do: "settle" as const }) },
);

/** A session with order pipelined of two nodes; node a has two processes and a ring, node b one process. */
class Pipelined {
  readonly guarded = new Guarded();
  readonly ring = this.guarded.allocate(RING_HEADER_SIZE + RING_SIZE);
  readonly words = new DataView(this.ring.buffer, this.ring.byteOffset, this.ring.length);
  proposed = 0;
  readonly cluster: Cluster = new Cluster(config(3, "pipelined"), {
    memory: this.guarded.allocate,
    onPropose: () => {
      this.proposed += 1;
      if (this.proposed > 50_000) throw new Error("the ring yields records without end");
    },
    makeReplica: (welcome, out, options) =>
      new Replica(welcome, out, { ...options, ring: options.nodeName === "a" ? new Ring(this.ring, lock) : null }),
  });
  readonly heard: string[] = [];
  readonly honest: Channel;
  damaged = false;

  constructor() {
    for (const name of ["a", "b"]) this.cluster.node(name);
    this.cluster.settle();
    const channels = ["a", "a", "b"].map((_, rank) => {
      const hear = (frame: Uint8Array): void => void this.heard.push(`${rank} ${frame[4]} ${frame[5]}`);
      const node = this.cluster.nodes[rank >> 1] as Node;
      const channel = node.connect(`p${rank}`, hear, () => {});
      channel.up.push(processHello("s", rank + 1, { rank }));
      this.cluster.settle();
      return channel;
    });
    expect(this.heard.splice(0).sort()).toEqual(["0 3 0", "1 3 0", "2 3 0"]);
    this.honest = channels[2] as Channel;
  }

  get replica(): Replica {
    return this.cluster.nodes[0]?.replica as Replica;
  }

  tail(): number {
    return this.words.getUint32(RING.tail[0], true);
  }

  perform(action: Scribble): void {
    switch (action.do) {
      case "store":
        this.#store(action.rank, action.offset, action.bytes);
        return;
      case "word":
        this.words.setUint32(action.at, action.value, true);
        return;
      case "move":
        this.words.setUint32(RING.tail[0], this.tail() + action.by, true);
        return;
      case "byte":
        this.ring[RING_HEADER_SIZE + (((this.tail() - action.back) >>> 0) % RING_SIZE)] = action.value;
        return;
      case "take":
        this.#guard(() => this.replica.drainQueue());
        return;
      case "settle":
        this.#guard(() => this.cluster.settle());
    }
  }

  /** As the arbiter does: with its ring damaged the node is of no more use. */
  #guard(work: () => void): void {
    if (this.cluster.nodes[0]?.lost) return;
    try {
      work();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.damaged = true;
      this.cluster.nodes[0]?.lose();
    }
  }

  /** What ring.c does, without waiting for room. */
  #store(rank: number, offset: number, bytes: Uint8Array): void {
    const frame = encode({ kind: Kind.STORE, rank, offset, body: bytes });
    const size = frame.length + padded(bytes.length);
    const [tail, head] = [this.tail(), this.words.getUint32(RING.head[0], true)];
    const at = tail % RING_SIZE;
    const skipped = RING_SIZE - at < size ? RING_SIZE - at : 0;
    if (at % 8 !== 0 || ((tail - head) >>> 0) + skipped + size > RING_SIZE) return;
    if (skipped > 0) this.words.setUint32(RING_HEADER_SIZE + at, RING_WRAP, true);
    const to = RING_HEADER_SIZE + (skipped > 0 ? 0 : at);
    const map = (this.cluster.nodes[0] as Node).memory;
    this.ring.set(frame, to);
    this.ring.set(map.subarray(offset, offset + bytes.length), to + frame.length);
    this.words.setUint32(RING.tail[0], tail + skipped + size, true);
    map.set(bytes, offset);
  }

  check(honestly: boolean): void {
    this.#guard(() => this.replica.drainQueue());
    this.cluster.settle();
    this.guarded.check();
    const other = this.cluster.nodes[1] as Node;
    expect({ lost: other.lost, fault: other.fault }).toEqual({ lost: false, fault: null });
    expect(Buffer.compare(other.memory, this.cluster.memory)).toBe(0);
    if (honestly) {
      expect(this.damaged).toBe(false);
      expect(Buffer.compare((this.cluster.nodes[0] as Node).memory, this.cluster.memory)).toBe(0);
    }
    this.heard.length = 0;
    this.honest.up.push(encode({ kind: Kind.ATOMIC, op: 1, offset: 8, length: 8, tag: 9, body: new Uint8Array(32) }));
    this.cluster.settle();
    expect(this.heard).toEqual(["2 3 0"]);
  }
}

const lock = { acquire: () => false, release(): void {}, admit: () => true };

describe("the ring of a node's stores", () => {
  test("used as it should be, all copies become equal", () => {
    const good = scribble.filter(
      (action) => action.do === "take" || action.do === "settle" || (action.do === "store" && action.rank < 2),
    );
    fc.assert(
      fc.property(fc.array(good, { maxLength: 40 }), (actions) => {
        const stage = new Pipelined();
        for (const action of actions) stage.perform(action);
        stage.check(true);
      }),
      parameters(60),
    );
  });

  test("a tail beyond the last record does not repeat old records", () => {
    for (const by of [4, 8, -8, 56, RING_SIZE, 0x8000_0000]) {
      const stage = new Pipelined();
      const bytes = new Uint8Array(2960);
      while (stage.tail() < 2 * RING_SIZE) {
        stage.perform({ do: "store", rank: 0, offset: 0, bytes });
        stage.perform({ do: "settle" });
        stage.perform({ do: "take" });
      }
      const { proposed } = stage;
      stage.perform({ do: "move", by });
      stage.perform({ do: "take" });
      expect({ by, damaged: stage.damaged }).toEqual({ by, damaged: true });
      expect(stage.proposed - proposed).toBeLessThanOrEqual(RING_SIZE / 6000);
      stage.check(false);
    }
  });

  test("whatever a process writes there: it costs that node at most", () => {
    let damaged = 0;
    fc.assert(
      fc.property(fc.array(scribble, { maxLength: 40 }), (actions) => {
        const stage = new Pipelined();
        for (const action of actions) stage.perform(action);
        stage.check(false);
        damaged += Number(stage.damaged);
      }),
      parameters(150),
    );
    expect(damaged).toBeGreaterThan(30);
  });
});
