/** A thread waits for a semaphore, tries it or posts it. The holder of the mutex posts it when it asks next. */
import { Status } from "../../../src/core/base/errors.ts";
import { encodeText } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { ask } from "../conversation.ts";
import { SEMAPHORES, type SemaphoreName } from "../oracle/semaphores.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

export function semaphore(world: World, thread: Thread): void {
  const { random, semaphores } = world;
  const holds = semaphores.holder === thread;
  const name = holds ? "mutex" : random.pick(["mutex", "items", "pool"] as const);
  const posts = name === "mutex" ? holds : random.oneIn(2);
  if (posts) post(world, thread, name);
  else wait(world, thread, name, random.oneIn(4));
}

function post(world: World, thread: Thread, name: SemaphoreName): void {
  if (name === "mutex") world.semaphores.holder = null;
  const body = encodeText(name);
  ask(world, thread, { kind: Kind.SEM_POST, offset: 1, aux: SEMAPHORES[name], body }, { what: "post" });
}

function wait(world: World, thread: Thread, name: SemaphoreName, tryOnly: boolean): void {
  const { order, semaphores } = world;
  const frame = { kind: Kind.SEM_WAIT, op: tryOnly ? 1 : 0, aux: SEMAPHORES[name], body: encodeText(name) };
  ask(world, thread, frame, {
    ...{ what: tryOnly ? "try" : "wait", endsByLoss: true, cancelable: !tryOnly },
    ...(tryOnly && { statuses: [Status.AGAIN] }),
    answered: ({ status }) => {
      if (status === Status.OK) semaphores.took(thread, name, order.semaphores);
    },
    waits: () => !tryOnly && !order.lost && currentValue(world, name) === 0,
  });
}

/** A wait that is the first use has its place in the order only when another waits for what comes behind it. */
function currentValue({ order }: World, name: SemaphoreName): number {
  return order.session.semaphores().find((one) => one.name === name)?.value ?? SEMAPHORES[name];
}
