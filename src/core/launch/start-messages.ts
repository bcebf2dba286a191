/** The JSON in launch frames, between `dsm run` and a node. Readers throw ProtocolError. */
import * as v from "valibot";
import { LAUNCH_FRAME_MAX, PROCESSES_MAX } from "../base/limits.ts";
import { parseAddress } from "../base/names.ts";
import {
  count,
  flag,
  list,
  parseMessage,
  pattern,
  record,
  text,
  textBy,
  whenWhole,
  whole,
} from "../messages/schema.ts";
import { ProtocolError } from "../wire/frame.ts";
import type { LaunchFrame } from "./start-frames.ts";

const NodeHelloSchema = record({
  version: text(),
  /** SSH_CONNECTION as sshd set it; empty where there is no ssh. */
  connection: text(),
});
export type NodeHello = v.InferOutput<typeof NodeHelloSchema>;

const NodeOrdersSchema = v.pipe(
  record({
    /** The ranks to start: `count` from `first` on. */
    first: whole(0, PROCESSES_MAX - 1),
    count: whole(1, PROCESSES_MAX),
    /** Name of the node, for DSM_NODE. */
    node: text(),
    /** Address of the daemon, "host:port". */
    daemon: textBy<string>((address) => (parseAddress(address) === null ? "is not HOST:PORT" : null)),
    /** The shared token; null where none is needed. */
    token: v.nullable(text()),
    /** Variables of the ranks. */
    environment: v.record(v.string(), text(), "is not an object"),
    /** Working directory of the ranks; if it is missing, the home directory. */
    folder: text(),
    /** The program and its arguments. */
    words: list(LAUNCH_FRAME_MAX, text()),
    /**
     * The program's file comes in PROGRAM frames; `words[0]` is only its name. Null: the program is already on the
     * node.
     */
    file: v.nullable(record({ size: count })),
  }),
  whenWhole(({ first, count, words }) => {
    if (first + count > PROCESSES_MAX) return ["count", `is ${count}; rank ${first + count - 1} is none`];
    return words.length === 0 ? ["words", "has no program"] : null;
  }),
);
export type NodeOrders = v.InferOutput<typeof NodeOrdersSchema>;

const SIGNAL_NAME = /^SIG[A-Z0-9]{1,12}$/;

/** How a rank ended; one of `code` and `signal` is null. */
const RankEndSchema = v.pipe(
  record({
    code: v.nullable(whole(0, 255)),
    signal: v.nullable(
      v.union([whole(1, 64), pattern(SIGNAL_NAME, "a signal")], "is neither the number nor the name of a signal"),
    ),
    /** It died of a SIGSEGV that libdsm could not catch although the rank had joined with it. */
    unseen: flag,
  }),
  whenWhole(({ code, signal }) =>
    (code === null) === (signal === null) ? ["code", "is null, or signal is: one of them, not both"] : null,
  ),
);
export type RankEnd = v.InferOutput<typeof RankEndSchema>;

const NodeProblemSchema = record({
  message: text(),
  /** The exit code of `dsm run`. */
  exitCode: whole(1, 255),
});
export type NodeProblem = v.InferOutput<typeof NodeProblemSchema>;

export const readNodeHello = (frame: LaunchFrame): NodeHello => read(NodeHelloSchema, frame, "what the host says");
export const readRankEnd = (frame: LaunchFrame): RankEnd => read(RankEndSchema, frame, "what the host says");
export const readNodeProblem = (frame: LaunchFrame): NodeProblem =>
  read(NodeProblemSchema, frame, "what the host says");
export const readNodeOrders = (frame: LaunchFrame): NodeOrders => read(NodeOrdersSchema, frame, "what dsm run says");

/** The name of the signal in a SIGNAL frame. */
export function readSignal({ payload }: LaunchFrame): NodeJS.Signals {
  const name = new TextDecoder().decode(payload);
  if (!SIGNAL_NAME.test(name)) throw new ProtocolError("what dsm run says is damaged: it names no signal");
  return name as NodeJS.Signals;
}

function read<Schema extends v.GenericSchema>(
  schema: Schema,
  { kind, payload }: LaunchFrame,
  what: string,
): v.InferOutput<Schema> {
  return parseMessage(schema, new TextDecoder().decode(payload), `${what} (frame of kind ${kind})`);
}
