/**
 * Promise: a node in direct mode decides what it hands on, in that order, and its memory is what its processes and the
 * entries have written there, and nothing else; when it changes over the order has all of it.
 */
import type { Replica } from "../../../src/core/replica/replica.ts";
import { At } from "../../../src/core/wire/at.ts";
import { getUint64, setUint64 } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { type Node, Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import { showFrame } from "../../support/core-trace.ts";
import { execute } from "../oracle/memory.ts";
import type { Recorded } from "../oracle/order.ts";
import { SIZE } from "../plan.ts";
import type { Process } from "../process.ts";
import type { World } from "../world.ts";
import type { Position } from "./replica.ts";
import { same } from "./same.ts";

export class DirectMode {
  readonly #world: World;
  /** The node that decides. */
  decider: Node | null = null;
  /** It did once: what it has decided and not handed on may yet not have happened. */
  former: Node | null = null;
  /** What its memory must be behind that many frames of the order. */
  readonly memory = new Uint8Array(SIZE);
  #index = 0;
  /** How often the memory has changed. */
  changes = 0;
  /** What a node that decides handed to the log last, and how far the node was then. */
  #proposal: { node: Node; frame: Uint8Array; seq: number } | null = null;

  constructor(world: World) {
    this.#world = world;
  }

  /** A process writes by itself, whenever it likes. */
  write({ node, pid }: Process, offset: number, bytes: Uint8Array): void {
    this.#world.trace?.(`process ${pid} writes ${bytes.length} bytes at ${offset}`);
    node.memory.set(bytes, offset);
    this.memory.set(bytes, offset);
    this.changes += 1;
  }

  lost(node: Node): void {
    if (node !== this.decider && node !== this.former) return;
    this.#world.order.deciderLost = true;
    this.#world.order.locks.forgetCells();
  }

  /** A node hands an operation to the log. Where it decides by itself, it applies it before anything else happens. */
  proposed(node: Node, bytes: Uint8Array): void {
    this.settle();
    const session = node.replica?.session;
    if (session?.direct !== true || session.presentOn(node.number).length === 0) return;
    // Behind proposals that it made before, and that have not come back, it decides nothing.
    if (getUint64(viewOf(bytes), At.seq) === session.entriesOf(node.number) + 1)
      this.#proposal = { node, frame: new Uint8Array(bytes), seq: session.seq };
  }

  /** What was decided is in the order from then on: whatever the server broadcasts must follow it. */
  settle(): void {
    const proposal = this.#proposal;
    this.#proposal = null;
    if (proposal === null || (proposal.node.replica as Replica).session.seq === proposal.seq) return;
    if (proposal.node !== this.decider) throw new Violation(`${proposal.node.name} decides, but is not the one to`);
    setUint64(viewOf(proposal.frame), At.seq, proposal.seq + 1);
    this.#checkAlone(proposal.node, proposal.frame);
    this.#world.order.add(proposal.frame);
  }

  /** What is done for a process that does not write by itself is done beside none that does. */
  #checkAlone(node: Node, frame: Uint8Array): void {
    const here = this.#world.processes.filter((process) => process.node === node);
    const kind = frame[At.kind] as number;
    const changes = kind === Kind.STORE || kind === Kind.ATOMIC || kind === Kind.PUBLISH;
    const rank = viewOf(frame).getUint16(At.rank, true);
    const traps = here.some((one) => one.rank === rank && one.traps);
    if (here.some(({ direct }) => direct) && (kind === Kind.COPY || (changes && traps))) {
      throw new Violation(`${node.name} decides ${showFrame(frame)} while others write`);
    }
  }

  /** The memory of a direct session changes by what its processes write and by the few entries that write at all. */
  check(): void {
    const { cluster, order } = this.#world;
    const { session, frames, completed, snapshots } = order;
    if (!session.direct) {
      this.#end();
      return;
    }
    this.decider ??= cluster.nodes.find(({ number }) => session.presentOn(number).length > 0) ?? null;
    const node = this.decider;
    if (node === null || node.lost) return;
    const { replica } = node;
    const index = completed[replica?.session.seq as number];
    if (index === undefined) throw new Violation(`${node.name} decided entries that it did not pass on`);
    (this.#world.positions.get(node) as Position).index = index;
    for (; this.#index < index; this.#index += 1) this.#apply(frames[this.#index] as Recorded);
    if (Buffer.compare(node.memory, this.memory) !== 0) {
      throw new Violation(`the memory of ${node.name} behind entry ${index} is not what was written there`);
    }
    const snapshot = snapshots.get(index);
    if (snapshot !== undefined) {
      same(`the state of ${node.name} behind entry ${index}`, JSON.stringify(replica?.session.state()), snapshot);
    }
  }

  #apply({ frame, entry, zeroed }: Recorded): void {
    // What it puts into the order it has.
    if (frame[At.kind] === Kind.COPY) return;
    entry.old = execute(this.memory, frame);
    if (zeroed !== null) this.memory.fill(0, zeroed.offset, zeroed.offset + zeroed.size);
    this.changes += 1;
  }

  /** From here on its node is like any other. */
  #end(): void {
    const node = this.decider;
    if (node === null) return;
    const { order, positions } = this.#world;
    this.decider = null;
    this.former = node;
    if (node.lost) return;
    const position = positions.get(node) as Position;
    position.decided(order.completed[node.replica?.session.seq as number] as number);
    // It had the pieces already, and no process wrote meanwhile.
    if (Buffer.compare(node.memory, order.versions[position.index] as Uint8Array) !== 0) {
      throw new Violation(`the memory of ${node.name} differs from its entries in the log`);
    }
  }
}
