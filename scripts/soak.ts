/**
 * `npm run soak -- [--hours N] [--every SECONDS] [--order ORDER]`: 8 processes on 4 nodes use everything for N hours (1)
 * while further sessions come and go; what they and the roles take is printed every 5 seconds. Ends with 1 when
 * something fails, or grows more than test/chaos/soak.ts allows.
 */
import { parseArgs } from "node:util";
import { checkOrder, DEFAULT_ORDER, type Order } from "../src/core/base/consistency.ts";
import { BOUNDS, type Growth, judge, type Sample, soak, WARM_UP } from "../test/chaos/soak.ts";
import { ensureBuilt } from "./build.ts";
import { BuildError, progress, runScript } from "./steps.ts";

function read(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        hours: { type: "string", default: "1" },
        every: { type: "string", default: "5" },
        order: { type: "string", default: DEFAULT_ORDER },
      },
    }).values;
  } catch (error) {
    throw new BuildError((error as Error).message);
  }
}

const COLUMNS = ["seconds", "entries", "round", ...Object.keys(BOUNDS), "copiesKiB"] as (keyof Sample)[];

await runScript(async () => {
  const values = read(process.argv.slice(2));
  const [hours, every] = [Number(values.hours), Number(values.every)];
  if (!(hours > 0 && hours <= 1000)) throw new BuildError(`--hours is ${values.hours}; write a number up to 1000`);
  if (!(every >= 0.1 && every <= 3600)) throw new BuildError(`--every is ${values.every}; write 0.1 to 3600`);
  const wrongOrder = checkOrder(values.order);
  if (wrongOrder !== null) throw new BuildError(wrongOrder);
  await ensureBuilt();
  console.log(COLUMNS.join("\t"));
  const samples = await soak({
    ...{ seconds: 3600 * hours, everySeconds: every, order: values.order as Order },
    onSample: (sample) => console.log(COLUMNS.map((name) => Math.round(sample[name])).join("\t")),
  }).catch((error: Error) => {
    throw new BuildError(error.message);
  });
  const growth = judge(samples);
  const show = ({ name, hourly, rise, most }: Growth): string =>
    `${name}: ${hourly.toFixed(0)} an hour, ${rise.toFixed(0)} in all; at most ${most.toFixed(0)}`;
  console.log(`Growth, the first ${WARM_UP * 100} % left out:\n${growth.map(show).join("\n")}`);
  const wrong = growth.filter(({ rise, most }) => rise > most);
  if (wrong.length > 0) throw new BuildError(`too much growth: ${wrong.map(({ name }) => name).join(", ")}`);
  progress.success("Nothing grows");
});
