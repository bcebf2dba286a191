/**
 * A session of many nodes, processes and threads that do random things over connections that deliver at random times
 * in random pieces, while processes and nodes die. Everything follows from one seed. After every step it is checked
 * that the session keeps what it promises (DESIGN, "Memory model"); the first broken promise is thrown as a Violation.
 *
 * The order that the server broadcasts is the witness of sequential consistency: a store stands at its entry's place, a
 * load behind the last entry that its node had applied. Then each thread's places must go up, and each load must find
 * what a plain reference memory holds at its place.
 *
 * In a direct session the node decides the order and the server must broadcast just that; its processes write its
 * memory themselves, and nothing else may change what they wrote. In an elastic session nodes and processes come at any
 * time, with a picture of the memory, and go; if it begins as a direct one it changes over when others come, and then its
 * node's memory must be what the order says, with all that was written there.
 *
 * README.md of this folder says which file does what.
 */
import { type ClusterOptions, type Node, Violation } from "../support/core-cluster.ts";
import { Random } from "../support/core-random.ts";
import type { Trace } from "../support/core-trace.ts";
import { act } from "./actors/actors.ts";
import { join } from "./actors/join.ts";
import { leave } from "./actors/leave.ts";
import { workOnCells } from "./actors/lock-cell.ts";
import { checkEnd, checkWaits } from "./checks/end.ts";
import { ServerCheck } from "./checks/server.ts";
import { checkShadows } from "./checks/shadows.ts";
import { checkSleepers } from "./checks/sleepers.ts";
import { checkSemaphoreSleepers } from "./checks/sleepers-semaphores.ts";
import { changeOver } from "./conversation.ts";
import { strikeFaults } from "./faults.ts";
import { type Flavour, makePlan } from "./plan.ts";
import type { Process } from "./process.ts";
import { type Report, World } from "./world.ts";

export { FLAVOURS, type Flavour } from "./plan.ts";
export type { Report } from "./world.ts";

export interface SimulatorOptions {
  /** A broken replica, to see whether the simulator notices. */
  makeReplica?: ClusterOptions["makeReplica"];
  /** "sequencer" if left out. */
  flavour?: Flavour;
  /** Is told of every step. */
  trace?: Trace;
}

export function simulate(seed: number, options: SimulatorOptions = {}): Report {
  const random = new Random(seed);
  const plan = makePlan(random, options.flavour ?? "sequencer");
  return new Simulator(new World(random, plan, options.makeReplica, options.trace)).run();
}

class Simulator {
  readonly #world: World;
  readonly #server = new ServerCheck();

  constructor(world: World) {
    this.#world = world;
  }

  run(): Report {
    const world = this.#world;
    const { random, plan, report, order } = world;
    for (let node = random.between(1, 3); node > 0; node -= 1) world.addNode();
    for (let step = 0; step < plan.steps; step += 1) {
      world.trace?.(`-- step ${step}`);
      if (!random.oneIn(3) && this.#deliver()) continue;
      this.#act();
    }
    world.trace?.("-- all go");
    this.#finish();
    report.entries = order.session.seq;
    report.direct = order.session.direct ? 1 : 0;
    report.changed = world.direct.former === null ? 0 : 1;
    report.blocks = order.heap.given;
    return report;
  }

  /** Moves some bytes on some connection. False when nothing is under way. */
  #deliver(): boolean {
    const { cluster, random } = this.#world;
    const busy = cluster.pipes.filter((pipe) => pipe.busy);
    if (busy.length === 0) return false;
    const pipe = random.pick(busy);
    pipe.deliver(random.pick([1, 7, 40, 48, 100, 1000, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]));
    this.#check();
    return true;
  }

  #check(): void {
    const { direct, positions } = this.#world;
    direct.settle();
    direct.check();
    for (const position of positions.values()) if (position.node !== direct.decider) position.check();
    this.#server.check(this.#world);
    checkShadows(this.#world);
    checkSleepers(this.#world);
    checkSemaphoreSleepers(this.#world);
  }

  #act(): void {
    const world = this.#world;
    const { random, processes } = world;
    strikeFaults(world);
    if (this.#join()) return;
    const threads = processes.flatMap((process) => (process.state === "running" ? process.threads : []));
    if (threads.length === 0) return;
    const thread = random.pick(threads);
    if (random.oneIn(3) && changeOver(world, thread.process)) return;
    if (thread.open) act(world, thread);
    else if (thread.process.threads.every(({ open }) => !open)) throw new Violation("a running process is cut off");
  }

  /** True: this step was for a process to come, whether one did or not. */
  #join(): boolean {
    const world = this.#world;
    const { random, plan, processes } = world;
    const expected = plan.config.processes;
    const isEarly = processes.length < expected + plan.extra;
    if (!random.oneIn(isEarly ? 2 : plan.lateOneIn)) return false;
    const nodes = world.nodesUp();
    const together = (isEarly || plan.barriers) && plan.mode === "direct" && !random.oneIn(20);
    if (nodes.length > 0 && processes.length < 2 * expected + plan.extraMax)
      join(world, together ? (nodes[0] as Node) : random.pick(nodes));
    return true;
  }

  #drain(): void {
    const { cluster, processes } = this.#world;
    const goOn = (process: Process): boolean => changeOver(this.#world, process) || workOnCells(process);
    for (let moves = true; moves; ) {
      moves = this.#deliver() || processes.some(goOn);
      if (!moves) {
        // What the server holds back it sends after a while.
        cluster.sequencer.flush();
        moves = this.#deliver();
      }
      this.#check();
    }
    cluster.pipes = cluster.pipes.filter((pipe) => pipe.open);
  }

  /** All go, one after the other, and nothing is left behind. */
  #finish(): void {
    const world = this.#world;
    const { random, processes } = world;
    for (;;) {
      this.#drain();
      checkWaits(world);
      const here = processes.filter(({ state }) => state === "running" || state === "joining");
      const process = here.at(random.below(Math.max(here.length, 1)));
      if (process === undefined) break;
      const idle = process.threads.find(
        ({ open, request, cell, atBarrier }) => open && request === null && cell === null && atBarrier === null,
      );
      if (process.state === "running" && idle !== undefined) leave(world, idle);
      else world.die(process);
    }
    checkEnd(world);
  }
}
