/** The state that a node hands to the next server of its session, without the bytes of the map and the entries. */
import * as v from "valibot";
import { EPOCH_MAX } from "../base/limits.ts";
import { ProtocolError } from "../wire/frame.ts";
import { ActivityStateSchema, activityFault } from "./activity-state.ts";
import { count, numbers, parseMessage, record } from "./schema.ts";
import { type SessionConfig, SessionStateSchema } from "./session-state.ts";

const NodeStateSchema = record({
  snapshot: SessionStateSchema,
  /** The last entry before each epoch, from the first epoch on. */
  starts: numbers(0, EPOCH_MAX),
  /** Entries after this one are handed over. */
  base: count,
  /** What was counted up to the snapshot; left out: the node has not counted from the beginning. */
  activity: v.exactOptional(ActivityStateSchema),
});
export type NodeState = v.InferOutput<typeof NodeStateSchema>;

/** Parses the state, of the session that `config` describes, for its server of that epoch. Throws ProtocolError. */
export function parseNodeState(text: string, config: SessionConfig, epoch: number): NodeState {
  const state = parseMessage(NodeStateSchema, text, "the state");
  const { snapshot, activity } = state;
  const fault =
    configFault(snapshot.config, config) ??
    positionFault(state, epoch) ??
    (activity === undefined ? null : activityFault(activity, snapshot));
  if (fault !== null) throw new ProtocolError(`the state is damaged: ${fault}`);
  return state;
}

function configFault(of: SessionConfig, expected: SessionConfig): string | null {
  for (const setting of Object.keys({ ...of, ...expected }) as (keyof SessionConfig)[]) {
    if ((of[setting] ?? false) !== (expected[setting] ?? false)) {
      return `snapshot.config.${setting} is another session's`;
    }
  }
  return null;
}

function positionFault({ snapshot, starts, base }: NodeState, epoch: number): string | null {
  if (base > snapshot.seq) return `base is ${base}, behind the snapshot's last entry ${snapshot.seq}`;
  if (starts.length === 0) return "starts is empty";
  if (starts.length > epoch) return `starts has ${starts.length} epochs; the next server's is ${epoch}`;
  return starts.some((start, index) => start < (starts[index - 1] ?? 0)) ? "starts goes back" : null;
}
