/** Parts of publications in memory that both ends of a link have mapped. */
import { describe, expect, test } from "bun:test";
import { SPARE_PARTS_MAX } from "../../src/core/base/limits.ts";
import { Sequencer } from "../../src/core/sequencer/sequencer.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, encodeJson, encodeText, type Frame, ProtocolError, setUint64 } from "../../src/core/wire/frame.ts";
import { PartPool } from "../../src/core/wire/frame-reader.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind, PublishOp } from "../../src/core/wire/kinds.ts";
import { PUBLISH_PART_MAX } from "../../src/core/wire/runs.ts";
import {
  encodeAccept,
  encodeOffer,
  nonceOf,
  PeerParts,
  SHARED_PARTS_SIZE,
  type Shareable,
  SharedPartSlots,
  ShareOp,
  type Sharing,
  SLOT_SIZE,
} from "../../src/core/wire/shared-parts.ts";
import { runs, viewOf } from "../support/core-frames.ts";

const MAP_SIZE = 1 << 20;

/** Memory of several processes, as if they were on one host. */
class Host implements Sharing {
  readonly made: Shareable[] = [];
  readonly closed: Uint8Array[] = [];

  create(): Shareable {
    const pid = 100 + this.made.length;
    const shareable = { pid, descriptor: 9, memory: new Uint8Array(SHARED_PARTS_SIZE) };
    nonceOf(shareable.memory).fill(pid);
    this.made.push(shareable);
    return shareable;
  }

  open(pid: number, descriptor: number, mark: Uint8Array): Uint8Array<ArrayBuffer> | null {
    const found = this.made.find((each) => each.pid === pid && each.descriptor === descriptor);
    return found !== undefined && Buffer.compare(nonceOf(found.memory), mark) === 0 ? found.memory : null;
  }

  close(memory: Uint8Array): void {
    this.closed.push(memory);
  }
}

/** A part with enough runs to lie in a slot: `bytes` of `value` at `offset`. */
function makePart(pool: PartPool, value: number, offset = 0, bytes = 400_000, fields: Partial<Frame> = {}): Uint8Array {
  const body = runs([[offset, new Uint8Array(bytes).fill(value)]]);
  const frame = encode({ kind: Kind.PUBLISH, op: PublishOp.PART, node: 1, body, ...fields });
  const part = pool.take(frame.length).subarray(0, frame.length);
  part.set(frame);
  return part;
}

const lender = (): { host: Host; pool: PartPool; memory: Uint8Array<ArrayBuffer>; offer: Uint8Array } => {
  const host = new Host();
  const pool = new PartPool();
  const offer = pool.offer(host) as Uint8Array;
  return { host, pool, memory: (host.made[0] as Shareable).memory, offer };
};

/** Who lends, and the other end of the link, which has mapped the memory. */
const linked = (): { pool: PartPool; peerParts: PeerParts } => {
  const { host, pool, offer } = lender();
  const peerParts = new PeerParts();
  peerParts.handleShare(host, viewOf(offer), 0);
  return { pool, peerParts };
};

const statusOf = (frame: Uint8Array): string => `${frame[4]} ${frame[5]}`;

describe("a part", () => {
  test("is copied from where its reference says, as it was", () => {
    const { pool, peerParts } = linked();
    const own = new PartPool();
    const parts = [1, 2, 3].map((value) => makePart(pool, value, 0, 300_000 + 8 * value, { tag: value, seq: 7 }));
    for (const part of parts) {
      const reference = pool.reference(part) as Uint8Array;
      expect(reference.length).toBe(HEADER_SIZE);
      const copy = peerParts.copy(viewOf(reference), 0, own) as Uint8Array;
      expect(Buffer.compare(copy, part)).toBe(0);
      expect(copy.buffer).not.toBe(part.buffer);
    }
  });

  test("whose slot was reused meanwhile is missing", () => {
    const { pool, peerParts } = linked();
    const part = makePart(pool, 1);
    const old = pool.reference(part) as Uint8Array;
    pool.give(part as Uint8Array<ArrayBuffer>);
    // It is not lent yet, so its bytes are unchanged.
    expect(peerParts.copy(viewOf(old), 0, new PartPool())).not.toBeNull();
    const next = makePart(pool, 2);
    expect(next.byteOffset).toBe(part.byteOffset);
    expect(peerParts.copy(viewOf(old), 0, new PartPool())).toBeNull();
    expect(peerParts.copy(viewOf(pool.reference(next) as Uint8Array), 0, new PartPool())).not.toBeNull();
  });

  test("beyond what the memory has room for, and a small one, is not lent", () => {
    const { pool } = lender();
    const slots = Array.from({ length: SPARE_PARTS_MAX }, () => pool.take(SLOT_SIZE));
    for (const slot of slots) expect(pool.reference(slot.subarray(0, 400_000))).not.toBeNull();
    expect(new Set(slots.map(({ byteOffset }) => byteOffset)).size).toBe(SPARE_PARTS_MAX);
    const more = pool.take(SLOT_SIZE);
    expect([more.length, pool.reference(more)]).toEqual([SLOT_SIZE, null]);
    expect(pool.reference(pool.take(1000))).toBeNull();
    pool.give(slots[5] as Uint8Array<ArrayBuffer>);
    expect(pool.take(SLOT_SIZE).byteOffset).toBe(slots[5]?.byteOffset as number);
  });

  test("that is given back twice is found out", () => {
    const slots = new SharedPartSlots(new Uint8Array(SHARED_PARTS_SIZE));
    const part = slots.take() as Uint8Array;
    slots.give(part);
    expect(() => slots.give(part)).toThrow(RangeError);
    expect(() => slots.reference(part)).toThrow(RangeError);
  });

  for (const [what, change] of [
    ["in the middle of another", (view: DataView) => setUint64(view, 24, 8)],
    ["behind the last", (view: DataView) => setUint64(view, 24, SPARE_PARTS_MAX * SLOT_SIZE)],
    ["at no place", (view: DataView) => view.setUint32(28, 0xffffffff, true)],
    ["longer than there are", (view: DataView) => view.setUint32(32, PUBLISH_PART_MAX + 8, true)],
    ["of half a word", (view: DataView) => view.setUint32(32, 4004, true)],
    ["with a body", (view: DataView) => view.setUint32(0, HEADER_SIZE + 8, true)],
  ] as const) {
    test(`${what} cannot be`, () => {
      const { pool, peerParts } = linked();
      const reference = new Uint8Array(HEADER_SIZE + 8);
      reference.set(pool.reference(makePart(pool, 1)) as Uint8Array);
      change(viewOf(reference));
      expect(() => peerParts.copy(viewOf(reference), 0, new PartPool())).toThrow(ProtocolError);
    });
  }
});

describe("memory", () => {
  test("is borrowed only if it is what was offered", () => {
    const { host, pool, offer, memory } = lender();
    const peerParts = new PeerParts();
    const other = encodeOffer({ pid: 100, descriptor: 9, memory: new Uint8Array(SHARED_PARTS_SIZE) });
    expect(peerParts.handleShare(host, viewOf(other), 0)).toBe("unavailable");
    for (const bad of [{ offset: 0 }, { offset: 2 ** 33 }, { body: new Uint8Array(0) }, { op: 2 }]) {
      const frame = encode({ kind: Kind.SHARE, offset: 100, aux: 9, body: nonceOf(memory), ...bad });
      expect(() => peerParts.handleShare(host, viewOf(frame), 0)).toThrow(ProtocolError);
    }
    const reference = viewOf(pool.reference(makePart(pool, 1)) as Uint8Array);
    expect(() => peerParts.copy(reference, 0, new PartPool())).toThrow(ProtocolError);
    expect(peerParts.handleShare(host, viewOf(offer), 0)).toBe("mapped-peer");
    expect(peerParts.copy(reference, 0, new PartPool())).not.toBeNull();
    expect(() => peerParts.handleShare(host, viewOf(offer), 0)).toThrow(ProtocolError);
    expect(() => peerParts.handleShare(null, viewOf(offer), 0)).toThrow(ProtocolError);
  });

  test("that is lent to the other end is heard of, and leaves what is borrowed from it as it is", () => {
    const { pool, peerParts } = linked();
    expect(peerParts.handleShare(new Host(), viewOf(encodeAccept()), 0)).toBe("peer-mapped-us");
    const reference = viewOf(pool.reference(makePart(pool, 1)) as Uint8Array);
    expect(peerParts.copy(reference, 0, new PartPool())).not.toBeNull();
  });

  test("is given back once, when the link ends", () => {
    const { host, offer, memory } = lender();
    const peerParts = new PeerParts();
    peerParts.close();
    peerParts.handleShare(host, viewOf(offer), 0);
    peerParts.close();
    peerParts.close();
    expect(host.closed).toEqual([memory]);
  });
});

/** A server with nodes 1 and 2 on its host, each with a process, whose session runs. */
class Stage {
  readonly host = new Host();
  readonly map = new Uint8Array(MAP_SIZE);
  /** What each link was sent, and what all were. */
  readonly sent = new Map<number, string[]>();
  readonly parts: Uint8Array[] = [];
  readonly borrowers: number[] = [];
  readonly serverPool = new PartPool();
  readonly pool = new PartPool();
  readonly sequencer: Sequencer;
  #proposed = 0;

  constructor(shares = true) {
    const config = { name: "s", instance: "0", processes: 2, size: MAP_SIZE, base: 0 };
    this.sequencer = new Sequencer(
      { ...config, order: "sequential", onLoss: "continue" },
      this.map,
      {
        send: (link, bytes) => void this.sent.get(link)?.push(statusOf(bytes)),
        broadcast: (bytes, done, except) => {
          if (done === undefined) return;
          expect(except).toBe(1);
          this.parts.push(bytes);
          done();
        },
        ...(shares && { sharing: () => this.host, onPeerMapped: (link: number) => void this.borrowers.push(link) }),
        welcomed: () => {},
        close: () => {},
        drop: () => {},
        onDisconnected: (node) => this.sequencer.evict(node),
        onReturnedOrEvicted: () => {},
        replaced: () => {},
        ended: () => {},
        stop: () => {},
      },
      { parts: this.serverPool },
    );
    const about = { session: "s", processes: 0, size: 0, order: "", onLoss: "", secret: "x", reconnectMs: 0 };
    for (const link of [1, 2]) {
      this.sent.set(link, []);
      this.sequencer.connect(link);
      const hello = { ...about, node: `n${link}`, heartbeatMs: 0, process: "", resume: null };
      this.sequencer.receive(link, encodeHandshake(Kind.HELLO, encodeJson(hello)));
      const body = encodeText(`n${link}`);
      this.sequencer.receive(link, encode({ kind: Kind.JOIN, node: link, seq: 1, offset: link, body }));
    }
    this.#proposed = 1;
    this.sent.forEach((list) => {
      list.length = 0;
    });
  }

  /** What the first link was sent since it was asked for. */
  get heard(): string[] {
    return this.sent.get(1)?.splice(0) ?? [];
  }

  offer(): void {
    this.sequencer.receive(1, this.pool.offer(this.host) as Uint8Array);
  }

  lend(part: Uint8Array): void {
    this.sequencer.receive(1, this.pool.reference(part) as Uint8Array);
  }

  finish(tag = 0): void {
    this.#proposed += 1;
    this.sequencer.receive(1, encode({ kind: Kind.PUBLISH, node: 1, tag, seq: this.#proposed }));
  }

  /** How many parts of the server's lie in use in the memory that it lends. */
  get inUse(): number {
    const free: Uint8Array<ArrayBuffer>[] = [];
    for (;;) {
      const slot = this.serverPool.take(SLOT_SIZE);
      free.push(slot);
      if (this.serverPool.reference(slot) === null) break;
    }
    for (const slot of free) this.serverPool.give(slot);
    return SPARE_PARTS_MAX - (free.length - 1);
  }

  /** All nodes have applied everything. */
  applied(): void {
    const { seq } = this.sequencer.session;
    for (const link of [1, 2]) this.sequencer.receive(link, encode({ kind: Kind.PING, offset: seq }));
  }
}

describe("a server", () => {
  test("takes the parts that a node lends it, and lends them to others", () => {
    const stage = new Stage();
    stage.offer();
    expect(stage.heard).toEqual([`${Kind.SHARE} ${ShareOp.ACCEPT}`, `${Kind.SHARE} ${ShareOp.OFFER}`]);
    stage.sequencer.receive(2, encodeAccept());
    expect(stage.borrowers).toEqual([2]);
    const parts = [makePart(stage.pool, 5), makePart(stage.pool, 6, 500_000)];
    for (const part of parts) {
      stage.lend(part);
      // The server has its own by now.
      part.fill(0xee, HEADER_SIZE);
    }
    expect(stage.map.every((byte) => byte === 0)).toBe(true);
    stage.finish();
    expect([stage.map[0], stage.map[399_999], stage.map[400_000], stage.map[500_000]]).toEqual([5, 5, 0, 6]);
    expect(stage.parts.length).toBe(2);
    for (const part of stage.parts) expect(stage.serverPool.reference(part)).not.toBeNull();
    expect(stage.inUse).toBe(2);
    stage.applied();
    expect(stage.inUse).toBe(0);
  });

  test("uses the memory of parts again, however often and however they end", () => {
    const stage = new Stage();
    stage.offer();
    const publish = (): Uint8Array<ArrayBuffer> => {
      const part = makePart(stage.pool, 1) as Uint8Array<ArrayBuffer>;
      stage.lend(part);
      return part;
    };
    for (let round = 0; round < 2 * SPARE_PARTS_MAX; round += 1) {
      stage.pool.give(publish());
      if (round % 3 === 0) {
        stage.sequencer.receive(1, encode({ kind: Kind.PUBLISH, op: PublishOp.ABORT, node: 1 }));
      } else {
        stage.finish();
        stage.applied();
      }
    }
    expect(stage.inUse).toBe(0);
    // Of a rank that may not publish, and of a node that is gone.
    stage.lend(makePart(stage.pool, 1, 0, 400_000, { rank: 1 }));
    expect(stage.inUse).toBe(0);
    publish();
    expect(stage.inUse).toBe(1);
    stage.sequencer.disconnect(1);
    expect(stage.inUse).toBe(0);
    expect(stage.host.closed).toEqual([(stage.host.made[0] as Shareable).memory]);
  });

  test("forgets an aborted publication with an overwritten part, and refuses it otherwise", () => {
    for (const abandons of [true, false]) {
      const stage = new Stage();
      stage.offer();
      stage.lend(makePart(stage.pool, 1, 500_000, 300_000, { tag: 4 }));
      const part = makePart(stage.pool, 1, 0, 400_000, { tag: 4 });
      const reference = stage.pool.reference(part) as Uint8Array;
      stage.pool.give(part as Uint8Array<ArrayBuffer>);
      makePart(stage.pool, 9, 0, 400_000, { tag: 4 });
      stage.sequencer.receive(1, reference);
      if (abandons) stage.sequencer.receive(1, encode({ kind: Kind.PUBLISH, op: PublishOp.ABORT, node: 1, tag: 4 }));
      stage.finish(4);
      expect(stage.map.every((byte) => byte === 0)).toBe(true);
      expect(stage.sequencer.isWelcomed(1)).toBe(abandons);
      if (abandons) expect(stage.inUse).toBe(0);
      else expect(stage.heard.at(-1)).toStartWith(`${Kind.FAIL} `);
    }
  });

  for (const [what, shares, act] of [
    ["lends what was not offered", true, (stage: Stage) => stage.lend(makePart(stage.pool, 1))],
    ["offers twice", true, (stage: Stage) => [stage.offer(), stage.offer()]],
    ["offers from another host", false, (stage: Stage) => stage.offer()],
    [
      "says what means nothing",
      true,
      (stage: Stage) => stage.sequencer.receive(1, encode({ kind: Kind.SHARE, op: 2 })),
    ],
    [
      "lends an operation of another node",
      true,
      (stage: Stage) => {
        stage.offer();
        stage.lend(makePart(stage.pool, 1, 0, 400_000, { node: 2 }));
      },
    ],
    [
      "lends runs outside the map",
      true,
      (stage: Stage) => {
        stage.offer();
        stage.lend(makePart(stage.pool, 1, MAP_SIZE - 8));
      },
    ],
  ] as const) {
    test(`refuses a node that ${what}`, () => {
      const stage = new Stage(shares);
      if (what === "lends what was not offered") stage.pool.offer(stage.host);
      act(stage);
      expect(stage.heard.at(-1)).toStartWith(`${Kind.FAIL} `);
      expect(stage.sequencer.isWelcomed(1)).toBe(false);
      expect(stage.sequencer.isWelcomed(2)).toBe(true);
    });
  }
});
