/**
 * A session whose connections break, stay silent and come back at any point, and whose servers die, stop and wake up
 * again at any step, while processes store, add, publish, lock and meet in barriers. Everything follows from one seed.
 * A broken promise is thrown as a Violation:
 *
 * - one order: all nodes that live have applied the same entry at each place, byte for byte;
 * - what a process was told to be done is in the order, once, behind all it did before; nothing is in it twice;
 * - at the end all nodes are equal to a reference that has applied the order once;
 * - a mutex has one holder, an atomic addition gives the value of its place;
 * - once faults stop everybody is answered.
 *
 * In some sessions, elastic ones, nodes come while it runs, with a picture of the memory. If such a session is in direct
 * mode its processes write to the memory by themselves, and then it changes over: at the end all nodes have what they wrote.
 */
import { Status } from "../../src/core/errors.ts";
import { FrameReader } from "../../src/core/frames.ts";
import { FRAME_MAX, WELCOME_MAX } from "../../src/core/limits.ts";
import { MapBytes } from "../../src/core/memory.ts";
import {
  AtomicOp,
  bodyText,
  ChangeOp,
  encode,
  encodeGreeting,
  encodeJson,
  encodeText,
  type Frame,
  HEADER_SIZE,
  JOINED,
  Kind,
} from "../../src/core/protocol.ts";
import { type Recovered, Recovery } from "../../src/core/recovery.ts";
import type { Replica } from "../../src/core/replica.ts";
import { type AwayNode, type NodeHello, type Resumed, Sequencer, type Welcome } from "../../src/core/sequencer.ts";
import { Session, type SessionConfig } from "../../src/core/session.ts";
import { Pipe, processHello, SmallSteps, Violation } from "../support/core-cluster.ts";
import { publication, type Run, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";
import { showFrame, type Trace } from "../support/core-trace.ts";

const SIZE = 8192;
/** Where additions go; all else is stored elsewhere. */
const COUNTER = 0;

export interface FailoverReport {
  entries: number;
  answers: number;
  /** Connections that came back, and servers that took over. */
  resumed: number;
  epochs: number;
  direct: number;
  /** Nodes that died or were given up. */
  lost: number;
  /** Servers that met somebody who had promised to follow another. */
  replaced: number;
  /** Nodes that came with a picture of the memory. */
  pictures: number;
  /** Sessions that changed over from direct mode, and copies of the memory that were begun for that. */
  changed: number;
  copies: number;
}

export interface FailoverOptions {
  makeReplica?: (...args: ConstructorParameters<typeof Replica>) => Replica;
  makeSequencer?: (...args: ConstructorParameters<typeof Sequencer>) => Sequencer;
  /** Is told of every step. */
  trace?: Trace;
}

interface Link {
  id: number;
  server: Server;
  node: Node;
  up: Pipe;
  down: Pipe;
  /** Nothing arrives any more, and nobody is told. */
  silent: boolean;
  welcomed: boolean;
}

interface Request {
  what: "join" | "add" | "store" | "publish" | "lock" | "unlock" | "barrier" | "leave";
  id: number;
  tag: number;
  parts: Frame[];
}

interface Process {
  node: Node;
  channel: number;
  state: "joining" | "running" | "left" | "lost";
  rank: number;
  /** It writes to the memory by itself; it has yet to say that it waits to be told to stop; it was told. */
  writes: boolean;
  unheard: boolean;
  told: boolean;
  request: Request | null;
  nextTag: number;
  /** Ids of what it was told to be done, in its order. */
  done: number[];
}

interface Applied {
  frames: Uint8Array[];
  complete: boolean;
}

export function simulateFailover(seed: number, options: FailoverOptions = {}): FailoverReport {
  return new Simulator(seed, options).run();
}

class Server {
  readonly simulator: Simulator;
  readonly epoch: number;
  readonly memory = new Uint8Array(SIZE);
  state: "up" | "stopped" | "dead" = "up";
  core: Sequencer | Recovery;
  readonly links = new Map<number, Link>();
  /** Names of the nodes that are away, by number. */
  readonly away = new Map<number, string>();
  failed = false;
  /** It has been alone for longer than any node looks for a server. */
  abandoned = false;
  /** Link of the node that is to hand over its state. */
  source = -1;
  #nextLink = 1;

  constructor(simulator: Simulator, epoch: number, certain: boolean) {
    this.simulator = simulator;
    this.epoch = epoch;
    const { config } = simulator;
    if (epoch === 1) {
      this.core = this.#sequencer(null);
      return;
    }
    this.core = new Recovery({ config, epoch, certain }, this.memory, {
      send: (id, bytes) => {
        if (bytes[4] === Kind.STATE) this.source = id;
        this.#send(id, bytes);
      },
      close: (id) => this.#close(id),
      drop: (id) => this.#close(id),
      waits: () => {},
      stop: () => {},
      failed: (why) => {
        simulator.say(`server ${epoch} cannot take over: ${why}`);
        if (!simulator.mayFail(certain)) throw new Violation(`a server could not take over: ${why}`);
        this.failed = true;
        this.state = "dead";
        for (const { down } of this.links.values()) down.end();
      },
      recovered: (recovered, greetings) => {
        simulator.say(`server ${epoch} goes on behind entry ${recovered.snapshot.seq}`);
        simulator.truncate(this, recovered);
        simulator.leaveOldServers(this);
        const sequencer = this.#sequencer(recovered);
        this.core = sequencer;
        for (const id of greetings.keys()) sequencer.connect(id);
        for (const [id, greeting] of greetings) sequencer.receive(id, greeting);
      },
    });
  }

  #sequencer(recovered: Recovered | null): Sequencer {
    const out = {
      send: (id: number, bytes: Uint8Array) => this.#send(id, bytes),
      broadcast: (bytes: Uint8Array, _sent?: () => void, except?: number) => {
        if (this.recovering) return;
        for (const link of this.links.values()) {
          if (link.id !== except && this.core.isWelcomed(link.id)) link.down.push(bytes);
        }
      },
      close: (id: number) => this.#close(id),
      drop: (id: number) => this.#close(id),
      welcomed: () => {},
      away: (node: number, { process }: AwayNode) => this.away.set(node, process),
      settled: (node: number) => this.away.delete(node),
      replaced: () => {
        this.simulator.report.replaced += 1;
      },
      ended: () => {},
      stop: () => {},
    };
    const make = this.simulator.options.makeSequencer ?? ((...args) => new Sequencer(...args));
    return make(this.simulator.config, this.memory, out, null, recovered);
  }

  get recovering(): boolean {
    return !(this.core instanceof Sequencer);
  }

  #send(id: number, bytes: Uint8Array): void {
    this.links.get(id)?.down.push(bytes);
  }

  #close(id: number): void {
    this.links.get(id)?.down.end();
    this.links.delete(id);
  }

  accept(node: Node): Link {
    const id = this.#nextLink;
    this.#nextLink += 1;
    const link: Link = {
      ...{ id, server: this, node, silent: false, welcomed: false },
      up: this.simulator.pipe(
        `${node.name} to ${this.epoch}`,
        (chunk) => this.core.receive(id, chunk),
        () => this.closed(id),
      ),
      down: this.simulator.pipe(
        `${this.epoch} to ${node.name}`,
        (chunk) => node.receives(link, chunk),
        () => node.closed(link),
      ),
    };
    this.links.set(id, link);
    this.core.connect(id);
    return link;
  }

  closed(id: number): void {
    if (!this.links.has(id)) return;
    this.links.get(id)?.down.end();
    this.links.delete(id);
    this.core.disconnect(id);
  }
}

class Node {
  readonly simulator: Simulator;
  readonly name: string;
  readonly memory = new Uint8Array(SIZE);
  readonly secret: string;
  replica: Replica | null = null;
  link: Link | null = null;
  /** It has applied nothing yet. */
  fresh = true;
  /** "gone": its server was lost while it sent the map, before any process had joined. */
  state: "alive" | "dead" | "refused" | "done" | "gone" = "alive";
  readonly processes: Process[] = [];
  #reader = new FrameReader(WELCOME_MAX);
  /** The state it hands over, as far as it was not sent. */
  #handing: Generator<Uint8Array> | null = null;

  constructor(simulator: Simulator, name: string) {
    this.simulator = simulator;
    this.name = name;
    this.secret = `secret of ${name}`;
  }

  get number(): number {
    return this.replica?.position.node ?? -1;
  }

  connect(server: Server): void {
    const hello: NodeHello = {
      ...{ session: "simulated", node: this.name, processes: 0, size: 0, order: "" as const, onLoss: "" as const },
      ...{ secret: this.secret, reconnectMs: 1000, heartbeatMs: 0, process: this.name },
      resume: this.replica?.position ?? null,
    };
    this.#reader = new FrameReader(WELCOME_MAX);
    this.#handing = null;
    this.simulator.say(`${this.name} turns to server ${server.epoch}`);
    this.link = server.accept(this);
    this.link.up.push(encodeGreeting(Kind.HELLO, encodeJson(hello)));
  }

  receives(link: Link, chunk: Uint8Array): void {
    if (link !== this.link || this.state !== "alive") return;
    this.#reader.push(chunk, (view, at, size, bytes) => {
      if (link !== this.link || this.state !== "alive") return;
      this.#frame(link, view, at, size, bytes);
    });
  }

  #frame(link: Link, view: DataView, at: number, size: number, bytes: Uint8Array): void {
    const kind = view.getUint8(at + 4);
    const text = bodyText(bytes, at + HEADER_SIZE, view.getUint32(at + 32, true));
    if (kind === Kind.FAIL) {
      this.#refused(view.getUint8(at + 5) as Status, text);
    } else if (link.welcomed) {
      this.replica?.entries(bytes.subarray(at, at + size));
    } else if (kind === Kind.STATE) {
      this.#handing = (this.replica as Replica).state();
    } else if (kind === Kind.WELCOME) {
      link.welcomed = true;
      this.#reader.limit = FRAME_MAX;
      if (this.replica === null) {
        this.#welcomed(JSON.parse(text) as Welcome);
      } else {
        this.simulator.report.resumed += 1;
        this.replica.resumed(JSON.parse(text) as Resumed);
      }
    } else if (kind !== Kind.PING) {
      throw new Violation(`${this.name} got a frame of kind ${kind} in place of its welcome`);
    }
  }

  #refused(status: Status, text: string): void {
    const { link } = this;
    if (status === Status.AGAIN) {
      link?.up.end();
      this.cut();
      return;
    }
    if (this.state === "done") return;
    if (!this.simulator.mayRefuse(this, link as Link)) throw new Violation(`${this.name} is refused: ${text}`);
    this.simulator.lose(this, "refused");
  }

  #welcomed(welcome: Welcome): void {
    const { makeReplica } = this.simulator.options;
    const make = makeReplica ?? ((...args) => new SmallSteps(...args));
    this.simulator.say(`${this.name} is welcomed behind entry ${welcome.snapshot.seq}`);
    this.replica = make(welcome, this.name, "/map", this.memory, new Uint8Array(2), {
      propose: (bytes) => {
        if (this.link?.welcomed === true) this.link.up.push(bytes);
      },
      reply: (channel, bytes) => this.simulator.heard(this, channel, new Uint8Array(bytes)),
      close: () => {},
      token: () => new Uint8Array(8),
      ...{ lend: () => null, unmap: () => {} },
      done: () => {
        if (this.state === "alive") this.#done();
      },
    });
    if (!this.replica.ready) this.simulator.report.pictures += 1;
    const { session } = this.replica;
    const apply = session.apply.bind(session);
    session.apply = (view, at) => {
      this.simulator.applies(this, session.seq + 1, view, at);
      apply(view, at);
    };
  }

  /** Its last process has left: it tells the server and ends. */
  #done(): void {
    this.state = "done";
    this.link?.up.push(encode({ kind: Kind.PING, op: 1 }));
    this.link?.up.end();
    this.link = null;
  }

  /** Hands over one piece of what a server that takes over wants. */
  hand(): boolean {
    const piece = this.#handing?.next();
    if (piece === undefined || piece.done) return false;
    this.link?.up.push(piece.value);
    return true;
  }

  closed(link: Link): void {
    link.up.end();
    if (link === this.link) this.cut();
  }

  /** It is without connection from here on. */
  cut(): void {
    this.simulator.say(`${this.name} is without connection`);
    this.link = null;
    this.#handing = null;
    this.replica?.interrupted();
    // src/arbiter/arbiter.ts gives up, too: nobody has joined there.
    if (this.replica?.ready === false) this.state = "gone";
  }

  say(channel: number, frame: Uint8Array): void {
    this.simulator.say(`a process of ${this.name} asks on channel ${channel}: ${showFrame(frame)}`);
    this.replica?.receive(channel, frame);
  }
}

class Simulator {
  readonly options: FailoverOptions;
  config: SessionConfig;
  readonly report: FailoverReport = {
    ...{ entries: 0, answers: 0, resumed: 0, epochs: 1, direct: 0, lost: 0, replaced: 0, pictures: 0 },
    ...{ changed: 0, copies: 0 },
  };
  readonly #random: Random;
  readonly #nodes: Node[] = [];
  readonly #servers: Server[] = [];
  readonly #processes: Process[] = [];
  #pipes: Pipe[] = [];
  /** What was applied at each place, by whichever node was first. */
  readonly #order: Applied[] = [];
  /** Frames of the entry each node is applying. */
  readonly #frames = new Map<Node, number>();
  readonly #olds = new Map<number, bigint>();
  #holder: Process | null = null;
  #nextId = 1;
  #faults = true;
  readonly #perNode: number;
  // What this seed makes happen.
  readonly #breaks: boolean;
  readonly #deaths: boolean;
  readonly #stops: boolean;
  readonly #losses: boolean;
  /** So many nodes are still to come. */
  #late: number;

  constructor(seed: number, options: FailoverOptions) {
    const random = new Random(seed);
    this.#random = random;
    this.options = options;
    const elastic = random.oneIn(4);
    this.#late = elastic ? random.between(1, 3) : 0;
    const nodes = random.between(1, elastic ? 2 : 3);
    this.#perNode = random.between(1, 2);
    this.#breaks = !random.oneIn(4);
    this.#deaths = !random.oneIn(3);
    this.#stops = random.oneIn(3);
    this.#losses = random.oneIn(4);
    this.config = {
      ...{ name: "simulated", instance: "0123456789abcdef", processes: nodes * this.#perNode, size: SIZE },
      ...{ base: 0x2000_0000_0000, order: "sequential", onLoss: "fail", elastic },
    };
    for (let node = 1; node <= nodes; node += 1) this.#nodes.push(new Node(this, `node${node}`));
  }

  run(): FailoverReport {
    this.#servers.push(new Server(this, 1, true));
    const steps = this.#random.oneIn(12) ? this.#random.between(500, 1200) : this.#random.between(100, 500);
    for (let step = 0; step < steps; step += 1) {
      this.say(`-- step ${step}`);
      if (!this.#random.oneIn(3) && this.#deliver()) continue;
      this.#act();
    }
    this.#finish();
    this.report.entries = this.#order.length;
    this.report.epochs = this.#server.epoch;
    return this.report;
  }

  say(line: string): void {
    this.options.trace?.(line);
  }

  get #server(): Server {
    return this.#servers.at(-1) as Server;
  }

  pipe(name: string, receive: (chunk: Uint8Array) => void, closed: () => void): Pipe {
    const pipe = new Pipe(name, receive, closed, this.options.trace);
    this.#pipes.push(pipe);
    return pipe;
  }

  #links(): Link[] {
    return this.#servers.flatMap(({ links }) => [...links.values()]);
  }

  /** Whether bytes move there now. */
  #flows(pipe: Pipe): boolean {
    for (const server of this.#servers) {
      for (const { up, down, silent } of server.links.values()) {
        if (silent && (pipe === up || pipe === down)) return false;
        if (pipe === up && server.state !== "up") return false;
      }
    }
    return pipe.busy;
  }

  #deliver(): boolean {
    const flowing = this.#pipes.filter((pipe) => this.#flows(pipe));
    if (flowing.length === 0) return false;
    const limit = this.#random.pick([1, 40, 48, 100, 1000, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
    this.#random.pick(flowing).deliver(limit);
    this.#pipes = this.#pipes.filter(({ open }) => open);
    return true;
  }

  // --- Faults ----------------------------------------------------------------------------------------------------

  #act(): void {
    const random = this.#random;
    if (this.#faults && random.oneIn(12)) this.#fault();
    this.#mend();
    if (this.#late > 0 && random.oneIn(40)) {
      this.#late -= 1;
      this.#nodes.push(new Node(this, `node${this.#nodes.length + 1}`));
    }
    const node = random.pick(this.#nodes);
    if (node.state !== "alive") return;
    if (node.link === null) {
      if (random.oneIn(3)) this.#connect(node);
      return;
    }
    if (node.hand()) return;
    if (node.replica?.ready !== true) return;
    if (node.processes.length < this.#perNode) {
      this.#join(node);
      return;
    }
    if (node.link.welcomed && random.oneIn(4)) {
      node.link.up.push(encode({ kind: Kind.PING, offset: node.replica.position.seq }));
    }
    const process = random.pick(node.processes);
    if (process.state !== "running") return;
    if (random.oneIn(2) && this.#changesOver(process)) return;
    if (process.writes && random.oneIn(2)) {
      node.memory.set(random.bytes(8), 8 * random.between(1, SIZE / 8 - 1));
      return;
    }
    this.#next(process);
  }

  #fault(): void {
    const random = this.#random;
    const links = this.#links().filter(({ server }) => server.state === "up");
    const choice = random.below(10);
    if (choice < 5 && this.#breaks && links.length > 0) {
      const link = random.pick(links);
      if (random.oneIn(3)) {
        this.say(`the connection of ${link.node.name} to ${link.server.epoch} falls silent`);
        link.silent = true;
      } else {
        this.say(`the connection of ${link.node.name} to ${link.server.epoch} breaks`);
        link.up.end(random.below(200));
        link.down.end(random.below(200));
      }
    } else if (choice < 7 && this.#deaths && this.#server.epoch < 8) {
      this.#killServer(this.#server);
    } else if (choice < 8 && this.#stops && this.#server.state === "up") {
      this.say(`server ${this.#server.epoch} stops`);
      this.#server.state = "stopped";
    } else if (choice < 9 && this.#losses && random.oneIn(4)) {
      const alive = this.#nodes.filter(({ state }) => state === "alive");
      if (alive.length > 1) this.lose(random.pick(alive), "dead");
    }
  }

  #killServer(server: Server): void {
    this.say(`server ${server.epoch} dies`);
    server.state = "dead";
    for (const { up, down } of server.links.values()) {
      up.end(up.size);
      down.end(this.#random.below(200));
    }
  }

  /** What time brings: silent connections are given up, stopped servers wake, the dead are not waited for. */
  #mend(): void {
    const random = this.#random;
    for (const server of this.#servers) {
      // A server that was replaced learns of it from the daemon.
      if (server !== this.#server && server.state === "up" && random.oneIn(this.#faults ? 60 : 4)) {
        this.#killServer(server);
      }
      if (server.state === "stopped" && random.oneIn(this.#faults ? 40 : 4)) server.state = "up";
      for (const link of [...server.links.values()]) {
        const quiet = link.silent || server.state === "stopped";
        if (!quiet || !random.oneIn(8)) continue;
        if (link.node.link === link) link.node.cut();
        link.up.end(random.below(100));
        if (link.silent && server.state === "up") {
          link.silent = false;
          server.closed(link.id);
        }
      }
      if (server.state !== "up") continue;
      if (server.core instanceof Recovery) {
        if (random.oneIn(6)) server.core.beat();
        // The times it waits are long: who lives has come back by then.
        const { core } = server;
        const here = this.#alive().every(
          ({ replica, link }) => replica === null || (link?.server === server && core.isWelcomed(link.id)),
        );
        if (here && random.oneIn(10)) core.settle();
        const source = server.links.get(server.source);
        const handing = source !== undefined && !source.silent && source.node.state === "alive";
        if (here && !handing && random.oneIn(20)) core.expire();
        continue;
      }
      for (const id of [...server.links.keys()]) if (random.oneIn(10)) server.core.beat(id);
      for (const [number, name] of [...server.away]) {
        const node = this.#nodes.find((one) => one.name === name);
        // One that broke off before it was welcomed does not come back as who it was to be.
        const other = node?.replica === null ? node.link?.server !== server : node?.number !== number;
        const gone = node?.state !== "alive" || other;
        // One that was replaced may give up whom it likes when nobody listens to it any more.
        const alone = server !== this.#server && server.links.size === 0;
        if (!(gone ? random.oneIn(10) : alone && random.oneIn(10))) continue;
        if (!gone) server.abandoned = true;
        server.core.giveUp(number);
      }
    }
  }

  /** An arbiter looks for the session's server; what the daemon answers, and what it does if there is none. */
  #connect(node: Node): void {
    const random = this.#random;
    let server = this.#server;
    const old = this.#servers.filter(({ state, abandoned }) => state === "up" && !abandoned);
    // Whoever asks the wrong one is sent away. Who is new has just heard from the daemon which is the right one.
    if (this.#faults && node.replica !== null && random.oneIn(20) && old.length > 0) server = random.pick(old);
    if (server.state !== "up" && server === this.#server) {
      // Nobody can hand over what nobody has: then the session begins anew.
      const anew = this.#alive().every(({ replica }) => replica === null);
      if (node.replica === null && !anew) return;
      if (anew) this.#beginAnew();
      server = anew ? new Server(this, 1, true) : new Server(this, server.epoch + 1, server.state === "dead");
      this.#servers.push(server);
    }
    const position = node.replica?.position;
    // It turns to the newest only; what the server says to one that does not is a matter of its own.
    if (position !== undefined && server === this.#server && !node.replica?.promise(server.epoch)) {
      throw new Violation(`${node.name} has promised to follow a server that is not there`);
    }
    node.connect(server);
  }

  #beginAnew(): void {
    for (const server of this.#servers) this.#killServer(server);
    for (const node of this.#nodes) if (node.replica !== null) node.state = "dead";
    this.#order.length = 0;
    this.config = { ...this.config, instance: `${this.config.instance}0` };
  }

  lose(node: Node, how: "dead" | "refused"): void {
    this.say(`${node.name} is ${how}`);
    node.state = how;
    this.report.lost += 1;
    for (const process of node.processes) if (process.state !== "left") process.state = "lost";
    if (this.#holder?.node === node) this.#holder = null;
    const { link } = node;
    node.link = null;
    link?.up.end(this.#random.below(100));
  }

  /** Without losses and stops no node is ever refused; a server that was replaced refuses whom it likes. */
  mayRefuse(node: Node, link: Link): boolean {
    // One that had not come all the way has nothing that would be lost.
    if (node.replica === null || !node.replica.position.whole) return true;
    // Its welcome to a session that began and ended while it was under way.
    if (node.replica.session.config.instance !== this.config.instance) return true;
    // An old server that nobody should ask says no more than that it has not waited for ever.
    return (
      link.server.failed ||
      link.server !== this.#server ||
      this.#nodes.some(({ state }) => state === "dead" || state === "refused")
    );
  }

  mayFail(certain: boolean): boolean {
    // Whoever is only coming has nothing to go on with.
    if (this.#alive().every(({ replica }) => replica?.position.whole !== true)) return true;
    // Nobody knows who else the server before may serve.
    if (!certain && this.#alive().some(({ replica }) => replica?.position.joining === true)) return true;
    const lost = this.#nodes.filter(({ state }) => state === "dead" || state === "refused");
    return lost.length > 0 && (!certain || lost.length === this.#nodes.length);
  }

  // --- The order -------------------------------------------------------------------------------------------------

  /** A node is about to apply a frame at a place. */
  applies(node: Node, seq: number, view: DataView, at: number): void {
    const frame = new Uint8Array(view.buffer, view.byteOffset + at, view.getUint32(at, true)).slice();
    this.options.trace?.(`${node.name} applies ${seq}: ${showFrame(frame)}`);
    // An arbiter's own number, or the place.
    frame.fill(0, 16, 24);
    const more = frame[4] === Kind.PUBLISH && frame[5] === 1;
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

  /** What is done for one who does not write by itself any more is done beside nobody who does. */
  #checkAlone(node: Node, frame: Uint8Array): void {
    const view = viewOf(frame);
    const kind = view.getUint8(4);
    if (kind === Kind.COPY && view.getUint8(5) === 0) this.report.copies += 1;
    if (kind === Kind.COPY && view.getUint8(5) === 2 && node.processes.length > 0) this.report.changed = 1;
    const writers = node.processes.filter(({ writes, state }) => writes && state === "running");
    if (writers.length === 0 || view.getUint32(12, true) !== node.number) return;
    const changes = kind === Kind.STORE || kind === Kind.ATOMIC || kind === Kind.PUBLISH;
    const rank = view.getUint16(6, true);
    if (kind === Kind.COPY || (changes && writers.every((writer) => writer.rank !== rank))) {
      throw new Violation(`${node.name} does ${showFrame(frame)} while others write`);
    }
  }

  /** Who is new does not wait for a server so long that another takes over, or turns to it when it has just been told. */
  leaveOldServers(newest: Server): void {
    for (const node of this.#alive()) {
      const { link } = node;
      if (node.replica !== null || link === null || link.server === newest) continue;
      link.up.end();
      node.cut();
    }
  }

  /** A server takes over: what is beyond was applied by nodes only that are gone. */
  truncate(server: Server, { snapshot }: Recovered): void {
    if (server !== this.#server) return;
    for (const node of this.#nodes) {
      const applied = node.replica?.session.seq ?? 0;
      if (node.state !== "alive" || applied <= snapshot.seq) continue;
      if (node.replica?.session.direct === true || node.replica?.position.whole !== true) continue;
      throw new Violation(`${node.name} has entry ${applied}, but the new server only ${snapshot.seq}`);
    }
    const direct = this.#nodes.some(({ state, replica }) => state === "alive" && replica?.session.direct === true);
    if (!direct) this.#order.length = Math.min(this.#order.length, snapshot.seq);
  }

  // --- Processes -------------------------------------------------------------------------------------------------

  #join(node: Node): void {
    const channel = (node.replica as Replica).connect();
    const request: Request = { what: "join", id: 0, tag: 0, parts: [] };
    const process: Process = {
      ...{ node, channel, state: "joining", rank: -1, request, nextTag: 1, done: [] },
      ...{ writes: false, unheard: false, told: false },
    };
    node.processes.push(process);
    this.#processes.push(process);
    node.say(channel, processHello("simulated", this.#processes.length));
  }

  /** What libdsm does by itself in an elastic session in direct mode. False: nothing. */
  #changesOver(process: Process): boolean {
    if (process.state !== "running" || (!process.unheard && !process.told)) return false;
    const op = process.unheard ? ChangeOp.WATCH : ChangeOp.CLOSED;
    if (process.unheard) {
      process.unheard = false;
    } else {
      process.told = false;
      process.writes = false;
    }
    process.node.say(process.channel, encode({ kind: Kind.CHANGE, op }));
    return true;
  }

  #ask(process: Process, what: Request["what"], frames: Frame[]): void {
    const tag = process.nextTag;
    process.nextTag += 1;
    const [first, ...parts] = frames.map((frame) => ({ ...frame, tag }));
    process.request = { what, id: this.#nextId - 1, tag, parts };
    process.node.say(process.channel, encode(first as Frame));
  }

  #id(length = 8): Uint8Array {
    const body = new Uint8Array(length);
    viewOf(body).setUint32(length - 8, this.#nextId, true);
    this.#nextId += 1;
    return body;
  }

  #next(process: Process): void {
    const random = this.#random;
    const { request } = process;
    if (request !== null) {
      const part = request.parts.shift();
      if (part !== undefined) process.node.say(process.channel, encode(part));
      return;
    }
    const choice = random.below(20);
    const offset = 8 * random.between(1, SIZE / 8 - 1);
    const mutex = { body: encodeText("mutex"), aux: 1 };
    if (choice < 6) {
      const body = this.#id(32);
      body[0] = 1;
      this.#ask(process, "add", [{ kind: Kind.ATOMIC, op: AtomicOp.ADD, offset: COUNTER, length: 8, body }]);
    } else if (choice < 11) {
      this.#ask(process, "store", [{ kind: Kind.STORE, offset, body: this.#id() }]);
    } else if (choice < 14) {
      const last = this.#id();
      const parts: Frame[] = [];
      const direct = process.node.replica?.session.direct === true;
      for (let more = direct ? 0 : random.below(3); more > 0; more -= 1) {
        const run: Run = [8 * random.between(1, SIZE / 8 - 1), random.bytes(8)];
        parts.push(publication([run], { op: 1 }));
      }
      this.#ask(process, "publish", [...parts, publication([[offset, last]])]);
    } else if (choice < 17 && this.#holder !== process) {
      this.#ask(process, "lock", [{ kind: Kind.SEM_WAIT, ...mutex }]);
    } else if (choice < 19 && this.#holder === process) {
      this.#unlock(process);
    } else if (choice < 19) {
      this.#ask(process, "barrier", [{ kind: Kind.BARRIER }]);
    }
  }

  #unlock(process: Process): void {
    this.#holder = null;
    this.#ask(process, "unlock", [{ kind: Kind.SEM_POST, offset: 1, body: encodeText("mutex"), aux: 1 }]);
  }

  heard(node: Node, channel: number, frame: Uint8Array): void {
    this.options.trace?.(`a process of ${node.name} hears on channel ${channel}: ${showFrame(frame)}`);
    if (node.state === "dead" || node.state === "refused") return;
    const process = node.processes.find((one) => one.channel === channel);
    const view = viewOf(frame);
    if (frame[4] === Kind.CHANGE) {
      if (process?.writes !== true || process.unheard || process.told) throw new Violation("told to close for nothing");
      process.told = true;
      return;
    }
    const request = process?.request;
    const status = frame[5] as Status;
    const text = bodyText(frame, HEADER_SIZE, view.getUint32(32, true));
    if (
      process === undefined ||
      request == null ||
      frame[4] !== Kind.REPLY ||
      view.getUint32(8, true) !== request.tag
    ) {
      throw new Violation(`${node.name}: an answer that nobody asked for: ${text}`);
    }
    if (request.parts.length > 0) throw new Violation("a publication is answered before its last part");
    process.request = null;
    this.report.answers += 1;
    // A node that has left may have been the only one to know that.
    const mayBe = (state: Node["state"]) =>
      state !== "alive" && state !== "gone" && (state !== "done" || this.#server.epoch > 1);
    const lost = this.#nodes.some(({ state }) => mayBe(state));
    if (status === Status.LOST && lost && (request.what === "lock" || request.what === "barrier")) return;
    // The only one that had joined died, and the session with it.
    if (status === Status.ENDED && lost && request.what === "join") {
      process.state = "lost";
      return;
    }
    if (status !== Status.OK)
      throw new Violation(`${request.what} of ${node.name} is answered with ${status}: ${text}`);
    switch (request.what) {
      case "join":
        process.state = "running";
        process.rank = view.getUint32(36, true);
        process.writes = this.config.elastic === true && view.getUint32(HEADER_SIZE + JOINED.direct[0], true) === 1;
        process.unheard = process.writes;
        if (node.replica?.session.direct === true) this.report.direct = 1;
        return;
      case "leave":
        process.state = "left";
        process.writes = false;
        return;
      case "lock":
        if (this.#holder !== null) throw new Violation("two hold the mutex");
        this.#holder = process;
        return;
      case "add":
        this.#olds.set(request.id, view.getBigUint64(HEADER_SIZE, true));
        process.done.push(request.id);
        return;
      case "store":
      case "publish":
        process.done.push(request.id);
        return;
    }
  }

  // --- The end ---------------------------------------------------------------------------------------------------

  #quiet(): boolean {
    if (this.#pipes.some((pipe) => this.#flows(pipe))) return false;
    if (this.#server.recovering || this.#server.state !== "up") return this.#alive().length === 0;
    const away = new Set(this.#server.away.values());
    if (this.#nodes.some(({ name, state }) => state !== "alive" && away.has(name))) return false;
    if (this.#processes.some(({ node, unheard, told }) => node.state === "alive" && (unheard || told))) return false;
    const joined = this.#alive().every(({ processes }) => processes.length === this.#perNode);
    return joined && this.#alive().every(({ link }) => link?.welcomed === true && !link.silent);
  }

  #alive(): Node[] {
    return this.#nodes.filter(({ state }) => state === "alive");
  }

  #settle(): void {
    for (let step = 0; !this.#quiet(); step += 1) {
      if (step > 20_000) {
        throw new Violation("it does not come to rest once the faults have stopped");
      }
      if (!this.#random.oneIn(3) && this.#deliver()) continue;
      this.#mend();
      for (const node of this.#alive()) {
        if (node.link === null) this.#connect(node);
        else if (node.hand() || node.processes.some((process) => this.#changesOver(process))) continue;
        else if (node.replica?.ready === true && node.processes.length < this.#perNode) this.#join(node);
      }
    }
  }

  #finish(): void {
    this.say("-- the faults stop");
    this.#faults = false;
    this.#settle();
    // A session that never began because somebody died before has nobody to finish.
    const begun = this.#processes.some(({ state }) => state !== "joining");
    for (let round = 0; begun; round += 1) {
      const here = this.#processes.filter(({ state, node }) => state === "running" && node.state === "alive");
      if (here.length === 0) break;
      if (round > 200) throw new Violation(`a process waits for ever for its ${here[0]?.request?.what}`);
      for (const process of here) {
        if (process.request !== null) this.#next(process);
        else if (this.#holder === process) this.#unlock(process);
        else this.#ask(process, "leave", [{ kind: Kind.LEAVE }]);
      }
      this.#settle();
    }
    this.#compare();
  }

  /** Every node against a reference that applies the order once. */
  #compare(): void {
    const memory = new Uint8Array(SIZE);
    const reference = new Session(this.config, new MapBytes(memory), NO_EFFECTS);
    const places = new Map<number, number>();
    for (const [index, { frames, complete }] of this.#order.entries()) {
      // Only those that had no need to apply it are left.
      if (frames.length === 0) return;
      if (!complete) throw new Violation("the order ends in the midst of a publication");
      for (const frame of frames) reference.apply(viewOf(frame), 0);
      const last = frames.at(-1) as Uint8Array;
      const id = idOf(last);
      if (id === 0) continue;
      if (places.has(id)) throw new Violation(`operation ${id} is in the order twice`);
      places.set(id, index);
      const old = this.#olds.get(id);
      if (old !== undefined && old !== reference.old.getBigUint64(0, true)) {
        throw new Violation(`an addition gave ${old} in place of ${reference.old.getBigUint64(0, true)}`);
      }
    }
    for (const { node, done } of this.#processes) {
      if (node.state === "dead" || node.state === "refused") continue;
      let before = -1;
      for (const id of done) {
        const place = places.get(id);
        if (place === undefined) throw new Violation(`operation ${id} of ${node.name} was done and is lost`);
        if (place <= before) throw new Violation(`operation ${id} of ${node.name} lies before an earlier one`);
        before = place;
      }
    }
    const { core, state: serverState } = this.#server;
    if (serverState === "up" && core instanceof Sequencer && core.session.seq === reference.seq) {
      const [got, expected] = [core.session, reference].map((session) => JSON.stringify(session.snapshot()));
      if (got !== expected) throw new Violation(`the server differs:\n${got}\n${expected}`);
      // In direct mode it has no copy of the map.
      const same = core.session.direct || Buffer.compare(this.#server.memory, memory) === 0;
      if (!same) throw new Violation("the bytes of the server differ");
    }
    for (const { name, state, replica, processes, memory: bytes } of this.#nodes) {
      if (replica === null || (state !== "alive" && state !== "done")) continue;
      // The session was over when it came: it had nobody to be told anything.
      if (state === "done" && processes.every((process) => process.state === "lost")) continue;
      if (replica.session.seq !== reference.seq) throw new Violation(`${name} lacks entries`);
      const [got, expected] = [replica.session, reference].map((session) => JSON.stringify(session.snapshot()));
      if (got !== expected) throw new Violation(`${name} differs:\n${got}\n${expected}`);
      // What they wrote by themselves is in no order.
      if (this.config.elastic === true && replica.session.direct) continue;
      if (Buffer.compare(bytes, memory) !== 0) throw new Violation(`the bytes of ${name} differ`);
    }
  }
}

/** The number by which a store, an addition or the last part of a publication is known, or 0. */
function idOf(frame: Uint8Array): number {
  const view = viewOf(frame);
  switch (frame[4]) {
    case Kind.STORE:
      return view.getUint32(HEADER_SIZE, true);
    case Kind.ATOMIC:
      return view.getUint32(HEADER_SIZE + 24, true);
    case Kind.PUBLISH:
      return view.getUint32(HEADER_SIZE + 8, true);
    default:
      return 0;
  }
}

const NO_EFFECTS = {
  ...{ watching: false, wrote(): void {}, complete(): void {}, ranked(): void {}, gone(): void {} },
  ended(): void {},
};
