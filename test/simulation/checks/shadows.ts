/** Promise: pages with holes show the node's bytes outside the holes and the process's own inside. */
import { Violation } from "../../support/core-cluster.ts";
import { PAGE } from "../plan.ts";
import type { World } from "../world.ts";

export function checkShadows({ processes }: World): void {
  for (const { node, holes, shadow, state } of processes) {
    if (state !== "running" || holes.length === 0) continue;
    for (const page of [0, PAGE]) {
      const here = holes.filter(({ from }) => from >= page && from < page + PAGE);
      if (here.length === 0 || here.some((hole) => hole.state !== "open")) continue;
      const expected = node.memory.slice(page, page + PAGE);
      for (const { from, to, mark } of here) expected.fill(mark, from - page, to - page);
      if (Buffer.compare(expected, shadow.subarray(page, page + PAGE)) !== 0) throw new Violation("a shadow is wrong");
    }
  }
}
