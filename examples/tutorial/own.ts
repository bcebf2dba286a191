/** Two counters, one for each process. */
import { join } from "dsm";

const session = await join();
const counters = session.view(Int32Array, 0, session.processes);

for (let i = 0; i < 1000; i++) counters[session.rank]! += 1; // no other process writes this one
await session.barrier(); // all processes have counted

if (session.rank === 0) console.log(`the counters: ${counters.join(" ")}`);
await session.leave();
