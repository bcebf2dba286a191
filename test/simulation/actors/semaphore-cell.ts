/** What libdsm does by itself with a semaphore whose cell it knows: one atomic instruction, or one system call, at a time. */
import {
  SEMAPHORE_CELL_GIVEN,
  SEMAPHORE_CELL_SLEEPERS,
  SEMAPHORE_CELL_STEP,
} from "../../../src/core/wire/cell-layout.ts";
import { Violation } from "../../support/core-cluster.ts";
import type { SemaphoreName } from "../oracle/semaphores.ts";
import type { CellWork, Thread } from "../process.ts";
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
  const word = process.node.cells.load(at);
  if (!isGiven(word)) return -1;
  const value = Math.floor(word / SEMAPHORE_CELL_STEP);
  if (value !== world.order.semaphores.valueByCell(name))
    throw new Violation(`the cell of semaphore ${name} has the value ${value}`);
  return at;
}

/** What a thread does with the cell, one step at a time. */
export class SemaphoreWork implements CellWork {
  readonly what = "semaphore by its cell";
  readonly at: number;
  readonly #world: World;
  readonly #thread: Thread;
  readonly #name: SemaphoreName;
  #next: "look" | "sleep" | "wake" = "look";
  #wasWoken = false;
  #endSleep: (() => void) | null = null;
  /** The arbiter has sent it back to the cell: the next time it stays in the queue. */
  readonly #wasSentBack: boolean;

  constructor(world: World, thread: Thread, name: SemaphoreName, at: number, wasSentBack = false) {
    this.#world = world;
    this.#thread = thread;
    this.#name = name;
    this.at = at;
    this.#wasSentBack = wasSentBack;
  }

  get isAsleep(): boolean {
    return this.#endSleep !== null;
  }

  /** It was woken and is about to look, or it is about to wake another. */
  get seesToOthers(): boolean {
    return this.#next === "wake" || (this.#wasWoken && this.#next === "look" && !this.isAsleep);
  }

  step(): void {
    const { cells } = this.#thread.process.node;
    if (this.#endSleep !== null) {
      if (this.#world.random.oneIn(8)) this.#giveUp();
    } else if (this.#next === "wake") {
      this.#thread.cell = null;
      cells.wake(this.at, 1);
    } else if (this.#next === "sleep") this.#sleep();
    else this.#look();
  }

  end(): void {
    this.#endSleep?.();
    this.#endSleep = null;
  }

  /** A thread that posts will wake it. */
  mayStay(): boolean {
    return this.#thread.process.node.cells.load(this.at) === IS_ZERO;
  }

  /** It has changed the word so that no thread sees any more that others sleep. */
  wakeOne(): void {
    this.#next = "wake";
    this.#thread.cell = this;
  }

  #look(): void {
    if (find(this.#world, this.#thread, this.#name) < 0) {
      this.#giveUp();
      return;
    }
    const { cells } = this.#thread.process.node;
    const word = cells.load(this.at);
    if (isAboveZero(word)) {
      this.take(word);
      return;
    }
    if (RULES.sleeperShows) cells.swap(this.at, word, IS_ZERO);
    this.#next = "sleep";
  }

  #sleep(): void {
    const { report } = this.#world;
    const { cells } = this.#thread.process.node;
    this.#next = "look";
    this.#endSleep = cells.sleep(this.at, RULES.sleeperShows ? IS_ZERO : SEMAPHORE_CELL_GIVEN, () => {
      this.#endSleep = null;
      this.#wasWoken = true;
      report.roused += 1;
    });
  }

  /** Takes 1 of the value that the word has. */
  take(word: number): void {
    const { order, semaphores, report } = this.#world;
    let left = word - SEMAPHORE_CELL_STEP;
    if (this.#wasWoken && isAboveZero(left)) left &= ~SEMAPHORE_CELL_SLEEPERS;
    else if (this.#wasWoken && RULES.wokenShows) left |= SEMAPHORE_CELL_SLEEPERS;
    this.#thread.process.node.cells.swap(this.at, word, left);
    order.semaphores.takeByCell(this.#name);
    semaphores.took(this.#thread, this.#name, order.semaphores);
    report.semaphores += 1;
    this.#thread.cell = null;
    if (this.#wasWoken && isAboveZero(left) && RULES.wokenWakes) this.wakeOne();
  }

  /** It waits no longer by the cell, and asks. */
  #giveUp(): void {
    this.end();
    this.#thread.cell = null;
    wait(this.#world, this.#thread, this.#name, false, !this.#wasSentBack);
  }
}

/** Posts. False: the thread must ask. */
export function postByCell(world: World, thread: Thread, name: SemaphoreName): boolean {
  const at = find(world, thread, name);
  if (at < 0) return false;
  const { cells } = thread.process.node;
  const word = cells.load(at);
  if (name === "mutex") world.semaphores.holder = null;
  cells.swap(at, word, (word & ~SEMAPHORE_CELL_SLEEPERS) + SEMAPHORE_CELL_STEP);
  world.order.semaphores.postByCell(name);
  world.report.semaphores += 1;
  if (asleepIn(word) && RULES.postWakes) new SemaphoreWork(world, thread, name, at).wakeOne();
  return true;
}

/** Waits, or tries. False: the thread must ask. */
export function waitByCell(world: World, thread: Thread, name: SemaphoreName, tryOnly: boolean): boolean {
  const at = find(world, thread, name);
  if (at < 0) return false;
  const work = new SemaphoreWork(world, thread, name, at);
  const word = thread.process.node.cells.load(at);
  if (isAboveZero(word)) work.take(word);
  else if (!tryOnly) thread.cell = work;
  return true;
}

/** Its node has sent it back to the cell. */
export function sentBack(world: World, thread: Thread, name: SemaphoreName): void {
  const at = thread.process.node.knownSemaphores.get(name) as number;
  world.report.returned += 1;
  if (thread.process.state === "running") thread.cell = new SemaphoreWork(world, thread, name, at, true);
}
