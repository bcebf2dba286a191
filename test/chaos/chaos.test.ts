/** A minute of chaos; `npm run chaos` goes on with other seeds. */
import { test } from "bun:test";
import { Chaos } from "./chaos.ts";

const SECONDS = 45;
/** On a machine so busy that they take longer, it takes longer. */
const ROUNDS_MIN = 3;
const ACKNOWLEDGED_MIN = 100;

test("whatever is killed, stopped or cut off, every process is told, and nothing is left behind", async () => {
  const end = performance.now() + 1000 * SECONDS;
  let rounds = 0;
  let acknowledged = 0;
  await Chaos.run(async (chaos) => {
    const isEnough = (): boolean =>
      performance.now() >= end && rounds >= ROUNDS_MIN && acknowledged >= ACKNOWLEDGED_MIN;
    for (let seed = 1; !isEnough(); seed += 1) {
      const round = await chaos.round(seed);
      rounds += 1;
      acknowledged += round.acknowledged;
    }
  });
}, 600_000);
