/** What happens to a session from outside, and what time mends. */
import { LEASE_MS } from "../../../src/core/base/limits.ts";
import { Recovery } from "../../../src/core/sequencer/recovery.ts";
import type { Sequencer } from "../../../src/core/sequencer/sequencer.ts";
import type { Node } from "./node.ts";
import type { Server } from "./server.ts";
import type { World } from "./world.ts";

export function strikeFault(world: World): void {
  const { random } = world;
  const links = world.links.filter(({ server }) => server.state === "up");
  const choice = random.below(10);
  if (choice < 5 && world.plan.breaks && links.length > 0) {
    const link = random.pick(links);
    if (random.oneIn(3)) {
      world.say(`the connection of ${link.node.name} to ${link.server.epoch} falls silent`);
      link.silent = true;
    } else {
      world.say(`the connection of ${link.node.name} to ${link.server.epoch} breaks`);
      link.up.end(random.below(200));
      link.down.end(random.below(200));
    }
  } else if (choice < 7 && world.plan.deaths && world.server.epoch < 8) {
    killServer(world, world.server);
  } else if (choice < 8 && world.plan.stops && world.server.state === "up") {
    world.say(`server ${world.server.epoch} stops`);
    world.server.state = "stopped";
  } else if (choice < 9 && world.plan.losses && random.oneIn(4)) {
    const alive = world.nodes.filter(({ state }) => state === "alive");
    if (alive.length > 1) world.lose(random.pick(alive), "dead");
  }
}

/** Cuts off a node whose processes may take the gate by its cell, for good. */
export function severLessee(world: World): void {
  if (!world.plan.gated || world.report.severed > 0 || world.alive.length < 2) return;
  const lessees = world.alive.filter(({ gate, replica }) => gate.isFree && replica?.session.direct === false);
  if (lessees.length > 0 && world.random.oneIn(10)) sever(world, world.random.pick(lessees));
}

/** The node goes on, and nothing reaches it or comes from it any more. */
function sever(world: World, node: Node): void {
  world.say(`${node.name} is cut off for good`);
  world.report.severed += 1;
  world.report.lost += 1;
  node.state = "severed";
  for (const process of node.processes) if (process.state !== "left") process.state = "lost";
  if (node.link !== null) node.link.silent = true;
}

export function killServer(world: World, server: Server): void {
  world.say(`server ${server.epoch} dies`);
  server.state = "dead";
  for (const { up, down } of server.links.values()) {
    up.end(up.size);
    down.end(world.random.below(200));
  }
}

/** What time brings: silent connections are given up, stopped servers wake, the dead are not waited for. */
export function mend(world: World): void {
  const { random } = world;
  for (const server of world.servers) {
    // A server that was replaced learns of it from the daemon.
    if (server !== world.server && server.state === "up" && random.oneIn(world.faultsGoOn ? 60 : 4)) {
      killServer(world, server);
    }
    if (server.state === "stopped" && random.oneIn(world.faultsGoOn ? 40 : 4)) server.state = "up";
    giveUpQuietLinks(world, server);
    if (server.state !== "up") continue;
    if (server.core instanceof Recovery) {
      passTime(world, server, server.core);
      continue;
    }
    for (const id of [...server.links.keys()]) if (random.oneIn(10)) server.core.sendHeartbeat(id);
    evictNodes(world, server, server.core);
  }
}

function giveUpQuietLinks({ random }: World, server: Server): void {
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
}

/** A server that takes over waits long: a node that lives has come back by then. */
function passTime(world: World, server: Server, recovery: Recovery): void {
  const { random } = world;
  if (random.oneIn(6)) recovery.beat();
  const here = world.alive.every(
    ({ replica, link }) => replica === null || (link?.server === server && recovery.isWelcomed(link.id)),
  );
  if (here && random.oneIn(10)) recovery.onJoinGraceOver();
  const source = server.links.get(server.source);
  const handing = source !== undefined && !source.silent && source.node.state === "alive";
  const isLate = world.now_ms - server.begun_ms >= LEASE_MS;
  if (here && !handing && isLate && random.oneIn(20)) recovery.onTimeout();
}

/** A server gives up nodes that do not come back. */
function evictNodes(world: World, server: Server, sequencer: Sequencer): void {
  const { random } = world;
  for (const [number, name] of [...server.away]) {
    const node = world.nodes.find((one) => one.name === name);
    // A node that broke off before it was welcomed does not come back under the number it was to have.
    const other = node?.replica === null ? node.link?.server !== server : node?.number !== number;
    const gone = node?.state !== "alive" || other;
    // A server that was replaced may give up any node once none is connected to it any more.
    const alone = server !== world.server && server.links.size === 0;
    if (gone && world.now_ms < (server.keeps.get(number) as number)) continue;
    if (!(gone ? random.oneIn(10) : alone && random.oneIn(10))) continue;
    if (!gone) server.abandoned = true;
    sequencer.evict(number);
  }
}
