/**
 * The order of a pipelined session, and the promises about it: stores come into it as they were queued, each once and
 * whole, an entry has those of one process, and what a process asks for comes after all that was queued before.
 */
import { BLOCK_COPY_MIN, MapBytes } from "../../../src/core/memory/map-bytes.ts";
import type { SessionConfig } from "../../../src/core/messages/session-state.ts";
import { NO_EFFECTS } from "../../../src/core/session/effects.ts";
import { Session } from "../../../src/core/session/session.ts";
import { At, HEADER_SIZE, ReplyAt } from "../../../src/core/wire/at.ts";
import { encode, type Frame, getUint64 } from "../../../src/core/wire/frame.ts";
import { Kind, NO_TAG } from "../../../src/core/wire/kinds.ts";
import { requestKey } from "../../../src/core/wire/request-key.ts";
import { Violation } from "../../support/core-cluster.ts";
import { publication, type Run, storeOf, viewOf } from "../../support/core-frames.ts";
import { isPart, nodeOf } from "../oracle/order.ts";
import { keyOf } from "../oracle/sent-frames.ts";
import { type Place, type Queued, type Report, SIZE } from "./world.ts";

export class PipelinedOrder {
  /** What is in the order so far. */
  readonly #session: Session;
  readonly #config: SessionConfig;
  readonly #report: Report;
  readonly #entries: Uint8Array[] = [];
  /** How many queued stores an entry has. */
  readonly #stores = new Map<Uint8Array, number>();
  /** The value before each atomic operation, by its place, and before the last one. */
  readonly #olds = new Map<number, Uint8Array>();
  #old: Uint8Array = new Uint8Array(16);
  /** Stores that were queued on a node before a request. */
  readonly #before = new Map<number, number>();

  constructor(config: SessionConfig, report: Report) {
    this.#config = config;
    this.#report = report;
    this.#session = this.newSession(new Uint8Array(SIZE));
  }

  get seq(): number {
    return this.#session.seq;
  }

  newSession(memory: Uint8Array): Session {
    return new Session(this.#config, new MapBytes(memory), {
      ...NO_EFFECTS,
      onReply: (_node, _tag, { old }) => {
        if (old !== null) this.#old = new Uint8Array(old.buffer.slice(0));
      },
    });
  }

  /** A process has asked for something when so many stores were queued on its node. */
  asked(node: number, channel: number, tag: number, stores: number): void {
    this.#before.set(keyOf(node, channel, tag), stores);
  }

  /** The server gives an entry its place. */
  announce(bytes: Uint8Array, places: Iterable<Place>): void {
    const frame = bytes.slice();
    const view = viewOf(frame);
    const kind = view.getUint8(At.kind);
    const tag = view.getUint32(At.tag, true);
    const number = nodeOf(frame);
    const place = [...places].find(({ node }) => node.number === number);
    if (place === undefined) throw new Violation("an entry of a node that is not there");
    if (tag === NO_TAG && (kind === Kind.STORE || kind === Kind.PUBLISH)) {
      this.#stores.set(frame, this.#takeStores(place, frame));
    } else {
      const before = this.#before.get(requestKey(number, tag));
      if (before !== undefined && place.ordered < before)
        throw new Violation("a request comes before an earlier store");
    }
    this.#entries.push(frame);
    this.#session.apply(view, 0);
    if (kind === Kind.ATOMIC) this.#olds.set(this.#session.seq, this.#old);
  }

  /** Of how many stores the entry is, which are to be the next that were queued on its node. */
  #takeStores(place: Place, frame: Uint8Array): number {
    const rank = viewOf(frame).getUint16(At.rank, true);
    const runs: Run[] = [];
    const first = place.ordered;
    // As many as would make an entry of that size.
    let stores: Frame = { kind: Kind.STORE };
    do {
      const queued = place.queued[place.ordered];
      checkQueued(queued, rank);
      place.ordered += 1;
      runs.push(...queued.runs);
      const [[, body]] = runs as [Run];
      const isLong = typeof body !== "number" && body.length >= BLOCK_COPY_MIN;
      stores = isLong ? publication(runs) : storeOf(runs);
    } while (encode(stores).length < frame.length);
    const expected = encode(stores);
    const differs = Buffer.compare(frame.subarray(At.offset), expected.subarray(At.offset)) !== 0;
    if (differs || frame[At.kind] !== expected[At.kind]) throw new Violation("an entry is not what was queued next");
    const count = place.ordered - first;
    if (count > 1) this.#report.together += 1;
    return count;
  }

  /** Follows the order as far as the node has been given it. */
  follow(place: Place): void {
    const { node } = place;
    while (place.received < node.received) {
      const frame = this.#entries[place.entries];
      if (frame === undefined) throw new Violation(`${node.name} has entries that the server has not`);
      const isOwn = nodeOf(frame) === node.number;
      place.entries += 1;
      // It is not sent the parts that it has itself.
      if (!isPart(frame) || !isOwn) place.received += frame.length;
      place.parts.push(viewOf(frame));
      // An entry in parts is applied with its last.
      if (isPart(frame)) continue;
      for (const part of place.parts.splice(0)) place.session.apply(part, 0);
      place.dirty = true;
      if (isOwn) place.applied += this.#stores.get(frame) ?? 0;
    }
  }

  /** An atomic operation is answered with the value before it. */
  checkOldValue(view: DataView): void {
    const old = this.#olds.get(getUint64(view, ReplyAt.seq));
    const told = new Uint8Array(view.buffer, view.byteOffset + HEADER_SIZE, 16);
    if (old === undefined || Buffer.compare(old, told) !== 0)
      throw new Violation("the value before an atomic operation is wrong");
  }
}

function checkQueued(queued: Queued | undefined, rank: number): asserts queued is Queued {
  if (queued === undefined) throw new Violation("an entry that no process has queued");
  if (queued.rank !== rank) throw new Violation("an entry with a store of another process");
}
