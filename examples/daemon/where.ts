/** Every process writes the name of its machine to the shared memory; rank 0 prints all of them. */
import { hostname } from "node:os";
import { join } from "dsm";

const NAME_SIZE = 64; // bytes for each

const session = await join();
const { rank, processes } = session;
const names = session.named("names", NAME_SIZE * processes);
names.set(new TextEncoder().encode(hostname().slice(0, NAME_SIZE)), rank * NAME_SIZE);
await session.barrier();
if (rank === 0) {
  for (let i = 0; i < processes; i++) {
    const bytes = names.slice(i * NAME_SIZE, (i + 1) * NAME_SIZE);
    console.log(`process ${i} is on ${new TextDecoder().decode(bytes).replaceAll("\0", "")}`);
  }
}
await session.leave();
