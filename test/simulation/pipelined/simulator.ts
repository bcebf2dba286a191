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

import { Status } from "../../../src/core/base/errors.ts";
import { Replica } from "../../../src/core/replica/replica.ts";
import type { ReplicaOutput } from "../../../src/core/replica/replica-output.ts";
import { Ring, type RingLock } from "../../../src/core/replica/store-ring.ts";
import { At, ReplyAt } from "../../../src/core/wire/at.ts";
import { encode, type Frame } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Cluster, type Node, processHello, Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import { Random } from "../../support/core-random.ts";
import { emptyRing, RingWriter, type Step } from "../../support/core-ring-writer.ts";
import { showFrame } from "../../support/core-trace.ts";
import { act, someRuns, store } from "./actors.ts";
import { checkEnd, checkFence, checkPlace } from "./checks.ts";
import { Gate, guardedStore, leaveByCell, noteStored, passGate } from "./gate.ts";
import { PipelinedOrder } from "./order.ts";
import {
  makePlan,
  type Place,
  type Process,
  type Report,
  type RingParts,
  type Runs,
  SIZE,
  type SimulatorOptions,
  send,
  type World,
} from "./world.ts";

/** Who holds a lock when no process does. */
const ARBITER = 0xffff;

/** Bytes that a connection delivers at once. */
const PIECES = [1, 40, 100, 1000, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
const LARGE_PIECES = [40, ...Array.from({ length: 5 }, () => Number.POSITIVE_INFINITY)];

export type { Report, SimulatorOptions } from "./world.ts";

export function simulate(seed: number, options: SimulatorOptions = {}): Report {
  return new Simulator(new Random(seed), options).run();
}

class Simulator {
  readonly #world: World;
  readonly #options: SimulatorOptions;
  /** The network stands still. */
  #held = false;

  constructor(random: Random, options: SimulatorOptions) {
    this.#options = options;
    const plan = makePlan(random);
    const report: Report = {
      ...{ entries: 0, queued: 0, full: 0, together: 0, shadowed: 0 },
      ...{ broken: 0, redone: 0, fences: 0, doorbells: 0, leased: 0 },
    };
    const order = new PipelinedOrder(plan.config, report);
    const trace = options.trace ?? null;
    const places = new Map<Node, Place>();
    const processes: Process[] = [];
    const cluster = new Cluster(plan.config, {
      ...(trace && { trace }),
      onEntry: (bytes) => {
        trace?.(`the server orders ${showFrame(bytes)}`);
        order.announce(bytes, places.values());
      },
      makeReplica: (...args) => this.#makeReplica(args),
      ring: (node) => this.#makeRing(node),
      lend: (channel) => processes.find((process) => process.channel === channel) ?? null,
    });
    this.#world = {
      random,
      plan,
      trace,
      cluster,
      order,
      places,
      processes,
      report,
      blocks: [0],
      nextTag: 0,
      gate: new Gate(),
    };
  }

  run(): Report {
    const { random, plan, cluster, trace, report, order } = this.#world;
    const nodes = Array.from({ length: plan.gated ? 2 : random.between(1, 3) }, (_, i) => cluster.node(`node${i + 1}`));
    this.#drain();
    for (let pid = 1; pid <= plan.config.processes; pid += 1) this.#join(pid, random.pick(nodes));
    this.#drain();
    const few = random.oneIn(12) ? random.between(500, 900) : random.between(100, 400);
    const steps = plan.heavy ? 1800 : plan.gated ? 600 + few : few;
    for (let step = 0; step < steps; step += 1) {
      trace?.(`-- step ${step}`);
      this.#step();
      this.#check(step % 16 === 0);
    }
    this.#finish();
    report.entries = order.seq;
    return report;
  }

  // --- The parts -------------------------------------------------------------------------------------------------

  #makeRing(node: Node): Ring {
    const bytes = emptyRing();
    const memory = new Uint8Array(SIZE);
    const words = new RingWriter(bytes, node.memory, ARBITER);
    this.#world.places.set(node, {
      node,
      ring: bytes,
      words,
      queued: [],
      ordered: 0,
      applied: 0,
      session: this.#world.order.newSession(memory),
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
      for (const process of this.#world.processes) if (process.place.node === node) process.state = "dead";
    };
    const lock: RingLock = {
      acquire: () => this.#acquire(words),
      release: () => {
        if (words.owner !== ARBITER) throw new Violation("the arbiter gives back a lock that it has not");
        words.owner = 0;
        this.#goOn(node);
      },
    };
    const make = this.#options.makeRing ?? ((...parts: RingParts) => new Ring(...parts));
    return make(bytes, lock);
  }

  /** While the arbiter is at work, a process of its node that has the gate stores, and leaves it. */
  #goOn(node: Node): void {
    const { gate, random } = this.#world;
    const { owner } = gate;
    if (owner?.place.node !== node || owner.state !== "running" || !random.oneIn(2)) return;
    if (owner.steps === null && owner.request === null) this.#store(owner);
    for (let steps = 0; owner.steps !== null && steps < 40; steps += 1) this.#advance(owner);
    if (owner.steps === null) leaveByCell(this.#world, owner);
  }

  /** A process that lives goes on until it gives the lock away. */
  #acquire(words: RingWriter): boolean {
    const owner = words.owner === 0 ? null : this.#byPid(words.owner);
    if (owner !== null && owner.state !== "dead") {
      while (words.owner === owner.pid) this.#advance(owner);
    }
    const broken = words.owner !== 0;
    if (broken)
      this.#world.trace?.(`the arbiter takes the lock of process ${words.owner}, which died before ${owner?.step}`);
    if (broken) this.#world.report.broken += 1;
    if (broken && (owner?.step === "queued" || owner?.step === "half")) this.#world.report.redone += 1;
    words.owner = ARBITER;
    return broken;
  }

  #makeReplica(args: ConstructorParameters<typeof Replica>): Replica {
    const [welcome, out, options] = args;
    const checked: ReplicaOutput = {
      ...out,
      reply: (channel, bytes) => {
        checkFence(this.#world, channel, bytes, options.memory);
        out.reply(channel, bytes);
      },
    };
    return (this.#options.makeReplica ?? ((...same) => new Replica(...same)))(welcome, checked, options);
  }

  #byPid(pid: number): Process {
    const process = this.#world.processes.find((one) => one.pid === pid);
    if (process === undefined) throw new Violation(`there is no process ${pid}`);
    return process;
  }

  // --- Steps -----------------------------------------------------------------------------------------------------

  #step(): void {
    const random = this.#world.random;
    if (this.#world.plan.losses && random.oneIn(250)) this.#kill();
    if (this.#world.plan.losses && random.oneIn(1200)) {
      const up = [...this.#world.places.values()].filter(({ node }) => !node.lost);
      if (up.length > 1) {
        const { node } = random.pick(up);
        this.#world.trace?.(`${node.name} dies`);
        node.lose(random.below(200));
      }
    }
    const choice = random.below(10);
    // Until a ring is full the network has to stand still for a while.
    if (this.#world.plan.heavy && random.oneIn(400)) this.#held = !this.#held;
    if (choice < (this.#world.plan.gated ? 7 : 4) && !this.#held && this.#deliver()) return;
    if (choice === (this.#world.plan.gated ? 8 : 4)) {
      const watching = [...this.#world.places.values()].filter(({ watching, node }) => watching && !node.lost);
      if (watching.length > 0) {
        this.#look(random.pick(watching), random.oneIn(2));
        return;
      }
    }
    const running = this.#world.processes.filter(({ state }) => state === "running");
    if (running.length > 0) this.#act(random.pick(running));
  }

  #deliver(): boolean {
    const busy = this.#world.cluster.pipes.filter((pipe) => pipe.busy);
    if (busy.length === 0) return false;
    const { random, plan } = this.#world;
    random.pick(busy).deliver(random.pick(plan.gated ? LARGE_PIECES : PIECES));
    this.#settle();
    return true;
  }

  /** After every event the arbiter looks whether it is to watch its ring. */
  #settle(): void {
    for (const place of this.#world.places.values()) {
      if (!place.node.lost && place.node.replica?.isAwake === true) place.watching = true;
    }
  }

  #look(place: Place, sleep: boolean): void {
    place.node.replica?.drainQueue();
    if (sleep && place.node.replica?.sleep() === true) place.watching = false;
  }

  #join(pid: number, node: Node): void {
    const place = this.#world.places.get(node) as Place;
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
    this.#world.processes.push(process);
    channel.up.push(processHello("simulated", pid, { noDirect: true, order: "pipelined" }));
  }

  #kill(): void {
    const running = this.#world.processes.filter(({ state }) => state === "running");
    if (running.length === 0) return;
    // Preferably one that has a lock.
    const owners = running.filter(({ pid, place }) => place.words.owner === pid);
    const { random } = this.#world;
    const process = random.pick(owners.length > 0 ? owners : running);
    // Or it gets one now, behind which the ring may hold only what was there long before.
    if (process.steps === null && process.place.words.owner === 0) {
      this.#store(process);
      for (let steps = random.between(1, 3); steps > 0 && process.steps !== null; steps -= 1) this.#advance(process);
    }
    this.#world.trace?.(`process ${process.pid} dies before ${process.step ?? "its next step"}`);
    process.state = "dead";
    process.channel.up.end();
  }

  #act(process: Process): void {
    const random = this.#world.random;
    if (process.steps !== null && !random.oneIn(6)) {
      for (let steps = random.between(1, 9); steps > 0 && process.steps !== null; steps -= 1) this.#advance(process);
      return;
    }
    const { request } = process;
    if (request !== null) {
      if (request.parts !== undefined && request.parts.length > 0) {
        send(this.#world, process, request.parts.shift() as Frame, request);
      } else if (request.sleeps === true && random.oneIn(10)) {
        process.channel.up.push(encode({ kind: Kind.SEM_CANCEL, tag: request.tag }));
      }
      if (process.steps !== null || !(this.#held || random.oneIn(3))) return;
    }
    // Another thread may store while one waits.
    if (request !== null || this.#held || random.below(100) < (this.#world.plan.gated ? 15 : 62)) {
      if (process.steps === null) this.#store(process);
      return;
    }
    act(this.#world, process);
  }

  #store(process: Process): void {
    const { place } = process;
    const writer = new RingWriter(place.ring, place.node.memory, process.pid, () => {
      this.#world.report.doorbells += 1;
      process.channel.up.push(encode({ kind: Kind.DOORBELL }));
    });
    process.runs = guardedStore(this.#world, process) ?? someRuns(this.#world);
    process.steps = writer.steps(process.rank, process.runs);
    process.step = null;
  }

  /** One step of a store. */
  #advance(process: Process): void {
    const { place } = process;
    const { runs } = process;
    const { done, value } = (process.steps as Generator<Step, "queued" | "shadowed">).next();
    place.dirty = true;
    if (done) {
      process.steps = null;
      process.step = null;
      if (value === "shadowed") this.#shadowed(process);
      else noteStored(this.#world, process, runs, true);
      return;
    }
    process.step = value as Step;
    this.#world.trace?.(`process ${process.pid}, before ${value}, stores ${showRuns(process.runs)}`);
    if (value === "full") this.#world.report.full += 1;
    if (value !== "queued") return;
    this.#world.report.queued += 1;
    place.queued.push({ rank: process.rank, runs: process.runs, end: place.words.tail });
  }

  /** Asked for instead, as arbiter_link.c does. A thread that has something else under way does it on its own channel. */
  #shadowed(process: Process): void {
    const world = this.#world;
    world.report.shadowed += 1;
    // Until the answer comes it may store something else.
    const { runs } = process;
    if (process.request === null) store(world, process, runs, () => noteStored(world, process, runs, true));
    else noteStored(world, process, runs, false);
  }

  // --- What is seen ----------------------------------------------------------------------------------------------

  #check(all: boolean): void {
    for (const place of this.#world.places.values()) {
      if (place.node.lost) continue;
      this.#world.order.follow(place);
      if (!all && !place.dirty) continue;
      place.dirty = false;
      checkPlace(place, this.#world.processes);
    }
  }

  #hears(process: Process, frame: Uint8Array): void {
    if (process.state === "dead") return;
    const view = viewOf(frame);
    this.#world.trace?.(`process ${process.pid} hears: ${showFrame(frame)}`);
    if (view.getUint8(At.kind) !== Kind.REPLY)
      throw new Violation(`a process is told ${new TextDecoder().decode(frame)}`);
    const status = view.getUint8(ReplyAt.status);
    if (process.state === "joining") {
      if (status !== Status.OK) throw new Violation("a process may not join");
      process.rank = view.getUint32(ReplyAt.relatedRank, true);
      process.state = "running";
      return;
    }
    const { request } = process;
    if (request === null || request.tag !== view.getUint32(At.tag, true)) throw new Violation("an answer to nothing");
    process.request = null;
    request.answered?.(status, view);
  }

  // --- The end ---------------------------------------------------------------------------------------------------

  #drain(): void {
    for (let moved = true; moved; ) {
      moved = false;
      while (this.#deliver()) moved = true;
      for (const place of this.#world.places.values()) {
        if (!place.watching || place.node.lost) continue;
        this.#look(place, true);
        moved = true;
      }
    }
    this.#world.cluster.pipes = this.#world.cluster.pipes.filter((pipe) => pipe.open);
  }

  /** All go to the end of what they are doing; then nothing moves, and nothing may be left. */
  #finish(): void {
    for (
      let round = 0;
      this.#world.processes.some((one) => one.state === "running" && one.steps !== null);
      round += 1
    ) {
      if (round > 1000) throw new Violation("a store never ends");
      for (const process of this.#world.processes) {
        for (let steps = 0; process.state === "running" && process.steps !== null && steps < 40; steps += 1) {
          this.#advance(process);
        }
      }
      this.#drain();
      this.#check(true);
    }
    this.#drain();
    this.#leaveGate();
    this.#check(true);
    checkEnd(this.#world);
  }
  /** Each that has the gate, or gets it, gives it back. */
  #leaveGate(): void {
    const { gate } = this.#world;
    for (let round = 0; gate.owner?.state === "running" && gate.owner.request === null; round += 1) {
      if (round > 1000) throw new Violation("the gate is never left");
      passGate(this.#world, gate.owner);
      this.#drain();
    }
  }
}

const showRuns = (runs: Runs): string =>
  runs.map(([offset, bytes]) => `${(bytes as Uint8Array).length} bytes at ${offset}`).join(", ");
