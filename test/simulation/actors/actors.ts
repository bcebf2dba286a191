/** The actors, with the share that each has of what threads do. */
import { Kind } from "../../../src/core/wire/kinds.ts";
import { closeThread, send } from "../conversation.ts";
import { type CellWork, isHalf, type Request, type Thread } from "../process.ts";
import type { World } from "../world.ts";
import { atomic } from "./atomic.ts";
import { attach } from "./attach.ts";
import { barrier } from "./barrier.ts";
import { continueAtBarrier } from "./barrier-cell.ts";
import { block } from "./block.ts";
import { hole } from "./hole.ts";
import { closeOrLeave } from "./leave.ts";
import { load } from "./load.ts";
import { lock } from "./lock.ts";
import { object } from "./object.ts";
import { publish } from "./publish.ts";
import { semaphore } from "./semaphore.ts";
import { sleep } from "./sleep.ts";
import { store } from "./store.ts";
import { change, wake } from "./wake.ts";

/** Chooses the details of an operation, sends it, and says which answers are allowed and what they mean. */
export type Actor = (world: World, thread: Thread) => void;

/** Percent of all operations. */
const ACTORS: readonly (readonly [percent: number, actor: Actor])[] = [
  [20, load],
  [15, store],
  [10, atomic],
  [6, publish],
  [6, barrier],
  [10, semaphore],
  [4, hole],
  [9, sleep],
  [3, wake],
  [5, change],
  [4, block],
  [3, lock],
  [3, attach],
  [2, closeOrLeave],
];

/** The thread goes on: with what it has under way, or with something new. */
export function act(world: World, thread: Thread): void {
  if (thread.cell !== null) workOn(world, thread.cell);
  else if (thread.atBarrier !== null) continueAtBarrier(world, thread, thread.atBarrier);
  else if (thread.request !== null) continueRequest(world, thread, thread.request);
  else if (world.plan.objects && !world.random.oneIn(6)) object(world, thread);
  else if (concernsLocks(world)) lock(world, thread);
  else if (world.plan.barriers && world.random.oneIn(2)) barrier(world, thread);
  else if (world.plan.semaphores && !world.random.oneIn(4)) semaphore(world, thread);
  else pickActor(world)(world, thread);
}

const concernsLocks = ({ plan, random }: World): boolean =>
  (plan.locks && random.oneIn(2)) || (plan.cells && !random.oneIn(8));

/** A sleep's time is over once in a while. */
function workOn({ random }: World, cell: CellWork): void {
  if (!cell.isAsleep || random.oneIn(5)) cell.step();
}

function pickActor({ random }: World): Actor {
  let choice = random.below(100);
  for (const [percent, actor] of ACTORS) {
    if (choice < percent) return actor;
    choice -= percent;
  }
  throw new Error("the actors have less than 100 percent");
}

/** Sends the next part, takes it back, or closes the connection. */
function continueRequest(world: World, thread: Thread, request: Request): void {
  const { random, plan } = world;
  const { parts } = request;
  if (parts !== undefined && isHalf(request) && random.oneIn(2)) {
    send(world, thread, parts.shift() as (typeof parts)[number]);
  } else if (request.cancelable === true && !request.canceled && random.oneIn(plan.objects ? 5 : 8)) {
    request.canceled = true;
    send(world, thread, { kind: Kind.SEM_CANCEL, tag: request.tag });
  } else if (plan.closes && !thread.main && random.oneIn(12)) {
    closeThread(world, thread);
  }
}
