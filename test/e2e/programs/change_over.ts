/** What change_over.c does: change_over.ts write WRITERS, or late WRITERS. */
import { join } from "dsm";

const PAGE = 4096;
const LATE_ADDS = 1000;
const LOG_WORDS = 64 << 10;

const [role, count] = process.argv.slice(2);
const writers = Number(count);
const session = await join();
const sum = session.view(BigUint64Array, 0, 1);
const stop = session.view(Int32Array, PAGE, 1);
/** counter, adds, round, last */
const writer = (rank: number) => session.view(BigUint64Array, (2 + rank) * PAGE, 4);
const holeOf = (rank: number) => session.view(Uint32Array, (32 + 8 * rank) * PAGE + 256, (6 * PAGE) / 4 + 33);
const logOf = (rank: number) => session.view(BigUint64Array, (1 << 20) + rank * LOG_WORDS * 8, LOG_WORDS);

function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

async function write(): Promise<void> {
  const mine = writer(session.rank);
  const area = holeOf(session.rank);
  const log = logOf(session.rank);
  let direct = true;
  let adds = 0n;
  let round = 0;
  let i = 1n;
  must(session.direct, "it begins in direct mode");
  for (; stop[0] === 0; i += 1n) {
    log[Number(i % BigInt(LOG_WORDS))] = i;
    mine[0] = i;
    if (i % 16n === 0n) {
      Atomics.add(sum, 0, 1n);
      adds += 1n;
      mine[1] = adds;
    }
    if (i % 256n === 0n) {
      const hole = session.hole(area);
      round += 1;
      area.fill(round);
      if (round % 2 === 0) hole.fillSync();
      else await hole.fill();
      mine[2] = BigInt(round);
      session.fence();
    }
    if (i === 1000n) console.log("writes");
    if (direct && !session.direct) {
      direct = false;
      console.log("traps");
    }
  }
  must(!direct, "it has changed over");
  mine[3] = i - 1n;
}

async function late(): Promise<void> {
  must(!session.direct, "direct mode has ended");
  for (let rank = 0; rank < writers; rank += 1) {
    const seen = writer(rank)[0] as bigint;
    must(seen > 0n, "what was written before is here");
    while ((writer(rank)[0] as bigint) < seen + 200n) await Bun.sleep(1);
  }
  for (let i = 0; i < LATE_ADDS; i += 1) Atomics.add(sum, 0, 1n);
  stop[0] = 1;
  session.fence();
}

if (role === "write") await write();
else await late();
await session.barrier();
let adds = BigInt(LATE_ADDS);
for (let rank = 0; rank < writers; rank += 1) {
  const [counter, added, round, last] = writer(rank) as unknown as [bigint, bigint, bigint, bigint];
  adds += added;
  must(counter === last, "the counter is what it was last");
  const first = last > LOG_WORDS ? last - BigInt(LOG_WORDS) + 1n : 1n;
  const log = logOf(rank);
  for (let i = first; i <= last; i += 1n) must(log[Number(i % BigInt(LOG_WORDS))] === i, `entry ${i} of ${rank}`);
  must(
    holeOf(rank).every((word) => word === Number(round)),
    "the hole was filled last",
  );
}
must(sum[0] === adds, `${sum[0]} of ${adds} additions`);
await session.barrier();
await session.leave();
console.log("done");
