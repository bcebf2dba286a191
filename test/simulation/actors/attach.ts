/** A further thread of the process connects, with the token that the process has got. */
import { encodeHandshake } from "../../../src/core/wire/handshake.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { openThread } from "../conversation.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

const THREADS_MAX = 4;

export function attach(world: World, { process }: Thread): void {
  if (process.threads.length >= THREADS_MAX) return;
  const thread = openThread(world, process, false);
  thread.request = { what: "attach", tag: 9, canceled: false, refused: () => process.state !== "running" };
  thread.channel.up.push(encodeHandshake(Kind.ATTACH, process.token, { rank: process.rank, tag: 9 }));
}
