/**
 * `npm run chaos -- [--minutes N] [--seed N] [--rounds N]`: sessions that are killed, stopped and cut off, one after the
 * other, for N minutes (15) or so many rounds, each with the next seed. What failed is run again with its seed and
 * `--rounds 1`.
 */
import { parseArgs } from "node:util";
import { Chaos } from "../test/chaos/chaos.ts";
import { ensureBuilt } from "./build.ts";
import { BuildError, progress, runScript } from "./steps.ts";

function read(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        minutes: { type: "string", default: "15" },
        seed: { type: "string", default: String(1 + Math.floor(Math.random() * 1e9)) },
        rounds: { type: "string" },
      },
    }).values;
  } catch (error) {
    throw new BuildError((error as Error).message);
  }
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0 && value <= 1e12)) throw new BuildError(`--${name} is ${text}; write a number above 0`);
  return value;
}

function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] as number;
}

await runScript(async () => {
  const values = read(process.argv.slice(2));
  const seed = positive("seed", values.seed);
  const rounds = values.rounds === undefined ? Number.POSITIVE_INFINITY : positive("rounds", values.rounds);
  const minutes = values.rounds === undefined ? positive("minutes", values.minutes) : Number.POSITIVE_INFINITY;
  await ensureBuilt();
  const end = performance.now() + 60_000 * minutes;
  let done = 0;
  const faults = new Map<string, number>();
  const recoveries: number[] = [];
  await Chaos.run(async (chaos) => {
    for (; done < rounds && performance.now() < end; done += 1) {
      const { plan, ends, rounds: played, acknowledged, ...what } = await chaos.round(seed + done);
      for (const kind of what.faults) faults.set(kind, (faults.get(kind) ?? 0) + 1);
      recoveries.push(...what.recoveriesMs);
      console.log(`${seed + done}  ${plan}  ->  ${ends.join(", ")} (${played} rounds, ${acknowledged} counted)`);
    }
  }).catch((error: Error) => {
    throw new BuildError(`${error.message}\nAgain: npm run chaos -- --rounds 1 --seed ${seed + done}`);
  });
  progress.info([...faults].map(([kind, count]) => `${kind} ${count}`).join(", "));
  if (recoveries.length > 0) {
    const [median, max] = [0.5, 1].map((part) => quantile(recoveries, part).toFixed(0));
    progress.info(
      `server lost to next operation acknowledged: ${recoveries.length} times, median ${median} ms, most ${max} ms`,
    );
  }
  progress.success(`${done} sessions, every promise kept`);
});
