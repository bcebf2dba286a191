/**
 * Promise: a thread that sleeps on the cell of a semaphore is woken in time: while it sleeps the processes have the cell,
 * and a thread that posts sees that it must wake one, or another thread is about to look or to wake.
 */
import {
  CELL_ARBITER,
  SEMAPHORE_CELL_GIVEN,
  SEMAPHORE_CELL_SLEEPERS,
  SEMAPHORE_CELL_STEP,
} from "../../../src/core/wire/cell-layout.ts";
import { type Node, Violation } from "../../support/core-cluster.ts";
import { SemaphoreWork } from "../actors/semaphore-cell.ts";
import type { Process } from "../process.ts";
import type { World } from "../world.ts";

/** What the threads of a node do by the cell there, as long as their processes run. */
function workAt({ processes }: World, node: Node, at: number): SemaphoreWork[] {
  return processes
    .filter((process) => process.node === node && process.state === "running")
    .flatMap(({ threads }) => threads.filter(({ open }) => open).map(({ cell }) => cell))
    .filter((cell) => cell instanceof SemaphoreWork)
    .filter((cell) => cell.at === at);
}

export function checkSemaphoreSleepers(world: World): void {
  for (const node of world.cluster.nodes) {
    if (node.lost) continue;
    for (const at of new Set(node.knownSemaphores.values())) checkCell(world, node, at);
  }
}

function checkCell(world: World, node: Node, at: number): void {
  const all = workAt(world, node, at);
  if (!all.some(({ isAsleep }) => isAsleep)) return;
  const word = node.cells.load(at);
  if (word === CELL_ARBITER) throw new Violation("a thread sleeps on a semaphore's cell that the arbiter has taken");
  const seesSleepers = word === SEMAPHORE_CELL_GIVEN + SEMAPHORE_CELL_SLEEPERS;
  // One that was to look or to wake may have gone: then the arbiter takes the cell as soon as it knows.
  const isGoing = ({ node: home, state, rank }: Process): boolean =>
    home === node &&
    (state === "dead" || state === "going") &&
    world.order.session.presentOn(node.number).includes(rank);
  if (seesSleepers || all.some(({ seesToOthers }) => seesToOthers) || world.processes.some(isGoing)) return;
  const value = Math.floor(word / SEMAPHORE_CELL_STEP);
  throw new Violation(`a thread sleeps on a semaphore of value ${value}, and none will wake it`);
}
