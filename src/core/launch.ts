/**
 * What `dsm run` and the `dsm node` that it starts on a host say to each other, over the standard input and output of
 * ssh. A frame is its payload's size (u32), its kind (u8), a zero, a rank (u16), all little-endian, and the payload.
 */
import { LAUNCH_FRAME_MAX } from "./limits.ts";
import { type Fields, parseChecked, wrong } from "./session-check.ts";

export const Launch = {
  /** From the node, at its start: JSON of NodeHello. */
  HELLO: 1,
  /** To the node, once: JSON of NodeOrders. */
  ORDERS: 2,
  /** To the node: the next bytes of the program's file, of which NodeOrders says the size. */
  PROGRAM: 3,
  /** To the node: the name of a signal for all its ranks. */
  SIGNAL: 4,
  /** To the node: bytes for the standard input of the rank; an empty one is its end. */
  INPUT: 5,
  /** From the node: the rank has taken the last INPUT, and may get the next. With a payload: it takes no more. */
  INPUT_TAKEN: 6,
  /** From the node: the ranks are started. */
  STARTED: 7,
  /** From the node: what the rank wrote to standard output, */
  STDOUT: 8,
  /** and to standard error. */
  STDERR: 9,
  /** From the node: JSON of RankEnd. */
  EXIT: 10,
  /** From the node: JSON of NodeProblem; the node does not go on. */
  PROBLEM: 11,
  /** From the node: all its ranks and what they started have ended, and nothing more will come of it. */
  DONE: 12,
  /** To the node: which ranks have ended? */
  ASK_ENDED: 13,
  /** From the node: the EXIT of each that had ended, or was about to, when the question came has been sent. */
  ENDED_TOLD: 14,
} as const;
export type Launch = (typeof Launch)[keyof typeof Launch];

export interface NodeHello {
  version: string;
  /** SSH_CONNECTION as sshd set it; empty where there is no ssh. */
  connection: string;
}

export interface NodeOrders {
  /** The ranks to start: `count` from `first` on. */
  first: number;
  count: number;
  /** Name of the node, for DSM_NODE. */
  node: string;
  /** Address of the daemon, "host:port". */
  daemon: string;
  /** The shared token; null where none is needed. */
  token: string | null;
  /** Variables of the ranks. */
  environment: Record<string, string>;
  /** Folder to start them in; where it is missing, the home. */
  folder: string;
  /** The program and its arguments. */
  words: string[];
  /** The program's file comes in PROGRAM frames; `words[0]` is only its name. Null: it is on the node. */
  file: { size: number } | null;
}

/** How a rank ended; one of `code` and `signal` is null. */
export interface RankEnd {
  code: number | null;
  signal: string | number | null;
  /** It died of a SIGSEGV that libdsm, which it had joined with, could not catch. */
  unseen: boolean;
}

export interface NodeProblem {
  message: string;
  /** What `dsm run` is to exit with. */
  exitCode: number;
}

export interface LaunchFrame {
  kind: number;
  rank: number;
  payload: Uint8Array;
}

const HEADER_SIZE = 8;

/** Payloads are at most LAUNCH_FRAME_MAX bytes. */
export function launchFrame(kind: Launch, rank = 0, payload: Uint8Array | string | object = ""): Uint8Array {
  const bytes =
    payload instanceof Uint8Array
      ? payload
      : new TextEncoder().encode(typeof payload === "string" ? payload : JSON.stringify(payload));
  if (bytes.length > LAUNCH_FRAME_MAX) throw new RangeError(`a launch frame of ${bytes.length} bytes`);
  const frame = new Uint8Array(HEADER_SIZE + bytes.length);
  const view = new DataView(frame.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint8(4, kind);
  view.setUint16(6, rank, true);
  frame.set(bytes, HEADER_SIZE);
  return frame;
}

/** Cuts a stream into frames; it holds one that has not fully arrived, and no more. */
export class LaunchReader {
  #rest = new Uint8Array(0);

  /** The frames that `chunk` completes. Throws on one that cannot be; the stream is then unusable. */
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
      const size = view.getUint32(at, true);
      const kind = view.getUint8(at + 4);
      if (size > LAUNCH_FRAME_MAX || kind < Launch.HELLO || kind > Launch.ENDED_TOLD || view.getUint8(at + 5) !== 0) {
        throw new RangeError("what came is no launch frame");
      }
      const end = at + HEADER_SIZE + size;
      if (end > bytes.length) break;
      frames.push({ kind, rank: view.getUint16(at + 6, true), payload: bytes.slice(at + HEADER_SIZE, end) });
      at = end;
    }
    this.#rest = bytes.slice(at);
    return frames;
  }
}

/** The JSON of a frame from `dsm run`, which has started us. Throws where it is none. */
export function launchJson<Content>(frame: LaunchFrame): Content {
  return JSON.parse(new TextDecoder().decode(frame.payload)) as Content;
}

/** What a node says of itself. Throws ProtocolError where it is nothing of the kind; so do the next two. */
export function readNodeHello(frame: LaunchFrame): NodeHello {
  return checkedJson(frame, ({ version, connection }) => isText(version) && isText(connection));
}

export function readRankEnd(frame: LaunchFrame): RankEnd {
  return checkedJson(frame, ({ code, signal, unseen }) => {
    if (typeof unseen !== "boolean") return false;
    if (signal === null) return isWithin(code, 0, 255);
    return (
      code === null && (isWithin(signal, 1, 64) || (typeof signal === "string" && /^SIG[A-Z0-9]{1,12}$/.test(signal)))
    );
  });
}

export function readNodeProblem(frame: LaunchFrame): NodeProblem {
  return checkedJson(frame, ({ message, exitCode }) => isText(message) && isWithin(exitCode, 1, 255));
}

function checkedJson<Content>(frame: LaunchFrame, good: (value: Fields) => boolean): Content {
  return parseChecked(new TextDecoder().decode(frame.payload), "what the host says", (value) => {
    if (!good(value)) throw wrong(`frame of kind ${frame.kind}`);
  });
}

const isText = (value: unknown): boolean => typeof value === "string";
const isWithin = (value: unknown, least: number, most: number): boolean =>
  Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
