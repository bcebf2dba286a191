/**
 * What the orders cost, by what a program does with the shared memory; all processes do it at once.
 *
 *   dsm run -n 2 --nodes 2 -- examples/orders/measure.ts [SECONDS]
 */
import { DsmError, join, type Order, type Session } from "dsm";

const usage = `usage: dsm run -n N --nodes M -- measure.ts [SECONDS]

Measures each kind of work for SECONDS (0.05 to 60, default 0.2) under each order, and prints microseconds for each
operation and mebibytes a second for arrays.`;

/** Bytes that each process fills at once. */
const ARRAY_SIZE = 1 << 20;
/** Stores between two barriers, each on a cache line of its own. */
const SCATTERED = 200;
const LINE = 64;
const MEBI = 1 << 20;

interface Work {
  title: string;
  /** Operations or, of arrays, bytes in one round. */
  amount: number;
  isArray?: boolean;
  /** What a process does in a round; rounds count from 0. */
  begin(session: Session): (round: number) => Promise<void> | void;
}

/** Where a process has room of its own, on pages that no other process uses. The first of the map is for what all use. */
const ownBytes = ({ rank }: Session): number => (1 + rank) * ARRAY_SIZE;

const works: Work[] = [
  {
    title: "a store",
    amount: 1,
    begin: (session) => {
      const view = session.view(Float64Array, ownBytes(session), 1);
      return (round) => {
        view[0] = round;
      };
    },
  },
  {
    title: `a store, ${SCATTERED} of them scattered and a barrier`,
    amount: SCATTERED,
    begin: (session) => {
      const view = session.view(Float64Array, ownBytes(session), (SCATTERED * LINE) / 8);
      return async (round) => {
        for (let i = 0; i < view.length; i += LINE / 8) view[i] = round + i;
        await session.barrier();
      };
    },
  },
  {
    title: "filling an array, and a barrier",
    amount: ARRAY_SIZE,
    isArray: true,
    begin: (session) => {
      const view = session.view(Uint8Array, ownBytes(session), ARRAY_SIZE);
      return async (round) => {
        view.fill(round + 1);
        await session.barrier();
      };
    },
  },
  {
    title: "the same in a hole",
    amount: ARRAY_SIZE,
    isArray: true,
    begin: (session) => {
      const view = session.view(Uint8Array, ownBytes(session), ARRAY_SIZE);
      return async (round) => {
        const hole = session.hole(view);
        view.fill(round + 1);
        await hole.fill();
        await session.barrier();
      };
    },
  },
  {
    title: "Atomics.add, all on one number",
    amount: 1,
    begin: (session) => {
      const view = session.view(Int32Array, 0, 1);
      return () => {
        Atomics.add(view, 0, 1);
      };
    },
  },
  {
    title: "a lock that all want, and a store",
    amount: 1,
    begin: (session) => {
      const view = session.view(Int32Array, LINE, 1);
      const lock = session.lock("turn");
      return () =>
        lock.use(() => {
          view[0] = view[0]! + 1;
        });
    },
  },
  { title: "a barrier", amount: 1, begin: (session) => () => session.barrier() },
];

/** Rounds that take about so long here: found by rank 0, so that all processes run as many. */
async function agree(session: Session, run: ReturnType<Work["begin"]>, seconds: number): Promise<number> {
  const rounds = session.named("rounds", Int32Array, 1);
  const probes = 2;
  await session.barrier();
  const began = performance.now();
  for (let round = 0; round < probes; round++) await run(round);
  session.fence();
  const took = (performance.now() - began) / 1000;
  if (session.rank === 0) rounds[0] = Math.min(1e6, Math.max(probes, Math.round((seconds / took) * probes)));
  await session.barrier();
  return rounds[0]!;
}

/** Microseconds for an operation, or mebibytes in a second. */
async function measure(session: Session, work: Work, seconds: number): Promise<number> {
  const run = work.begin(session);
  const rounds = await agree(session, run, seconds);
  await session.barrier();
  const began = performance.now();
  for (let round = 0; round < rounds; round++) await run(round);
  session.fence();
  const took = (performance.now() - began) / 1000;
  await session.barrier();
  return work.isArray
    ? (rounds * work.amount * session.processes) / took / MEBI
    : (took * 1e6) / (rounds * work.amount);
}

function badArguments(problem: string): never {
  console.error(`measure: ${problem}\n${usage}`);
  process.exit(2);
}

const words = process.argv.slice(2);
if (words.includes("--help") || words.includes("-h")) {
  console.log(usage);
  process.exit(0);
}
if (words.length > 1) badArguments(`one argument at most, and ${words.length} were given`);
const [text = "0.2"] = words;
const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : 0;
if (seconds < 0.05 || seconds > 60) badArguments(`SECONDS must be from 0.05 to 60, and "${text}" was given`);

try {
  const all = await join({ size: "64KiB" });
  const orders: Order[] = all.direct ? ["sequential"] : ["sequential", "pipelined", "release"];
  const columns: number[][] = [];
  for (const order of orders) {
    // A session of its own for each, with the same processes.
    const session = await join({
      session: `${all.name.slice(0, 50)}-${order}`,
      order,
      size: (1 + all.processes) * ARRAY_SIZE,
    });
    const column: number[] = [];
    for (const work of works) column.push(await measure(session, work, seconds));
    columns.push(column);
    await session.leave();
  }
  if (all.rank === 0) {
    const cells = (first: string, rest: string[]) =>
      console.log(first.padEnd(56) + rest.map((cell) => cell.padStart(12)).join(""));
    cells(`${all.processes} processes`, all.direct ? ["direct"] : orders);
    for (const [i, { title, isArray }] of works.entries()) {
      cells(
        `${title}, ${isArray ? "MiB/s" : "us"}`,
        columns.map((column) => column[i]!.toFixed(isArray ? 0 : 2)),
      );
    }
  }
  await all.leave();
} catch (error) {
  if (!(error instanceof DsmError)) throw error;
  console.error(`measure: ${error.message}`);
  process.exitCode = 1;
}
