/**
 * Processes meet in barriers, each time by a promise, which asks the arbiter, or by a call, which may not: barriers.ts ROUNDS.
 * Each says in the map how many it has passed.
 */
import { join } from "dsm";

const rounds = Number(process.argv[2]);
await using session = await join();
const { rank, processes } = session;
const passed = session.view(Int32Array, 0, processes);
for (let round = 1; round <= rounds; round += 1) {
  if (Math.random() < 0.3) await session.barrier();
  else session.barrierSync(Math.random() < 0.5 ? {} : { timeoutMs: 60_000 });
  Atomics.store(passed, rank, round);
  for (let other = 0; other < processes; other += 1) {
    const its = Atomics.load(passed, other);
    if (its < round - 1 || its > round)
      throw new Error(`process ${other} has passed ${its} barriers, this one ${round}`);
  }
}
