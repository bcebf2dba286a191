/** Promises when nothing moves: every thread that still waits has a reason; in the end nothing is left and all agree. */
import { Violation } from "../../support/core-cluster.ts";
import { checkSleepers } from "../actors/barrier-cell.ts";
import { isHalf } from "../process.ts";
import type { World } from "../world.ts";
import { same } from "./same.ts";

/** Nothing is under way. */
export function checkWaits(world: World): void {
  const { processes } = world;
  checkSleepers(world);
  for (const { pid, state, threads } of processes) {
    for (const { open, request, cell } of threads) {
      if (state === "running" && cell?.mayStay() === false)
        throw new Violation(`process ${pid} sleeps for its ${cell.what} without reason`);
      if (!open || request === null || isHalf(request) || request.waits?.()) continue;
      throw new Violation(`process ${pid} waits for its ${request.what} without reason`);
    }
  }
}

/** All processes have gone. */
export function checkEnd({ processes, order, cluster, positions, report }: World): void {
  for (const { pid, state, threads } of processes) {
    for (const { open, request } of threads) {
      if (!open || request === null || isHalf(request)) continue;
      throw new Violation(`process ${pid} (${state}) never got its ${request.what} answered`);
    }
  }
  const { session } = order;
  if (processes.some(({ rank }) => rank >= 0) && session.phase !== "ended") throw new Violation("no end");
  if (!order.deciderLost && order.passedByCell !== report.cellBarriers)
    throw new Violation(`${report.cellBarriers} barriers were passed by the cell; the order has ${order.passedByCell}`);
  const state = JSON.stringify(session.state());
  same("the server's state", JSON.stringify(cluster.sequencer.session.state()), state);
  if (Buffer.compare(cluster.memory, order.memory) !== 0) throw new Violation("the server's bytes are wrong");
  for (const { node, index } of positions.values()) {
    if (node.lost) continue;
    if (index !== order.length) throw new Violation(`${node.name} lacks entries`);
    same(node.name, JSON.stringify(node.replica?.session.state()), state);
    if (node.replica?.hadProcess && session.phase === "ended" && !node.done)
      throw new Violation(`${node.name} goes on`);
  }
}
