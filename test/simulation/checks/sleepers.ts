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
import type { CellStep, Process } from "../process.ts";
import type { World } from "../world.ts";

/** What the threads of a node do by the cell there, as long as their processes run. */
function stepsAt({ processes }: World, node: Node, at: number): CellStep[] {
  return processes
    .filter((process) => process.node === node && process.state === "running")
    .flatMap(({ threads }) => threads.flatMap(({ cell, open }) => (open && cell?.at === at ? [cell] : [])));
}

/** Wakes so many of those that sleep there, first come, first served. */
export function wakeSleepers(world: World, node: Node, at: number, count = Number.POSITIVE_INFINITY): void {
  const asleep = stepsAt(world, node, at).filter(({ next }) => next === "none");
  for (const cell of asleep.slice(0, count)) {
    cell.next = "look";
    cell.wasWoken = true;
    world.report.roused += 1;
  }
}

export function checkSleepers(world: World): void {
  for (const node of world.cluster.nodes) {
    if (node.lost) continue;
    for (const at of new Set(node.knownSemaphores.values())) checkCell(world, node, at);
  }
}

function checkCell(world: World, node: Node, at: number): void {
  const steps = stepsAt(world, node, at);
  if (!steps.some(({ next }) => next === "none")) return;
  const word = node.wordAt(at);
  if (word === CELL_ARBITER) throw new Violation("a thread sleeps on a cell that the arbiter has taken");
  const seesSleepers = word === SEMAPHORE_CELL_GIVEN + SEMAPHORE_CELL_SLEEPERS;
  const isSeenTo = steps.some(({ next, wasWoken }) => next === "wake" || (next === "look" && wasWoken));
  // One that was to look or to wake may have gone: then the arbiter takes the cell as soon as it knows.
  const isGoing = ({ node: home, state, rank }: Process): boolean =>
    home === node &&
    (state === "dead" || state === "going") &&
    world.order.session.presentOn(node.number).includes(rank);
  if (seesSleepers || isSeenTo || world.processes.some(isGoing)) return;
  const value = Math.floor(word / SEMAPHORE_CELL_STEP);
  throw new Violation(`a thread sleeps on a semaphore of value ${value}, and none will wake it`);
}
