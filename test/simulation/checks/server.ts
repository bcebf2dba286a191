/** Promise: the server's state behind each entry is what the order says. */
import type { World } from "../world.ts";
import { same } from "./same.ts";

export class ServerCheck {
  #seq = 0;

  check({ cluster, order }: World): void {
    const { session } = cluster.sequencer;
    if (session.seq === this.#seq) return;
    this.#seq = session.seq;
    const snapshot = order.snapshots.get(order.completed[session.seq] as number);
    if (snapshot === undefined) return;
    same(`the state of the server at entry ${session.seq}`, JSON.stringify(session.state()), snapshot);
  }
}
