/** A thread enters the barrier for its process; BUSY: another thread of the process is in it. */
import { Status } from "../../../src/core/base/errors.ts";
import type { RankReport } from "../../../src/core/messages/daemon-api.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { ProcessBarrier } from "../../support/core-barrier-cell.ts";
import { passBarrier } from "../checks/barriers.ts";
import { ask } from "../conversation.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";
import { arriveByCell } from "./barrier-cell.ts";

/** States in which a process has not entered the barrier that others wait in. */
const MISSING = ["running", "semaphore", "lock", "condition", "rwlock", "sleeping"];

/** It waits elsewhere; "barrier" with a place is one in the map. */
const isMissing = ({ state, on }: RankReport): boolean =>
  MISSING.includes(state) || (state === "barrier" && on !== undefined);

/** By the cell or, as the promise forms do, by a request. */
export function barrier(world: World, thread: Thread): void {
  if (!world.random.oneIn(5) && arriveByCell(world, thread)) return;
  thread.process.barriersEntered += 1;
  requestBarrier(world, thread);
}

/** Asks the arbiter, for a thread that is counted as having entered it. */
export function requestBarrier(world: World, thread: Thread): void {
  const { process } = thread;
  const { order, processes } = world;
  ask(
    world,
    thread,
    { kind: Kind.BARRIER },
    {
      ...{ what: "barrier", statuses: [Status.BUSY], endsByLoss: true, cancelable: true },
      answered: ({ status }) => {
        new ProcessBarrier(process.node.cells.bytes).unmark(process.rank);
        if (status === Status.BUSY || status === Status.TIMEOUT) process.barriersEntered -= 1;
        if (status === Status.OK) passBarrier(process, processes);
      },
      waits: () => !order.lost && order.session.report().some(isMissing),
    },
  );
}
