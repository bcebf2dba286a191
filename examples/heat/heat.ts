/**
 * The heat in a square plate, by Jacobi's method: at every step each cell gets the mean of its four neighbours. Each
 * process has its rows of the plate in memory of its own, and shares the outermost ones with its neighbours. It has a
 * few of their rows too, and computes them as well, so that it must meet them only once in so many steps.
 *
 *   dsm run -n 4 -- examples/heat/heat.ts --time heat.png
 */
import { parseArgs } from "node:util";
import { DsmError, join, type Session } from "dsm";
import { encodePng } from "./png.ts";

const usage = `usage: dsm run -n N -- heat.ts [--size CELLS] [--steps STEPS] [--check] [--time] [OUT.png]
       heat.ts --sequential [--size CELLS] [--steps STEPS] [--time] [OUT.png]

Spreads the heat of a ring in a plate of CELLS x CELLS cells (3 to 8192, default 512) for STEPS steps (1 to 1000000,
default 1000), and writes a picture of it to OUT.png. The edge of the plate stays hot at the top and cold at the other
sides. --sequential does it alone, without a session. --check compares the result with that of one process, byte for
byte. --time prints the seconds of the computing part. The order of the session is "release" unless DSM_ORDER or
dsm run --order says otherwise.`;

function badArguments(problem: string): never {
  console.error(`heat: ${problem}\n${usage}`);
  process.exit(2);
}

function number(option: string, text: string, min: number, max: number): number {
  const value = /^\d{1,8}$/.test(text) ? Number(text) : -1;
  if (value >= min && value <= max) return value;
  return badArguments(`${option} must be a number from ${min} to ${max}, and "${text}" was given`);
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        check: { type: "boolean", default: false },
        help: { type: "boolean", short: "h" },
        sequential: { type: "boolean", default: false },
        size: { type: "string", default: "512" },
        steps: { type: "string", default: "1000" },
        time: { type: "boolean", default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const size = number("--size", values.size, 3, 8192);
    const steps = number("--steps", values.steps, 1, 1_000_000);
    if (positionals.length > 1) return badArguments(`one file name at most, and "${positionals[1]}" was given`);
    const { check, sequential, time } = values;
    if (check && sequential) return badArguments("--check compares with --sequential; give one");
    return { size, steps, check, sequential, time, output: positionals[0] };
  } catch (error) {
    return badArguments((error as Error).message);
  }
}

const { size, steps, check, sequential, time, output } = readArguments();

/** One line for each step done. */
const say = (step: string) => console.log(`heat: ${step}`);

/** The temperature of a cell at the start, from 0 to 1. */
function start(row: number, column: number): number {
  if (row === 0) return 1;
  if (row === size - 1 || column === 0 || column === size - 1) return 0;
  const square = (2 * row + 1 - size) ** 2 + (2 * column + 1 - size) ** 2;
  return square * 25 > size * size * 4 && square * 4 < size * size ? 1 : 0; // a ring, 0.4 to 0.5 of the plate's half
}

/** Neighbouring rows of the plate, from `low` up to but not `high`. */
class Strip {
  readonly low: number;
  #now: Float64Array;
  /** The same after the step that is under way. */
  #next: Float64Array;

  constructor(low: number, high: number) {
    this.low = low;
    this.#now = new Float64Array((high - low) * size);
    for (let i = 0; i < this.#now.length; i++) this.#now[i] = start(low + Math.floor(i / size), i % size);
    this.#next = this.#now.slice(); // the edge of the plate never changes
  }

  /** Rows of the plate that the strip has, from `from` up to but not `to`. */
  rows(from: number, to: number): Float64Array {
    return this.#now.subarray((from - this.low) * size, (to - this.low) * size);
  }

  /** One step of these rows. Of the others, only the edge of the plate is of use after it. */
  step(from: number, to: number): void {
    relax(this.#now, this.#next, from - this.low, to - this.low);
    [this.#now, this.#next] = [this.#next, this.#now];
  }
}

function relax(now: Float64Array, next: Float64Array, from: number, to: number): void {
  for (let row = from; row < to; row++) {
    const end = (row + 1) * size - 1;
    for (let i = row * size + 1; i < end; i++) {
      next[i] = (now[i - size]! + now[i + size]! + now[i - 1]! + now[i + 1]!) * 0.25;
    }
  }
}

/** The whole plate after all steps, computed by one process. */
function alone(): Float64Array {
  const strip = new Strip(0, size);
  const began = performance.now();
  for (let i = 0; i < steps; i++) strip.step(1, size - 1);
  if (time) say(`${((performance.now() - began) / 1000).toFixed(3)} seconds, one process`);
  return strip.rows(0, size);
}

/** Black, red, yellow, white: the colour of each temperature. */
const palette = Uint8ClampedArray.from({ length: 256 * 3 }, (_, i) => Math.floor(i / 3) * 3 - (i % 3) * 255);

async function report(plate: Float64Array, by: string): Promise<void> {
  let sum = 0;
  for (const cell of plate) sum += cell;
  say(`${size} x ${size} cells, ${steps} steps, mean temperature ${(sum / plate.length).toFixed(10)} (${by})`);
  if (output === undefined) return;
  const pixels = Uint8Array.from(plate, (cell) => Math.floor(cell * 255 + 0.5));
  await Bun.write(output, encodePng(size, size, pixels, new Uint8Array(palette)), { createPath: false });
  say(`wrote ${output}`);
}

function compare(plate: Float64Array): void {
  const expected = alone();
  const bad = plate.findIndex((cell, i) => !Object.is(cell, expected[i]));
  if (bad < 0) {
    say("the same as the sequential result, byte for byte");
    return;
  }
  const where = `row ${Math.floor(bad / size)}, column ${bad % size}`;
  console.error(`heat: ${where} is ${plate[bad]}, and ${expected[bad]} in the sequential result`);
  process.exitCode = 1;
}

/** Steps between two meetings, and rows of its neighbours that a process has on each side. */
const STEPS_AT_ONCE = 16;

async function together(session: Session): Promise<void> {
  const { rank, processes } = session;
  // One plate for the even meetings and one for the odd ones: while a neighbour still reads the rows of one, those of
  // the next go to the other plate, and one barrier a meeting is enough. Only outermost rows are in them, until the
  // last.
  const even = session.named("even", Float64Array, size * size);
  const odd = session.named("odd", Float64Array, size * size);
  let plate = odd;

  const first = 1 + Math.floor(((size - 2) * rank) / processes);
  const last = 1 + Math.floor(((size - 2) * (rank + 1)) / processes);
  const low = Math.max(first - STEPS_AT_ONCE, 0);
  const high = Math.min(last + STEPS_AT_ONCE, size);
  const strip = new Strip(low, high);
  const give = (from: number, to: number) => plate.set(strip.rows(from, to), from * size);
  const take = (from: number, to: number) => strip.rows(from, to).set(plate.subarray(from * size, to * size));
  session.barrierSync();

  const began = performance.now();
  for (let done = 0; done < steps; ) {
    const now = Math.min(steps - done, STEPS_AT_ONCE);
    // Of the neighbours' rows one fewer is right after each step; after the last one, just its own are.
    for (let more = now - 1; more >= 0; more--) {
      strip.step(Math.max(first - more, 1), Math.min(last + more, size - 1));
    }
    done += now;

    plate = plate === odd ? even : odd;
    if (done === steps) {
      give(first, last);
    } else {
      if (first > 1) give(first, Math.min(first + STEPS_AT_ONCE, last));
      if (last < size - 1) give(Math.max(last - STEPS_AT_ONCE, first), last);
    }
    session.barrierSync(); // publishes what was stored since the last one
    if (done === steps) break;

    take(Math.max(low, 1), first); // without the edge of the plate
    take(last, Math.min(high, size - 1));
  }
  const took = performance.now() - began;

  if (rank !== 0) return;
  plate.fill(1, 0, size); // the edge: the sides came with the rows
  if (time) say(`${(took / 1000).toFixed(3)} seconds, ${processes} processes`);
  await report(plate, `${processes} processes`);
  if (check) compare(plate);
}

try {
  if (sequential) {
    await report(alone(), "one process");
  } else {
    // What the program says wins over the environment, so it says nothing where DSM_ORDER does.
    const order = process.env.DSM_ORDER ? undefined : "release";
    // Two plates; named() begins each at a multiple of 64 bytes.
    const session = await join({ size: 2 * 8 * size * size + 64, order });
    await together(session);
    await session.leave();
  }
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  if (!(error instanceof DsmError) && code === undefined) throw error;
  console.error(`heat: ${message}`);
  process.exitCode = 1;
}
