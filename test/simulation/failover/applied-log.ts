/**
 * Promise: one order. All nodes that live apply the same entry at each place, byte for byte; what a process was told to be
 * done is in the order, once, behind all it did before; at the end all are equal to a reference that has applied it once.
 */
import { MapBytes } from "../../../src/core/memory/map-bytes.ts";
import { Activity } from "../../../src/core/observe/activity.ts";
import type { Recovered } from "../../../src/core/sequencer/recovery.ts";
import { Sequencer } from "../../../src/core/sequencer/sequencer.ts";
import { NO_EFFECTS } from "../../../src/core/session/effects.ts";
import { Session } from "../../../src/core/session/session.ts";
import { At } from "../../../src/core/wire/at.ts";
import { CopyOp, Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import { showFrame } from "../../support/core-trace.ts";
import { same } from "../checks/same.ts";
import { isPart, nodeOf } from "../oracle/order.ts";
import { idOf } from "./actors.ts";
import { forgetGateOwner } from "./gate.ts";
import type { Node } from "./node.ts";
import type { Server } from "./server.ts";
import { SIZE, type World } from "./world.ts";

interface Applied {
  frames: Uint8Array[];
  complete: boolean;
}

export class AppliedLog {
  readonly #world: World;
  /** What was applied at each place, by whichever node was first. */
  readonly #order: Applied[] = [];
  /** Frames of the entry that each node is applying. */
  readonly #frames = new Map<Node, number>();
  /** The values that additions gave, by their numbers. */
  readonly #olds = new Map<number, bigint>();

  constructor(world: World) {
    this.#world = world;
  }

  get length(): number {
    return this.#order.length;
  }

  /** The session begins anew. */
  clear(): void {
    this.#order.length = 0;
  }

  additionGave(id: number, old: bigint): void {
    this.#olds.set(id, old);
  }

  /** A node is about to apply a frame at a place. */
  applies(node: Node, seq: number, view: DataView, at: number): void {
    const frame = new Uint8Array(view.buffer, view.byteOffset + at, view.getUint32(at + At.size, true)).slice();
    this.#world.options.trace?.(`${node.name} applies ${seq}: ${showFrame(frame)}`);
    // An arbiter's own number, or the place.
    frame.fill(0, At.seq, At.offset);
    const more = isPart(frame);
    const number = this.#frames.get(node) ?? 0;
    this.#frames.set(node, more ? number + 1 : 0);
    if (node.state !== "alive") return;
    this.#checkAlone(node, frame);
    // One that has just come was not told what was before.
    while (this.#order.length < seq - 1 && node.fresh) this.#order.push({ frames: [], complete: false });
    if (this.#order.length < seq) {
      if (this.#order.length !== seq - 1) throw new Violation(`${node.name} skips an entry`);
      this.#order.push({ frames: [], complete: false });
    }
    node.fresh = false;
    const entry = this.#order[seq - 1] as Applied;
    const known = entry.frames[number];
    if (known === undefined && !entry.complete) {
      entry.frames.push(frame);
      entry.complete = !more;
    } else if (known === undefined || Buffer.compare(known, frame) !== 0) {
      throw new Violation(`${node.name} applies another entry ${seq} than others have`);
    }
  }

  /** What is done for a process that does not write by itself any more is done beside none that does. */
  #checkAlone(node: Node, frame: Uint8Array): void {
    const view = viewOf(frame);
    const kind = view.getUint8(At.kind);
    const { report } = this.#world;
    if (kind === Kind.COPY && view.getUint8(At.op) === CopyOp.BEGIN) report.copies += 1;
    if (kind === Kind.COPY && view.getUint8(At.op) === CopyOp.END && node.processes.length > 0) report.changed = 1;
    const writers = node.processes.filter(({ writes, state }) => writes && state === "running");
    if (writers.length === 0 || nodeOf(frame) !== node.number) return;
    const changes = kind === Kind.STORE || kind === Kind.ATOMIC || kind === Kind.PUBLISH;
    const rank = view.getUint16(At.rank, true);
    if (kind === Kind.COPY || (changes && writers.every((writer) => writer.rank !== rank))) {
      throw new Violation(`${node.name} does ${showFrame(frame)} while others write`);
    }
  }

  /** A server takes over: what is beyond was applied by nodes only that are gone. */
  truncate(server: Server, { snapshot }: Recovered): void {
    if (server !== this.#world.server) return;
    for (const node of this.#world.nodes) {
      const applied = node.replica?.session.seq ?? 0;
      if (node.state !== "alive" || applied <= snapshot.seq) continue;
      if (node.replica?.session.direct === true || node.replica?.position.whole !== true) continue;
      throw new Violation(`${node.name} has entry ${applied}, but the new server only ${snapshot.seq}`);
    }
    const direct = this.#world.nodes.some(
      ({ state, replica }) => state === "alive" && replica?.session.direct === true,
    );
    if (direct) return;
    this.#order.length = Math.min(this.#order.length, snapshot.seq);
    forgetGateOwner(this.#world, snapshot.seq);
    this.#world.holders.forgetBehind(snapshot.seq);
  }

  /**
   * A node is lost. What it decided alone in direct mode, and no other node has applied, is in no order if the server
   * did not hear of it.
   */
  lose(lost: Node): void {
    if (lost.replica?.session.direct !== true) return;
    const others = this.#world.alive.filter((node) => node !== lost && node.replica !== null);
    const known = others.map(({ replica }) => replica?.session.seq ?? 0);
    const { core } = this.#world.server;
    if (core instanceof Sequencer) known.push(core.session.seq);
    if (known.length > 0) this.#order.length = Math.min(this.#order.length, Math.max(...known));
  }

  /** Every node against a reference that applies the order once. */
  compare(): void {
    const memory = new Uint8Array(SIZE);
    let before: bigint | undefined;
    const counts = new Activity(SIZE, 0);
    const reference = new Session(this.#world.config, new MapBytes(memory), {
      ...NO_EFFECTS,
      onReply: (node, tag, { old }) => {
        counts.onReply(node, tag);
        before = old?.getBigUint64(0, true);
      },
      onRankAssigned: (_node, _tag, rank) => counts.onRankAssigned(rank),
    });
    const places = new Map<number, number>();
    for (const [index, { frames, complete }] of this.#order.entries()) {
      // Only nodes that had no need to apply it are left.
      if (frames.length === 0) return;
      if (!complete) throw new Violation("the order ends in the midst of a publication");
      for (const frame of frames) counts.apply(reference, viewOf(frame), 0);
      const id = idOf(frames.at(-1) as Uint8Array);
      if (id === 0) continue;
      if (places.has(id)) throw new Violation(`operation ${id} is in the order twice`);
      places.set(id, index);
      const old = this.#olds.get(id);
      if (old !== undefined && old !== before) throw new Violation(`an addition gave ${old} in place of ${before}`);
    }
    this.#checkDone(places);
    this.#checkServer(reference, memory, counts);
    for (const node of this.#world.nodes) this.#checkNode(node, reference, memory);
  }

  /** What processes were told to be done has its place, behind all that they did before. */
  #checkDone(places: ReadonlyMap<number, number>): void {
    for (const { node, done } of this.#world.processes) {
      if (node.state === "dead" || node.state === "refused" || node.state === "severed") continue;
      let before = -1;
      for (const id of done) {
        const place = places.get(id);
        if (place === undefined) throw new Violation(`operation ${id} of ${node.name} was done and is lost`);
        if (place <= before) throw new Violation(`operation ${id} of ${node.name} lies before an earlier one`);
        before = place;
      }
    }
  }

  #checkServer(reference: Session, bytes: Uint8Array, counts: Activity): void {
    const { core, state, memory } = this.#world.server;
    if (state !== "up" || !(core instanceof Sequencer) || core.session.seq !== reference.seq) return;
    same("the server", JSON.stringify(core.session.state()), JSON.stringify(reference.state()));
    // A server that took over has the counts from a node.
    const { ranks, heat } = core.status(true);
    const counted = ranks.map(({ rank, entries, bytes, lastWriteMs }) => [rank, entries, bytes, lastWriteMs !== null]);
    const expected = reference.report().map(({ rank }) => {
      return [rank, counts.entries[rank], counts.bytes[rank], counts.lastWriteMs(rank) !== null];
    });
    same("what the server has counted", JSON.stringify([counted, heat]), JSON.stringify([expected, counts.heat()]));
    // In direct mode it has no copy of the map.
    if (!core.session.direct && Buffer.compare(memory, bytes) !== 0)
      throw new Violation("the bytes of the server differ");
  }

  #checkNode({ name, state, replica, processes, memory }: Node, reference: Session, bytes: Uint8Array): void {
    if (replica === null || (state !== "alive" && state !== "done")) return;
    // The session was over when it came: it had no process that could be told anything.
    if (state === "done" && processes.every((process) => process.state === "lost")) return;
    if (replica.session.seq !== reference.seq) throw new Violation(`${name} lacks entries`);
    same(name, JSON.stringify(replica.session.state()), JSON.stringify(reference.state()));
    // What its processes wrote by themselves is in no order.
    if (this.#world.plan.elastic && replica.session.direct) return;
    if (Buffer.compare(memory, bytes) !== 0) throw new Violation(`the bytes of ${name} differ`);
  }
}
