/**
 * A session of the order `pipelined`: nodes whose processes queue stores in a ring, one step at a time, over connections
 * that deliver at random times in random pieces, while processes and nodes die, also in the middle of a store. Everything
 * follows from one seed. After every step it is checked, for each node, that
 *
 * - its map is what the order says as far as the node has applied it, and over it the stores of the node that are still
 *   under way, in the order in which they were queued;
 * - its stores come into the order as they were queued, each once, and whole; an entry has those of one process;
 * - what a process asks for comes after all that was queued on its node before;
 * - a fence is answered when all that was queued before it has been applied;
 * - the ring's room is given back when the entry has been applied;
 * - a page seen through a shadow is the node's page but for the hole.
 *
 * When nothing moves any more nothing is left in a ring, and all maps are the same.
 */
import { Status } from "../../src/core/errors.ts";
import { MapBytes } from "../../src/core/memory.ts";
import {
  AtomicOp,
  encode,
  type Frame,
  getUint64,
  HEADER_SIZE,
  Kind,
  NO_TAG,
  PublishOp,
  RING_START,
} from "../../src/core/protocol.ts";
import { Replica, type ReplicaOutput } from "../../src/core/replica.ts";
import { Ring, type RingLock } from "../../src/core/ring.ts";
import { Session, type SessionConfig } from "../../src/core/session.ts";
import { type Channel, Cluster, type Node, processHello, Violation } from "../support/core-cluster.ts";
import { publication, viewOf } from "../support/core-frames.ts";
import { Random } from "../support/core-random.ts";
import { emptyRing, RingWriter, type Step } from "../support/core-ring-writer.ts";
import { showFrame, type Trace } from "../support/core-trace.ts";

/** One page. */
const SIZE = 4096;
/** Who holds a lock when no process does. */
const ARBITER = 0xffff;
const SNAPSHOT_EVERY = 16;
const NO_EFFECTS = { watching: false, wrote() {}, complete() {}, ranked() {}, gone() {}, ended() {} };

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
  doorbells: number;
}

type RingParts = [bytes: Uint8Array, lock: RingLock];

/** Broken parts, to see whether the simulator notices. */
export interface SimulatorOptions {
  makeReplica?: (...args: ConstructorParameters<typeof Replica>) => Replica;
  makeRing?: (...parts: RingParts) => Ring;
  /** Is told of every step. */
  trace?: Trace;
}

type Runs = readonly (readonly [number, Uint8Array])[];

interface Queued {
  rank: number;
  runs: Runs;
  /** The ring's tail behind it. */
  end: number;
}

interface Place {
  node: Node;
  ring: Uint8Array;
  words: RingWriter;
  queued: Queued[];
  /** Of these: found in the order, and applied on the node. */
  ordered: number;
  applied: number;
  /** The order as far as the node has been given it. */
  session: Session;
  memory: Uint8Array;
  entries: number;
  received: number;
  /** Of the entry that has not all of its parts. */
  parts: DataView[];
  watching: boolean;
  dirty: boolean;
}

interface Process {
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
}

interface Request {
  kind: Kind;
  op: number;
  /** Stores queued on the node before. */
  after: number;
  hole?: Process["hole"];
  parts?: Frame[];
}

export function simulate(seed: number, options: SimulatorOptions = {}): Report {
  return new Simulator(seed, options).run();
}

class Simulator {
  readonly #random: Random;
  readonly #options: SimulatorOptions;
  readonly #cluster: Cluster;
  readonly #config: SessionConfig;
  readonly #places = new Map<Node, Place>();
  readonly #processes: Process[] = [];
  readonly #entries: Uint8Array[] = [];
  /** How many queued stores an entry has. */
  readonly #stores = new Map<Uint8Array, number>();
  /** What is in the order so far, and the value before each atomic operation, by its place. */
  readonly #order: Session;
  readonly #olds = new Map<number, Uint8Array>();
  readonly #asked = new Map<string, number>();
  readonly #losses: boolean;
  /** Large stores, which go round the ring. */
  readonly #heavy: boolean;
  readonly #holes: boolean;
  readonly #expected = new Uint8Array(SIZE);
  readonly #blocks = [0];
  #held = false;
  #tag = 0;
  readonly #report: Report = {
    entries: 0,
    queued: 0,
    full: 0,
    together: 0,
    shadowed: 0,
    broken: 0,
    redone: 0,
    fences: 0,
    doorbells: 0,
  };

  constructor(seed: number, options: SimulatorOptions) {
    const random = new Random(seed);
    this.#random = random;
    this.#options = options;
    this.#losses = random.oneIn(2);
    this.#heavy = random.oneIn(12);
    this.#holes = random.oneIn(3);
    this.#config = {
      name: "simulated",
      instance: "0",
      processes: random.between(2, 6),
      size: SIZE,
      base: 0x2000_0000_0000,
      order: "pipelined",
      onLoss: "fail",
    };
    this.#order = this.#newSession(new Uint8Array(SIZE));
    this.#cluster = new Cluster(this.#config, {
      ...(options.trace && { trace: options.trace }),
      onEntry: (bytes) => this.#announced(bytes),
      makeReplica: (...args) => this.#makeReplica(args),
      ring: (node) => this.#makeRing(node),
      lend: (channel) => this.#processes.find((process) => process.channel === channel) ?? null,
    });
  }

  #newSession(memory: Uint8Array): Session {
    return new Session(this.#config, new MapBytes(memory), NO_EFFECTS);
  }

  run(): Report {
    const random = this.#random;
    const nodes = Array.from({ length: random.between(1, 3) }, (_, i) => this.#cluster.node(`node${i + 1}`));
    this.#drain();
    for (let pid = 1; pid <= this.#config.processes; pid += 1) this.#join(pid, random.pick(nodes));
    this.#drain();
    const few = random.oneIn(12) ? random.between(500, 900) : random.between(100, 400);
    const steps = this.#heavy ? 1800 : few;
    for (let step = 0; step < steps; step += 1) {
      this.#say(`-- step ${step}`);
      this.#step();
      this.#check(step % 16 === 0);
    }
    this.#finish();
    this.#report.entries = this.#order.seq;
    return this.#report;
  }

  #say(line: string): void {
    this.#options.trace?.(line);
  }

  // --- The parts -------------------------------------------------------------------------------------------------

  #makeRing(node: Node): Ring {
    const bytes = emptyRing();
    const memory = new Uint8Array(SIZE);
    const words = new RingWriter(bytes, node.memory, ARBITER);
    this.#places.set(node, {
      node,
      ring: bytes,
      words,
      queued: [],
      ordered: 0,
      applied: 0,
      session: this.#newSession(memory),
      memory,
      entries: 0,
      received: 0,
      parts: [],
      watching: false,
      dirty: true,
    });
    node.onEvent = (event) => {
      if (event !== "lost") return;
      if (node.fault !== null) throw new Violation(`${node.name}: ${node.fault}`);
      for (const process of this.#processes) if (process.place.node === node) process.state = "dead";
    };
    const lock: RingLock = {
      acquire: () => this.#acquire(words),
      release: () => {
        if (words.owner !== ARBITER) throw new Violation("the arbiter gives back a lock that it has not");
        words.owner = 0;
      },
    };
    const make = this.#options.makeRing ?? ((...parts: RingParts) => new Ring(...parts));
    return make(bytes, lock);
  }

  /** A process that lives goes on until it gives the lock away. */
  #acquire(words: RingWriter): boolean {
    const owner = words.owner === 0 ? null : this.#byPid(words.owner);
    if (owner !== null && owner.state !== "dead") {
      while (words.owner === owner.pid) this.#advance(owner);
    }
    const broken = words.owner !== 0;
    if (broken) this.#say(`the arbiter takes the lock of process ${words.owner}, which died before ${owner?.step}`);
    if (broken) this.#report.broken += 1;
    if (broken && (owner?.step === "queued" || owner?.step === "half")) this.#report.redone += 1;
    words.owner = ARBITER;
    return broken;
  }

  #makeReplica(args: ConstructorParameters<typeof Replica>): Replica {
    const out = args[5];
    const checked: ReplicaOutput = {
      ...out,
      reply: (channel, bytes) => {
        this.#answering(channel, bytes, args[3]);
        out.reply(channel, bytes);
      },
    };
    args[5] = checked;
    return (this.#options.makeReplica ?? ((...same) => new Replica(...same)))(...args);
  }

  #byPid(pid: number): Process {
    const process = this.#processes.find((one) => one.pid === pid);
    if (process === undefined) throw new Violation(`there is no process ${pid}`);
    return process;
  }

  // --- Steps -----------------------------------------------------------------------------------------------------

  #step(): void {
    const random = this.#random;
    if (this.#losses && random.oneIn(250)) this.#kill();
    if (this.#losses && random.oneIn(1200)) {
      const up = [...this.#places.values()].filter(({ node }) => !node.lost);
      if (up.length > 1) {
        const { node } = random.pick(up);
        this.#say(`${node.name} dies`);
        node.lose(random.below(200));
      }
    }
    const choice = random.below(10);
    // Until a ring is full the network has to stand still for a while.
    if (this.#heavy && random.oneIn(400)) this.#held = !this.#held;
    if (choice < 4 && !this.#held && this.#deliver()) return;
    if (choice === 4) {
      const watching = [...this.#places.values()].filter(({ watching, node }) => watching && !node.lost);
      if (watching.length > 0) {
        this.#look(random.pick(watching), random.oneIn(2));
        return;
      }
    }
    const running = this.#processes.filter(({ state }) => state === "running");
    if (running.length > 0) this.#act(random.pick(running));
  }

  #deliver(): boolean {
    const busy = this.#cluster.pipes.filter((pipe) => pipe.busy);
    if (busy.length === 0) return false;
    this.#random
      .pick(busy)
      .deliver(this.#random.pick([1, 40, 100, 1000, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]));
    this.#settle();
    return true;
  }

  /** After every event the arbiter looks whether it is to watch its ring. */
  #settle(): void {
    for (const place of this.#places.values()) {
      if (!place.node.lost && place.node.replica?.awake === true) place.watching = true;
    }
  }

  #look(place: Place, sleep: boolean): void {
    place.node.replica?.takeQueued();
    if (sleep && place.node.replica?.sleep() === true) place.watching = false;
  }

  #join(pid: number, node: Node): void {
    const place = this.#places.get(node) as Place;
    const channel = node.connect(
      `${pid}`,
      (frame) => this.#hears(process, frame),
      () => {
        if (process.state === "running") throw new Violation("a running process is cut off");
      },
    );
    const process: Process = {
      pid,
      rank: -1,
      place,
      channel,
      state: "joining",
      steps: null,
      step: null,
      runs: [],
      request: null,
      shadow: new Uint8Array(SIZE),
      lent: false,
      hole: null,
    };
    this.#processes.push(process);
    channel.up.push(processHello("simulated", pid, { noDirect: true, order: "pipelined" }));
  }

  #kill(): void {
    const running = this.#processes.filter(({ state }) => state === "running");
    if (running.length === 0) return;
    // Preferably whoever has a lock.
    const owners = running.filter(({ pid, place }) => place.words.owner === pid);
    const process = this.#random.pick(owners.length > 0 ? owners : running);
    this.#say(`process ${process.pid} dies before ${process.step ?? "its next step"}`);
    process.state = "dead";
    process.channel.up.end();
  }

  #act(process: Process): void {
    const random = this.#random;
    if (process.steps !== null && !random.oneIn(6)) {
      for (let steps = random.between(1, 9); steps > 0 && process.steps !== null; steps -= 1) this.#advance(process);
      return;
    }
    const { request } = process;
    if (request !== null) {
      if (request.parts !== undefined && request.parts.length > 0) {
        this.#send(process, request.parts.shift() as Frame, request);
      } else if (request.kind === Kind.SLEEP && random.oneIn(10)) {
        process.channel.up.push(encode({ kind: Kind.SEM_CANCEL, tag: request.op }));
      }
      if (process.steps !== null || !(this.#held || random.oneIn(3))) return;
    }
    // Another thread may store while one waits.
    if (request !== null || this.#held || random.below(100) < 62) {
      if (process.steps === null) this.#store(process);
      return;
    }
    this.#ask(process);
  }

  #offset(length: number): number {
    const random = this.#random;
    return Math.min(
      random.pick([random.below(24), 56 + random.below(16), SIZE / 2 - 8 + random.below(16)]),
      SIZE - length,
    );
  }

  #runs(): Runs {
    const random = this.#random;
    if (this.#heavy && !random.oneIn(3)) {
      return [[0, new Uint8Array(random.between((SIZE * 7) / 8, SIZE)).fill(random.below(256))]];
    }
    return Array.from({ length: random.pick([1, 1, 1, 2, 3]) }, () => {
      const length = random.pick([1, 2, 4, 8, 8, 3, 16, 64, 100]);
      return [this.#offset(length), random.bytes(length)] as const;
    });
  }

  #store(process: Process): void {
    const { place } = process;
    const writer = new RingWriter(place.ring, place.node.memory, process.pid, () => {
      this.#report.doorbells += 1;
      process.channel.up.push(encode({ kind: Kind.DOORBELL }));
    });
    process.runs = this.#runs();
    process.steps = writer.steps(process.rank, process.runs);
    process.step = null;
  }

  /** One step of a store. */
  #advance(process: Process): void {
    const { place } = process;
    const { done, value } = (process.steps as Generator<Step, "queued" | "shadowed">).next();
    place.dirty = true;
    if (done) {
      process.steps = null;
      process.step = null;
      if (value !== "shadowed") return;
      this.#report.shadowed += 1;
      // Asked for instead, as session.c does. A thread that has something else under way does it on its own channel.
      if (process.request === null) this.#askStore(process, process.runs);
      return;
    }
    process.step = value as Step;
    this.#say(`process ${process.pid}, before ${value}, stores ${showRuns(process.runs)}`);
    if (value === "full") this.#report.full += 1;
    if (value !== "queued") return;
    this.#report.queued += 1;
    place.queued.push({ rank: process.rank, runs: process.runs, end: place.words.tail });
  }

  #askStore(process: Process, runs: Runs): void {
    const [offset, body] = runs[0] as readonly [number, Uint8Array];
    this.#request(process, runs.length === 1 ? { kind: Kind.STORE, offset, body } : publication(runs));
  }

  #ask(process: Process): void {
    const random = this.#random;
    const width = random.pick([1, 2, 4, 8]);
    const offset = this.#offset(width);
    const seen = process.place.node.memory.slice(offset, offset + width);
    switch (random.below(11)) {
      case 0:
      case 1:
        this.#request(process, { kind: Kind.FENCE });
        return;
      case 2:
      case 3: {
        const body = random.bytes(32);
        if (random.oneIn(2)) body.set(seen, 16);
        this.#request(process, {
          kind: Kind.ATOMIC,
          op: random.pick(Object.values(AtomicOp)),
          length: width,
          offset,
          body,
        });
        return;
      }
      case 4: {
        const frames: Frame[] = [];
        for (let more = random.below(3); more >= 0; more -= 1) {
          frames.push(publication(this.#runs(), { op: more > 0 ? PublishOp.MORE : PublishOp.LAST }));
        }
        this.#request(process, frames.shift() as Frame, { parts: frames });
        return;
      }
      case 5: {
        const body = new Uint8Array(8);
        body.set(random.oneIn(4) ? random.bytes(width) : seen);
        this.#request(process, { kind: Kind.SLEEP, offset, length: width, body });
        return;
      }
      case 6:
        this.#request(process, { kind: Kind.WAKE, offset, aux: 0xffffffff });
        return;
      case 7:
        this.#request(process, { kind: Kind.ALLOC, offset: random.pick([8, 24, 100]), aux: random.pick([1, 8, 64]) });
        return;
      case 8:
        this.#request(process, { kind: Kind.FREE, offset: random.pick(this.#blocks) });
        return;
      case 9:
        if (this.#holes) this.#dig(process);
        return;
      default:
        if (random.oneIn(12) && process.steps === null && process.hole === null) {
          this.#request(process, { kind: Kind.LEAVE });
          process.state = "going";
        }
    }
  }

  /** A page that a hole covers in part: seen as a copy, until it is filled. */
  #dig(process: Process): void {
    const random = this.#random;
    const { hole } = process;
    if (hole !== null) {
      process.hole = null;
      this.#request(process, { kind: Kind.UNSHADOW, offset: 0, length: hole.to - hole.from, aux: hole.from });
      return;
    }
    if (!process.lent) {
      process.lent = true;
      this.#request(process, { kind: Kind.MEMORY });
      return;
    }
    const from = random.below(80);
    const to = from + random.between(1, 60);
    const frame = { kind: Kind.SHADOW, offset: 0, length: to - from, aux: from };
    this.#request(process, frame, { hole: { from, to } });
  }

  #request(process: Process, frame: Frame, more: Partial<Request> = {}): void {
    this.#tag = (this.#tag + 1) & 0xffff;
    const request = { kind: frame.kind, op: this.#tag, after: 0, ...more };
    process.request = request;
    this.#send(process, frame, request);
  }

  #send(process: Process, frame: Frame, request: Request): void {
    this.#options.trace?.(`process ${process.pid} asks: ${showFrame(encode({ ...frame, tag: request.op }))}`);
    const { place, channel } = process;
    request.after = place.queued.length;
    this.#asked.set(`${place.node.number} ${((channel.index << 16) | request.op) >>> 0}`, request.after);
    channel.up.push(encode({ ...frame, tag: request.op }));
  }

  // --- What is seen ----------------------------------------------------------------------------------------------

  /** The server gives an entry its place. */
  #announced(bytes: Uint8Array): void {
    const frame = bytes.slice();
    const view = viewOf(frame);
    const kind = view.getUint8(4);
    const tag = view.getUint32(8, true);
    const number = view.getUint32(12, true);
    this.#options.trace?.(`the server orders ${showFrame(frame)}`);
    const place = [...this.#places.values()].find(({ node }) => node.number === number);
    if (place === undefined) throw new Violation("an entry of a node that is not there");
    if (tag === NO_TAG && (kind === Kind.STORE || kind === Kind.PUBLISH)) {
      this.#stores.set(frame, this.#orderedStores(place, frame));
    } else {
      const after = this.#asked.get(`${number} ${tag}`);
      if (after !== undefined && place.ordered < after) throw new Violation("a request comes before an earlier store");
    }
    this.#entries.push(frame);
    this.#order.apply(view, 0);
    if (kind === Kind.ATOMIC) this.#olds.set(this.#order.seq, new Uint8Array(this.#order.old.buffer.slice(0)));
  }

  /** Of how many stores the entry is, which are to be the next that were queued on its node. */
  #orderedStores(place: Place, frame: Uint8Array): number {
    const rank = viewOf(frame).getUint16(6, true);
    const runs: (readonly [number, Uint8Array])[] = [];
    const first = place.ordered;
    // As many as would make an entry of that size.
    let stores: Frame = { kind: Kind.STORE };
    do {
      const queued = place.queued[place.ordered];
      if (queued === undefined) throw new Violation("an entry that nobody has queued");
      if (queued.rank !== rank) throw new Violation("an entry with a store of another process");
      place.ordered += 1;
      runs.push(...queued.runs);
      const [offset, body] = runs[0] as readonly [number, Uint8Array];
      stores = runs.length === 1 ? { kind: Kind.STORE, offset, body } : publication(runs);
    } while (encode(stores).length < frame.length);
    const expected = encode(stores);
    if (Buffer.compare(frame.subarray(24), expected.subarray(24)) !== 0 || frame[4] !== expected[4]) {
      throw new Violation("an entry is not what was queued next");
    }
    const count = place.ordered - first;
    if (count > 1) this.#report.together += 1;
    return count;
  }

  /** Follows the order as far as the node has been given it. */
  #follow(place: Place): void {
    const { node } = place;
    while (place.received < node.received) {
      const frame = this.#entries[place.entries];
      if (frame === undefined) throw new Violation(`${node.name} has entries that the server has not`);
      const view = viewOf(frame);
      const kind = view.getUint8(4);
      const isPart = kind === Kind.PUBLISH && view.getUint8(5) === PublishOp.MORE;
      place.entries += 1;
      // It is not sent the parts that it has itself.
      if (!isPart || view.getUint32(12, true) !== node.number) place.received += frame.length;
      place.parts.push(view);
      // An entry in parts is applied with its last.
      if (isPart) continue;
      for (const part of place.parts.splice(0)) place.session.apply(part, 0);
      place.dirty = true;
      if (view.getUint32(12, true) === node.number) place.applied += this.#stores.get(frame) ?? 0;
    }
  }

  #check(all: boolean): void {
    for (const place of this.#places.values()) {
      if (place.node.lost) continue;
      this.#follow(place);
      if (!all && !place.dirty) continue;
      place.dirty = false;
      this.#checkPlace(place);
    }
  }

  #checkPlace({ node, words, queued, applied, memory, session, entries }: Place): void {
    const owner = this.#processes.find(({ pid }) => pid === words.owner);
    const half = owner?.step === "queued" || owner?.step === "half";
    const expected = this.#expected;
    expected.set(memory);
    for (let i = applied; i < queued.length; i += 1) {
      for (const [offset, bytes] of (queued[i] as Queued).runs) expected.set(bytes, offset);
    }
    // Of a store that is being made some bytes are there and some not.
    if (half) {
      for (const [offset, bytes] of owner.runs) {
        expected.set(node.memory.subarray(offset, offset + bytes.length), offset);
      }
    }
    if (Buffer.compare(node.memory, expected) !== 0) {
      const at = expected.findIndex((byte, i) => node.memory[i] !== byte);
      throw new Violation(`${node.name} behind ${session.seq}: byte ${at} of the map is wrong`);
    }
    const head = applied === 0 ? RING_START : (queued[applied - 1] as Queued).end;
    if (words.head !== head) throw new Violation(`${node.name}: room is given back too early or too late`);
    if (entries % SNAPSHOT_EVERY === 0) {
      const state = JSON.stringify(node.replica?.session.snapshot());
      if (state !== JSON.stringify(session.snapshot())) throw new Violation(`${node.name}: another state`);
    }
    for (const { place, hole, shadow, state } of this.#processes) {
      if (place.node !== node || hole === null || state === "dead") continue;
      for (let at = 0; at < SIZE; at += 1) {
        if ((at < hole.from || at >= hole.to) && shadow[at] !== node.memory[at]) {
          throw new Violation(`${node.name}: byte ${at} of a shadow is wrong`);
        }
      }
    }
  }

  /** The arbiter of a node answers, and may not have taken the next entry into account. */
  #answering(channel: number, bytes: Uint8Array, memory: Uint8Array): void {
    const place = [...this.#places.values()].find(({ node }) => node.memory === memory) as Place;
    const process = this.#processes.find((one) => one.place === place && one.channel.index === channel);
    if (process?.request?.kind !== Kind.FENCE || bytes[4] !== Kind.REPLY) return;
    this.#follow(place);
    if (bytes[5] === Status.OK && place.applied < process.request.after) {
      throw new Violation("a fence is answered before all that was queued before it is applied");
    }
  }

  #hears(process: Process, frame: Uint8Array): void {
    if (process.state === "dead") return;
    const view = viewOf(frame);
    this.#options.trace?.(`process ${process.pid} hears: ${showFrame(frame)}`);
    if (view.getUint8(4) !== Kind.REPLY) throw new Violation(`a process is told ${new TextDecoder().decode(frame)}`);
    const status = view.getUint8(5);
    if (process.state === "joining") {
      if (status !== Status.OK) throw new Violation("a process may not join");
      process.rank = view.getUint32(36, true);
      process.state = "running";
      return;
    }
    const { request } = process;
    if (request === null || request.op !== view.getUint32(8, true)) throw new Violation("an answer to nothing");
    process.request = null;
    if (request.kind === Kind.ATOMIC) {
      const old = this.#olds.get(getUint64(view, 16));
      if (old === undefined || Buffer.compare(old, frame.subarray(HEADER_SIZE, HEADER_SIZE + 16)) !== 0) {
        throw new Violation("the value before an atomic operation is wrong");
      }
    }
    if (request.kind === Kind.ALLOC && status === Status.OK) this.#blocks.push(getUint64(view, 24));
    if (request.kind === Kind.FENCE) this.#report.fences += 1;
    if (request.kind === Kind.SHADOW) process.hole = request.hole ?? null;
    if (request.kind === Kind.LEAVE) process.state = "left";
  }

  // --- The end ---------------------------------------------------------------------------------------------------

  #drain(): void {
    for (let moved = true; moved; ) {
      moved = false;
      while (this.#deliver()) moved = true;
      for (const place of this.#places.values()) {
        if (!place.watching || place.node.lost) continue;
        this.#look(place, true);
        moved = true;
      }
    }
    this.#cluster.pipes = this.#cluster.pipes.filter((pipe) => pipe.open);
  }

  /** All go to the end of what they are doing; then nothing moves, and nothing may be left. */
  #finish(): void {
    for (let round = 0; this.#processes.some((one) => one.state === "running" && one.steps !== null); round += 1) {
      if (round > 1000) throw new Violation("a store never ends");
      for (const process of this.#processes) {
        for (let steps = 0; process.state === "running" && process.steps !== null && steps < 40; steps += 1) {
          this.#advance(process);
        }
      }
      this.#drain();
      this.#check(true);
    }
    this.#drain();
    this.#check(true);
    for (const { state, request } of this.#processes) {
      if (state !== "running" || request === null || (request.parts?.length ?? 0) > 0) continue;
      if (request.kind !== Kind.SLEEP) throw new Violation(`a request of kind ${request.kind} has no answer`);
    }
    for (const { node, queued, ordered, memory } of this.#places.values()) {
      if (node.lost || node.done) continue;
      if (ordered !== queued.length) throw new Violation(`${node.name} leaves stores in its ring`);
      if (Buffer.compare(node.memory, memory) !== 0) throw new Violation(`${node.name} ends with another map`);
      if (Buffer.compare(node.memory, this.#cluster.memory) !== 0) throw new Violation("two maps end different");
    }
  }
}

const showRuns = (runs: Runs): string => runs.map(([offset, { length }]) => `${length} bytes at ${offset}`).join(", ");
