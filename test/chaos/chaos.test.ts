/** A minute of chaos; `npm run chaos` goes on with other seeds. */
import { expect, test } from "bun:test";
import { Chaos } from "./chaos.ts";

const SECONDS = 45;

test("whatever is killed, stopped or cut off, everybody learns of it, and nothing is left behind", async () => {
  const end = performance.now() + 1000 * SECONDS;
  let rounds = 0;
  let acknowledged = 0;
  await Chaos.run(async (chaos) => {
    for (let seed = 1; performance.now() < end; seed += 1) {
      const round = await chaos.round(seed);
      rounds += 1;
      acknowledged += round.acknowledged;
    }
  });
  expect(rounds).toBeGreaterThan(2);
  expect(acknowledged).toBeGreaterThan(100);
}, 600_000);
