/**
 * State transfer: a node hands a server that takes over all that it needs, in STATE frames. This file has both the
 * sender and the receiver of the format.
 *
 *     SESSION, SESSION, ...   NodeState as JSON, cut into pieces
 *     MAP, MAP, ...           pages of the map that are not zero; none in direct mode, where no server uses them
 *     ENTRIES, ENTRIES, ...   the retained log after NodeState.base, a stream of frames cut into pieces
 *     LAST
 *
 * Invariant: the receiver passes nothing on before all of it has arrived and has been checked.
 */

import { Status } from "../base/errors.ts";
import { FRAME_MAX, PAGE_SIZE, WELCOME_MAX } from "../base/limits.ts";
import { At, HEADER_SIZE, StateAt } from "../wire/at.ts";
import { encode, encodeJson, getUint64, ProtocolError } from "../wire/frame.ts";
import { FrameReader } from "../wire/frame-reader.ts";
import { Kind, STATE_PIECE_MAX, StateOp } from "../wire/kinds.ts";
import { RetainedFrames } from "../wire/retained-frames.ts";
import { type NodeState, parseNodeState } from "./node-state.ts";
import type { SessionConfig } from "./session-state.ts";

/** The state that a node hands over. */
export interface OutgoingState {
  state: NodeState;
  /** Bytes. */
  mapSize: number;
  /**
   * Returns the page at that offset as the log has it, or null: it is all zeros. If `page` is null, the map is not
   * handed over.
   */
  page: ((offset: number) => Uint8Array | null) | null;
  /** The entries after `state.base`. */
  entries: Uint8Array[];
}

/** The sender: yields the STATE frames, each made when the one before has been taken. */
export function* encodeState({ state, mapSize, page, entries }: OutgoingState): Generator<Uint8Array> {
  yield* pieces(StateOp.SESSION, encodeJson(state));
  for (let offset = 0; page !== null && offset < mapSize; offset += PAGE_SIZE) {
    const body = page(offset);
    if (body !== null) yield encode({ kind: Kind.STATE, op: StateOp.MAP, offset, body });
  }
  for (const piece of entries) yield* pieces(StateOp.ENTRIES, piece);
  yield encode({ kind: Kind.STATE, op: StateOp.LAST });
}

function* pieces(op: number, bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += STATE_PIECE_MAX) {
    yield encode({ kind: Kind.STATE, op, body: bytes.subarray(at, at + STATE_PIECE_MAX) });
  }
}

/** The received state, checked; the bytes of the map are in the receiver's memory. */
export interface ReceivedState extends Omit<NodeState, "base"> {
  retained: RetainedFrames;
}

/** The receiver of one node's state. Its methods throw ProtocolError when the state is damaged. */
export class StateReceiver {
  readonly #config: SessionConfig;
  readonly #epoch: number;
  readonly #map: Uint8Array;
  readonly #json: Uint8Array[] = [];
  #jsonSize = 0;
  readonly #entries = new FrameReader(FRAME_MAX);
  #begun: { state: NodeState; retained: RetainedFrames } | null = null;

  /** For the server of session `config` and that epoch. `map` is zeroed first, because only other pages are sent. */
  constructor(config: SessionConfig, epoch: number, map: Uint8Array) {
    this.#config = config;
    this.#epoch = epoch;
    this.#map = map;
    map.fill(0);
  }

  /** Handles the STATE frame at `at`. Returns the state once it is complete, else null. */
  receive(view: DataView, at: number, size: number, bytes: Uint8Array): ReceivedState | null {
    const length = Math.min(view.getUint32(at + StateAt.pieceLength, true), size - HEADER_SIZE);
    const body = bytes.subarray(at + HEADER_SIZE, at + HEADER_SIZE + length);
    switch (view.getUint8(at + StateAt.piece)) {
      case StateOp.SESSION:
        this.#sessionPiece(body);
        return null;
      case StateOp.MAP:
        this.#mapPiece(getUint64(view, at + StateAt.mapOffset), body);
        return null;
      case StateOp.ENTRIES:
        this.#entriesPiece(body);
        return null;
      case StateOp.LAST:
        return this.#finish();
      default:
        throw new ProtocolError("there is no such piece of state");
    }
  }

  /** Takes a piece of the session's state, which may be as large as in a WELCOME. */
  #sessionPiece(body: Uint8Array): void {
    this.#jsonSize += body.length;
    if (this.#jsonSize > WELCOME_MAX) {
      throw new ProtocolError("the state is larger than a session can be", Status.LIMIT);
    }
    this.#json.push(new Uint8Array(body));
  }

  #mapPiece(offset: number, body: Uint8Array): void {
    if (!(offset + body.length <= this.#map.length)) throw new ProtocolError("a piece of state outside the map");
    this.#map.set(body, offset);
  }

  #entriesPiece(body: Uint8Array): void {
    const { retained } = this.#begin();
    this.#entries.push(body, (view, at, size, bytes) => {
      const seq = getUint64(view, at + At.seq);
      if (!(seq >= retained.newest && seq <= retained.newest + 1))
        throw new ProtocolError("an entry of the state is missing");
      retained.push(view, bytes, at, size, seq);
    });
  }

  /** The JSON is complete: entries, or the end, follow. */
  #begin(): { state: NodeState; retained: RetainedFrames } {
    if (this.#begun === null) {
      const text = Buffer.concat(this.#json).toString("utf8");
      const state = parseNodeState(text, this.#config, this.#epoch);
      this.#begun = { state, retained: new RetainedFrames(state.base, true) };
    }
    return this.#begun;
  }

  #finish(): ReceivedState {
    const { state, retained } = this.#begin();
    const { base: _, ...received } = state;
    if (retained.newest !== state.snapshot.seq || this.#entries.pending > 0)
      throw new ProtocolError("the state is not whole");
    retained.takeUnsent();
    return { ...received, retained };
  }
}
