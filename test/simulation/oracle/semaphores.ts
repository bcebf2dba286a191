/**
 * Semaphores: how often each has been posted, and what processes have done by their cells, of which the order learns later.
 * That no more are let through is checked in checks/semaphores.ts.
 */
import { Kind } from "../../../src/core/wire/kinds.ts";
import { Violation } from "../../support/core-cluster.ts";
import type { Judged, Oracle } from "./oracle.ts";

/** The semaphores of a simulation, and their initial values. */
export const SEMAPHORES = { mutex: 1, items: 0, pool: 3 } as const;
export type SemaphoreName = keyof typeof SEMAPHORES;

export class Semaphores implements Oracle {
  readonly #valueInOrder: (name: string) => number | undefined;
  readonly #posts = new Map<string, number>();
  /** What processes have added by the cell since the order had the value. */
  readonly #byCell = new Map<string, number>();
  /** Requests that their node may send back to the cell, some of which have been answered. */
  readonly #mayReturn = new Set<number>();
  /** Entries are followed once more, after their node is gone. */
  #isReplay = false;

  /** `valueInOrder`: a semaphore's value behind the entries so far. */
  constructor(valueInOrder: (name: string) => number | undefined) {
    this.#valueInOrder = valueInOrder;
  }

  postsOf(name: string): number {
    return this.#posts.get(name) ?? 0;
  }

  /** The value with all that processes have done by the cell. */
  valueByCell(name: string): number {
    return (this.#valueInOrder(name) ?? Number.NaN) + (this.#byCell.get(name) ?? 0);
  }

  takeByCell(name: string): void {
    if (!(this.valueByCell(name) > 0))
      throw new Violation(`semaphore ${name} is taken by its cell, and was not above 0`);
    this.#byCell.set(name, (this.#byCell.get(name) ?? 0) - 1);
  }

  postByCell(name: string): void {
    this.#byCell.set(name, (this.#byCell.get(name) ?? 0) + 1);
    this.#posts.set(name, this.postsOf(name) + 1);
  }

  /** Whether the request is a wait, of which its process knows the cell. */
  maySendBack(request: number): boolean {
    return this.#mayReturn.has(request);
  }

  judge({ kind, name, offset, ends, count, at }: Judged): null {
    if (kind === Kind.SEM_WAIT && offset === 1) this.#mayReturn.add(at);
    else this.#mayReturn.delete(at);
    // With a node that is evicted its cells are gone, too, and all processes that used them.
    if (kind === Kind.LEAVE && count === 1) this.#byCell.clear();
    if (kind === Kind.SEM_POST) this.#posts.set(name, this.postsOf(name) + 1);
    if (kind === Kind.SEM_VALUE) this.#learn(name, offset);
    else if (kind === Kind.SEM_POST || kind === Kind.SEM_WAIT) this.#checkKnown(name);
    else if (kind === Kind.COPY || (kind === Kind.LEAVE && ends))
      for (const known of this.#byCell.keys()) this.#checkKnown(known);
    return null;
  }

  /** The arbiter says what the processes have made of it. */
  #learn(name: string, value: number): void {
    if (!this.#isReplay && value !== this.valueByCell(name))
      throw new Violation(`semaphore ${name} is said to have the value ${value}, not ${this.valueByCell(name)}`);
    this.#byCell.delete(name);
  }

  #checkKnown(name: string): void {
    if ((this.#byCell.get(name) ?? 0) === 0) return;
    throw new Violation(`what processes have done with semaphore ${name} is not in the order when it must be`);
  }

  reset(): void {
    this.#posts.clear();
    this.#byCell.clear();
    this.#mayReturn.clear();
    this.#isReplay = true;
  }
}
