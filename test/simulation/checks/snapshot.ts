/** Promise: a snapshot knows of each lock whether a process has it, so that a session that begins with it hears of that. */
import { Violation } from "../../support/core-cluster.ts";
import type { World } from "../world.ts";

/** A snapshot has begun just now. */
export function checkSnapshot({ cluster, order }: World): void {
  for (const { name, died } of cluster.sequencer.session.save().locks) {
    const byCell = order.locks.cellOwnerOf(name);
    if (byCell >= 0) throw new Violation(`rank ${byCell} has lock ${name} by its cell, and a snapshot begins`);
    if (died >= 0 !== order.locks.isInconsistent(name))
      throw new Violation(`a snapshot says of lock ${name} that rank ${died} has ended with it`);
  }
}
