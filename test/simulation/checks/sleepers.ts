/**
 * Promise: a thread that sleeps on a lock's cell is woken: when the arbiter takes the cell; else there is an owner who will
 * wake it, or a thread that is awake and has yet to look at the cell or to wake another. Only where a process has gone, and
 * the arbiter does not know it yet, may they sleep until their time is over.
 */
import { CELL_ARBITER, CELL_OWNED, CELL_SLEEPERS, CELL_STATE } from "../../../src/core/wire/cell-layout.ts";
import { type Node, Violation } from "../../support/core-cluster.ts";
import { cellOf } from "../actors/lock-cell.ts";
import type { World } from "../world.ts";

export function checkSleepers(world: World): void {
  for (const node of world.cluster.nodes) {
    if (node.lost) continue;
    for (const name of node.knownCells.keys()) checkCell(world, node, name);
  }
}

function checkCell(world: World, node: Node, name: string): void {
  const at = cellOf(node, name) as number;
  if (node.cells.asleep(at) === 0) return;
  const word = node.cells.load(at);
  const state = word & CELL_STATE;
  if (state === CELL_ARBITER)
    throw new Violation(`a thread of ${node.name} sleeps on the cell of lock ${name}, which the arbiter has taken`);
  if (state >= CELL_OWNED && (word & CELL_SLEEPERS) !== 0) return;
  const here = world.processes.filter((process) => process.node === node);
  const present = node.replica?.session.presentOn(node.number) ?? [];
  if (here.some((process) => process.state !== "running" && present.includes(process.rank))) return;
  const threads = here.flatMap((process) => (process.state === "running" ? process.threads : []));
  if (threads.some(({ open, cell }) => open && cell?.at === at && !cell.isAsleep)) return;
  throw new Violation(`a thread of ${node.name} sleeps on the cell of lock ${name}, and none will wake it`);
}
