/** The handshake with a process of this node: its HELLO, and the reply when the session starts. */
import { orderNumber, orderOfNumber } from "../base/consistency.ts";
import { Status } from "../base/errors.ts";
import { onLossNumber, onLossOfNumber } from "../base/loss-policy.ts";
import { describeMismatch } from "../messages/session-settings.ts";
import type { SessionConfig } from "../messages/session-state.ts";
import { HEADER_SIZE } from "../wire/at.ts";
import { encode, encodeText, fieldText, getUint64, ProtocolError, setUint64 } from "../wire/frame.ts";
import { Kind } from "../wire/kinds.ts";
import { JOINED, JOINED_SIZE, PROCESS_HELLO, PROCESS_HELLO_SIZE } from "../wire/process-hello.ts";

export interface ProcessHello {
  pid: number;
  /** Rank + 1, or 0. */
  wishedRank: number;
  /** The process does not want direct mode, or could not be told of its end in a session in which it may end. */
  refusesDirect: boolean;
}

/** Parses the HELLO at `at`. Throws ProtocolError when it is malformed, or expects another session. */
export function parseProcessHello(
  view: DataView,
  at: number,
  size: number,
  bytes: Uint8Array,
  config: SessionConfig,
): ProcessHello {
  if (size !== HEADER_SIZE + PROCESS_HELLO_SIZE) throw new ProtocolError("the greeting has the wrong size");
  const body = at + HEADER_SIZE;
  const name = fieldText(bytes, body + PROCESS_HELLO.session[0], PROCESS_HELLO.session[1]);
  if (name !== config.name) {
    throw new ProtocolError(`wrong session: this arbiter serves "${config.name}", not "${name}"`);
  }
  const orderWished = view.getUint8(body + PROCESS_HELLO.order[0]);
  const order = orderOfNumber(orderWished);
  if (order === null && orderWished !== 0) {
    throw new ProtocolError(`there is no order of number ${orderWished}`, Status.INVALID);
  }
  const onLossWished = view.getUint8(body + PROCESS_HELLO.onLoss[0]);
  const onLoss = onLossOfNumber(onLossWished);
  if (onLoss === null && onLossWished !== 0) {
    throw new ProtocolError(`there is no loss policy of number ${onLossWished}`, Status.INVALID);
  }
  const mismatch = describeMismatch(config, {
    processes: view.getUint32(body + PROCESS_HELLO.processes[0], true),
    size: getUint64(view, body + PROCESS_HELLO.size[0]),
    order: order ?? "",
    onLoss: onLoss ?? "",
    elastic: view.getUint8(body + PROCESS_HELLO.elastic[0]) === 1,
  });
  if (mismatch !== null) throw new ProtocolError(mismatch, Status.MISMATCH);
  const refusal = view.getUint8(body + PROCESS_HELLO.noDirect[0]);
  return {
    pid: view.getUint32(body + PROCESS_HELLO.pid[0], true),
    wishedRank: view.getUint32(body + PROCESS_HELLO.wishedRank[0], true),
    // A session that is not elastic never leaves direct mode.
    refusesDirect: refusal === 1 || (refusal === 2 && config.elastic === true),
  };
}

/** JoinedFacts: what the arbiter tells a process when the session starts. */
export interface JoinedFacts {
  rank: number;
  token: Uint8Array;
  node: number;
  nodeName: string;
  mapPath: string;
  /** Processes that are in the session. */
  processes: number;
  /** Whether the process maps the region read-write. */
  isDirect: boolean;
}

export function encodeJoined(config: SessionConfig, facts: JoinedFacts): Uint8Array {
  const body = new Uint8Array(JOINED_SIZE);
  const view = new DataView(body.buffer);
  setUint64(view, JOINED.base[0], config.base);
  setUint64(view, JOINED.size[0], config.size);
  body.set(facts.token, JOINED.token[0]);
  view.setUint32(JOINED.processes[0], facts.processes, true);
  view.setUint32(JOINED.elastic[0], config.elastic === true ? 1 : 0, true);
  view.setUint32(JOINED.node[0], facts.node, true);
  body.set(encodeText(facts.nodeName), JOINED.nodeName[0]);
  body.set(encodeText(facts.mapPath), JOINED.mapPath[0]);
  view.setUint32(JOINED.order[0], orderNumber(config.order), true);
  view.setUint32(JOINED.direct[0], facts.isDirect ? 1 : 0, true);
  view.setUint32(JOINED.onLoss[0], onLossNumber(config.onLoss), true);
  return encode({ kind: Kind.REPLY, aux: facts.rank, body });
}
