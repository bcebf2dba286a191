/** A publication, in one part or several: runs of bytes, and words of which masks choose bytes. */
import { Status } from "../../../src/core/base/errors.ts";
import type { Frame } from "../../../src/core/wire/frame.ts";
import { PublishOp } from "../../../src/core/wire/kinds.ts";
import { countMasked, publication, type Run } from "../../support/core-frames.ts";
import { placeWrite } from "../checks/places.ts";
import { send } from "../conversation.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

export function publish(world: World, thread: Thread): void {
  const { random, plan } = world;
  const parts: Frame[] = [];
  const tag = random.below(plan.tags);
  for (let part = thread.process.direct ? 1 : random.pick([1, 1, 2, 4]); part > 0; part -= 1) {
    parts.push(publication(someRuns(world), { op: part > 1 ? PublishOp.PART : PublishOp.FINAL, tag }));
  }
  thread.request = {
    ...{ what: "publish", tag, canceled: false, parts },
    answered: ({ status, view }) => {
      if (status === Status.OK) placeWrite(world, thread, "publish", tag, view);
    },
  };
  send(world, thread, parts.shift() as Frame);
}

function someRuns(world: World): Run[] {
  const { random } = world;
  const list = random.oneIn(2) ? differences(world) : [];
  for (let run = random.below(4); run > 0; run -= 1) {
    const length = random.pick([1, 2, 8, 20]);
    const masks = random.bytes(random.between(1, 4));
    const changes = countMasked(masks);
    if (random.oneIn(2) || changes === 0) list.push([world.offset(length), random.bytes(length)]);
    else list.push([world.offset(8 * masks.length) & ~7, random.bytes(changes), masks]);
  }
  return list;
}

/** Runs as from comparing pages (holes, `release`): ascending, short, several to a word that others write in too. */
function differences(world: World): Run[] {
  const { random } = world;
  const list: Run[] = [];
  const end = world.offset(24) + 24;
  for (let at = end - 24 + random.below(4); at < end; ) {
    const length = Math.min(random.pick([1, 1, 2, 3, 9]), end - at);
    list.push([at, random.bytes(length)]);
    at += length + 1 + random.below(5);
  }
  return list;
}
