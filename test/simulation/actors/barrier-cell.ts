/**
 * A thread passes the barrier by its cell, as libdsm does: each act is one atomic instruction, or one call of the kernel. It
 * waits, sleeps, is woken, or waits too long; then it takes its arrival back and sends a request.
 */
import { BARRIER_CELL_AT } from "../../../src/core/wire/cell-layout.ts";
import { ProcessBarrier } from "../../support/core-barrier-cell.ts";
import { type Node, Violation } from "../../support/core-cluster.ts";
import { passBarrier } from "../checks/barriers.ts";
import type { AtBarrier, Process, Thread } from "../process.ts";
import type { World } from "../world.ts";
import { requestBarrier } from "./barrier.ts";

/** Arrives. False: the arbiter has the cell, or another thread of the process waits by it. */
export function arriveByCell(world: World, thread: Thread): boolean {
  const { process } = thread;
  const cell = new ProcessBarrier(process.node.cells.bytes);
  if (!cell.word.given || process.threads.some(({ atBarrier }) => atBarrier !== null)) return false;
  // What the arbiter has decided before is in the order before.
  world.direct.settle();
  const { phase, arrived, members, sleepers } = cell.arrive();
  const isLast = arrived + 1 >= members;
  world.trace?.(`process ${process.pid} arrives by the cell in phase ${phase}, ${arrived + 1} of ${members}`);
  process.barriersEntered += 1;
  thread.atBarrier = { phase, step: isLast ? "passed" : "awake" };
  if (!isLast) return true;
  world.report.cellBarriers += 1;
  if (!sleepers) pass(world, thread);
  return true;
}

/** The next step of a thread that has arrived. */
export function continueAtBarrier(world: World, thread: Thread, at: AtBarrier): void {
  const { random } = world;
  const { process } = thread;
  const cell = new ProcessBarrier(process.node.cells.bytes);
  world.trace?.(`process ${process.pid} in phase ${at.phase} of the cell is ${at.step}: ${cell.look(at.phase)}`);
  switch (at.step) {
    case "passed":
      // It completed the phase, and others sleep.
      wakeSleepers(world, process.node, BARRIER_CELL_AT);
      pass(world, thread);
      return;
    case "awake": {
      const phase = cell.look(at.phase);
      if (phase === "is over") pass(world, thread);
      else if (phase === "is taken") at.step = "out";
      else if (random.oneIn(6)) steps.giveUp(world, thread, at);
      else if (random.oneIn(2)) {
        cell.announce(at.phase, process.rank);
        at.step = "announced";
      }
      return;
    }
    case "announced":
      at.step = cell.look(at.phase) === "goes on" ? "asleep" : "awake";
      return;
    case "asleep":
      if (random.oneIn(12)) steps.giveUp(world, thread, at);
      return;
    case "out":
      thread.atBarrier = null;
      requestBarrier(world, thread);
  }
}

/** What tests replace. */
export const steps = {
  /** It has waited too long. */
  giveUp(world: World, thread: Thread, at: AtBarrier): void {
    const cell = new ProcessBarrier(thread.process.node.cells.bytes);
    if (cell.withdraw(at.phase) === "is over") pass(world, thread);
    else at.step = "out";
  },
};

function pass(world: World, thread: Thread): void {
  const { process } = thread;
  thread.atBarrier = null;
  new ProcessBarrier(process.node.cells.bytes).unmark(process.rank);
  passBarrier(process, world.processes);
}

/** The arbiter or a process wakes all that sleep on that word of the node. */
export function wakeSleepers({ processes }: World, node: Node, at: number): void {
  if (at !== BARRIER_CELL_AT) return;
  for (const { atBarrier } of threadsOn(processes, node)) if (atBarrier?.step === "asleep") atBarrier.step = "awake";
}

/** The process is about to leave: its threads find no cells any more, and are told so. */
export function leaveBarrier(world: World, process: Process): void {
  for (const thread of process.threads) {
    if (thread.atBarrier?.step === "passed") wakeSleepers(world, process.node, BARRIER_CELL_AT);
    thread.atBarrier = null;
  }
}

/** Nothing is under way: who sleeps was not forgotten. */
export function checkSleepers({ processes }: World): void {
  for (const { node, state, pid, threads } of processes) {
    const cell = new ProcessBarrier(node.cells.bytes);
    for (const { atBarrier } of threads) {
      if (state !== "running" || node.lost || atBarrier?.step !== "asleep" || cell.look(atBarrier.phase) === "goes on")
        continue;
      // Another one is about to wake it.
      if (threadsOn(processes, node).some((other) => other.open && other.atBarrier?.step === "passed")) continue;
      throw new Violation(`process ${pid} sleeps in phase ${atBarrier.phase}, which ${cell.look(atBarrier.phase)}`);
    }
  }
}

const threadsOn = (processes: readonly Process[], node: Node): Thread[] =>
  processes.filter((process) => process.node === node).flatMap(({ threads }) => threads);
