/**
 * Pi as the area under 4 / (1 + x * x) from 0 to 1, cut into strips that the processes share among them.
 *
 *   dsm run -n 4 -- examples/pi/pi.ts [STRIPS]
 */
import { DsmError, join } from "dsm";

const usage = `usage: dsm run -n N -- pi.ts [STRIPS]

Computes pi from STRIPS strips (1 to 1000000000, default 10000000), divided among the processes.`;

function badArguments(problem: string): never {
  console.error(`pi: ${problem}\n${usage}`);
  process.exit(2);
}

const words = process.argv.slice(2);
if (words.includes("--help") || words.includes("-h")) {
  console.log(usage);
  process.exit(0);
}
if (words.length > 1) badArguments(`one argument at most, and ${words.length} were given`);
const [text = "10000000"] = words;
const strips = /^\d{1,10}$/.test(text) ? Number(text) : 0;
if (strips < 1 || strips > 1e9) badArguments(`STRIPS must be a number from 1 to 1000000000, and "${text}" was given`);

try {
  const session = await join();
  const { rank, processes } = session;
  const parts = session.view(Float64Array, 0, processes);

  // The sum grows in a local variable: a store to the shared memory is for what others are to see.
  let sum = 0;
  for (let strip = rank; strip < strips; strip += processes) {
    const x = (strip + 0.5) / strips;
    sum += 4 / (1 + x * x);
  }
  parts[rank] = sum / strips;
  await session.barrier();

  if (rank === 0) {
    let pi = 0;
    for (const part of parts) pi += part;
    console.log(`pi is about ${pi.toFixed(12)} (${strips} strips, ${processes} processes)`);
  }
  await session.leave();
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`pi: ${error.message}`);
  process.exitCode = 1;
}
