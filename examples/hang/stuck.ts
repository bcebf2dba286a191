/** Three ways to wait forever: dsm run -n 4 --nodes 2 --session stuck -- stuck.ts barrier|locks|flag */
import { join, type Session } from "dsm";

const STEPS = 10;

const ways: Record<string, (session: Session) => Promise<void>> = {
  /** Rank 2 thinks that the last step is not for it, and waits for the result. */
  async barrier(session) {
    const steps = session.rank === 2 ? STEPS - 1 : STEPS;
    for (let step = 0; step < steps; step++) await session.barrier();
    const result = session.semaphore("result", 0);
    if (session.rank === 0) for (let i = 1; i < session.processes; i++) await result.post();
    else await result.wait();
  },

  /** Ranks 0 and 1 lock the same two locks, the other way round. */
  async locks(session) {
    const names = session.rank % 2 === 0 ? ["red", "blue"] : ["blue", "red"];
    if (session.rank < 2) await session.lock(names[0]!).lock();
    await session.barrier();
    if (session.rank < 2) await session.lock(names[1]!).lock();
    await session.barrier();
  },

  /** Rank 0 has told the others by a plain store, and their copy of the flag is in a variable. */
  async flag(session) {
    const flags = session.view(Int32Array, 0, 1);
    const [flag] = flags;
    await session.barrier();
    if (session.rank === 0) flags[0] = 1;
    else while (flag === 0) await Bun.sleep(1);
    await session.barrier();
  },
};

const [way = ""] = process.argv.slice(2);
const run = ways[way];
if (run === undefined) {
  console.error(`stuck: give one of ${Object.keys(ways).join(", ")}`);
  process.exit(2);
}
const session = await join();
await run(session);
await session.leave();
