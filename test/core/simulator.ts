/**
 * A session of many nodes, processes and threads that do random things over connections that deliver at random times
 * in random pieces, while processes and nodes die. Everything follows from one seed. After every step it is checked
 * that the session keeps what it promises (DESIGN, "Memory model"); the first broken promise is thrown as a Violation.
 *
 * The order the server broadcasts is the witness of sequential consistency: a store stands at its entry's place, a load
 * behind the last entry its node had applied. Then each thread's places must go up, and each load must find what a
 * plain reference memory holds at its place.
 *
 * In a direct session the node decides the order and the server must broadcast just that; its processes write its
 * memory themselves, and nobody else may change what they wrote. In an elastic session nodes and processes come at any
 * time, with a picture of the memory, and go; if it begins as a direct one it changes over when others come, and then its
 * node's memory must be what the order says, with all that was written there.
 */
import { Status } from "../../src/core/errors.ts";
import type { Block } from "../../src/core/heap.ts";
import { MapBytes } from "../../src/core/memory.ts";
import {
  AtomicOp,
  bodyText,
  ChangeOp,
  CopyOp,
  encode,
  encodeGreeting,
  encodeText,
  type Frame,
  getUint64,
  HEADER_SIZE,
  JOINED,
  Kind,
  NO_TAG,
  ORDERED_FIRST,
  ORDERED_LAST,
  padded,
  runIsMasked,
  runLength,
  runOffset,
  runSize,
  runWords,
  setUint64,
} from "../../src/core/protocol.ts";
import type { Replica } from "../../src/core/replica.ts";
import { Session, type SessionConfig } from "../../src/core/session.ts";
import {
  type Channel,
  Cluster,
  type ClusterOptions,
  type Node,
  type Pipe,
  processHello,
  Violation,
} from "../support/core-cluster.ts";
import { countMasked, publication, type Run, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";
import { showFrame, type Trace } from "../support/core-trace.ts";

const SIZE = 8192;
const PAGE = 4096;
/** The last bytes of the map hold words of 4 bytes that are only changed by those who then wake all who sleep there. */
const WORDS = 64;
const EVERYBODY = 0xffffffff;
/** Snapshots are compared at every so many entries: they are slow to take. */
const SNAPSHOT_EVERY = 16;
const SEMAPHORES = { mutex: 1, items: 0, pool: 3 } as const;
type SemaphoreName = keyof typeof SEMAPHORES;
const LOCKS = ["red", "blue"];

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
  /** Locks taken, and those of them whose last owner had died. */
  locked: number;
  inherited: number;
}

interface Request {
  what:
    | "join"
    | "attach"
    | "store"
    | "atomic"
    | "publish"
    | "barrier"
    | "wait"
    | "try"
    | "post"
    | "sleep"
    | "wake"
    | "change"
    | "alloc"
    | "named"
    | "free"
    | "lock"
    | "trylock"
    | "unlock"
    | "leave"
    | "memory"
    | "shadow"
    | "unshadow";
  tag: number;
  semaphore?: SemaphoreName;
  canceled?: boolean;
  /** Parts of a publication still to be sent. */
  parts?: Frame[];
  hole?: Hole;
  sleep?: Sleep;
  /** What it changes, or what it wakes because of a change. */
  word?: Word;
}

interface Sleep {
  offset: number;
  expected: Uint8Array;
  /** Whether the place held the value when the sleep was asked for, and how often memory had changed by then. */
  equal: boolean;
  changes: number;
  /** Its node decided, and may have found the value changed, which is in no order. */
  decided: boolean;
}

interface Word {
  offset: number;
  /** Changes after which nobody has been woken yet. */
  owed: number;
  /** Somebody who changed it could not wake anybody. */
  broken: boolean;
}

interface Hole {
  from: number;
  to: number;
  mark: number;
  state: "digging" | "open" | "filling";
}

interface Thread {
  process: Process;
  channel: Channel;
  main: boolean;
  open: boolean;
  request: Request | null;
  /** Behind which entry of the order everything it has seen so far lies. */
  place: number;
}

interface Process {
  pid: number;
  node: Node;
  threads: Thread[];
  rank: number;
  token: Uint8Array;
  /** "going": it has asked to leave. */
  state: "joining" | "running" | "going" | "left" | "refused" | "dead";
  barriersEntered: number;
  barriersPassed: number;
  /** It may write its node's memory; it has yet to say that it waits to be told to stop; it was told. */
  direct: boolean;
  unheard: boolean;
  told: boolean;
  /** It joined or was told when others wrote, and has its stores done by its node. */
  traps: boolean;
  shadow: Uint8Array;
  /** Whether its arbiter has its shadow. */
  lent: "no" | "asked" | "yes";
  holes: Hole[];
}

/**
 * What a session is: "sequencer" as most are, "direct" all on one node, "locks" with locks that pass from those who die to
 * others, "elastic" with nodes and processes that come while it runs.
 */
export const FLAVOURS = ["sequencer", "direct", "locks", "elastic"] as const;
export type Flavour = (typeof FLAVOURS)[number];

export interface SimulatorOptions {
  makeReplica?: ClusterOptions["makeReplica"];
  /** "sequencer" if left out. */
  flavour?: Flavour;
  /** Is told of every step. */
  trace?: Trace;
}

export function simulate(seed: number, options: SimulatorOptions = {}): Report {
  return new Simulator(seed, options).run();
}

class Simulator {
  readonly #random: Random;
  readonly #flavour: Flavour;
  readonly #trace: Trace | null;
  readonly #steps: number;
  readonly #cluster: Cluster;
  readonly #order: Order;
  readonly #positions = new Map<Node, Position>();
  readonly #processes: Process[] = [];
  readonly #words: Word[] = Array.from({ length: 2 }, (_, index) => ({
    offset: SIZE - WORDS + 8 * index,
    owed: 0,
    broken: false,
  }));
  /** In direct mode: the node that decides, and what its memory must be behind so many entries of the order. */
  #decider: Node | null = null;
  /** It was one: what it has decided and not handed on may yet not have happened. */
  #decided: Node | null = null;
  readonly #shared = new Uint8Array(SIZE);
  #sharedIndex = 0;
  /** How often the shared memory has changed. */
  #changes = 0;
  /** What a node in direct mode handed to the log last, and how far the node was then. */
  #proposal: { node: Node; frame: Uint8Array; seq: number } | null = null;
  #serverSeq = 0;
  readonly #taken: Record<SemaphoreName, number> = { mutex: 0, items: 0, pool: 0 };
  #mutexHolder: Thread | null = null;
  #nextPid = 1;
  #nextNode = 1;
  #lost = 0;
  readonly #report: Report = {
    entries: 0,
    answers: 0,
    loads: 0,
    lost: 0,
    direct: 0,
    changed: 0,
    pictures: 0,
    woken: 0,
    refused: 0,
    blocks: 0,
    locked: 0,
    inherited: 0,
  };
  // What this seed makes happen.
  readonly #expected: number;
  readonly #tags: number;
  readonly #losses: boolean;
  readonly #closes: boolean;
  readonly #strangers: boolean;
  /** "ordered": nobody wants direct mode; "direct": all who are expected come on one node; "any": as it comes. */
  readonly #mode: "ordered" | "direct" | "any";
  /** So many more than expected come at the beginning. */
  readonly #extra: number;

  constructor(seed: number, options: SimulatorOptions) {
    const random = new Random(seed);
    this.#random = random;
    const flavour = options.flavour ?? "sequencer";
    this.#flavour = flavour;
    this.#trace = options.trace ?? null;
    // Most mistakes show early, some only after long.
    this.#steps = random.oneIn(12) ? random.between(600, 1500) : random.between(80, 400);
    this.#expected = random.between(1, flavour === "elastic" ? 3 : 5);
    this.#tags = random.oneIn(2) ? 2 : 0x10000;
    this.#losses = flavour === "locks" || random.oneIn(3);
    this.#closes = random.oneIn(2);
    this.#strangers = random.oneIn(4);
    const modes = ["ordered", flavour === "elastic" ? "direct" : "ordered", "any"] as const;
    this.#mode = flavour === "direct" ? "direct" : random.pick(modes);
    this.#extra = random.pick([0, 0, 1, 2]);
    const config: SessionConfig = {
      name: "simulated",
      instance: "0",
      processes: this.#expected,
      size: SIZE,
      base: 0x2000_0000_0000,
      order: "sequential",
      onLoss: flavour === "locks" || random.oneIn(3) ? "continue" : "fail",
      elastic: flavour === "elastic",
    };
    this.#order = new Order(() => new Session(config, new MapBytes(new Uint8Array(SIZE)), NO_EFFECTS));
    this.#cluster = new Cluster(config, {
      ...(options.makeReplica && { makeReplica: options.makeReplica }),
      ...(options.trace && { trace: options.trace }),
      onEntry: (bytes) => {
        this.#trace?.(`the server orders ${showFrame(bytes)}`);
        this.#order.announce(bytes);
      },
      onPropose: (node, bytes) => this.#proposed(node, bytes),
      lend: (channel) =>
        this.#processes.find(({ threads }) => threads.some((thread) => thread.channel === channel)) ?? null,
    });
  }

  run(): Report {
    for (let node = this.#random.between(1, 3); node > 0; node -= 1) this.#addNode();
    for (let step = 0; step < this.#steps; step += 1) {
      this.#trace?.(`-- step ${step}`);
      if (!this.#random.oneIn(3) && this.#deliver()) continue;
      this.#act();
    }
    this.#trace?.("-- all go");
    this.#finish();
    this.#report.entries = this.#order.session.seq;
    this.#report.lost = this.#lost;
    this.#report.direct = this.#order.session.direct ? 1 : 0;
    this.#report.changed = this.#decided === null ? 0 : 1;
    this.#report.blocks = this.#order.given;
    return this.#report;
  }

  // --- The network -----------------------------------------------------------------------------------------------

  #addNode(): void {
    // One that has gone may come again.
    const gone = this.#cluster.nodes.filter(({ name, done, lost }) => done && lost && !this.#isUp(name));
    const again = this.#flavour === "elastic" && this.#random.oneIn(2) ? gone.at(0) : undefined;
    const node = this.#cluster.node(again?.name ?? `node${this.#nextNode}`);
    if (again === undefined) this.#nextNode += 1;
    this.#trace?.(`${node.name} comes`);
    node.onEvent = (event) => {
      this.#trace?.(`${node.name} is ${event}`);
      if (event === "welcomed") this.#welcomed(node);
      if (event === "done" && this.#flavour === "elastic") node.leave();
      if (event !== "lost" || node.done) return;
      if (node.fault !== null) throw new Violation(`${node.name}: ${node.fault}`);
      if (node === this.#decider || node === this.#decided) this.#order.deciderLost = true;
      const here = this.#processes.filter((process) => process.node === node);
      // The server has turned it away: its processes, of which none is in the session, are told why.
      if (node.refusal === null) for (const process of here) this.#die(process);
      else if (here.some(({ state }) => state === "running" || state === "going"))
        throw new Violation(`${node.name} has processes in the session and is turned away: ${node.refusal}`);
    };
  }

  #isUp(name: string): boolean {
    return this.#cluster.nodes.some((node) => node.name === name && !node.lost);
  }

  #welcomed(node: Node): void {
    this.#positions.set(node, new Position(node, this.#order));
    if (node.replica?.ready === false) this.#report.pictures += 1;
  }

  /** A node hands an operation to the log. Where it decides by itself, it applies it before anything else happens. */
  #proposed(node: Node, bytes: Uint8Array): void {
    this.#settleProposal();
    const session = node.replica?.session;
    const decides = session?.direct === true && session.presentOn(node.number).length > 0;
    if (decides) this.#proposal = { node, frame: new Uint8Array(bytes), seq: session.seq };
  }

  /** What was decided is in the order from then on: whatever the server broadcasts must follow it. */
  #settleProposal(): void {
    const proposal = this.#proposal;
    this.#proposal = null;
    if (proposal === null || (proposal.node.replica as Replica).session.seq === proposal.seq) return;
    if (proposal.node !== this.#decider) throw new Violation(`${proposal.node.name} decides, but is not the one to`);
    setUint64(viewOf(proposal.frame), 16, proposal.seq + 1);
    this.#checkAlone(proposal.node, proposal.frame);
    this.#order.add(proposal.frame);
  }

  /** What is done for one who does not write by itself is done beside nobody who does. */
  #checkAlone(node: Node, frame: Uint8Array): void {
    const writers = this.#processes.filter((process) => process.node === node && process.direct);
    const kind = frame[4] as number;
    const changes = kind === Kind.STORE || kind === Kind.ATOMIC || kind === Kind.PUBLISH;
    const rank = viewOf(frame).getUint16(6, true);
    const traps = this.#processes.some((one) => one.node === node && one.rank === rank && one.traps);
    if (writers.length > 0 && (kind === Kind.COPY || (changes && traps))) {
      throw new Violation(`${node.name} decides ${showFrame(frame)} while others write`);
    }
  }

  /** Moves some bytes on some connection. False when nothing is under way. */
  #deliver(): boolean {
    const busy = this.#cluster.pipes.filter((pipe) => pipe.busy);
    if (busy.length === 0) return false;
    const pipe = this.#random.pick(busy);
    pipe.deliver(this.#random.pick([1, 7, 40, 48, 100, 1000, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]));
    this.#settleProposal();
    this.#followDecider();
    for (const position of this.#positions.values()) if (position.node !== this.#decider) position.check();
    this.#checkServer();
    this.#checkShadows();
    return true;
  }

  /** The memory of a direct session changes by what its processes write and by the few entries that write at all. */
  #followDecider(): void {
    const { session, frames, completed, snapshots } = this.#order;
    if (!session.direct) {
      this.#endDirect();
      return;
    }
    this.#decider ??= this.#cluster.nodes.find(({ number }) => session.presentOn(number).length > 0) ?? null;
    const node = this.#decider;
    if (node === null || node.lost) return;
    const position = this.#positions.get(node) as Position;
    const { replica } = node;
    const index = completed[replica?.session.seq as number];
    if (index === undefined) throw new Violation(`${node.name} decided what it did not hand on`);
    position.index = index;
    for (; this.#sharedIndex < index; this.#sharedIndex += 1) {
      const { frame, entry, zeroed } = frames[this.#sharedIndex] as Recorded;
      // What it puts into the order it has.
      if (frame[4] === Kind.COPY) continue;
      entry.old = execute(this.#shared, frame);
      if (zeroed !== null) this.#shared.fill(0, zeroed.offset, zeroed.offset + zeroed.size);
      this.#changes += 1;
    }
    if (Buffer.compare(node.memory, this.#shared) !== 0) {
      throw new Violation(`the memory of ${node.name} behind entry ${index} is not what was written there`);
    }
    const snapshot = snapshots.get(index);
    if (snapshot !== undefined) {
      same(`the state of ${node.name} behind entry ${index}`, JSON.stringify(replica?.session.snapshot()), snapshot);
    }
  }

  /** From here on its node is like any other. */
  #endDirect(): void {
    const node = this.#decider;
    if (node === null) return;
    this.#decider = null;
    this.#decided = node;
    if (node.lost) return;
    const position = this.#positions.get(node) as Position;
    position.decided(this.#order.completed[node.replica?.session.seq as number] as number);
    // It had the pieces already, and nobody wrote meanwhile.
    const { index } = position;
    if (Buffer.compare(node.memory, this.#order.versions[index] as Uint8Array) !== 0) {
      throw new Violation(`the memory of ${node.name} is not what it has put into the order`);
    }
  }

  #checkServer(): void {
    const { session } = this.#cluster.sequencer;
    if (session.seq === this.#serverSeq) return;
    this.#serverSeq = session.seq;
    const snapshot = this.#order.snapshots.get(this.#order.completed[session.seq] as number);
    if (snapshot === undefined) return;
    same(`the state of the server at entry ${session.seq}`, JSON.stringify(session.snapshot()), snapshot);
  }

  #drain(): void {
    while (this.#deliver() || this.#processes.some((process) => this.#changeOver(process)));
    this.#cluster.pipes = this.#cluster.pipes.filter((pipe) => pipe.open);
  }

  // --- What processes do -----------------------------------------------------------------------------------------

  #act(): void {
    const random = this.#random;
    if (this.#strangers && random.oneIn(60)) this.#stranger();
    if (this.#losses && random.oneIn(300)) this.#lose();
    if (random.oneIn(this.#flavour === "elastic" ? 40 : 200)) this.#addNode();
    if (random.oneIn(20)) this.#exit();
    const joined = this.#processes.length;
    const elastic = this.#flavour === "elastic";
    const early = joined < this.#expected + this.#extra;
    if (random.oneIn(early ? 2 : elastic ? 15 : 150)) {
      const nodes = this.#nodesUp();
      const together = early && this.#mode === "direct" && !random.oneIn(20);
      if (nodes.length > 0 && joined < 2 * this.#expected + (elastic ? 12 : 2)) {
        this.#join(together ? (nodes[0] as Node) : random.pick(nodes));
      }
      return;
    }
    const threads = this.#processes.flatMap(({ state, threads }) => (state === "running" ? threads : []));
    if (threads.length === 0) return;
    const thread = random.pick(threads);
    if (random.oneIn(3) && this.#changeOver(thread.process)) return;
    if (thread.open) this.#next(thread);
    else if (thread.process.threads.every(({ open }) => !open)) throw new Violation("a running process is cut off");
  }

  #nodesUp(): Node[] {
    return this.#cluster.nodes.filter((node) => node.replica?.ready === true && !node.lost && !node.done);
  }

  #join(node: Node): void {
    const pid = this.#nextPid;
    this.#nextPid += 1;
    const process: Process = {
      pid,
      node,
      threads: [],
      rank: -1,
      token: new Uint8Array(8),
      state: "joining",
      barriersEntered: 0,
      barriersPassed: 0,
      direct: false,
      unheard: false,
      told: false,
      traps: false,
      shadow: new Uint8Array(SIZE),
      lent: "no",
      holes: [],
    };
    this.#processes.push(process);
    const thread = this.#thread(process, true);
    thread.request = { what: "join", tag: 0 };
    const rank = this.#random.between(-1, this.#expected + (this.#flavour === "elastic" ? 4 : 0));
    const late = this.#flavour === "elastic" && this.#order.session.phase === "running";
    const refuses = (this.#mode === "any" && this.#random.oneIn(4)) || (late && this.#random.oneIn(6));
    const noDirect = this.#mode === "ordered" || refuses;
    this.#trace?.(`process ${pid} joins on ${node.name}, channel ${thread.channel.index}, and wishes rank ${rank}`);
    thread.channel.up.push(processHello("simulated", pid, { rank, noDirect }));
  }

  /** What libdsm does by itself in an elastic session that is in direct mode. False: nothing. */
  #changeOver(process: Process): boolean {
    const { state, unheard, told, threads } = process;
    const main = threads.find((thread) => thread.main && thread.open);
    if (state !== "running" || main === undefined || (!unheard && !told)) return false;
    if (unheard) process.unheard = false;
    else {
      closeMap(process);
      process.traps = true;
    }
    this.#trace?.(`process ${process.pid} ${unheard ? "watches" : "has closed the map"}`);
    main.channel.up.push(encode({ kind: Kind.CHANGE, op: unheard ? ChangeOp.WATCH : ChangeOp.CLOSED }));
    return true;
  }

  #thread(process: Process, main: boolean): Thread {
    const channel = process.node.connect(
      `${process.pid}`,
      (frame) => this.#hears(thread, frame),
      () => this.#closed(thread),
    );
    this.#order.forget(process.node.number, channel.index);
    const thread: Thread = { process, channel, main, open: true, request: null, place: 0 };
    process.threads.push(thread);
    return thread;
  }

  #next(thread: Thread): void {
    const random = this.#random;
    const { request } = thread;
    if (request !== null) {
      if (request.parts !== undefined && isHalf(request) && random.oneIn(2)) {
        this.#send(thread, request.parts.shift() as Frame);
      } else if (CANCELED.has(request.what) && !request.canceled && random.oneIn(8)) {
        request.canceled = true;
        this.#send(thread, { kind: Kind.SEM_CANCEL, tag: request.tag });
      } else if (this.#closes && !thread.main && random.oneIn(12)) {
        this.#close(thread);
      }
      return;
    }
    if (this.#flavour === "locks" && random.oneIn(2)) {
      this.#lock(thread);
      return;
    }
    const choice = random.below(100);
    if (choice < 20) this.#load(thread);
    else if (choice < 35) this.#store(thread);
    else if (choice < 45) this.#atomic(thread);
    else if (choice < 51) this.#publish(thread);
    else if (choice < 57) this.#barrier(thread);
    else if (choice < 67) this.#semaphore(thread);
    else if (choice < 71) this.#dig(thread);
    else if (choice < 80) this.#sleep(thread);
    else if (choice < 83) this.#wake(thread);
    else if (choice < 88) this.#change(thread);
    else if (choice < 92) this.#block(thread);
    else if (choice < 95) this.#lock(thread);
    else if (choice < 98) this.#attach(thread.process);
    else if (this.#closes && !thread.main) this.#close(thread);
    else if (random.oneIn(this.#flavour === "elastic" ? 2 : 20)) this.#leave(thread);
  }

  /** Mostly few words that everybody fights for, some of them across the edge of a page, and seldom anywhere. */
  #offset(length: number): number {
    const random = this.#random;
    const offset = random.pick([random.below(24), PAGE - 8 + random.below(16), random.below(SIZE)]);
    return Math.min(offset, SIZE - WORDS - length);
  }

  /** A process in direct mode writes by itself, whenever it likes. */
  #write({ node, pid }: Process, offset: number, bytes: Uint8Array): void {
    this.#trace?.(`process ${pid} writes ${bytes.length} bytes at ${offset}`);
    node.memory.set(bytes, offset);
    this.#shared.set(bytes, offset);
    this.#changes += 1;
  }

  /** What the processes of a node must see there now. */
  #expectedMemory({ process }: Thread, index: number): Uint8Array {
    return process.node === this.#decider ? this.#shared : (this.#order.versions[index] as Uint8Array);
  }

  #ask(thread: Thread, what: Request["what"], frame: Frame, more: Partial<Request> = {}): void {
    const tag = this.#random.below(this.#tags);
    thread.request = { what, tag, ...more };
    this.#send(thread, { ...frame, tag });
  }

  #send(thread: Thread, frame: Frame): void {
    const bytes = encode(frame);
    this.#trace?.(`process ${thread.process.pid} asks on channel ${thread.channel.index}: ${showFrame(bytes)}`);
    this.#order.expect(thread.process.node.number, thread.channel.index, thread.process.rank, bytes);
    thread.channel.up.push(bytes);
  }

  #load(thread: Thread): void {
    const position = this.#positions.get(thread.process.node) as Position;
    const length = this.#random.pick([1, 2, 4, 8, 16]);
    const offset = this.#offset(length);
    const { index } = position;
    if (index < thread.place)
      throw new Violation(`a load at ${index} comes before what its thread saw at ${thread.place}`);
    thread.place = index;
    const expected = this.#expectedMemory(thread, index);
    for (let at = offset; at < offset + length; at += 1) {
      if (position.node.memory[at] !== expected[at])
        throw new Violation(`a load of ${at} behind entry ${index} is wrong`);
    }
    this.#report.loads += 1;
  }

  #store(thread: Thread): void {
    const length = this.#random.pick([1, 2, 4, 8, 8, 3, 16, 64, 300]);
    const offset = this.#offset(length);
    const body = this.#random.bytes(length);
    // In direct mode hardly any store is ordered.
    if (thread.process.direct && !this.#random.oneIn(5)) this.#write(thread.process, offset, body);
    else this.#ask(thread, "store", { kind: Kind.STORE, offset, body });
  }

  #atomic(thread: Thread): void {
    const random = this.#random;
    const length = random.pick([1, 2, 4, 8, 16]);
    const offset = this.#offset(length);
    const body = random.bytes(32);
    // A comparison that often holds.
    if (random.oneIn(2)) body.set(thread.process.node.memory.subarray(offset, offset + length), 16);
    this.#ask(thread, "atomic", { kind: Kind.ATOMIC, op: random.pick(Object.values(AtomicOp)), length, offset, body });
  }

  #publish(thread: Thread): void {
    const random = this.#random;
    const parts: Frame[] = [];
    const tag = random.below(this.#tags);
    for (let part = thread.process.direct ? 1 : random.pick([1, 1, 2, 4]); part > 0; part -= 1) {
      const list = random.oneIn(2) ? this.#differences() : [];
      for (let run = random.below(4); run > 0; run -= 1) {
        const length = random.pick([1, 2, 8, 20]);
        const masks = random.bytes(random.between(1, 4));
        const changes = countMasked(masks);
        if (random.oneIn(2) || changes === 0) list.push([this.#offset(length), random.bytes(length)]);
        else list.push([this.#offset(8 * masks.length) & ~7, random.bytes(changes), masks]);
      }
      parts.push(publication(list, { op: part > 1 ? 1 : 0, tag }));
    }
    thread.request = { what: "publish", tag, parts };
    this.#send(thread, parts.shift() as Frame);
  }

  /** Runs as from comparing pages (holes, `release`): ascending, short, several to a word that others write in too. */
  #differences(): Run[] {
    const random = this.#random;
    const list: Run[] = [];
    const end = this.#offset(24) + 24;
    for (let at = end - 24 + random.below(4); at < end; ) {
      const length = Math.min(random.pick([1, 1, 2, 3, 9]), end - at);
      list.push([at, random.bytes(length)]);
      at += length + 1 + random.below(5);
    }
    return list;
  }

  #barrier(thread: Thread): void {
    thread.process.barriersEntered += 1;
    this.#ask(thread, "barrier", { kind: Kind.BARRIER });
  }

  #semaphore(thread: Thread): void {
    const random = this.#random;
    const semaphore = this.#mutexHolder === thread ? "mutex" : random.pick(["mutex", "items", "pool"] as const);
    const frame = { body: encodeText(semaphore), aux: SEMAPHORES[semaphore] };
    const posts = semaphore === "mutex" ? this.#mutexHolder === thread : random.oneIn(2);
    if (posts) {
      if (semaphore === "mutex") this.#mutexHolder = null;
      this.#ask(thread, "post", { ...frame, kind: Kind.SEM_POST, offset: 1 }, { semaphore });
    } else {
      const what = random.oneIn(4) ? "try" : "wait";
      this.#ask(thread, what, { ...frame, kind: Kind.SEM_WAIT, op: what === "try" ? 1 : 0 }, { semaphore });
    }
  }

  /** Sleeps on what it has just seen, as programs do, or on something else. */
  #sleep(thread: Thread): void {
    const random = this.#random;
    const { node } = thread.process;
    const word = random.oneIn(3) ? undefined : random.pick(this.#words);
    const length = word === undefined ? random.pick([1, 2, 4, 8]) : 4;
    const offset = word?.offset ?? this.#offset(length);
    const seen = node.memory.slice(offset, offset + length);
    const expected = random.oneIn(8) ? random.bytes(length) : seen;
    const body = random.bytes(8);
    body.set(expected);
    const equal = Buffer.compare(expected, seen) === 0;
    const sleep = { offset, expected, equal, changes: this.#changes, decided: node === this.#decider };
    this.#ask(thread, "sleep", { kind: Kind.SLEEP, offset, length, body }, { sleep, ...(word && { word }) });
  }

  #wake(thread: Thread): void {
    const offset = this.#random.pick([this.#offset(1), ...this.#order.beds]);
    this.#ask(thread, "wake", { kind: Kind.WAKE, offset, aux: this.#random.pick([0, 1, 1, 1, 2, EVERYBODY]) });
  }

  /** Changes a word and then wakes all who sleep there: whoever saw the old value does not sleep on. */
  #change(thread: Thread): void {
    const sleptOn = this.#words.filter(({ offset }) => this.#order.beds.includes(offset));
    const word = this.#random.pick(sleptOn.length > 0 && !this.#random.oneIn(4) ? sleptOn : this.#words);
    const body = Uint8Array.of(this.#random.below(3), 0, 0, 0);
    word.owed += 1;
    if (thread.process.direct) {
      this.#write(thread.process, word.offset, body);
      this.#wakeAll(thread, word);
    } else {
      this.#ask(thread, "change", { kind: Kind.STORE, offset: word.offset, body }, { word });
    }
  }

  #wakeAll(thread: Thread, word: Word): void {
    this.#ask(thread, "wake", { kind: Kind.WAKE, offset: word.offset, aux: EVERYBODY }, { word });
  }

  /** Mostly unlocks what its process has. */
  #lock(thread: Thread): void {
    const random = this.#random;
    const has = LOCKS.filter((name) => this.#order.ownerOf(name) === thread.process.rank);
    if (has.length > 0 && !random.oneIn(6)) {
      this.#ask(thread, "unlock", { kind: Kind.UNLOCK, op: random.below(2), body: encodeText(random.pick(has)) });
    } else if (random.oneIn(8)) {
      this.#ask(thread, "unlock", { kind: Kind.UNLOCK, body: encodeText(random.pick(LOCKS)) });
    } else {
      const what = random.oneIn(4) ? "trylock" : "lock";
      this.#ask(thread, what, { kind: Kind.LOCK, op: what === "lock" ? 0 : 1, body: encodeText(random.pick(LOCKS)) });
    }
  }

  #block(thread: Thread): void {
    const random = this.#random;
    const offset = random.oneIn(10) ? random.between(1, 2 * SIZE) : random.between(1, 200);
    const aux = random.pick([1, 8, 8, 64, 256]);
    const { blocks } = this.#order;
    const choice = random.below(5);
    if (choice < 2) {
      this.#ask(thread, "alloc", { kind: Kind.ALLOC, offset, aux });
    } else if (choice < 3) {
      const name = random.pick(["grid", "queue"]);
      const size = name === "grid" ? 100 : offset;
      this.#ask(thread, "named", { kind: Kind.NAMED, offset: size, aux, body: encodeText(name) });
    } else {
      const place = blocks.length > 0 && !random.oneIn(5) ? random.pick(blocks).offset : this.#offset(1);
      this.#ask(thread, "free", { kind: Kind.FREE, offset: place });
    }
  }

  #dig(thread: Thread): void {
    const { process } = thread;
    // The edges of a hole are not private in direct mode.
    if (process.direct) return;
    const open = process.holes.filter(({ state }) => state === "open");
    const field = (hole: Hole): Frame => {
      const page = hole.from - (hole.from % PAGE);
      return { kind: Kind.UNSHADOW, offset: page, aux: hole.from - page, length: hole.to - hole.from };
    };
    if (open.length > 0 && this.#random.oneIn(2)) {
      const hole = this.#random.pick(open);
      hole.state = "filling";
      this.#ask(thread, "unshadow", field(hole), { hole });
      return;
    }
    if (process.lent !== "yes") {
      if (process.lent === "no") this.#ask(thread, "memory", { kind: Kind.MEMORY });
      process.lent = "asked";
      return;
    }
    const from = this.#offset(32);
    const to = Math.min(from + this.#random.between(1, 32), from - (from % PAGE) + PAGE);
    if (process.holes.some((hole) => hole.from < to && from < hole.to)) return;
    const hole: Hole = { from, to, mark: this.#random.below(256), state: "digging" };
    process.holes.push(hole);
    this.#ask(thread, "shadow", { ...field(hole), kind: Kind.SHADOW }, { hole });
  }

  #attach(process: Process): void {
    if (process.threads.length >= 4) return;
    const thread = this.#thread(process, false);
    thread.request = { what: "attach", tag: 9 };
    thread.channel.up.push(encodeGreeting(Kind.ATTACH, process.token, { rank: process.rank, tag: 9 }));
  }

  #leave(thread: Thread): void {
    thread.process.state = "going";
    closeMap(thread.process);
    this.#ask(thread, "leave", { kind: Kind.LEAVE });
  }

  /** A thread's connection ends, whatever it has under way. */
  #close(thread: Thread): void {
    this.#trace?.(`process ${thread.process.pid} closes channel ${thread.channel.index}`);
    thread.open = false;
    breakWord(thread);
    thread.channel.up.end();
    thread.process.threads = thread.process.threads.filter((other) => other !== thread);
  }

  #lose(): void {
    const random = this.#random;
    const nodes = this.#nodesUp();
    if (random.oneIn(5) && nodes.length > 1) {
      random.pick(nodes).lose(random.below(200));
      return;
    }
    const alive = this.#processes.filter(({ state }) => state !== "dead" && state !== "left" && state !== "refused");
    if (alive.length > 0) this.#die(random.pick(alive));
  }

  /** A process that has left ends, and with it its connections. */
  #exit(): void {
    const left = this.#processes.find(({ state, threads }) => state === "left" && threads.some(({ open }) => open));
    for (const thread of left?.threads ?? []) {
      thread.open = false;
      thread.channel.up.end();
    }
  }

  /** What it had sent may arrive in part, down to a piece of a frame. */
  #die(process: Process): void {
    this.#trace?.(`process ${process.pid}, rank ${process.rank}, which was ${process.state}, dies`);
    if (process.state === "running" || process.state === "joining" || process.state === "going") this.#lost += 1;
    process.state = "dead";
    closeMap(process);
    for (const thread of process.threads) {
      breakWord(thread);
      thread.open = false;
      thread.channel.up.end(this.#random.oneIn(2) ? this.#random.below(100) : 0);
    }
  }

  #stranger(): void {
    const random = this.#random;
    const garbage = random.bytes(random.between(4, 120));
    if (random.oneIn(2)) garbage.set(encodeGreeting(Kind.HELLO, new Uint8Array(0)).subarray(0, garbage.length));
    const nodes = this.#nodesUp();
    let up: Pipe;
    if (nodes.length > 0 && random.oneIn(2)) {
      const node = random.pick(nodes);
      const channel = node.connect(
        "stranger",
        () => {},
        () => {},
      );
      this.#order.forget(node.number, channel.index);
      up = channel.up;
    } else {
      up = this.#cluster.link(
        "stranger",
        () => {},
        () => {},
      );
    }
    up.push(garbage);
    up.end();
  }

  // --- What processes hear ---------------------------------------------------------------------------------------

  #closed(thread: Thread): void {
    const { process } = thread;
    if (!thread.open) return;
    thread.open = false;
    thread.channel.up.end();
    if (process.node.lost || process.state === "dead" || process.state === "left" || process.state === "refused")
      return;
    throw new Violation(`the connection of process ${process.pid} was closed`);
  }

  #hears(thread: Thread, frame: Uint8Array): void {
    if (!thread.open) return;
    const view = viewOf(frame);
    const { process, request } = thread;
    this.#trace?.(`process ${process.pid} hears on channel ${thread.channel.index}: ${showFrame(frame)}`);
    const status = view.getUint8(5) as Status;
    const text = bodyText(frame, HEADER_SIZE, view.getUint32(32, true));
    if (view.getUint8(4) === Kind.FAIL) {
      const tooMany = status === Status.FULL && this.#order.session.direct;
      const late = request?.what === "join" && (status === Status.ENDED || tooMany);
      const attaching = request?.what === "attach" && process.state !== "running";
      if (!late && !attaching) throw new Violation(`process ${process.pid} is told: ${text}`);
      if (late) process.state = "refused";
      thread.open = false;
      thread.channel.up.end();
      return;
    }
    if (view.getUint8(4) === Kind.CHANGE) {
      const inTime = process.direct && !process.unheard && !process.told;
      if (process.state === "running" && (!inTime || !thread.main)) throw new Violation("told to close for nothing");
      process.told = process.direct;
      return;
    }
    const tag = view.getUint32(8, true);
    if (request === null || request.tag !== tag) {
      throw new Violation(`process ${process.pid} gets an answer to tag ${tag}, which it did not ask (or twice)`);
    }
    if (isHalf(request) && status === Status.OK) {
      throw new Violation("a publication is answered before its last part");
    }
    thread.request = null;
    this.#report.answers += 1;
    if (!this.#allowed(process, request).includes(status)) {
      throw new Violation(`process ${process.pid}: ${request.what} is answered with status ${status} ${text}`);
    }
    this.#checkVerdict(thread, request, status, view);
    this.#effect(thread, request, status, view);
  }

  /** Sleeping, waking and allocation are answered as the reference says, after the node has the reason. */
  #checkVerdict(thread: Thread, request: Request, status: Status, view: DataView): void {
    if (!JUDGED.has(request.what)) return;
    const { process, channel } = thread;
    const { node } = process;
    const verdict = this.#order.takeVerdict(node.number, channel.index, request.tag);
    if (verdict === undefined) {
      // Its process was leaving: that was not even asked.
      if (status === Status.LEFT) return;
      const { sleep } = request;
      if (sleep?.decided !== true || status !== Status.AGAIN) {
        throw new Violation(`a ${request.what} is answered before it has a place`);
      }
      // The node alone knows what it compared with.
      if (sleep.equal && sleep.changes === this.#changes) throw new Violation("a sleep is refused without a change");
      this.#order.withdraw(node.number, channel.index, request.tag);
      this.#report.refused += 1;
      return;
    }
    if (status !== verdict.status) throw new Violation(`a ${request.what} gets ${status}, not ${verdict.status}`);
    if (status === Status.OK && request.what !== "sleep" && getUint64(view, 24) !== verdict.value) {
      throw new Violation(`a ${request.what} gets the value ${getUint64(view, 24)}, not ${verdict.value}`);
    }
    const { index } = this.#positions.get(node) as Position;
    if (verdict.index > index) throw new Violation(`a ${request.what} is answered before its node has the reason`);
    // Whoever was woken sees what was done before it was.
    thread.place = Math.max(thread.place, verdict.index);
    if (request.what === "sleep" && status === Status.OK) this.#report.woken += 1;
    if (request.what === "lock" && (status === Status.OK || status === Status.OWNER_DIED)) this.#report.locked += 1;
    if (status === Status.OWNER_DIED) this.#report.inherited += 1;
    if (request.what === "sleep" && status === Status.AGAIN) this.#report.refused += 1;
  }

  #allowed(process: Process, request: Request): Status[] {
    const left = process.state === "going" || process.state === "left" ? [Status.LEFT] : [];
    const lost = this.#order.lost ? [Status.LOST] : [];
    switch (request.what) {
      case "join":
        return [Status.OK, Status.FULL, Status.ENDED];
      case "barrier":
        return [Status.OK, Status.BUSY, ...(request.canceled === true ? [Status.TIMEOUT] : []), ...left, ...lost];
      case "wait":
        return [Status.OK, ...(request.canceled === true ? [Status.TIMEOUT] : []), ...left, ...lost];
      case "try":
        return [Status.OK, Status.AGAIN, ...left, ...lost];
      case "sleep": {
        const canceled = request.canceled === true ? [Status.TIMEOUT] : [];
        return [Status.OK, Status.AGAIN, ...canceled, ...left, ...lost];
      }
      case "lock":
      case "trylock": {
        const canceled = request.canceled === true ? [Status.TIMEOUT] : [];
        const busy = request.what === "lock" ? [Status.BUSY] : [Status.BUSY, Status.AGAIN];
        return [Status.OK, Status.OWNER_DIED, ...busy, ...canceled, ...left, ...lost];
      }
      case "unlock":
        return [Status.OK, Status.NOT_OWNER, ...left];
      case "alloc":
        return [Status.OK, Status.NO_MEMORY, ...left];
      case "named":
        return [Status.OK, Status.NO_MEMORY, Status.MISMATCH, ...left];
      case "free":
        return [Status.OK, Status.INVALID, ...left];
      case "leave":
        return [Status.OK];
      default:
        return [Status.OK, ...left];
    }
  }

  #effect(thread: Thread, request: Request, status: Status, view: DataView): void {
    const { process } = thread;
    const ok = status === Status.OK;
    switch (request.what) {
      case "join":
        process.state = ok ? "running" : "refused";
        if (!ok) return;
        process.rank = view.getUint32(36, true);
        process.direct = view.getUint32(HEADER_SIZE + JOINED.direct[0], true) === 1;
        this.#checkMode(process);
        process.token = new Uint8Array(view.buffer, view.byteOffset + HEADER_SIZE + JOINED.token[0], 8).slice();
        process.barriersPassed = this.#order.barriersBefore(process.node.number, thread.channel.index);
        process.barriersEntered = process.barriersPassed;
        if (this.#processes.some((other) => other !== process && this.#keepsRank(other, process.rank))) {
          throw new Violation(`rank ${process.rank} is given twice`);
        }
        return;
      case "store":
      case "atomic":
      case "publish":
        if (ok) this.#placed(thread, request, view);
        return;
      case "change":
        if (ok) {
          this.#placed(thread, request, view);
          this.#wakeAll(thread, request.word as Word);
        } else {
          (request.word as Word).broken = true;
        }
        return;
      case "wake":
        if (request.word === undefined) return;
        if (ok) request.word.owed -= 1;
        else request.word.broken = true;
        return;
      case "barrier":
        if (status === Status.BUSY || status === Status.TIMEOUT) process.barriersEntered -= 1;
        if (ok) this.#passed(process);
        return;
      case "wait":
      case "try":
        if (ok) this.#took(thread, request.semaphore as SemaphoreName);
        return;
      case "leave":
        process.state = "left";
        return;
      case "memory":
        if (ok) process.lent = "yes";
        return;
      case "shadow":
      case "unshadow":
        if (ok) this.#dug(process, request);
        return;
    }
  }

  /** In an elastic session one may traps beside those who write, until that ends. */
  #checkMode(process: Process): void {
    const { session } = this.#order;
    const elastic = this.#flavour === "elastic";
    process.unheard = elastic && process.direct;
    process.traps = elastic && !process.direct;
    if (elastic ? process.direct && !session.direct : process.direct !== session.direct)
      throw new Violation("a process is told the wrong mode");
  }

  /** In an elastic session others get the ranks of those who go. */
  #keepsRank({ rank, state }: Process, taken: number): boolean {
    return rank === taken && (this.#flavour !== "elastic" || state === "running");
  }

  /** A store, atomic or publication is done: it has its place, behind all its thread saw, and its node has it. */
  #placed(thread: Thread, request: Request, view: DataView): void {
    const { node } = thread.process;
    const entry = this.#order.placeOf(node.number, thread.channel.index, request.tag);
    if (entry === undefined) throw new Violation(`a ${request.what} is answered before it has a place`);
    if (entry.index <= thread.place) throw new Violation(`a ${request.what} lies before what its thread saw`);
    const { index } = this.#positions.get(node) as Position;
    if (entry.index > index) throw new Violation(`a ${request.what} is answered before its node has it`);
    if (getUint64(view, 16) !== entry.seq) throw new Violation(`a ${request.what} is told another place than it has`);
    thread.place = entry.index;
    if (request.what !== "atomic") return;
    const old = Buffer.from(view.buffer, view.byteOffset + HEADER_SIZE, 16);
    if (entry.old === null || Buffer.compare(old, entry.old) !== 0)
      throw new Violation("an atomic gives a wrong old value");
  }

  #passed(process: Process): void {
    process.barriersPassed += 1;
    for (const other of this.#processes) {
      if (other.state !== "running" || other === process) continue;
      if (other.barriersEntered < process.barriersPassed) {
        throw new Violation(`process ${process.pid} passed a barrier that process ${other.pid} has not entered`);
      }
    }
  }

  #took(thread: Thread, semaphore: SemaphoreName): void {
    this.#taken[semaphore] += 1;
    if (this.#taken[semaphore] > SEMAPHORES[semaphore] + (this.#order.posts.get(semaphore) ?? 0)) {
      throw new Violation(`semaphore ${semaphore} let too many through`);
    }
    if (semaphore !== "mutex") return;
    if (this.#mutexHolder !== null) throw new Violation("two hold the mutex");
    this.#mutexHolder = thread;
  }

  #dug(process: Process, request: Request): void {
    const hole = request.hole as Hole;
    if (request.what === "unshadow") {
      process.holes = process.holes.filter((other) => other !== hole);
      return;
    }
    hole.state = "open";
    process.shadow.fill(hole.mark, hole.from, hole.to);
  }

  // --- What must hold --------------------------------------------------------------------------------------------

  /** Pages with holes show the node's bytes outside the holes and the process's own inside. */
  #checkShadows(): void {
    for (const { node, holes, shadow, state } of this.#processes) {
      if (state !== "running" || holes.length === 0) continue;
      for (const page of [0, PAGE]) {
        const here = holes.filter(({ from }) => from >= page && from < page + PAGE);
        if (here.length === 0 || here.some((hole) => hole.state !== "open")) continue;
        const expected = node.memory.slice(page, page + PAGE);
        for (const { from, to, mark } of here) expected.fill(mark, from - page, to - page);
        if (Buffer.compare(expected, shadow.subarray(page, page + PAGE)) !== 0)
          throw new Violation("a shadow is wrong");
      }
    }
  }

  /** Nothing is under way: whoever waits must have a reason. */
  #checkWaiters(): void {
    const { session } = this.#order;
    const semaphores = new Map(session.semaphores().map(({ name, value }) => [name, value]));
    const report = session.report();
    const missing = report.some(({ state }) => ["running", "semaphore", "lock", "sleeping"].includes(state));
    for (const { pid, state, threads } of this.#processes) {
      for (const thread of threads) {
        const { open, request } = thread;
        if (!open || request === null) continue;
        const waits =
          (request.what === "join" && session.phase !== "ended" && (state === "joining" || state === "dead")) ||
          (request.what === "sleep" && this.#sleepsRightly(thread, request)) ||
          (request.what === "lock" &&
            this.#order.queues(thread.process.node.number, thread.channel.index, request.tag)) ||
          (request.what === "barrier" && missing && !this.#order.lost) ||
          (request.what === "wait" &&
            this.#isEmpty(semaphores, request.semaphore as SemaphoreName) &&
            !this.#order.lost);
        if (!isHalf(request) && !waits)
          throw new Violation(`process ${pid} waits for its ${request.what} without reason`);
      }
    }
  }

  /** A wait that is the first use has its place in the order only when somebody waits for what comes behind it. */
  #isEmpty(values: Map<string, number>, name: SemaphoreName): boolean {
    return (values.get(name) ?? SEMAPHORES[name]) === 0;
  }

  /** Nobody has woken it, and nobody who changed what it saw has woken those who had seen it. */
  #sleepsRightly(thread: Thread, { tag, sleep, word }: Request): boolean {
    const { process, channel } = thread;
    if (word !== undefined && sleep !== undefined && !word.broken && word.owed === 0 && !this.#order.wordsZeroed) {
      const memory = this.#expectedMemory(thread, this.#order.versions.length - 1);
      const now = memory.subarray(sleep.offset, sleep.offset + sleep.expected.length);
      if (Buffer.compare(now, sleep.expected) !== 0) throw new Violation(`process ${process.pid} was not woken`);
    }
    return this.#order.sleeps(process.node.number, channel.index, tag);
  }

  /** Everybody goes, one after the other, and nothing is left behind. */
  #finish(): void {
    for (;;) {
      this.#drain();
      this.#checkWaiters();
      const here = this.#processes.filter(({ state }) => state === "running" || state === "joining");
      const process = here.at(this.#random.below(Math.max(here.length, 1)));
      if (process === undefined) break;
      const idle = process.threads.find(({ open, request }) => open && request === null);
      if (process.state === "running" && idle !== undefined) this.#leave(idle);
      else this.#die(process);
    }
    for (const { pid, state, threads } of this.#processes) {
      for (const { open, request } of threads) {
        const unfinished = open && request !== null && !isHalf(request);
        if (unfinished) throw new Violation(`process ${pid} (${state}) never got its ${request.what} answered`);
      }
    }
    const { session } = this.#order;
    if (this.#processes.some(({ rank }) => rank >= 0) && session.phase !== "ended") throw new Violation("no end");
    const server = this.#cluster.sequencer.session;
    same("the server's state", JSON.stringify(server.snapshot()), JSON.stringify(session.snapshot()));
    if (Buffer.compare(this.#cluster.memory, this.#order.versions.at(-1) as Uint8Array) !== 0) {
      throw new Violation("the server's bytes are wrong");
    }
    for (const position of this.#positions.values()) {
      const { node } = position;
      if (node.lost) continue;
      if (position.index !== this.#order.versions.length - 1) throw new Violation(`${node.name} lacks entries`);
      same(node.name, JSON.stringify(node.replica?.session.snapshot()), JSON.stringify(session.snapshot()));
      if (node.replica?.hadProcess && session.phase === "ended" && !node.done)
        throw new Violation(`${node.name} goes on`);
    }
  }
}

/** From here on it does not write to its node's memory by itself. */
function closeMap(process: Process): void {
  process.direct = false;
  process.unheard = false;
  process.told = false;
}

/** A publication of which not all parts have been sent. */
const isHalf = ({ parts }: Request): boolean => parts !== undefined && parts.length > 0;

/** Whoever was about to wake others cannot. */
function breakWord({ request }: Thread): void {
  if (request?.word !== undefined && request.what !== "sleep") request.word.broken = true;
}

/** Requests of which the reference in Order knows the answer. */
const JUDGED: ReadonlySet<Request["what"]> = new Set([
  ...(["sleep", "wake", "alloc", "named", "free"] as const),
  ...(["lock", "trylock", "unlock"] as const),
]);
/** Entries that change memory. */
const WRITES: ReadonlySet<number> = new Set([
  ...([Kind.STORE, Kind.ATOMIC, Kind.PUBLISH, Kind.ALLOC, Kind.NAMED, Kind.COPY] as const),
]);
/** Requests that can be taken back. */
const CANCELED: ReadonlySet<Request["what"]> = new Set(["barrier", "wait", "sleep", "lock"]);

const NO_EFFECTS = {
  watching: false,
  wrote(): void {},
  complete(): void {},
  ranked(): void {},
  gone(): void {},
  ended(): void {},
};

function same(what: string, got: string | undefined, expected: string): void {
  if (got !== expected) throw new Violation(`${what} differs:\n${got}\n${expected}`);
}

interface Entry {
  /** How many frames of the order end with this one. */
  index: number;
  seq: number;
  /** The value before an atomic operation. */
  old: Uint8Array | null;
}

/** A frame of the order. */
interface Recorded {
  frame: Uint8Array;
  entry: Entry;
  /** The block that it gave out. */
  zeroed: Block | null;
}

/** How a request is answered, and how many frames of the order end with the one that says so. */
interface Verdict {
  status: Status;
  value: number;
  index: number;
}

/**
 * The order, as the server gave it or as the node of a direct session decided it, with what every memory and every
 * state must be behind each of its frames.
 */
class Order {
  /** The state machine, one frame at a time. */
  session: Session;
  /** The reference memory behind so many frames; of a direct session, without what its processes write. */
  readonly versions: Uint8Array[] = [new Uint8Array(SIZE)];
  /** Where the frames end, in bytes of the order. */
  readonly ends: number[] = [0];
  readonly frames: Recorded[] = [];
  readonly snapshots = new Map<number, string>();
  readonly posts = new Map<string, number>();
  /** The index of the frame that completed each sequence number. */
  readonly completed: number[] = [0];
  /** The node that decided is gone: what it did not hand on has not happened. */
  deciderLost = false;
  /** Blocks given out so far, and whether one lay over the words. */
  given = 0;
  wordsZeroed = false;
  /** Allocation and sleeping once more, as plainly as possible: blocks by place, sleepers as they came. */
  blocks: Block[] = [];
  #sleepers: { at: number; rank: number; offset: number }[] = [];
  /** Locks as plainly: who has it (-1: nobody), whether the one before went with it, and who waits. */
  #locks: PlainLock[] = plainLocks();
  readonly #verdicts = new Map<number, Verdict>();
  readonly #makeSession: () => Session;
  readonly #entries = new Map<number, Entry>();
  /** What each channel has sent that has no place yet, by node and tag. */
  readonly #expected = new Map<number, Uint8Array[]>();
  /** Barriers that were over when a process joined, by its node and main channel. */
  readonly #barriers = new Map<number, number>();
  /** How many frames the server has broadcast. */
  #announced = 0;
  #open = -1;

  constructor(makeSession: () => Session) {
    this.#makeSession = makeSession;
    this.session = makeSession();
  }

  /** Whether a process was lost somewhere in the order. */
  get lost(): boolean {
    return this.session.lostRank >= 0 && this.session.config.onLoss === "fail";
  }

  placeOf(node: number, channel: number, tag: number): Entry | undefined {
    return this.#entries.get(key(node, channel * 0x10000 + tag));
  }

  barriersBefore(node: number, channel: number): number {
    return this.#barriers.get(key(node, channel * 0x10000)) ?? 0;
  }

  /** The answer to a request, once. */
  takeVerdict(node: number, channel: number, tag: number): Verdict | undefined {
    const at = key(node, channel * 0x10000 + tag);
    const verdict = this.#verdicts.get(at);
    this.#verdicts.delete(at);
    return verdict;
  }

  ownerOf(name: string): number {
    return this.#locks.find((lock) => lock.name === name)?.owner ?? -1;
  }

  /** Whether that request waits for a lock that somebody has. */
  queues(node: number, channel: number, tag: number): boolean {
    const mine = key(node, channel * 0x10000 + tag);
    return this.#locks.some(({ owner, queue }) => owner >= 0 && queue.some(({ at }) => at === mine));
  }

  /** Where anybody sleeps. */
  get beds(): number[] {
    return this.#sleepers.map(({ offset }) => offset);
  }

  sleeps(node: number, channel: number, tag: number): boolean {
    return this.#sleepers.some(({ at }) => at === key(node, channel * 0x10000 + tag));
  }

  /** A channel has sent this frame: it may come once, behind the channel's earlier ones of that tag. */
  expect(node: number, channel: number, rank: number, frame: Uint8Array): void {
    const view = viewOf(frame);
    const kind = view.getUint8(4);
    // A cancel has no answer, so one that comes too late may find its channel's number in other hands.
    if (kind < ORDERED_FIRST || kind > ORDERED_LAST || kind === Kind.SEM_CANCEL) return;
    const at = key(node, channel * 0x10000 + view.getUint32(8, true));
    const stamped = frame.slice();
    const stamp = viewOf(stamped);
    stamp.setUint16(6, rank, true);
    stamp.setUint32(8, channel * 0x10000 + view.getUint32(8, true), true);
    stamp.setUint32(12, node, true);
    const queue = this.#expected.get(at);
    if (queue === undefined) this.#expected.set(at, [stamped]);
    else queue.push(stamped);
  }

  /** The one frame under way with that tag does not come. */
  withdraw(node: number, channel: number, tag: number): void {
    this.#expected.delete(key(node, channel * 0x10000 + tag));
  }

  /** The channel's number has a new owner: nothing the old one sent may still come. */
  forget(node: number, channel: number): void {
    const isOld = (at: number): boolean => Math.floor(at / 0x10000) === node * 0x10000 + channel;
    for (const at of this.#expected.keys()) if (isOld(at)) this.#expected.delete(at);
    for (const at of this.#verdicts.keys()) if (isOld(at)) this.#verdicts.delete(at);
  }

  /** The server broadcasts a frame: what its node decided, or else something new. */
  announce(frame: Uint8Array): void {
    const known = this.frames[this.#announced];
    if (known !== undefined && Buffer.compare(known.frame, frame) !== 0) {
      if (!this.deciderLost) throw new Violation("the server gives another order than its node decided");
      this.#rewind(this.#announced);
    }
    if (this.#announced === this.frames.length) this.add(frame);
    this.#announced += 1;
  }

  /** Only so many frames have happened after all. */
  #rewind(count: number): void {
    const kept = this.frames.splice(0).slice(0, count);
    this.session = this.#makeSession();
    for (const list of [this.versions, this.ends, this.completed]) list.length = 1;
    for (const map of [this.snapshots, this.posts, this.#entries]) map.clear();
    this.blocks = [];
    this.#sleepers = [];
    this.#locks = plainLocks();
    for (const { frame } of kept) {
      // Those who asked are gone with the node.
      this.#verdicts.clear();
      this.#take(frame);
    }
    this.#verdicts.clear();
  }

  add(frame: Uint8Array): void {
    const view = viewOf(frame);
    const kind = view.getUint8(4);
    const tag = view.getUint32(8, true);
    const at = key(view.getUint32(12, true), tag);
    const more = kind === Kind.PUBLISH && view.getUint8(5) === 1;
    if (getUint64(view, 16) !== this.session.seq + 1) throw new Violation("the order skips a number");
    if (this.#open >= 0 && (kind !== Kind.PUBLISH || this.#open !== at))
      throw new Violation("a publication is cut in two");
    this.#open = more ? at : -1;
    if (kind !== Kind.JOIN && kind !== Kind.SEM_CANCEL && tag !== NO_TAG) this.#checkSent(at, frame);
    this.#take(frame.slice());
  }

  #take(frame: Uint8Array): void {
    const view = viewOf(frame);
    const kind = view.getUint8(4);
    const at = key(view.getUint32(12, true), view.getUint32(8, true));
    const before = this.versions.at(-1) as Uint8Array;
    const after = WRITES.has(kind) ? before.slice() : before;
    const old = execute(after, frame);
    this.versions.push(after);
    this.ends.push((this.ends.at(-1) as number) + frame.length);
    const index = this.versions.length - 1;
    const entry = { index, seq: this.session.seq + 1, old };
    this.#entries.set(at, entry);
    if (kind === Kind.SEM_POST) {
      const name = bodyText(frame, HEADER_SIZE, view.getUint32(32, true));
      this.posts.set(name, (this.posts.get(name) ?? 0) + 1);
    }
    const zeroed = this.#judge(at, frame, before, index);
    if (zeroed !== null) after.fill(0, zeroed.offset, zeroed.offset + zeroed.size);
    this.frames.push({ frame, entry, zeroed });
    if (kind === Kind.JOIN) this.#barriers.set(at, this.session.snapshot().barriers);
    const rank = view.getUint16(6, true);
    const goes = kind === Kind.LEAVE && this.session.presentOn(view.getUint32(12, true)).includes(rank);
    this.session.apply(view, 0);
    if (kind === Kind.LEAVE && this.lost && this.session.phase === "running") {
      for (const sleeper of this.#sleepers.splice(0)) this.#say(sleeper.at, Status.LOST, 0, index);
      for (const { queue } of this.#locks) {
        for (const waiter of queue.splice(0)) this.#say(waiter.at, Status.LOST, 0, index);
      }
    }
    for (const lock of goes ? this.#locks : []) {
      if (lock.owner !== rank) continue;
      lock.died = true;
      this.#passOn(lock, index);
    }
    if (kind !== Kind.PUBLISH || view.getUint8(5) !== 1) this.completed.push(index);
    if (index % SNAPSHOT_EVERY === 0) this.snapshots.set(index, JSON.stringify(this.session.snapshot()));
  }

  #say(at: number, status: Status, value: number, index: number): void {
    if (this.#verdicts.has(at)) throw new Violation("a request has two answers");
    this.#verdicts.set(at, { status, value, index });
  }

  #passOn(lock: PlainLock, index: number): void {
    const next = lock.queue.shift();
    lock.owner = next?.rank ?? -1;
    if (next === undefined) return;
    this.#say(next.at, lock.died ? Status.OWNER_DIED : Status.OK, 0, index);
  }

  /** What the reference says of the frame, before the session does. Returns the block it gives out. */
  #judge(at: number, frame: Uint8Array, memory: Uint8Array, index: number): Block | null {
    const view = viewOf(frame);
    const kind = view.getUint8(4);
    const rank = view.getUint16(6, true);
    const node = view.getUint32(12, true);
    const offset = getUint64(view, 24);
    const length = view.getUint32(32, true);
    const count = view.getUint32(36, true);
    const left = !this.session.mayIssue(rank, node);
    const take = (wanted: (sleeper: { at: number; rank: number; offset: number }) => boolean) => {
      const taken = this.#sleepers.filter(wanted);
      this.#sleepers = this.#sleepers.filter((sleeper) => !taken.includes(sleeper));
      return taken;
    };
    switch (kind) {
      case Kind.SLEEP: {
        const other = Buffer.compare(
          memory.subarray(offset, offset + length),
          frame.subarray(HEADER_SIZE, HEADER_SIZE + length),
        );
        if (left) this.#say(at, Status.LEFT, 0, index);
        else if (this.lost) this.#say(at, Status.LOST, 0, index);
        else if (view.getUint8(5) === 0 && other !== 0) this.#say(at, Status.AGAIN, 0, index);
        else this.#sleepers.push({ at, rank, offset });
        return null;
      }
      case Kind.WAKE: {
        let most = count;
        const woken = take((sleeper) => {
          if (sleeper.offset !== offset || most === 0) return false;
          most -= 1;
          return true;
        });
        for (const sleeper of woken) this.#say(sleeper.at, Status.OK, 0, index);
        this.#say(at, Status.OK, woken.length, index);
        return null;
      }
      case Kind.LOCK: {
        const lock = this.#locks.find((one) => one.name === bodyText(frame, HEADER_SIZE, length)) as PlainLock;
        if (left) this.#say(at, Status.LEFT, 0, index);
        else if (this.lost) this.#say(at, Status.LOST, 0, index);
        else if (lock.owner === rank || lock.queue.some((waiter) => waiter.rank === rank))
          this.#say(at, Status.BUSY, 0, index);
        else if (lock.owner >= 0 && view.getUint8(5) === 1) this.#say(at, Status.AGAIN, 0, index);
        else {
          lock.queue.push({ at, rank });
          if (lock.owner < 0) this.#passOn(lock, index);
        }
        return null;
      }
      case Kind.UNLOCK: {
        const lock = this.#locks.find((one) => one.name === bodyText(frame, HEADER_SIZE, length)) as PlainLock;
        if (left) this.#say(at, Status.LEFT, 0, index);
        else if (lock.owner !== rank) this.#say(at, Status.NOT_OWNER, 0, index);
        else {
          lock.died &&= view.getUint8(5) === 1;
          this.#passOn(lock, index);
          this.#say(at, Status.OK, 0, index);
        }
        return null;
      }
      case Kind.SEM_CANCEL:
        for (const sleeper of take((sleeper) => sleeper.at === at)) this.#say(sleeper.at, Status.TIMEOUT, 0, index);
        for (const lock of this.#locks) {
          if (lock.queue.some((waiter) => waiter.at === at)) this.#say(at, Status.TIMEOUT, 0, index);
          lock.queue = lock.queue.filter((waiter) => waiter.at !== at);
        }
        return null;
      case Kind.LEAVE:
        if (!this.session.presentOn(node).includes(rank)) return null;
        for (const lock of this.#locks) {
          for (const waiter of lock.queue) if (waiter.rank === rank) this.#say(waiter.at, Status.LEFT, 0, index);
          lock.queue = lock.queue.filter((waiter) => waiter.rank !== rank);
        }
        for (const sleeper of take((sleeper) => sleeper.rank === rank)) this.#say(sleeper.at, Status.LEFT, 0, index);
        return null;
      case Kind.FREE: {
        const block = this.blocks.find((block) => block.offset === offset);
        if (left) this.#say(at, Status.LEFT, 0, index);
        else this.#say(at, block === undefined ? Status.INVALID : Status.OK, 0, index);
        if (!left) this.blocks = this.blocks.filter((other) => other !== block);
        return null;
      }
      case Kind.ALLOC:
      case Kind.NAMED: {
        const name = bodyText(frame, HEADER_SIZE, length);
        const known = name === "" ? undefined : this.blocks.find((block) => block.name === name);
        if (left) {
          this.#say(at, Status.LEFT, 0, index);
        } else if (known !== undefined) {
          this.#say(at, known.size === offset ? Status.OK : Status.MISMATCH, known.offset, index);
        } else {
          const place = firstFit(this.blocks, offset, count);
          this.#say(at, place === null ? Status.NO_MEMORY : Status.OK, place ?? 0, index);
          if (place === null) return null;
          const block = { offset: place, size: offset, name };
          this.blocks.push(block);
          this.given += 1;
          this.wordsZeroed ||= place + offset > SIZE - WORDS;
          return block;
        }
        return null;
      }
      default:
        return null;
    }
  }

  /** The frame is the oldest one its sender has sent under this tag, byte for byte. */
  #checkSent(at: number, frame: Uint8Array): void {
    const sent = this.#expected.get(at)?.shift();
    const unstamped = frame.slice();
    unstamped.fill(0, 16, 24);
    // In direct mode the node has compared before it passes a sleep on.
    if (sent !== undefined && frame[4] === Kind.SLEEP && this.session.direct) sent[5] = 1;
    if (sent === undefined || Buffer.compare(sent, unstamped) !== 0) throw new Violation("an entry that nobody sent");
  }
}

/** The lowest aligned place that `size` bytes have between blocks: the map's first byte or one behind a block. */
function firstFit(blocks: readonly Block[], size: number, align: number): number | null {
  const places = [0, ...blocks.map(({ offset, size }) => Math.ceil((offset + size) / align) * align)];
  places.sort((a, b) => a - b);
  const fits = (place: number): boolean =>
    place + size <= SIZE && blocks.every((block) => place + size <= block.offset || block.offset + block.size <= place);
  return places.find(fits) ?? null;
}

interface PlainLock {
  name: string;
  owner: number;
  died: boolean;
  queue: { at: number; rank: number }[];
}

const plainLocks = (): PlainLock[] => LOCKS.map((name) => ({ name, owner: -1, died: false, queue: [] }));

/** Node and stamped tag as one number. */
const key = (node: number, tag: number): number => node * 2 ** 32 + tag;

/** The naive memory: what a frame does, byte by byte. Returns the value before an atomic operation. */
function execute(memory: Uint8Array, frame: Uint8Array): Uint8Array | null {
  const view = viewOf(frame);
  const offset = getUint64(view, 24);
  const length = view.getUint32(32, true);
  const body = frame.subarray(HEADER_SIZE);
  switch (view.getUint8(4)) {
    case Kind.STORE:
      for (let at = 0; at < length; at += 1) memory[offset + at] = body[at] as number;
      return null;
    case Kind.COPY:
      if (view.getUint8(5) === CopyOp.BEGIN) memory.fill(0);
      for (let run = 0; run < body.length; run += runSize(view, HEADER_SIZE + run)) {
        const to = runOffset(view, HEADER_SIZE + run);
        const bytes = runLength(view, HEADER_SIZE + run);
        for (let at = 0; at < bytes; at += 1) memory[to + at] = body[run + 8 + at] as number;
      }
      return null;
    case Kind.PUBLISH:
      for (let run = 0; run < body.length; run += runSize(view, HEADER_SIZE + run)) {
        const to = runOffset(view, HEADER_SIZE + run);
        if (!runIsMasked(view, HEADER_SIZE + run)) {
          const bytes = runLength(view, HEADER_SIZE + run);
          for (let at = 0; at < bytes; at += 1) memory[to + at] = body[run + 8 + at] as number;
          continue;
        }
        const words = runWords(view, HEADER_SIZE + run);
        let from = run + 8 + padded(words);
        for (let at = 0; at < 8 * words; at += 1) {
          if ((((body[run + 8 + (at >> 3)] as number) >> (at & 7)) & 1) === 0) continue;
          memory[to + at] = body[from] as number;
          from += 1;
        }
      }
      return null;
    case Kind.ATOMIC: {
      const old = new Uint8Array(16);
      old.set(memory.subarray(offset, offset + length));
      const equal = old.subarray(0, length).every((byte, at) => byte === body[16 + at]);
      let carry = view.getUint8(5) === AtomicOp.NEG ? 1 : 0;
      for (let at = 0; at < length; at += 1) {
        const before = old[at] as number;
        const operand = body[at] as number;
        let after = before;
        switch (view.getUint8(5)) {
          case AtomicOp.ADD:
            after = before + operand + carry;
            carry = after >> 8;
            break;
          case AtomicOp.NEG:
            after = (before ^ 0xff) + carry;
            carry = after >> 8;
            break;
          case AtomicOp.AND:
            after = before & operand;
            break;
          case AtomicOp.OR:
            after = before | operand;
            break;
          case AtomicOp.XOR:
            after = before ^ operand;
            break;
          case AtomicOp.XCHG:
            after = operand;
            break;
          case AtomicOp.CMPXCHG:
            after = equal ? operand : before;
        }
        memory[offset + at] = after & 0xff;
      }
      return old;
    }
    default:
      return null;
  }
}

const isPart = ({ frame }: Recorded): boolean => frame[4] === Kind.PUBLISH && frame[5] === 1;
const ownerOf = ({ frame }: Recorded): number => new DataView(frame.buffer, frame.byteOffset).getUint32(12, true);

/** How far in the order a node's replica is. */
class Position {
  readonly node: Node;
  /** Frames of the order it has applied; of a node that decides, the simulator sees to it. */
  index: number;
  readonly #order: Order;
  readonly #start: number;
  /** A node that came after stores were made has no bytes: no process can run there, before it got them. */
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
    const { ends, frames, versions, snapshots } = this.#order;
    for (; this.#given < frames.length; this.#given += 1) {
      const next = frames[this.#given] as Recorded;
      // It is not sent the parts that it has itself.
      if (isPart(next) && ownerOf(next) === this.node.number) this.#kept += next.frame.length;
      else if ((ends[this.#given + 1] as number) > this.#start + this.#received + this.#kept) break;
      if (next.frame[4] === Kind.COPY && next.frame[5] === CopyOp.BEGIN) this.#late = false;
    }
    for (this.index = this.#given; this.index > 0 && isPart(frames[this.index - 1] as Recorded); ) this.index -= 1;
    this.index = Math.max(this.index, this.#decided);
    if (!this.#late && Buffer.compare(this.node.memory, versions[this.index] as Uint8Array) !== 0) {
      throw new Violation(`the bytes of ${this.node.name} behind entry ${this.index} are wrong`);
    }
    const snapshot = snapshots.get(this.index);
    if (snapshot === undefined) return;
    const what = `the state of ${this.node.name} behind entry ${this.index}`;
    const state = this.node.replica?.session.snapshot();
    if (!this.#late) same(what, JSON.stringify(state), snapshot);
    // Without the bytes it cannot know who sleeps: it has nothing to compare with.
    else
      same(what, JSON.stringify({ ...state, sleepers: [] }), JSON.stringify({ ...JSON.parse(snapshot), sleepers: [] }));
  }
}
