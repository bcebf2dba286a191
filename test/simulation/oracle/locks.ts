/** Locks: who owns each, and who waits for it, in the order in which they came. */
import { Status } from "../../../src/core/base/errors.ts";
import { At } from "../../../src/core/wire/at.ts";
import { Kind, NO_TAG } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import type { Judged, Oracle, Say } from "./oracle.ts";

export const LOCKS = ["red", "blue"];

interface Lock {
  name: string;
  /** -1: it is free. */
  owner: number;
  /** Its owner went with it, and no owner since has said that all is well again. */
  died: boolean;
  queue: { at: number; rank: number; usesCell: boolean }[];
}

const freeLocks = (): Lock[] => LOCKS.map((name) => ({ name, owner: -1, died: false, queue: [] }));

export class Locks implements Oracle {
  #locks = freeLocks();
  /** Who has which lock by its cell, without an entry. */
  readonly #byCell = new Map<string, number>();
  /** Entries are followed once more, after their node is gone. */
  #isReplay = false;

  /** The rank that has the lock by its cell, or -1. */
  cellOwnerOf(name: string): number {
    return this.#byCell.get(name) ?? -1;
  }

  /** A process has taken the lock by its cell. */
  takeCell(name: string, rank: number): void {
    const { owner, died, queue } = this.#named(name);
    const other = this.cellOwnerOf(name);
    if (owner >= 0 || other >= 0 || died || queue.length > 0)
      throw new Violation(`rank ${rank} takes lock ${name}, which rank ${Math.max(owner, other)} has, died: ${died}`);
    this.#byCell.set(name, rank);
  }

  /** Its owner has given the lock back by its cell. */
  giveCell(name: string): void {
    this.#byCell.delete(name);
  }

  /** The node is gone, and with it who had locks by their cells. */
  forgetCells(): void {
    this.#byCell.clear();
  }

  /** The rank that has the lock, or -1. */
  ownerOf(name: string): number {
    return this.#locks.find((lock) => lock.name === name)?.owner ?? -1;
  }

  /** Whether the request waits for a lock that another process has. */
  queues(request: number): boolean {
    return this.#locks.some(({ owner, queue }) => owner >= 0 && queue.some(({ at }) => at === request));
  }

  judge(entry: Judged, say: Say): null {
    const { kind, at, rank } = entry;
    const isArbiters = viewOf(entry.frame).getUint32(At.tag, true) === NO_TAG;
    if (kind === Kind.LOCK && isArbiters) this.#own(entry);
    else if (kind === Kind.LOCK) this.#lock(entry, say);
    if (kind === Kind.UNLOCK && isArbiters) this.#disown(entry);
    else if (kind === Kind.UNLOCK) this.#unlock(entry, say);
    if (kind === Kind.SEM_CANCEL)
      this.#end((waiter) => waiter.at === at, entry.op === 1 ? Status.AGAIN : Status.TIMEOUT, say);
    if (kind === Kind.LEAVE && entry.ends) this.#end((waiter) => waiter.rank === rank, Status.LEFT, say);
    return null;
  }

  #named(name: string): Lock {
    return this.#locks.find((lock) => lock.name === name) as Lock;
  }

  /** The arbiter has taken the cell of a lock, and says who has it. */
  #own({ rank, name }: Judged): void {
    const lock = this.#named(name);
    if (!this.#isReplay && this.cellOwnerOf(name) !== rank)
      throw new Violation(`rank ${rank} is made the owner of lock ${name}, which it does not have`);
    this.#byCell.delete(name);
    lock.owner = rank;
  }

  /** The arbiter says by the lock's cell who has the lock, to processes of which none waits otherwise. */
  #disown({ rank, name }: Judged): void {
    const lock = this.#named(name);
    if (lock.owner !== rank || lock.died || lock.queue.length > 0)
      throw new Violation(`lock ${name} is given to the processes, and rank ${lock.owner} has it, or another waits`);
    if (!this.#isReplay) this.#byCell.set(name, rank);
    lock.owner = -1;
  }

  /** Whether the request waits for a lock, of which its process knows the cell. */
  maySendBack(request: number): boolean {
    return this.#locks.some(({ queue }) => queue.some(({ at, usesCell }) => at === request && usesCell));
  }

  #lock({ at, rank, op, count, name, hasLeft, isLost }: Judged, say: Say): void {
    const lock = this.#named(name);
    if (hasLeft) say(at, Status.LEFT);
    else if (isLost) say(at, Status.LOST);
    else if (lock.owner === rank || lock.queue.some((waiter) => waiter.rank === rank)) say(at, Status.BUSY);
    else if (lock.owner >= 0 && op === 1) say(at, Status.AGAIN);
    else {
      lock.queue.push({ at, rank, usesCell: count === 1 });
      if (lock.owner < 0) this.#passOn(lock, say);
    }
  }

  #unlock({ at, rank, op, name, hasLeft }: Judged, say: Say): void {
    const lock = this.#named(name);
    if (hasLeft) {
      say(at, Status.LEFT);
    } else if (lock.owner !== rank) {
      say(at, Status.NOT_OWNER);
    } else {
      lock.died &&= op === 1;
      this.#passOn(lock, say);
      say(at, Status.OK);
    }
  }

  #passOn(lock: Lock, say: Say): void {
    const next = lock.queue.shift();
    lock.owner = next?.rank ?? -1;
    if (next !== undefined) say(next.at, lock.died ? Status.OWNER_DIED : Status.OK);
  }

  #end(isMeant: (waiter: Lock["queue"][number]) => boolean, status: Status, say: Say): void {
    for (const lock of this.#locks) {
      for (const waiter of lock.queue) if (isMeant(waiter)) say(waiter.at, status);
      lock.queue = lock.queue.filter((waiter) => !isMeant(waiter));
    }
  }

  sessionLost(say: Say): void {
    this.#end(() => true, Status.LOST, say);
  }

  processGone(rank: number, say: Say): void {
    for (const [name, owner] of this.#byCell)
      if (owner === rank) throw new Violation(`rank ${rank} is gone with lock ${name}, and the order does not know it`);
    for (const lock of this.#locks) {
      if (lock.owner !== rank) continue;
      lock.died = true;
      this.#passOn(lock, say);
    }
  }

  reset(): void {
    this.#locks = freeLocks();
    this.#byCell.clear();
    this.#isReplay = true;
  }
}
