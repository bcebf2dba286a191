/** Kills after some of the instructions; `npm run kills` does it after each. */
import { afterAll, afterEach, beforeAll, setDefaultTimeout, test } from "bun:test";
import { OPERATIONS, SLEEPS, Stepped } from "./stepped.ts";

setDefaultTimeout(120_000);

/** Of each operation so many, spread evenly over it. */
const KILLS = 8;

let stepped: Stepped;
beforeAll(async () => {
  stepped = await Stepped.start();
});
afterEach(() => stepped.cluster.settled());
afterAll(() => stepped.cluster.close());

test.each(OPERATIONS)("a process that is killed on its way through: %s", async (operation) => {
  const length = await stepped.kill(operation, "end");
  const places = Array.from({ length: KILLS }, (_, n) => Math.floor(((n + 0.5) * length) / KILLS));
  await stepped.killAt(operation, [...places, ...(SLEEPS.has(operation) ? (["asleep"] as const) : [])]);
});
