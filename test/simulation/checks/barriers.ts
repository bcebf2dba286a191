/** Promise: a process passes a barrier only when every other has entered it. */
import { Violation } from "../../support/core-cluster.ts";
import type { Process } from "../process.ts";

export function passBarrier(process: Process, all: readonly Process[]): void {
  process.barriersPassed += 1;
  for (const other of all) {
    if (other.state !== "running" || other === process) continue;
    if (other.barriersEntered < process.barriersPassed) {
      throw new Violation(`process ${process.pid} passed a barrier that process ${other.pid} has not entered`);
    }
  }
}
