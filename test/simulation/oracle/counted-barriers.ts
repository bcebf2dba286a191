/** A barrier in the map: who has arrived, and how many must. */
import { Status } from "../../../src/core/base/errors.ts";
import { Kind, ObjectKind } from "../../../src/core/wire/kinds.ts";
import { isFreed, type Judged, type Oracle, type Say } from "./oracle.ts";

export const BARRIER_AT = 1048;

interface Arrival {
  at: number;
  rank: number;
}

export class CountedBarriers implements Oracle {
  #needed = 0;
  #arrived: Arrival[] = [];

  waits(request: number): boolean {
    return this.#arrived.some(({ at }) => at === request);
  }

  judge(entry: Judged, say: Say): null {
    const { kind, at, rank } = entry;
    if (kind === Kind.ARRIVE) this.#arrive(entry, say);
    if (kind === Kind.SEM_CANCEL) {
      const missing = this.#needed - this.#arrived.length;
      this.#end((arrival) => arrival.at === at, Status.TIMEOUT, say, missing);
    }
    if (kind === Kind.LEAVE && entry.ends) this.#end((arrival) => arrival.rank === rank, Status.LEFT, say);
    if (isFreed(entry, BARRIER_AT)) this.#end(() => true, Status.INVALID, say);
    if (kind === Kind.OBJECT_INIT && entry.op === ObjectKind.BARRIER)
      say(at, entry.hasLeft ? Status.LEFT : this.#arrived.length > 0 ? Status.BUSY : Status.OK);
    return null;
  }

  #arrive({ at, rank, count, hasLeft, isLost }: Judged, say: Say): void {
    if (hasLeft) say(at, Status.LEFT);
    else if (isLost) say(at, Status.LOST);
    else if (this.#arrived.length > 0 && this.#needed !== count) say(at, Status.MISMATCH, this.#needed);
    else if (this.#arrived.length + 1 === count) {
      this.#end(() => true, Status.OK, say);
      say(at, Status.OK, 1);
    } else {
      this.#needed = count;
      this.#arrived.push({ at, rank });
    }
  }

  #end(isMeant: (arrival: Arrival) => boolean, status: Status, say: Say, value = 0): void {
    for (const { at } of this.#arrived.filter(isMeant)) say(at, status, value);
    this.#arrived = this.#arrived.filter((arrival) => !isMeant(arrival));
  }

  sessionLost(say: Say): void {
    this.#end(() => true, Status.LOST, say);
  }

  reset(): void {
    this.#arrived = [];
  }
}
