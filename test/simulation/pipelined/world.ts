/** The world of a session of the order `pipelined`: nodes with rings, processes that store into them, one step at a time. */
import type { SessionConfig } from "../../../src/core/messages/session-state.ts";
import type { Replica } from "../../../src/core/replica/replica.ts";
import type { Ring, RingLock } from "../../../src/core/replica/store-ring.ts";
import type { Session } from "../../../src/core/session/session.ts";
import { encode, type Frame } from "../../../src/core/wire/frame.ts";
import type { Channel, Cluster, Node } from "../../support/core-cluster.ts";
import type { Run } from "../../support/core-frames.ts";
import type { Random } from "../../support/core-random.ts";
import type { RingWriter, Step } from "../../support/core-ring-writer.ts";
import { showFrame, type Trace } from "../../support/core-trace.ts";
import type { PipelinedOrder } from "./order.ts";

/** One page. */
export const SIZE = 4096;

export interface Report {
  entries: number;
  /** Stores that went through a ring, and those that found it full, or a page shadowed. */
  queued: number;
  full: number;
  shadowed: number;
  /** Entries that had several of them. */
  together: number;
  /** Locks taken over from the dead, of which a store was done again. */
  broken: number;
  redone: number;
  fences: number;
  /** Sections under the lock, and those that began and ended by its cell. */
  sections: number;
  leased: number;
  doorbells: number;
}

export type RingParts = [bytes: Uint8Array, lock: RingLock];

/** Broken parts, to see whether the simulator notices. */
export interface SimulatorOptions {
  makeReplica?: (...args: ConstructorParameters<typeof Replica>) => Replica;
  makeRing?: (...parts: RingParts) => Ring;
  /** Is told of every step. */
  trace?: Trace;
}

export type Runs = readonly Run[];

export interface Queued {
  rank: number;
  runs: Runs;
  /** The ring's tail behind it. */
  end: number;
}

/** A node with its ring, and the order as far as the node has been given it. */
export interface Place {
  node: Node;
  ring: Uint8Array;
  words: RingWriter;
  queued: Queued[];
  /** Of these: found in the order, and applied on the node. */
  ordered: number;
  applied: number;
  session: Session;
  memory: Uint8Array;
  entries: number;
  received: number;
  /** Of the entry that has not all of its parts. */
  parts: DataView[];
  watching: boolean;
  dirty: boolean;
}

export interface Process {
  pid: number;
  rank: number;
  place: Place;
  channel: Channel;
  state: "joining" | "running" | "going" | "left" | "dead";
  steps: Generator<Step, "queued" | "shadowed"> | null;
  step: Step | null;
  runs: Runs;
  request: Request | null;
  shadow: Uint8Array;
  /** Its arbiter has, or will have, its shadow. */
  lent: boolean;
  hole: { from: number; to: number } | null;
  section: Section | null;
}

/** A process has the lock. */
export interface Section {
  /** What it stores. */
  next: number;
  progress: "begun" | "stored";
}

/** What an actor says of its request. */
export interface Wanted {
  /** Parts of a publication that are still to be sent. */
  parts?: Frame[];
  /** A sleep: it may be taken back, and waits for ever if it is not. */
  sleeps?: boolean;
  answered?(status: number, view: DataView): void;
}

export interface Request extends Wanted {
  kind: number;
  tag: number;
  /** Stores queued on the node before. */
  after: number;
}

/** What a seed makes happen. */
export interface Plan {
  losses: boolean;
  /** Large stores, which go round the ring. */
  heavy: boolean;
  holes: boolean;
  /** Processes queue publications, too, as under `release`. */
  publishes: boolean;
  /** Processes enter sections under a lock, which may be leased to their node. */
  sections: boolean;
  config: SessionConfig;
}

export function makePlan(random: Random): Plan {
  const heavy = random.oneIn(12);
  const sections = !heavy && random.oneIn(4);
  return {
    losses: random.oneIn(2),
    heavy,
    holes: random.oneIn(3),
    publishes: random.oneIn(2),
    sections,
    config: {
      ...{
        name: "simulated",
        instance: "0",
        processes: random.between(2, sections ? 4 : 6),
        size: SIZE,
        base: 0x2000_0000_0000,
      },
      ...{ order: "pipelined", onLoss: sections ? "continue" : "fail" },
    },
  };
}

export interface World {
  readonly random: Random;
  readonly plan: Plan;
  readonly trace: Trace | null;
  readonly cluster: Cluster;
  readonly order: PipelinedOrder;
  readonly places: Map<Node, Place>;
  readonly processes: Process[];
  /** Offsets of blocks that were given out, and of the map's first byte. */
  readonly blocks: number[];
  readonly report: Report;
  /** What the last section that ended has stored. */
  guarded: number;
  /** It wants the lock; the others rarely do. */
  favoured: Process | null;
  nextTag: number;
}

/** Sends the request, under a tag of its own. */
export function ask(world: World, process: Process, frame: Frame, wanted: Wanted = {}): void {
  world.nextTag = (world.nextTag + 1) & 0xffff;
  process.request = { ...wanted, kind: frame.kind, tag: world.nextTag, after: 0 };
  send(world, process, frame, process.request);
}

export function send(world: World, process: Process, frame: Frame, request: Request): void {
  const bytes = encode({ ...frame, tag: request.tag });
  world.trace?.(`process ${process.pid} asks: ${showFrame(bytes)}`);
  const { place, channel } = process;
  request.after = place.queued.length;
  world.order.asked(place.node.number, channel.index, request.tag, request.after);
  channel.up.push(bytes);
}
