/** Two things that must be equal. */
import { Violation } from "../../support/core-cluster.ts";

export function same(what: string, got: string | undefined, expected: string): void {
  if (got !== expected) throw new Violation(`${what} differs:\n${got}\n${expected}`);
}
