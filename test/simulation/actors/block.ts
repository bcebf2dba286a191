/** A thread allocates a block, with a name or without, or frees one. */
import { Status } from "../../../src/core/base/errors.ts";
import { encodeText } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { ask } from "../conversation.ts";
import { SIZE } from "../plan.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

export function block(world: World, thread: Thread): void {
  const { random, order } = world;
  const bytes = random.oneIn(10) ? random.between(1, 2 * SIZE) : random.between(1, 200);
  const aux = random.pick([1, 8, 8, 64, 256]);
  const choice = random.below(5);
  if (choice < 2) {
    const statuses = [Status.NO_MEMORY];
    ask(world, thread, { kind: Kind.ALLOC, offset: bytes, aux }, { what: "alloc", statuses, judged: true });
  } else if (choice < 3) {
    const name = random.pick(["grid", "queue"]);
    const frame = { kind: Kind.NAMED, offset: name === "grid" ? 100 : bytes, aux, body: encodeText(name) };
    const statuses = [Status.NO_MEMORY, Status.MISMATCH];
    ask(world, thread, frame, { what: "named", statuses, judged: true });
  } else {
    const { blocks } = order.heap;
    const offset = blocks.length > 0 && !random.oneIn(5) ? random.pick(blocks).offset : world.offset(1);
    const statuses = [Status.INVALID];
    ask(world, thread, { kind: Kind.FREE, offset }, { what: "free", statuses, judged: true });
  }
}
