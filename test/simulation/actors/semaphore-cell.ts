/** What libdsm does by itself with a semaphore whose cell it knows: one atomic instruction, or one system call, at a time. */
import {
  SEMAPHORE_CELL_GIVEN,
  SEMAPHORE_CELL_SLEEPERS,
  SEMAPHORE_CELL_STEP,
} from "../../../src/core/wire/cell-layout.ts";
import { Violation } from "../../support/core-cluster.ts";
import { checkSleepers, wakeSleepers } from "../checks/sleepers.ts";
import type { SemaphoreName } from "../oracle/semaphores.ts";
import type { CellStep, Process, Thread } from "../process.ts";
import type { World } from "../world.ts";
import { wait } from "./semaphore.ts";

/** Rules of libdsm, which a test leaves out to see whether the simulator notices. */
export const RULES = {
  /** One that posts wakes one that sleeps. */
  postWakes: true,
  /** One that sleeps says so in the word. */
  sleeperShows: true,
  /** One that was woken and takes the last 1 says that others may sleep; */
  wokenShows: true,
  /** if it leaves more than that, it wakes the next. */
  wokenWakes: true,
};

const IS_ZERO = SEMAPHORE_CELL_GIVEN + SEMAPHORE_CELL_SLEEPERS;
const isGiven = (word: number): boolean => (word & SEMAPHORE_CELL_GIVEN) !== 0;
const isAboveZero = (word: number): boolean => word >= SEMAPHORE_CELL_STEP;
const asleepIn = (word: number): boolean => (word & SEMAPHORE_CELL_SLEEPERS) !== 0;

/** Where the word of the semaphore is, if the processes have its cell; -1: the thread must ask. */
function find(world: World, { process }: Thread, name: SemaphoreName): number {
  const at = process.node.knownSemaphores.get(name);
  if (at === undefined || process.state !== "running" || process.node.lost) return -1;
  world.direct.settle();
  const word = process.node.wordAt(at);
  if (!isGiven(word)) return -1;
  const value = Math.floor(word / SEMAPHORE_CELL_STEP);
  if (value !== world.order.semaphores.valueByCell(name))
    throw new Violation(`the cell of semaphore ${name} has the value ${value}`);
  return at;
}

/** Posts. False: the thread must ask. */
export function postByCell(world: World, thread: Thread, name: SemaphoreName): boolean {
  const at = find(world, thread, name);
  if (at < 0) return false;
  const { node } = thread.process;
  const word = node.wordAt(at);
  if (name === "mutex") world.semaphores.holder = null;
  swap(thread, at, word, (word & ~SEMAPHORE_CELL_SLEEPERS) + SEMAPHORE_CELL_STEP);
  world.order.semaphores.postByCell(name);
  world.report.semaphores += 1;
  if (asleepIn(word) && RULES.postWakes) thread.cell = { name, at, next: "wake", wasWoken: false, wasSentBack: false };
  checkSleepers(world);
  return true;
}

/** Waits, or tries. False: the thread must ask. */
export function waitByCell(world: World, thread: Thread, name: SemaphoreName, tryOnly: boolean): boolean {
  const at = find(world, thread, name);
  if (at < 0) return false;
  if (isAboveZero(thread.process.node.wordAt(at)))
    take(world, thread, { name, at, next: "look", wasWoken: false, wasSentBack: false });
  else if (!tryOnly) thread.cell = { name, at, next: "look", wasWoken: false, wasSentBack: false };
  return true;
}

/** Its node has sent it back to the cell. */
export function sentBack(world: World, thread: Thread, name: SemaphoreName): void {
  const at = thread.process.node.knownSemaphores.get(name) as number;
  world.report.returned += 1;
  thread.cell = { name, at, next: "look", wasWoken: false, wasSentBack: true };
}

/** The next step of what it does by a cell. */
export function continueByCell(world: World, thread: Thread, cell: CellStep): void {
  const { node } = thread.process;
  if (cell.next === "wake") {
    thread.cell = null;
    wakeSleepers(world, node, cell.at, 1);
  } else if (cell.next === "look") {
    look(world, thread, cell);
  } else if (cell.next === "sleep") {
    const word = node.wordAt(cell.at);
    cell.next = word === (RULES.sleeperShows ? IS_ZERO : SEMAPHORE_CELL_GIVEN) ? "none" : "look";
  } else if (world.random.oneIn(40)) {
    giveUp(world, thread, cell);
  }
  checkSleepers(world);
}

function look(world: World, thread: Thread, cell: CellStep): void {
  if (find(world, thread, cell.name) < 0) {
    giveUp(world, thread, cell);
    return;
  }
  const word = thread.process.node.wordAt(cell.at);
  if (isAboveZero(word)) {
    take(world, thread, cell);
  } else {
    if (RULES.sleeperShows) swap(thread, cell.at, word, IS_ZERO);
    cell.next = "sleep";
  }
}

function take(world: World, thread: Thread, { name, at, wasWoken }: CellStep): void {
  const { order, semaphores, report } = world;
  const word = thread.process.node.wordAt(at);
  let left = word - SEMAPHORE_CELL_STEP;
  if (wasWoken && isAboveZero(left)) left &= ~SEMAPHORE_CELL_SLEEPERS;
  else if (wasWoken && RULES.wokenShows) left |= SEMAPHORE_CELL_SLEEPERS;
  swap(thread, at, word, left);
  order.semaphores.takeByCell(name);
  semaphores.took(thread, name, order.semaphores);
  report.semaphores += 1;
  const wakesNext = wasWoken && isAboveZero(left) && RULES.wokenWakes;
  thread.cell = wakesNext ? { name, at, next: "wake", wasWoken: false, wasSentBack: false } : null;
}

/** It waits no longer by the cell, and asks. */
function giveUp(world: World, thread: Thread, { name, wasSentBack }: CellStep): void {
  thread.cell = null;
  wait(world, thread, name, false, !wasSentBack);
}

function swap({ process }: Thread, at: number, from: number, to: number): void {
  if (!process.node.swapWord(at, from, to)) throw new Error("a step of a process is not atomic");
}

/** A thread that does not sleep takes its next step. False: there is none. */
export function goOnByCell(world: World, process: Process): boolean {
  const thread = process.threads.find(({ open, cell }) => open && cell !== null && cell.next !== "none");
  if (process.state !== "running" || thread === undefined || process.node.lost) return false;
  continueByCell(world, thread, thread.cell as CellStep);
  return true;
}
