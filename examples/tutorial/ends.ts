/** The heat in a rod: each process keeps its part to itself, and shares the two cells at its ends. */
import { join } from "dsm";

const CELLS = 200;
const STEPS = 50;

const session = await join();
const { rank, processes } = session;
const first = Math.floor((CELLS * rank) / processes);
const end = Math.floor((CELLS * (rank + 1)) / processes);
const ownCells = end - first;

// Memory of its own: the part, and a cell of each neighbour. Loads and stores here cost what they always cost.
let now = new Float64Array(ownCells + 2);
let next = new Float64Array(ownCells + 2);
if (rank === 0) now[1] = next[1] = 100;

// Shared: two ends of each process; two sets, so that one barrier a step is enough.
const ends = session.named("ends", Float64Array, 2 * processes * 2);
const result = session.named("result", Float64Array, CELLS);
const endOf = (step: number, process: number, side: 0 | 1) => ((step % 2) * processes + process) * 2 + side;

await session.barrier();
const began = performance.now();
for (let step = 0; step < STEPS; step++) {
  ends[endOf(step, rank, 0)] = now[1]!;
  ends[endOf(step, rank, 1)] = now[ownCells]!;
  await session.barrier();
  if (rank > 0) now[0] = ends[endOf(step, rank - 1, 1)]!;
  if (rank < processes - 1) now[ownCells + 1] = ends[endOf(step, rank + 1, 0)]!;
  const from = rank === 0 ? 2 : 1; // the ends of the rod stay as they are
  const to = rank === processes - 1 ? ownCells : ownCells + 1;
  for (let i = from; i < to; i++) next[i] = now[i]! + 0.25 * (now[i - 1]! - 2 * now[i]! + now[i + 1]!);
  [now, next] = [next, now];
}
result.set(now.subarray(1, ownCells + 1), first);
await session.barrier();
const took = performance.now() - began;

if (rank === 0) console.log(`ends: cell 10 has ${result[10]!.toFixed(6)} degrees, after ${took.toFixed(1)} ms`);
await session.leave();
