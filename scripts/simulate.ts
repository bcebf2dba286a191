/**
 * `npm run simulate -- [--kind KIND] [--seed N] [--seeds COUNT] [--shortest]`: the simulations of
 * test/simulation/kinds.ts. With --seed that one seed, with everything it does; without, COUNT seeds (as many as in
 * `npm test`) from 0 on, of one kind or of all. Ends with 1 at the first broken promise, with its whole trace; with
 * --shortest it runs all of the seeds and shows the one that breaks a promise after the fewest lines.
 */
import { parseArgs } from "node:util";
import { SIMULATIONS, shortestFailure } from "../test/simulation/kinds.ts";
import { BuildError, progress, runScript } from "./steps.ts";

function read(args: string[]) {
  try {
    const string = { type: "string" } as const;
    return parseArgs({ args, options: { kind: string, seed: string, seeds: string, shortest: { type: "boolean" } } })
      .values;
  } catch (error) {
    throw new BuildError((error as Error).message);
  }
}

function whole(name: string, text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw new BuildError(`--${name} is ${text}; write a whole number`);
  return value;
}

/** One seed, shown step by step. False: a promise was broken. */
function show(kind: string, seed: number): boolean {
  const lines: string[] = [`${kind}, seed ${seed}`];
  let failure: Error | null = null;
  try {
    const report = SIMULATIONS[kind]?.run(seed, (line) => lines.push(line)) ?? {};
    lines.push(
      Object.entries(report)
        .map(([name, count]) => `${name} ${count}`)
        .join(", "),
    );
  } catch (error) {
    failure = error as Error;
    lines.push(`broken: ${failure.stack ?? failure.message}`);
  }
  process.stdout.write(`${lines.join("\n")}\n`);
  return failure === null;
}

await runScript(async () => {
  const values = read(process.argv.slice(2));
  const kinds = values.kind === undefined ? Object.keys(SIMULATIONS) : [values.kind];
  const unknown = kinds.find((kind) => !(kind in SIMULATIONS));
  if (unknown !== undefined) {
    throw new BuildError(`${unknown} is no simulation: ${Object.keys(SIMULATIONS).join(" ")}`);
  }
  if (values.seed !== undefined) {
    const seed = whole("seed", values.seed);
    const broken = kinds.filter((kind) => !show(kind, seed));
    if (broken.length > 0) throw new BuildError(`seed ${seed} breaks a promise: ${broken.join(" ")}`);
    return;
  }
  for (const kind of kinds) {
    const { seeds, run } = SIMULATIONS[kind] as (typeof SIMULATIONS)[string];
    const count = values.seeds === undefined ? seeds : whole("seeds", values.seeds);
    if (values.shortest === true) {
      const failure = shortestFailure({ run }, count);
      if (failure !== null) {
        show(kind, failure.seed);
        throw new BuildError(`seed ${failure.seed} of ${kind} is the shortest of ${count} seeds to break a promise`);
      }
    }
    for (let seed = 0; values.shortest !== true && seed < count; seed += 1) {
      try {
        run(seed);
      } catch {
        show(kind, seed);
        throw new BuildError(`seed ${seed} breaks a promise, after ${seed + 1} seeds of ${kind}`);
      }
    }
    progress.success(`${count} seeds of ${kind}`);
  }
});
