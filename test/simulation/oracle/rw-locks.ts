/** A reader-writer lock in the map: who reads, who writes, and who waits for it, in the order in which they came. */
import { Status } from "../../../src/core/base/errors.ts";
import { Kind, ObjectKind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import { isFreed, type Judged, type Oracle, type Say } from "./oracle.ts";

export const RW_LOCK_AT = 1040;

interface Waiter {
  at: number;
  rank: number;
  writes: boolean;
}

export class RwLocks implements Oracle {
  /** Once for each time that it reads. */
  #readers: number[] = [];
  #writer = -1;
  #died = false;
  #queue: Waiter[] = [];

  /** Whether the process has it. */
  has(rank: number): boolean {
    return this.#writer === rank || this.#readers.includes(rank);
  }

  /** Whether the request waits behind what others have. */
  queues(request: number): boolean {
    return (this.#writer >= 0 || this.#readers.length > 0) && this.#queue.some(({ at }) => at === request);
  }

  judge(entry: Judged, say: Say): null {
    const { kind, at, rank } = entry;
    if (kind === Kind.RW_LOCK) this.#lock(entry, say);
    if (kind === Kind.RW_UNLOCK) this.#unlock(entry, say);
    if (kind === Kind.SEM_CANCEL) this.#end((waiter) => waiter.at === at, Status.TIMEOUT, say);
    if (kind === Kind.LEAVE && entry.ends) this.#end((waiter) => waiter.rank === rank, Status.LEFT, say);
    if (isFreed(entry, RW_LOCK_AT)) this.#makeNew(say);
    if (kind === Kind.OBJECT_INIT && entry.op === ObjectKind.RW_LOCK) {
      const isInUse = this.#writer >= 0 || this.#readers.length > 0 || this.#queue.length > 0;
      say(at, entry.hasLeft ? Status.LEFT : isInUse ? Status.BUSY : Status.OK);
      if (!entry.hasLeft && !isInUse) this.#makeNew(say);
    }
    if (this.#writer >= 0 && this.#readers.length > 0) throw new Violation("one writes while another reads");
    return null;
  }

  #mayHave(writes: boolean): boolean {
    return this.#writer < 0 && (!writes || this.#readers.length === 0);
  }

  #lock({ at, rank, op, count, hasLeft, isLost }: Judged, say: Say): void {
    const writes = count === 1;
    const isFirst = this.#queue.length === 0 || (!writes && this.#readers.includes(rank));
    if (hasLeft) say(at, Status.LEFT);
    else if (isLost) say(at, Status.LOST);
    else if (isFirst && this.#mayHave(writes)) this.#grant({ at, rank, writes }, say);
    else if (op === 1) say(at, Status.AGAIN);
    else this.#queue.push({ at, rank, writes });
  }

  #grant({ at, rank, writes }: Waiter, say: Say): void {
    if (writes) this.#writer = rank;
    else this.#readers.push(rank);
    say(at, this.#died ? Status.OWNER_DIED : Status.OK);
  }

  #unlock({ at, rank, op, hasLeft }: Judged, say: Say): void {
    if (hasLeft) say(at, Status.LEFT);
    else if (!this.has(rank)) say(at, Status.NOT_OWNER);
    else {
      if (this.#writer === rank) {
        this.#writer = -1;
        this.#died &&= op === 1;
      } else {
        this.#readers.splice(this.#readers.indexOf(rank), 1);
      }
      say(at, Status.OK);
      this.#goOn(say);
    }
  }

  #goOn(say: Say): void {
    while (this.#queue[0] !== undefined && this.#mayHave(this.#queue[0].writes))
      this.#grant(this.#queue.shift() as Waiter, say);
  }

  #end(isMeant: (waiter: Waiter) => boolean, status: Status, say: Say): void {
    for (const { at } of this.#queue.filter(isMeant)) say(at, status);
    this.#queue = this.#queue.filter((waiter) => !isMeant(waiter));
    this.#goOn(say);
  }

  #makeNew(say: Say): void {
    for (const { at } of this.#queue) say(at, Status.INVALID);
    this.reset();
  }

  processGone({ rank }: Judged, say: Say): void {
    this.#readers = this.#readers.filter((reader) => reader !== rank);
    if (this.#writer === rank) {
      this.#writer = -1;
      this.#died = true;
    }
    this.#goOn(say);
  }

  sessionLost(say: Say): void {
    for (const { at } of this.#queue.splice(0)) say(at, Status.LOST);
  }

  reset(): void {
    this.#readers = [];
    this.#writer = -1;
    this.#died = false;
    this.#queue = [];
  }
}
