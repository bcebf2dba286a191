/**
 * The world of a simulated session: its nodes, its processes and the pipes between them (test/support/core-cluster.ts),
 * the order with its oracles, and what the checks remember. Nothing moves by itself: all follows from the seed.
 */
import { MapBytes } from "../../src/core/memory/map-bytes.ts";
import { NO_EFFECTS } from "../../src/core/session/effects.ts";
import { Session } from "../../src/core/session/session.ts";
import { Cluster, type ClusterOptions, type Node, type Pipe, Violation } from "../support/core-cluster.ts";
import type { Random } from "../support/core-random.ts";
import { showFrame, type Trace } from "../support/core-trace.ts";
import { wakeSleepers } from "./actors/barrier-cell.ts";
import type { Guarded } from "./actors/guarded.ts";
import { DirectMode } from "./checks/direct.ts";
import { Position } from "./checks/replica.ts";
import { SemaphoreCheck } from "./checks/semaphores.ts";
import { Order } from "./oracle/order.ts";
import { PAGE, type Plan, SIZE, WORDS_FROM } from "./plan.ts";
import { closeMap, type Process, type Thread } from "./process.ts";

/** What a session came to; tests want each count to be more than nothing (kinds.ts, expectMore). */
export interface Report {
  entries: number;
  answers: number;
  loads: number;
  lost: number;
  /** Sessions that ran in direct mode to their end, and that changed over. */
  direct: number;
  changed: number;
  /** Nodes that came with a picture of the memory. */
  pictures: number;
  /** Sleeps that a wake ended, sleeps that were not begun, and blocks given out. */
  woken: number;
  refused: number;
  blocks: number;
  /** Locks that a thread waited for and got; and all locks got, tried ones included, whose last owner had died. */
  locked: number;
  inherited: number;
  /** Locks got by their cells, how many of them after a sleep, and waits that were sent back to the cell. */
  cells: number;
  slept: number;
  sentBack: number;
  /** Locks got by their cells that were leased to the node. */
  leased: number;
  /** Barriers passed by their cell. */
  cellBarriers: number;
  /** Semaphores taken and posted by their cells, and threads that slept on them and were woken by others. */
  semaphores: number;
  roused: number;
  /** Waits that a node has sent back to the cell. */
  returned: number;
  /** Snapshots that have begun. */
  snapshots: number;
  /** Locks taken by processes that have closed their connections. */
  orphans: number;
  /** Waits for a condition that a signal ended; the reader-writer lock read, written, and got after a writer's death. */
  signalled: number;
  read: number;
  written: number;
  halfWritten: number;
  /** Barriers in the map that opened for more than one. */
  opened: number;
}

/** A word that is changed only by threads that then wake all that sleep there. */
export interface Word {
  offset: number;
  /** Changes after which those that sleep have not been woken yet. */
  owed: number;
  /** A thread that changed it could not wake. */
  broken: boolean;
}

/** A connection that has asked for a snapshot. */
export interface Snapshot {
  link: number;
  up: Pipe;
}

export class World {
  readonly random: Random;
  readonly plan: Plan;
  readonly trace: Trace | null;
  readonly cluster: Cluster;
  readonly order: Order;
  readonly direct: DirectMode;
  readonly semaphores = new SemaphoreCheck();
  readonly positions = new Map<Node, Position>();
  readonly processes: Process[] = [];
  /** Those of them that have closed their connections and run on. */
  readonly orphans: Process[] = [];
  readonly words: readonly Word[] = [0, 8].map((at) => ({ offset: WORDS_FROM + at, owed: 0, broken: false }));
  readonly report: Report = {
    ...{ entries: 0, answers: 0, loads: 0, lost: 0, direct: 0, changed: 0, pictures: 0 },
    ...{
      woken: 0,
      refused: 0,
      blocks: 0,
      locked: 0,
      inherited: 0,
      cells: 0,
      leased: 0,
      slept: 0,
      sentBack: 0,
      cellBarriers: 0,
    },
    ...{ semaphores: 0, roused: 0, returned: 0, snapshots: 0, orphans: 0 },
    ...{ signalled: 0, read: 0, written: 0, halfWritten: 0, opened: 0 },
  };
  /** By lock. */
  readonly guarded = new Map<string, Guarded>();
  nextGuarded = 1;
  /** It waits for the leases of nodes. */
  snapshot: Snapshot | null = null;
  #nextNode = 1;

  constructor(random: Random, plan: Plan, makeReplica?: ClusterOptions["makeReplica"], trace?: Trace) {
    this.random = random;
    this.plan = plan;
    this.trace = trace ?? null;
    const { config } = plan;
    this.order = new Order({
      makeSession: () => new Session(config, new MapBytes(new Uint8Array(SIZE)), NO_EFFECTS),
      size: SIZE,
      wordsFrom: WORDS_FROM,
    });
    this.direct = new DirectMode(this);
    this.cluster = new Cluster(config, {
      ...(makeReplica && { makeReplica }),
      ...(trace && { trace }),
      onEntry: (bytes) => {
        trace?.(`the server orders ${showFrame(bytes)}`);
        this.order.announce(bytes);
      },
      onPropose: (node, bytes) => this.direct.proposed(node, bytes),
      lend: (channel) =>
        this.processes.find(({ threads }) => threads.some((thread) => thread.channel === channel)) ?? null,
    });
  }

  // --- Nodes -----------------------------------------------------------------------------------------------------

  addNode(): void {
    // One that has gone may come again.
    const gone = this.cluster.nodes.filter(({ name, done, lost }) => done && lost && !this.#isUp(name));
    const again = this.plan.elastic && this.random.oneIn(2) ? gone.at(0) : undefined;
    const node = this.cluster.node(again?.name ?? `node${this.#nextNode}`);
    if (again === undefined) this.#nextNode += 1;
    this.trace?.(`${node.name} comes`);
    node.onWake = (at) => wakeSleepers(this, node, at);
    node.onEvent = (event) => {
      this.trace?.(`${node.name} is ${event}`);
      if (event === "welcomed") this.#welcomed(node);
      if (event === "done" && this.plan.elastic) node.leave();
      if (event === "lost" && !node.done) this.#lost(node);
    };
  }

  #isUp(name: string): boolean {
    return this.cluster.nodes.some((node) => node.name === name && !node.lost);
  }

  #welcomed(node: Node): void {
    this.positions.set(node, new Position(node, this.order));
    if (node.replica?.ready === false) this.report.pictures += 1;
  }

  #lost(node: Node): void {
    if (node.fault !== null) throw new Violation(`${node.name}: ${node.fault}`);
    this.direct.lost(node);
    const here = this.processes.filter((process) => process.node === node);
    // The server has turned it away: its processes, of which none is in the session, are told why.
    if (node.refusal === null) for (const process of here) this.die(process);
    else if (here.some(({ state }) => state === "running" || state === "going"))
      throw new Violation(`${node.name} has processes in the session and is turned away: ${node.refusal}`);
  }

  /** Nodes where a process can run. */
  nodesUp(): Node[] {
    return this.cluster.nodes.filter((node) => node.replica?.ready === true && !node.lost && !node.done);
  }

  position(node: Node): Position {
    return this.positions.get(node) as Position;
  }

  // --- Processes -------------------------------------------------------------------------------------------------

  /** What it had sent may arrive in part, down to a piece of a frame. */
  die(process: Process): void {
    this.trace?.(`process ${process.pid}, rank ${process.rank}, which was ${process.state}, dies`);
    if (process.state === "running" || process.state === "joining" || process.state === "going") this.report.lost += 1;
    process.state = "dead";
    closeMap(process);
    for (const thread of process.threads) {
      thread.request?.abandoned?.();
      thread.cell?.end();
      thread.cell = null;
      thread.open = false;
      thread.channel.up.end(this.random.oneIn(2) ? this.random.below(100) : 0);
    }
  }

  /** What the processes of a node must see there now, if it has applied that many frames. */
  expectedMemory({ process }: Thread, index: number): Uint8Array {
    return process.node === this.direct.decider ? this.direct.memory : (this.order.versions[index] as Uint8Array);
  }

  /** Mostly few words that all threads fight for, some of them across the edge of a page, and seldom anywhere. */
  offset(length: number): number {
    const { random } = this;
    const offset = random.pick([random.below(24), PAGE - 8 + random.below(16), random.below(SIZE)]);
    return Math.min(offset, WORDS_FROM - length);
  }
}
