/**
 * What libdsm does with a lock's cell (native/src/session/lock_cells.c), one atomic instruction or system call at a time,
 * so that anything may happen in between: the lock is taken, or waited for asleep and then asked for; and given back.
 */
import {
  CELL_ARBITER,
  CELL_FREE,
  CELL_KEPT,
  CELL_OWNED,
  CELL_SLEEPERS,
  CELL_STARVING,
  CELL_STATE,
  LOCK_CELLS_AT,
  NAMED_CELL_SIZE,
} from "../../../src/core/wire/cell-layout.ts";
import { type Node, Violation } from "../../support/core-cluster.ts";
import type { CellWork, Process, Thread } from "../process.ts";
import type { World } from "../world.ts";
import { checkGuarded } from "./guarded.ts";

/** Rules that processes keep; tests break them one by one. */
export const RULES = {
  /** Who has slept takes the lock with the flag of the sleepers. */
  keepsSleepers: (hasSlept: boolean): boolean => hasSlept,
  /** A lock that is kept is for one that was woken. */
  mayTakeKept: (wasWoken: boolean): boolean => wasWoken,
  /** A hand-over that woke none is taken back. */
  takesBack: (woken: number): boolean => woken === 0,
  /** Then one that has come since is woken. */
  wakesOnceMore: (): boolean => true,
};

const KEPT = CELL_KEPT | CELL_STARVING | CELL_SLEEPERS;

/** Where the lock's cell begins; undefined: no process of the node was told. */
export function cellOf(node: Node, name: string): number | undefined {
  const cell = node.knownCells.get(name);
  return cell === undefined ? undefined : LOCK_CELLS_AT + cell * NAMED_CELL_SIZE;
}

/** A thread waits for the lock. `ask` sends a request for it. */
export class WaitingByCell implements CellWork {
  readonly what = "lock by its cell";
  readonly #world: World;
  readonly #thread: Thread;
  readonly #name: string;
  readonly at: number;
  readonly #ask: () => void;
  /** What the thread sleeps on, once it has said so in the word; -1: it looks first. */
  #expected = -1;
  #hasSlept = false;
  #wasWoken = false;
  #starves = false;
  #isLate = false;
  #endSleep: (() => void) | null = null;

  constructor(world: World, thread: Thread, name: string, at: number, ask: () => void) {
    this.#world = world;
    this.#thread = thread;
    this.#name = name;
    this.at = at;
    this.#ask = ask;
  }

  get isAsleep(): boolean {
    return this.#endSleep !== null;
  }

  step(): void {
    if (this.#endSleep !== null) {
      this.end();
      this.#isLate = true;
    } else if (this.#expected >= 0) this.#sleep();
    else this.#look();
  }

  end(): void {
    this.#endSleep?.();
    this.#endSleep = null;
  }

  /** The lock has an owner, who will wake it. */
  mayStay(): boolean {
    const word = this.#thread.process.node.cells.load(this.at);
    return (word & CELL_STATE) >= CELL_OWNED && (word & CELL_SLEEPERS) !== 0;
  }

  #look(): void {
    const { process } = this.#thread;
    const { cells } = process.node;
    const word = cells.load(this.at);
    const state = word & CELL_STATE;
    const mark = CELL_OWNED + process.rank;
    if (state === CELL_FREE || (state === CELL_KEPT && RULES.mayTakeKept(this.#wasWoken))) {
      this.#take(word, mark);
      return;
    }
    if (state === CELL_ARBITER) {
      this.#leave();
      return;
    }
    const givesUp = this.#isLate || state === mark;
    const isOvertaken = !givesUp && this.#wasWoken && this.#world.random.oneIn(2);
    const next = word | (givesUp && !this.#hasSlept ? 0 : CELL_SLEEPERS) | (isOvertaken ? CELL_STARVING : 0);
    if ((next & ~word & CELL_STARVING) !== 0) this.#starves = true;
    cells.swap(this.at, word, next);
    if (givesUp) this.#leave();
    else this.#expected = next;
  }

  #take(word: number, mark: number): void {
    const { report, order } = this.#world;
    const { process } = this.#thread;
    if ((word & CELL_STATE) === CELL_KEPT && !this.#wasWoken)
      throw new Violation(`rank ${process.rank} takes lock ${this.#name}, which is kept for another`);
    let flags = word & ~CELL_STATE;
    if (this.#starves) flags &= ~CELL_STARVING;
    if (RULES.keepsSleepers(this.#hasSlept)) flags |= CELL_SLEEPERS;
    process.node.cells.swap(this.at, word, mark | flags);
    const isDirect = process.node === this.#world.direct.decider;
    order.locks.takeCell(this.#name, process.rank, process.node.number, isDirect);
    report.cells += 1;
    if (order.locks.isLeased(this.#name)) report.leased += 1;
    checkGuarded(this.#world, process, this.#name);
    if (this.#hasSlept) report.slept += 1;
    this.#thread.cell = null;
  }

  /** What the thread has slept for is for the arbiter to decide. */
  #leave(): void {
    this.#thread.cell = null;
    this.#ask();
  }

  #sleep(): void {
    const { cells } = this.#thread.process.node;
    this.#wasWoken = false;
    this.#hasSlept = true;
    this.#endSleep = cells.sleep(this.at, this.#expected, () => {
      this.#wasWoken = true;
      this.#endSleep = null;
    });
    this.#expected = -1;
  }
}

/** The owner has changed the word, and has yet to wake the first that sleeps. */
class WakingOfCell implements CellWork {
  readonly what = "unlock by its cell";
  readonly isAsleep = false;
  readonly #thread: Thread;
  readonly at: number;
  #next: "wake" | "wake, maybe none" | "take back" | "wake once more";

  constructor(thread: Thread, at: number, isKept: boolean) {
    this.#thread = thread;
    this.at = at;
    this.#next = isKept ? "wake, maybe none" : "wake";
  }

  step(): void {
    const { cells } = this.#thread.process.node;
    const next = this.#next;
    this.#thread.cell = null;
    if (next === "wake" || (next === "wake once more" && RULES.wakesOnceMore())) cells.wake(this.at, 1);
    if (next === "wake, maybe none" && RULES.takesBack(cells.wake(this.at, 1))) this.#then("take back");
    if (next === "take back" && cells.swap(this.at, KEPT, CELL_FREE)) this.#then("wake once more");
  }

  #then(next: "take back" | "wake once more"): void {
    this.#next = next;
    this.#thread.cell = this;
  }

  end(): void {}

  mayStay(): boolean {
    return false;
  }
}

/** The thread's process, which has the lock by its cell, gives it back. False: the arbiter has taken the cell. */
export function giveByCell(world: World, thread: Thread, name: string): boolean {
  const { process } = thread;
  const { cells } = process.node;
  const at = cellOf(process.node, name) as number;
  const word = cells.load(at);
  if ((word & CELL_STATE) !== CELL_OWNED + process.rank) {
    if (process.node === world.direct.decider)
      throw new Violation(`the arbiter has taken the cell of lock ${name} and has not said who has the lock`);
    // A RETURN is under way.
    return false;
  }
  const isKept = (word & CELL_STARVING) !== 0;
  cells.swap(at, word, isKept ? KEPT : CELL_FREE);
  world.order.locks.giveCell(name);
  if ((word & CELL_SLEEPERS) !== 0) thread.cell = new WakingOfCell(thread, at, isKept);
  return true;
}

/**
 * A process that counts as lost, because it has closed its connections, runs on: it takes a lock where it can, or gives back
 * what it has.
 */
export function runOn({ order, direct, random, report }: World, { node, rank }: Process): void {
  const known = [...node.knownCells.keys()];
  if (known.length === 0 || node.lost) return;
  const name = random.pick(known);
  const at = cellOf(node, name) as number;
  if (node.cells.swap(at, CELL_OWNED + rank, CELL_FREE)) {
    order.locks.giveCell(name);
  } else if (node.cells.swap(at, CELL_FREE, CELL_OWNED + rank)) {
    if (!order.session.mayIssue(rank, node.number))
      throw new Violation(`rank ${rank} takes lock ${name} by its cell, and was given up as lost before`);
    order.locks.takeCell(name, rank, node.number, node === direct.decider);
    report.orphans += 1;
  }
}

/** What the threads of the process do with cells goes on by one step, except for those that sleep. False: nothing. */
export function workOnCells({ state, node, threads }: Process): boolean {
  const awake = threads.find(({ open, cell }) => open && cell?.isAsleep === false);
  if (state !== "running" || node.lost || awake === undefined) return false;
  awake.cell?.step();
  return true;
}
