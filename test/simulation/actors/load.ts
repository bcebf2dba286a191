/** A load: the bytes of its node's map, which must be those of its place. */
import { Violation } from "../../support/core-cluster.ts";
import { placeLoad } from "../checks/places.ts";
import type { Thread } from "../process.ts";
import type { World } from "../world.ts";

export function load(world: World, thread: Thread): void {
  const length = world.random.pick([1, 2, 4, 8, 16]);
  const offset = world.offset(length);
  const index = placeLoad(world, thread);
  const expected = world.expectedMemory(thread, index);
  const { memory } = thread.process.node;
  for (let at = offset; at < offset + length; at += 1) {
    if (memory[at] !== expected[at]) throw new Violation(`a load of ${at} behind entry ${index} is wrong`);
  }
  world.report.loads += 1;
}
