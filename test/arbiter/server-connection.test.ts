/** One connection of the arbiter to a server, and what becomes of it when it breaks. The server is the test's. */
import { afterEach, expect, test } from "bun:test";
import type { Socket, TCPSocketListener } from "bun";
import { type LogFollower, ReconnectingLog } from "../../src/arbiter/reconnecting-log.ts";
import { OPEN } from "../../src/core/access/auth.ts";
import { ADDRESS_FIRST } from "../../src/core/base/limits.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import type { NodeHello, ResumeReply, ResumeRequest } from "../../src/core/messages/node-handshake.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { encode, encodeJson, ProtocolError } from "../../src/core/wire/frame.ts";
import { PartPool } from "../../src/core/wire/frame-reader.ts";
import { Kind } from "../../src/core/wire/kinds.ts";

const SIZE = 4096;
const HOST = "127.0.0.1";
const config: SessionConfig = {
  ...{ name: "s", instance: "0123456789abcdef", processes: 2, size: SIZE, base: ADDRESS_FIRST },
  ...{ order: "sequential", onLoss: "continue" },
};
const hello: NodeHello = {
  ...{ session: "s", node: "n", processes: 0, size: 0, order: "", onLoss: "" },
  ...{ secret: "x", reconnectMs: 60_000, heartbeatMs: 60_000, process: "", resume: null },
};

const entry = (seq: number): Uint8Array => encode({ kind: Kind.BARRIER, node: 1, seq });
const welcome = (): Uint8Array => {
  const snapshot = new Session(config, new MapBytes(new Uint8Array(SIZE)), NO_EFFECTS).state();
  return encode({ kind: Kind.WELCOME, body: encodeJson({ node: 1, snapshot, epoch: 1, starts: [0], base: 0 }) });
};
const resumed = (): Uint8Array =>
  encode({ kind: Kind.WELCOME, op: 1, body: encodeJson({ node: 1, ordered: 0, epoch: 1, starts: [0] }) });

const listeners: TCPSocketListener<undefined>[] = [];
afterEach(() => {
  for (const listener of listeners.splice(0)) listener.stop(true);
});

/** A server that answers the handshake of its nth connection with the nth of these. */
function server(...answers: ((socket: Socket) => void)[]): number {
  const listener = Bun.listen({
    hostname: HOST,
    port: 0,
    socket: {
      open: () => {},
      data: (socket) => answers.shift()?.(socket),
    },
  });
  listeners.push(listener);
  return listener.port;
}

/** Writes all of it in one piece. */
const says =
  (...frames: Uint8Array[]) =>
  (socket: Socket): void => {
    socket.write(Buffer.concat(frames));
  };

/** What happened to a replica, in words, and a way to wait for it. */
class Follower implements LogFollower {
  readonly events: string[] = [];
  confirmed = 0;
  retainedBytes = 0;
  ready = true;
  damagedBy: number | null = null;
  readonly #waiting: { event: string; resolve: () => void }[] = [];

  note(event: string): void {
    this.events.push(event);
    for (const { event: awaited, resolve } of this.#waiting) if (awaited === event) resolve();
  }

  sees(event: string): Promise<void> {
    if (this.events.includes(event)) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ event, resolve }));
  }

  receiveEntries(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < bytes.length; at += view.getUint32(at, true)) {
      const seq = view.getUint32(at + 16, true);
      if (seq === this.damagedBy) throw new ProtocolError("an entry of the order is missing");
      this.confirmed = seq;
      this.note(`entry ${seq}`);
    }
  }

  receivePart(): void {
    this.note("part");
  }

  get position(): ResumeRequest {
    return {
      ...{ instance: config.instance, node: 1, seq: this.confirmed, applied: this.confirmed },
      ...{ epoch: 1, promised: 1, whole: true, nodes: [1], joining: false },
    };
  }

  promise(): boolean {
    return true;
  }

  *state(): Generator<Uint8Array> {
    yield encode({ kind: Kind.STATE });
  }

  interrupted(): void {
    this.note("interrupted");
  }

  resumed(_reply: ResumeReply): void {
    this.note("resumed");
  }
}

function open(port: number) {
  const address = { host: HOST, port, epoch: 1 };
  return ReconnectingLog.open({
    address: { ...address, instance: config.instance },
    security: OPEN,
    hello,
    locate: async () => address,
    parts: new PartPool(),
    sharing: null,
  });
}

async function follow(port: number, follower = new Follower()): Promise<{ follower: Follower; log: ReconnectingLog }> {
  const { log } = await open(port);
  log.follow(follower, { afterEvent: () => {}, lost: (error) => follower.note(`lost: ${error.message}`) });
  return { follower, log };
}

test("entries that come in one piece with the WELCOME, before there is a follower, are not lost", async () => {
  const { follower, log } = await follow(server(says(welcome(), entry(1), entry(2))));
  expect(follower.events).toEqual(["entry 1", "entry 2"]);
  log.close(() => {});
});

test("after an interruption the follower gets the resumption first, then the entries that it lacks", async () => {
  const port = server(
    (socket) => {
      says(welcome(), entry(1))(socket);
      socket.end();
    },
    says(resumed(), entry(2)),
  );
  const { follower, log } = await follow(port);
  await follower.sees("entry 2");
  expect(follower.events).toEqual(["entry 1", "interrupted", "resumed", "entry 2"]);
  log.close(() => {});
});

test("a server that recovers is handed the state of a node that comes back", async () => {
  let hasState: () => void = () => {};
  const state = new Promise<void>((resolve) => {
    hasState = resolve;
  });
  const port = server(
    (socket) => {
      says(welcome())(socket);
      socket.end();
    },
    says(encode({ kind: Kind.STATE })),
    (socket) => {
      hasState();
      says(resumed())(socket);
    },
  );
  const { follower, log } = await follow(port);
  await state;
  await follower.sees("resumed");
  log.close(() => {});
});

test("a server that asks a new node for its state is no server", async () => {
  const port = server(says(encode({ kind: Kind.STATE })));
  await expect(open(port)).rejects.toMatchObject({
    code: "DSM_PROTOCOL",
    message: expect.stringContaining(`${HOST}:${port}`),
  });
});

test("a WELCOME that is damaged names the server", async () => {
  const port = server(says(encode({ kind: Kind.WELCOME, body: encodeJson({ node: 1 }) })));
  await expect(open(port)).rejects.toMatchObject({
    code: "DSM_PROTOCOL",
    message: expect.stringContaining(`${HOST}:${port}`),
  });
});

test("what the server refuses the node with ends the log", async () => {
  const port = server(says(encode({ kind: Kind.FAIL, op: 99, body: new TextEncoder().encode("no") })));
  await expect(open(port)).rejects.toMatchObject({ message: "no" });
});

test("entries that are not the log end it, and nothing more is handed to the follower", async () => {
  const follower = new Follower();
  follower.damagedBy = 3;
  const { log } = await follow(server(says(welcome(), entry(1), entry(3), entry(4))), follower);
  expect(follower.events).toEqual(["entry 1", "lost: an entry of the order is missing"]);
  log.close(() => {});
});

test("a node without the whole map cannot come back", async () => {
  const follower = new Follower();
  follower.ready = false;
  const { log } = await follow(
    server((socket) => {
      says(welcome())(socket);
      socket.end();
    }),
    follower,
  );
  const lost = "lost: the server was lost while it sent the map; join again";
  await follower.sees(lost);
  expect(follower.events).toEqual([lost]);
  log.close(() => {});
});
