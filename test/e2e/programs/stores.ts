/**
 * Rank 0 stores one by one to two pages: stores.ts TIMES [hole], until it has made so many; or stores.ts FILE, until the
 * file is there, and then as often again.
 */
import { existsSync } from "node:fs";
import { join } from "dsm";

const [limit, how] = process.argv.slice(2) as [string, string | undefined];
await using session = await join();
const view = session.view(Float64Array, 0, 1024);
function stores(times: number): void {
  for (let i = 0; i < times; i += 1) view[i % 1024] = i;
}
if (session.rank === 0) {
  if (how === "hole") {
    await using _ = session.hole({ offset: 0, length: 8192 });
    stores(Number(limit));
  } else if (/^\d+$/.test(limit)) {
    stores(Number(limit));
  } else {
    while (!existsSync(limit)) stores(1024);
    stores(10_000);
  }
}
await session.barrier();
