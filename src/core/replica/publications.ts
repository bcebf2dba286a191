/**
 * PublicationIntake: publications of this node's processes that come in parts. The parts of a publication come through
 * the process's channel, or lie in its staging area, and go on to the server as they come; the final part makes them
 * one entry.
 */
import { Status } from "../base/errors.ts";
import { CHANNEL_REQUESTS_MAX } from "../base/limits.ts";
import { At, HEADER_SIZE, StagedPartAt } from "../wire/at.ts";
import { checkOperation } from "../wire/check-operation.ts";
import { encode, getUint64, ProtocolError } from "../wire/frame.ts";
import type { PartPool } from "../wire/frame-reader.ts";
import { Kind, PublishOp } from "../wire/kinds.ts";
import { PUBLISH_PART_MAX, STAGING_SIZE, stagedLimit } from "../wire/runs.ts";
import type { Channel } from "./channels.ts";
import type { NodeProcess } from "./processes.ts";
import type { Proposals } from "./proposals.ts";
import type { ReplicaOutput } from "./replica-output.ts";

export class PublicationIntake {
  readonly #node: number;
  readonly #mapSize: number;
  readonly #proposals: Proposals;
  readonly #pool: PartPool;
  readonly #out: ReplicaOutput;

  constructor(node: number, mapSize: number, proposals: Proposals, pool: PartPool, out: ReplicaOutput) {
    this.#node = node;
    this.#mapSize = mapSize;
    this.#proposals = proposals;
    this.#pool = pool;
    this.#out = out;
  }

  /**
   * Counts a part. Refuses a process that publishes more than a map can hold: the server would disconnect the whole
   * node for it.
   */
  addPart(channel: Channel, process: NodeProcess, tag: number, size: number): void {
    if (process.publishingBytes + size > stagedLimit(this.#mapSize)) {
      throw new ProtocolError("a publication larger than the map can be", Status.LIMIT);
    }
    process.publishingBytes += size;
    channel.publishing.set(tag, (channel.publishing.get(tag) ?? 0) + size);
    if (channel.publishing.size > CHANNEL_REQUESTS_MAX) throw new ProtocolError("too many requests under way");
  }

  /** Ends a publication: its final part has arrived. */
  finish(channel: Channel, process: NodeProcess, tag: number): void {
    process.publishingBytes -= channel.publishing.get(tag) ?? 0;
    channel.publishing.delete(tag);
  }

  /**
   * Aborts incomplete publications, so that their parts cannot be attributed to a later publication that reuses the
   * channel number and tag.
   */
  abortAll(channel: Channel, process: NodeProcess): void {
    for (const tag of channel.publishing.keys()) {
      this.#proposals.abort(tag);
      this.#out.propose(encode({ kind: Kind.PUBLISH, op: PublishOp.ABORT, rank: process.rank, tag, node: this.#node }));
      this.finish(channel, process, tag);
    }
  }

  /**
   * Takes a part that the process has put into its staging area. Copies the part before it is checked, so that the
   * process cannot change it after the check. The process gets TAKEN when the part has left, so it is never further
   * ahead than the area is large.
   */
  takeStaged(channel: Channel, process: NodeProcess, view: DataView, at: number): void {
    const offset = getUint64(view, at + StagedPartAt.stagingOffset);
    const length = view.getUint32(at + StagedPartAt.runsLength, true);
    const tag = view.getUint32(at + At.tag, true);
    const replyTaken = (): void => {
      if (channel.isOpen) this.#out.reply(channel.index, encode({ kind: Kind.TAKEN, tag, offset }));
    };
    if (process.state !== "running") {
      replyTaken();
      return;
    }
    if (!(offset + length <= STAGING_SIZE) || length > PUBLISH_PART_MAX || length % 8 !== 0) {
      throw new ProtocolError("publish: a part outside the staging area");
    }
    if (process.stagedParts >= STAGING_SIZE / PUBLISH_PART_MAX) {
      throw new ProtocolError("publish: more parts than the staging area has");
    }
    const { staging } = process;
    if (staging === null) throw new ProtocolError("publish: the process has no staging area");
    const stamped = channel.stamp(tag);
    const part = this.#copyPart(process, stamped, staging.subarray(offset, offset + length));
    this.addPart(channel, process, stamped, part.length);
    process.stagedParts += 1;
    this.#proposals.addPart(stamped, part, () => {
      process.stagedParts -= 1;
      replyTaken();
    });
  }

  /** Copies the runs into a frame of the arbiter's own. Throws ProtocolError when they are not well formed. */
  #copyPart(process: NodeProcess, tag: number, runs: Uint8Array): Uint8Array<ArrayBuffer> {
    const size = HEADER_SIZE + runs.length;
    const part = this.#pool.take(size).subarray(0, size);
    const { rank } = process;
    part.set(encode({ kind: Kind.PUBLISH, op: PublishOp.PART, rank, tag, node: this.#node, length: runs.length }));
    part.set(runs, HEADER_SIZE);
    const view = new DataView(part.buffer, part.byteOffset, size);
    view.setUint32(At.size, size, true);
    const wrong = checkOperation(view, 0, this.#mapSize);
    if (wrong !== null) throw new ProtocolError(wrong);
    return part;
  }
}
