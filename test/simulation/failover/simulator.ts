/**
 * A session whose connections break, stay silent and come back at any point, and whose servers die, stop and wake up
 * again at any step, while processes store, add, publish, lock and meet in barriers. Everything follows from one seed.
 * A broken promise is thrown as a Violation:
 *
 * - one order: all nodes that live have applied the same entry at each place, byte for byte;
 * - what a process was told to be done is in the order, once, behind all it did before; nothing is in it twice;
 * - at the end all nodes are equal to a reference that has applied the order once;
 * - a mutex has one holder, objects in the map have those that objects.ts says, an atomic addition gives the value of its place;
 * - once faults stop every request is answered.
 *
 * In some sessions, elastic ones, nodes come while it runs, with a picture of the memory. If such a session is in direct
 * mode its processes write to the memory by themselves, and then it changes over: at the end all nodes have what they wrote.
 */
import { encode } from "../../../src/core/wire/frame.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { Random } from "../../support/core-random.ts";
import { act, changesOver, join, leave, sendPart, unlock, write } from "./actors.ts";
import { killServer, mend, severLessee, strikeFault } from "./faults.ts";
import { actAlone, passGate } from "./gate.ts";
import { Node } from "./node.ts";
import { giveBack, takeBack } from "./objects.ts";
import { Server } from "./server.ts";
import { type FailoverOptions, type FailoverReport, makePlan, World } from "./world.ts";

export type { FailoverOptions, FailoverReport } from "./world.ts";

export function simulateFailover(seed: number, options: FailoverOptions = {}): FailoverReport {
  return new Simulator(new Random(seed), options).run();
}

class Simulator {
  readonly #world: World;
  /** So many nodes are still to come. */
  #late: number;

  constructor(random: Random, options: FailoverOptions) {
    const { plan, late } = makePlan(random);
    this.#world = new World(random, plan, options);
    this.#late = late;
    for (let node = 1; node <= plan.nodes; node += 1) this.#world.nodes.push(new Node(this.#world, `node${node}`));
  }

  run(): FailoverReport {
    const world = this.#world;
    world.servers.push(new Server(world, 1, true));
    const steps = world.random.oneIn(12) ? world.random.between(500, 1200) : world.random.between(100, 500);
    for (let step = 0; step < steps; step += 1) {
      world.say(`-- step ${step}`);
      world.passTime();
      if (!world.random.oneIn(3) && world.deliver()) continue;
      this.#act();
    }
    this.#finish();
    world.report.entries = world.log.length;
    world.report.epochs = world.server.epoch;
    return world.report;
  }

  #act(): void {
    const world = this.#world;
    const { random } = world;
    if (world.faultsGoOn && random.oneIn(12)) strikeFault(world);
    if (world.faultsGoOn) severLessee(world);
    mend(world);
    this.#goOnAlone();
    if (this.#late > 0 && random.oneIn(40)) {
      this.#late -= 1;
      world.nodes.push(new Node(world, `node${world.nodes.length + 1}`));
    }
    const node = random.pick(world.nodes);
    if (node.state !== "alive") return;
    if (node.link === null) {
      if (random.oneIn(3)) this.#connect(node);
      return;
    }
    if (node.hand()) return;
    if (node.replica?.ready !== true) return;
    if (node.processes.length < world.plan.perNode) {
      join(world, node);
      return;
    }
    if (node.link.welcomed && random.oneIn(4)) {
      node.link.up.push(encode({ kind: Kind.PING, offset: node.replica.position.seq }));
    }
    node.renew();
    const process = random.pick(node.processes);
    if (process.state !== "running") return;
    if (random.oneIn(2) && changesOver(process)) return;
    if (process.writes && random.oneIn(2)) {
      write(world, process);
      return;
    }
    act(world, process);
  }

  /** A process of a node that is cut off takes what it may. */
  #goOnAlone(): void {
    const alone = this.#world.nodes.filter(({ state }) => state === "severed").flatMap(({ processes }) => processes);
    const known = alone.filter(({ rank }) => rank >= 0);
    if (known.length > 0) actAlone(this.#world, this.#world.random.pick(known));
  }

  /** An arbiter looks for the session's server; what the daemon answers, and what it does if there is none. */
  #connect(node: Node): void {
    const world = this.#world;
    const { random } = world;
    let server = world.server;
    const old = world.servers.filter(({ state, abandoned }) => state === "up" && !abandoned);
    // A node that asks the wrong server is sent away. A new node has just heard from the daemon which one is right.
    if (world.faultsGoOn && node.replica !== null && random.oneIn(20) && old.length > 0) server = random.pick(old);
    if (server.state !== "up" && server === world.server) {
      // When no node has anything to hand over, the session begins anew.
      const anew = world.alive.every(({ replica }) => replica === null);
      if (node.replica === null && !anew) return;
      if (anew) this.#beginAnew();
      server = anew ? new Server(world, 1, true) : new Server(world, server.epoch + 1, server.state === "dead");
      world.servers.push(server);
    }
    const position = node.replica?.position;
    // It turns to the newest only; what the server says to one that does not is a matter of its own.
    if (position !== undefined && server === world.server && !node.replica?.promise(server.epoch)) {
      throw new Violation(`${node.name} has promised to follow a server that is not there`);
    }
    node.connect(server);
  }

  #beginAnew(): void {
    const world = this.#world;
    for (const server of world.servers) killServer(world, server);
    for (const node of world.nodes) if (node.replica !== null) node.state = "dead";
    world.log.clear();
    world.gateOwner = null;
    world.holders.clear();
    world.config = { ...world.config, instance: `${world.config.instance}0` };
  }

  #quiet(): boolean {
    const world = this.#world;
    if (world.pipes.some((pipe) => world.flows(pipe))) return false;
    if (world.server.recovering || world.server.state !== "up") return world.alive.length === 0;
    // The server has yet to notice that a node is cut off.
    if ([...world.server.links.values()].some(({ node, silent }) => silent && node.state === "severed")) return false;
    const away = new Set(world.server.away.values());
    if (world.nodes.some(({ name, state }) => state !== "alive" && away.has(name))) return false;
    if (world.processes.some(({ node, unheard, told }) => node.state === "alive" && (unheard || told))) return false;
    const joined = world.alive.every(({ processes }) => processes.length === world.plan.perNode);
    return joined && world.alive.every(({ link }) => link?.welcomed === true && !link.silent);
  }

  #settle(): void {
    const world = this.#world;
    for (let step = 0; !this.#quiet(); step += 1) {
      if (step > 20_000) {
        throw new Violation("it does not come to rest once the faults have stopped");
      }
      world.passTime();
      if (!world.random.oneIn(3) && world.deliver()) continue;
      mend(world);
      this.#goOnAlone();
      for (const node of world.alive) {
        if (node.link === null) this.#connect(node);
        else if (node.hand() || node.processes.some((process) => changesOver(process))) continue;
        else if (node.replica?.ready === true && node.processes.length < world.plan.perNode) join(world, node);
      }
    }
  }

  #finish(): void {
    const world = this.#world;
    world.say("-- the faults stop");
    world.faultsGoOn = false;
    this.#settle();
    // A session that never began because a node died before has no process that could leave.
    const begun = world.processes.some(({ state }) => state !== "joining");
    for (let round = 0; begun; round += 1) {
      const here = world.processes.filter(({ state, node }) => state === "running" && node.state === "alive");
      if (here.length === 0) break;
      if (round > 200) throw new Violation(`a process waits for ever for its ${here[0]?.request?.what}`);
      for (const process of here) {
        if (process.request?.cancelable === true) takeBack(process);
        else if (process.request !== null) sendPart(process, process.request);
        else if (giveBack(world, process)) continue;
        else if (world.holder === process) unlock(world, process);
        else if (world.gateOwner === process || process.isTakenForOwner) passGate(world, process);
        else leave(process);
      }
      this.#settle();
    }
    world.log.compare();
  }
}
