/** Promise: behind each entry a node's map and state are what the order says. */
import { At, CopyAt } from "../../../src/core/wire/at.ts";
import { CopyOp, Kind } from "../../../src/core/wire/kinds.ts";
import { type Node, Violation } from "../../support/core-cluster.ts";
import { isPart, nodeOf, type Order, type Recorded } from "../oracle/order.ts";
import { same } from "./same.ts";

const beginsCopy = (frame: Uint8Array): boolean => frame[At.kind] === Kind.COPY && frame[CopyAt.op] === CopyOp.BEGIN;

/** How far in the order a node's replica is. */
export class Position {
  readonly node: Node;
  /** Frames of the order that it has applied; of a node that decides, checks/direct.ts sees to it. */
  index: number;
  readonly #order: Order;
  readonly #start: number;
  /** A node that came after stores were made has no bytes: no process can run there before it got them. */
  #late: boolean;
  /** So many frames it has decided itself. */
  #decided = 0;
  #received = 0;
  #kept = 0;
  /** Frames it has been given: an entry in parts is applied with its last. */
  #given: number;

  constructor(node: Node, order: Order) {
    this.node = node;
    this.#order = order;
    this.index = order.completed[node.replica?.session.seq ?? 0] as number;
    this.#given = this.index;
    this.#start = order.ends[this.index] as number;
    this.#late = node.welcome?.snapshot.phase !== "joining" && node.replica?.ready === true;
  }

  /** It does not decide any more; so far it has got. */
  decided(index: number): void {
    this.index = index;
    this.#decided = index;
  }

  check(): void {
    if (this.node.received === this.#received || this.node.lost) return;
    this.#received = this.node.received;
    this.#follow();
    const { versions, snapshots } = this.#order;
    if (!this.#late && Buffer.compare(this.node.memory, versions[this.index] as Uint8Array) !== 0) {
      throw new Violation(`the bytes of ${this.node.name} behind entry ${this.index} are wrong`);
    }
    const snapshot = snapshots.get(this.index);
    if (snapshot === undefined) return;
    const what = `the state of ${this.node.name} behind entry ${this.index}`;
    const state = this.node.replica?.session.state();
    if (!this.#late) same(what, JSON.stringify(state), snapshot);
    // Without the bytes it cannot know who sleeps: it has nothing to compare with.
    else
      same(what, JSON.stringify({ ...state, sleepers: [] }), JSON.stringify({ ...JSON.parse(snapshot), sleepers: [] }));
  }

  #follow(): void {
    const { ends, frames } = this.#order;
    for (; this.#given < frames.length; this.#given += 1) {
      const { frame } = frames[this.#given] as Recorded;
      // It is not sent the parts that it has itself.
      if (isPart(frame) && nodeOf(frame) === this.node.number) this.#kept += frame.length;
      else if ((ends[this.#given + 1] as number) > this.#start + this.#received + this.#kept) break;
      if (beginsCopy(frame)) this.#late = false;
    }
    for (this.index = this.#given; this.index > 0 && isPart((frames[this.index - 1] as Recorded).frame); )
      this.index -= 1;
    this.index = Math.max(this.index, this.#decided);
  }
}
