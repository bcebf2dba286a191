/** The simulators by name, each with its share of the seeds that `npm test` runs, and how a seed is run again. */
import { type Trace, TraceTail } from "../support/core-trace.ts";
import { simulateFailover } from "./failover/simulator.ts";
import { simulate as simulatePipelined } from "./pipelined/simulator.ts";
import { FLAVOURS, simulate } from "./simulator.ts";

export type Counts = Record<string, number>;

interface Simulation {
  seeds: number;
  run(seed: number, trace?: Trace): Counts;
}

const withTrace = (trace: Trace | undefined) => (trace === undefined ? {} : { trace });

const SEEDS: Record<(typeof FLAVOURS)[number], number> = {
  sequencer: 3000,
  direct: 1500,
  locks: 1000,
  cells: 1000,
  semaphores: 1000,
  leases: 300,
  objects: 1500,
  elastic: 1500,
  barriers: 1500,
};

export const SIMULATIONS: Readonly<Record<string, Simulation>> = {
  ...Object.fromEntries(
    FLAVOURS.map((flavour): [string, Simulation] => [
      flavour,
      { seeds: SEEDS[flavour], run: (seed, trace) => ({ ...simulate(seed, { flavour, ...withTrace(trace) }) }) },
    ]),
  ),
  pipelined: { seeds: 1000, run: (seed, trace) => ({ ...simulatePipelined(seed, withTrace(trace)) }) },
  failover: { seeds: 3000, run: (seed, trace) => ({ ...simulateFailover(seed, withTrace(trace)) }) },
};

/** Lines of the trace that a failure shows. */
const TAIL_LINES = 60;

/** DSM_SEEDS=N: so many of each instead. */
const seedsOf = ({ seeds }: Simulation): number => Number(process.env.DSM_SEEDS ?? seeds);

export const allSeeds = (): number => Object.values(SIMULATIONS).reduce((sum, { seeds }) => sum + seeds, 0);

/** Runs all seeds of a simulation and adds up what they report. Throws the first failure, with the end of its trace. */
export function runSeeds(kind: string): { seeds: number; total: Counts } {
  const simulation = SIMULATIONS[kind] as Simulation;
  const seeds = seedsOf(simulation);
  const total: Counts = {};
  for (let seed = 0; seed < seeds; seed += 1) {
    for (const [key, count] of Object.entries(runSeed(kind, seed))) total[key] = (total[key] ?? 0) + count;
  }
  return { seeds, total };
}

/** A seed that breaks a promise, and all that it did before. */
export interface Failure {
  seed: number;
  message: string;
  trace: string[];
}

/** Of the seeds below `seeds` that break a promise, the one that does it after the fewest lines of trace. */
export function shortestFailure({ run }: Pick<Simulation, "run">, seeds: number): Failure | null {
  let shortest: Failure | null = null;
  for (let seed = 0; seed < seeds; seed += 1) {
    const trace: string[] = [];
    try {
      run(seed, (line) => trace.push(line));
    } catch (error) {
      const { message } = error as Error;
      if (shortest === null || trace.length < shortest.trace.length) shortest = { seed, message, trace };
    }
  }
  return shortest;
}

/** A simulator that does nothing finds nothing: what the seeds did must be more than this, for each on average. */
export function expectMore({ seeds, total }: { seeds: number; total: Counts }, least: Counts): void {
  const few = Object.entries(least).filter(([key, each]) => (total[key] ?? 0) <= each * seeds);
  if (few.length > 0) throw new Error(`${seeds} seeds did too little: ${few.map(([key]) => `${key} ${total[key]}`)}`);
}

/** One seed; a failure names it, says how to run it again, and shows the end of its trace. */
export function runSeed(kind: string, seed: number, simulation = SIMULATIONS[kind] as Simulation): Counts {
  try {
    return simulation.run(seed);
  } catch (error) {
    const tail = new TraceTail(TAIL_LINES);
    try {
      simulation.run(seed, tail.add);
    } catch {
      // It fails once more: a seed is one run.
    }
    const again = `npm run simulate -- --kind ${kind} --seed ${seed}`;
    const message = `seed ${seed} of ${kind}: ${(error as Error).message}; all of its trace: ${again}`;
    throw new Error([message, ...tail.lines].join("\n"), { cause: error });
  }
}
