/** Semaphores: how often each has been posted. That no more are let through is checked in checks/semaphores.ts. */
import { Kind } from "../../../src/core/wire/kinds.ts";
import type { Judged, Oracle } from "./oracle.ts";

/** The semaphores of a simulation, and their initial values. */
export const SEMAPHORES = { mutex: 1, items: 0, pool: 3 } as const;
export type SemaphoreName = keyof typeof SEMAPHORES;

export class Semaphores implements Oracle {
  readonly #posts = new Map<string, number>();

  postsOf(name: string): number {
    return this.#posts.get(name) ?? 0;
  }

  judge({ kind, name }: Judged): null {
    if (kind === Kind.SEM_POST) this.#posts.set(name, this.postsOf(name) + 1);
    return null;
  }

  reset(): void {
    this.#posts.clear();
  }
}
