/** Two counters, one for each process. */
import { join } from "dsm";

await using session = await join();
const counters = session.view(Int32Array, 0, session.processes);

for (let i = 0; i < 1000; i++) counters[session.rank]! += 1; // nobody else writes this one
await session.barrier(); // everybody has counted

if (session.rank === 0) console.log(`the counters: ${counters.join(" ")}`);
