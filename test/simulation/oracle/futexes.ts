/** Futexes: who sleeps where, in the order in which they came. */
import { Status } from "../../../src/core/base/errors.ts";
import { HEADER_SIZE } from "../../../src/core/wire/at.ts";
import { Kind } from "../../../src/core/wire/kinds.ts";
import type { Judged, Oracle, Say } from "./oracle.ts";

interface Sleeper {
  at: number;
  rank: number;
  offset: number;
}

export class Futexes implements Oracle {
  #sleepers: Sleeper[] = [];

  /** Offsets where a process sleeps. */
  get occupied(): number[] {
    return this.#sleepers.map(({ offset }) => offset);
  }

  sleeps(request: number): boolean {
    return this.#sleepers.some(({ at }) => at === request);
  }

  judge(entry: Judged, say: Say): null {
    if (entry.kind === Kind.FUTEX_WAIT) this.#sleep(entry, say);
    if (entry.kind === Kind.FUTEX_WAKE) this.#wake(entry, say);
    if (entry.kind === Kind.SEM_CANCEL) this.#end((sleeper) => sleeper.at === entry.at, Status.TIMEOUT, say);
    if (entry.kind === Kind.LEAVE && entry.ends) {
      this.#end((sleeper) => sleeper.rank === entry.rank, Status.LEFT, say);
    }
    return null;
  }

  #sleep({ at, rank, offset, length, op, frame, memory, hasLeft, isLost }: Judged, say: Say): void {
    const expected = frame.subarray(HEADER_SIZE, HEADER_SIZE + length);
    const differs = Buffer.compare(memory.subarray(offset, offset + length), expected) !== 0;
    if (hasLeft) say(at, Status.LEFT);
    else if (isLost) say(at, Status.LOST);
    else if (op === 0 && differs) say(at, Status.AGAIN);
    else this.#sleepers.push({ at, rank, offset });
  }

  #wake({ at, offset, count }: Judged, say: Say): void {
    let most = count;
    const woken = this.#end(
      (sleeper) => {
        if (sleeper.offset !== offset || most === 0) return false;
        most -= 1;
        return true;
      },
      Status.OK,
      say,
    );
    say(at, Status.OK, woken);
  }

  /** Answers the sleepers that are meant; how many they were. */
  #end(isMeant: (sleeper: Sleeper) => boolean, status: Status, say: Say): number {
    const ended = this.#sleepers.filter(isMeant);
    this.#sleepers = this.#sleepers.filter((sleeper) => !ended.includes(sleeper));
    for (const { at } of ended) say(at, status);
    return ended.length;
  }

  sessionLost(say: Say): void {
    this.#end(() => true, Status.LOST, say);
  }

  reset(): void {
    this.#sleepers = [];
  }
}
