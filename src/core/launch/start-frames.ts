/**
 * Frames between `dsm run` and the `dsm node` that it starts on a host, over the standard input and output of ssh. A
 * frame is the size of its payload (u32), its kind (u8), a zero, a rank (u16), all little-endian, and the payload.
 */
import { LAUNCH_FRAME_MAX } from "../base/limits.ts";

export const Launch = {
  /** From the node, at its start: JSON of NodeHello. */
  HELLO: 1,
  /** To the node, once: JSON of NodeOrders. */
  ORDERS: 2,
  /** To the node: the next bytes of the program's file, whose size is in NodeOrders. */
  PROGRAM: 3,
  /** To the node: the name of a signal for all its ranks. */
  SIGNAL: 4,
  /** To the node: bytes for the standard input of the rank; an empty payload closes it. */
  INPUT: 5,
  /** From the node: the rank has taken the last INPUT and may get the next. With a payload: it takes no more input. */
  INPUT_TAKEN: 6,
  /** From the node: the ranks are started. */
  STARTED: 7,
  /** From the node: bytes that the rank wrote to standard output. */
  STDOUT: 8,
  /** From the node: bytes that the rank wrote to standard error. */
  STDERR: 9,
  /** From the node: JSON of RankEnd. */
  EXIT: 10,
  /** From the node: JSON of NodeProblem; the node stops. */
  PROBLEM: 11,
  /** From the node: all its ranks and the processes they started have ended; this is its last frame. */
  DONE: 12,
  /** To the node: asks which ranks have ended. */
  ASK_ENDED: 13,
  /**
   * From the node: it has sent the EXIT of each rank that had ended, or was about to end, when the question arrived.
   */
  ENDED_TOLD: 14,
  /** To the node: a rank has ended somewhere; from now on report how the ranks join. */
  WATCH_JOINS: 15,
  /** From the node, after WATCH_JOINS or the end of one of its ranks: JSON of RankJoins, whenever it changes. */
  JOINS: 16,
} as const;
export type Launch = (typeof Launch)[keyof typeof Launch];

export interface LaunchFrame {
  kind: number;
  rank: number;
  payload: Uint8Array;
}

/** Fields of the header of a launch frame. */
const LaunchAt = { size: 0, kind: 4, reserved: 5, rank: 6 } as const;
const HEADER_SIZE = 8;

/** Encodes a frame. The payload has at most LAUNCH_FRAME_MAX bytes. */
export function launchFrame(kind: Launch, rank = 0, payload: Uint8Array | string | object = ""): Uint8Array {
  const bytes =
    payload instanceof Uint8Array
      ? payload
      : new TextEncoder().encode(typeof payload === "string" ? payload : JSON.stringify(payload));
  if (bytes.length > LAUNCH_FRAME_MAX) throw new RangeError(`a launch frame of ${bytes.length} bytes`);
  const frame = new Uint8Array(HEADER_SIZE + bytes.length);
  const view = new DataView(frame.buffer);
  view.setUint32(LaunchAt.size, bytes.length, true);
  view.setUint8(LaunchAt.kind, kind);
  view.setUint16(LaunchAt.rank, rank, true);
  frame.set(bytes, HEADER_SIZE);
  return frame;
}

/** LaunchReader: cuts a stream into frames; keeps at most one incomplete frame. */
export class LaunchReader {
  #rest = new Uint8Array(0);

  /** Returns the frames that `chunk` completes. Throws on an invalid frame; the stream is then unusable. */
  push(chunk: Uint8Array): LaunchFrame[] {
    let bytes = chunk;
    if (this.#rest.length > 0) {
      bytes = new Uint8Array(this.#rest.length + chunk.length);
      bytes.set(this.#rest);
      bytes.set(chunk, this.#rest.length);
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const frames: LaunchFrame[] = [];
    let at = 0;
    while (bytes.length - at >= HEADER_SIZE) {
      const size = view.getUint32(at + LaunchAt.size, true);
      const kind = view.getUint8(at + LaunchAt.kind);
      if (
        size > LAUNCH_FRAME_MAX ||
        kind < Launch.HELLO ||
        kind > Launch.JOINS ||
        view.getUint8(at + LaunchAt.reserved) !== 0
      ) {
        throw new RangeError("this is not a launch frame");
      }
      const end = at + HEADER_SIZE + size;
      if (end > bytes.length) break;
      frames.push({
        kind,
        rank: view.getUint16(at + LaunchAt.rank, true),
        payload: bytes.slice(at + HEADER_SIZE, end),
      });
      at = end;
    }
    this.#rest = bytes.slice(at);
    return frames;
  }
}
