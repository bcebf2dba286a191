/** Joins of other nodes that wait for the end of direct mode, in the order in which they came. */
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

  /** The link is gone, and its joins with it. */
  drop(link: Link): void {
    this.#joins = this.#joins.filter((join) => join.link !== link);
  }

  /** Direct mode is over: all joins, which are the caller's now. */
  take(): Uint8Array[] {
    return this.#joins.splice(0).map(({ frame }) => frame);
  }
}
