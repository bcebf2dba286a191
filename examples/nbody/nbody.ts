/**
 * Bodies that attract each other, all pairs of them. Each process moves its own bodies; the places of all are shared.
 *
 *   dsm run -n 4 -- examples/nbody/nbody.ts --size 4096 --steps 10 --time
 */
import { parseArgs } from "node:util";
import { DsmError, join, type Session } from "dsm";

const usage = `usage: dsm run -n N -- nbody.ts [--size BODIES] [--steps STEPS] [--check] [--time]
       nbody.ts --sequential [--size BODIES] [--steps STEPS] [--time]

Moves BODIES bodies (1 to 100000, default 1024) for STEPS steps (1 to 1000000, default 50) and prints the energy before
and after, which should hardly differ. --sequential does it alone, without a session. --check compares the result with
that of one process, byte for byte. --time prints the seconds of the computing part. The order of the session is
"release" unless DSM_ORDER or dsm run --order says otherwise.`;

function badArguments(problem: string): never {
  console.error(`nbody: ${problem}\n${usage}`);
  process.exit(2);
}

function number(option: string, text: string, max: number): number {
  const value = /^\d{1,8}$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= max) return value;
  return badArguments(`${option} must be a number from 1 to ${max}, and "${text}" was given`);
}

function readArguments() {
  try {
    const { values } = parseArgs({
      options: {
        check: { type: "boolean", default: false },
        help: { type: "boolean", short: "h" },
        sequential: { type: "boolean", default: false },
        size: { type: "string", default: "1024" },
        steps: { type: "string", default: "50" },
        time: { type: "boolean", default: false },
      },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    const size = number("--size", values.size, 100_000);
    const steps = number("--steps", values.steps, 1_000_000);
    const { check, sequential, time } = values;
    if (check && sequential) return badArguments("--check compares with --sequential; give one");
    return { size, steps, check, sequential, time };
  } catch (error) {
    return badArguments((error as Error).message);
  }
}

const { size, steps, check, sequential, time } = readArguments();

/** One line for each step done. */
const say = (step: string) => console.log(`nbody: ${step}`);

const STEP_TIME = 0.001;
/** Square of the distance below which the attraction grows no more. */
const SOFTENING = 0.0025;

/** Bodies at rest all over a cube: x, y and z of each. All have the same mass, and together 1. */
function placeBodies(places: Float64Array): void {
  let state = 1; // numbers that look random, from a linear congruential generator
  for (let i = 0; i < places.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    places[i] = state / 2147483648 - 1;
  }
}

/**
 * One step of the bodies from `first` on, whose speeds and new places are `speeds` and `to`; `places` are those of all.
 * The attractions are added in the order of the bodies, whichever process does it, so that every process gets the same bytes.
 */
function move(places: Float64Array, first: number, speeds: Float64Array, to: Float64Array): void {
  const pull = STEP_TIME / size;
  for (let at = 0; at < to.length; at += 3) {
    const hereX = places[3 * first + at]!;
    const hereY = places[3 * first + at + 1]!;
    const hereZ = places[3 * first + at + 2]!;
    let [sumX, sumY, sumZ] = [0, 0, 0];
    for (let j = 0; j < places.length; j += 3) {
      const x = places[j]! - hereX;
      const y = places[j + 1]! - hereY;
      const z = places[j + 2]! - hereZ;
      const square = x * x + y * y + z * z + SOFTENING;
      const factor = 1 / (square * Math.sqrt(square));
      sumX += x * factor;
      sumY += y * factor;
      sumZ += z * factor;
    }
    speeds[at]! += sumX * pull;
    speeds[at + 1]! += sumY * pull;
    speeds[at + 2]! += sumZ * pull;
    to[at] = hereX + speeds[at]! * STEP_TIME;
    to[at + 1] = hereY + speeds[at + 1]! * STEP_TIME;
    to[at + 2] = hereZ + speeds[at + 2]! * STEP_TIME;
  }
}

function energy(places: Float64Array, speeds: Float64Array): number {
  let [moving, bound] = [0, 0];
  for (let i = 0; i < places.length; i += 3) {
    moving += speeds[i]! * speeds[i]! + speeds[i + 1]! * speeds[i + 1]! + speeds[i + 2]! * speeds[i + 2]!;
    for (let j = 0; j < i; j += 3) {
      const x = places[j]! - places[i]!;
      const y = places[j + 1]! - places[i + 1]!;
      const z = places[j + 2]! - places[i + 2]!;
      bound += 1 / Math.sqrt(x * x + y * y + z * z + SOFTENING);
    }
  }
  return moving / 2 / size - bound / size / size;
}

/** Places and speeds of all bodies. */
interface Bodies {
  places: Float64Array;
  speeds: Float64Array;
}

function bodiesAtStart(): Bodies {
  const places = new Float64Array(3 * size);
  placeBodies(places);
  return { places, speeds: new Float64Array(3 * size) };
}

/** The bodies after all steps, moved by one process. */
function alone(): Bodies {
  const { places, speeds } = bodiesAtStart();
  const next = new Float64Array(3 * size);
  const began = performance.now();
  for (let i = 0; i < steps; i++) {
    move(places, 0, speeds, next);
    places.set(next);
  }
  if (time) say(`${((performance.now() - began) / 1000).toFixed(3)} seconds, one process`);
  return { places, speeds };
}

function report({ places, speeds }: Bodies, by: string): void {
  const start = bodiesAtStart();
  const before = energy(start.places, start.speeds).toFixed(10);
  const after = energy(places, speeds).toFixed(10);
  say(`${size} bodies, ${steps} steps, energy ${before} before and ${after} after (${by})`);
}

function compare({ places, speeds }: Bodies): void {
  const expected = alone();
  const differs = (some: Float64Array, others: Float64Array) => some.findIndex((one, i) => !Object.is(one, others[i]));
  const bad = Math.max(differs(places, expected.places), differs(speeds, expected.speeds));
  if (bad < 0) {
    say("the same as the sequential result, byte for byte");
    return;
  }
  const body = Math.floor(bad / 3);
  console.error(`nbody: body ${body} is not where it is in the sequential result, or not as fast`);
  process.exitCode = 1;
}

function together(session: Session): void {
  const { rank, processes } = session;
  // The places after the even steps and those after the odd ones: while others still read where the bodies were, their
  // new places go to the other block, and one barrier a step is enough.
  const even = session.named("even", Float64Array, 3 * size);
  const odd = session.named("odd", Float64Array, 3 * size);
  const speeds = session.named("speeds", Float64Array, 3 * size);
  const placesAfter = (step: number) => (step % 2 === 0 ? even : odd);
  if (rank === 0) placeBodies(even);
  const first = Math.floor((size * rank) / processes);
  const last = Math.floor((size * (rank + 1)) / processes);
  const mine = new Float64Array(3 * (last - first)); // speeds; no other process needs them before the end
  session.barrierSync();

  const began = performance.now();
  for (let i = 0; i < steps; i++) {
    move(placesAfter(i), first, mine, placesAfter(i + 1).subarray(3 * first, 3 * last));
    session.barrierSync(); // publishes what was stored since the last one
  }
  const took = performance.now() - began;
  speeds.set(mine, 3 * first);
  session.barrierSync();

  if (rank !== 0) return;
  if (time) say(`${(took / 1000).toFixed(3)} seconds, ${processes} processes`);
  const bodies = { places: placesAfter(steps), speeds };
  report(bodies, `${processes} processes`);
  if (check) compare(bodies);
}

try {
  if (sequential) {
    report(alone(), "one process");
  } else {
    // What the program says wins over the environment, so it says nothing where DSM_ORDER does.
    const order = process.env.DSM_ORDER ? undefined : "release";
    // Three blocks; named() begins each at a multiple of 64 bytes.
    const session = await join({ size: 3 * (3 * 8 * size + 64), order });
    together(session);
    await session.leave();
  }
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`nbody: ${error.message}`);
  process.exitCode = 1;
}
