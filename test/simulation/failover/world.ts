/** The world of a session whose connections break and whose servers die: servers, nodes, processes and the pipes between. */
import type { SessionConfig } from "../../../src/core/messages/session-state.ts";
import type { Replica } from "../../../src/core/replica/replica.ts";
import type { Frame } from "../../../src/core/wire/frame.ts";
import { Pipe } from "../../support/core-cluster.ts";
import type { Random } from "../../support/core-random.ts";
import type { Trace } from "../../support/core-trace.ts";
import { AppliedLog } from "./applied-log.ts";
import type { Node } from "./node.ts";
import { Holders } from "./objects.ts";
import type { Server } from "./server.ts";

export const SIZE = 8192;
/** Where additions go; all else is stored elsewhere. */
export const COUNTER = 0;

export interface FailoverReport {
  entries: number;
  answers: number;
  /** Connections that came back, and servers that took over. */
  resumed: number;
  epochs: number;
  direct: number;
  /** Nodes that died or were given up. */
  lost: number;
  /** Servers that met a node that had promised to follow another. */
  replaced: number;
  /** Nodes that came with a picture of the memory. */
  pictures: number;
  /** Sessions that changed over from direct mode, and copies of the memory that were begun for that. */
  changed: number;
  copies: number;
  /** Takings of the gate by its cell, and nodes that were cut off for good. */
  cells: number;
  severed: number;
  /** How often a process got the mutex or the reader-writer lock in the map. */
  objects: number;
}

export interface FailoverOptions {
  makeReplica?: (...args: ConstructorParameters<typeof Replica>) => Replica;
  /** Is told of every step. */
  trace?: Trace;
}

/** A connection of a node to a server. */
export interface Link {
  id: number;
  server: Server;
  node: Node;
  up: Pipe;
  down: Pipe;
  /** Nothing arrives any more, and neither end is told. */
  silent: boolean;
  welcomed: boolean;
}

/** What an actor says of its request. */
export interface Wanted {
  /** As messages call it. */
  what: string;
  /** It ends with LOST when the session fails because a node was lost. */
  endsByLoss?: boolean;
  /** The number by which a write is known in the order. */
  id?: number;
  /** It may be taken back. */
  cancelable?: boolean;
  /** Statuses with which it succeeds, beside OK. */
  mayBe?: readonly number[];
  /** It has succeeded. */
  answered?(view: DataView): void;
}

export interface Request extends Wanted {
  tag: number;
  /** Parts of a publication that are still to be sent. */
  parts: Frame[];
}

export interface Process {
  node: Node;
  channel: number;
  state: "joining" | "running" | "left" | "lost";
  rank: number;
  /** It writes to the memory by itself; it has yet to say that it waits to be told to stop; it was told. */
  writes: boolean;
  unheard: boolean;
  told: boolean;
  request: Request | null;
  /** Its arbiter takes it for the owner of the gate. */
  isTakenForOwner: boolean;
  nextTag: number;
  /** Ids of what it was told to be done, in its order. */
  done: number[];
}

/** What a seed makes happen. */
export interface Plan {
  elastic: boolean;
  nodes: number;
  /** Processes on each node. */
  perNode: number;
  breaks: boolean;
  deaths: boolean;
  stops: boolean;
  losses: boolean;
  /** Processes take a lock by its cell; nodes are cut off for good; those that are left go on after a loss. */
  gated: boolean;
  /** Processes use objects in the map. */
  objects: boolean;
}

/** Draws what a seed makes happen, and how many nodes come while the session runs. */
export function makePlan(random: Random): { plan: Plan; late: number } {
  const elastic = random.oneIn(4);
  const late = elastic ? random.between(1, 3) : 0;
  const plan = {
    elastic,
    nodes: random.between(1, elastic ? 2 : 3),
    perNode: random.between(1, 2),
    breaks: !random.oneIn(4),
    deaths: !random.oneIn(3),
    stops: random.oneIn(3),
    losses: random.oneIn(4),
    gated: random.oneIn(3),
    objects: random.oneIn(4),
  };
  return { plan, late };
}

export class World {
  readonly random: Random;
  readonly options: FailoverOptions;
  readonly plan: Plan;
  config: SessionConfig;
  readonly report: FailoverReport = {
    ...{ entries: 0, answers: 0, resumed: 0, epochs: 1, direct: 0, lost: 0, replaced: 0, pictures: 0 },
    ...{ changed: 0, copies: 0, cells: 0, severed: 0, objects: 0 },
  };
  readonly nodes: Node[] = [];
  readonly servers: Server[] = [];
  readonly processes: Process[] = [];
  pipes: Pipe[] = [];
  readonly log: AppliedLog;
  /** Who holds the mutex. */
  holder: Process | null = null;
  /** Who has the gate, also one that was lost with it. */
  gateOwner: Process | null = null;
  /** Who has which object in the map. */
  readonly holders = new Holders();
  /** The clock of all nodes and servers. */
  now_ms = 1000;
  /** The number of the next write. */
  nextId = 1;
  faultsGoOn = true;

  constructor(random: Random, plan: Plan, options: FailoverOptions) {
    this.random = random;
    this.options = options;
    this.plan = plan;
    this.config = {
      ...{ name: "simulated", instance: "0123456789abcdef", processes: plan.nodes * plan.perNode, size: SIZE },
      ...{
        base: 0x2000_0000_0000,
        order: "sequential",
        onLoss: plan.gated ? "continue" : "fail",
        elastic: plan.elastic,
      },
    };
    this.log = new AppliedLog(this);
  }

  say(line: string): void {
    this.options.trace?.(line);
  }

  /** The newest server. */
  get server(): Server {
    return this.servers.at(-1) as Server;
  }

  get alive(): Node[] {
    return this.nodes.filter(({ state }) => state === "alive");
  }

  get links(): Link[] {
    return this.servers.flatMap(({ links }) => [...links.values()]);
  }

  pipe(name: string, receive: (chunk: Uint8Array) => void, closed: () => void): Pipe {
    const pipe = new Pipe(name, receive, closed, this.options.trace);
    this.pipes.push(pipe);
    return pipe;
  }

  /** Whether bytes move there now. */
  flows(pipe: Pipe): boolean {
    for (const { links, state } of this.servers) {
      for (const { up, down, silent } of links.values()) {
        if (silent && (pipe === up || pipe === down)) return false;
        if (pipe === up && state !== "up") return false;
      }
    }
    return pipe.busy;
  }

  passTime(): void {
    this.now_ms += this.random.below(20);
  }

  /** Moves some bytes on some connection. False when nothing is under way. */
  deliver(): boolean {
    const flowing = this.pipes.filter((pipe) => this.flows(pipe));
    if (flowing.length === 0) return false;
    const limit = this.random.pick([1, 40, 48, 100, 1000, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
    this.random.pick(flowing).deliver(limit);
    this.pipes = this.pipes.filter(({ open }) => open);
    return true;
  }

  /** The node is lost with its processes. */
  lose(node: Node, how: "dead" | "refused"): void {
    this.say(`${node.name} is ${how}`);
    node.state = how;
    this.log.lose(node);
    this.report.lost += 1;
    for (const process of node.processes) if (process.state !== "left") process.state = "lost";
    if (this.holder?.node === node) this.holder = null;
    const { link } = node;
    node.link = null;
    link?.up.end(this.random.below(100));
  }

  /**
   * A node that is new does not wait for a server so long that another takes over, and does not turn to it when it has
   * just been told of another.
   */
  leaveOldServers(newest: Server): void {
    for (const node of this.alive) {
      const { link } = node;
      if (node.replica !== null || link === null || link.server === newest) continue;
      link.up.end();
      node.cut();
    }
  }
}
