/** The JSON bodies of the handshake between an arbiter and the server: types, and what is checked of them. */
import { checkOrder, type Order } from "../base/consistency.ts";
import { Status } from "../base/errors.ts";
import { HEARTBEAT_TIMEOUT_MIN_MS, RECONNECT_TIMEOUT_MAX_MS } from "../base/limits.ts";
import { checkOnLoss, type OnLoss } from "../base/loss-policy.ts";
import { checkName } from "../base/names.ts";
import { ProtocolError } from "../wire/frame.ts";
import type { SessionConfig, SessionState } from "./session-state.ts";

/** What an arbiter says of itself in its HELLO. */
export interface NodeHello {
  session: string;
  node: string;
  /** What its first process expects, or 0. */
  processes: number;
  size: number;
  /** "" expects nothing. */
  order: Order | "";
  /** "" expects nothing. */
  onLoss: OnLoss | "";
  /** The session is to be elastic; left out: whatever it is. */
  elastic?: boolean;
  /** Chosen by the arbiter, at most 64 bytes: what it shows when it comes back. "": it will not. */
  secret: string;
  /** How long its place is to be kept while its connection is broken, at most RECONNECT_TIMEOUT_MAX_MS; 0: not at all. */
  reconnectMs: number;
  /** How long its connection may be silent before it counts as broken, at least HEARTBEAT_TIMEOUT_MIN_MS; 0: forever. */
  heartbeatMs: number;
  /** Which process the arbiter is, at most 200 bytes: whoever is on its host can see whether that one lives. "": unknown. */
  process: string;
  /** Of an arbiter that comes back. */
  resume: ResumeRequest | null;
}

/** Where an arbiter that comes back is. */
export interface ResumeRequest {
  instance: string;
  node: number;
  /** The last entry it got from a server. */
  seq: number;
  /** The last entry it has applied: beyond `seq` only what it decided itself in direct mode. */
  applied: number;
  /** Which server ordered the last entry it has, and the newest server it has turned to: it follows no older one. */
  epoch: number;
  promised: number;
  /** Whether it has the bytes of the map: a node that came after the start of the session has not. */
  whole: boolean;
  /** As far as it knows: the nodes with processes, and whether some may still join. */
  nodes: number[];
  joining: boolean;
}

export interface Welcome {
  node: number;
  snapshot: SessionState;
  /** Which server of the session this is, from 1. */
  epoch: number;
  /** The last entry before each epoch. */
  starts: number[];
  /** Entries behind this one follow: up to the snapshot they are for nodes that may lack them if the server is lost. */
  base: number;
}

/** The answer to an arbiter that comes back; the entries it lacks follow. */
export interface ResumeReply {
  node: number;
  /** How many of its proposals are in the order: it is to send the others again. */
  ordered: number;
  epoch: number;
  starts: number[];
}

/** How what a joiner expects differs from what the session has, in words; null: it does not. 0 and "" expect nothing. */
export function describeConfigMismatch(
  config: SessionConfig,
  processes: number,
  size: number,
  order: Order | "",
  onLoss: OnLoss | "" = "",
  elastic = false,
): string | null {
  if (processes !== 0 && processes !== config.processes) {
    return `session "${config.name}" is for ${config.processes} processes, not ${processes}; give all the same number`;
  }
  if (size !== 0 && size !== config.size) {
    return `session "${config.name}" has a map of ${config.size} bytes, not ${size}; give all the same size`;
  }
  if (order !== "" && order !== config.order) {
    return `session "${config.name}" has the order ${config.order}, not ${order}; give all the same order`;
  }
  if (onLoss !== "" && onLoss !== config.onLoss) {
    return `session "${config.name}" answers a loss with ${config.onLoss}, not ${onLoss}; give all the same on_loss`;
  }
  if (elastic && config.elastic !== true) {
    return `session "${config.name}" is not elastic; its first process has to ask for that`;
  }
  return null;
}

export function parseHello(text: string): NodeHello {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ProtocolError("the greeting is not JSON");
  }
  if (typeof value !== "object" || value === null) throw new ProtocolError("the greeting is not an object");
  const {
    session,
    node,
    processes,
    size,
    order,
    onLoss = "",
    elastic,
    secret = "",
    reconnectMs = 0,
    process = "",
  } = value as Record<string, unknown>;
  const { heartbeatMs = 0, resume = null } = value as Record<string, unknown>;
  if (typeof session !== "string" || typeof node !== "string") throw new ProtocolError("the greeting lacks a name");
  const bad = checkName("node", node);
  if (bad !== null) throw new ProtocolError(bad, Status.INVALID);
  if (!Number.isSafeInteger(processes) || !Number.isSafeInteger(size)) {
    throw new ProtocolError("the greeting lacks a number");
  }
  if (typeof order !== "string" || (order !== "" && checkOrder(order) !== null)) {
    throw new ProtocolError("the greeting lacks an order");
  }
  if (typeof onLoss !== "string" || (onLoss !== "" && checkOnLoss(onLoss) !== null)) {
    throw new ProtocolError("the greeting lacks an answer to losses");
  }
  if (typeof secret !== "string" || secret.length > 64 || typeof process !== "string" || process.length > 200) {
    throw new ProtocolError("the greeting lacks a secret or a process");
  }
  const wait = reconnectMs as number;
  if (!(Number.isSafeInteger(wait) && wait >= 0 && wait <= RECONNECT_TIMEOUT_MAX_MS)) {
    throw new ProtocolError("the greeting lacks a time to keep its place for");
  }
  const silence = heartbeatMs as number;
  if (!(silence === 0 || (Number.isSafeInteger(silence) && silence >= HEARTBEAT_TIMEOUT_MIN_MS))) {
    throw new ProtocolError("the greeting lacks a time to be silent");
  }
  return {
    ...{ session, node, secret, process, reconnectMs: wait, heartbeatMs: silence },
    ...{ processes: processes as number, size: size as number, order: order as Order | "" },
    ...{ onLoss: onLoss as OnLoss | "", elastic: elastic === true },
    resume: parseResume(resume),
  };
}

function parseResume(value: unknown): ResumeRequest | null {
  if (value === null) return null;
  const { instance, node, seq, applied, epoch, promised, whole, nodes, joining } = value as Record<string, unknown>;
  const numbers = [node, seq, applied, epoch, promised, ...(Array.isArray(nodes) ? nodes : [null])];
  const good =
    numbers.every((number) => Number.isSafeInteger(number) && (number as number) >= 0) &&
    typeof instance === "string" &&
    typeof whole === "boolean" &&
    typeof joining === "boolean";
  if (!good) throw new ProtocolError("the greeting does not say where its node is");
  return value as ResumeRequest;
}
