/** The JSON bodies of the handshake between an arbiter and the server. */
import * as v from "valibot";
import { checkOrder, type Order } from "../base/consistency.ts";
import { Status } from "../base/errors.ts";
import { EPOCH_MAX, HEARTBEAT_TIMEOUT_MIN_MS, NODE_NUMBER_MAX, RECONNECT_TIMEOUT_MAX_MS } from "../base/limits.ts";
import { checkOnLoss, type OnLoss } from "../base/loss-policy.ts";
import { ProtocolError } from "../wire/frame.ts";
import { ActivityStateSchema } from "./activity-state.ts";
import {
  check,
  count,
  flag,
  name,
  numbers,
  reasoned,
  record,
  text as shortText,
  textBy,
  WORD_MAX,
  whole,
} from "./schema.ts";
import { SessionStateSchema } from "./session-state.ts";

/** Position of an arbiter that comes back. */
const ResumeRequestSchema = record({
  instance: shortText(),
  node: count,
  /** The last entry received from a server. */
  seq: count,
  /** The last entry applied: beyond `seq` only entries that the node decided itself in direct mode. */
  applied: count,
  /** The epoch of the last entry, and the newest epoch that the node has turned to: it follows no older server. */
  epoch: count,
  promised: count,
  /** Whether it has the bytes of the map: a node that joined after the start of the session does not. */
  whole: flag,
  /** As far as the node knows: the nodes with processes, and whether some may still join. */
  nodes: numbers(0, NODE_NUMBER_MAX + 1),
  joining: flag,
});
export type ResumeRequest = v.InferOutput<typeof ResumeRequestSchema>;

/** What an arbiter says of itself in its HELLO. */
const NodeHelloSchema = record({
  session: shortText(),
  node: name("node"),
  /** What its first process expects; 0: no requirement. */
  processes: count,
  size: count,
  /** "": no requirement. */
  order: textBy<Order | "">((order) => (order === "" ? null : checkOrder(order))),
  /** "": no requirement. */
  onLoss: v.optional(
    textBy<OnLoss | "">((onLoss) => (onLoss === "" ? null : checkOnLoss(onLoss))),
    "",
  ),
  /** Whether the session must be elastic; left out: no requirement. */
  elastic: v.optional(flag, false),
  /**
   * Chosen by the arbiter, at most 64 bytes: it proves its identity with this when it comes back. "": it will not come
   * back.
   */
  secret: v.optional(shortText(64), ""),
  /**
   * How long the server keeps its place while its connection is broken, at most RECONNECT_TIMEOUT_MAX_MS; 0: not at
   * all.
   */
  reconnectMs: v.optional(whole(0, RECONNECT_TIMEOUT_MAX_MS), 0),
  /** Silence after which its connection counts as broken, at least HEARTBEAT_TIMEOUT_MIN_MS; 0: never. */
  heartbeatMs: v.optional(
    reasoned<number>((ms) =>
      ms === 0 || (Number.isSafeInteger(ms) && (ms as number) >= HEARTBEAT_TIMEOUT_MIN_MS)
        ? null
        : `is neither 0 nor a whole number from ${HEARTBEAT_TIMEOUT_MIN_MS} on`,
    ),
    0,
  ),
  /**
   * Identity of the arbiter's process, at most 200 bytes: a server on its host can see whether it is alive. "":
   * unknown.
   */
  process: v.optional(shortText(200), ""),
  /** Set if the arbiter comes back. */
  resume: v.optional(v.nullable(ResumeRequestSchema), null),
});
export type NodeHello = Omit<v.InferOutput<typeof NodeHelloSchema>, "elastic"> & { elastic?: boolean };

/** The last entry before each epoch. */
const EpochStarts = numbers(0, EPOCH_MAX);

export const WelcomeSchema = record({
  node: whole(0, WORD_MAX),
  snapshot: SessionStateSchema,
  /** Which server of the session this is, from 1. */
  epoch: whole(1, EPOCH_MAX),
  starts: EpochStarts,
  /** Entries after this one follow: those up to the snapshot are for nodes that may lack them if the server is lost. */
  base: count,
  /** What was counted up to the snapshot; left out: the server has not counted from the beginning. */
  activity: v.exactOptional(ActivityStateSchema),
});
export type Welcome = v.InferOutput<typeof WelcomeSchema>;

/** The answer to an arbiter that comes back; the entries that it lacks follow. */
export const ResumeReplySchema = record({
  node: whole(0, WORD_MAX),
  /** Number of its proposals that are in the log: it sends the others again. */
  ordered: count,
  epoch: whole(1, EPOCH_MAX),
  starts: EpochStarts,
});
export type ResumeReply = v.InferOutput<typeof ResumeReplySchema>;

/** The first words of the server's answer to a second arbiter of one node. */
export const nodeInUse = (node: string, session: string): string => `node "${node}" is in session "${session}" already`;

/** What is missing in a HELLO whose field of that name is missing or wrong. */
const LACKS: Record<keyof NodeHello, string> = {
  session: "a name",
  node: "a name",
  processes: "a number",
  size: "a number",
  order: "an order",
  onLoss: "an answer to losses",
  elastic: "whether the session is elastic",
  secret: "a secret or a process",
  process: "a secret or a process",
  reconnectMs: "a time to keep its place for",
  heartbeatMs: "a time to be silent",
  resume: "where its node is",
};

/** Parses a HELLO. Throws ProtocolError, with INVALID for an invalid node name. */
export function parseHello(text: string): NodeHello {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ProtocolError("the greeting is not JSON");
  }
  const result = check(NodeHelloSchema, json);
  if (result.fault === null) return result.value;
  const { path, message } = result.fault;
  if (path === "") throw new ProtocolError("the greeting is not an object");
  if (path === "node" && typeof (json as NodeHello).node === "string") throw new ProtocolError(message, Status.INVALID);
  throw new ProtocolError(`the greeting lacks ${LACKS[path.split(".")[0] as keyof NodeHello]}`);
}
