/** Memory: what an entry does to the map, byte by byte and as plainly as possible. */
import { HEADER_SIZE } from "../../../src/core/wire/at.ts";
import { getUint64, padded } from "../../../src/core/wire/frame.ts";
import { AtomicOp, CopyOp, Kind } from "../../../src/core/wire/kinds.ts";
import { runIsMasked, runLength, runOffset, runSize, runWords } from "../../../src/core/wire/runs.ts";
import { viewOf } from "../../support/core-frames.ts";

/** Entries that change memory. */
export const WRITES: ReadonlySet<number> = new Set([
  ...([Kind.STORE, Kind.ATOMIC, Kind.PUBLISH, Kind.ALLOC, Kind.NAMED, Kind.COPY] as const),
]);

/** What a frame does to the map. Returns the value before an atomic operation. */
export function execute(memory: Uint8Array, frame: Uint8Array): Uint8Array | null {
  const view = viewOf(frame);
  const offset = getUint64(view, 24);
  const length = view.getUint32(32, true);
  const body = frame.subarray(HEADER_SIZE);
  switch (view.getUint8(4)) {
    case Kind.STORE:
      for (let at = 0; at < length; at += 1) memory[offset + at] = body[at] as number;
      return null;
    case Kind.COPY:
      if (view.getUint8(5) === CopyOp.BEGIN) memory.fill(0);
      for (let run = 0; run < body.length; run += runSize(view, HEADER_SIZE + run)) {
        const to = runOffset(view, HEADER_SIZE + run);
        const bytes = runLength(view, HEADER_SIZE + run);
        for (let at = 0; at < bytes; at += 1) memory[to + at] = body[run + 8 + at] as number;
      }
      return null;
    case Kind.PUBLISH:
      for (let run = 0; run < body.length; run += runSize(view, HEADER_SIZE + run)) {
        const to = runOffset(view, HEADER_SIZE + run);
        if (!runIsMasked(view, HEADER_SIZE + run)) {
          const bytes = runLength(view, HEADER_SIZE + run);
          for (let at = 0; at < bytes; at += 1) memory[to + at] = body[run + 8 + at] as number;
          continue;
        }
        const words = runWords(view, HEADER_SIZE + run);
        let from = run + 8 + padded(words);
        for (let at = 0; at < 8 * words; at += 1) {
          if ((((body[run + 8 + (at >> 3)] as number) >> (at & 7)) & 1) === 0) continue;
          memory[to + at] = body[from] as number;
          from += 1;
        }
      }
      return null;
    case Kind.ATOMIC: {
      const old = new Uint8Array(16);
      old.set(memory.subarray(offset, offset + length));
      const equal = old.subarray(0, length).every((byte, at) => byte === body[16 + at]);
      let carry = view.getUint8(5) === AtomicOp.NEG ? 1 : 0;
      for (let at = 0; at < length; at += 1) {
        const before = old[at] as number;
        const operand = body[at] as number;
        let after = before;
        switch (view.getUint8(5)) {
          case AtomicOp.ADD:
            after = before + operand + carry;
            carry = after >> 8;
            break;
          case AtomicOp.NEG:
            after = (before ^ 0xff) + carry;
            carry = after >> 8;
            break;
          case AtomicOp.AND:
            after = before & operand;
            break;
          case AtomicOp.OR:
            after = before | operand;
            break;
          case AtomicOp.XOR:
            after = before ^ operand;
            break;
          case AtomicOp.XCHG:
            after = operand;
            break;
          case AtomicOp.CMPXCHG:
            after = equal ? operand : before;
        }
        memory[offset + at] = after & 0xff;
      }
      return old;
    }
    default:
      return null;
  }
}
