/** Frames: encoding, the handshake, the check of operations, and the header made for C. */
import { describe, expect, test } from "bun:test";
import { wireHeader } from "../../scripts/wire.ts";
import { Status } from "../../src/core/base/errors.ts";
import {
  ALIGN_MAX,
  ARRIVALS_MAX,
  FRAME_MAX,
  NAME_MAX,
  SEMAPHORE_VALUE_MAX,
  STORE_MAX,
} from "../../src/core/base/limits.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { checkOperation } from "../../src/core/wire/check-operation.ts";
import { HEADER } from "../../src/core/wire/fields.ts";
import {
  bodyText,
  encode,
  encodeJson,
  encodeText,
  type Frame,
  fieldText,
  getUint64,
  ProtocolError,
  padded,
  setUint64,
} from "../../src/core/wire/frame.ts";
import { checkHandshake, encodeHandshake, MAGIC_HIGH, MAGIC_LOW } from "../../src/core/wire/handshake.ts";
import { AtomicOp, isOrdered, Kind, NO_TAG, ObjectKind } from "../../src/core/wire/kinds.ts";
import { JOINED, JOINED_SIZE, PROCESS_HELLO, PROCESS_HELLO_SIZE } from "../../src/core/wire/process-hello.ts";
import {
  PUBLISH_PART_MAX,
  RUN_HEADER_SIZE,
  RUN_LENGTH_MAX,
  runChanges,
  runIsDense,
  runIsMasked,
  runLength,
  runMasks,
  runOffset,
  runSize,
  runWords,
  writeMaskedRun,
  writeRun,
} from "../../src/core/wire/runs.ts";
import { publication, runs, viewOf } from "../support/core-frames.ts";

const MAP = 8192;

/** What checkOperation says of a frame that stands in the middle of other bytes. */
function check(frame: Frame | Uint8Array, mapSize = MAP): string | null {
  const bytes = frame instanceof Uint8Array ? frame : encode(frame);
  const around = new Uint8Array(bytes.length + 48).fill(0xff);
  around.set(bytes, 24);
  return checkOperation(new DataView(around.buffer, 8), 16, mapSize);
}

const store = (offset: number, length: number): Frame => ({
  kind: Kind.STORE,
  offset,
  body: new Uint8Array(length).fill(7),
});
const atomic = (op: number, length: number, offset = 0): Frame => ({
  kind: Kind.ATOMIC,
  op,
  length,
  offset,
  body: new Uint8Array(32),
});
const semaphore = (kind: Kind, name: string, fields: Partial<Frame> = {}): Frame => ({
  kind,
  body: encodeText(name),
  ...fields,
});

const sleep = (width: number, fields: Partial<Frame> = {}): Frame => ({
  kind: Kind.FUTEX_WAIT,
  length: width,
  body: new Uint8Array(8),
  ...fields,
});

describe("encode", () => {
  test("puts every field where HEADER says, and pads the body with zeros", () => {
    const bytes = encode({
      kind: Kind.SEM_POST,
      op: 0xa1,
      rank: 0xb1b2,
      tag: 0xc1c2c3c4,
      node: 0xd1d2d3d4,
      seq: 0x1f_e2e3_e4e5_e6e7,
      offset: 0x00_f2f3_f4f5_f6f7,
      aux: 0x91929394,
      body: Uint8Array.of(1, 2, 3),
    });
    const view = viewOf(bytes);
    expect(bytes.length).toBe(48);
    const read = ([offset, size]: readonly [number, number]) =>
      size === 1
        ? view.getUint8(offset)
        : size === 2
          ? view.getUint16(offset, true)
          : size === 4
            ? view.getUint32(offset, true)
            : getUint64(view, offset);
    expect(Object.fromEntries(Object.entries(HEADER).map(([name, place]) => [name, read(place)]))).toEqual({
      size: 48,
      kind: Kind.SEM_POST,
      op: 0xa1,
      rank: 0xb1b2,
      tag: 0xc1c2c3c4,
      node: 0xd1d2d3d4,
      seq: 0x1f_e2e3_e4e5_e6e7,
      offset: 0x00_f2f3_f4f5_f6f7,
      length: 3,
      aux: 0x91929394,
    });
    expect([...bytes.subarray(HEADER_SIZE)]).toEqual([1, 2, 3, 0, 0, 0, 0, 0]);
  });

  test("without fields gives a bare header of zeros", () => {
    for (const kind of Object.values(Kind)) {
      const bytes = encode({ kind });
      expect(bytes.length).toBe(HEADER_SIZE);
      expect([...bytes]).toEqual([HEADER_SIZE, 0, 0, 0, kind, ...new Array(35).fill(0)]);
    }
  });

  test("pads every body to whole words", () => {
    for (let length = 0; length <= 64; length += 1) {
      const bytes = encode({ kind: Kind.STORE, body: new Uint8Array(length).fill(0xff) });
      expect(bytes.length % 8).toBe(0);
      expect(bytes.length - HEADER_SIZE - length).toBeLessThan(8);
      expect(bytes.length).toBe(padded(HEADER_SIZE + length));
      expect(bytes.filter((byte, at) => at >= HEADER_SIZE && byte === 0xff).length).toBe(length);
    }
  });

  test("the tables leave no gap and no overlap", () => {
    for (const [table, size] of [
      [HEADER, HEADER_SIZE],
      [PROCESS_HELLO, PROCESS_HELLO_SIZE],
      [JOINED, JOINED_SIZE],
    ] as const) {
      let at = 0;
      for (const [offset, bytes] of Object.values(table)) {
        expect(offset).toBe(at);
        at += bytes;
      }
      expect(at).toBe(size);
    }
  });

  test("kinds are distinct", () => {
    const kinds = Object.values(Kind);
    expect(new Set(kinds).size).toBe(kinds.length);
  });
});

describe("numbers and text", () => {
  test("64-bit numbers come back up to 2^53 - 1; more is NaN", () => {
    const view = new DataView(new ArrayBuffer(16));
    for (const value of [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 5, Number.MAX_SAFE_INTEGER]) {
      setUint64(view, 3, value);
      expect(getUint64(view, 3)).toBe(value);
      expect(view.getBigUint64(3, true)).toBe(BigInt(value));
    }
    view.setBigUint64(0, 2n ** 53n, true);
    expect(getUint64(view, 0)).toBeNaN();
    view.setBigUint64(0, 2n ** 64n - 1n, true);
    expect(getUint64(view, 0)).toBeNaN();
  });

  test("texts and JSON come back", () => {
    const bytes = encodeText("xxgrün€yy");
    expect(bodyText(bytes, 2, bytes.length - 4)).toBe("grün€");
    expect(JSON.parse(bodyText(encodeJson({ a: [1, "ü"] }), 0, 99))).toEqual({ a: [1, "ü"] });
    const field = new Uint8Array(16);
    field.set(encodeText("abc"), 4);
    expect(fieldText(field, 4, 8)).toBe("abc");
    field.fill(0x61, 4, 12);
    expect(fieldText(field, 4, 8)).toBe("aaaaaaaa");
  });

  test("runs come back with offsets beyond 32 bits and lengths up to the limit", () => {
    const bytes = new Uint8Array(64);
    const view = new DataView(bytes.buffer, 8);
    for (const offset of [0, 7, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 40 - 1]) {
      const next = writeRun(view, 8, offset, Uint8Array.of(1, 2, 3));
      expect(next).toBe(8 + RUN_HEADER_SIZE + 8);
      expect(runOffset(view, 8)).toBe(offset);
      expect(runLength(view, 8)).toBe(3);
      expect([...bytes.subarray(8 + 8 + RUN_HEADER_SIZE).subarray(0, 3)]).toEqual([1, 2, 3]);
    }
    view.setUint32(0, 5, true);
    view.setUint32(4, 0x7fffff01, true);
    expect(runLength(view, 0)).toBe(RUN_LENGTH_MAX);
    expect(runOffset(view, 0)).toBe(2 ** 32 + 5);
  });

  test("masked runs come back with their words and changes", () => {
    const bytes = new Uint8Array(RUN_HEADER_SIZE + 512 + 4096);
    const view = viewOf(bytes);
    for (const offset of [0, 8, 2 ** 32, 2 ** 40 - 8]) {
      for (const words of [1, 7, 8, 9, 511, 512]) {
        const masks = new Uint8Array(words).fill(0xff);
        const next = writeMaskedRun(view, 0, offset, masks, new Uint8Array(8 * words).fill(3));
        expect(next).toBe(RUN_HEADER_SIZE + padded(words) + 8 * words);
        expect([runIsMasked(view, 0), runOffset(view, 0), runWords(view, 0)]).toEqual([true, offset, words]);
        expect([runLength(view, 0), runChanges(view, 0), runSize(view, 0)]).toEqual([8 * words, 8 * words, next]);
      }
      writeMaskedRun(view, 0, offset, Uint8Array.of(0, 1), Uint8Array.of(9));
      expect([runLength(view, 0), runChanges(view, 0), runSize(view, 0)]).toEqual([16, 1, 24]);
    }
  });

  test("dense runs come back with their words and changes", () => {
    for (const offset of [0, 8, 2 ** 32, 2 ** 40 - 8]) {
      for (const words of [1, 7, 8, 64, 65, 511, 512]) {
        for (const others of [0, 1, 8, 9].filter((some) => some <= words)) {
          const masks = new Uint8Array(words).fill(0xff).fill(3, words - others);
          const changes = 8 * (words - others) + 2 * others;
          const run = runs([[offset, changes, masks, true]]);
          const view = viewOf(run);
          expect([runIsMasked(view, 0), runIsDense(view, 0), runOffset(view, 0)]).toEqual([true, true, offset]);
          expect([runWords(view, 0), runLength(view, 0), runChanges(view, 0)]).toEqual([words, 8 * words, changes]);
          expect([runSize(view, 0), runMasks(view, 0)]).toEqual([run.length, others]);
        }
      }
    }
  });
});

/** 65 words, of which the first and the last have masks. */
function denseRun(change: (body: Uint8Array) => unknown = () => {}): Uint8Array {
  const masks = new Uint8Array(65).fill(0xff);
  masks[0] = 1;
  masks[64] = 2;
  const body = runs([[0, 63 * 8 + 2, masks, true]]);
  change(body);
  return body;
}

const maskedRun = (): Uint8Array => runs([[0, Uint8Array.of(1), Uint8Array.of(1)]]);

function unknownForm(): Uint8Array {
  const body = maskedRun();
  body[7] = (body[7] as number) | 0x20;
  return body;
}

describe("checkHandshake", () => {
  test("takes what encodeHandshake writes", () => {
    for (const kind of [Kind.HELLO, Kind.ATTACH, Kind.STATUS]) {
      const bytes = encodeHandshake(kind, encodeText("body"), { rank: 3, tag: 9 });
      expect(() => checkHandshake(viewOf(bytes), 0)).not.toThrow();
      expect(viewOf(bytes).getUint16(6, true)).toBe(3);
      expect(viewOf(bytes).getUint32(8, true)).toBe(9);
      expect(bytes.subarray(24, 32).toString()).toBe([...encodeText("dsmwire\0")].toString());
    }
    expect(MAGIC_LOW).toBe(0x776d7364);
    expect(MAGIC_HIGH).toBe(0x00657269);
  });

  test("refuses another magic and another version, each with its status", () => {
    for (let at = 24; at < 32; at += 1) {
      const bytes = encodeHandshake(Kind.HELLO, encodeText("body"));
      bytes[at]! ^= 1;
      expect(() => checkHandshake(viewOf(bytes), 0)).toThrow("the peer does not speak dsm");
    }
    const bytes = encodeHandshake(Kind.HELLO, encodeText("body"));
    viewOf(bytes).setUint32(36, 77, true);
    let refused: unknown;
    try {
      checkHandshake(viewOf(bytes), 0);
    } catch (error) {
      refused = error;
    }
    expect(refused).toBeInstanceOf(ProtocolError);
    expect((refused as ProtocolError).status).toBe(Status.VERSION);
    expect((refused as ProtocolError).message).toContain("version 77");
  });
});

describe("checkOperation", () => {
  test("takes every well-formed operation", () => {
    for (const length of [1, 2, 3, 4, 7, 8, 9, 16, 64, 100, 4096, MAP]) expect(check(store(0, length))).toBeNull();
    expect(check(store(MAP - 1, 1))).toBeNull();
    expect(check(store(0, STORE_MAX), STORE_MAX)).toBeNull();
    expect(check(store(2 ** 32 - 8, 8), 2 ** 32)).toBeNull();
    for (const op of Object.values(AtomicOp)) {
      for (const width of [1, 2, 4, 8, 16]) expect(check(atomic(op, width, MAP - width))).toBeNull();
    }
    expect(check(publication([]))).toBeNull();
    expect(
      check(
        publication([
          [0, 1],
          [5, 3],
          [4000, 200],
          [MAP - 1, 1],
        ]),
      ),
    ).toBeNull();
    expect(check(publication([[0, 9]], { op: 1 }))).toBeNull();
    expect(check(publication([[MAP - 16, Uint8Array.of(1, 2, 3), Uint8Array.of(0x81, 0x10)]]))).toBeNull();
    expect(check(publication([[0, new Uint8Array(4096), new Uint8Array(512).fill(0xff)]]))).toBeNull();
    expect(check(publication([[0, new Uint8Array(4096), new Uint8Array(512).fill(0xff), true]]))).toBeNull();
    expect(check(publication([[MAP - 16, Uint8Array.of(1, 2, 3), Uint8Array.of(0x81, 0x10), true]]))).toBeNull();
    expect(check({ kind: Kind.PUBLISH, body: denseRun() })).toBeNull();
    for (const name of ["a", "x".repeat(8), "x".repeat(NAME_MAX)]) {
      expect(check(semaphore(Kind.SEM_WAIT, name, { op: 1, aux: SEMAPHORE_VALUE_MAX }))).toBeNull();
      expect(check(semaphore(Kind.SEM_POST, name, { offset: 0 }))).toBeNull();
      expect(check(semaphore(Kind.SEM_POST, name, { offset: 1, aux: 0 }))).toBeNull();
      expect(check(semaphore(Kind.SEM_VALUE, name, { tag: NO_TAG }))).toBeNull();
      expect(check(semaphore(Kind.SEM_VALUE, name, { tag: NO_TAG, offset: SEMAPHORE_VALUE_MAX }))).toBeNull();
      expect(check({ kind: Kind.JOIN, offset: 0xffffffff, aux: 0xffffffff, body: encodeText(name) })).toBeNull();
    }
    expect(check({ kind: Kind.LEAVE, op: 0 })).toBeNull();
    expect(check({ kind: Kind.LEAVE, op: 1 })).toBeNull();
    expect(check({ kind: Kind.JOIN, op: 1, body: encodeText("no direct mode") })).toBeNull();
    expect(check({ kind: Kind.BARRIER })).toBeNull();
    for (const offset of [1, 2 ** 31 - 1]) expect(check({ kind: Kind.BARRIER, tag: NO_TAG, offset })).toBeNull();
    expect(check({ kind: Kind.SEM_CANCEL })).toBeNull();
  });

  const bad: [string, Frame | Uint8Array][] = [
    ["a store of nothing", store(0, 0)],
    ["a store whose length passes its body", { ...store(0, 8), length: 9 }],
    ["a store whose length falls a word short", { ...store(0, 16), length: 8 }],
    ["a store beyond STORE_MAX", store(0, STORE_MAX + 1)],
    ["a store with an enormous length", { ...store(0, 8), length: 0xffffffff }],
    ["a store at the end of the map", store(MAP, 1)],
    ["a store across the end of the map", store(MAP - 3, 4)],
    ["a store far outside", store(2 ** 52, 4)],
    ["an atomic without body", { kind: Kind.ATOMIC, op: 1, length: 4 }],
    ["an atomic with half a body", { kind: Kind.ATOMIC, op: 1, length: 4, body: new Uint8Array(16) }],
    ["an atomic with a larger body", { kind: Kind.ATOMIC, op: 1, length: 4, body: new Uint8Array(40) }],
    ["atomic operation 0", atomic(0, 4)],
    ["an atomic operation beyond the last", atomic(AtomicOp.NEG + 1, 4)],
    ["atomic operation 255", atomic(255, 4)],
    ...[0, 3, 5, 6, 7, 9, 12, 15, 17, 32, 0xffffffff].map((width): [string, Frame] => [
      `an atomic of width ${width}`,
      atomic(1, width),
    ]),
    ["an atomic across the end of the map", atomic(1, 8, MAP - 7)],
    ["a publication whose length is not its body", { ...publication([[0, 8]]), length: 8 }],
    ["a publication with flag 2", publication([[0, 8]], { op: 2 })],
    ["a publication that is staged", publication([[0, 8]], { op: 3 })],
    ["a publication with an empty run", publication([[0, 0]])],
    ["a masked run across the end of the map", publication([[MAP - 8, Uint8Array.of(1, 2), Uint8Array.of(1, 1)]])],
    ["a masked run that begins inside a word", publication([[4, Uint8Array.of(1), Uint8Array.of(1)]])],
    ["a masked run with fewer bytes than its masks", publication([[0, Uint8Array.of(1), Uint8Array.of(3)]])],
    ["a masked run with more bytes than its masks", publication([[0, Uint8Array.of(1, 2), Uint8Array.of(1)]])],
    ["a masked run of unknown form", { kind: Kind.PUBLISH, body: unknownForm() }],
    ["a dense run that begins inside a word", { kind: Kind.PUBLISH, body: denseRun((body) => body.fill(4, 0, 1)) }],
    ["a dense run with more masks than it says", { kind: Kind.PUBLISH, body: denseRun((body) => body.fill(1, 8, 9)) }],
    ["a dense run with fewer masks than it says", { kind: Kind.PUBLISH, body: denseRun((body) => body.fill(3, 8, 9)) }],
    ["a dense run with masks without end", { kind: Kind.PUBLISH, body: denseRun((body) => body.fill(0xff, 8, 12)) }],
    ["a dense run with a number above", { kind: Kind.PUBLISH, body: denseRun((body) => body.fill(1, 12, 13)) }],
    ["a dense run with bits of words behind", { kind: Kind.PUBLISH, body: denseRun((body) => body.fill(2, 24, 25)) }],
    ["a dense run with a bit too few", { kind: Kind.PUBLISH, body: denseRun((body) => body.fill(0x7f, 17, 18)) }],
    ["a dense run with another mask", { kind: Kind.PUBLISH, body: denseRun((body) => body.fill(3, 32, 33)) }],
    ["a dense run that is cut off", { kind: Kind.PUBLISH, body: denseRun().subarray(0, 16) }],
    ["a dense run of nothing but a header", { kind: Kind.PUBLISH, body: denseRun().subarray(0, 8) }],
    ["a masked run that is cut off", { kind: Kind.PUBLISH, body: maskedRun().subarray(0, 16) }],
    ["a publication with a run across the end of the map", publication([[MAP - 3, 4]])],
    ["a publication with a run far outside", publication([[2 ** 40 - 1, 1]])],
    ["a publication whose last run is cut off", { kind: Kind.PUBLISH, body: runs([[0, 24]]).subarray(0, 24) }],
    ["a publication beyond the part limit", { kind: Kind.PUBLISH, body: new Uint8Array(PUBLISH_PART_MAX + 8).fill(1) }],
    ["a wait without a name", { kind: Kind.SEM_WAIT }],
    ["a wait whose name is too long", semaphore(Kind.SEM_WAIT, "x".repeat(NAME_MAX + 1))],
    ["a wait whose length passes its body", semaphore(Kind.SEM_WAIT, "abc", { length: 9 })],
    ["a wait whose length falls short of its body", semaphore(Kind.SEM_WAIT, "x".repeat(20), { length: 3 })],
    ["a wait with an initial value beyond the limit", semaphore(Kind.SEM_WAIT, "s", { aux: SEMAPHORE_VALUE_MAX + 1 })],
    ["a wait with flag 2", semaphore(Kind.SEM_WAIT, "s", { op: 2 })],
    ["a post without a name", { kind: Kind.SEM_POST, offset: 1 }],
    ["a post of 2", semaphore(Kind.SEM_POST, "s", { offset: 2 })],
    ["the value of a semaphore without a name", { kind: Kind.SEM_VALUE, tag: NO_TAG }],
    ["the value of a semaphore as a request", semaphore(Kind.SEM_VALUE, "s", { tag: 7 })],
    ["a value beyond the limit", semaphore(Kind.SEM_VALUE, "s", { tag: NO_TAG, offset: SEMAPHORE_VALUE_MAX + 1 })],
    ["a wait whose process half knows the cell", semaphore(Kind.SEM_WAIT, "s", { offset: 2 })],
    ["a cancel with flag 2", { kind: Kind.SEM_CANCEL, op: 2 }],
    ["a post of 2^52", semaphore(Kind.SEM_POST, "s", { offset: 2 ** 52 })],
    ["a leave with a body", { kind: Kind.LEAVE, body: new Uint8Array(1) }],
    ["a leave with flag 2", { kind: Kind.LEAVE, op: 2 }],
    ["a join without a node", { kind: Kind.JOIN }],
    ["a join whose node name is too long", { kind: Kind.JOIN, body: encodeText("x".repeat(NAME_MAX + 1)) }],
    ["a join with a process id beyond 32 bits", { kind: Kind.JOIN, offset: 2 ** 32, body: encodeText("a") }],
    ["a join with flag 2", { kind: Kind.JOIN, op: 2, body: encodeText("a") }],
    ["an allocation of nothing", { kind: Kind.ALLOC, offset: 0, aux: 8 }],
    ["an allocation with a body", { kind: Kind.ALLOC, offset: 8, aux: 8, body: encodeText("name") }],
    ...[0, 3, 24, ALIGN_MAX - 1, 2 * ALIGN_MAX, 0x80000000, 0xffffffff].flatMap((aux): [string, Frame][] => [
      [`an allocation aligned to ${aux}`, { kind: Kind.ALLOC, offset: 8, aux }],
      [`a named block aligned to ${aux}`, { kind: Kind.NAMED, offset: 8, aux, body: encodeText("name") }],
    ]),
    ["a named block of nothing", { kind: Kind.NAMED, offset: 0, aux: 8, body: encodeText("name") }],
    ["a named block without a name", { kind: Kind.NAMED, offset: 8, aux: 8 }],
    [
      "a named block whose name is too long",
      { kind: Kind.NAMED, offset: 8, aux: 8, body: encodeText("x".repeat(NAME_MAX + 1)) },
    ],
    [
      "a named block whose length passes its body",
      { kind: Kind.NAMED, offset: 8, aux: 8, length: 9, body: encodeText("abc") },
    ],
    [
      "a named block whose length falls short of its body",
      { kind: Kind.NAMED, offset: 8, aux: 8, length: 3, body: encodeText("x".repeat(20)) },
    ],
    ["a free outside the map", { kind: Kind.FREE, offset: MAP }],
    ["a free with a body", { kind: Kind.FREE, body: new Uint8Array(8) }],
    ["a lock without a name", { kind: Kind.LOCK }],
    ["a lock with too long a name", { kind: Kind.LOCK, body: new Uint8Array(64) }],
    ["an unlock whose name does not fit", { kind: Kind.UNLOCK, body: encodeText("a"), length: 9 }],
    ["a lock with an invalid flag", { kind: Kind.LOCK, op: 2, body: encodeText("a") }],
    ["a return without a name", { kind: Kind.RETURN }],
    ["a return with an invalid flag", { kind: Kind.RETURN, op: 2, body: encodeText("a") }],
    ["a return with another invalid flag", { kind: Kind.RETURN, aux: 2, body: encodeText("a") }],
    ["a wait for a condition without a mutex", { kind: Kind.COND_WAIT, offset: 8 }],
    ["a wait for a condition that is not aligned", { kind: Kind.COND_WAIT, offset: 4, body: encodeText("a") }],
    ["a signal for none", { kind: Kind.COND_SIGNAL, offset: 8 }],
    ["a signal outside the map", { kind: Kind.COND_SIGNAL, offset: MAP, aux: 1 }],
    ["a signal with a body", { kind: Kind.COND_SIGNAL, offset: 8, aux: 1, body: new Uint8Array(8) }],
    ["a reader-writer lock that is no flag", { kind: Kind.RW_LOCK, offset: 8, aux: 2 }],
    ["an attempt that is no flag", { kind: Kind.RW_LOCK, offset: 8, op: 2 }],
    ["a reader-writer lock with a body", { kind: Kind.RW_LOCK, offset: 8, body: new Uint8Array(8) }],
    ["a reader-writer lock that is not aligned", { kind: Kind.RW_UNLOCK, offset: 12 }],
    ["a mark that is no flag", { kind: Kind.RW_UNLOCK, offset: 8, op: 2 }],
    ["a barrier for none", { kind: Kind.ARRIVE, offset: 8 }],
    ["a barrier for too many", { kind: Kind.ARRIVE, offset: 8, aux: ARRIVALS_MAX + 1 }],
    ["a barrier outside the map", { kind: Kind.ARRIVE, offset: MAP, aux: 2 }],
    ["an object of no kind", { kind: Kind.OBJECT_INIT, offset: 8, op: 6 }],
    ["a mutex with a value", { kind: Kind.OBJECT_INIT, offset: 8, op: ObjectKind.MUTEX, aux: 1 }],
    [
      "a semaphore with too large a value",
      { kind: Kind.OBJECT_INIT, offset: 8, op: ObjectKind.SEMAPHORE, aux: 2 ** 31 },
    ],
    ["an object outside the map", { kind: Kind.OBJECT_INIT, offset: MAP, op: ObjectKind.MUTEX }],
    ["a wake outside the map", { kind: Kind.FUTEX_WAKE, offset: MAP, aux: 1 }],
    ["a wake with a body", { kind: Kind.FUTEX_WAKE, aux: 1, body: new Uint8Array(8) }],
    ["a sleep without a body", { kind: Kind.FUTEX_WAIT, length: 8 }],
    ["a sleep with a larger body", { ...sleep(8), body: new Uint8Array(16) }],
    ["a sleep with flag 2", sleep(8, { op: 2 })],
    ["a sleep across the end of the map", sleep(8, { offset: MAP - 7 })],
    ...[0, 3, 5, 6, 7, 9, 16, 17, 0xffffffff].map((width): [string, Frame] => [
      `a sleep of width ${width}`,
      sleep(width),
    ]),
    ["a barrier with a number and a tag", { kind: Kind.BARRIER, tag: 7, offset: 1 }],
    ["a barrier with too large a number", { kind: Kind.BARRIER, tag: NO_TAG, offset: 2 ** 31 }],
    ["a barrier with a number beyond 2^53", { kind: Kind.BARRIER, tag: NO_TAG, offset: 2 ** 60 }],
    ["a barrier with a body", { kind: Kind.BARRIER, body: new Uint8Array(8) }],
    ["a cancel with a body", { kind: Kind.SEM_CANCEL, body: new Uint8Array(8) }],
  ];
  test.each(bad)("refuses %s", (_name, frame) => {
    expect(check(frame)).toBeString();
  });

  test("refuses offsets beyond 2^53 wherever an offset counts", () => {
    for (const frame of [
      store(0, 8),
      atomic(1, 8),
      semaphore(Kind.SEM_POST, "s"),
      { kind: Kind.JOIN, body: encodeText("a") },
      { kind: Kind.ALLOC, aux: 8 },
      { kind: Kind.NAMED, aux: 8, body: encodeText("a") },
      { kind: Kind.FREE },
      sleep(8),
      { kind: Kind.FUTEX_WAKE, aux: 1 },
    ]) {
      const bytes = encode(frame);
      viewOf(bytes).setBigUint64(24, 2n ** 64n - 4n, true);
      expect(check(bytes)).toBeString();
    }
  });

  test("refuses every kind that is not ordered", () => {
    const ordered = new Set<number>(Object.values(Kind).filter(isOrdered));
    for (let kind = 0; kind < 256; kind += 1) {
      if (!ordered.has(kind)) expect(check({ kind: kind as Kind })).toBe(`no ordered operation has kind ${kind}`);
    }
  });

  test("takes every well-formed allocation, sleep and wake", () => {
    for (const size of [1, 8, MAP, MAP + 1, Number.MAX_SAFE_INTEGER]) {
      for (let align = 1; align <= ALIGN_MAX; align *= 2) {
        // Whether there is room is not a question of form.
        expect(check({ kind: Kind.ALLOC, offset: size, aux: align })).toBeNull();
        expect(check({ kind: Kind.NAMED, offset: size, aux: align, body: encodeText("grid") })).toBeNull();
      }
    }
    for (const name of ["x", "x".repeat(8), "x".repeat(NAME_MAX)]) {
      expect(check({ kind: Kind.NAMED, offset: 1, aux: 8, body: encodeText(name) })).toBeNull();
    }
    for (const offset of [0, 1, MAP - 1]) {
      expect(check({ kind: Kind.FREE, offset })).toBeNull();
      for (const aux of [0, 1, 0xffffffff]) expect(check({ kind: Kind.FUTEX_WAKE, offset, aux })).toBeNull();
    }
    for (const width of [1, 2, 4, 8]) {
      for (const op of [0, 1]) {
        expect(check(sleep(width, { op }))).toBeNull();
        expect(check(sleep(width, { op, offset: MAP - width }))).toBeNull();
        expect(check(sleep(width, { op, offset: 3 }))).toBeNull();
      }
    }
  });

  test("the largest operation fits a frame", () => {
    expect(padded(HEADER_SIZE + STORE_MAX)).toBeLessThanOrEqual(FRAME_MAX);
    expect(padded(HEADER_SIZE + PUBLISH_PART_MAX)).toBeLessThanOrEqual(FRAME_MAX);
  });
});

describe("wireHeader", () => {
  test("is the same every time and names every kind and field", () => {
    const header = wireHeader();
    expect(wireHeader()).toBe(header);
    for (const [name, value] of Object.entries(Kind)) expect(header).toContain(`  WIRE_${name} = ${value},\n`);
    for (const struct of ["header", "process_hello", "joined"]) expect(header).toContain(`struct wire_${struct} {`);
    expect(header).toContain("offsetof(struct wire_process_hello, wished_rank) == 16");
    expect(header).toContain(`sizeof(struct wire_header) == ${HEADER_SIZE}`);
    expect(header).toContain("#define WIRE_MAGIC 0x00657269776d7364ull\n");
    expect(header.endsWith("#endif\n")).toBe(true);
  });
});
