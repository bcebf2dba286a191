/** The map of a node that ends direct mode, piece by piece, and what it does to those that follow. */

import { describe, expect, test } from "bun:test";
import { PAGE_SIZE } from "../../src/core/base/limits.ts";
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { type SessionConfig, welcomeIncludesMap } from "../../src/core/messages/session-state.ts";
import { encodeUpload, MapUpload, UPLOAD_PACE } from "../../src/core/replica/map-upload.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { checkOperation } from "../../src/core/wire/check-operation.ts";
import { encode, encodeText } from "../../src/core/wire/frame.ts";
import { CopyOp, Kind, NO_TAG } from "../../src/core/wire/kinds.ts";
import { PUBLISH_PART_MAX, RUN_HEADER_SIZE } from "../../src/core/wire/runs.ts";
import { viewOf } from "../support/core-frames.ts";

const PAGES = 300;
const SIZE = PAGES * PAGE_SIZE;
const CONFIG: SessionConfig = {
  ...{ name: "s", instance: "1", processes: 1, size: SIZE, base: 2 ** 45, order: "sequential", onLoss: "fail" },
  elastic: true,
};
const join = (node: number, op = 0): Uint8Array => encode({ kind: Kind.JOIN, op, node, body: encodeText(`n${node}`) });

/** A session whose only process is on node 1. */
function begun(memory: Uint8Array, node = -1, config = CONFIG): Session {
  const session = new Session(config, new MapBytes(memory), NO_EFFECTS);
  session.node = node;
  session.apply(viewOf(join(1)), 0);
  return session;
}

function pieces(memory: Uint8Array, pace = UPLOAD_PACE): Uint8Array[] {
  const copy = new MapUpload(new MapBytes(memory), 1, pace);
  const all: Uint8Array[] = [];
  for (let piece = copy.next(); piece !== null; piece = copy.next()) all.push(piece);
  return all;
}

describe("the copy of a map", () => {
  test("has all that is not zero, in well-formed operations of the node, as large as they may be", () => {
    const map = new Uint8Array(SIZE);
    for (let page = 0; page < PAGES; page += 1) if (page % 3 !== 1) map[page * PAGE_SIZE + page] = 1 + (page % 255);
    const all = pieces(map);
    expect(all.length).toBe(2);
    for (const piece of all) {
      const view = viewOf(piece);
      expect(checkOperation(view, 0, SIZE)).toBeNull();
      expect([piece[4], piece[5], view.getUint32(8, true), view.getUint32(12, true)]).toEqual([
        ...[Kind.COPY, CopyOp.PIECE, NO_TAG, 1],
      ]);
      expect(piece.length).toBeLessThanOrEqual(HEADER_SIZE + PUBLISH_PART_MAX);
    }
    // A run for each page that is not zero.
    const bytes = all.reduce((sum, { length }) => sum + length - HEADER_SIZE, 0);
    expect(bytes).toBe((PAGES - PAGES / 3) * (RUN_HEADER_SIZE + PAGE_SIZE));
    expect(pieces(new Uint8Array(SIZE))).toEqual([]);
  });

  test("has each page as it is when its piece is made", () => {
    const map = new Uint8Array(2 * PAGE_SIZE).fill(1);
    const copy = new MapUpload(new MapBytes(map), 1, { piece: RUN_HEADER_SIZE + PAGE_SIZE, inFlightMax: 1 });
    expect(copy.next()?.at(-1)).toBe(1);
    map.fill(2);
    expect(copy.next()?.at(-1)).toBe(2);
    expect(copy.next()).toBeNull();
  });

  test("takes the place of what others have, and none in its own node's map", () => {
    const source = new Uint8Array(SIZE);
    source.set([1, 2, 3], 5 * PAGE_SIZE + 7);
    const other = new Uint8Array(SIZE).fill(9);
    const own = new Uint8Array(SIZE).fill(8);
    const sessions = [begun(other), begun(own, 1)] as const;
    const steps = [encodeUpload(CopyOp.BEGIN, 1), ...pieces(source), encodeUpload(CopyOp.END, 1)];
    const states: string[] = [];
    for (const step of steps) {
      const [state] = sessions.map((session) => {
        session.apply(viewOf(step), 0);
        const { direct, copying } = session.state();
        return `${direct} ${copying} ${welcomeIncludesMap(session.state())}`;
      });
      states.push(state as string);
    }
    expect(states).toEqual(["true true true", "true true true", "false false true"]);
    expect(Buffer.compare(other, source)).toBe(0);
    expect(own.every((byte) => byte === 8)).toBe(true);
    expect(sessions.map(({ bytesWritten }) => bytesWritten)).toEqual([0, 0]);
    // Direct mode is over: whatever comes of that kind changes nothing.
    sessions[0].apply(viewOf(encodeUpload(CopyOp.BEGIN, 1)), 0);
    expect(Buffer.compare(other, source)).toBe(0);
  });
});

describe("an elastic session", () => {
  test("begins in direct mode if all are on one node and none refuses, and stays in it when others join there", () => {
    const session = begun(new Uint8Array(SIZE));
    session.apply(viewOf(join(1)), 0);
    expect([session.direct, session.present, welcomeIncludesMap(session.state())]).toEqual([true, 2, false]);
    const other = new Session(CONFIG, new MapBytes(new Uint8Array(SIZE)), NO_EFFECTS);
    other.apply(viewOf(join(1, 1)), 0);
    expect([other.direct, welcomeIncludesMap(other.state())]).toEqual([false, true]);
  });

  test("is the same in the midst of it when it is restored there", () => {
    const memory = new Uint8Array(SIZE);
    const session = begun(memory);
    session.apply(viewOf(encodeUpload(CopyOp.BEGIN, 1)), 0);
    const again = Session.fromState(session.state(), new MapBytes(memory), NO_EFFECTS);
    expect(again.state()).toEqual(session.state());
  });
});

test("a copy that is no such thing is refused", () => {
  const run = pieces(new Uint8Array(PAGE_SIZE).fill(1))[0] as Uint8Array;
  const changed = (change: (view: DataView) => void): string | null => {
    const frame = run.slice();
    change(viewOf(frame));
    return checkOperation(viewOf(frame), 0, PAGE_SIZE);
  };
  expect(changed(() => {})).toBeNull();
  expect(changed((view) => view.setUint8(5, 3))).toBe("copy: no such flag");
  expect(changed((view) => view.setUint8(5, CopyOp.END))).toBe("copy: no such flag");
  expect(changed((view) => view.setUint32(32, 8, true))).toBe("copy: length does not fit its frame");
  expect(changed((view) => view.setUint32(HEADER_SIZE, 8, true))).toBe("publish: a run outside the map");
});

test("zeros everywhere, and watchers get the changes", () => {
  const bytes = new Uint8Array(3 * PAGE_SIZE);
  bytes[PAGE_SIZE + 5] = 1;
  const map = new MapBytes(bytes);
  const told: number[] = [];
  map.watchers.add({ beforeWrite: (offset, length) => told.push(offset, length) });
  map.clear();
  expect([bytes.every((byte) => byte === 0), told]).toEqual([true, [PAGE_SIZE, PAGE_SIZE]]);
});
