/**
 * Two processes say that they come, then look whether the other one does: entry.ts [fence]. Each should find the other at
 * least if that one does not find it, as Dekker's and Peterson's algorithms want.
 */
import { join } from "dsm";

const ROUNDS = 300;
const FLAG = 16; // in elements: each flag on a cache line of its own
const withFence = process.argv[2] === "fence";

const session = await join();
const { rank } = session;
const flags = session.view(Int32Array, 0, 2 * FLAG);
const found = session.view(Int32Array, 4096, 2 * ROUNDS);

for (let round = 1; round <= ROUNDS; round++) {
  await session.barrier();
  flags[rank * FLAG] = round;
  if (withFence) session.fence();
  const other = flags[(1 - rank) * FLAG]!;
  found[rank * ROUNDS + round - 1] = other === round ? 1 : 0;
}
await session.barrier();

if (rank === 0) {
  const neither = Array.from({ length: ROUNDS }, (_, i) => found[i]! + found[ROUNDS + i]!).filter((sum) => sum === 0);
  const some =
    neither.length > 0 ? "in some rounds neither found the other" : "at least one found the other in each round";
  console.log(`${session.order}${withFence ? " with fence" : ""}: ${some}`);
}
await session.leave();
