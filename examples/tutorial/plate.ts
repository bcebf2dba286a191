/** The heat in a plate: each process has its rows, and shares the first and the last of them with its neighbours. */
import { join } from "dsm";

const SIZE = 256; // cells in a row, and rows
const STEPS = 300;

/** A hot ring in a cold plate. */
function start(row: number, column: number): number {
  const distance = Math.hypot(row - SIZE / 2, column - SIZE / 2) / (SIZE / 2);
  return distance > 0.5 && distance < 0.7 ? 1 : 0;
}

const session = await join({ size: "4MiB", order: "release" });
const { rank, processes } = session;
const first = Math.floor((SIZE * rank) / processes);
const end = Math.floor((SIZE * (rank + 1)) / processes);
const rows = end - first;

// Its rows, with one of each neighbour around them: row `first` of the plate is row 1 here.
let now = new Float64Array((rows + 2) * SIZE);
let next = new Float64Array((rows + 2) * SIZE);
for (let i = 0; i < rows * SIZE; i++) now[SIZE + i] = start(first + Math.floor(i / SIZE), i % SIZE);

// Two plates, for odd and even steps, of which only rows at borders are used, until the last step.
const plates = [
  session.named("even", Float64Array, SIZE * SIZE),
  session.named("odd", Float64Array, SIZE * SIZE),
] as const;

await session.barrier();
const began = performance.now();
for (let step = 0; step < STEPS; step++) {
  const plate = plates[step % 2]!;
  plate.set(now.subarray(SIZE, 2 * SIZE), first * SIZE);
  plate.set(now.subarray(rows * SIZE, (rows + 1) * SIZE), (end - 1) * SIZE);
  await session.barrier(); // publishes both rows at once, and then those of the neighbours are there
  if (rank > 0) now.set(plate.subarray((first - 1) * SIZE, first * SIZE), 0);
  if (rank < processes - 1) now.set(plate.subarray(end * SIZE, (end + 1) * SIZE), (rows + 1) * SIZE);
  for (let row = 1; row <= rows; row++) {
    if (first + row === 1 || first + row === SIZE) continue; // the edge of the plate stays cold
    for (let i = row * SIZE + 1; i < (row + 1) * SIZE - 1; i++) {
      next[i] = 0.25 * (now[i - SIZE]! + now[i + SIZE]! + now[i - 1]! + now[i + 1]!);
    }
  }
  [now, next] = [next, now];
}
const plate = plates[STEPS % 2]!;
plate.set(now.subarray(SIZE, (rows + 1) * SIZE), first * SIZE);
await session.barrier();
const took = performance.now() - began;

if (rank === 0) {
  const shades = " .:-=+*#%@";
  for (let row = 0; row < SIZE; row += SIZE / 16) {
    const line = Array.from({ length: 32 }, (_, i) => plate[(row + 8) * SIZE + i * 8 + 4]!);
    console.log(line.map((heat) => shades[Math.min(9, Math.floor(heat * 16))]).join(""));
  }
  const mean = plate.reduce((sum, heat) => sum + heat, 0) / plate.length;
  console.log(`plate: mean ${mean.toFixed(9)}, ${processes} processes, ${took.toFixed(0)} ms`);
}
await session.leave();
