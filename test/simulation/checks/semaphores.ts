/** Promise: a semaphore lets no more through than its value and its posts; a mutex has one holder. */
import { Violation } from "../../support/core-cluster.ts";
import { SEMAPHORES, type SemaphoreName, type Semaphores } from "../oracle/semaphores.ts";
import type { Thread } from "../process.ts";

export class SemaphoreCheck {
  readonly #taken: Record<SemaphoreName, number> = { mutex: 0, items: 0, pool: 0 };
  /** The thread that holds the mutex. */
  holder: Thread | null = null;

  took(thread: Thread, semaphore: SemaphoreName, oracle: Semaphores): void {
    this.#taken[semaphore] += 1;
    if (this.#taken[semaphore] > SEMAPHORES[semaphore] + oracle.postsOf(semaphore)) {
      throw new Violation(`semaphore ${semaphore} let too many through`);
    }
    if (semaphore !== "mutex") return;
    if (this.holder !== null) throw new Violation("two hold the mutex");
    this.holder = thread;
  }
}
