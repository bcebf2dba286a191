/** A store; in direct mode the process mostly does it by itself. */
import { Status } from "../../../src/core/base/errors.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { placeWrite } from "../checks/places.ts";
import { ask } from "../conversation.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

export function store(world: World, thread: Thread): void {
  const { random } = world;
  const length = random.pick([1, 2, 4, 8, 8, 3, 16, 64, 300]);
  const offset = world.offset(length);
  const body = random.bytes(length);
  if (thread.process.direct && !random.oneIn(5)) {
    world.direct.write(thread.process, offset, body);
    return;
  }
  ask(
    world,
    thread,
    { kind: Kind.STORE, offset, body },
    {
      what: "store",
      answered: ({ status, tag, view }) => {
        if (status === Status.OK) placeWrite(world, thread, "store", tag, view);
      },
    },
  );
}
