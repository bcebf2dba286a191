/**
 * Garbage, half frames, lies and silence on every port of ours: that connection ends, the role and its session do not.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Status } from "../../src/core/base/errors.ts";
import { FRAME_MAX, GREETING_FRAME_MAX, LINKS_MAX, PROTOCOL_VERSION } from "../../src/core/base/limits.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, encodeJson, encodeText, type Frame } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { AtomicOp, Kind, PublishOp } from "../../src/core/wire/kinds.ts";
import { PROCESS_HELLO, PROCESS_HELLO_SIZE } from "../../src/core/wire/process-hello.ts";
import { writeRun } from "../../src/core/wire/runs.ts";
import type { Actor } from "../support/e2e-actor.ts";
import { Cluster } from "../support/e2e-cluster.ts";
import { Peer } from "../support/e2e-peer.ts";

setDefaultTimeout(120_000);

let cluster: Cluster;
/** A session that must go on whatever comes. */
let witnesses: [Actor, Actor];
let session: string;
/** Of the session's server. */
let port: number;
let rounds = 0;

beforeAll(async () => {
  cluster = await Cluster.start();
});
beforeEach(async () => {
  witnesses = (await cluster.actors(["a", "b"])) as [Actor, Actor];
  session = witnesses[0].session;
  ({ port } = await cluster.status(session));
});
afterEach(async () => {
  await goesOn();
  await Promise.all(witnesses.map((actor) => actor.leave()));
  await cluster.settled();
});
afterAll(() => cluster.close());

async function goesOn(): Promise<void> {
  const [a, b] = witnesses;
  rounds += 1;
  await Promise.all([a.do("barrier"), b.do("barrier")]);
  await a.do(`store 4 0 ${rounds}`);
  expect(await b.number("load 4 0")).toBe(rounds);
  expect((await cluster.status(session)).ranks.map(({ state }) => state)).toEqual(["running", "running"]);
}

const server = (): Promise<Peer> => Peer.connect({ hostname: "127.0.0.1", port });
const arbiter = (node = "a"): Promise<Peer> => Peer.connect({ unix: cluster.arbiterSocket(session, node) });

/** Parts of a publication, more than can be for a map of 64 KiB, and no last one. */
function endless(): Uint8Array {
  const run = bytesOf(32 << 10, 0);
  writeRun(new DataView(run.buffer), 0, 0, bytesOf((32 << 10) - 8, 1));
  return Buffer.concat(Array.from({ length: 64 }, () => encode({ kind: Kind.PUBLISH, op: PublishOp.PART, body: run })));
}

/** A header that claims this size. */
function sized(size: number, kind: Kind = Kind.HELLO): Uint8Array {
  const bytes = encode({ kind });
  new DataView(bytes.buffer).setUint32(0, size, true);
  return bytes;
}

function withVersion(greeting: Uint8Array, version: number): Uint8Array {
  new DataView(greeting.buffer).setUint32(36, version, true);
  return greeting;
}

function withoutMagic(greeting: Uint8Array): Uint8Array {
  greeting[24] = 0;
  return greeting;
}

const bytesOf = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

/** What no port takes as its first frame. */
const garbage: [what: string, bytes: Uint8Array | string, status: Status][] = [
  ["an HTTP request", "GET /v1/sessions HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\n\r\n", Status.PROTOCOL],
  ["zeros", bytesOf(100, 0), Status.PROTOCOL],
  ["ones", bytesOf(100, 255), Status.PROTOCOL],
  ["a frame shorter than a header", sized(HEADER_SIZE - 8), Status.PROTOCOL],
  ["a frame of an odd size", sized(HEADER_SIZE + 4), Status.PROTOCOL],
  ["a frame larger than greetings are", sized(GREETING_FRAME_MAX + 8), Status.PROTOCOL],
  ["a frame larger than any", sized(FRAME_MAX + 8), Status.PROTOCOL],
  ["a frame of 4 GiB", sized(0xfffffff8), Status.PROTOCOL],
  ["a store without a greeting", encode({ kind: Kind.STORE, body: bytesOf(8, 1) }), Status.PROTOCOL],
  ["a frame of no known kind", encode({ kind: 200 as Kind }), Status.PROTOCOL],
  ["a greeting without the magic number", withoutMagic(encodeHandshake(Kind.HELLO, bytesOf(88, 0))), Status.PROTOCOL],
  [
    "a greeting of another version",
    withVersion(encodeHandshake(Kind.HELLO, bytesOf(88, 0)), PROTOCOL_VERSION + 1),
    Status.VERSION,
  ],
  ["a greeting that is all zeros behind its header", encodeHandshake(Kind.HELLO, bytesOf(88, 0)), Status.PROTOCOL],
];

for (const [role, connect] of [
  ["the server", server],
  ["the arbiter", arbiter],
] as const) {
  describe(role, () => {
    test("answers garbage with the reason, and ends that connection", async () => {
      for (const [what, bytes, status] of garbage) {
        const peer = await connect();
        peer.send(bytes);
        const reply = await peer.frame();
        expect([what, reply?.kind, reply?.op]).toEqual([what, Kind.FAIL, status]);
        expect(reply?.text).toMatch(/^[^\n]+$/);
        await peer.closed;
        await goesOn();
      }
      const peer = await connect();
      peer.send(withVersion(encodeHandshake(Kind.HELLO, bytesOf(88, 0)), 77));
      expect((await peer.frame())?.text).toBe(
        `the peer speaks protocol version 77, this is version ${PROTOCOL_VERSION}; install the same dsm on both`,
      );
    });

    test("lets connections go that end in the midst of a frame, or at once", async () => {
      const greeting = encodeHandshake(Kind.HELLO, bytesOf(88, 0));
      for (const length of [0, 1, 3, 4, 39, 40, 41, 127]) {
        const peer = await connect();
        peer.send(greeting.subarray(0, length));
        peer.end();
        await peer.closed;
        await goesOn();
      }
    });
  });
}

test("server and arbiter let connections go that say nothing, or not enough", async () => {
  const silent = await Promise.all([server(), server(), arbiter(), arbiter("b")]);
  for (const peer of silent.slice(1)) peer.send(bytesOf(20, 40));
  await Promise.all(silent.map((peer) => peer.closed));
});

describe("the server", () => {
  const hello = (fields: object): Uint8Array => encodeHandshake(Kind.HELLO, encodeJson(fields));

  test("welcomes no arbiter that says something wrong of itself", async () => {
    const good = { session, node: "x", processes: 0, size: 0, order: "" };
    for (const [what, greeting, status] of [
      ["no JSON", encodeHandshake(Kind.HELLO, encodeText("{")), Status.PROTOCOL],
      ["JSON of another kind", encodeHandshake(Kind.HELLO, encodeJson(null)), Status.PROTOCOL],
      ["no session", hello({ ...good, session: 5 }), Status.PROTOCOL],
      ["no number", hello({ ...good, size: "1" }), Status.PROTOCOL],
      ["another session", hello({ ...good, session: "other" }), Status.REFUSED],
      ["a bad node name", hello({ ...good, node: "a/b" }), Status.INVALID],
      ["a node that is there", hello({ ...good, node: "a" }), Status.REFUSED],
      ["another number of processes", hello({ ...good, processes: 3 }), Status.MISMATCH],
      ["another size", hello({ ...good, size: 4096 }), Status.MISMATCH],
    ] as const) {
      const peer = await server();
      peer.send(greeting);
      const reply = await peer.frame();
      expect([what, reply?.kind, reply?.op]).toEqual([what, Kind.FAIL, status]);
      await peer.closed;
    }
  });

  /** A connection that the server takes for the arbiter of another node. */
  async function welcomed(): Promise<{ peer: Peer; node: number }> {
    const peer = await server();
    peer.send(hello({ session, node: "liar", processes: 0, size: 0, order: "" }));
    const reply = await peer.frame();
    expect(reply?.kind).toBe(Kind.WELCOME);
    return { peer, node: (JSON.parse(reply?.text as string) as { node: number }).node };
  }

  test("ends the link of an arbiter that sends what cannot be", async () => {
    const atomic = bytesOf(32, 0);
    const run = bytesOf(16, 0);
    writeRun(new DataView(run.buffer), 0, 65536, bytesOf(8, 1));
    const bad: [what: string, frame: Frame][] = [
      ["a greeting again", { kind: Kind.HELLO }],
      ["an unknown kind", { kind: 99 as Kind }],
      ["a store outside the map", { kind: Kind.STORE, offset: 65536, body: bytesOf(8, 1) }],
      ["a store across the end of the map", { kind: Kind.STORE, offset: 65530, body: bytesOf(8, 1) }],
      ["a store at no place", { kind: Kind.STORE, offset: 2 ** 60, body: bytesOf(8, 1) }],
      ["a store longer than its frame", { kind: Kind.STORE, length: 64, body: bytesOf(8, 1) }],
      ["a store of nothing", { kind: Kind.STORE, length: 0 }],
      ["an invalid atomic operation", { kind: Kind.ATOMIC, op: 50, length: 8, body: atomic }],
      ["an atomic operation of 3 bytes", { kind: Kind.ATOMIC, op: AtomicOp.ADD, length: 3, body: atomic }],
      ["an atomic operation without operands", { kind: Kind.ATOMIC, op: AtomicOp.ADD, length: 8 }],
      ["a publication outside the map", { kind: Kind.PUBLISH, body: run }],
      ["a publication of half a run", { kind: Kind.PUBLISH, body: run.subarray(0, 8) }],
      ["a semaphore without a name", { kind: Kind.SEM_WAIT }],
      ["a semaphore with a long name", { kind: Kind.SEM_WAIT, body: bytesOf(64, 65) }],
      ["an initial value too large", { kind: Kind.SEM_WAIT, aux: 2 ** 31, body: bytesOf(8, 65) }],
      ["a post of 2", { kind: Kind.SEM_POST, offset: 2, body: bytesOf(8, 65) }],
      ["a barrier with a body", { kind: Kind.BARRIER, body: bytesOf(8, 0) }],
      ["a departure of a new kind", { kind: Kind.LEAVE, op: 9 }],
    ];
    for (const [what, frame] of bad) {
      const { peer, node } = await welcomed();
      peer.send(encode({ node, rank: 0, seq: 1, ...frame }));
      let reply = await peer.frame();
      // What others may lack comes first.
      while (reply !== null && reply.kind >= Kind.JOIN) reply = await peer.frame();
      expect([what, reply?.kind, reply?.op]).toEqual([what, Kind.FAIL, Status.PROTOCOL]);
      await peer.closed;
    }
    await goesOn();
  });

  test("lets no arbiter speak for another, or for processes it does not have", async () => {
    const { peer, node } = await welcomed();
    // Not this node's: these lead nowhere.
    peer.send(encode({ kind: Kind.STORE, node, rank: 0, seq: 1, offset: 0, body: bytesOf(8, 99) }));
    peer.send(encode({ kind: Kind.BARRIER, node, rank: 1, seq: 2 }));
    peer.send(encode({ kind: Kind.LEAVE, op: 1, node, rank: 1, seq: 3 }));
    // In another's name: this ends it.
    peer.send(encode({ kind: Kind.STORE, node: node - 1, rank: 1, offset: 0, body: bytesOf(8, 99) }));
    const texts: string[] = [];
    for (let next = await peer.frame(); next !== null; next = await peer.frame()) {
      if (next.kind === Kind.FAIL) texts.push(next.text);
    }
    expect(texts).toEqual(["an operation of another node"]);
    expect(await witnesses[1].number("load 1 0")).not.toBe(99);
  });

  test("answers each request for its state, and then goes on listening", async () => {
    const peer = await server();
    for (let i = 0; i < 3; i += 1) {
      peer.send(encodeHandshake(Kind.STATUS, new Uint8Array(0)));
      const reply = await peer.frame();
      expect(reply?.kind).toBe(Kind.REPLY);
      expect(JSON.parse(reply?.text as string)).toMatchObject({
        name: session,
        processes: 2,
        present: 2,
        phase: "running",
      });
    }
    peer.end();
    await peer.closed;
  });

  test("has a limit of connections, beyond which it takes none", async () => {
    // The two arbiters are among the connections there may be.
    const beyond = 20;
    const refused = Promise.withResolvers<void>();
    let closed = 0;
    const count = (): void => {
      closed += 1;
      if (closed === beyond) refused.resolve();
    };
    // One that is closed at once may never have been open here.
    const tried = Array.from({ length: LINKS_MAX - 2 + beyond }, () => server().catch(count));
    const peers = (await Promise.all(tried)).filter((peer) => peer !== undefined);
    for (const peer of peers) void peer.closed.then(count);
    await refused.promise;
    const [a, b] = witnesses;
    await Promise.all([a.do("barrier"), b.do("barrier")]);
    expect(closed).toBe(beyond);
    for (const peer of peers) peer.end();
    await Promise.all(peers.map((peer) => peer.closed));
    const next = await server();
    next.send(encodeHandshake(Kind.STATUS, new Uint8Array(0)));
    expect((await next.frame())?.kind).toBe(Kind.REPLY);
    next.end();
    await next.closed;
  });

  test("survives frames of random content", async () => {
    const random = generator(20251122);
    for (let i = 0; i < 60; i += 1) {
      const { peer, node } = await welcomed();
      for (let k = 0; k < 20; k += 1) peer.send(randomFrame(random, node));
      peer.end();
      await peer.closed;
      if (i % 10 === 0) await goesOn();
    }
  });
});

describe("the arbiter", () => {
  function hello(fields: { session?: string; processes?: number; size?: number } = {}): Uint8Array {
    const body = new Uint8Array(PROCESS_HELLO_SIZE);
    const view = new DataView(body.buffer);
    view.setUint32(PROCESS_HELLO.pid[0], process.pid, true);
    view.setUint32(PROCESS_HELLO.processes[0], fields.processes ?? 0, true);
    view.setUint32(PROCESS_HELLO.size[0], fields.size ?? 0, true);
    body.set(encodeText(fields.session ?? session), PROCESS_HELLO.session[0]);
    return encodeHandshake(Kind.HELLO, body);
  }

  test("takes no process that says something wrong", async () => {
    for (const [what, greeting, kind, status] of [
      ["another session", hello({ session: "other" }), Kind.FAIL, Status.PROTOCOL],
      ["another number", hello({ processes: 5 }), Kind.FAIL, Status.MISMATCH],
      ["another size", hello({ size: 4096 }), Kind.FAIL, Status.MISMATCH],
      ["one too many", hello(), Kind.REPLY, Status.FULL],
      ["no token", encodeHandshake(Kind.ATTACH, bytesOf(8, 0), { rank: 0 }), Kind.FAIL, Status.REFUSED],
      ["half a token", encodeHandshake(Kind.ATTACH, bytesOf(4, 0), { rank: 0 }), Kind.FAIL, Status.REFUSED],
      ["a rank of another node", encodeHandshake(Kind.ATTACH, bytesOf(8, 0), { rank: 1 }), Kind.FAIL, Status.REFUSED],
      ["a status question", encodeHandshake(Kind.STATUS, bytesOf(8, 0)), Kind.FAIL, Status.PROTOCOL],
    ] as const) {
      const peer = await arbiter();
      peer.send(greeting);
      const reply = await peer.frame();
      expect([what, reply?.kind, reply?.op]).toEqual([what, kind, status]);
      peer.end();
      await peer.closed;
    }
  });

  for (const [what, frame] of [
    ["an unknown kind", encode({ kind: 99 as Kind })],
    ["a greeting again", encodeHandshake(Kind.HELLO, bytesOf(88, 0))],
    ["an order of its own", encode({ kind: Kind.JOIN, body: encodeText("a") })],
    ["a store outside the map", encode({ kind: Kind.STORE, offset: 65536, body: bytesOf(8, 1) })],
    ["a shadow of no page", encode({ kind: Kind.SHADOW, offset: 4095, length: 8 })],
    ["a frame larger than any", sized(FRAME_MAX + 8, Kind.STORE)],
    ["half a frame and its end", encode({ kind: Kind.STORE, body: bytesOf(64, 1) }).subarray(0, 60)],
    ["a publication that never ends", endless()],
  ] as const) {
    test(`loses a process that sends ${what}, and no other`, async () => {
      const own = cluster.session();
      const others = ["a", "b"].map((node) => cluster.actor({ session: own, node, processes: 3 }));
      const joined = Promise.all(others.map((actor) => actor.do("open")));
      await cluster.untilPresent(own, 2);
      const peer = await Peer.connect({ unix: cluster.arbiterSocket(own, "a") });
      peer.send(hello({ session: own }));
      const reply = await peer.frame();
      expect([reply?.kind, reply?.op]).toEqual([Kind.REPLY, Status.OK]);
      await joined;
      peer.send(frame);
      if (what.startsWith("half")) peer.end();
      else expect((await peer.frame())?.kind).toBe(Kind.FAIL);
      await peer.closed;
      for (const actor of others)
        expect(await actor.ask("barrier")).toMatch(/^DSM_LOST process \d of the session was lost/);
      await others[0]?.do("store 4 0 3");
      expect(await others[1]?.number("load 4 0")).toBe(3);
      await Promise.all(others.map((actor) => actor.leave()));
    });
  }
});

describe("the daemon", () => {
  for (const [what, bytes] of [
    ["garbage", bytesOf(5000, 255)],
    ["zeros", bytesOf(100_000, 0)],
    [
      "half a request",
      "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{",
    ],
    ["a request that never ends its head", `GET /v1/health HTTP/1.1\r\nx: ${"y".repeat(200_000)}`],
    ["an invalid length", "POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n"],
    [
      "a body that is too long",
      `POST /v1/sessions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999999\r\n\r\n${"x".repeat(100_000)}`,
    ],
    ["a frame of another port", encodeHandshake(Kind.STATUS, new Uint8Array(0))],
  ] as const) {
    test(`survives ${what}`, async () => {
      const [hostname, port] = cluster.daemonAddress.split(":") as [string, string];
      const peer = await Peer.connect({ hostname, port: Number(port) });
      const idle = await Peer.connect({ hostname, port: Number(port) });
      peer.send(bytes);
      const [one] = await cluster.actors(["c"]);
      await one?.leave();
      peer.end();
      await peer.closed;
      idle.end();
      await idle.closed;
    });
  }
});

/** A small generator of numbers in [0, limit), the same for the same seed. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** Something like a frame: mostly well formed outside, anything inside. */
function randomFrame(random: (limit: number) => number, node: number): Uint8Array {
  const body = Uint8Array.from({ length: random(20) * 8 }, () => random(256));
  const bytes = encode({
    ...{
      kind: (random(4) === 0 ? random(256) : Kind.JOIN + random(9)) as Kind,
      op: random(5) === 0 ? random(256) : random(3),
    },
    ...{ rank: random(4), tag: random(70_000), node: random(6) === 0 ? random(10) : node },
    ...{ offset: random(3) === 0 ? random(2 ** 31) * 1000 : random(65536) },
    ...{ length: random(3) === 0 ? random(2 ** 31) : body.length, aux: random(2) * random(2 ** 31), body },
  });
  if (random(10) === 0) new DataView(bytes.buffer).setUint32(0, random(2 ** 31), true);
  return bytes;
}
