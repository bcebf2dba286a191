/** Conditions in the map: who waits for each, and with which lock it goes on. */
import { Status } from "../../../src/core/base/errors.ts";
import { Kind, ObjectKind } from "../../../src/core/wire/kinds.ts";
import { LOCKS, type Locks, MUTEX } from "./locks.ts";
import { isFreed, type Judged, type Oracle, type Say } from "./oracle.ts";

/** Where each lies, with the lock that its waiters have. */
export const CONDITIONS: readonly (readonly [offset: number, mutex: string])[] = [
  [1024, MUTEX],
  [1032, LOCKS[0] as string],
];

interface Waiter {
  at: number;
  rank: number;
  node: number;
  offset: number;
  mutex: string;
}

export class Conditions implements Oracle {
  readonly #locks: Locks;
  #waiters: Waiter[] = [];

  constructor(locks: Locks) {
    this.#locks = locks;
  }

  /** Whether the request waits for a signal. */
  waits(request: number): boolean {
    return this.#waiters.some(({ at }) => at === request);
  }

  judge(entry: Judged, say: Say): null {
    const { kind, at, rank, offset } = entry;
    if (kind === Kind.COND_WAIT) this.#wait(entry, say);
    if (kind === Kind.COND_SIGNAL) {
      if (entry.hasLeft) say(at, Status.LEFT);
      else say(at, Status.OK, this.#signal(offset, entry.count, say));
    }
    if (kind === Kind.SEM_CANCEL) this.#goOn((waiter) => waiter.at === at, 1, Status.TIMEOUT, say);
    if (kind === Kind.LEAVE && entry.ends) this.#end((waiter) => waiter.rank === rank, Status.LEFT, say);
    this.#end((waiter) => isFreed(entry, waiter.offset), Status.INVALID, say);
    if (kind === Kind.OBJECT_INIT && entry.op === ObjectKind.CONDITION) {
      const isInUse = this.#waiters.some((waiter) => waiter.offset === offset);
      say(at, entry.hasLeft ? Status.LEFT : isInUse ? Status.BUSY : Status.OK);
    }
    return null;
  }

  #wait({ at, rank, node, offset, name: mutex, hasLeft, isLost, mayLease }: Judged, say: Say): void {
    if (hasLeft) say(at, Status.LEFT);
    else if (this.#locks.ownerOf(mutex) !== rank) say(at, Status.NOT_OWNER);
    else {
      if (isLost) say(at, Status.LOST);
      else this.#waiters.push({ at, rank, node, offset, mutex });
      this.#locks.giveUp(mutex, mayLease, say);
    }
  }

  #signal(offset: number, most: number, say: Say): number {
    return this.#goOn((waiter) => waiter.offset === offset, most, Status.OK, say);
  }

  /** The first that are meant go on; how many they are. */
  #goOn(isMeant: (waiter: Waiter) => boolean, most: number, outcome: Status, say: Say): number {
    const meant = this.#waiters.filter(isMeant).slice(0, most);
    this.#waiters = this.#waiters.filter((waiter) => !meant.includes(waiter));
    for (const { mutex, offset: condition, ...waiter } of meant)
      this.#locks.comeBack(mutex, { ...waiter, condition, outcome }, say);
    return meant.length;
  }

  #end(isMeant: (waiter: Waiter) => boolean, status: Status, say: Say): void {
    for (const { at } of this.#waiters.filter(isMeant)) say(at, status);
    this.#waiters = this.#waiters.filter((waiter) => !isMeant(waiter));
  }

  /** One that was signalled and has gone before it had its lock does not use the signal up. */
  processGone(_entry: Judged, say: Say): void {
    for (const offset of this.#locks.takeSignalsLeft()) this.#signal(offset, 1, say);
  }

  sessionLost(say: Say): void {
    this.#end(() => true, Status.LOST, say);
  }

  reset(): void {
    this.#waiters = [];
  }
}
