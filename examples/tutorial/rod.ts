/** The heat in a rod, the plain way: the rod is shared, and every cell of it is stored there at every step. */
import { join } from "dsm";

const CELLS = 200;
const STEPS = 50;

const session = await join();
const { rank, processes } = session;
const even = session.named("even", Float64Array, CELLS);
const odd = session.named("odd", Float64Array, CELLS);
if (rank === 0) even[0] = odd[0] = 100; // the left end is hot
await session.barrier();

const first = Math.max(1, Math.floor((CELLS * rank) / processes));
const end = Math.min(CELLS - 1, Math.floor((CELLS * (rank + 1)) / processes));
const began = performance.now();
for (let step = 0; step < STEPS; step++) {
  const [now, next] = step % 2 === 0 ? [even, odd] : [odd, even];
  for (let i = first; i < end; i++) next[i] = now[i]! + 0.25 * (now[i - 1]! - 2 * now[i]! + now[i + 1]!);
  await session.barrier(); // the next rod is complete, and the old one is no longer needed
}
const took = performance.now() - began;

if (rank === 0) console.log(`rod: cell 10 has ${even[10]!.toFixed(6)} degrees, after ${took.toFixed(1)} ms`);
await session.leave();
