/** How requests are to be answered, as the oracles say it: each once. */
import type { Status } from "../../../src/core/base/errors.ts";
import { Violation } from "../../support/core-cluster.ts";

export interface Verdict {
  status: Status;
  value: number;
  /** How many frames of the order end with the one that decided it. */
  index: number;
}

export class Verdicts {
  readonly #byRequest = new Map<number, Verdict>();

  say(request: number, verdict: Verdict): void {
    if (this.#byRequest.has(request)) throw new Violation("a request has two answers");
    this.#byRequest.set(request, verdict);
  }

  /** The answer to a request, once. */
  take(request: number): Verdict | undefined {
    const verdict = this.#byRequest.get(request);
    this.#byRequest.delete(request);
    return verdict;
  }

  forget(isOld: (request: number) => boolean): void {
    for (const request of this.#byRequest.keys()) if (isOld(request)) this.#byRequest.delete(request);
  }
}
