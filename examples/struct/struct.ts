/**
 * Pi by darts, thrown by processes in TypeScript and in C that share one struct.
 *
 *   dsm run -n 4 -- examples/struct/struct.ts [DARTS]
 */
import { DsmError, join } from "dsm";
import { state, WORKERS_MAX } from "./state.ts";

const usage = `usage: dsm run -n N -- struct.ts [DARTS]

Every process throws DARTS darts (1 to 1000000000, default 1000000) at a square with a circle in it.`;

function badArguments(problem: string): never {
  console.error(`struct: ${problem}\n${usage}`);
  process.exit(2);
}

const words = process.argv.slice(2);
if (words.includes("--help") || words.includes("-h")) {
  console.log(usage);
  process.exit(0);
}
if (words.length > 1) badArguments(`one argument at most, and ${words.length} were given`);
const [text = "1000000"] = words;
const darts = /^\d{1,10}$/.test(text) ? Number(text) : 0;
if (darts < 1 || darts > 1e9) badArguments(`DARTS must be a number from 1 to 1000000000, and "${text}" was given`);

try {
  const session = await join();
  const { rank, processes } = session;
  if (processes > WORKERS_MAX) badArguments(`${processes} processes; there is room for ${WORKERS_MAX}`);
  const shared = session.struct("darts", state);

  let hits = 0;
  for (let i = 0; i < darts; i++) if (Math.random() ** 2 + Math.random() ** 2 < 1) hits++;
  shared.$atomic.darts.add(BigInt(darts));
  shared.$atomic.hits.add(BigInt(hits));

  await shared.lock.use(() => {
    const me = shared.workers[rank]!;
    me.rank = rank;
    me.language = "TypeScript";
    me.darts = BigInt(darts);
    const pi = (4 * hits) / darts;
    if (shared.best.by === "" || Math.abs(pi - Math.PI) < Math.abs(shared.best.pi - Math.PI)) {
      shared.best.pi = pi;
      shared.best.by = `rank ${rank}`;
    }
  });
  shared.$atomic.done.add(1);
  shared.$atomic.done.notify();

  if (rank === 0) {
    for (let done = shared.done; done < processes; done = shared.done) await shared.$atomic.done.waitFor(done);
    for (const one of shared.workers.slice(0, processes)) {
      console.log(`rank ${one.rank}, in ${one.language}: ${one.darts} darts`);
    }
    const pi = (4 * Number(shared.hits)) / Number(shared.darts);
    console.log(`pi is about ${pi.toFixed(6)}; alone, ${shared.best.by} came closest: ${shared.best.pi.toFixed(6)}`);
  }
  await session.barrier();
  await session.leave();
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`struct: ${error.message}`);
  process.exitCode = 1;
}
