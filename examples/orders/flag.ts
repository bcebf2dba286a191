/** Rank 0 writes a message and then a flag, by plain stores; rank 1 watches the flag. */
import { join } from "dsm";

const session = await join();
const [message, flag, fenced] = [0, 1, 2] as const;
const view = session.view(Int32Array, 0, 3);

if (session.rank === 0) {
  view[message] = 42;
  view[flag] = 1;
  await Bun.sleep(1000); // busy with something that synchronises nothing
  view[fenced] = 1;
  session.fence();
}
if (session.rank === 1) {
  while (view[flag] === 0) await Bun.sleep(1);
  const when = view[fenced] === 0 ? "before rank 0 synchronised" : "only when rank 0 synchronised";
  console.log(`${session.order}: the message is ${view[message]}, seen ${when}`);
}
await session.leave();
