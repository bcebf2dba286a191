/** What a node hands over to the next server of its session, but for the bytes of the map and the entries. */
import type { SessionState } from "./session-state.ts";

export interface NodeState {
  snapshot: SessionState;
  /** The last entry before each epoch, from the first epoch on. */
  starts: number[];
  /** Entries behind this one are handed over. */
  base: number;
}
