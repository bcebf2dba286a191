/**
 * The smallest whole dsm program: every process writes its own slot, one of them reads them all.
 *
 *   dsm run -n 4 -- examples/template/template.ts
 */
import { DsmError, join } from "dsm";

const usage = `usage: dsm run -n N -- template.ts

Every process writes the square of its rank to the shared memory; rank 0 prints all of them.`;

const [argument] = process.argv.slice(2);
if (argument === "--help" || argument === "-h") {
  console.log(usage);
  process.exit(0);
}
if (argument !== undefined) {
  console.error(`template: it takes no arguments, and "${argument}" was given\n${usage}`);
  process.exit(2);
}

try {
  // Which session, how many processes and how much memory: from the environment that `dsm run` sets.
  const session = await join();
  const squares = session.view(Int32Array, 0, session.processes);

  squares[session.rank] = session.rank ** 2; // a plain store: every process sees it
  await session.barrier();

  if (session.rank === 0) console.log(`squares of ${session.processes} processes: ${[...squares].join(" ")}`);
  await session.leave();
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`template: ${error.message}`);
  process.exitCode = 1;
}
