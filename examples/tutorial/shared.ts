/** One counter for all processes, counted in three ways: dsm run -n 2 -- shared.ts plain|atomic|lock */
import { join } from "dsm";

const session = await join();
const counter = session.view(Int32Array, 0, 1);
const lock = session.lock("counter");
const [way = "plain"] = process.argv.slice(2);

await session.barrier(); // begin together
for (let i = 0; i < 1000; i++) {
  if (way === "plain") counter[0]! += 1; // a load and a store: another process may come between
  if (way === "atomic") Atomics.add(counter, 0, 1); // one step of the order
  if (way === "lock") {
    await lock.use(() => {
      counter[0]! += 1; // no other process comes between
    });
  }
}
await session.barrier();

if (session.rank === 0) console.log(`${way}: ${counter[0]} of ${1000 * session.processes}`);
await session.leave();
