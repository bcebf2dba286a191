/** All processes add to one counter: counter.ts TIMES. Each prints what it is in the end. */
import { join } from "dsm";

const times = Number(process.argv[2]);
await using session = await join();
const counter = session.view(Int32Array, 0, 1);
for (let i = 0; i < times; i += 1) Atomics.add(counter, 0, 1);
await session.barrier();
console.log(counter[0]);
