/** The trace of a simulator, line by line, for finding the cause of a broken promise. */

import { HEADER_SIZE } from "../../src/core/wire/at.ts";
import { getUint64 } from "../../src/core/wire/frame.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import { viewOf } from "./core-frames.ts";

export type Trace = (line: string) => void;

const NAMES = new Map<number, string>(Object.entries(Kind).map(([name, kind]) => [kind, name]));
/** Bytes of a body that are shown. */
const BODY_SHOWN = 16;

/** A frame for people: its kind, the fields that are not 0, and the beginning of its body. */
export function showFrame(frame: Uint8Array): string {
  const view = viewOf(frame);
  const fields = {
    op: view.getUint8(5),
    rank: view.getUint16(6, true),
    tag: view.getUint32(8, true),
    node: view.getUint32(12, true),
    seq: getUint64(view, 16),
    offset: getUint64(view, 24),
    length: view.getUint32(32, true),
    aux: view.getUint32(36, true),
  };
  const shown = Object.entries(fields).flatMap(([name, value]) => (value === 0 ? [] : [`${name} ${value}`]));
  const body = frame.subarray(HEADER_SIZE, HEADER_SIZE + BODY_SHOWN);
  if (body.length > 0) shown.push(`body ${body.toHex()}${frame.length > HEADER_SIZE + BODY_SHOWN ? "..." : ""}`);
  return `${NAMES.get(view.getUint8(4)) ?? `kind ${view.getUint8(4)}`} ${shown.join(", ")}`;
}

/** The newest lines. */
export class TraceTail {
  readonly #most: number;
  #lines: string[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  readonly add: Trace = (line) => {
    this.#lines.push(line);
    if (this.#lines.length > 2 * this.#most) this.#lines = this.#lines.slice(-this.#most);
  };

  get lines(): string[] {
    return this.#lines.slice(-this.#most);
  }
}
