/**
 * Counts primes, range by range, each range in a session of its own: a process may join as many sessions in a row as it
 * likes.
 *
 *   dsm run -n 4 -- examples/primes/primes.ts [RANGES [WIDTH]]
 */
import { DsmError, join } from "dsm";

const usage = `usage: dsm run -n N -- primes.ts [RANGES [WIDTH]]

Counts the primes in RANGES ranges (1 to 1000, default 5) of WIDTH numbers each (1 to 10000000, default 100000), one
session after the other. In each session the processes divide the range among them.`;

function badArguments(problem: string): never {
  console.error(`primes: ${problem}\n${usage}`);
  process.exit(2);
}

function number(name: string, text: string, max: number): number {
  const value = /^\d{1,8}$/.test(text) ? Number(text) : 0;
  if (value < 1 || value > max) badArguments(`${name} must be a number from 1 to ${max}, and "${text}" was given`);
  return value;
}

function isPrime(candidate: number): boolean {
  if (candidate < 4) return candidate > 1;
  if (candidate % 2 === 0) return false;
  for (let divisor = 3; divisor * divisor <= candidate; divisor += 2) {
    if (candidate % divisor === 0) return false;
  }
  return true;
}

const words = process.argv.slice(2);
if (words.includes("--help") || words.includes("-h")) {
  console.log(usage);
  process.exit(0);
}
if (words.length > 2) badArguments(`two arguments at most, and ${words.length} were given`);
const ranges = number("RANGES", words[0] ?? "5", 1000);
const width = number("WIDTH", words[1] ?? "100000", 1e7);

try {
  const base = process.env.DSM_SESSION ?? "primes";
  let total = 0;
  for (let range = 0; range < ranges; range++) {
    const session = await join({ session: `${base}-${range}` });
    const count = session.view(Int32Array, 0, 1);

    let found = 0;
    const [from, to] = [range * width, (range + 1) * width];
    for (let candidate = from + session.rank; candidate < to; candidate += session.processes) {
      if (isPrime(candidate)) found++;
    }
    Atomics.add(count, 0, found); // no update of another process is lost, whichever node it is on
    await session.barrier();

    total += count[0]!;
    await session.leave(); // the view keeps its last state
    if (session.rank !== 0) continue;
    console.log(`session ${range + 1} of ${ranges}: ${count[0]} primes from ${from} to ${to - 1}`);
    if (range === ranges - 1) console.log(`${total} primes below ${to}`);
  }
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`primes: ${error.message}`);
  process.exitCode = 1;
}
