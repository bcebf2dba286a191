/**
 * `npm run kills -- [--every N] [--from N] [OPERATION ...]`: a process that executes an operation of test/chaos/stepped.ts (all
 * of them) step by step is killed after every N-th instruction (1), from instruction N (0) on, in a session of its own each
 * time. Ends with 1 when the others are not told what is promised.
 */
import { parseArgs } from "node:util";
import { OPERATIONS, Stepped } from "../test/chaos/stepped.ts";
import { ensureBuilt } from "./build.ts";
import { BuildError, progress, runScript } from "./steps.ts";

function read(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { every: { type: "string", default: "1" }, from: { type: "string", default: "0" } },
    });
  } catch (error) {
    throw new BuildError((error as Error).message);
  }
}

function whole(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > 1e6)
    throw new BuildError(`--${name} is ${text}; write ${least} to 1000000`);
  return value;
}

await runScript(async () => {
  const { values, positionals } = read(process.argv.slice(2));
  const every = whole("every", values.every, 1);
  const from = whole("from", values.from, 0);
  const unknown = positionals.find((name) => !OPERATIONS.includes(name));
  if (unknown !== undefined)
    throw new BuildError(`there is no operation ${unknown}; choose from ${OPERATIONS.join(", ")}`);
  await ensureBuilt();
  const stepped = await Stepped.start();
  try {
    for (const operation of positionals.length > 0 ? positionals : OPERATIONS) {
      const length = await stepped.kill(operation, "end");
      const places: number[] = [];
      for (let place = from; place <= length; place += every) places.push(place);
      await stepped.killAt(operation, places).catch((error: Error) => {
        throw new BuildError(error.message);
      });
      await stepped.cluster.settled();
      console.log(`${operation}: ${length} instructions, ${places.length} kills`);
    }
  } finally {
    await stepped.cluster.close();
  }
  progress.success("Each was told what is promised");
});
