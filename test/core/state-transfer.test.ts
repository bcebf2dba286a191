/** What the sender of a node's state makes, the receiver takes as it is, in pieces of any kind, and only when it is whole. */
import { expect, test } from "bun:test";
import { ADDRESS_FIRST, PAGE_SIZE } from "../../src/core/base/limits.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import type { NodeState } from "../../src/core/messages/node-state.ts";
import type { SessionConfig } from "../../src/core/messages/session-state.ts";
import { encodeState, type ReceivedState, StateReceiver } from "../../src/core/messages/state-transfer.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { encode, encodeText, ProtocolError } from "../../src/core/wire/frame.ts";
import { Kind, STATE_PIECE_MAX, StateOp } from "../../src/core/wire/kinds.ts";
import { RetainedFrames } from "../../src/core/wire/retained-frames.ts";

const SIZE = 4 * PAGE_SIZE;
const config: SessionConfig = {
  ...{ name: "s", instance: "0123456789abcdef", processes: 1, size: SIZE, base: ADDRESS_FIRST },
  ...{ order: "sequential", onLoss: "continue" },
};

interface Node {
  state: NodeState;
  map: Uint8Array<ArrayBuffer>;
  entries: Uint8Array[];
}

/** A node that retains more entries than go into one piece, and whose map has pages of zeros. */
function node(): Node {
  const map = new Uint8Array(SIZE);
  const session = new Session(config, new MapBytes(map), NO_EFFECTS);
  const retained = new RetainedFrames(0);
  const apply = (frame: Parameters<typeof encode>[0]): void => {
    const bytes = encode(frame);
    retained.push(new DataView(bytes.buffer), bytes, 0, bytes.length, session.seq + 1);
    session.apply(new DataView(bytes.buffer), 0);
  };
  apply({ kind: Kind.JOIN, node: 1, tag: 1, offset: 100, body: encodeText("n") });
  const body = new Uint8Array(8).fill(7);
  while (retained.bytes <= 2 * STATE_PIECE_MAX) {
    apply({ kind: Kind.STORE, node: 1, tag: 2, rank: 0, offset: PAGE_SIZE, length: 8, body });
  }
  return { state: { snapshot: session.state(), starts: [0], base: 0 }, map, entries: [...retained.framesAfter(0)] };
}

function frames({ state, map, entries }: Node, withMap = true): Uint8Array[] {
  const page = (offset: number): Uint8Array | null => {
    const bytes = map.subarray(offset, offset + PAGE_SIZE);
    return bytes.every((byte) => byte === 0) ? null : bytes;
  };
  return [...encodeState({ state, mapSize: SIZE, page: withMap ? page : null, entries })];
}

function receive(all: Uint8Array[], map = new Uint8Array(SIZE)): ReceivedState | null {
  const receiver = new StateReceiver(config, 2, map);
  let received: ReceivedState | null = null;
  for (const frame of all) {
    expect(received).toBeNull();
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    received = receiver.receive(view, 0, frame.length, frame);
  }
  return received;
}

const opOf = (frame: Uint8Array): number => frame[5] as number;

test("all of it arrives: state, map and entries; pages of zeros are not sent, and are zero there", () => {
  const sender = node();
  const sent = frames(sender);
  expect(sent.filter((frame) => opOf(frame) === StateOp.MAP).length).toBe(1);
  expect(sent.filter((frame) => opOf(frame) === StateOp.ENTRIES).length).toBeGreaterThan(2);
  const map = new Uint8Array(SIZE).fill(9);
  const received = receive(sent, map);
  expect(received?.snapshot).toEqual(sender.state.snapshot);
  expect(received?.starts).toEqual([0]);
  expect(map).toEqual(sender.map);
  const retained = received === null ? [] : [...received.retained.framesAfter(0)];
  expect(Buffer.concat(retained).equals(Buffer.concat(sender.entries))).toBe(true);
});

test("in direct mode no map is sent", () => {
  const map = new Uint8Array(SIZE).fill(9);
  expect(receive(frames(node(), false), map)).not.toBeNull();
  expect(map.every((byte) => byte === 0)).toBe(true);
});

test("without any one piece of state or entries it is not whole", () => {
  const sent = frames(node());
  for (const [index, frame] of sent.entries()) {
    const op = opOf(frame);
    if (op === StateOp.MAP) continue;
    const rest = sent.filter((_, other) => other !== index);
    if (op === StateOp.LAST) expect(receive(rest)).toBeNull();
    else expect(() => receive(rest)).toThrow(ProtocolError);
  }
});

test("a page outside the map, and a piece of no kind, are refused", () => {
  const page = encode({ kind: Kind.STATE, op: StateOp.MAP, offset: SIZE - 8, body: new Uint8Array(16) });
  expect(() => receive([page])).toThrow("outside the map");
  expect(() => receive([encode({ kind: Kind.STATE, op: 99 })])).toThrow("no such piece");
});
