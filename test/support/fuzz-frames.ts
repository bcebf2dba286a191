/** Arbitrary frames for property tests: well formed ones of every kind, damaged ones, and noise. */
import fc from "fast-check";
import { FRAME_MAX, OBJECT_ALIGN, PAGE_SIZE } from "../../src/core/base/limits.ts";
import { objectName } from "../../src/core/base/names.ts";
import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { encode, encodeJson, encodeText, type Frame, setUint64 } from "../../src/core/wire/frame.ts";
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { AtomicOp, Kind } from "../../src/core/wire/kinds.ts";
import { processHello } from "./core-cluster.ts";
import { runs, viewOf } from "./core-frames.ts";

/** What every property is checked with; DSM_FUZZ_SEED, DSM_FUZZ_PATH and DSM_FUZZ_RUNS (a factor) change it. */
export function parameters(numRuns: number): fc.Parameters<unknown> {
  const { DSM_FUZZ_SEED, DSM_FUZZ_PATH, DSM_FUZZ_RUNS } = process.env;
  return {
    // One seed for all test runs: what fails once fails again. `npm run fuzz` draws new ones.
    seed: DSM_FUZZ_SEED === undefined ? 20_240_520 : Number(DSM_FUZZ_SEED),
    ...(DSM_FUZZ_PATH === undefined ? {} : { path: DSM_FUZZ_PATH }),
    numRuns: Math.ceil(numRuns * Number(DSM_FUZZ_RUNS ?? 1)),
  };
}

const bytes = (minLength: number, maxLength: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength, maxLength });

/** Numbers where mistakes hide: edges of the map, of pages, of the fields. */
const edges = (mapSize: number): number[] => [
  ...[0, 1, 7, 8, 40, 48, PAGE_SIZE - 1, PAGE_SIZE, mapSize - 8, mapSize - 1, mapSize, mapSize + 1, FRAME_MAX],
  ...[0x7fffffff, 0x80000000, 0xffffffff],
];

/** A place in the map, sometimes just outside. */
const place = (mapSize: number): fc.Arbitrary<number> =>
  fc.oneof(
    { weight: 6, arbitrary: fc.nat(200) },
    { weight: 2, arbitrary: fc.nat(mapSize) },
    fc.constantFrom(...edges(mapSize)),
  );

const name = fc.constantFrom("s", "t", "", "a/b", "x".repeat(63), "x".repeat(64), "\u00e9\u{1f600}", "a\u0000b");

/** What a process asks for; not all of it may be granted. */
export function operation(mapSize: number): fc.Arbitrary<Frame> {
  const at = place(mapSize);
  const small = fc.nat(3);
  const run = fc.tuple(at, fc.integer({ min: 1, max: 70 }));
  return fc.oneof(
    fc.record({ kind: fc.constant(Kind.STORE), offset: at, body: bytes(1, 80) }),
    fc.record({
      kind: fc.constant(Kind.ATOMIC),
      op: fc.integer({ min: 1, max: AtomicOp.NEG }),
      length: fc.constantFrom(1, 2, 4, 8, 16),
      offset: at,
      body: bytes(32, 32),
    }),
    fc
      .tuple(fc.array(run, { maxLength: 4 }), fc.nat(1))
      .map(([list, op]) => ({ kind: Kind.PUBLISH, op, body: runs(list) })),
    fc.constant({ kind: Kind.BARRIER }),
    fc.tuple(name, fc.nat(1), small).map(([s, op, aux]) => ({ kind: Kind.SEM_WAIT, op, aux, body: encodeText(s) })),
    fc.tuple(name, small, small).map(([s, offset, aux]) => ({ kind: Kind.SEM_POST, offset, aux, body: encodeText(s) })),
    fc.constant({ kind: Kind.SEM_CANCEL }),
    fc.tuple(at, fc.nat(13)).map(([offset, shift]) => ({ kind: Kind.ALLOC, offset, aux: 2 ** shift })),
    fc.tuple(name, at).map(([s, offset]) => ({ kind: Kind.NAMED, offset, aux: 8, body: encodeText(s) })),
    fc.record({ kind: fc.constant(Kind.FREE), offset: at }),
    fc.record({
      kind: fc.constant(Kind.FUTEX_WAIT),
      op: fc.nat(1),
      offset: at,
      length: fc.constantFrom(1, 2, 4, 8),
      body: fc.constant(new Uint8Array(8)),
    }),
    fc.record({ kind: fc.constant(Kind.FUTEX_WAKE), offset: at, aux: small }),
    fc
      .tuple(fc.constantFrom(Kind.LOCK, Kind.UNLOCK), at, fc.nat(1))
      .map(([kind, offset, op]) => ({ kind, op, body: encodeText(objectName("mutex", offset)) })),
    fc.tuple(at, at).map(([offset, mutex]) => {
      return { kind: Kind.COND_WAIT, offset, body: encodeText(objectName("mutex", mutex)) };
    }),
    fc.record({
      kind: fc.constantFrom(Kind.COND_SIGNAL, Kind.RW_LOCK, Kind.RW_UNLOCK, Kind.ARRIVE, Kind.OBJECT_INIT),
      op: fc.nat(5),
      offset: at.map((offset) => offset - (offset % OBJECT_ALIGN)),
      aux: small,
    }),
    fc.record({ kind: fc.constantFrom(Kind.SHADOW, Kind.UNSHADOW), offset: at, length: at, aux: at }),
    fc.record({ kind: fc.constant(Kind.MEMORY) }),
    { weight: 1, arbitrary: fc.record({ kind: fc.constant(Kind.LEAVE), op: fc.nat(2) }) },
    fc.record({ kind: fc.constant(Kind.JOIN), offset: fc.nat(0xffff), body: name.map(encodeText) }),
    fc.record({ kind: fc.constantFrom(Kind.REPLY, Kind.FAIL, Kind.WELCOME), body: bytes(0, 16) }),
    fc.record({ kind: fc.nat(255) as fc.Arbitrary<Kind>, op: fc.nat(255), body: bytes(0, 40) }),
  );
}

const greeting: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc
    .record({
      session: fc.constantFrom("s", "other"),
      node: fc.constantFrom("x", "a", "", "a/b"),
      processes: fc.constantFrom(0, 1, 5, 1e300, "5"),
      size: fc.constantFrom(0, 8192, -1, null),
      order: fc.constantFrom("", "release", "sequential", "none"),
    })
    .map((hello) => encodeHandshake(Kind.HELLO, encodeJson(hello))),
  fc
    .constantFrom("[]", "null", "{", "1", `{"session":{}}`, "[".repeat(3000))
    .map((text) => encodeHandshake(Kind.HELLO, encodeText(text))),
  fc.constant(encodeHandshake(Kind.STATUS, new Uint8Array(0))),
  fc.tuple(bytes(0, 9), fc.nat(6)).map(([token, rank]) => encodeHandshake(Kind.ATTACH, token, { rank })),
  fc.tuple(fc.constantFrom("s", "other"), fc.nat(6)).map(([session, rank]) => processHello(session, 9, { rank })),
);

/** A change that breaks a frame, or not. */
type Damage =
  | { do: "cut"; part: number }
  | { do: "double"; part: number }
  | { do: "byte"; part: number; value: number }
  | { do: "bit"; part: number; value: number }
  | { do: "word"; field: number; value: number }
  | { do: "far"; field: number; value: number };

const damage = (mapSize: number): fc.Arbitrary<Damage> =>
  fc.oneof(
    fc.record({ do: fc.constant("cut" as const), part: fc.nat(999) }),
    fc.record({ do: fc.constant("double" as const), part: fc.nat(999) }),
    fc.record({ do: fc.constant("byte" as const), part: fc.nat(999), value: fc.nat(255) }),
    fc.record({ do: fc.constant("bit" as const), part: fc.nat(999), value: fc.nat(7) }),
    fc.record({ do: fc.constant("word" as const), field: fc.nat(12), value: fc.constantFrom(...edges(mapSize)) }),
    fc.record({
      do: fc.constant("far" as const),
      field: fc.constantFrom(16, 24, 40),
      value: fc.constantFrom(2 ** 32, 2 ** 40 - 1, 2 ** 53 - 1, 2 ** 53, 2 ** 63),
    }),
  );

function damaged(frame: Uint8Array, change: Damage): Uint8Array {
  const copy = frame.slice();
  const view = viewOf(copy);
  switch (change.do) {
    case "cut":
      return copy.subarray(0, Math.floor((copy.length * change.part) / 1000));
    case "double":
      return Buffer.concat([copy, copy.subarray(Math.floor((copy.length * change.part) / 1000))]);
    case "byte":
      if (copy.length > 0) copy[Math.floor((copy.length * change.part) / 1000)] = change.value;
      return copy;
    case "bit":
      if (copy.length > 0) copy[Math.floor((copy.length * change.part) / 1000)]! ^= 1 << change.value;
      return copy;
    case "word":
      if (4 * change.field + 4 <= copy.length) view.setUint32(4 * change.field, change.value, true);
      return copy;
    case "far":
      if (change.field + 8 <= copy.length) setUint64(view, change.field, change.value);
      return copy;
  }
}

/** Bytes of a peer: a frame, a damaged one, a greeting, or noise. `fields` are put into every frame. */
export function sent(mapSize: number, fields: fc.Arbitrary<Partial<Frame>>): fc.Arbitrary<Uint8Array> {
  const valid = fc.tuple(operation(mapSize), fields).map(([frame, more]) => encode({ ...frame, ...more }));
  const broken = (of: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array> =>
    fc
      .tuple(of, fc.array(damage(mapSize), { minLength: 1, maxLength: 2 }))
      .map(([frame, list]) => list.reduce(damaged, frame));
  return fc.oneof(
    { weight: 8, arbitrary: valid },
    { weight: 4, arbitrary: broken(valid) },
    { weight: 2, arbitrary: greeting },
    { weight: 1, arbitrary: broken(greeting) },
    { weight: 1, arbitrary: bytes(0, 200) },
  );
}

/** Where a stream is cut: lengths of the pieces, over and over. */
export const cuts: fc.Arbitrary<number[]> = fc.array(
  fc.oneof(
    fc.integer({ min: 1, max: 9 }),
    fc.integer({ min: 1, max: 100 }),
    fc.constant(HEADER_SIZE),
    fc.constant(5000),
  ),
  { minLength: 1, maxLength: 8 },
);

/** The stream in pieces, each a Buffer of its own as sockets give. */
export function pieces(stream: Uint8Array, lengths: readonly number[]): Buffer[] {
  const list: Buffer[] = [];
  for (let at = 0; at < stream.length; ) {
    const length = lengths[list.length % lengths.length] as number;
    list.push(Buffer.from(stream.subarray(at, at + length)));
    at += length;
  }
  return list;
}
