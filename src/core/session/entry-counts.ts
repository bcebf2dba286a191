/** EntryCounts: how far the log has been applied, and how many entries each node has in it. */
import type { SessionState } from "../messages/session-state.ts";
import { EVICTED } from "../messages/session-state.ts";

export class EntryCounts {
  /** Number of the last entry applied. */
  seq = 0;
  /** Bytes that stores, atomics and publications have written. */
  bytesWritten = 0;
  /** Entries by node number, or EVICTED. */
  #byNode: number[] = [];

  /** Counts an entry of `node`. `evicts`: the entry evicts the node. */
  count(node: number, evicts: boolean): void {
    const entries = this.#byNode;
    this.seq += 1;
    while (entries.length <= node) entries.push(0);
    if (evicts) entries[node] = EVICTED;
    else if (entries[node] !== EVICTED) entries[node] = (entries[node] as number) + 1;
  }

  of(node: number): number {
    return this.#byNode[node] ?? 0;
  }

  save(): Pick<SessionState, "seq" | "published" | "ordered"> {
    return { seq: this.seq, published: this.bytesWritten, ordered: this.#byNode };
  }

  load(state: SessionState): void {
    this.seq = state.seq;
    this.bytesWritten = state.published;
    this.#byNode = state.ordered;
  }
}
