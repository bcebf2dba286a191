/** What the types of structs say, checked by `npm run check` and never run: every line without an error must compile, and every error that is expected must be one. */
import {
  type AtomicField,
  bool,
  dsmBarrier,
  dsmCond,
  dsmMutex,
  dsmRwlock,
  dsmSemaphore,
  f32,
  f64,
  type Grid,
  i8,
  i32,
  i64,
  type Lock,
  type MapBarrier,
  type MapCond,
  type MapMutex,
  type MapRwlock,
  type MapSemaphore,
  mutex,
  type Session,
  type Shared,
  struct,
  u16,
  u64,
  utf8,
} from "dsm";

/** True where the two are one type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const check = <_ extends true>(): void => {};

declare const session: Session;

const point = struct({ x: f64, y: f64 });
const shared = session.struct("state", {
  turn: i32,
  big: i64,
  done: bool,
  sum: f64,
  grid: f32.array(512, 512),
  row: u16.array(8),
  flags: bool.array(8),
  wide: u64.array(2, 3, 4),
  name: utf8(32),
  lock: mutex,
  guard: dsmMutex,
  table: dsmRwlock,
  changed: dsmCond,
  free: dsmSemaphore,
  step: dsmBarrier,
  locks: dsmMutex.array(3),
  at: point,
  points: point.array(10),
  nested: { a: i8, deeper: { b: u64 } },
});

check<Same<typeof shared.turn, number>>();
check<Same<typeof shared.big, bigint>>();
check<Same<typeof shared.done, boolean>>();
check<Same<typeof shared.sum, number>>();
check<Same<typeof shared.grid, Grid<Float32Array<ArrayBuffer>>>>();
check<Same<ReturnType<typeof shared.grid.row>, Float32Array<ArrayBuffer>>>();
check<Same<typeof shared.row, Uint16Array<ArrayBuffer>>>();
check<Same<typeof shared.flags, Uint8Array<ArrayBuffer>>>();
check<Same<typeof shared.wide, Grid<BigUint64Array<ArrayBuffer>>>>();
check<Same<typeof shared.name, string>>();
check<Same<typeof shared.lock, Lock>>();
check<Same<typeof shared.guard, MapMutex>>();
check<Same<typeof shared.table, MapRwlock>>();
check<Same<typeof shared.changed, MapCond>>();
check<Same<typeof shared.free, MapSemaphore>>();
check<Same<typeof shared.step, MapBarrier>>();
check<Same<typeof shared.locks, readonly MapMutex[]>>();
check<Same<typeof shared.at.x, number>>();
check<Same<(typeof shared.points)[number]["y"], number>>();
check<Same<typeof shared.nested.a, number>>();
check<Same<typeof shared.nested.deeper.b, bigint>>();
check<Same<typeof shared.$atomic.turn, AtomicField<number>>>();
check<Same<typeof shared.$atomic.big, AtomicField<bigint>>>();
check<Same<keyof typeof shared.$atomic, "turn" | "big">>();
check<Same<keyof typeof shared.nested.$atomic, "a">>();
check<Same<typeof shared.$bytes, Uint8Array<ArrayBuffer>>>();

shared.turn += 1;
shared.big += 1n;
shared.done = true;
shared.name = "Ada";
shared.grid[3] = 1;
shared.at.x = 2;
shared.nested.deeper.b = 2n;
const before: number = shared.$atomic.turn.add(1);
const big: bigint = shared.$atomic.big.compareExchange(0n, 1n);
void [before, big, shared.$atomic.turn.waitFor(0, { timeoutMs: 1 }), shared.$atomic.turn.notify(1)];

// The same by a definition, and as a parameter.
const defined = session.struct("point", point);
check<Same<typeof defined.x, number>>();
check<Same<Shared<typeof point>, typeof defined>>();
check<Same<Shared<typeof point>, Shared<{ readonly x: typeof f64; readonly y: typeof f64 }>>>();
const length = ({ x, y }: Shared<typeof point>): number => Math.hypot(x, y);
length(defined);
length(shared.at);

// @ts-expect-error: a number, not text
shared.turn = "1";
// @ts-expect-error: a number, not a bigint
shared.turn = 1n;
// @ts-expect-error: a bigint, not a number
shared.big = 1;
// @ts-expect-error: a bool, not a number
shared.done = 1;
// @ts-expect-error: text, not a number
shared.name = 1;
// @ts-expect-error: an array is changed inside
shared.row = new Uint16Array(8);
// @ts-expect-error: a struct is changed inside
shared.at = { x: 1, y: 2 };
// @ts-expect-error: a lock is not assigned
shared.lock = session.lock("other");
// @ts-expect-error: no such field
shared.trun;
// @ts-expect-error: the elements are fixed
shared.points.push(defined);
// @ts-expect-error: what is atomic is an operation
shared.$atomic.turn = 1;
// @ts-expect-error: no atomic operations on floating point
shared.$atomic.sum;
// @ts-expect-error: nor on bools
shared.$atomic.done;
// @ts-expect-error: a bigint field adds bigints
shared.$atomic.big.add(1);
// @ts-expect-error: a number is no type of a field
session.struct("wrong", { turn: 1 });
// @ts-expect-error: utf8 needs its size
session.struct("wrong", { name: utf8 });
// @ts-expect-error: a size is a number
utf8("32");
// @ts-expect-error: an array needs its length
f64.array();
// @ts-expect-error: locks do not come in arrays
mutex.array(2);
