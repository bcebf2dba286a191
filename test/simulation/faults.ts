/** What happens to a session from outside, as data: how likely each is, and what it does. */
import { encodeHandshake } from "../../src/core/wire/handshake.ts";
import { Kind } from "../../src/core/wire/kinds.ts";
import type { Pipe } from "../support/core-cluster.ts";
import { runOn } from "./actors/lock-cell.ts";
import { checkSnapshot } from "./checks/snapshot.ts";
import type { Snapshot, World } from "./world.ts";

interface Fault {
  name: string;
  /** Once in so many acts; null: never in this session. */
  oneIn(world: World): number | null;
  strike(world: World): void;
}

export const FAULTS: readonly Fault[] = [
  { name: "a stranger connects", oneIn: ({ plan }) => (plan.strangers ? 60 : null), strike: connectStranger },
  {
    name: "a process or a node dies",
    oneIn: ({ plan }) => (plan.losses ? (plan.objects ? 120 : 300) : null),
    strike: loseOne,
  },
  { name: "a node comes", oneIn: ({ plan }) => plan.nodeOneIn, strike: (world) => world.addNode() },
  { name: "an arbiter tells of passed barriers", oneIn: () => 60, strike: tellOfBarriers },
  {
    name: "a node that has leases dies",
    oneIn: ({ plan }) => (plan.leases && plan.losses ? 40 : null),
    strike: loseLessee,
  },
  {
    name: "a process closes its connections",
    oneIn: ({ plan }) => (plan.cells && plan.losses ? 200 : null),
    strike: orphanOne,
  },
  {
    name: "one that has closed its connections runs on",
    oneIn: ({ orphans }) => (orphans.length > 0 ? 2 : null),
    strike: (world) => runOn(world, world.random.pick(world.orphans)),
  },
  { name: "a reader asks for a snapshot", oneIn: snapshotOneIn, strike: takeSnapshot },
  {
    name: "the server sends what it has held back",
    oneIn: ({ plan }) => (plan.objects ? 40 : null),
    strike: ({ cluster }) => cluster.sequencer.flush(),
  },
  { name: "a reader asks for the status", oneIn: ({ plan }) => (plan.semaphores ? 40 : null), strike: readStatus },
  { name: "a process that has left ends", oneIn: () => 20, strike: exitOne },
];

export function strikeFaults(world: World): void {
  for (const { oneIn, strike } of FAULTS) {
    const times = oneIn(world);
    if (times !== null && world.random.oneIn(times)) strike(world);
  }
}

function loseOne(world: World): void {
  const { random } = world;
  const nodes = world.nodesUp();
  if (random.oneIn(5) && nodes.length > 1) {
    random.pick(nodes).lose(random.below(200));
    return;
  }
  const alive = world.processes.filter(({ state }) => state !== "dead" && state !== "left" && state !== "refused");
  if (alive.length > 0) world.die(random.pick(alive));
}

/** As a program does that makes itself a daemon. */
function orphanOne(world: World): void {
  const running = world.processes.filter(({ state }) => state === "running");
  if (running.length < 2) return;
  const process = world.random.pick(running);
  world.trace?.(`process ${process.pid} closes its connections and runs on`);
  world.die(process);
  world.orphans.push(process);
}

/** Its processes may have the locks, and their requests for others may be under way. */
function loseLessee(world: World): void {
  const { random, cluster } = world;
  const lessees = world.nodesUp().filter(({ number }) => cluster.sequencer.session.lessees.has(number));
  if (lessees.length > 0 && world.nodesUp().length > 1) random.pick(lessees).lose(random.below(200));
}

function snapshotOneIn({ plan, snapshot }: World): number | null {
  if (!plan.leases) return null;
  return snapshot === null ? 150 : 5;
}

/** One asks, or the server looks whether the one that has asked can be served. */
function takeSnapshot(world: World): void {
  const { cluster, random } = world;
  world.snapshot ??= askForSnapshot(world);
  const { link, up } = world.snapshot;
  if (random.oneIn(40)) {
    up.end();
    world.snapshot = null;
  } else if (cluster.sequencer.beginSnapshot(link, false)) {
    world.report.snapshots += 1;
    cluster.sequencer.flush();
    checkSnapshot(world);
    up.end();
    world.snapshot = null;
  }
}

function askForSnapshot({ cluster }: World): Snapshot {
  const deaf = (): void => {};
  const up = cluster.link("reader", deaf, deaf);
  up.push(encodeHandshake(Kind.SNAPSHOT, new Uint8Array(0)));
  return { link: cluster.lastLink, up };
}

/** What its shell does about once a second. */
function tellOfBarriers(world: World): void {
  const nodes = world.nodesUp();
  if (nodes.length === 0) return;
  world.random.pick(nodes).replica?.notePassedBarriers();
  world.direct.settle();
}

/** Its connections end with it. */
function exitOne({ processes }: World): void {
  const left = processes.find(({ state, threads }) => state === "left" && threads.some(({ open }) => open));
  for (const thread of left?.threads ?? []) {
    thread.open = false;
    thread.channel.up.end();
  }
}

/** The server answers, and asks its nodes. */
function readStatus({ cluster }: World): void {
  const deaf = (): void => {};
  const up = cluster.link("reader", deaf, deaf);
  up.push(encodeHandshake(Kind.STATUS, new Uint8Array(0)));
  up.end();
}

/** It says anything, to an arbiter or to the server. */
function connectStranger(world: World): void {
  const { random, order, cluster } = world;
  const garbage = random.bytes(random.between(4, 120));
  if (random.oneIn(2)) garbage.set(encodeHandshake(Kind.HELLO, new Uint8Array(0)).subarray(0, garbage.length));
  const nodes = world.nodesUp();
  const deaf = (): void => {};
  let up: Pipe;
  if (nodes.length > 0 && random.oneIn(2)) {
    const node = random.pick(nodes);
    const channel = node.connect("stranger", deaf, deaf);
    order.forget(node.number, channel.index);
    up = channel.up;
  } else {
    up = cluster.link("stranger", deaf, deaf);
  }
  up.push(garbage);
  up.end();
}
