/** What channels have sent and what has no place in the order yet: an entry is one of these, byte for byte, once. */
import { At } from "../../../src/core/wire/at.ts";
import { isProcessOperation, Kind } from "../../../src/core/wire/kinds.ts";
import { requestKey } from "../../../src/core/wire/request-key.ts";
import { Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";

/** The key of what a channel of a node asks for: an arbiter stamps its channel's number into the tag. */
export const keyOf = (node: number, channel: number, tag: number): number => requestKey(node, channel * 0x10000 + tag);

/** Whether a request is of that channel. */
export const isOf = (request: number, node: number, channel: number): boolean =>
  Math.floor(request / 0x10000) === node * 0x10000 + channel;

export class SentFrames {
  readonly #byRequest = new Map<number, Uint8Array[]>();

  /** A channel has sent this frame: it may come once, behind the channel's earlier ones of that tag. */
  add(node: number, channel: number, rank: number, frame: Uint8Array): void {
    const stamped = frame.slice();
    const view = viewOf(stamped);
    const kind = view.getUint8(At.kind);
    // A cancel has no answer, so one that comes too late may find that its channel's number has a new owner.
    if (!isProcessOperation(kind) || kind === Kind.SEM_CANCEL) return;
    const tag = channel * 0x10000 + view.getUint32(At.tag, true);
    view.setUint16(At.rank, rank, true);
    view.setUint32(At.tag, tag, true);
    view.setUint32(At.node, node, true);
    const key = requestKey(node, tag);
    const queue = this.#byRequest.get(key);
    if (queue === undefined) this.#byRequest.set(key, [stamped]);
    else queue.push(stamped);
  }

  /** The entry is the oldest frame that its sender has sent under this tag. `direct`: its node decides. */
  check(request: number, entry: Uint8Array, direct: boolean): void {
    const sent = this.#byRequest.get(request)?.shift();
    const unstamped = entry.slice();
    unstamped.fill(0, At.seq, At.offset);
    // In direct mode the node has compared before it passes a sleep on.
    if (sent !== undefined && entry[At.kind] === Kind.FUTEX_WAIT && direct) sent[At.op] = 1;
    if (sent === undefined || Buffer.compare(sent, unstamped) !== 0)
      throw new Violation("an entry that no process sent");
  }

  forget(isOld: (request: number) => boolean): void {
    for (const request of this.#byRequest.keys()) if (isOld(request)) this.#byRequest.delete(request);
  }
}
