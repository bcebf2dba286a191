/** A thread closes its connection, or its process leaves the session: what it had under way ends with LEFT. */
import { Kind } from "../../../src/core/wire/kinds.ts";
import { ask, closeThread } from "../conversation.ts";
import { closeMap, type Thread } from "../process.ts";
import type { World } from "../world.ts";
import { leaveBarrier } from "./barrier-cell.ts";

export function closeOrLeave(world: World, thread: Thread): void {
  const { plan, random } = world;
  if (plan.closes && !thread.main) closeThread(world, thread);
  else if (random.oneIn(plan.leaveOneIn)) leave(world, thread);
}

export function leave(world: World, thread: Thread): void {
  const { process } = thread;
  process.state = "going";
  closeMap(process);
  leaveBarrier(world, process);
  ask(
    world,
    thread,
    { kind: Kind.LEAVE },
    {
      what: "leave",
      outlives: true,
      answered: () => {
        process.state = "left";
      },
    },
  );
}
