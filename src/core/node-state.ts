/** What a node hands over to the next server of its session, but for the bytes of the map and the entries. */
import type { SessionConfig, SessionSnapshot } from "./session.ts";
import { checkSnapshot, type Fields, fields, numbers, parseChecked, whole, wrong } from "./session-check.ts";

export interface NodeState {
  snapshot: SessionSnapshot;
  /** The last entry before each epoch, from the first epoch on. */
  starts: number[];
  /** Entries behind this one are handed over. */
  base: number;
}

/** The state in `text`, of the session that `config` describes, for its server of that epoch. Throws ProtocolError. */
export function parseNodeState(text: string, config: SessionConfig, epoch: number): NodeState {
  return parseChecked(text, "the state", (state) => {
    const snapshot = fields(state.snapshot, "snapshot");
    checkSnapshot(snapshot, config.name);
    checkConfig(snapshot.config as Fields, config);
    whole(state, "base", 0, snapshot.seq as number);
    numbers(state, "starts", 0, epoch);
    const starts = state.starts as number[];
    if (starts.length === 0) throw wrong("starts");
    for (const [index, start] of starts.entries()) if (start < (starts[index - 1] ?? 0)) throw wrong("starts");
  });
}

function checkConfig(of: Fields, { elastic = false, ...expected }: SessionConfig): void {
  for (const [setting, value] of Object.entries(expected)) {
    if (of[setting] !== value) throw wrong(`config.${setting} is another session's`);
  }
  if ((of.elastic ?? false) !== elastic) throw wrong("config.elastic is another session's");
}
