/** A process's end of the ring, as native/src/pages/ring.c writes it, one step at a time: a test may stop, or end, between any two. */
import { encode, padded } from "../../src/core/wire/frame.ts";
import { NO_TAG } from "../../src/core/wire/kinds.ts";
import { RING, RING_HEADER_SIZE, RING_RECORD_MAX, RING_SIZE, RING_WRAP } from "../../src/core/wire/ring-layout.ts";
import { piecesOf, type Run, storeOf, viewOf } from "./core-frames.ts";

/**
 * What has just been done, or, for `busy` and `full`, found. `half`: some bytes of the store are in the map. `rung`: the
 * doorbell was rung, and the arbiter's sign is still there.
 */
export type Step =
  | "busy"
  | "full"
  | "locked"
  | "wrapped"
  | "written"
  | "queued"
  | "half"
  | "stored"
  | "unlocked"
  | "rung";

const word = (place: readonly [number, number]): number => place[0] / 4;

/** The record of a store of these runs over a map. */
export function recordOf(map: Uint8Array, rank: number, runs: readonly Run[]): Uint8Array {
  const frame = encode({ ...storeOf(runs), rank, tag: NO_TAG });
  const lengths = runs.map(([, bytes, masks]) =>
    masks === undefined ? (bytes as Uint8Array).length : 8 * masks.length,
  );
  const record = new Uint8Array(lengths.reduce((sum, length) => sum + padded(length), frame.length));
  record.set(frame);
  let at = frame.length;
  runs.forEach(([from], i) => {
    record.set(map.subarray(from, from + (lengths[i] as number)), at);
    at += padded(lengths[i] as number);
  });
  return record;
}

export class RingWriter {
  readonly words: Uint32Array;
  readonly data: Uint8Array;
  readonly #map: Uint8Array;
  readonly #pid: number;
  readonly #ring: () => void;

  /** `doorbell` sends a DOORBELL. */
  constructor(ring: Uint8Array, map: Uint8Array, pid: number, doorbell: () => void = () => {}) {
    this.words = new Uint32Array(ring.buffer, ring.byteOffset, RING_HEADER_SIZE / 4);
    this.data = ring.subarray(RING_HEADER_SIZE, RING_HEADER_SIZE + RING_SIZE);
    this.#map = map;
    this.#pid = pid;
    this.#ring = doorbell;
  }

  get tail(): number {
    return this.words[word(RING.tail)] as number;
  }
  set tail(tail: number) {
    this.words[word(RING.tail)] = tail;
  }
  get head(): number {
    return this.words[word(RING.head)] as number;
  }
  set head(head: number) {
    this.words[word(RING.head)] = head;
  }
  get owner(): number {
    return this.words[word(RING.lock)] as number;
  }
  set owner(pid: number) {
    this.words[word(RING.lock)] = pid;
  }
  get sleeping(): number {
    return this.words[word(RING.sleeping)] as number;
  }
  get shadowed(): boolean {
    return this.words[word(RING.shadowed)] !== 0;
  }

  /** The steps of one store. Its outcome: "shadowed" when it was not queued and must be asked for. */
  *steps(rank: number, runs: readonly Run[]): Generator<Step, "queued" | "shadowed"> {
    for (;;) {
      while (this.owner !== 0) yield "busy";
      this.owner = this.#pid;
      yield "locked";
      if (this.shadowed) {
        this.owner = 0;
        return "shadowed";
      }
      const record = recordOf(this.#map, rank, runs);
      if (record.length > RING_RECORD_MAX) throw new RangeError("a record this large is not queued");
      const at = this.tail % RING_SIZE;
      const skipped = at + record.length > RING_SIZE ? RING_SIZE - at : 0;
      if (((this.tail - this.head) >>> 0) + skipped + record.length <= RING_SIZE) {
        if (skipped > 0) {
          viewOf(this.data).setUint32(at, RING_WRAP, true);
          yield "wrapped";
        }
        this.data.set(record, skipped > 0 ? 0 : at);
        yield "written";
        this.tail = (this.tail + skipped + record.length) >>> 0;
        break;
      }
      this.owner = 0;
      yield "full";
    }
    yield "queued";
    for (const [offset, bytes] of runs.flatMap(piecesOf)) {
      const half = bytes.length >> 1;
      this.#map.set(bytes.subarray(0, half), offset);
      yield "half";
      this.#map.set(bytes.subarray(half), offset + half);
    }
    yield "stored";
    this.owner = 0;
    yield "unlocked";
    const { sleeping } = this;
    if (sleeping === 0) return "queued";
    this.#ring();
    yield "rung";
    if (this.sleeping === sleeping) this.words[word(RING.sleeping)] = 0;
    return "queued";
  }

  /** A whole store. Throws when it cannot be queued at once. */
  store(rank: number, ...runs: readonly Run[]): void {
    const steps = this.steps(rank, runs);
    for (;;) {
      const { done, value } = steps.next();
      if (value === "busy" || value === "full" || value === "shadowed") throw new Error(`the ring is ${value}`);
      if (done) return;
    }
  }
}

export const emptyRing = (): Uint8Array => new Uint8Array(RING_HEADER_SIZE + RING_SIZE);
