/** A thread waits for a semaphore, tries it or posts it. The holder of the mutex posts it when it asks next. */
import { Status } from "../../../src/core/base/errors.ts";
import { ReplyAt } from "../../../src/core/wire/at.ts";
import { NAMED_CELL_SIZE, SEMAPHORE_CELLS_AT } from "../../../src/core/wire/cell-layout.ts";
import { encodeText, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { ask } from "../conversation.ts";
import { SEMAPHORES, type SemaphoreName } from "../oracle/semaphores.ts";
import type { Answer, Thread } from "../process.ts";
import type { World } from "../world.ts";
import { postByCell, sentBack, waitByCell } from "./semaphore-cell.ts";

export function semaphore(world: World, thread: Thread): void {
  const { random, semaphores } = world;
  const holds = semaphores.holder === thread;
  const names = ["mutex", "items", "pool"] as const;
  const name = holds ? "mutex" : world.plan.semaphores && random.oneIn(2) ? "items" : random.pick(names);
  const posts = name === "mutex" ? holds : random.oneIn(2);
  const tryOnly = random.oneIn(4);
  if (posts && !postByCell(world, thread, name)) post(world, thread, name);
  const usesCell = !tryOnly && thread.process.node.knownSemaphores.has(name);
  if (!posts && !waitByCell(world, thread, name, tryOnly)) wait(world, thread, name, tryOnly, usesCell);
}

function post(world: World, thread: Thread, name: SemaphoreName): void {
  if (name === "mutex") world.semaphores.holder = null;
  const body = encodeText(name);
  const frame = { kind: Kind.SEM_POST, offset: 1, aux: SEMAPHORES[name], body };
  ask(world, thread, frame, { what: "post", answered: (answer) => learn(thread, name, answer) });
}

/** The answer to a request tells the cell. */
function learn({ process }: Thread, name: SemaphoreName, { status, view }: Answer): void {
  const value = getUint64(view, ReplyAt.value);
  if (status !== Status.OK || value === 0) return;
  process.node.knownSemaphores.set(name, SEMAPHORE_CELLS_AT + (value - 1) * NAMED_CELL_SIZE);
}

/** `usesCell`: its node may send it back to the cell, once for a wait. */
export function wait(world: World, thread: Thread, name: SemaphoreName, tryOnly: boolean, usesCell = false): void {
  const { order, semaphores } = world;
  const offset = usesCell ? 1 : 0;
  const frame = { kind: Kind.SEM_WAIT, op: tryOnly ? 1 : 0, offset, aux: SEMAPHORES[name], body: encodeText(name) };
  ask(world, thread, frame, {
    ...{ what: tryOnly ? "try" : "wait", endsByLoss: true, cancelable: !tryOnly },
    ...((tryOnly || usesCell) && { statuses: [Status.AGAIN] }),
    answered: (answer) => {
      learn(thread, name, answer);
      if (answer.status === Status.OK) semaphores.took(thread, name, order.semaphores);
      if (answer.status === Status.AGAIN && !tryOnly) sentBack(world, thread, name);
    },
    waits: () => !tryOnly && !order.lost && currentValue(world, name) === 0,
  });
}

/** A wait that is the first use has its place in the order only when another waits for what comes behind it. */
function currentValue({ order }: World, name: SemaphoreName): number {
  const value = order.semaphores.valueByCell(name);
  return Number.isNaN(value) ? SEMAPHORES[name] : value;
}
