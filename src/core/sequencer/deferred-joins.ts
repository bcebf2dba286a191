/** DeferredJoins: joins of other nodes that wait for the end of direct mode, in the order in which they came. */
import { CHANNELS_MAX } from "../base/limits.ts";
import { ProtocolError } from "../wire/frame.ts";
import type { Link } from "./link.ts";

export class DeferredJoins {
  #joins: { link: Link; frame: Uint8Array }[] = [];

  get isEmpty(): boolean {
    return this.#joins.length === 0;
  }

  /** Keeps the JOIN. Throws ProtocolError when the link has CHANNELS_MAX of them. */
  add(link: Link, frame: Uint8Array): void {
    if (this.#joins.filter((join) => join.link === link).length >= CHANNELS_MAX) {
      throw new ProtocolError("too many requests under way");
    }
    this.#joins.push({ link, frame });
  }

  /** Drops the joins of a link that is gone. */
  drop(link: Link): void {
    this.#joins = this.#joins.filter((join) => join.link !== link);
  }

  /** Takes all joins, which the caller then owns: direct mode is over. */
  take(): Uint8Array[] {
    return this.#joins.splice(0).map(({ frame }) => frame);
  }
}
