/**
 * LogPosition: where this node is in the log, and which entries it retains for others: a server that takes over learns
 * from its nodes what the log is.
 *
 * Invariants: an entry that another node may lack is retained; a node that has promised to follow a server follows no
 * older one.
 */
import type { ResumeReply, ResumeRequest } from "../messages/node-handshake.ts";
import { ProtocolError } from "../wire/frame.ts";
import { RetainedFrames } from "../wire/retained-frames.ts";

export class LogPosition {
  readonly #node: number;
  /** Entries not yet acknowledged by all nodes. */
  readonly retained: RetainedFrames;
  /** The last entry before the epoch of each server that has taken over. */
  #epochStarts: number[];
  /** The epoch of the newest server that this node has turned to. */
  #promised: number;
  /** Whether it has the bytes of the map from the beginning. */
  hasFullMap: boolean;

  constructor(node: number, base: number, epoch: number, epochStarts: number[], hasFullMap: boolean) {
    this.#node = node;
    this.retained = new RetainedFrames(base);
    this.#epochStarts = epochStarts;
    this.#promised = epoch;
    this.hasFullMap = hasFullMap;
  }

  get epochStarts(): number[] {
    return this.#epochStarts;
  }

  /** Promises to follow no server of an older epoch. False: the node has already promised a newer one. */
  promise(epoch: number): boolean {
    if (epoch < this.#promised) return false;
    this.#promised = epoch;
    return true;
  }

  /** Follows the server that sent the reply. Throws ProtocolError when it was replaced by another. */
  follow({ epoch, starts }: ResumeReply): void {
    if (!this.promise(epoch)) throw new ProtocolError("a server that was replaced by another");
    this.#epochStarts = starts;
  }

  /** The position that this node reports to a server that may not know it. */
  resumeRequest(
    session: { instance: string; seq: number; nodes: number[]; isJoining: boolean },
    confirmed: number,
    hasAllStores: boolean,
  ): ResumeRequest {
    const { instance, seq, nodes, isJoining } = session;
    return {
      instance,
      node: this.#node,
      seq: confirmed,
      applied: seq,
      epoch: this.#epochStarts.findLastIndex((start) => start < seq) + 1 || 1,
      promised: this.#promised,
      whole: this.hasFullMap && hasAllStores && this.retained.newest === seq,
      nodes,
      joining: isJoining,
    };
  }
}
