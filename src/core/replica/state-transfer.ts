/** What a node hands to a server that takes over: the session's state, the map and the entries it retains, as frames. */
import { PAGE_SIZE } from "../base/limits.ts";
import { isZero } from "../memory/map-bytes.ts";
import type { NodeState } from "../messages/node-state.ts";
import { encode, encodeJson } from "../wire/frame.ts";
import { Kind, STATE_PIECE_MAX, StateOp } from "../wire/kinds.ts";

/** `page`: a page of the map as the log has it; null where the map is not handed over. */
export function* encodeState(
  state: NodeState,
  mapSize: number,
  page: ((offset: number) => Uint8Array) | null,
  entries: Uint8Array[],
): Generator<Uint8Array> {
  yield* pieces(StateOp.SESSION, encodeJson(state));
  for (let offset = 0; page !== null && offset < mapSize; offset += PAGE_SIZE) {
    const body = page(offset);
    if (!isZero(body)) yield encode({ kind: Kind.STATE, op: StateOp.MAP, offset, body });
  }
  for (const piece of entries) yield* pieces(StateOp.ENTRIES, piece);
  yield encode({ kind: Kind.STATE, op: StateOp.LAST });
}

function* pieces(op: number, bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += STATE_PIECE_MAX) {
    yield encode({ kind: Kind.STATE, op, body: bytes.subarray(at, at + STATE_PIECE_MAX) });
  }
}
