/** Locks: who owns each, and who waits for it, in the order in which they came. */
import { Status } from "../../../src/core/base/errors.ts";
import { objectName } from "../../../src/core/base/names.ts";
import { At } from "../../../src/core/wire/at.ts";
import { Kind, NO_TAG, ObjectKind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { viewOf } from "../../support/core-frames.ts";
import { isFreed, type Judged, type Oracle, type Say } from "./oracle.ts";

export const LOCKS = ["red", "blue"];
/** A mutex in the map. */
export const MUTEX_AT = 1000;
export const MUTEX = objectName("mutex", MUTEX_AT);
/** So many processes of one node in a row have a lock before it is leased to the node. */
const STREAK = 2;
/** So many had a lock that the server has asked for before those are counted. */
const PAUSE = 256;

interface Waiter {
  at: number;
  rank: number;
  node: number;
  tryOnly: boolean;
  usesCell: boolean;
  /** Where the condition is from which it comes back, and the status with which it does. */
  condition?: number;
  outcome?: Status;
}

interface Lock {
  name: string;
  /** -1: it is free. */
  owner: number;
  /** Its owner went with it, and no owner since has said that all is well again. */
  died: boolean;
  queue: Waiter[];
  /** The node to which it is leased, or -1. */
  lease: number;
  /** The node where it was last, and how many had it there in a row. */
  last: number;
  streak: number;
  /** Its place was freed, or it was made new, while it was leased. */
  isNew: boolean;
}

const freeLock = (name: string): Lock => ({
  ...{ name, owner: -1, died: false, queue: [], lease: -1, last: -1, streak: 0, isNew: false },
});
const freeLocks = (): Lock[] => [...LOCKS, MUTEX].map(freeLock);

export class Locks implements Oracle {
  #locks = freeLocks();
  /** Who has which lock by its cell, without an entry. */
  readonly #byCell = new Map<string, number>();
  /** Entries are followed once more, after their node is gone. */
  #isReplay = false;
  /** Those whose process went after they were signalled, before they had their lock: where their conditions are. */
  #signalsLeft: number[] = [];

  /** The rank that has the lock by its cell, or -1. */
  cellOwnerOf(name: string): number {
    return this.#byCell.get(name) ?? -1;
  }

  /** Whether a process has the lock, or has ended while it had it. */
  isInconsistent(name: string): boolean {
    const { owner, died } = this.#named(name);
    return owner >= 0 || died;
  }

  /** Whether the lock is leased to a node. */
  isLeased(name: string): boolean {
    return this.#named(name).lease >= 0;
  }

  /** A process of the node has taken the lock by its cell. `isDirect`: the node decides, and leases nothing. */
  takeCell(name: string, rank: number, node: number, isDirect: boolean): void {
    const { owner, died, queue, lease } = this.#named(name);
    const other = this.cellOwnerOf(name);
    const isFree = isDirect ? lease < 0 && queue.length === 0 : lease === node;
    if (owner >= 0 || other >= 0 || died || !isFree)
      throw new Violation(
        `rank ${rank} of node ${node} takes lock ${name}, which rank ${Math.max(owner, other)} or node ${lease} has, died: ${died}`,
      );
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
    if (kind === Kind.RETURN) this.#giveBack(entry, say);
    if (kind === Kind.SEM_CANCEL) {
      const isMeant = (waiter: Waiter): boolean => waiter.at === at && waiter.condition === undefined;
      this.#end(isMeant, entry.op === 1 ? Status.AGAIN : Status.TIMEOUT, say);
    }
    if (kind === Kind.LEAVE && entry.ends) {
      const gone = this.#end((waiter) => waiter.rank === rank, Status.LEFT, say);
      this.#signalsLeft = gone.flatMap(({ condition, outcome }) =>
        condition !== undefined && outcome === Status.OK ? [condition] : [],
      );
    }
    if (isFreed(entry, MUTEX_AT)) this.#makeNew(say);
    if (kind === Kind.OBJECT_INIT && entry.op === ObjectKind.MUTEX) this.#initialize(entry, say);
    return null;
  }

  /** What the last to go was signalled for. */
  takeSignalsLeft(): number[] {
    return this.#signalsLeft.splice(0);
  }

  #initialize({ at, hasLeft }: Judged, say: Say): void {
    const { owner, queue } = this.#named(MUTEX);
    if (hasLeft) {
      say(at, Status.LEFT);
      return;
    }
    const isInUse = owner >= 0 || queue.length > 0;
    if (!isInUse) this.#makeNew(say);
    say(at, isInUse ? Status.BUSY : Status.OK);
  }

  /** The mutex in the map is as new. */
  #makeNew(say: Say): void {
    const mutex = this.#named(MUTEX);
    for (const { at } of mutex.queue.splice(0)) say(at, Status.INVALID);
    if (mutex.lease >= 0) mutex.isNew = true;
    else Object.assign(mutex, freeLock(MUTEX));
  }

  /** The owner gives the lock up and waits for a condition: nothing is well that was not before. */
  giveUp(name: string, mayLease: boolean, say: Say): void {
    const lock = this.#named(name);
    this.#passOn(lock, say);
    this.#leaseIfUseful(lock, mayLease);
  }

  #leaseIfUseful(lock: Lock, mayLease: boolean): void {
    if (mayLease && lock.owner < 0 && !lock.died && lock.streak >= STREAK) lock.lease = lock.last;
  }

  /** One that waited for a condition goes on with the lock. */
  comeBack(
    name: string,
    waiter: Pick<Required<Waiter>, "at" | "rank" | "node" | "condition" | "outcome">,
    say: Say,
  ): void {
    const lock = this.#named(name);
    lock.queue.push({ ...waiter, tryOnly: false, usesCell: false });
    if (lock.owner < 0 && lock.lease < 0) this.#passOn(lock, say);
  }

  #named(name: string): Lock {
    return this.#locks.find((lock) => lock.name === name) as Lock;
  }

  #grant(lock: Lock, rank: number, node: number): void {
    if (this.cellOwnerOf(lock.name) >= 0) throw new Violation(`lock ${lock.name} is granted to a second process`);
    lock.owner = rank;
    lock.streak = lock.last === node || lock.streak < 0 ? lock.streak + 1 : 1;
    lock.last = node;
  }

  /** The arbiter has taken the cell of a lock, and says who has it. */
  #own({ rank, node, name }: Judged): void {
    if (!this.#isReplay && this.cellOwnerOf(name) !== rank)
      throw new Violation(`rank ${rank} is made the owner of lock ${name}, which it does not have`);
    this.#byCell.delete(name);
    this.#grant(this.#named(name), rank, node);
  }

  /** The arbiter says by the lock's cell who has the lock, to processes of which none waits otherwise. */
  #disown({ rank, name }: Judged): void {
    const lock = this.#named(name);
    if (lock.owner !== rank || lock.died || lock.lease >= 0 || lock.queue.length > 0)
      throw new Violation(`lock ${name} is given to the processes, and rank ${lock.owner} has it, or another waits`);
    if (!this.#isReplay) this.#byCell.set(name, rank);
    lock.owner = -1;
  }

  /** Whether the request waits for a lock, of which its process knows the cell. */
  maySendBack(request: number): boolean {
    return this.#locks.some(({ queue }) => queue.some(({ at, usesCell }) => at === request && usesCell));
  }

  #lock({ at, rank, node, op, count, name, hasLeft, isLost }: Judged, say: Say): void {
    const lock = this.#named(name);
    if (hasLeft) say(at, Status.LEFT);
    else if (isLost) say(at, Status.LOST);
    else if (name !== MUTEX && (lock.owner === rank || lock.queue.some((waiter) => waiter.rank === rank)))
      say(at, Status.BUSY);
    else if (lock.owner >= 0 && op === 1) say(at, Status.AGAIN);
    else {
      lock.queue.push({ at, rank, node, tryOnly: op === 1, usesCell: count === 1 });
      if (lock.owner < 0 && lock.lease < 0) this.#passOn(lock, say);
    }
  }

  #unlock({ at, rank, op, name, hasLeft, mayLease }: Judged, say: Say): void {
    const lock = this.#named(name);
    if (hasLeft) {
      say(at, Status.LEFT);
    } else if (lock.owner !== rank) {
      say(at, Status.NOT_OWNER);
    } else {
      lock.died &&= op === 1;
      this.#passOn(lock, say);
      this.#leaseIfUseful(lock, mayLease);
      say(at, Status.OK);
    }
  }

  /** A node gives back its lease, and says who has the lock. */
  #giveBack({ rank, node, op, count, name, hasLeft }: Judged, say: Say): void {
    const lock = this.#named(name);
    if (lock.lease !== node) return;
    const owner = op === 1 ? rank : -1;
    if (!this.#isReplay && this.cellOwnerOf(name) !== owner)
      throw new Violation(`lock ${name} is returned as that of rank ${owner}, rank ${this.cellOwnerOf(name)} has it`);
    this.#byCell.delete(name);
    const wasAsked = count === 1;
    if (owner < 0 || hasLeft || lock.isNew) {
      this.#endLease(lock, owner >= 0, say, wasAsked ? -PAUSE : 0);
      return;
    }
    Object.assign(lock, { lease: -1, owner, last: node, streak: wasAsked ? -PAUSE : 1 });
    const isTwice = ({ rank: one, condition }: Waiter): boolean =>
      name !== MUTEX && one === owner && condition === undefined;
    for (const waiter of lock.queue) if (isTwice(waiter)) say(waiter.at, Status.BUSY);
    lock.queue = lock.queue.filter((waiter) => !isTwice(waiter));
    this.#refuseTries(lock, say);
  }

  #endLease(lock: Lock, died: boolean, say: Say, streak = 0): void {
    Object.assign(lock, { lease: -1, streak, died: lock.died || (died && !lock.isNew), isNew: false });
    this.#passOn(lock, say);
    this.#refuseTries(lock, say);
  }

  #refuseTries(lock: Lock, say: Say): void {
    for (const { at, tryOnly } of lock.queue) if (tryOnly) say(at, Status.AGAIN);
    lock.queue = lock.queue.filter(({ tryOnly }) => !tryOnly);
  }

  #passOn(lock: Lock, say: Say): void {
    const next = lock.queue.shift();
    lock.owner = -1;
    if (next === undefined) return;
    this.#grant(lock, next.rank, next.node);
    say(next.at, lock.died ? Status.OWNER_DIED : (next.outcome ?? Status.OK));
  }

  #end(isMeant: (waiter: Waiter) => boolean, status: Status, say: Say): Waiter[] {
    const ended = this.#locks.flatMap(({ queue }) => queue.filter(isMeant));
    for (const { at } of ended) say(at, status);
    for (const lock of this.#locks) lock.queue = lock.queue.filter((waiter) => !isMeant(waiter));
    return ended;
  }

  sessionLost(say: Say): void {
    this.#end(() => true, Status.LOST, say);
  }

  processGone({ rank, node, count }: Judged, say: Say, isLast: boolean): void {
    const isEvicted = count === 1;
    for (const lock of this.#locks) {
      const isLeasedHere = lock.lease === node;
      if (isLeasedHere && isEvicted) this.#byCell.delete(lock.name);
      else if (this.cellOwnerOf(lock.name) === rank)
        throw new Violation(`rank ${rank} is gone with lock ${lock.name}, and the order does not know it`);
      if (lock.owner === rank) {
        lock.died = true;
        this.#passOn(lock, say);
      }
      if (isLeasedHere && (isEvicted || isLast)) this.#endLease(lock, isEvicted, say);
    }
  }

  reset(): void {
    this.#locks = freeLocks();
    this.#byCell.clear();
    this.#isReplay = true;
  }
}
