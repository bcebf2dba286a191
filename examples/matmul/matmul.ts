/**
 * The product C = A * B of two square matrices. The processes share all three; each computes its own rows of C.
 *
 *   dsm run -n 4 -- examples/matmul/matmul.ts --size 1024 --time
 */
import { parseArgs } from "node:util";
import { DsmError, join, type Session } from "dsm";

const usage = `usage: dsm run -n N -- matmul.ts [--size ROWS] [--check] [--time]
       matmul.ts --sequential [--size ROWS] [--time]

Multiplies two matrices of ROWS x ROWS numbers (1 to 4096, default 512) and prints the trace of the product.
--sequential does it alone, without a session. --check compares the result with that of one process, byte for byte.
--time prints the seconds of the computing part. The order of the session is "release" unless DSM_ORDER or
dsm run --order says otherwise.`;

function badArguments(problem: string): never {
  console.error(`matmul: ${problem}\n${usage}`);
  process.exit(2);
}

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        check: { type: "boolean", default: false },
        help: { type: "boolean", short: "h" },
        sequential: { type: "boolean", default: false },
        size: { type: "string", default: "512" },
        time: { type: "boolean", default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const size = /^\d{1,8}$/.test(values.size) ? Number(values.size) : 0;
    if (size < 1 || size > 4096) {
      return badArguments(`--size must be a number from 1 to 4096, and "${values.size}" was given`);
    }
    const { check, sequential, time } = values;
    if (check && sequential) return badArguments("--check compares with --sequential; give one");
    return { size, check, sequential, time };
  } catch (error) {
    return badArguments((error as Error).message);
  }
}

const { size, check, sequential, time } = readArguments();

/** One line for each step done. */
const say = (step: string) => console.log(`matmul: ${step}`);

function fillRows(a: Float64Array, b: Float64Array, first: number, last: number): void {
  for (let row = first; row < last; row++) {
    for (let column = 0; column < size; column++) {
      a[row * size + column] = ((row * 31 + column * 17) % 101) / 101 - 0.25;
      b[row * size + column] = ((row * 13 + column * 29) % 97) / 97 - 0.25;
    }
  }
}

/** So many rows of B are used for all rows of C before the next ones, so that they stay in the processor's cache. */
const ROWS_AT_ONCE = 32;

/**
 * Rows of A * B, from those rows of A. Each sum grows in the order of the rows of B, whichever process computes it, so that every
 * process gets the same bytes.
 */
function multiply(a: Float64Array, b: Float64Array): Float64Array {
  const c = new Float64Array(a.length);
  for (let from = 0; from < size; from += ROWS_AT_ONCE) {
    const to = Math.min(from + ROWS_AT_ONCE, size);
    for (let row = 0; row < c.length; row += size) {
      for (let k = from; k < to; k++) addRow(c, row, a[row + k]!, b, k * size);
    }
  }
  return c;
}

/** Adds a row of B times a factor to a row of C. */
function addRow(c: Float64Array, row: number, factor: number, b: Float64Array, from: number): void {
  for (let column = 0; column < size; column++) c[row + column]! += factor * b[from + column]!;
}

/** The product as one process computes it. */
function alone(): Float64Array {
  const a = new Float64Array(size * size);
  const b = new Float64Array(size * size);
  fillRows(a, b, 0, size);
  const began = performance.now();
  const c = multiply(a, b);
  if (time) say(`${((performance.now() - began) / 1000).toFixed(3)} seconds, one process`);
  return c;
}

function report(c: Float64Array, by: string): void {
  let trace = 0;
  for (let i = 0; i < size; i++) trace += c[i * size + i]!;
  say(`${size} x ${size}, the trace of the product is ${trace.toFixed(10)} (${by})`);
}

function compare(c: Float64Array): void {
  const expected = alone();
  const bad = c.findIndex((sum, i) => !Object.is(sum, expected[i]));
  if (bad < 0) {
    say("the same as the sequential result, byte for byte");
    return;
  }
  const where = `row ${Math.floor(bad / size)}, column ${bad % size}`;
  console.error(`matmul: ${where} is ${c[bad]}, and ${expected[bad]} in the sequential result`);
  process.exitCode = 1;
}

function together(session: Session): void {
  const { rank, processes } = session;
  const a = session.named("a", Float64Array, size * size);
  const b = session.named("b", Float64Array, size * size);
  const c = session.named("c", Float64Array, size * size);

  const first = Math.floor((size * rank) / processes);
  const last = Math.floor((size * (rank + 1)) / processes);
  fillRows(a, b, first, last);
  session.barrierSync(); // publishes what was stored: now all have all of A and B

  const began = performance.now();
  // Every sum changes many times and only its last value is for others, so it grows in memory of this process.
  c.set(multiply(a.subarray(first * size, last * size), b), first * size);
  session.barrierSync();
  const took = performance.now() - began;

  if (rank !== 0) return;
  if (time) say(`${(took / 1000).toFixed(3)} seconds, ${processes} processes`);
  report(c, `${processes} processes`);
  if (check) compare(c);
}

try {
  if (sequential) {
    report(alone(), "one process");
  } else {
    // What the program says wins over the environment, so it says nothing where DSM_ORDER does.
    const order = process.env.DSM_ORDER ? undefined : "release";
    // Three matrices; named() begins each at a multiple of 64 bytes.
    const session = await join({ size: 3 * (8 * size * size + 64), order });
    together(session);
    await session.leave();
  }
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`matmul: ${error.message}`);
  process.exitCode = 1;
}
